"""A generator behind HTTP: any server that speaks the OpenAI chat protocol.

In: requests. Out: a completion for each, after as many tries as the pool allows. Knows nothing of ledgers and seeds,
and cannot know the server's revision of a model: who runs the server answers for that. The key is read from the
environment when the endpoint is opened and leaves it in the Authorization header alone.
"""

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from pydantic import SecretStr

from marco_data.errors import RecipeError, RetryableError
from marco_data.generation.chat import Fault, Kind, harmless, payload, read_reply
from marco_data.generation.generator import ERROR, Completion, Request
from marco_data.generation.pools import EndpointPool
from marco_data.generation.throttle import Clock, Throttle, WallClock, pause

MAX_REPLY_BYTES = 16 << 20
"""Of a reply: a hundred times what a context of 32,768 tokens can hold, and what a broken server can fill up."""

LONGEST_ASKED = 600.0
"""Seconds that a server may ask to wait: it may say a day."""

_CONNECT_SECONDS = 30.0
_KEPT_SECONDS = 4.0  # idle connections; common servers close theirs after five, and a request sent then is lost
_BUSY_TRIES = 20  # for each try of the pool: of one request that a server is too busy for while it answers others
_NOT_SECURE = "write `http://` where the server speaks plain HTTP; SSL_CERT_FILE names certificates of your own"
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass
class _Tries:
    """What one request has been through. A busy server that answers others counts as no failure, but not for ever."""

    failures: int = 0
    made: int = 0
    answers_before: int = 0  # of others, before the first failure
    answers_seen: int = 0

    def count(self, fault: Fault, answers: int) -> None:
        if self.made == 0:
            self.answers_before = answers
        if self.made == 0 or fault.kind is not Kind.BUSY or answers == self.answers_seen:
            self.failures += fault.cost
        self.made += 1
        self.answers_seen = answers


