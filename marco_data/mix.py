"""Mixing: how many tokens of each part and language a stage takes, and which documents those are.

In: counts of available tokens by (language, part), the recipe's mixture and a budget; then documents' hashes
and token counts, in blocks. Out: an `Allocation`, and an `Interval` of hashes for each (language, part).
Pure arithmetic: knows no text, no file and no shard.

- A part's budget is its share of the stage's, by weight. What a part cannot fill is a shortfall, written
  down and never moved to another part.
- Inside a part, `languages` are shares of it: a closed list, normalised. With `languages: null` every
  language the part has takes part, by UniMax over its available tokens (arXiv 2304.09151): equal shares,
  those that have less than their share first, their surplus passed on.
- No language gives more than `available x max_epochs`. Where `spill: unimax`, what listed languages cannot
  fill goes, by the same rule, to the other listed languages of the part that have room.
- A document that counts for more than one (`rehydrate`) has its tokens counted so often, in what is available and in
  what is taken: `available`, targets and budgets are tokens that are seen.
- A document's place is `hash(id, family seed)`. A stage takes the documents from its start on while their
  tokens stay within the target, so weights and budgets only move an interval's end, and a stage that starts
  at the end of the one before shares no document with it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from marco_data.errors import RecipeError
from marco_data.languages import canonical

Key = tuple[str, str]  # (language, part)
HASH_END = 2**64
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


# The recipe's words


def parse_tokens(value: int | float | str) -> int:
    """A number of tokens as recipes write it: 500B, 1.5T, 10M, 250_000. Raises RecipeError."""
    text = str(value).strip().upper().replace("_", "")
    unit = text[-1:] if text[-1:] in _UNITS else ""
    try:
        number = Decimal(text.removesuffix(unit)) * _UNITS[unit]
    except InvalidOperation:
        number = Decimal("NaN")
    if isinstance(value, bool) or not number.is_finite() or number <= 0 or number != int(number):
        raise RecipeError(
            f"`{value}` is not a number of tokens",
            hint="write a whole number, or one with K, M, B or T (thousand to trillion): 500B, 1.5T, 10M",
        )
    return int(number)


def _canonical_keys(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    shares = {canonical(str(code)).code: share for code, share in value.items()}
    if len(shares) < len(value):
        raise ValueError("two of its codes name the same language")
    return shares


PositiveShare = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LanguageShares = Annotated[dict[str, PositiveShare], Field(min_length=1), BeforeValidator(_canonical_keys)]


class MixturePart(BaseModel):
    """One component of the mixture. `weight` and `languages` are shares of any scale; both are normalised.

    `sources` defaults to the part's own name. `max_epochs` says how often a document may be repeated at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: PositiveShare
    sources: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    languages: LanguageShares | None = None
    spill: Literal["unimax", "none"] = "unimax"
    max_epochs: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 4.0


def parts_by_source(mixture: Mapping[str, MixturePart]) -> dict[str, str]:
    """{source: part}. ValueError where a source is in two parts: each document is counted once."""
    owners: dict[str, str] = {}
    for name, part in mixture.items():
        for source in part.sources or (name,):
            if owners.setdefault(source, name) != name:
                raise ValueError(f"source `{source}` is in two parts, `{owners[source]}` and `{name}`")
    return owners


# Allocation


@dataclass(frozen=True)
class Share:
    """What one language of one part gets, in tokens: target = requested - shortfall + spilled.

    `shortfall` is what this language could not fill, `spilled` what it takes over from others of its part;
    `weight` is the target's share of all targets.
    """

    language: str
    part: str
    available: int
    requested: int
    target: int
    shortfall: int
    spilled: int
    weight: float

    @property
    def epochs(self) -> float:
        """How often its documents are seen: above 1 only where all of them are taken."""
        return max(1.0, self.target / self.available) if self.available else 1.0


@dataclass(frozen=True)
class PartTotal:
    """A part's sums, in tokens; `requested_weight` and `weight` are normalised, wanted and realised."""

    part: str
    requested_weight: float
    weight: float
    requested: int
    target: int
    shortfall: int


@dataclass(frozen=True)
class Allocation:
    """The whole stage: `shares` by part and language, `parts` by name. `budget` None: everything once."""

    budget: int | None
    shares: tuple[Share, ...]
    parts: tuple[PartTotal, ...]

    def by_key(self) -> dict[Key, Share]:
        return {(share.language, share.part): share for share in self.shares}


