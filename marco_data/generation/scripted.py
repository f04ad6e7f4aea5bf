"""A Python function in the place of a model: what tests ask, and how a recipe is tried without one.

In: requests. Out: what the function says to each, a text or a whole `Completion`. Counts words as tokens, because it
has no tokenizer.
"""

import asyncio
import importlib
from collections.abc import Callable

from marco_data.errors import RecipeError
from marco_data.generation.generator import LENGTH, STOP, Completion, Request

Script = Callable[[Request], str | Completion]


class Scripted:
    """A generator whose answers `script` writes, each after `delay` seconds."""

    def __init__(self, script: Script, delay: float = 0.0) -> None:
        self._script = script
        self._delay = delay

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(self._delay)
        said = self._script(request)
        if isinstance(said, Completion):
            return said
        if not isinstance(said, str):
            name = getattr(self._script, "__qualname__", repr(self._script))
            raise RecipeError(f"the script `{name}` answers with {type(said).__name__}, not with a str or a Completion")
        words, most = said.split(), request.sampling.max_tokens
        tokens_in = sum(len(content.split()) for _, content in request.messages)
        if len(words) > most:
            return Completion(" ".join(words[:most]), LENGTH, tokens_in, most)
        return Completion(said, STOP, tokens_in, len(words))

    async def close(self) -> None:
        """Nothing is held."""


def load_script(name: str) -> Script:
    """The function that `package.module:function` names."""
    module, _, function = name.partition(":")
    try:
        script = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise RecipeError(
            f"no script `{name}`: {error}",
            hint="write it as package.module:function; it is looked for where the command is given, and on PYTHONPATH",
        ) from error
    if not callable(script):
        raise RecipeError(f"the script `{name}` is no function", hint="(Request) -> str or Completion")
    return script  # type: ignore[no-any-return]  # what it answers is looked at with each answer
