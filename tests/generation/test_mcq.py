"""A cultural document becomes a question with one right option, wherever that option stands, or a reason."""

import asyncio
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regional_items import ITEMS

from marco_data.generation.generator import ERROR, LENGTH, STOP, Completion
from marco_data.generation.maker import Made, Seed
from marco_data.generation.mcq import Leaves, Mcq, Score, Solved, Written, parse
from marco_data.generation.mcq_items import (
    LETTERS,
    TOPICS,
    Item,
    positions,
    rendered,
)
from marco_data.generation.prompt import load_prompt
from marco_data.generation.wording import wording
from marco_data.languages import canonical

DIGESTS = {
    "mcq_score@1": "027cc122f05c42f4",
    "mcq_expand@1": "842d0cd1996c20cd",
    "mcq_write@1": "f149c88054f6aa6f",
    "mcq_solve@1": "50921a7851a47689",
    "mcq_closed@1": "f86e3d245787ee82",
}
"""What a used version says is never changed: another text is another version."""

COUNTRY, DOCUMENT, QUESTION, OPTIONS, EXPLANATION = ITEMS["deu_Latn"]
SCORE = {"density": 5, "region": "Bavaria", "country": "DE", "topic": "Heritage", "entities": ["Buttnmandl"]}
LEAF = {"subtopic": "Advent customs", "entity": "Buttnmandl", "angle": "what they wear"}
LEAVES = {"leaves": [LEAF, {**LEAF, "angle": "where they go"}, {**LEAF, "entity": "buttnmandl"}]}


def written(question=QUESTION, options=OPTIONS, explanation=EXPLANATION, country="DE", key="A", topic="Heritage"):
    return {
        "question": question,
        "options": list(options),
        "key": key,
        "explanation": explanation,
        "country": country,
        "topic": topic,
    }


class Model:
    """An Ask that answers what is laid down, and solves by choosing an option for what it says, not where it stands.

    `opened` and `closed` give an option for each sample: its text, or `@2` for the place, or an answer as it is.
    """

    def __init__(self, score=SCORE, expand=LEAVES, write=None, opened=(), closed=(), also=()):
        self.answers = {"mcq_score@1": score, "mcq_expand@1": expand, "mcq_write@1": write or written()}
        self.samples = {"mcq_solve@1": opened or (OPTIONS[0],), "mcq_closed@1": closed or (OPTIONS[1],)}
        self.also = also
        self.asked = []

    async def __call__(self, request):
        self.asked.append(request)
        if request.prompt in self.samples:
            choices = self.samples[request.prompt]
            return self.solved(request, choices[request.sample % len(choices)])
        answer = self.answers[request.prompt]
        if isinstance(answer, Completion):
            return answer
        return Completion(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False), STOP)

    def solved(self, request, choice):
        if isinstance(choice, Completion):
            return choice
        lines = [line for line in request.messages[-1][1].split("\n") if line[:3] in ("A. ", "B. ", "C. ", "D. ")]
        letters = {line[3:]: line[0] for line in lines}
        letter = LETTERS[int(choice[1])] if choice.startswith("@") else letters.get(choice)
        if letter is None:
            return Completion(choice, STOP)
        also = [letters[option] for option in self.also]
        return Completion(json.dumps({"quote": "in Stroh", "answer": letter, "also_right": also}), STOP)


def make(ask, maker=None, language="deu_Latn", ordinal=0, attempt=0, text=DOCUMENT):
    seed = Seed("s1", text, language, "web")
    return asyncio.run((maker or Mcq()).make(seed, canonical(language), ordinal, ask, attempt))


@pytest.mark.parametrize("name", DIGESTS)
def test_shipped_prompts_are_frozen(name):
    assert load_prompt(name).digest == DIGESTS[name]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mcq_score@1", Score),
        ("mcq_expand@1", Leaves),
        ("mcq_write@1", Written),
        ("mcq_solve@1", Solved),
        ("mcq_closed@1", Solved),
    ],
)
def test_worked_examples_are_read_by_the_parser_and_keep_their_schema(name, kind):
    prompt = load_prompt(name)
    read = parse(prompt.example.completion, kind)
    assert json.loads(read.model_dump_json()) == prompt.example.parsed
    schema = json.loads(prompt.schema)
    assert set(schema["required"]) == set(schema["properties"])
    assert set(schema["required"]) >= {name for name, field in kind.model_fields.items() if field.is_required()}


