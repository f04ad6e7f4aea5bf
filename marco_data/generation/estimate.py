"""What generation will take before any of it is paid for: calls, tokens, GPU-hours, money and disk, by language.

In: for each maker and language a sample of its seeds and how many there are; prompts; a tokenizer; what was measured
before, if anything; rates and prices. Out: `Estimate`s with ranges that say what they were measured on. The makers
themselves say which calls they make: each is run on the sampled seeds, answered by the worked examples of its prompts.
Opens no generator and no file.

What is counted and what is not: the tokenizer is the one the model will be trained with, which stands in for the
model's own. Input tokens are those of the messages and a ChatML template's. Output tokens are those of completions of
this maker that were paid for before; where there are none, each call is taken to write as much for a token that is
filled into its prompt as the prompt's worked example does, `max_tokens` at most. A range is that of a sample, meant to
hold the figure of all seeds for nine samples of ten (a test draws 20 of 600 seeds 200 times: 181 held it). It knows
nothing of a tokenizer or an example that mislead.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from marco_data.generation.accounting import HOUR, Price, RequestCount
from marco_data.generation.generator import STOP, Completion, Request
from marco_data.generation.maker import Maker, Seed
from marco_data.languages import Language
from marco_data.tokenizer import Tokenizer

Z = 1.645  # standard errors to each side that hold 90 %
LEAST_FOR_SLOPE = 8  # sampled seeds; through fewer, a line is drawn by chance
CHATML = (5, 3)  # tokens of a ChatML template for each message, and for the beginning of the answer


class WorkedExample(Protocol):
    @property
    def values(self) -> Mapping[str, str]: ...
    @property
    def completion(self) -> str: ...


class ExemplaryPrompt(Protocol):
    """What is needed of a prompt: its name, and a worked example of its answer."""

    @property
    def name(self) -> str: ...
    @property
    def example(self) -> WorkedExample: ...
    def request(self, values: Mapping[str, str]) -> Request: ...


@dataclass(frozen=True)
class Rate:
    """Output tokens a second of one replica on `gpus` GPUs, and where that is known from.

    Reading prompts is in it as it was where it was measured; with longer prompts for shorter answers it is too high.
    """

    tokens_per_second: float
    gpus: float
    source: str

    def gpu_seconds(self, tokens_out: float) -> float:
        return tokens_out / self.tokens_per_second * self.gpus


@dataclass(frozen=True)
class Served:
    """A model and how it is reached; `name` as in `RequestCount.model`, `context` in tokens."""

    name: str
    context: int
    price: Price = field(default_factory=Price)
    rate: Rate | None = None


@dataclass(frozen=True)
class Work:
    """What one entry of the recipe wants in one language.

    `requests` are the wanted documents that there are seeds for, `bytes` the text of those seeds, counted once for each
    of them; `target` is in accepted tokens, None for all. `seeds` is a random sample, all of them where that is few.
    """

    entry: str
    maker: Maker
    language: Language
    served: Served
    seeds: tuple[Seed, ...]
    requests: int
    bytes: int
    target: int | None = None
    documents: int = 1  # wanted of each seed


@dataclass(frozen=True)
class Range:
    """A figure, and how far to each side of it the real one may be; a sample of one cannot say (`spread` None)."""

    expected: float
    spread: float | None = 0.0

    @property
    def low(self) -> float | None:
        return None if self.spread is None else max(0.0, self.expected - self.spread)

    @property
    def high(self) -> float | None:
        return None if self.spread is None else self.expected + self.spread

    def times(self, factor: float) -> "Range":
        return Range(self.expected * factor, None if self.spread is None else self.spread * factor)

    def to_json(self) -> dict[str, float | None]:
        return {"expected": self.expected, "low": self.low, "high": self.high}


def add_ranges(ranges: Iterable[Range]) -> Range:
    """The sum, with the spreads added: an example that misleads does so in all languages, to the same side."""
    terms = list(ranges)
    spreads = [term.spread for term in terms]
    known = [spread for spread in spreads if spread is not None]
    return Range(math.fsum(term.expected for term in terms), math.fsum(known) if len(known) == len(spreads) else None)


@dataclass(frozen=True)
class Longest:
    """The sampled call that needs most of the context, and how much: prompt and `max_tokens`."""

    prompt: str
    seed: str
    tokens_in: int
    max_tokens: int


@dataclass(frozen=True)
class Estimate:
    """What one entry will take in one language.

    `most_tokens_out` is what would be written if each call wrote its `max_tokens`. `completion_bytes` are those of the
    completions' text, before they are compressed. `gpu_hours` and `cost` are None where no rate or price is known.
    `outcomes` are what the makers said of the worked examples' answers, mostly in another language than was asked.
    `measured_on` are sentences.
    """

    entry: str
    maker: str
    language: str
    model: str
    context: int
    candidates: int
    requests: int
    sampled: int
    calls: Range
    tokens_in: Range
    tokens_out: Range
    most_tokens_out: Range
    completion_bytes: Range
    gpu_hours: Range | None
    cost: Range | None
    sampled_calls: int
    too_long: int
    longest: Longest | None
    outcomes: Mapping[str, int]
    measured_on: tuple[str, ...]


def estimate(
    works: Sequence[Work],
    tokenizer: Tokenizer,
    prompts: Iterable[ExemplaryPrompt],
    measured: Iterable[RequestCount] = (),
) -> list[Estimate]:
    """An estimate for each work, in order. `measured` are rows of the books of earlier runs, of any maker and model."""
    known = {prompt.name: prompt for prompt in prompts}
    trials = asyncio.run(_try_all(works, known))
    tokens = _Tokens(tokenizer, [request for of_one in trials for trial in of_one for request in trial.requests], known)
    rows = list(measured)
    return [_estimate(work, of_one, tokens, rows) for work, of_one in zip(works, trials, strict=True)]


@dataclass
class _Trial:
    """The calls that a maker made for all documents of one seed, equal ones once, and what it said of the answers."""

    seed: Seed
    requests: list[Request]
    outcomes: list[str]


async def _try_all(works: Sequence[Work], prompts: Mapping[str, ExemplaryPrompt]) -> list[list[_Trial]]:
    return [[await _try(work, seed, prompts) for seed in work.seeds] for work in works]


async def _try(work: Work, seed: Seed, prompts: Mapping[str, ExemplaryPrompt]) -> _Trial:
    requests: dict[Request, None] = {}
    outcomes = []

    async def ask(request: Request) -> Completion:
        requests[request] = None
        prompt = prompts.get(request.prompt)
        return Completion(prompt.example.completion if prompt else "", STOP)

    for ordinal in range(work.documents):
        try:
            made = await work.maker.make(seed, work.language, ordinal, ask, 0)
            outcomes.append(made.reason or "accepted")
        except Exception as error:  # a maker that raises loses this document in a run, too; here it is counted
            outcomes.append(f"raised {type(error).__name__}")
    return _Trial(seed, [*requests, *_later(work, seed, requests, prompts)], outcomes)


def _later(
    work: Work, seed: Seed, made: Iterable[Request], prompts: Mapping[str, ExemplaryPrompt]
) -> Iterator[Request]:
    """The calls that were not made because an example's answer was rejected, like theirs but with this document.

    An example is in one language, and guards see that: without these a chain of calls would end at its first.
    """
    done = Counter(request.prompt for request in made)
    for name, number in work.maker.later_calls().items():
        if name in prompts:
            values = prompts[name].example.values
            filled = {**values, "document": seed.text} if "document" in values else values
            yield from [prompts[name].request(filled)] * (number * work.documents - done[name])


class _Tokens:
    """Tokens of all calls: counted for the prompts, and foretold for the answers by the worked examples."""

    def __init__(
        self, tokenizer: Tokenizer, requests: Sequence[Request], prompts: Mapping[str, ExemplaryPrompt]
    ) -> None:
        self.tokenizer = tokenizer
        filled = {name: prompt.request(prompt.example.values) for name, prompt in prompts.items()}
        blank = {name: prompt.request(dict.fromkeys(prompt.example.values, "")) for name, prompt in prompts.items()}
        every = (*requests, *filled.values(), *blank.values())
        texts = {content for request in every for _, content in request.messages}
        texts |= {prompt.example.completion for prompt in prompts.values()}
        self.counts = self.count(sorted(texts))
        self.answers = {name: self.counts[prompt.example.completion] for name, prompt in prompts.items()}
        self.blank = {name: self.tokens_in(request) for name, request in blank.items()}
        self.filled = {name: self.tokens_in(request) - self.blank[name] for name, request in filled.items()}

    def count(self, texts: Sequence[str]) -> dict[str, int]:
        """Tokens of each text, without the one that ends a document."""
        _, offsets = self.tokenizer.encode_flat(texts)
        return dict(zip(texts, (np.diff(offsets) - 1).tolist(), strict=True))

    def tokens_in(self, request: Request) -> int:
        message, beginning = CHATML
        return sum(self.counts[content] + message for _, content in request.messages) + beginning

    def tokens_out(self, request: Request, ratio: float | None) -> tuple[float, float]:
        """The least and the most that is foretold for an answer, by a measured ratio of output to input or the example.

        Text is as long for what is filled into the prompt as the example's is; the prompt itself is left out, since it
        is long and examples' documents are short. Of JSON nobody knows: a score stays as short as the example's, a list
        of questions grows with the document. Without a ratio and an example it is the most there can be.
        """
        most, name = float(request.sampling.max_tokens), request.prompt
        if ratio is not None:
            low = high = ratio * self.tokens_in(request)
        elif name not in self.answers:
            low = high = most
        else:
            filled = max(0, self.tokens_in(request) - self.blank[name])
            high = self.answers[name] * (filled / self.filled[name] if self.filled[name] else 1.0)
            low = high if request.schema is None else self.answers[name]
        return min(low, high, most), min(max(low, high), most)


@dataclass(frozen=True)
class _Past:
    """What earlier runs say of one work; None where they say nothing."""

    ratio: float | None = None  # tokens out for one in
    calls: float | None = None  # of a request
    accepted: float | None = None  # tokens of a request
    sentences: tuple[str, ...] = ()


def _past(work: Work, used: frozenset[str], rows: Sequence[RequestCount]) -> _Past:
    """Rows of this maker, model and prompts; of this language if there are any, else of the others."""
    alike = [
        row
        for row in rows
        if (row.maker, row.model) == (work.maker.name, work.served.name) and _named(row.prompt) <= used
    ]
    own = [row for row in alike if row.language == work.language.code]
    chosen = own if sum(row.tokens_in for row in own) else alike
    tokens_in, tokens_out = sum(row.tokens_in for row in chosen), sum(row.tokens_out for row in chosen)
    if not tokens_in:
        return _Past()
    of_what = "this language" if chosen is own else "other languages"
    past = _Past(
        ratio=tokens_out / tokens_in,
        sentences=(f"output by the ratio of {tokens_out:,} tokens out to {tokens_in:,} in of {of_what}, paid before",),
    )
    requested = sum(row.requested for row in own)
    if chosen is own and requested and all(row.generated == row.requested for row in own):
        calls, accepted = sum(row.calls for row in own), sum(row.accepted_tokens for row in own)
        said = f"calls and accepted tokens of a request by {requested:,} requests of this language, made before"
        past = replace(past, calls=calls / requested, accepted=accepted / requested, sentences=(*past.sentences, said))
    return past


def _named(prompt: str) -> set[str]:
    """The prompts of a row; none where its documents were rejected unasked."""
    return set(prompt.split("+")) - {""}


def _estimate(work: Work, trials: Sequence[_Trial], tokens: _Tokens, rows: Sequence[RequestCount]) -> Estimate:
    calls = [request for trial in trials for request in trial.requests]
    past = _past(work, frozenset(request.prompt for request in calls), rows)
    factor = past.calls * work.documents / (len(calls) / len(trials)) if past.calls and calls else 1.0
    figures = np.array([_figures(trial, tokens, past) for trial in trials], np.float64).reshape(len(trials), 5)
    figures /= work.documents
    sizes = np.array([len(trial.seed.text.encode()) for trial in trials], dtype=np.float64)
    calls_of_one, in_of_one, *out_of_one, most_of_one = (_average(figures[:, n], sizes, work) for n in range(5))
    average = (calls_of_one, in_of_one, _between(*out_of_one), most_of_one)
    requests, assumed = _needed(work, past, average[2].expected * factor)
    one_call, tokens_in, tokens_out, most = (figure.times(factor * requests) for figure in average)
    rate, price = work.served.rate, work.served.price
    gpu_seconds = None if rate is None else tokens_out.times(rate.gpu_seconds(1.0))
    return Estimate(
        entry=work.entry,
        maker=work.maker.name,
        language=work.language.code,
        model=work.served.name,
        context=work.served.context,
        candidates=work.requests,
        requests=requests,
        sampled=len(trials),
        calls=one_call,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        most_tokens_out=most,
        completion_bytes=tokens_out.times(_bytes_a_token(trials, tokens)),
        gpu_hours=None if gpu_seconds is None else gpu_seconds.times(1 / HOUR),
        cost=_cost(price, tokens_in, tokens_out, gpu_seconds),
        sampled_calls=len(calls),
        too_long=sum(tokens.tokens_in(r) + r.sampling.max_tokens > work.served.context for r in calls),
        longest=_longest(trials, tokens),
        outcomes=dict(sorted(Counter(outcome for trial in trials for outcome in trial.outcomes).items())),
        measured_on=(*_grounds(work, trials, tokens, past), *assumed),
    )


def _figures(trial: _Trial, tokens: _Tokens, past: _Past) -> tuple[float, ...]:
    """Of one seed's calls: their number, tokens in, tokens out from and to, and the most that could be written."""
    out = [tokens.tokens_out(request, past.ratio) for request in trial.requests]
    return (
        len(trial.requests),
        sum(tokens.tokens_in(request) for request in trial.requests),
        math.fsum(low for low, _ in out),
        math.fsum(high for _, high in out),
        sum(request.sampling.max_tokens for request in trial.requests),
    )


