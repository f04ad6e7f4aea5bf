"""Orders to try rejected documents again: `retry` writes them, a build obeys all that its root holds.

In: files of rejected documents (dead letters), and which reasons and languages are meant. Out: a small JSON file
`retries/<digest>.json` in the root, `{reasons, languages, entries: {entry: {request: attempt}}}`; and for builds
`{request: attempt}` over all orders, the highest attempt of a request winning.

An order names the attempt after the one that failed. So the same order given twice is the same file, and asks again
only what was rejected again in between. Knows no maker, no seed and no text.
"""

import difflib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marco_data.errors import RecipeError
from marco_data.generation.generator import NOT_RECORDED, TOO_LONG
from marco_data.storage import Storage, canonical_json

FOLDER = "retries"

NO_CURE = {
    NOT_RECORDED: "nothing was asked, so there is nothing to ask again: build with a pool for the generator (--pools)",
    TOO_LONG: "another attempt is as long: raise the generator's `context`, or lower what the maker takes at once",
}
"""Reasons that another attempt cannot change, and what can."""

Attempt = Annotated[int, Field(ge=1)]


class Order(BaseModel):
    """What is tried again, by entry of the recipe: {request: attempt}. Reasons and languages are for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reasons: tuple[str, ...]
    languages: tuple[str, ...]
    entries: dict[str, dict[str, Attempt]]

    @property
    def requests(self) -> int:
        return sum(len(attempts) for attempts in self.entries.values())

    @property
    def content(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @property
    def path(self) -> str:
        return f"{FOLDER}/{hashlib.sha256(self.content).hexdigest()[:16]}.json"


def make_order(
    storage: Storage,
    rejected: Mapping[str, Sequence[str]],
    *,
    reasons: Collection[str],
    languages: Collection[str] | None = None,
) -> Order:
    """The order for all dead letters of these reasons and languages (None: of all).

    `rejected` are the paths of each entry's files, those of the finished build. Raises RecipeError where nothing is
    rejected so, or where another attempt could change nothing.
    """
    for reason in sorted(reasons):
        if reason in NO_CURE:
            raise RecipeError(f"`{reason}` is no reason to try again", hint=NO_CURE[reason])
    entries: dict[str, dict[str, int]] = defaultdict(dict)
    seen: Counter[tuple[str, str]] = Counter()
    for entry, paths in sorted(rejected.items()):
        for path in paths:
            table = storage.read_table(path, ["request", "language", "reason", "attempt"])
            for count in table.group_by(["reason", "language"]).aggregate([("request", "count")]).to_pylist():
                seen[count["reason"], count["language"]] += count["request_count"]
            chosen = pc.is_in(table["reason"], value_set=_strings(reasons))
            if languages is not None:
                chosen = pc.and_(chosen, pc.is_in(table["language"], value_set=_strings(languages)))
            for row in table.filter(chosen).select(["request", "attempt"]).to_pylist():
                attempts = entries[entry]
                attempts[row["request"]] = max(attempts.get(row["request"], 0), row["attempt"] + 1)
    _each_has_some(reasons, languages, seen)
    return Order(
        reasons=tuple(sorted(reasons)),
        languages=() if languages is None else tuple(sorted(languages)),
        entries={entry: dict(sorted(attempts.items())) for entry, attempts in sorted(entries.items())},
    )


def _strings(values: Collection[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())


def _each_has_some(
    reasons: Collection[str], languages: Collection[str] | None, seen: Mapping[tuple[str, str], int]
) -> None:
    """Raise RecipeError for a reason that nothing was rejected for; misspelt, it would be passed over in silence."""
    for reason in sorted(reasons):
        if any(name == reason and (languages is None or language in languages) for name, language in seen):
            continue
        where = "" if languages is None else f" in {', '.join(sorted(languages))}"
        totals: Counter[str] = Counter()
        for (name, _), number in seen.items():
            totals[name] += number
        near = difflib.get_close_matches(reason, totals, n=1)
        guess = f"did you mean `{near[0]}`? " if near and near[0] != reason else ""
        known = ", ".join(f"{name} {number:,}" for name, number in sorted(totals.items())) or "none"
        raise RecipeError(
            f"nothing was rejected as `{reason}`{where}", hint=f"{guess}rejected in all languages: {known}"
        )


def give_order(storage: Storage, order: Order) -> bool:
    """Write the order into the root; False where the same one is there already."""
    return storage.create(order.path, order.content)


def load_attempts(storage: Storage) -> dict[str, int]:
    """{request: attempt} over all orders of a root. A request's id says its entry, so that ids do not meet."""
    attempts: dict[str, int] = {}
    for name in storage.names(FOLDER):
        if not name.endswith(".json"):
            continue
        content = storage.read(f"{FOLDER}/{name}")
        try:
            order = Order.model_validate_json(content or b"")
        except ValidationError as error:
            told = error.errors()[0]["msg"]
            raise RecipeError(
                f"`{storage.uri(f'{FOLDER}/{name}')}` is no order to try again: {told}",
                hint="remove it and give the order again: marco-data retry --reason R",
            ) from None
        for requests in order.entries.values():
            for request, attempt in requests.items():
                attempts[request] = max(attempts.get(request, 0), attempt)
    return attempts


def attempts_among(attempts: Mapping[str, int], requests: Iterable[str]) -> dict[str, int]:
    """The part of `attempts` that concerns these requests: what one shard has to know of all orders."""
    return {request: attempts[request] for request in requests if request in attempts}


def attempts_digest(attempts: Mapping[str, int]) -> str:
    """Sixteen hex digits that name these attempts, for a task's key; empty where there are none.

    So an order gives new keys to shards that it concerns, and to no other.
    """
    return hashlib.sha256(canonical_json(dict(attempts))).hexdigest()[:16] if attempts else ""
