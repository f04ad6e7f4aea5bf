"""A recipe: what to build, as YAML checked by pydantic. It says nothing of machines, pools or where results go.

`load_recipe` turns a file (and the files it includes) into a frozen `Recipe`; every mistake becomes one
RecipeError that names file, line, key and remedy. Paths inside a recipe are relative to its own folder.
"""

import difflib
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from marco_data.alarms import RemovalLimits, Watch, watcher, what_is_wrong
from marco_data.benchmark_items import Benchmark
from marco_data.contents import content_of
from marco_data.dedup import REASONS, DropDuplicates
from marco_data.errors import RecipeError
from marco_data.frames import Frames
from marco_data.generation.entry import Entries, Model, change_prompt_paths
from marco_data.hub import hub_path
from marco_data.languages import know, new_languages
from marco_data.languages.codes import ByCode, Codes
from marco_data.mix import MixturePart, parse_tokens, parts_by_source
from marco_data.new_languages import read_new_languages
from marco_data.redact import public_url
from marco_data.rehydrate import Rehydrate
from marco_data.sources import Source
from marco_data.step import fingerprint
from marco_data.steps.apply_limits import ApplyLimits, load_limits
from marco_data.steps.decontaminate import Decontaminate
from marco_data.steps.find_leaks import FindLeaks
from marco_data.steps.mask_pii import MaskPii
from marco_data.steps.normalize import Normalize
from marco_data.steps.remove import CopiesRule, Remove
from marco_data.steps.select_language import SelectLanguage
from marco_data.steps.url_block_list import UrlBlockList
from marco_data.yaml_lines import WrongAt, explain, known, read_yaml

MIB = 1024 * 1024
BUILD_STAGE = "pipelines.build_stage:build_stage"
NAME = r"[a-z0-9][a-z0-9_-]*"
ADDED = ("languages_from", "remove")
"""Keys that older versions did not have: a recipe without them has the digest it always had."""


def _budget(value: Any) -> Any:
    return None if value is None else parse_tokens(value)


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TokenizerSection(Section):
    path: str
    end_of_document: str = "<|endoftext|>"


class IdentifyLanguageSection(Section):
    model: str = "embedded"
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["by_language"] = "by_language"
    check_script: bool = True
    min_share: Annotated[float, Field(ge=0, le=1)] | None = 0.7  # docs/language-id.md, "Mixed documents"
    floor: Annotated[float, Field(ge=0, le=1)] = 0.2

    @model_validator(mode="after")
    def _keeps_only_what_is_stored(self) -> "IdentifyLanguageSection":
        if self.threshold != "by_language" and self.threshold < self.floor:
            raise ValueError(
                f"the threshold {self.threshold} is below the floor {self.floor}, under which no text is stored; "
                "lower `floor` too"
            )
        return self


class QualitySection(Section):
    limits: str = "fineweb2"
    overrides: Annotated[dict[str, dict[str, float | None]], ByCode] = {}
    tier_margin: Annotated[float, Field(ge=0, lt=1)] = 0.2
    exempt: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _limits_are_known(self) -> "QualitySection":
        load_limits(self.limits, self.overrides)
        return self


class DecontaminateSection(Section):
    """Benchmarks whose items no document may hold, and the `index` of them, which `index-benchmarks` makes.

    `window` words are what is looked up, and windows in `common` documents of a sample are no evidence.
    """

    index: str
    benchmarks: Annotated[dict[Annotated[str, Field(pattern=f"^{NAME}$")], Benchmark], Field(min_length=1)]
    window: Annotated[int, Field(ge=6, le=20)] = 8
    common: Annotated[int, Field(ge=1)] = 3
    limits: Decontaminate = Decontaminate()

    @property
    def declared(self) -> str:
        """Names the list that an index is made from; local files by their names alone."""
        values = {name: benchmark.model_dump() for name, benchmark in self.benchmarks.items()}
        for benchmark in values.values():
            benchmark["paths"] = [path if "://" in path else Path(path).name for path in benchmark["paths"]]
        return fingerprint([values, self.window, self.common])

    @property
    def find(self) -> FindLeaks:
        return FindLeaks(index=self.index, declared=self.declared)

    @model_validator(mode="after")
    def _keeps_what_is_found(self) -> "DecontaminateSection":
        for limit, floor in (("share", self.find.floor), ("stretch", self.find.stretch)):
            if getattr(self.limits, limit) < floor:
                raise ValueError(f"a `{limit}` below {floor} is not looked for")
        return self