def _needed(work: Work, past: _Past, written: float) -> tuple[int, tuple[str, ...]]:
    """How many documents are asked for, and on what assumption. `written`: output tokens of a request."""
    if work.target is None:
        return work.requests, ()
    tokens = written if past.accepted is None else past.accepted
    needed = min(work.requests, math.ceil(work.target / tokens)) if tokens else work.requests
    if past.accepted is not None:
        return needed, ()
    return needed, ("requests as if everything written were accepted: the least that the target can take",)


def _average(figures: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], work: Work) -> Range:
    """Of one wanted document, over all candidates: the sample's, corrected for the size of its seeds.

    Tokens nearly follow a seed's bytes, and the bytes of all seeds are known: a line through the sample forgives it
    that its seeds are longer or shorter than most.
    """
    n, seeds = len(figures), work.requests // work.documents
    if n == 0:
        assert not work.requests, "a sample has at least one of the seeds there are"
        return Range(0.0)
    mean = float(figures.mean())
    if n >= seeds:
        return Range(mean)
    if n == 1:
        return Range(mean, None)
    unseen = 1 - n / seeds
    deviations = sizes - sizes.mean()
    squares = float(deviations @ deviations)
    if n < LEAST_FOR_SLOPE or squares == 0:
        return Range(mean, _quantile(n - 1) * float(figures.std(ddof=1)) * math.sqrt(unseen / n))
    slope = float(deviations @ figures) / squares
    off = work.bytes / work.requests - float(sizes.mean())
    left = figures - mean - slope * deviations
    # Each seed's own error, weighed by what the estimate owes to it: long documents vary more, and pull more.
    owed = 1 / n + off * deviations / squares
    pull = 1 / n + deviations * deviations / squares
    error = math.sqrt(unseen * float(np.sum(np.square(owed * left / np.maximum(1 - pull, 1 / n)))))
    return Range(max(0.0, mean + slope * off), _quantile(n - 2) * error)


