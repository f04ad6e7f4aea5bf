"""Estimates before spending: the calls are the maker's own, ranges hold what they promise, unknowns stay unknown."""

import json
import random
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from marco_data.generation.accounting import Price, RequestCount
from marco_data.generation.estimate import (
    CHATML,
    Range,
    Rate,
    Served,
    Work,
    add_ranges,
    estimate,
    measured_rate,
)
from marco_data.generation.estimate_table import estimates_object, estimates_table, short
from marco_data.generation.generator import Request, Sampling
from marco_data.generation.maker import Made, Maker, Seed
from marco_data.generation.validation import fit_problems, generator_problems, prompt_problems, schema_problem
from marco_data.languages import LANGUAGES
from marco_data.tokenizer import Tokenizer, train_tokenizer

KOREAN, THAI = LANGUAGES["kor_Hang"], LANGUAGES["tha_Thai"]


@dataclass(frozen=True)
class Example:
    values: dict[str, str]
    completion: str


@dataclass(frozen=True)
class Prompt:
    name: str
    system: str
    example: Example
    max_tokens: int = 200
    schema: str | None = None

    def request(self, values):
        messages = (("system", self.system), ("user", values["document"]))
        return Request(messages, Sampling(max_tokens=self.max_tokens), self.schema, prompt=self.name)


REWRITE = Prompt("rewrite@1", "Rewrite this.", Example({"document": "one two three four"}, "one two"))
SCORE = Prompt("score@1", "Score this.", Example({"document": "one two"}, '{"score": 3}'), max_tokens=8)


class Chunked(Maker):
    """Rewrites each line by a call of its own, then asks for a score of the whole."""

    name: ClassVar[str] = "rephrase"
    part: ClassVar[str] = "rephrase"
    reasons: ClassVar[frozenset[str]] = frozenset({"unparsable"})

    async def make(self, seed, language, ordinal, ask, attempt):
        parts = [(await ask(REWRITE.request({"document": line}))).text for line in seed.text.split("\n")]
        score = (await ask(SCORE.request({"document": "\n".join(parts)}))).text
        try:
            assert json.loads(score)["score"] > 2
        except ValueError:
            return Made(reason="unparsable", rejected_text=score)
        return Made("\n".join(parts))


