"""What is asked of a model and what comes back: one small protocol that every kind of generator keeps.

In: a `Request`, which holds everything that shapes an answer but the model itself. Out: a `Completion`. Imports
nothing of this project and no numba, because an engine's process has an environment of its own.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

STOP, LENGTH, ERROR = "stop", "length", "error"
"""How a completion ended: by itself, cut at `max_tokens`, or not at all (`error` says why)."""

NOT_RECORDED, TOO_LONG, REFUSED_BY_SERVER = "not_recorded", "prompt_too_long", "refused_by_server"
"""Errors of a single request: a ledger without an answer to it, a prompt beyond the context, a server's 4xx."""


class Sampling(BaseModel):
    """How tokens are drawn. Part of a request's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(0.5, ge=0)
    top_p: float = Field(0.9, gt=0, le=1)
    max_tokens: int = Field(1024, ge=1)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """One call of a model.

    `messages` are (role, content) pairs for the model's chat template; `schema` is canonical JSON text of the JSON
    schema that the answer has to keep, or None. `sample` numbers answers to the same prompt, `attempt` those asked
    for again by `retry`: both make another request of it, with another seed.
    """

    messages: tuple[tuple[str, str], ...]
    sampling: Sampling
    schema: str | None = None
    sample: int = 0
    attempt: int = 0
    prompt: str = field(default="", compare=False)  # its name, `wikipedia@1`, for people; no identity

    def key(self, model: str, revision: str) -> str:
        """32 hex digits that name this request to this model: what the ledger finds its completion by."""
        # Not by `asdict`, which copies deeply: 17 of the 28 microseconds of a prompt of 1,700 characters.
        identity = {
            "messages": self.messages,
            "sampling": self.sampling.model_dump(),
            "schema": self.schema,
            "sample": self.sample,
            "attempt": self.attempt,
            "model": model,
            "revision": revision,
        }
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def seed(self) -> int:
        """The seed of the sampler, 31 bits: equal requests draw equally, samples and attempts do not."""
        return int(self.key("", "")[:8], 16) >> 1


@dataclass(frozen=True)
class Completion:
    """The answer to one request. `tokens_in` and `tokens_out` as the model's tokenizer counts them.

    `gpu_seconds` is the engine's time on it, times its GPUs, requests that ran together sharing each step equally.
    """

    text: str
    finish_reason: str
    tokens_in: int = 0
    tokens_out: int = 0
    gpu_seconds: float = 0.0
    error: str | None = None


Ask = Callable[[Request], Awaitable[Completion]]
"""How a maker asks: from the ledger if it is there, else of the generator."""


class Generator(Protocol):
    """Answers requests, many at once; keeps as many of them running as it can.

    A request that cannot be answered is answered with `finish_reason` ERROR and a short `error`, alone. What would fail
    every request (no such server, a wrong key) raises RecipeError, what may pass by itself RetryableError, after the
    generator's own retries.
    """

    async def complete(self, request: Request) -> Completion: ...

    async def close(self) -> None:
        """Let go of connections; the generator is not used again."""