class SignSection(Section):
    """`frames` are lines that templates write, `Question: {}`: they are not what makes two documents alike."""

    frames: Frames = ()


class UserStep(Section):
    """A step of the user's own, or any datatrove filter through the adapter, run after the quality metrics."""

    step: str
    arguments: dict[str, Any] = {}


class Steps(Section):
    normalize: Normalize = Normalize()
    url_block_list: UrlBlockList | None = None
    mask_pii: MaskPii | None = None
    identify_language: IdentifyLanguageSection = IdentifyLanguageSection()
    quality: QualitySection = QualitySection()
    decontaminate: DecontaminateSection | None = None
    sign: SignSection = SignSection()
    dedup: DropDuplicates = DropDuplicates()
    extra: tuple[UserStep, ...] = ()


class Limits(Section):
    """Shares above which a build that finished still exits 1, and `removal`, above which it stops."""

    failed_rows: Annotated[float, Field(ge=0, le=1)] = 0.001
    failed_files: Annotated[float, Field(ge=0, le=1)] = 0.01
    removal: RemovalLimits | None = RemovalLimits()


class KeepDropped(Section):
    text: Annotated[float, Field(ge=0, le=1)] = 0.01


class ShardSection(Section):
    """Sizes that shape the output's bytes, and so are identity: text bytes a shard, tokens a stage shard."""

    bytes: Annotated[int, Field(ge=1)] = 64 * MIB
    tokens: Annotated[int, BeforeValidator(_budget), Field(ge=1)] = 512_000_000
    max_document_bytes: Annotated[int, Field(ge=1)] = 16 * MIB


class RemoveSection(Section):
    """The list of documents to take out, and whether documents that are like one of them go too or are reported."""

    file: str
    copies: CopiesRule = "report"


def _list_alone(value: Any) -> Any:
    if isinstance(value, Mapping | RemoveSection | None):
        return value
    if not isinstance(value, str):
        raise ValueError("it names a file, `remove: remove.txt` or `remove: {file: remove.txt, copies: drop}`")
    return {"file": value}