@pytest.mark.parametrize("name", ["mcq_score@1", "mcq_write@1"])
def test_prompts_and_schemas_name_the_sixteen_topics(name):
    prompt = load_prompt(name)
    assert tuple(json.loads(prompt.schema)["properties"]["topic"]["enum"]) == TOPICS
    assert all(topic in prompt.user for topic in TOPICS)


@pytest.mark.parametrize("language", ITEMS)
def test_a_question_comes_out_with_labels_of_its_language(language):
    country, document, question, options, explanation = ITEMS[language]
    ask = Model(
        score={**SCORE, "country": country},
        write=written(question, options, explanation, country),
        opened=(options[0],),
        closed=(options[0], options[1], options[2], options[3]),
    )
    made = make(ask, language=language, text=document)
    assert (made.reason, made.measured) == (None, None)
    words = wording(language)
    lines = made.text.split("\n")
    assert lines[0] == words.labelled(words.question, question)
    assert [line[:3] for line in lines[2:6]] == ["A. ", "B. ", "C. ", "D. "]
    assert sorted(line[3:] for line in lines[2:6]) == sorted(options)
    assert lines[6].endswith(options[0])
    assert lines[7] == words.labelled(words.explanation, explanation)
    assert made.labels == {
        "density": "5",
        "region": "Bavaria",
        "country": country,
        "topic": "Heritage",
        "subtopic": "Advent customs",
        "entity": "Buttnmandl",
        "longest_is_key": str(len(options[0]) > max(map(len, options[1:]))).lower(),
        "open_book": "1.0",
        "closed_book": "0.25",
        "difficulty": "hard",
    }
    assert made.prompts == ("mcq_score@1", "mcq_expand@1", "mcq_write@1", "mcq_solve@1", "mcq_closed@1")


NOTHING = Completion("", ERROR, error="not_recorded")
KEY, WRONG, OTHER, THIRD = OPTIONS
REJECTED = {
    "not_recorded at the first call": (Model(score=NOTHING), "not_recorded", None),
    "not_recorded at a sample": (Model(opened=(KEY, NOTHING)), "not_recorded", None),
    "truncated": (Model(write=Completion('{"question": "Wor', LENGTH, tokens_out=1500)), "truncated", 1500.0),
    "empty": (Model(write=" "), "empty", None),
    "no JSON": (Model(write="Gern: Worin sind sie gehüllt?"), "unparsable", None),
    "a key that is no letter": (Model(write=written(key="E")), "unparsable", None),
    "a country that there is not": (Model(write=written(country="XX")), "unparsable", None),
    "a topic that there is not": (Model(score={**SCORE, "topic": "Cars"}), "unparsable", None),
    "nested without end": (Model(score='{"a":' * 100_000), "unparsable", None),
    "a density of six": (Model(score={**SCORE, "density": 6}), "unparsable", None),
    "a dull document": (
        Model(score={"density": 3, "region": "", "country": "", "topic": "Science", "entities": []}),
        "not_cultural",
        3.0,
    ),
    "no leaf left": (Model(expand={"leaves": []}), "no_leaf", 0.0),
    "three options": (Model(write=written(options=OPTIONS[:3])), "options_not_distinct", 3.0),
    "two options alike": (Model(write=written(options=(*OPTIONS[:3], "In Stroh."))), "options_not_distinct", 3.0),
    "an empty option": (Model(write=written(options=(*OPTIONS[:3], " "))), "options_not_distinct", 3.0),
    "all of the above": (Model(write=written(options=(*OPTIONS[:3], "Alle genannten Antworten"))), "all_or_none", None),
    "a letter that will change": (Model(write=written(explanation="Richtig ist (A), Stroh.")), "names_a_letter", None),
    "an English question": (
        Model(write=written("What are the Buttnmandl wrapped in when they go around in the Berchtesgaden region?",
                            ("in straw", "in sheepskin", "in fir branches", "in coloured rags"),
                            "The Buttnmandl wear garments made of straw on the evening of Saint Nicholas.")),
        "wrong_language",
        None,
    ),
    "a Russian question": (Model(write=written(*ITEMS["rus_Cyrl"][2:])), "wrong_script", None),
    "a refusal": (Model(write=written("Es tut mir leid, aber ich kann dabei nicht helfen.")), "refusal", None),
    "never solved": (Model(opened=(WRONG, OTHER)), "never_solved", 0.0),
    "another option by the document": (Model(opened=(WRONG, WRONG, WRONG, KEY)), "unsupported_answer", 0.25),
    "no agreement": (Model(opened=(KEY, WRONG, KEY, OTHER)), "inconsistent_answer", 0.5),
    "always the first option": (Model(opened=("@0",)), "inconsistent_answer", 0.25),
    "samples that cannot be read": (Model(opened=(KEY, "Stroh!", KEY, "keine Ahnung")), "inconsistent_answer", 0.5),
    "two right options": (Model(also=(WRONG,)), "ambiguous_answer", 1.0),
    "known to everyone": (Model(closed=(KEY,)), "too_easy", 1.0),
}  # fmt: skip