class Scored(Chunked):
    prompt: Prompt

    async def make(self, seed, language, ordinal, ask, attempt):
        return Made((await ask(self.prompt.request({"document": seed.text}))).text)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """One token a word, or less for words it has not seen."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(["one two three four five six Rewrite Score this. " * 50], 600, path)
    return Tokenizer.load(path)


def seeds(*texts):
    return tuple(Seed(f"s{n}", text, "kor_Hang", "web") for n, text in enumerate(texts))


def work(*texts, requests=None, **more):
    size = sum(len(text.encode()) for text in texts)
    n = len(texts) if requests is None else requests
    served = Served("tiny@0123abcd", 4096)
    made = Work("rephrase", Chunked(), KOREAN, served, seeds(*texts), n, size * n // max(1, len(texts)))
    return replace(made, **more)


def one(tokenizer, what, measured=()):
    (answer,) = estimate([what], tokenizer, [REWRITE, SCORE], measured)
    return answer


def tokens(tokenizer, text):
    return len(tokenizer.encode_batch([text])[0]) - 1


def test_calls_and_prompt_tokens_are_those_the_maker_makes(tokenizer):
    found = one(tokenizer, work("one two\nthree four five", "six"))
    asked = [("Rewrite this.", part) for part in ("one two", "three four five", "six")]
    asked += [("Score this.", "one two\none two"), ("Score this.", "one two")]
    counted = sum(tokens(tokenizer, a) + tokens(tokenizer, b) for a, b in asked)
    assert found.calls == Range(5.0)
    assert found.tokens_in == Range(float(counted + len(asked) * (2 * CHATML[0] + CHATML[1])))
    assert found.outcomes == {"accepted": 2}
    assert found.most_tokens_out == Range(3 * 200.0 + 2 * 8)


def test_calls_that_the_documents_of_a_seed_share_are_counted_once(tokenizer):
    what = work("one two\nthree", "four", requests=4, documents=2)  # both documents of a seed ask the same here
    found = one(tokenizer, what)
    assert found.calls == Range(3 + 2.0)
    assert found.outcomes == {"accepted": 4}
    assert found.tokens_in == one(tokenizer, work("one two\nthree", "four")).tokens_in


def test_answers_grow_with_what_is_filled_in_as_the_worked_example_does_until_max_tokens(tokenizer):
    short, long = (one(tokenizer, work(" ".join(["one"] * words))) for words in (40, 4000))
    assert 20 <= short.tokens_out.expected <= 20 + 8  # half of what is filled in, and a score
    assert 200 < long.tokens_out.expected <= 200 + 8


def test_answers_in_json_may_be_as_short_as_the_example_or_grow_with_the_document(tokenizer):
    json_score = replace(SCORE, schema="{}", max_tokens=5000)
    whole = work(" ".join(["one"] * 400), maker=Scored(prompt=json_score))
    (found,) = estimate([whole], tokenizer, [json_score])
    example = tokens(tokenizer, json_score.example.completion)
    assert found.tokens_out.low == example
    assert found.tokens_out.high == example * 400 / 2
    assert found.most_tokens_out.expected == 5000
    (limited,) = estimate(
        [replace(whole, maker=Scored(prompt=replace(json_score, max_tokens=100)))], tokenizer, [SCORE]
    )
    assert limited.tokens_out.high == 100


def test_what_is_left_out_of_a_sample_widens_the_range_and_a_whole_sample_has_none(tokenizer):
    texts = [" ".join(["two"] * n) for n in (3, 9, 5, 14, 7)]
    whole, part = one(tokenizer, work(*texts)), one(tokenizer, work(*texts, requests=1000))
    assert whole.tokens_in.spread == 0
    assert part.tokens_in.spread > 0
    assert part.tokens_in.expected == pytest.approx(200 * whole.tokens_in.expected)
    single = one(tokenizer, work(texts[0], requests=1000))
    assert (single.tokens_in.low, single.tokens_in.high) == (None, None)


def test_ranges_hold_the_real_figure_as_often_as_they_say(tokenizer):
    dice = random.Random(4)
    texts = [
        "\n".join(" ".join(["three"] * int(1 + dice.lognormvariate(2, 0.8))) for _ in range(dice.randint(1, 4)))
        for _ in range(600)
    ]
    size = sum(len(text.encode()) for text in texts)
    real = one(tokenizer, work(*texts)).tokens_in.expected
    held, off, off_by_mean = 0, 0.0, 0.0
    for _ in range(200):
        sample = dice.sample(texts, 20)
        found = one(tokenizer, work(*sample, requests=600, bytes=size)).tokens_in
        held += found.low <= real <= found.high
        off += abs(found.expected - real)
        off_by_mean += abs(one(tokenizer, work(*sample, requests=600)).tokens_in.expected - real)
    assert 160 <= held <= 195
    assert off < 0.75 * off_by_mean  # the bytes of all seeds make up for those of the sample


def test_ranges_close_as_the_sample_nears_the_whole_and_open_as_it_is_unlike_it(tokenizer):
    dice = random.Random(7)
    texts = ["\n".join([" ".join(["two"] * dice.randint(1, 40)) for _ in range(dice.randint(1, 3))]) for _ in range(20)]
    size = sum(len(text.encode()) for text in texts) // 20
    nearly = one(tokenizer, work(*texts, requests=22, bytes=22 * size)).tokens_in.spread / 22
    few = one(tokenizer, work(*texts, requests=1000, bytes=1000 * size)).tokens_in.spread / 1000
    unlike = one(tokenizer, work(*texts, requests=1000, bytes=3000 * size)).tokens_in.spread / 1000
    assert nearly < few / 2
    assert unlike > 2 * few


def row(**more):
    fields = {"maker": "rephrase", "language": "kor_Hang", "prompt": "rewrite@1+score@1", "model": "tiny@0123abcd"}
    return RequestCount(**{**fields, **more})


PAID = row(requested=10, accepted=5, accepted_tokens=50, calls=40, tokens_in=1000, tokens_out=300, gpu_seconds=3.0)


@pytest.mark.parametrize(
    ("paid", "ratio", "calls"),
    [
        (PAID, 0.3, 4.0),
        (replace(PAID, language="tha_Thai"), 0.3, 3.0),  # another language's tokens, this one's calls
        (replace(PAID, rejected={"not_recorded": 5}), 0.3, 3.0),  # calls of what was never asked are no measure
    ],
)
def test_what_was_paid_before_is_believed_more_than_worked_examples(tokenizer, paid, ratio, calls):
    found = one(tokenizer, work("one two three four five six\none", requests=100), [paid])
    assert found.calls.expected == pytest.approx(calls * 100)
    assert found.tokens_out.expected == pytest.approx(ratio * found.tokens_in.expected)
    assert any("paid before" in sentence for sentence in found.measured_on)


def test_what_was_paid_before_counts_calls_of_a_document_and_not_of_a_seed(tokenizer):
    found = one(tokenizer, work("one two\nthree", requests=100, documents=2), [PAID])
    assert found.calls.expected == pytest.approx(4.0 * 100)


@pytest.mark.parametrize("other", [{"maker": "qa"}, {"model": "tiny@99999999"}, {"prompt": "rewrite@2"}])
def test_what_another_maker_model_or_prompt_wrote_says_nothing(tokenizer, other):
    what = work("one two three")
    assert one(tokenizer, what, [replace(PAID, **other)]) == one(tokenizer, what)


def test_a_target_takes_as_many_requests_as_were_needed_before_and_no_more_than_there_are(tokenizer):
    for target, requests in ((500, 100), (10**9, 5000)):
        found = one(tokenizer, work("one two three", requests=5000, target=target), [PAID])
        assert (found.requests, found.candidates) == (requests, 5000)
    unknown = one(tokenizer, work("one two three four", requests=5000, target=500))
    assert unknown.requests < 500
    assert any("least" in sentence for sentence in unknown.measured_on)


def test_hours_and_cost_follow_the_rate_and_the_price_or_are_unknown(tokenizer):
    unknown = one(tokenizer, work("one two"))
    assert (unknown.gpu_hours, unknown.cost) == (None, None)
    rate = Rate(100.0, 2.0, "stated")
    served = Served("tiny@0123abcd", 4096, Price(gpu_hour=3.0), rate)
    known = one(tokenizer, work("one two", requests=1000, served=served))
    assert known.gpu_hours.expected == pytest.approx(known.tokens_out.expected / 100 * 2 / 3600)
    assert known.cost.expected == pytest.approx(3 * known.gpu_hours.expected)
    by_token = Served("tiny@0123abcd", 4096, Price(input=1.0, output=4.0))
    paid = one(tokenizer, work("one two", "one two three", requests=1000, served=by_token))
    for cost, tokens_in, tokens_out in (
        (paid.cost.expected, paid.tokens_in.expected, paid.tokens_out.expected),
        (paid.cost.high, paid.tokens_in.high, paid.tokens_out.high),
    ):
        assert cost == pytest.approx((tokens_in + 4 * tokens_out) / 1e6)


def test_a_measured_rate_is_of_the_same_model_and_rather_of_the_same_maker_and_of_what_was_timed():
    other, slow = replace(PAID, model="another@1", gpu_seconds=99.0), replace(PAID, maker="qa", gpu_seconds=30.0)
    untimed = replace(PAID, gpu_seconds=0.0)
    rows = [PAID, other, slow, untimed]
    assert measured_rate(rows, "tiny@0123abcd", "rephrase").tokens_per_second == 100.0
    assert measured_rate(rows, "tiny@0123abcd", "qa").tokens_per_second == 10.0
    assert measured_rate(rows, "tiny@0123abcd", "mcq").tokens_per_second == 600 / 33
    assert measured_rate([untimed], "tiny@0123abcd", "rephrase") is None


def test_a_prompt_without_an_example_is_estimated_at_its_most_and_says_so(tokenizer):
    (found,) = estimate([work("one two")], tokenizer, [SCORE])
    assert found.tokens_out.expected >= 200
    assert any("no worked example of rewrite@1" in sentence for sentence in found.measured_on)


class Declared(Chunked):
    def later_calls(self):
        return {"score@1": 2}


def test_calls_that_were_made_are_not_added_once_more(tokenizer):
    assert one(tokenizer, work("one", maker=Declared())).calls == Range(1 + 2.0)


class Strict(Chunked):
    """Asks for scores only after the rewriting has passed, which the example's never does."""

    def later_calls(self):
        return {"score@1": 3}

    async def make(self, seed, language, ordinal, ask, attempt):
        await ask(REWRITE.request({"document": seed.text}))
        return Made(reason="wrong_language")