def allocate(
    available: Mapping[Key, int],
    mixture: Mapping[str, MixturePart],
    budget: int | None,
    *,
    languages: Collection[str] | None = None,
) -> Allocation:
    """Divide `budget` tokens over parts and their languages; without one, take every listed token once.

    `available` are the tokens that may be taken, from the stage's start on; its parts are parts of `mixture`.
    `languages`, where given, are the only ones this run builds: the shares of others are left out before they
    are normalised.
    """
    weights = {name: _exact(part.weight) for name, part in mixture.items()}
    pools: dict[str, dict[str, int]] = {name: {} for name in weights}
    for (language, part), tokens in available.items():
        if languages is None or language in languages:
            pools[part][language] = tokens
    budgets = None if budget is None else largest_remainder(budget, weights)
    drafts = []
    for name in sorted(weights):
        shares = _listed(mixture[name], pools[name], languages)
        wanted = None if budgets is None else budgets[name]
        drafts.append((name, wanted, _divide(name, mixture[name], shares, pools[name], wanted)))
    total = sum(share.target for _, _, shares in drafts for share in shares)
    return _finish(drafts, weights, budget, total)


def _listed(part: MixturePart, pool: Mapping[str, int], languages: Collection[str] | None) -> dict[str, Fraction]:
    if part.languages is None:
        return {language: Fraction(1) for language, tokens in pool.items() if tokens}
    wanted = part.languages.items()
    return {language: _exact(share) for language, share in wanted if languages is None or language in languages}


def _divide(
    name: str, part: MixturePart, shares: Mapping[str, Fraction], pool: Mapping[str, int], budget: int | None
) -> list[Share]:
    """The shares of one part, their weights still 0."""
    if budget is None:
        requested = taken = {language: pool.get(language, 0) for language in shares}
        spilled = dict.fromkeys(shares, 0)
    else:
        epochs = _exact(part.max_epochs)
        caps = {language: int(pool.get(language, 0) * epochs) for language in shares}
        requested = largest_remainder(budget, shares)
        taken = {language: min(requested[language], caps[language]) for language in shares}
        surplus = sum(requested.values()) - sum(taken.values())
        spills = part.languages is None or part.spill == "unimax"
        room = {language: caps[language] - taken[language] for language in shares}
        spilled = unimax(surplus if spills else 0, room)
    return [
        Share(
            language=language,
            part=name,
            available=pool.get(language, 0),
            requested=requested.get(language, 0),
            target=taken.get(language, 0) + spilled.get(language, 0),
            shortfall=requested.get(language, 0) - taken.get(language, 0),
            spilled=spilled.get(language, 0),
            weight=0.0,
        )
        for language in sorted({*shares, *pool})
    ]


def _finish(
    drafts: Sequence[tuple[str, int | None, list[Share]]],
    weights: Mapping[str, Fraction],
    budget: int | None,
    total: int,
) -> Allocation:
    parts = []
    finished: list[Share] = []
    for name, wanted, shares in drafts:
        target = sum(share.target for share in shares)
        requested = target if wanted is None else wanted
        parts.append(
            PartTotal(
                part=name,
                requested_weight=float(weights[name] / sum(weights.values())),
                weight=target / total if total else 0.0,
                requested=requested,
                target=target,
                shortfall=requested - target,
            )
        )
        finished += [replace(share, weight=share.target / total if total else 0.0) for share in shares]
    return Allocation(budget, tuple(finished), tuple(parts))


def _exact(number: float) -> Fraction:
    """The decimal fraction that was written, so that 62.5 + 14.3 + ... adds up as on paper."""
    return Fraction(repr(number))


