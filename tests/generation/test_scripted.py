"""Scripts in the place of a model: what they say is what comes back, and a wrong one is told."""

import asyncio
import subprocess
import sys

import pytest

from marco_data.errors import RecipeError
from marco_data.generation.generator import LENGTH, STOP, Completion, Request, Sampling
from marco_data.generation.opening import open_generator
from marco_data.generation.pools import ScriptedPool
from marco_data.generation.scripted import Scripted, load_script


def request(content: str, max_tokens: int = 10) -> Request:
    return Request((("system", "be short"), ("user", content)), Sampling(max_tokens=max_tokens))


def say_back(asked: Request) -> str:
    return asked.messages[-1][1]


def test_a_text_is_a_completion_and_words_are_its_tokens():
    assert asyncio.run(Scripted(say_back).complete(request("one two  three"))) == Completion(
        "one two  three", STOP, tokens_in=5, tokens_out=3
    )


def test_a_text_beyond_max_tokens_is_cut():
    assert asyncio.run(Scripted(say_back).complete(request("a b c d", max_tokens=3))) == Completion(
        "a b c", LENGTH, tokens_in=6, tokens_out=3
    )


def test_a_completion_comes_back_as_it_is():
    made = Completion("", "error", error="prompt_too_long")
    assert asyncio.run(Scripted(lambda asked: made).complete(request("x"))) is made


def test_many_wait_at_once():
    async def ask() -> tuple[float, list[Completion]]:
        loop = asyncio.get_running_loop()
        scripted, began = Scripted(say_back, delay=0.05), loop.time()
        answers = await asyncio.gather(*(scripted.complete(request(str(i))) for i in range(100)))
        return loop.time() - began, answers

    took, answers = asyncio.run(ask())
    assert [answer.text for answer in answers] == [str(i) for i in range(100)]
    assert 0.05 <= took < 2.5  # one after the other they would take five seconds


def test_an_answer_of_another_type_is_told_with_the_function():
    with pytest.raises(RecipeError, match=r"`.*<lambda>` answers with int"):
        asyncio.run(Scripted(lambda asked: 3).complete(request("x")))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such_package.there:answer", "no script `no_such_package.there:answer`: No module named"),
        ("json:no_such_function", "no script `json:no_such_function`"),
        ("json:__name__", "is no function"),
    ],
)
def test_a_script_that_cannot_be_had_is_told(name, told):
    with pytest.raises(RecipeError, match=told):
        load_script(name)


def test_a_pool_opens_its_script():
    opened = open_generator(ScriptedPool(kind="scripted", script="test_scripted:say_back"), "m", "0" * 40, 1000)
    assert asyncio.run(opened.complete(request("back"))).text == "back"


def test_a_kind_is_imported_only_when_it_is_opened():
    """An engine's environment has no HTTP client, and a worker that asks a server need not start Ray."""
    script = "import sys, marco_data.generation.opening as o; print({'aiohttp', 'ray'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"