class Recipe(Section):
    family: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    stage: Annotated[int, Field(ge=1, le=9)]
    after: Annotated[str, Field(pattern=r"^(previous|nothing|[a-z0-9][a-z0-9-]*/[1-9])$")] = "previous"
    description: str = ""
    tokenizer: TokenizerSection
    budget: Annotated[int | None, BeforeValidator(_budget)] = None
    languages_from: str | None = None
    languages: Codes
    sources: dict[Annotated[str, Field(pattern=f"^{NAME}$")], Source]
    steps: Steps = Steps()
    remove: Annotated[RemoveSection | None, BeforeValidator(_list_alone)] = None
    rehydrate: Rehydrate | None = None
    generators: dict[Annotated[str, Field(pattern=f"^{NAME}$")], Model] = {}
    generate: Entries = {}
    mixture: Annotated[dict[Annotated[str, Field(pattern=f"^{NAME}$")], MixturePart], Field(min_length=1)]
    limits: Limits = Limits()
    keep_dropped: KeepDropped = KeepDropped()
    shards: ShardSection = ShardSection()
    seed: str = ""
    waive: tuple[str, ...] = ()
    accept: dict[str, tuple[str, ...]] = {}
    pipeline: str = BUILD_STAGE

    @model_validator(mode="before")
    @classmethod
    def _languages_are_known(cls, values: Any) -> Any:
        """Before any code is looked at: the languages of this recipe are the shipped ones and its own."""
        know(())
        folder = values.get("languages_from") if isinstance(values, Mapping) else None
        if isinstance(folder, str):
            try:
                know(read_new_languages(Path(folder)))
            except RecipeError as error:
                message = error.message if error.hint is None else f"{error.message}; {error.hint}"
                raise WrongAt(("languages_from",), message) from None
        return values

    @model_validator(mode="after")
    def _new_languages_can_be_kept(self) -> "Recipe":
        floor = self.steps.identify_language.floor
        for code, new in new_languages().items():
            if new.language_score is not None and new.language_score < floor:
                raise WrongAt(
                    ("languages_from",),
                    f"the `language_score` {new.language_score} of `{code}` is below the floor {floor}, under which no "
                    "text is stored; raise it, or lower `steps.identify_language.floor`",
                )
        for name, entry in self.generate.items():
            foreign = sorted({*entry.languages, *entry.seed_languages()} & set(new_languages()))
            if foreign:
                raise WrongAt(
                    ("generate", name), f"models are asked in the shipped languages only, not in {', '.join(foreign)}"
                )
        return self

    @model_validator(mode="after")
    def _parts_name_sources(self) -> "Recipe":
        try:
            owners = parts_by_source(self.mixture)
        except ValueError as error:
            raise WrongAt(("mixture",), str(error)) from None
        there = {*self.sources, *self.generated_sources}
        for source, part in owners.items():
            if source not in there:
                near = difflib.get_close_matches(source, there, n=1)
                raise WrongAt(
                    ("mixture", part, "sources"),
                    f"mixture part `{part}` names the source `{source}`, which is not under `sources`"
                    + (f"; did you mean `{near[0]}`?" if near else f" ({', '.join(sorted(there))})"),
                )
        for source in self.steps.quality.exempt:
            if source not in there:
                raise ValueError(f"`steps.quality.exempt` names the source `{source}`, which is not under `sources`")
        for name, settings in self.mixture.items():
            foreign = sorted(set(settings.languages or ()) - set(self.languages))
            if foreign:
                raise WrongAt(
                    ("mixture", name, "languages"),
                    f"mixture part `{name}` has shares for {', '.join(foreign)}, not among `languages`",
                )
        return self

    @model_validator(mode="after")
    def _entries_name_what_there_is(self) -> "Recipe":
        owners = parts_by_source(self.mixture)
        for name, entry in self.generate.items():
            made = entry.make.part
            if entry.generator not in self.generators:
                near = difflib.get_close_matches(entry.generator, self.generators, n=1)
                raise WrongAt(
                    ("generate", name, "generator"),
                    f"there is no `{entry.generator}` under `generators`"
                    + (f"; did you mean `{near[0]}`?" if near else f" ({', '.join(self.generators) or 'it is empty'})"),
                )
            if made in self.sources:
                raise WrongAt(("generate", name), f"it makes the source `{made}`, which is under `sources` too")
            if made not in owners:
                message = f"it makes documents of the source `{made}`, which no part of `mixture` draws from"
                raise WrongAt(("generate", name), message)
            for source in entry.seeds.sources or ():
                if source not in owners or source not in self.sources:
                    near = difflib.get_close_matches(source, [s for s in owners if s in self.sources], n=1)
                    raise WrongAt(
                        ("generate", name, "seeds", "sources"),
                        f"no part of `mixture` draws from a source `{source}`"
                        + (f"; did you mean `{near[0]}`?" if near else "")
                        + "; seeds are documents that the stage reads",
                    )
            foreign = sorted({*entry.languages, *entry.seed_languages()} - set(self.languages))
            if foreign:
                raise WrongAt(
                    ("generate", name, "languages"), f"{', '.join(foreign)} not among the recipe's `languages`"
                )
        return self

    @property
    def generated_sources(self) -> dict[str, str]:
        """{source: entry of `generate`} of what is made rather than read; of several entries the first."""
        return {entry.make.part: name for name, entry in reversed(self.generate.items())}

    @model_validator(mode="after")
    def _removal_names_steps(self) -> "Recipe":
        reasons = {*Normalize.reasons, *UrlBlockList.reasons, *SelectLanguage.reasons, *ApplyLimits.reasons}
        reasons |= {*Remove.reasons, *Decontaminate.reasons, *(reason for reason in REASONS if reason)}
        # Which steps a pipeline of the user's own has is not known here.
        if self.limits.removal is not None and self.pipeline == BUILD_STAGE:
            user_steps = [extra.step for extra in self.steps.extra]
            wrong = what_is_wrong(self.limits.removal, reasons, user_steps, [*self.sources, *self.generated_sources])
            if wrong is not None:
                raise WrongAt(("limits", "removal", *wrong[0]), wrong[1])
        return self

    @model_validator(mode="after")
    def _knows_the_sizes_of_clusters(self) -> "Recipe":
        if self.rehydrate is not None and self.steps.dedup.over != "all":
            message = "repeats by cluster size need what limits dropped in the clusters: `steps: {dedup: {over: all}}`"
            raise WrongAt(("rehydrate",), message)
        return self

    @property
    def unpinned(self) -> list[str]:
        """Paths on a hub that name no commit: what is behind them changes when their owner changes it."""
        found: list[str] = []

        def look(path: Any) -> Any:
            there = hub_path(path) if isinstance(path, str) else None
            if there is not None and not there.pinned:
                found.append(path)
            return path

        change_paths(self.model_dump(mode="json"), look)
        return found

    @property
    def copies(self) -> CopiesRule:
        """What becomes of documents that are like those to be taken out."""
        return "report" if self.remove is None else self.remove.copies

    @property
    def watch(self) -> Watch:
        """What raises the alarms of `limits.removal` in a run."""
        return watcher(self.limits.removal, self.languages)

    @property
    def used_sources(self) -> dict[str, Source]:
        """The sources that are read and that some part of the mixture draws from, by name."""
        return {name: self.sources[name] for name in sorted(self.part_of) if name in self.sources}

    @property
    def part_of(self) -> dict[str, str]:
        """{source: part}."""
        return parts_by_source(self.mixture)

    @property
    def digest(self) -> str:
        """Names this recipe among the builds of a root, on whatever machine: the local files that it names count by
        what is in them, and its sources by where they are, as those of URLs do. It is no identity.
        """
        values = self.model_dump(mode="json")
        change_files(values, lambda path: path if "://" in path else content_of(Path(path)))
        leaks = values["steps"].get("decontaminate") or {}
        for benchmark in leaks.get("benchmarks", {}).values():  # what of them counts in a build is in the index
            benchmark["paths"] = [path if "://" in path else Path(path).name for path in benchmark["paths"]]
        for added in ADDED:
            if values[added] is None:
                del values[added]
        return fingerprint(values)

    @property
    def recorded(self) -> dict[str, Any]:
        """The recipe as a manifest holds it: without the folders of its local files and the secrets of its URLs."""
        values = self.model_dump(mode="json")
        change_paths(values, lambda path: public_url(path) if "://" in path else Path(path).name)
        return values

    @property
    def family_seed(self) -> str:
        return self.seed or self.family

    def pipeline_function(self) -> Any:
        """The function that turns this recipe into a plan."""
        module, _, name = self.pipeline.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, SyntaxError) as error:
            raise RecipeError(
                f"no pipeline `{self.pipeline}`: {error}", hint="write it as package.module:function"
            ) from error