def test_calls_that_follow_an_accepted_answer_are_counted_though_no_example_is_accepted(tokenizer):
    short, long = (one(tokenizer, work("one" + " two" * words, maker=Strict())) for words in (5, 50))
    assert short.calls == long.calls == Range(1 + 3.0)
    assert long.tokens_in.expected - short.tokens_in.expected == 4 * 45  # all four hold the document
    assert short.outcomes == {"wrong_language": 1}
    assert "every document asks all of score@1 (3 times)" in short.measured_on
    (without,) = estimate([work("one", maker=Strict())], tokenizer, [REWRITE])
    assert without.calls == Range(1.0)
    assert any("no worked example of score@1" in sentence for sentence in without.measured_on)


class Fragile(Chunked):
    async def make(self, seed, language, ordinal, ask, attempt):
        raise ZeroDivisionError


def test_a_maker_that_raises_is_counted_and_not_the_end_of_the_plan(tokenizer):
    found = one(tokenizer, work("one", "two", maker=Fragile()))
    assert found.outcomes == {"raised ZeroDivisionError": 2}
    assert found.calls.expected == 0


def test_the_worst_prompt_that_does_not_fit_is_named(tokenizer):
    long = " ".join(["one"] * 500)
    served = Served("tiny@0123abcd", 512)
    some = one(tokenizer, work("one", long, served=served))
    (problem,) = fit_problems([some])
    assert not problem.fatal
    assert "1 of 4 sampled prompts" in problem.message
    assert "`rewrite@1` on s1" in problem.message
    assert fit_problems([one(tokenizer, work("one", "two", served=served))]) == []
    (problem,) = fit_problems([one(tokenizer, work("one", served=Served("tiny", 201)))])  # 200 are the answer's
    assert not problem.fatal
    (problem,) = fit_problems([one(tokenizer, work("one", served=Served("tiny", 10)))])
    assert problem.fatal


