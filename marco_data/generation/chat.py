"""The OpenAI chat protocol: a request as bytes to send, and what a server's reply means.

In: a `Request`, or a reply's status and bytes. Out: bytes, or a `Completion`, or the `Fault` that says whether to try
again. Pure: knows no connection, no clock and no key.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from marco_data.generation.generator import ERROR, LENGTH, REFUSED_BY_SERVER, STOP, TOO_LONG, Completion, Request

_ENDINGS = {
    "stop": STOP,
    "eos": STOP,
    "eos_token": STOP,
    "stop_sequence": STOP,
    "end_turn": STOP,
    "length": LENGTH,
    "max_tokens": LENGTH,
}

_TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size|limit)|max(imum)?[ _](model|prompt|input)[ _]?len|max_new_tokens"
    r"|(prompt|input)s? (is |are )?too (long|large)|too many (input )?tokens|(prompt|input) tokens? .{0,40}exceed"
    r"|exceeds? max(imum)? length",
    re.IGNORECASE,
)
"""How vLLM, SGLang, TGI, llama.cpp and hosted servers say it; there is no common code for it."""

_HARMLESS = "Answer with the word: ready."

SHOWN = 300
"""Characters of a server's own words that are told on."""


class Kind(Enum):
    """What a fault is good for."""

    BUSY = "too many requests: fewer, later"
    SLOW = "no answer in time: fewer"
    DOWN = "nobody there: later"
    AGAIN = "may pass by itself"
    PROMPT = "this request alone"
    ALL = "every request"


@dataclass(frozen=True)
class Fault:
    """Why a try gave no answer. `cost` is how many failures it counts as: waiting the whole time counts as three."""

    kind: Kind
    what: str
    hint: str | None = None
    error: str = REFUSED_BY_SERVER
    cost: int = 1


def payload(request: Request, model: str, extra: Mapping[str, Any]) -> bytes:
    """The body of a call of `/chat/completions`."""
    body: dict[str, Any] = {
        **extra,
        "model": model,
        "messages": [{"role": role, "content": content} for role, content in request.messages],
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "max_tokens": request.sampling.max_tokens,
        "seed": request.seed,
    }
    if request.sampling.stop:
        body["stop"] = list(request.sampling.stop)
    if request.schema is not None:
        # Not `strict`: hosted servers then refuse schemas that others keep, and a maker parses what comes anyway.
        schema = {"name": "answer", "schema": json.loads(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def harmless(request: Request) -> Request:
    """A request of the same kind that any server answers, to tell a refused prompt from a refused kind."""
    return Request(messages=(("user", _HARMLESS),), sampling=request.sampling, schema=request.schema)


def read_reply(status: int, body: bytes) -> Completion | Fault:
    """What a reply means."""
    if status == 200:
        return _completion(body)
    said = _said(body)
    what = f"HTTP {status}" + (f": {said}" if said else "")
    if status == 429:
        return _too_many(what, said, body)
    if status in (503, 529):
        return Fault(Kind.BUSY, what)
    if status == 413 or (status >= 400 and status not in (401, 403, 404) and _TOO_LONG.search(said)):
        return Fault(Kind.PROMPT, what, error=TOO_LONG)
    if status >= 500 or status in (408, 409, 425):
        return Fault(Kind.AGAIN, what)
    if status in (400, 403, 422):
        return Fault(Kind.PROMPT, what)
    return Fault(Kind.ALL, what, _HINTS.get(status, "is `url` the address of an OpenAI-compatible server?"))


_HINTS = {
    401: "the server does not take this key: `key` of the pool names the environment variable that holds it",
    402: "the account at the server has no credit left",
    404: "`url` goes up to what is before `/chat/completions` (often `/v1`), `model` is the server's name of the model",
}


def _too_many(what: str, said: str, body: bytes) -> Fault:
    # Two of the things that hosted servers answer with 429 do not pass by waiting.
    if re.search(r"request too large", said, re.IGNORECASE):
        return Fault(Kind.PROMPT, what, error=TOO_LONG)
    if b"insufficient_quota" in body:
        return Fault(Kind.ALL, what, _HINTS[402])
    return Fault(Kind.BUSY, what)


def _completion(body: bytes) -> Completion | Fault:
    try:
        reply = json.loads(body)
        choice = reply["choices"][0]
        text, ending = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Fault(Kind.AGAIN, f"a reply that is no chat completion: {_shown(body)}")
    usage = reply.get("usage")
    counts = {} if not isinstance(usage, dict) else usage
    tokens_in, tokens_out = _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))
    if ending == "content_filter":
        return Completion("", ERROR, tokens_in, tokens_out, error=REFUSED_BY_SERVER)
    # A model that spends all its tokens thinking answers with null.
    if not isinstance(text, str | None) or not isinstance(ending, str) or ending not in _ENDINGS:
        return Fault(Kind.AGAIN, f"a reply that is no finished text (finish_reason {ending!r:.40})")
    return Completion(_valid(text or ""), _ENDINGS[ending], tokens_in, tokens_out)


def _valid(text: str) -> str:
    """JSON can hold half of a surrogate pair, UTF-8 and so the ledger cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _count(value: Any) -> int:
    """A server that does not count says nothing: 0, and the sums of tokens lack it."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _said(body: bytes) -> str:
    """The message of an error's body, whichever way servers write one."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return _shown(body)
    while isinstance(reply, dict):
        reply = next((reply[key] for key in ("error", "message", "detail", "msg") if reply.get(key)), "")
    if isinstance(reply, list):
        reply = json.dumps(reply)
    return _shown(str(reply).encode("utf-8", "replace"))


def _shown(body: bytes) -> str:
    text = " ".join(body[: 8 * SHOWN].decode("utf-8", "replace").split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text[:SHOWN] + ("..." if len(text) > SHOWN else "") if text else "nothing"
