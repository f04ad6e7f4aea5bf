"""Requests: what names them never changes, and everything that shapes an answer is in it."""

from dataclasses import replace

import pytest

from marco_data.generation.generator import Request, Sampling

ASKED = Request((("system", "s"), ("user", "ถาม")), Sampling(stop=("END",)), '{"type":"object"}', sample=1, attempt=2)


def test_the_name_of_a_request_is_frozen():
    """Ledgers find paid answers by it: another name is paid again."""
    assert ASKED.key("org/model", "0" * 40) == "2ac7551437faf801cbd479688f94a411"
    assert ASKED.seed == 510961342


@pytest.mark.parametrize(
    "changed",
    [
        replace(ASKED, messages=(("system", "s"), ("user", "ถาม "))),
        replace(ASKED, messages=(("user", "s"), ("user", "ถาม"))),
        replace(ASKED, sampling=Sampling(temperature=0.6, stop=("END",))),
        replace(ASKED, sampling=Sampling(stop=())),
        replace(ASKED, schema=None),
        replace(ASKED, sample=0),
        replace(ASKED, attempt=0),
    ],
)
def test_whatever_shapes_an_answer_makes_another_request(changed):
    assert changed.key("m", "r") != ASKED.key("m", "r")
    assert changed.seed != ASKED.seed


def test_the_name_of_its_prompt_does_not():
    assert replace(ASKED, prompt="wikipedia@1").key("m", "r") == ASKED.key("m", "r")


def test_another_model_or_revision_has_names_of_its_own():
    assert len({ASKED.key(model, revision) for model in "ab" for revision in "cd"}) == 4
