"""Guards on whole answers: which reason comes first, and that a text which keeps to its source passes."""

import pytest

from marco_data.generation.generator import ERROR, LENGTH, STOP, Completion
from marco_data.generation.guards import Limits, Verdict, check, finished
from marco_data.languages import canonical

SOURCE = (
    "The town library opened in 1987 and lends 42,000 books a year. Members may borrow six at a time. "
    "Children visit on Saturday mornings, when volunteers read stories aloud in the garden behind the hall."
)
REWRITTEN = (
    "Opened in 1987, the library of the town lends about 42,000 books every year, and members can borrow up to six "
    "of them together. On Saturday mornings volunteers read stories to children in the garden behind its hall."
)


def verdict(text, language="eng_Latn", **of):
    found = check(text, language=canonical(language), limits=of.pop("limits", Limits()), **of)
    return None if found is None else found.reason


def test_a_rewrite_that_keeps_to_its_source_passes():
    assert verdict(REWRITTEN, source=SOURCE) is None


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (Completion("x", ERROR, error="prompt_too_long"), Verdict("prompt_too_long")),
        (Completion("cut", LENGTH, tokens_out=7), Verdict("truncated", 7.0)),
        (Completion(" \n", STOP), Verdict("empty")),
        (Completion("Ja.", STOP), None),
    ],
)
def test_how_a_completion_ended_is_judged_first(completion, expected):
    assert finished(completion) == expected
