"""The rows of a stage's ledger: how many tokens of each language, part and source went where.

In: the counts that a stage's books are made of, those of its tokenize node, the recipe and what the mix has chosen.
Out: `LedgerRow`s that add up, fertilities, and the mixture as asked for, as it came out and as Marco-MoE published it.
Pure arithmetic: knows no file and no record.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from marco_data.alarms import rank_of, step_name
from marco_data.blend import drawn_of
from marco_data.mix import Allocation, Key, MixturePart, allocate, largest_remainder, parts_by_source
from marco_data.nodes.mix import intervals_of
from marco_data.published_mixture import published
from marco_data.records import DROPPED, FAILED, GENERATED, KEPT, READ, REPLACED, Count
from marco_data.stage import allocation_of

ANY = "any"
"""The language of what a part asks for without listing languages, where none has anything."""
ASSUMED = 0.25
"""Tokens per byte before anything was tokenized. English is near it with a vocabulary of 150,000, other languages
lie between an eighth and one half."""
REPLACE, MIX = "replace", "mix"


@dataclass(frozen=True)
class Amount:
    documents: int = 0
    bytes: int = 0
    tokens: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.documents + other.documents, self.bytes + other.bytes, self.tokens + other.tokens)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.documents - other.documents, self.bytes - other.bytes, self.tokens - other.tokens)


Reasons = Mapping[str, Amount]


@dataclass(frozen=True)
class LedgerRow:
    """One source of a part in one language; in sums, what was summed over is "".

    Tokens, but where a name says otherwise. `collected` is what was read, `synthesized` what models wrote and their
    makers accepted; `after` is what is left of both after each step. `available` is what the mix could take (each
    document once), `selected` what it took, `written` what lies in the shards, `drawn` what a trainer sees of it in
    `epochs` rounds. `wanted` is None where the recipe has no budget; `shortfall` is what of it the text there is cannot
    fill (what is left because the next document did not fit is none). `estimated` names the fields that rest on bytes
    times fertility; of `after` also the steps, `after.quality`.
    """

    language: str = ""
    part: str = ""
    source: str = ""
    wanted: int | None = None
    documents_read: int = 0
    bytes_read: int = 0
    collected: int = 0
    documents_synthesized: int = 0
    bytes_synthesized: int = 0
    synthesized: int = 0
    after: Mapping[str, int] = field(default_factory=dict)
    dropped: Reasons = field(default_factory=dict)
    failed: Reasons = field(default_factory=dict)
    replaced: Amount = Amount()
    pending: Amount = Amount()
    available: int = 0
    selected: int = 0
    documents_written: int = 0
    bytes_written: int = 0
    written: int = 0
    drawn: int = 0
    shortfall: int = 0
    estimated: frozenset[str] = frozenset()

    @property
    def epochs(self) -> float:
        """How often a trainer sees a token that was taken."""
        return self.drawn / self.selected if self.selected else 0.0

    @property
    def gone(self) -> Amount:
        """Dropped and failed, for any reason."""
        return sum([*self.dropped.values(), *self.failed.values()], Amount())

    def to_object(self) -> dict[str, Any]:
        return {
            **{f.name: getattr(self, f.name) for f in fields(self)},
            "after": dict(self.after),
            "dropped": {reason: asdict(amount) for reason, amount in self.dropped.items()},
            "failed": {reason: asdict(amount) for reason, amount in self.failed.items()},
            "replaced": asdict(self.replaced),
            "pending": asdict(self.pending),
            "epochs": self.epochs,
            "estimated": sorted(self.estimated),
        }


@dataclass(frozen=True)
class Fertility:
    """Tokens per byte of a language, the bytes of text it was measured on, and of what that text was.

    `basis`: `language`, `earlier build` (of the same tokenizer), `script`, `all`, `earlier build, all`, or `assumed`.
    """

    tokens_per_byte: float
    bytes: int
    basis: str


@dataclass(frozen=True)
class MixtureRow:
    """A share of the stage: as the recipe asks for it, as it came out, as Marco-MoE published it; None: unknown.

    `kind` is `part`, `category` (one bar of the published chart, which may be several parts) or `language`.
    """

    kind: str
    name: str
    asked: float | None
    realised: float | None
    published: float | None


PLAIN = tuple(f.name for f in fields(LedgerRow) if f.type in (int, int | None))
"""The columns that hold one number."""


def sum_rows(rows: Sequence[LedgerRow], names: Mapping[str, str]) -> LedgerRow:
    def reasons(which: str) -> dict[str, Amount]:
        sums: dict[str, Amount] = defaultdict(Amount)
        for row in rows:
            for reason, amount in getattr(row, which).items():
                sums[reason] += amount
        return dict(sorted(sums.items()))

    after: dict[str, int] = defaultdict(int)
    for row in rows:
        for step, tokens in row.after.items():
            after[step] += tokens
    numbers = {name: sum(getattr(row, name) for row in rows) for name in PLAIN if name != "wanted"}
    known = [row.wanted for row in rows if row.wanted is not None]
    return LedgerRow(
        language=names.get("language", ""),
        part=names.get("part", ""),
        source=names.get("source", ""),
        **numbers,
        wanted=sum(known) if known else None,
        after=dict(after),
        dropped=reasons("dropped"),
        failed=reasons("failed"),
        replaced=sum((row.replaced for row in rows), Amount()),
        pending=sum((row.pending for row in rows), Amount()),
        estimated=frozenset(name for row in rows for name in row.estimated),
    )


# Fertility


def fertilities(tokenized: Iterable[Count], earlier: Iterable[Count], languages: Iterable[str]) -> dict[str, Fertility]:
    """Tokens per byte of each language; of one with nothing tokenized, the nearest that is known."""
    own, before = _sums(tokenized), _sums(earlier)
    return {code: _fertility(code, own, before) for code in sorted({*languages, *own})}


def _sums(counts: Iterable[Count]) -> dict[str, Amount]:
    sums: dict[str, Amount] = defaultdict(Amount)
    for count in counts:
        sums[count.language] += Amount(count.documents, count.bytes, count.tokens)
    return {code: amount for code, amount in sums.items() if amount.bytes}


def _fertility(code: str, own: Mapping[str, Amount], before: Mapping[str, Amount]) -> Fertility:
    script = code.rpartition("_")[2]
    of_script = [amount for other, amount in own.items() if other.rpartition("_")[2] == script]
    for basis, amounts in (
        ("language", [own[code]] if code in own else []),
        ("earlier build", [before[code]] if code in before else []),
        ("script", of_script),
        ("all", list(own.values())),
        ("earlier build, all", list(before.values())),
    ):
        if amounts:
            whole = sum(amounts, Amount())
            return Fertility(whole.tokens / whole.bytes, whole.bytes, basis)
    return Fertility(ASSUMED, 0, "assumed")


# Rows


@dataclass(frozen=True)
class Material:
    """What rows are made of: `counts` as in `Stage`, those of tokenize in this and in earlier builds, the recipe as
    recorded, and the facts of the mix, empty where there was none yet."""

    recipe: Mapping[str, Any]
    counts: Sequence[Count]
    tokenized: Sequence[Count]
    earlier: Sequence[Count]
    mix: Mapping[str, Any]

    @cached_property
    def mixture(self) -> dict[str, MixturePart]:
        return {name: MixturePart.model_validate(part) for name, part in self.recipe["mixture"].items()}

    @cached_property
    def part_of(self) -> dict[str, str]:
        return parts_by_source(self.mixture)

    @cached_property
    def fertility(self) -> dict[str, Fertility]:
        languages = {*self.recipe["languages"], *(c.language for c in self.counts)}
        return fertilities(self.tokenized, self.earlier, languages)

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """The steps that drop documents, in their order; of a pipeline of the user's own those that have."""
        given = self.recipe["steps"]
        names = ["read", "normalize", "select_language", "quality", "dedup", MIX]
        names += [name for name in ("url_block_list", "decontaminate") if given.get(name)]
        names += ["remove"] if self.recipe.get("remove") else []
        names += [step_name(extra["step"]) for extra in given.get("extra") or ()]
        names += [REPLACE] if any(count.outcome == REPLACED for count in self.counts) else []
        names += [_step(count.reason) for count in self.counts if count.outcome in (DROPPED, FAILED)]
        last = {REPLACE: 1, MIX: 2}
        return tuple(sorted(dict.fromkeys(names), key=lambda name: (last.get(name, 0), rank_of(_first(name)))))


