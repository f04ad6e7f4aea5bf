"""The automaton is `re`: on the heuristic of ftfy, and on any expression that it does not refuse."""

import random
import re
from collections import defaultdict

import pytest
from ftfy.badness import BADNESS_RE
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels.automaton import FOUND, Automaton, automaton

CHARACTERS = "".join(chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000)


def found(search: Automaton, text: str) -> bool:
    state = search.start
    for character in text:
        state = int(search.steps[state + int(search.classes[ord(character)])])
    return state == FOUND


def test_characters_of_a_class_are_in_the_same_sets_of_ftfy():
    classes = automaton(BADNESS_RE.pattern).classes
    # Every set of the heuristic, found by the simplest way: whatever is between brackets, and the two escapes.
    sets = {*re.findall(r"\[[^]]+\]", BADNESS_RE.pattern), r"\s", r"\w", *"Œœ°×àв√≈‚ЂÄГўВÂβ€ā"}
    assert len(sets) > 70
    members = defaultdict(set)
    for code_point in map(ord, CHARACTERS):
        members[classes[code_point]].add(code_point)
    del members[classes[ord("\n")]]
    for one in sets:
        inside = {ord(c) for c in re.findall(one, CHARACTERS)}
        assert [c for c, points in members.items() if points & inside and not points <= inside] == [], one


def test_any_row_of_classes_is_bad_where_ftfy_says_so():
    search = automaton(BADNESS_RE.pattern)
    by_class = {search.classes[ord(c)]: c for c in reversed(CHARACTERS)}
    chance = random.Random(1)
    characters = list(by_class.values())
    frequent = [c for c in characters if c in "ŸŠ®°µ»ØÙГўВЂ.aZ ÃÂ‚Äâó\xa0"]
    texts = [a + b for a in characters for b in characters if "\n" not in a + b]
    for _ in range(100_000):
        texts.append("".join(chance.choices(chance.choice((characters, frequent)), k=chance.randint(3, 6))))
    wrong = [t for t in texts if found(search, t) != any(map(BADNESS_RE.search, t.split("\n")))]
    assert wrong == []


PART = st.sampled_from(
    ["a", "b", "[ab]", "[^a]", "[]b]", "[^]\\s]", r"\w", r"\s", r"\S", ".", " ", "# c|\n", r"[\]é-ü]"]
)
CHOICE = st.tuples(st.sampled_from(["", "^"]), st.lists(st.tuples(PART, st.sampled_from(["", "", "?"])), max_size=5))
PATTERN = st.lists(CHOICE.map(lambda c: c[0] + "".join(map("".join, c[1]))), min_size=1, max_size=5).map("|".join)


@settings(deadline=None)
@given(PATTERN, st.lists(st.text(st.sampled_from("ab]é \n\u2028_1\U0001f600\U00010000"), max_size=10), min_size=20))
def test_any_expression_finds_what_re_finds(pattern, texts):
    try:
        search = automaton(pattern)
    except ValueError:
        return
    expression = re.compile(pattern, re.VERBOSE)
    for text in texts:
        assert found(search, text) == any(map(expression.search, text.split("\n"))), (pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a)",
        "a*",
        "a+",
        "a{2}",
        "a??",
        "?a",
        "a$",
        "a^b",
        "\\ba",
        "\\x41",
        "a|",
        "a?|b",
        "^",
        "[a",
        "(?=a)",
        "\U0001f600",
    ],
)
def test_what_it_does_not_know_is_refused(pattern):
    with pytest.raises(ValueError, match=r"sequence"):
        automaton(pattern)