def load_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read, merge includes, check. `overrides` replace top-level keys (from the command line)."""
    values, lines = read_with_includes(path, set())
    values |= dict(overrides or {})
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise explain(error, Recipe, path, lines) from None


def place_in(path: Path, key: tuple[str, ...]) -> str:
    """`file:line` of a key of a recipe, or of the nearest above it that is there."""
    _, lines = read_with_includes(path, set())
    file, line = lines.get(known(key, lines), (path, 1))
    return f"{file}:{line}"


def read_with_includes(path: Path, seen: set[Path]) -> tuple[dict[str, Any], dict[tuple[Any, ...], tuple[Path, int]]]:
    values, own_lines = read_yaml(path, a="recipe", hint="give the path of one; `--family sample` names some that ship")
    _absolute_paths(values, path.parent)
    lines = {key: (path, line) for key, line in own_lines.items()}
    merged: dict[str, Any] = {}
    merged_lines: dict[tuple[Any, ...], tuple[Path, int]] = {}
    includes = values.pop("include", [])
    for name in includes if isinstance(includes, list) else [includes]:
        place = f"{path}:{own_lines['include',]}"
        file = path.parent / str(name)
        if file.resolve() in seen | {path.resolve()}:
            raise RecipeError(f"{place}: `include: {name}` goes round in a circle")
        if not file.is_file():
            raise RecipeError(f"{place}: `include: {name}`: there is no file `{file}`")
        included, included_lines = read_with_includes(file, seen | {path.resolve()})
        merged = _merge(merged, included)
        merged_lines |= included_lines
    return _merge(merged, values), merged_lines | lines


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; anything else above replaces what is below."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) and key != "mixture" else value
        )
    return out


def _absolute_paths(values: dict[str, Any], folder: Path) -> None:
    """Paths in a recipe are relative to its folder; URLs and absolute paths stay as they are."""

    def absolute(path: Any) -> Any:
        if not isinstance(path, str) or "://" in path:
            return path
        return str(folder.resolve() / Path(path).expanduser())

    change_paths(values, absolute)


def change_paths(values: dict[str, Any], change: Callable[[Any], Any]) -> None:
    """Replace every path of a recipe's plain values, in place: of sources and of what else lies in files."""
    steps = values.get("steps")
    leaks = steps.get("decontaminate") if isinstance(steps, dict) else None
    for described in (values.get("sources"), leaks.get("benchmarks") if isinstance(leaks, dict) else None):
        for source in described.values() if isinstance(described, dict) else []:
            if isinstance(source, dict) and isinstance(source.get("paths"), list):
                source["paths"] = [change(p) for p in source["paths"]]
            elif isinstance(source, dict) and isinstance(source.get("paths"), str):
                source["paths"] = [change(source["paths"])]
    change_files(values, change)