def _between(low: Range, high: Range) -> Range:
    """From the low end of one to the high end of the other."""
    if low.spread is None or high.spread is None:
        return Range((low.expected + high.expected) / 2, None)
    least, most = low.expected - low.spread, high.expected + high.spread
    return Range((least + most) / 2, (most - least) / 2)


def _quantile(freedom: int) -> float:
    """Student's t for 90 %, to the first order in 1/freedom."""
    return Z + (Z**3 + Z) / (4 * freedom)


def _bytes_a_token(trials: Sequence[_Trial], tokens: _Tokens) -> float:
    counts = tokens.count(sorted({trial.seed.text for trial in trials}))
    return sum(len(text.encode()) for text in counts) / max(1, sum(counts.values()))


def _cost(price: Price, tokens_in: Range, tokens_out: Range, gpu_seconds: Range | None) -> Range | None:
    seconds = gpu_seconds or Range(0.0)
    expected = price.cost(tokens_in=tokens_in.expected, tokens_out=tokens_out.expected, gpu_seconds=seconds.expected)
    if expected is None:
        return None
    if tokens_in.spread is None or tokens_out.spread is None or seconds.spread is None:
        return Range(expected, None)
    # Of one sample, so that all are off to the same side: their spreads add.
    spread = price.cost(tokens_in=tokens_in.spread, tokens_out=tokens_out.spread, gpu_seconds=seconds.spread)
    return Range(expected, spread)