def _step(reason: str) -> str:
    return reason.partition("/")[0]


def _first(step: str) -> str:
    return "dedup/same_id" if step == "dedup" else step


def rows_of(material: Material) -> list[LedgerRow]:
    """A row for each language, part and source of which anything was read, generated or wanted."""
    flows: dict[tuple[str, str], _Flow] = defaultdict(_Flow)
    for count in material.counts:
        flows[count.language, count.source].add(count)
    for count in material.tokenized:
        flows[count.language, count.source].tokenized += Amount(count.documents, count.bytes, count.tokens)
    rows = {
        (language, material.part_of.get(source, ""), source): flow.row(
            language,
            material.part_of.get(source, ""),
            source,
            material.fertility[language].tokens_per_byte,
            material.steps,
        )
        for (language, source), flow in sorted(flows.items())
    }
    return _with_plan(rows, material)


@dataclass
class _Flow:
    """The documents of one source and language on their way."""

    read: Amount = Amount()
    generated: Amount = Amount()
    replaced: Amount = Amount()
    tokenized: Amount = Amount()
    kept: Amount = Amount()
    dropped: dict[str, Amount] = field(default_factory=lambda: defaultdict(Amount))
    failed: dict[str, Amount] = field(default_factory=lambda: defaultdict(Amount))

    def add(self, count: Count) -> None:
        amount = Amount(count.documents, count.bytes, count.tokens)
        if count.outcome == DROPPED:
            self.dropped[count.reason] += amount
        elif count.outcome == FAILED:
            self.failed[count.reason] += amount
        else:
            name = {READ: "read", GENERATED: "generated", REPLACED: "replaced", KEPT: "kept"}[count.outcome]
            setattr(self, name, getattr(self, name) + amount)

    def row(self, language: str, part: str, source: str, fertility: float, steps: Sequence[str]) -> LedgerRow:
        def told(amount: Amount) -> Amount:
            return Amount(amount.documents, amount.bytes, round(amount.bytes * fertility))

        early = {reason: told(a) for reason, a in self.dropped.items() if _step(reason) != MIX}
        failed = {reason: told(a) for reason, a in self.failed.items()}
        replaced = told(self.replaced)
        mixed = {reason: a for reason, a in self.dropped.items() if _step(reason) == MIX}
        gone = sum([*early.values(), *failed.values(), replaced], Amount())
        entered = self.read + self.generated
        undecided = told(entered - gone - self.tokenized)
        unplaced = self.tokenized - sum(mixed.values(), self.kept)
        # The mix counts tokens and no bytes: what was tokenized and is not in the shards is divided by tokens.
        late = {**{reason: a.tokens for reason, a in mixed.items()}, "": unplaced.tokens}
        sizes = _divided(self.tokenized.bytes - self.kept.bytes, late)
        dropped = early | {r: Amount(a.documents, sizes[r], a.tokens) for r, a in mixed.items()}
        pending = undecided + Amount(unplaced.documents, sizes[""], unplaced.tokens)
        tokens = self.tokenized.tokens + gone.tokens + undecided.tokens
        # No source is both read and generated, but in a pipeline of the user's own.
        divided = _divided(tokens, {"read": self.read.bytes, "generated": self.generated.bytes})
        after, left, guessed = {}, tokens, gone.tokens + undecided.tokens
        rough, rough_after = guessed > 0, []
        for step in steps:
            leaving = [a for reason, a in (*dropped.items(), *failed.items()) if _step(reason) == step]
            lost = sum(a.tokens for a in leaving) + (replaced.tokens if step == REPLACE else 0)
            left -= lost
            after[step] = left
            guessed -= lost if step != MIX else 0
            rough_after += [f"after.{step}"] if guessed else []
        return LedgerRow(
            language=language,
            part=part,
            source=source,
            documents_read=self.read.documents,
            bytes_read=self.read.bytes,
            collected=divided["read"],
            documents_synthesized=self.generated.documents,
            bytes_synthesized=self.generated.bytes,
            synthesized=divided["generated"],
            after=after,
            dropped=dict(sorted(dropped.items())),
            failed=dict(sorted(failed.items())),
            replaced=replaced,
            pending=pending,
            available=self.tokenized.tokens - mixed.get("mix/in_earlier_stage", Amount()).tokens + undecided.tokens,
            documents_written=self.kept.documents,
            bytes_written=self.kept.bytes,
            written=self.kept.tokens,
            estimated=frozenset(
                [
                    *(["after", *rough_after] if rough else []),
                    *(["collected"] if rough and self.read.bytes else []),
                    *(["synthesized"] if rough and self.generated.bytes else []),
                    *(["dropped"] if any(a.bytes for a in early.values()) else []),
                    *(["failed"] if any(a.bytes for a in failed.values()) else []),
                    *(["replaced"] if replaced.bytes else []),
                    *(["pending", "available"] if undecided.bytes else []),
                ]
            ),
        )


