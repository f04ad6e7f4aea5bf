"""What a page is about: one stage of one family in a root, as it stands now.

In: a root and a request's parameters, each of which is checked. Out: a `View`: the ledger, the stage that was built
or is being built, and the addresses of other pages about the same. A root that is empty, half written or damaged
gives a view that says so. Sums come from the ledger alone; nothing is counted here. Records are read where a page needs
them: a page that is open asks every few seconds whether anything has changed. Knows no HTML.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from marco_data.committed import Committed
from marco_data.errors import MarcoError
from marco_data.languages import LANGUAGES
from marco_data.ledger_rows import LedgerRow
from marco_data.run_state import FOLDER, RunState, find_state
from marco_data.stage import Stage, find_stage
from marco_data.stage_ledger import Later, StageLedger, read_ledger, stage_so_far
from marco_data.step import fingerprint
from marco_data.storage import Storage, canonical_json
from marco_data.why import Lookup

NAME = re.compile(r"[\w.@+:/ -]{1,200}")
"""Families, languages, parts, sources, reasons: what a parameter that names one may hold."""
FRESH_SECONDS = 2.0
"""A build under way is read again after so long, however many look at it,"""
FRESH_TIMES = 10
"""and after so many times the seconds that it took: of a large build, looking is a tenth of the time at most."""

Parameters = Mapping[str, str]
T = TypeVar("T")


class BadRequest(Exception):
    """A parameter that no page gives out."""


UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)
"""What a file that is damaged or half written comes to."""


def _unreadable(family: str, stage: int, error: Exception) -> MarcoError:
    return MarcoError(
        f"the books of stage {stage} of `{family}` cannot be read: {type(error).__name__}: {error}",
        hint="a file of this root is damaged or half written; the same `build-stage` finishes or repairs it",
    )


class Contents:
    """A stage and its documents, read when they are first asked for, once for all requests; `seconds` it took so far.

    Raises MarcoError where they cannot be read.
    """

    def __init__(self, storage: Storage, read: Callable[[], Stage | None]) -> None:
        self.seconds = 0.0
        self._storage, self._read = storage, read
        self._lock = threading.RLock()

    @property
    def stage(self) -> Stage | None:
        with self._lock:
            return self._stage

    @property
    def lookup(self) -> Lookup | None:
        """None where no step has decided on any document."""
        with self._lock:
            return self._lookup

    @cached_property
    def _stage(self) -> Stage | None:
        built = self._timed(self._read)
        if built is None:
            return None

        def timed(rows: Sequence[dict[str, Any]]) -> Later:
            return Later(lambda: self._timed(lambda: list(rows)))

        return replace(built, shards=timed(built.shards), requests=timed(built.requests))

    @cached_property
    def _lookup(self) -> Lookup | None:
        built = self._stage
        if built is None or not built.nodes.get("decide"):
            return None
        lookup = Lookup(built, self._storage)
        return lookup if self._timed(lambda: lookup.decided) else None

    def _timed(self, read: Callable[[], T]) -> T:
        begun = time.monotonic()
        try:
            return read()
        finally:
            self.seconds += time.monotonic() - begun


@dataclass(frozen=True)
class View:
    """`problem` says why there is no ledger, in a person's words. `parameters` are a request's, checked.

    `folders` are those of the nodes, by their names.
    """

    storage: Storage
    family: str
    stage: int
    builds: Mapping[str, tuple[int, ...]]
    ledger: StageLedger | None = None
    contents: Contents | None = None
    folders: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    hint: str = ""
    parameters: Parameters = field(default_factory=dict)

    def asked(self, name: str) -> str:
        return self.parameters.get(name, "")

    def url(self, page: str, **changes: str | int | None) -> str:
        """The address of a page about this stage; None and "" take a parameter away."""
        known = {"family": self.family, "stage": self.stage, **changes}
        return f"/{page}?{urlencode({k: v for k, v in known.items() if v not in (None, '')})}"

    def here(self, page: str, **changes: str | int | None) -> str:
        """This page with other parameters."""
        return self.url(page, **{**self.parameters, "family": self.family, "stage": self.stage, **changes})

    def only(self, **parameters: str) -> dict[str, str]:
        """A request's parameters for this stage."""
        return {"family": self.family, "stage": str(self.stage), **parameters}

    @property
    def built(self) -> Stage | None:
        """The stage that was built, or what there is of it."""
        return self._asked(lambda contents: contents.stage)

    @property
    def lookup(self) -> Lookup | None:
        """The documents; None where no step has decided on any."""
        return self._asked(lambda contents: contents.lookup)

    def _asked(self, what: Callable[[Contents], T | None]) -> T | None:
        try:
            return None if self.contents is None else what(self.contents)
        except MarcoError:
            raise
        except UNREADABLE as error:
            raise _unreadable(self.family, self.stage, error) from error

    @property
    def digest(self) -> str:
        """Changes when what a page shows does."""
        ledger = self.ledger
        nodes = [[n.name, n.done] for n in ledger.nodes] if ledger else []
        folder = ledger.folder if ledger else None
        return fingerprint([self.problem, folder, [ledger.running, ledger.live] if ledger else None, nodes])

    @cached_property
    def languages(self) -> list[LedgerRow]:
        return self.ledger.total("language") if self.ledger else []


def builds(storage: Storage) -> dict[str, tuple[int, ...]]:
    """{family: stages} of what was built or is being built in a root."""
    found: dict[str, set[int]] = {}
    for folder in ("stages", FOLDER):
        for name in storage.names(folder):
            match = re.fullmatch(r"(.+)-([1-9])\.json", name)
            if match and NAME.fullmatch(match[1]) and not re.match(r"\d{8}T\d{6}Z", name):
                found.setdefault(match[1], set()).add(int(match[2]))
    return {family: tuple(sorted(stages)) for family, stages in sorted(found.items())}