def change_files(values: dict[str, Any], change: Callable[[Any], Any]) -> None:
    """The same, of the files that a build reads beside its sources: those that travel with it to a cluster."""
    for model in (values.get("generators") or {}).values() if isinstance(values.get("generators"), dict) else ():
        if isinstance(model, dict) and isinstance(model.get("recorded"), list):
            model["recorded"] = [change(path) for path in model["recorded"]]
    for entry in (values.get("generate") or {}).values() if isinstance(values.get("generate"), dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("make"), dict):
            change_prompt_paths(entry["make"], change)
    removed = values.get("remove")
    for holder, key in (
        (values, "languages_from"),
        (removed, "file") if isinstance(removed, dict) else (values, "remove"),
    ):
        if holder.get(key) is not None:
            holder[key] = change(holder[key])
    tokenizer = values.get("tokenizer")
    if isinstance(tokenizer, dict) and "path" in tokenizer:
        tokenizer["path"] = change(tokenizer["path"])
    steps = values.get("steps")
    if isinstance(steps, dict):
        for step, key in (
            ("url_block_list", "domains"),
            ("url_block_list", "words"),
            ("identify_language", "model"),
            ("decontaminate", "index"),
        ):
            section = steps.get(step)
            if isinstance(section, dict) and section.get(key) not in (None, "embedded"):
                section[key] = change(section[key])