GOOD = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 5}, "of": {"$ref": "#/$defs/of"}},
    "required": ["score"],
    "additionalProperties": False,
    "$defs": {"of": {"type": ["string", "null"], "enum": ["a", None]}},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"properties": {"required": {"type": "string"}}, "required": []}, None),  # a property of that name
        ({"type": "objekt"}, "at `/type`: `objekt` is no type"),
        ({"propertis": {}}, "at `/propertis`"),
        ({"required": ["scores"]}, "`scores` is not one of the properties"),
        ({"required": "score"}, "at `/required`: a list of names"),
        ({"$defs": {}}, "`#/$defs/of` is nothing in this schema"),
        ({"anyOf": []}, "at `/anyOf`"),
        ({"items": [1]}, "at `/items`"),
        ({"enum": []}, "at `/enum`"),
        ({"minItems": 3, "maxItems": 2}, "`minItems` is more than `maxItems`"),
        ({"minLength": -1}, "at `/minLength`"),
        ({"maximum": "5"}, "at `/maximum`: a number"),
        ({"pattern": "("}, "at `/pattern`: no regular expression"),
    ],
)
def test_what_is_wrong_with_a_schema_is_said_with_its_place(change, told):
    problem = schema_problem(json.dumps({**GOOD, **change}))
    assert problem is None if told is None else told in problem


def test_a_prompt_whose_schema_is_broken_stops_the_run():
    broken = replace(SCORE, schema='{"type": "number"')
    good = replace(SCORE, schema=json.dumps(GOOD))
    (problem,) = prompt_problems([REWRITE, good, broken])
    assert problem.fatal
    assert "`score@1` is not JSON" in problem.message


def test_a_generator_that_nothing_answers_for_is_found(tmp_path):
    (problem,) = generator_problems("qwen", "Qwen/Qwen3-4B", pool=False, recorded=False)
    assert not problem.fatal
    for pool, recorded in ((True, False), (False, True)):
        assert generator_problems("qwen", "Qwen/Qwen3-4B", pool=pool, recorded=recorded) == []
    (problem,) = generator_problems("mine", f"{tmp_path}/none", pool=True, recorded=False)
    assert "does not exist" in problem.message
    (problem,) = generator_problems("mine", str(tmp_path), pool=True, recorded=False)
    assert "no config.json" in problem.message
    (tmp_path / "config.json").write_text("{}")
    assert generator_problems("mine", str(tmp_path), pool=True, recorded=False) == []


def test_a_sum_is_as_unsure_as_all_its_parts_together():
    assert add_ranges([Range(10.0, 3.0), Range(20.0, 4.0)]) == Range(30.0, 7.0)
    assert add_ranges([Range(10.0, 3.0), Range(20.0, None)]) == Range(30.0, None)


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999.4, "999"), (999.6, "1K"), (1234, "1.23K"), (56_700_000, "56.7M"), (2.5e9, "2.5B"), (1e13, "10T")],
)
def test_numbers_are_shown_with_three_digits_and_a_unit(number, shown):
    assert short(number) == shown


def test_the_table_and_the_object_say_the_same(tokenizer):
    what = work("one two", "three four five", requests=100_000)
    both = estimate([what, replace(what, language=THAI)], tokenizer, [REWRITE, SCORE])
    shown = estimates_object(both)
    assert json.loads(json.dumps(shown)) == shown
    sums = shown["makers"]["rephrase"]
    assert sums["requests"] == 200_000
    assert sums["calls"] == {"expected": 400_000.0, "low": 400_000.0, "high": 400_000.0}
    assert sums["tokens_in"]["expected"] == sum(r["tokens_in"]["expected"] for r in shown["estimates"])
    header, lines, notes = estimates_table(both)
    cells = [dict(zip(header, line, strict=True)) for line in lines]
    assert [(c["entry"], c["language"], c["calls"]) for c in cells] == [
        ("rephrase", "kor_Hang", "200K"),
        ("rephrase", "tha_Thai", "200K"),
        ("rephrase", "all", "400K"),
    ]
    assert cells[0]["cost $"] == ""
    assert "2 of 100,000 seeds" in notes