class Root:
    """Views of a root, kept while nothing changes; several requests at a time may ask."""

    def __init__(self, storage: Storage, family: str | None = None, stage: int | None = None) -> None:
        self.storage = storage
        self.family, self.stage = family, stage
        self._kept: dict[tuple[str, int], tuple[Any, float, float, View]] = {}
        self._lock = threading.Lock()

    def view(self, parameters: Parameters) -> View:
        """The view that a request's parameters ask for; without any, of the stage the command named, or the newest."""
        for name, value in parameters.items():
            if name not in FREE and value and not NAME.fullmatch(value):
                raise BadRequest(f"`{name}` cannot be that")
        family, stage, found = self._which(parameters)
        with self._lock:
            kept = self._view(family, stage, found)
        rest = {k: v for k, v in parameters.items() if k not in ("family", "stage") and v}
        return View(**{**_fields(kept), "builds": found, "parameters": rest})

    def _which(self, parameters: Parameters) -> tuple[str, int, dict[str, tuple[int, ...]]]:
        found = builds(self.storage)
        family = parameters.get("family") or self.family or _newest(self.storage, found)
        stages = found.get(family, ())
        asked = parameters.get("stage") or ""
        if asked and not re.fullmatch("[1-9]", asked):
            raise BadRequest("`stage` is a number from 1 to 9")
        stage = int(asked) if asked else self.stage or (stages[-1] if stages else 3)
        return family, stage, found

    def _view(self, family: str, stage: int, found: Mapping[str, tuple[int, ...]]) -> View:
        bare = View(self.storage, family, stage, found)
        try:
            marks = [
                self.storage.read(f"stages/{family}-{stage}.json"),
                self.storage.read(f"{FOLDER}/{family}-{stage}.json"),
            ]
            state = find_state(self.storage, family, stage)
            running = state is not None and state.ended is None
            marks.append(canonical_json([state.ended if state else None]))
            then = self._kept.get((family, stage))
            if then is not None and then[0] == marks and (not running or _fresh(*then[1:])):
                return then[3]
            begun = time.monotonic()
            ledger = read_ledger(self.storage, family, stage)
            if running and state and ledger.running:
                contents = Contents(self.storage, partial(so_far_of, self.storage, state, ledger.nodes))
                folders = {node.name: node.folder for node in state.nodes}
            else:
                contents = Contents(self.storage, partial(find_stage, self.storage, family, stage))
                built = contents.stage
                folders = {name: entry["folder"] for name, entry in built.nodes.items()} if built else {}
                assert contents.lookup is None or contents.lookup  # what is damaged of it is told on every page
            view = View(self.storage, family, stage, found, ledger, contents, folders)
            now = time.monotonic()
            self._kept[family, stage] = (marks, now, now - begun, view)
            return view
        except MarcoError as error:
            told = error
        except UNREADABLE as error:
            told = _unreadable(family, stage, error)
        return View(**{**_fields(bare), "problem": told.message, "hint": told.hint or ""})


def _fresh(read: float, took: float, view: View) -> bool:
    """Whether a view of a build under way, read at `read` in `took` seconds, may be shown once more."""
    seconds = took + (view.contents.seconds if view.contents else 0.0)
    return time.monotonic() - read < max(FRESH_SECONDS, FRESH_TIMES * seconds)


def so_far_of(storage: Storage, state: RunState, known: Sequence[Committed]) -> Stage:
    """What a build under way has finished: the nodes that are through, so that documents can be read already."""
    nodes = {}
    for node in state.nodes:
        manifest = storage.read_json(node.manifest) if node.manifest else None
        if manifest is not None:
            entry = {"folder": node.folder, "identity": manifest["identity"], "tasks": manifest["tasks"]}
            nodes[node.name] = {**entry, "manifest": node.manifest, "records": []}
    return replace(stage_so_far(storage, state, known), nodes=nodes)


FREE = ("q", "id")
"""Parameters that hold a person's words."""


def _fields(view: View) -> dict[str, Any]:
    return {name: getattr(view, name) for name in View.__dataclass_fields__}


def _newest(storage: Storage, found: Mapping[str, tuple[int, ...]]) -> str:
    """The family that was built last is not known from names alone: `sample` where it is there, else the first."""
    return "sample" if "sample" in found or not found else next(iter(found))


def tiers(rows: list[LedgerRow]) -> dict[str, int]:
    """Languages that a recipe wants equally much of (two digits) are of a tier; tier 1 is wanted most."""
    wanted = {row.language: float(f"{row.wanted or 0:.1e}") for row in rows}
    ranks = {value: rank for rank, value in enumerate(sorted(set(wanted.values()), reverse=True), 1)}
    return {language: ranks[value] for language, value in wanted.items()}


def traits(code: str) -> tuple[str, str, str, str]:
    """(name, script, family, region) of a language; of one that is not ours, what its code says."""
    language = LANGUAGES.get(code)
    if language is None:
        return code, code.partition("_")[2], "", ""
    return language.name, code.partition("_")[2], language.family, language.region


def html_language(code: str) -> str:
    """A language as browsers name it, to choose fonts and line breaks by: `zh-Hans`."""
    language = LANGUAGES.get(code)
    short, _, script = code.partition("_")
    return f"{language.iso639_1 if language and language.iso639_1 else short}-{script}" if script else "und"