class Endpoint:
    """The generator of a pool of kind `endpoint`. Opened and used in one process and one event loop."""

    def __init__(self, pool: EndpointPool, model: str, clock: Clock | None = None) -> None:
        self._pool = pool
        self._address = f"{pool.url}/chat/completions"
        self._model = pool.model or model
        self._clock = clock or WallClock()
        self._throttle = Throttle(pool.concurrency, self._clock)
        self._key = None if pool.key is None else _read_key(pool.key)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answered: set[object] = set()  # the kinds of request that the server is known to answer
        self._asking_why = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Endpoint({self._pool.url}, {self._model})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open endpoint holds a key and stays in its process: send its pool and open that")

    async def complete(self, request: Request) -> Completion:
        body = payload(request, self._model, self._pool.extra)
        tries = _Tries()
        while True:
            began = await self._throttle.turn(again=tries.made > 0)
            try:
                came, asked = await self._try(body)
            finally:
                self._throttle.done()
            if isinstance(came, Completion):
                self._throttle.answered(began)
                self._answered.add(_kind(request))
                return came
            if came.kind is Kind.PROMPT and (came := await self._why(request, came)).kind is Kind.PROMPT:
                return Completion(came.what, ERROR, error=came.error)
            if came.kind is Kind.ALL:
                self._stop(came)
            if alone := self._after(came, tries, began, asked):
                return alone
            if came.kind is Kind.AGAIN:
                await self._clock.sleep(max(asked, pause(tries.failures, self._clock.chance())))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _after(self, fault: Fault, tries: _Tries, began: float, asked: float) -> Completion | None:
        """Count a fault. None: try again. A request that fails as often as it may while others are answered is at
        fault itself, and is answered alone; where nobody is answered it is the server."""
        tries.count(fault, self._throttle.answers)
        if tries.failures > self._pool.retries or tries.made > _BUSY_TRIES * (self._pool.retries + 1):
            if self._throttle.answers - tries.answers_before >= tries.made:
                return Completion(fault.what, ERROR, error=fault.error)
            raise RetryableError(
                f"{self._pool.url}: {fault.what}, after {tries.made} {'try' if tries.made == 1 else 'tries'}",
                hint="is the server up? What it has answered is kept, and the next run goes on from there",
            )
        if fault.kind in (Kind.BUSY, Kind.SLOW):
            self._throttle.too_many(began, asked)
        elif fault.kind is Kind.DOWN:
            self._throttle.hold(max(asked, pause(tries.failures, self._clock.chance())))
        return None

    async def _why(self, request: Request, fault: Fault) -> Fault:
        """Is it this prompt, or would the server refuse every one of its kind (an `extra` or schema it does not take)?

        The first refusal of a kind that was never answered is settled by a harmless prompt; so is each 403, which is
        a wrong key at one server and a prompt against the rules at another.
        """
        forbidden = fault.what.startswith("HTTP 403")
        async with self._asking_why:
            if _kind(request) in self._answered and not forbidden:
                return fault
            came, _ = await self._try(payload(harmless(request), self._model, self._pool.extra))
        if isinstance(came, Completion):
            self._answered.add(_kind(request))
            return fault
        if came.kind is Kind.PROMPT:
            hint = (
                "the key may not use this model" if forbidden else "does the server take `extra` and the JSON schema?"
            )
            return Fault(Kind.ALL, f"{came.what} (to a harmless prompt too)", f"{hint}; `model` is {self._model}")
        return came

    def _stop(self, fault: Fault) -> NoReturn:
        raise RecipeError(f"{self._pool.url} (model {self._model}): {fault.what}", hint=fault.hint)

    async def _try(self, body: bytes) -> tuple[Completion | Fault, float]:
        """One call, and the seconds that the server asks to wait before the next."""
        try:
            async with self._open().post(self._address, data=body, allow_redirects=False) as reply:
                text = bytearray()
                async for piece in reply.content.iter_any():
                    text += piece
                    if len(text) > MAX_REPLY_BYTES:
                        reply.close()
                        return Fault(Kind.AGAIN, f"a reply of more than {MAX_REPLY_BYTES >> 20} MiB"), 0.0
                came = self._redirected(reply) or read_reply(reply.status, self._without_key(bytes(text)))
                if reply.status == 404 and self._answered:
                    came = Fault(Kind.AGAIN, "HTTP 404 from a server that has answered before")
                after = reply.headers.get("Retry-After")
                asked = 0.0 if after is None else _asked(after, datetime.now(UTC))
        except aiohttp.ConnectionTimeoutError:
            return Fault(Kind.DOWN, "cannot connect (no answer)"), 0.0
        except TimeoutError:
            return Fault(Kind.SLOW, f"no answer within {self._pool.timeout_seconds:g} s", cost=3), 0.0
        except aiohttp.ClientSSLError as error:
            kind = Kind.AGAIN if self._answered else Kind.ALL
            return Fault(kind, f"no secure connection ({type(error).__name__})", _NOT_SECURE), 0.0
        except aiohttp.ClientConnectorError as error:
            return Fault(Kind.DOWN, f"cannot connect ({_cause(error)})"), 0.0
        except (aiohttp.ClientError, OSError) as error:
            return Fault(Kind.AGAIN, f"the connection broke ({type(error).__name__})"), 0.0
        return came, asked

    def _without_key(self, said: bytes) -> bytes:
        """Servers have been seen to tell a key back. Before anything is cut, which would leave half of it."""
        return said if self._key is None else said.replace(self._key.get_secret_value().encode(), b"***")

    def _redirected(self, reply: aiohttp.ClientResponse) -> Fault | None:
        """Nobody is followed elsewhere with a key in hand."""
        if not 300 <= reply.status < 400:
            return None
        location = self._without_key(reply.headers.get("Location", "").encode("utf-8", "replace")).decode()
        where = ascii(location.partition("?")[0])[1:-1]  # what follows may be secret
        return Fault(
            Kind.ALL, f"HTTP {reply.status}, a redirect to `{where:.200}`", "if that is right, make it the `url`"
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._loop = asyncio.get_running_loop()
            headers = {"Content-Type": "application/json"}
            if self._key is not None:
                headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
            seconds = self._pool.timeout_seconds
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_SECONDS),  # turns are the limit
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS)),
                headers=headers,
                proxy=_proxy(self._pool.url),
            )
        assert self._loop is asyncio.get_running_loop(), "an endpoint is used in one event loop"
        return self._session


def _kind(request: Request) -> object:
    """Requests of one kind are the same to a server but for their messages."""
    return request.sampling, request.schema


def _read_key(variable: str) -> SecretStr:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise RecipeError(
            f"the environment variable `{variable}`, which `key` of the pool names, is not set",
            hint=f"export {variable}=... where the workers run; without `key` in the pool no key is sent",
        )
    if not (key.isascii() and key.isprintable()):
        raise RecipeError(f"the environment variable `{variable}` holds what cannot be a key: use plain ASCII")
    return SecretStr(key)


def _cause(error: OSError) -> str:
    """The system's own words: asyncio has others, with an address in them; a name that is not found has no number."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or type(error).__name__


def _asked(value: str, now: datetime) -> float:
    """Seconds that a Retry-After header asks for, which gives a number or a date."""
    try:
        seconds = float(value) if value[:1].isdigit() else (parsedate_to_datetime(value) - now).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_ASKED)


def _proxy(url: str) -> str | None:
    """The proxy of the environment (HTTPS_PROXY, NO_PROXY), never to the machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return None if host in _LOCAL or proxy_bypass(host) else getproxies().get(parts.scheme)