@pytest.mark.parametrize("what", REJECTED)
def test_a_bad_question_is_rejected_by_its_reason(what):
    ask, reason, measured = REJECTED[what]
    made = make(ask)
    assert (made.reason, made.text) == (reason, None)
    assert measured is None or made.measured == measured
    assert reason in Mcq.reasons


def test_every_reason_of_its_own_is_reached_here():
    from marco_data.generation.guards import REASONS

    never = {"prompt_too_long", "refused_by_server"}  # errors of a completion, passed on as not_recorded is
    assert Mcq.reasons - REASONS - never == {reason for _, reason, _ in REJECTED.values()} - REASONS


def test_an_option_is_voted_for_by_what_it_says_and_not_by_its_letter():
    ask = Model()
    assert make(ask).reason is None
    solving = [request for request in ask.asked if request.prompt == "mcq_solve@1"]
    places = {next(line[0] for line in r.messages[-1][1].split("\n") if line.endswith(". " + KEY)) for r in solving}
    assert places == set(LETTERS)
    assert [request.sample for request in solving] == [0, 1, 2, 3]


def test_closed_book_samples_never_see_the_document_nor_the_explanation():
    ask = Model()
    make(ask)
    told = [content for r in ask.asked if r.prompt == "mcq_closed@1" for _, content in r.messages]
    assert told
    assert not any(DOCUMENT in content or EXPLANATION in content for content in told)


@pytest.mark.parametrize(
    ("closed", "rate", "difficulty"),
    [((WRONG,), "0.0", "hard"), ((KEY, WRONG), "0.5", "medium"), ((KEY, KEY, KEY, WRONG), "0.75", "easy")],
)
def test_the_rate_without_the_document_is_the_difficulty(closed, rate, difficulty):
    labels = make(Model(closed=closed)).labels
    assert (labels["closed_book"], labels["difficulty"]) == (rate, difficulty)


def test_what_is_too_easy_is_for_the_recipe_to_say():
    assert make(Model(closed=(KEY,)), Mcq(too_easy=None)).reason is None
    assert make(Model(closed=(KEY, WRONG)), Mcq(too_easy=0.5)).reason == "too_easy"
    unasked = make(Model(closed=(KEY,)), Mcq(closed_book=0))
    assert unasked.reason is None
    assert "difficulty" not in unasked.labels


def test_questions_of_a_seed_share_its_score_and_its_leaves():
    assert Mcq(questions=3).ordinals == 3
    ask = Model()
    first, second = make(ask, ordinal=0), make(ask, ordinal=1)
    by_prompt = {}
    for request in ask.asked:
        by_prompt.setdefault(request.prompt, set()).add(request.key("model", "revision"))
    assert len(by_prompt["mcq_score@1"]) == len(by_prompt["mcq_expand@1"]) == 1
    assert len(by_prompt["mcq_write@1"]) == 2
    assert (first.reason, second.reason) == (None, None)


def test_a_leaf_that_says_the_same_again_is_none():
    made = make(Model(), ordinal=2)  # LEAVES has three, of which the third is the first
    assert (made.reason, made.measured) == ("no_leaf", 2.0)


def test_an_attempt_is_in_every_request():
    ask = Model()
    make(ask, attempt=2)
    assert {request.attempt for request in ask.asked} == {2}
    assert len(ask.asked) == 11