def _longest(trials: Sequence[_Trial], tokens: _Tokens) -> Longest | None:
    calls = [
        Longest(request.prompt, trial.seed.id, tokens.tokens_in(request), request.sampling.max_tokens)
        for trial in trials
        for request in trial.requests
    ]
    return max(calls, key=lambda call: (call.tokens_in + call.max_tokens, call.seed), default=None)


def _grounds(work: Work, trials: Sequence[_Trial], tokens: _Tokens, past: _Past) -> tuple[str, ...]:
    """What an estimate was measured on, in sentences."""
    said = [
        f"{len(trials):,} of {work.requests // work.documents:,} seeds",
        f"the training tokenizer ({tokens.tokenizer.digest[:8]}) in place of the model's",
    ]
    later = work.maker.later_calls()
    strange = sorted({*later, *(r.prompt for trial in trials for r in trial.requests)} - tokens.answers.keys())
    if past.ratio is None:
        said.append("output by the worked examples' ratio of answer to what is filled in, JSON from their length on")
        if strange:
            said.append(f"no worked example of {', '.join(strange)}: `max_tokens`, and no call that follows it")
    if later and past.calls is None:
        said.append(f"every document asks all of {', '.join(f'{name} ({n} times)' for name, n in later.items())}")
    said += past.sentences
    if work.served.rate is not None:
        said.append(
            f"{work.served.rate.tokens_per_second:,.0f} output tokens/s of a replica, {work.served.rate.source}"
        )
    return tuple(said)


def measured_rate(rows: Iterable[RequestCount], model: str, maker: str) -> Rate | None:
    """The rate of one GPU in earlier runs of a model, by this maker if it was timed; None where no engine was."""
    timed = [row for row in rows if row.model == model and row.gpu_seconds and row.tokens_out]
    timed = [row for row in timed if row.maker == maker] or timed
    if not timed:
        return None
    seconds, tokens = math.fsum(row.gpu_seconds for row in timed), sum(row.tokens_out for row in timed)
    whose = maker if timed[0].maker == maker else "other makers"
    return Rate(tokens / seconds, 1.0, f"measured over {tokens:,} tokens of {whose} in {seconds / HOUR:,.2f} GPU-hours")