def _divided(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`total` in the proportion of `weights`; all of it to the first where they are 0."""
    heavy = [name for name, weight in weights.items() if weight] or list(weights)[:1]
    if len(heavy) == 1:
        return {name: total if name == heavy[0] else 0 for name in weights}
    return largest_remainder(total, {name: Fraction(weight) for name, weight in weights.items()})


Place = tuple[str, str, str]  # (language, part, source)


def _with_plan(rows: dict[Place, LedgerRow], material: Material) -> list[LedgerRow]:
    """The rows with what the mix wants and takes of each, and rows for what is wanted and not there at all.

    The mix asks by language and part. Of several sources each bears what is wanted and what is short in the proportion
    of what it has.
    """
    available: dict[Key, int] = defaultdict(int)
    places: dict[Key, list[Place]] = defaultdict(list)
    for place, row in rows.items():
        places[row.language, row.part].append(place)
        if row.part:
            available[row.language, row.part] += row.available
    allocation = allocation_of(material.mix) if material.mix else _expected(material, available)
    asked = _asked(allocation)
    for (language, part), (requested, _) in asked.items():
        if requested and (language, part) not in places:
            source = (material.mixture[part].sources or (part,))[0]
            empty = dict.fromkeys(material.steps, 0)
            rows[language, part, source] = LedgerRow(language=language, part=part, source=source, after=empty)
            places[language, part].append((language, part, source))
    if material.recipe["budget"] is not None:
        for key, mine in places.items():
            requested, short = asked.get(key, (0, 0))
            has = {source: rows[*key, source].available for _, _, source in mine}
            wants, lacks = _divided(requested, has), _divided(short, has)
            rough = {"shortfall"} if short and not material.mix else set()
            for place in mine:
                estimated = rows[place].estimated | rough
                wanted, shortfall = wants[place[2]], lacks[place[2]]
                rows[place] = replace(rows[place], wanted=wanted, shortfall=shortfall, estimated=estimated)
    if material.mix:
        _draw(rows, allocation, material.mix)
    return [rows[place] for place in sorted(rows)]


def _asked(allocation: Allocation) -> dict[Key, tuple[int, int]]:
    """(wanted, short) by language and part; of a part that lists no language and has text in none, under ANY."""
    asked = {(share.language, share.part): (share.requested, share.shortfall) for share in allocation.shares}
    for total in allocation.parts:
        if left := total.requested - sum(share.requested for share in allocation.shares if share.part == total.part):
            asked[ANY, total.part] = (left, left)
    return asked


def _expected(material: Material, available: Mapping[Key, int]) -> Allocation:
    """What the mix would come to if the build stopped reading now."""
    return allocate(available, material.mixture, material.recipe["budget"], languages=material.recipe["languages"])


def _draw(rows: dict[Place, LedgerRow], allocation: Allocation, mix: Mapping[str, Any]) -> None:
    """What a trainer sees of each source: the draw of its language and part, by the tokens of a round."""
    rounds: dict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    taken: dict[Place, int] = defaultdict(int)
    for chosen in mix["sources"]:
        language, part, source = chosen["language"], chosen["part"], chosen["source"]
        rounds[language, part][source] += chosen["tokens"] * chosen["repeats"]
        taken[language, part, source] += chosen["tokens"]
    for (language, part), drawn in drawn_of(allocation, intervals_of(mix)).items():
        for source, tokens in _divided(drawn, rounds[language, part]).items():
            place = (language, part, source)
            rows[place] = replace(rows[place], drawn=tokens, selected=taken[place])


# Mixture


def mixture_of(rows: Sequence[LedgerRow], stage: int) -> list[MixtureRow]:
    """Shares of the stage by part, by category of the published chart, and by language."""
    known = published(stage)
    wanted = sum(row.wanted or 0 for row in rows)
    drawn = sum(row.drawn for row in rows)

    def share(kind: str, name: str, mine: Sequence[LedgerRow], chart: float | None) -> MixtureRow:
        return MixtureRow(
            kind,
            name,
            sum(row.wanted or 0 for row in mine) / wanted if wanted else None,
            sum(row.drawn for row in mine) / drawn if drawn else None,
            chart,
        )

    alone = {category.parts[0]: category.share for category in known.categories if len(category.parts) == 1}
    parts = sorted({row.part for row in rows})
    out = [share("part", part, [row for row in rows if row.part == part], alone.get(part)) for part in parts]
    out += [
        share("category", category.name, [row for row in rows if row.part in category.parts], category.share)
        for category in known.categories
    ]
    codes = sorted({row.language for row in rows if row.wanted or row.drawn} | known.languages.keys())
    out += [
        share("language", code, [row for row in rows if row.language == code], known.languages.get(code))
        for code in codes
    ]
    return out