def test_later_calls_are_those_of_an_accepted_question():
    ask = Model()
    assert make(ask, Mcq(open_book=3, closed_book=2)).reason is None
    asked = Counter(request.prompt for request in ask.asked)
    assert asked == {"mcq_score@1": 1, "mcq_expand@1": 1, **Mcq(open_book=3, closed_book=2).later_calls()}


def test_fewer_leaves_than_questions_are_refused():
    with pytest.raises(ValueError, match="raise `leaves`"):
        Mcq(questions=5, leaves=4)


def test_a_prompt_of_another_purpose_is_refused():
    with pytest.raises(ValueError, match=r"no place for \[\[document\]\]"):
        Mcq(solve_prompt="mcq_closed@1")
    with pytest.raises(ValueError, match=r"asks for \[\[document\]\]"):
        Mcq(closed_prompt="mcq_solve@1")


def test_identity_knows_the_content_of_the_prompts():
    config = Mcq().identity()["config"]
    assert [config[f"{call}_prompt"] for call in ("score", "closed")] == [
        ["mcq_score@1", DIGESTS["mcq_score@1"]],
        ["mcq_closed@1", DIGESTS["mcq_closed@1"]],
    ]


def accepted(count, start=0):
    made = []
    for number in range(start, start + count):
        options = tuple(f"Antwort {number} {'lang ' * ((number + n) % 4)}{n}" for n in range(4))
        item = Item(f"Frage {number}?", options, number % 4 if number % 3 else 0, "Darum.")
        text = rendered(item, wording("deu_Latn"))
        longest = str(item.longest_is_key).lower()
        made.append(Made(text, labels={"longest_is_key": longest}, parts={"item": item, "language": "deu_Latn"}))
    return made


def letter_of(made):
    words = wording("deu_Latn")
    line = next(line for line in made.text.split("\n") if line.startswith(words.answer + words.colon))
    return line[len(words.answer + words.colon)]


def shares(mades):
    counts = Counter(map(letter_of, mades))
    return {letter: counts[letter] / len(mades) for letter in LETTERS}


@given(st.text(max_size=20))
def test_the_keys_of_a_thousand_questions_stand_a_quarter_at_each_letter(salt):
    assert Counter(positions(1_000, salt)) == dict.fromkeys(range(4), 250)


def test_a_thousand_finished_questions_have_balanced_keys_though_they_were_written_with_a_third_at_a():
    before = accepted(1_000)
    after = Mcq().finish(before, "task")
    assert shares(before)["A"] > 0.45
    assert all(0.23 <= share <= 0.27 for share in shares(after).values())


@given(st.integers(0, 1_000_000))
def test_two_hundred_small_tasks_are_balanced_together(seed):
    sizes = [1 + (seed * 31 + task * 7) % 20 for task in range(200)]
    places = [place for task, size in enumerate(sizes) for place in positions(size, f"{seed}-{task}")]
    assert all(0.23 <= places.count(place) / len(places) <= 0.27 for place in range(4))


def test_finishing_moves_options_and_changes_nothing_else():
    before = accepted(100)
    after = Mcq().finish(before, "task")
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        one, other = old.parts["item"], new.parts["item"]
        assert (one.question, one.explanation, sorted(one.options)) == (
            other.question,
            other.explanation,
            sorted(other.options),
        )
        assert one.options[one.key] == other.options[other.key]
        assert LETTERS[other.key] == letter_of(new)
        assert new.text == rendered(other, wording("deu_Latn"))


def test_finishing_is_a_function_of_the_questions_and_the_salt():
    texts = [made.text for made in Mcq().finish(accepted(50), "task")]
    assert texts == [made.text for made in Mcq().finish(accepted(50), "task")]
    assert texts != [made.text for made in Mcq().finish(accepted(50), "another")]
    assert Mcq().finish([], "task") == []


def test_whether_the_longest_option_is_right_does_not_depend_on_the_balancing():
    before = accepted(200)
    after = Mcq().finish(before, "task")
    assert [made.labels for made in before] == [made.labels for made in after]
    assert {"true", "false"} == {made.labels["longest_is_key"] for made in after}
    assert all(made.parts["item"].longest_is_key == (made.labels["longest_is_key"] == "true") for made in after)