def largest_remainder(total: int, weights: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole numbers in the proportion of `weights` that sum to `total` exactly; ties go to the first name."""
    if not weights:
        return {}
    whole = sum(weights.values())
    exact = {name: total * weight / whole for name, weight in weights.items()}
    floors = {name: int(value) for name, value in exact.items()}
    left = total - sum(floors.values())
    for name in sorted(exact, key=lambda n: (floors[n] - exact[n], n))[:left]:
        floors[name] += 1
    return floors


def unimax(budget: int, caps: Mapping[str, int]) -> dict[str, int]:
    """UniMax: equal shares of `budget`, none above its cap; what small ones leave passes on."""
    given: dict[str, int] = {}
    for waiting, name in zip(range(len(caps), 0, -1), sorted(caps, key=lambda n: (caps[n], n)), strict=True):
        given[name] = min(budget // waiting, caps[name])
        budget -= given[name]
    return given


# Selection


@dataclass(frozen=True)
class Interval:
    """The documents whose hash h has lo <= h < hi: `documents` of them, with `tokens` in all.

    A round over them sees `repeated` tokens more, where some documents count for more than one (`rehydrate`).
    `hi` is 2^64 where every document from `lo` on is taken, else the hash of the first one that is not.
    """

    lo: int
    hi: int
    documents: int
    tokens: int
    repeated: int = 0

    @property
    def seen(self) -> int:
        """The tokens of one round."""
        return self.tokens + self.repeated


def selection_hashes(ids: Iterable[str], family_seed: str) -> npt.NDArray[np.uint64]:
    """Each document's place in its family's order, shape [documents]: xxh3-64 of `<id>/<family seed>`."""
    tail = f"/{family_seed}"
    places = (xxhash.xxh3_64_intdigest((document + tail).encode()) for document in ids)
    return np.fromiter(places, dtype=np.uint64)


class IntervalFinder:
    """Finds the interval of one (language, part) in two passes over blocks of hashes and token counts.

    First pass: `add_block` for every block, in any order; finders of several workers are merged. Then `aim` at
    a target, and second pass: `Boundary.add_block`, which keeps only the documents of one bin in 65,536.
    Memory: 1 MB and that bin.
    """

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self._documents = np.zeros(1 << 16, dtype=np.int64)
        self._tokens = np.zeros(1 << 16, dtype=np.int64)

    def add_block(self, hashes: npt.NDArray[np.uint64], tokens: npt.NDArray[np.int64]) -> None:
        """Count documents, shape [documents] each; those before the start are not this stage's."""
        inside = _from(hashes, self.start)
        bins = (hashes[inside] >> np.uint64(48)).astype(np.int64)
        self._documents += np.bincount(bins, minlength=1 << 16)
        np.add.at(self._tokens, bins, tokens[inside])

    def merge(self, other: "IntervalFinder") -> None:
        assert self.start == other.start
        self._documents += other._documents
        self._tokens += other._tokens

    @property
    def documents(self) -> int:
        return int(self._documents.sum())

    @property
    def tokens(self) -> int:
        """The tokens available from the start on."""
        return int(self._tokens.sum())

    def aim(self, target: int) -> "Boundary":
        """Where the documents worth `target` tokens end, up to one bin."""
        totals = np.cumsum(self._tokens)
        if target >= totals[-1]:
            everything = {"documents": self.documents, "tokens": self.tokens}
            return Boundary(self.start, target, bin_lo=HASH_END, bin_hi=HASH_END, **everything)
        at = int(np.searchsorted(totals, target, side="right"))  # the first bin that does not fit whole
        return Boundary(
            self.start,
            target,
            bin_lo=at << 48,
            bin_hi=(at + 1) << 48,
            documents=int(self._documents[:at].sum()),
            tokens=int(totals[at] - self._tokens[at]),
        )


class Boundary:
    """The end of an interval, known to lie in [bin_lo, bin_hi): `documents` and `tokens` lie before.

    Where `settled`, everything is taken and no second pass is needed.
    """

    def __init__(self, start: int, target: int, *, bin_lo: int, bin_hi: int, documents: int, tokens: int) -> None:
        self.start = start
        self.target = target
        self.bin_lo = bin_lo
        self.bin_hi = bin_hi
        self.documents = documents
        self.tokens = tokens
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._sizes: list[npt.NDArray[np.int64]] = []

    @property
    def settled(self) -> bool:
        return self.bin_lo == HASH_END

    def add_block(self, hashes: npt.NDArray[np.uint64], tokens: npt.NDArray[np.int64]) -> None:
        """Keep what lies in the bin, shape [documents] each."""
        inside = _from(hashes, max(self.bin_lo, self.start)) & ~_from(hashes, self.bin_hi)
        self._hashes.append(hashes[inside])
        self._sizes.append(tokens[inside])

    def interval(self) -> Interval:
        """The interval; documents of one and the same hash are taken together or not at all."""
        if self.settled:
            return Interval(self.start, HASH_END, self.documents, self.tokens)
        hashes, at = np.unique(np.concatenate(self._hashes), return_inverse=True)
        sizes = np.zeros(len(hashes), dtype=np.int64)
        np.add.at(sizes, at, np.concatenate(self._sizes))
        totals = np.cumsum(sizes)
        fits = int(np.searchsorted(totals, self.target - self.tokens, side="right"))
        return Interval(
            self.start,
            int(hashes[fits]),
            self.documents + int((at < fits).sum()),
            self.tokens + int(sizes[:fits].sum()),
        )


def _from(hashes: npt.NDArray[np.uint64], start: int) -> npt.NDArray[np.bool_]:
    return np.zeros(len(hashes), dtype=bool) if start >= HASH_END else hashes >= np.uint64(start)


def select_interval(hashes: npt.NDArray[np.uint64], tokens: npt.NDArray[np.int64], start: int, target: int) -> Interval:
    """The interval of documents that are all in memory, shape [documents] each."""
    finder = IntervalFinder(start)
    finder.add_block(hashes, tokens)
    boundary = finder.aim(target)
    boundary.add_block(hashes, tokens)
    return boundary.interval()
