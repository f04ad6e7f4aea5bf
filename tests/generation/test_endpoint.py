"""An endpoint against a real server on a real socket: nothing is lost, one bad prompt fails alone, the key stays."""

import asyncio
import json
import pickle
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fake_server import CUT_SHORT, GARBAGE, HUNG_UP, FakeServer, Reply, answered, refused

from marco_data.errors import MarcoError, RecipeError, RetryableError
from marco_data.generation.endpoint import LONGEST_ASKED, MAX_REPLY_BYTES, Endpoint, _asked, _proxy
from marco_data.generation.generator import ERROR, STOP, Completion, Request, Sampling
from marco_data.generation.opening import open_generator
from marco_data.generation.pools import EndpointPool

# A reply without a length may leave a socket of the fake server to the garbage collector, which warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

KEY = "sk-this-is-the-secret-0123456789"
SPEED = 200.0
"""Seconds of pauses that pass in one second of a test; time-outs are the real ones."""


class FastClock:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return asyncio.get_running_loop().time() * SPEED

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(seconds / SPEED)

    def chance(self) -> float:
        return 0.5


def request(content: str, **fields: Any) -> Request:
    return Request((("user", content),), Sampling(), **fields)


def echo(body: dict[str, Any]) -> str:
    return f"answer to {body['messages'][-1]['content']}"


def pool(url: str, **fields: Any) -> EndpointPool:
    return EndpointPool(kind="endpoint", url=url, **{"concurrency": 8, "timeout_seconds": 5, **fields})


def ask(opened: Endpoint, contents: list[str]) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(opened.complete(request(content))) for content in contents]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            await opened.close()
        return [task.result() for task in tasks]

    return asyncio.run(all_of_them())


def many(n: int = 60) -> list[str]:
    return [f"question {i}" for i in range(n)]


def expected(contents: list[str]) -> list[Completion]:
    return [Completion(f"answer to {content}", STOP, 7, 3) for content in contents]


def test_every_request_has_its_own_answer_once_and_turns_are_used():
    with FakeServer(echo, delay=0.05) as server:
        assert ask(Endpoint(pool(server.url), "m"), many()) == expected(many())
    assert Counter(server.calls) == Counter(many())
    assert server.most_running == 8


def test_the_opened_generator_of_a_pool_sends_model_extra_and_key(monkeypatch):
    monkeypatch.setenv("THE_KEY", f" {KEY}\n")
    with FakeServer(echo, key=KEY) as server:
        described = pool(server.url, key="THE_KEY", model="served-as", extra={"top_k": 20})
        opened = open_generator(described, "org/model", "0" * 40, 1000)
        assert isinstance(opened, Endpoint)
        assert ask(opened, ["x"]) == expected(["x"])
    assert {k: server.seen[0].body[k] for k in ("model", "top_k")} == {"model": "served-as", "top_k": 20}
    with FakeServer(echo) as server:
        ask(Endpoint(pool(server.url), "org/model"), ["x"])
    assert server.seen[0].body["model"] == "org/model"
    assert "authorization" not in server.seen[0].headers


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(refused(500, "CUDA error"), id="500"),
        pytest.param(refused(502), id="502"),
        pytest.param(refused(503, "loading"), id="503"),
        pytest.param(refused(429, "slow down", retry_after="1"), id="429"),
        pytest.param(refused(429, retry_after="soon"), id="429 with a strange Retry-After"),
        pytest.param(GARBAGE, id="a page instead of JSON"),
        pytest.param(answered("unfinished", None), id="an answer without an end"),
        pytest.param(HUNG_UP, id="hung up without a word"),
        pytest.param(CUT_SHORT, id="half-closed in the body"),
        pytest.param(Reply(body=b"x" * 20, cut=10), id="half-closed in the head"),
        pytest.param(Reply(body=answered("no").body + b" " * MAX_REPLY_BYTES), id="a reply without end"),
        pytest.param(Reply(headers=(("Content-Encoding", "gzip"),), body=b"no gzip"), id="broken encoding"),
        pytest.param(Reply(headers=(("X", "y" * 100_000),)), id="a head without end"),
        pytest.param(Reply(raw=b"SSH-2.0-OpenSSH_9.6\r\n"), id="another protocol"),
        pytest.param(Reply(raw=b"\x15\x03\x01\x00\x02\x02\x50"), id="TLS where none is asked"),
        pytest.param(Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), id="no length"),
        pytest.param(Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), id="broken chunks"),
        pytest.param(Reply(raw=b"HTTP/1.1 200 OK\r\nLocation: \xff\xfe\r\n\r\n{"), id="a body up to the end"),
    ],
)
def test_what_passes_by_itself_costs_no_answer(reply):
    """Every third call goes wrong, whoever makes it."""
    with FakeServer(echo, lambda number, body: reply if number % 3 == 0 else None) as server:
        contents = many(20)
        assert ask(Endpoint(pool(server.url, retries=20), "m", FastClock()), contents) == expected(contents)


def test_a_storm_shrinks_what_is_sent_and_kills_nothing():
    """A server that takes four at once, asked by 32: far more refusals than tries, and every answer comes."""
    with FakeServer(echo, most=4, delay=0.01) as server:
        opened = Endpoint(pool(server.url, concurrency=32, retries=2), "m", FastClock())
        assert ask(opened, many(300)) == expected(many(300))
        assert opened._throttle.limit < 12
    assert server.too_many < 300  # about 80, with the machine's load


def test_a_storm_that_passes_leaves_the_whole_limit():
    with FakeServer(echo, lambda number, body: refused(429) if number < 40 else None, delay=0.002) as server:
        opened = Endpoint(pool(server.url, concurrency=16, retries=30), "m", FastClock())
        assert ask(opened, many(400)) == expected(many(400))
        assert opened._throttle.limit == 16


def test_a_storm_without_an_answer_ends():
    with FakeServer(echo, lambda number, body: refused(429, "not today")) as server:
        with pytest.raises(RetryableError, match="HTTP 429: not today, after 3 tries"):
            ask(Endpoint(pool(server.url, retries=2), "m", FastClock()), ["x"])
        assert len(server.seen) == 3


def test_retry_after_is_waited_for():
    clock = FastClock()
    with FakeServer(echo, lambda number, body: refused(429, retry_after="30") if number == 0 else None) as server:
        ask(Endpoint(pool(server.url), "m", clock), ["x"])
    assert sum(clock.slept) >= 29


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("2.5", 2.5),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("86400", LONGEST_ASKED),
        ("Sat, 21 Nov 2037 12:00:30 GMT", LONGEST_ASKED),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("9" * 400, LONGEST_ASKED),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_has_bounds(value, seconds):
    assert _asked(value, datetime(2026, 11, 21, 12, tzinfo=UTC)) == seconds


def test_pauses_grow_and_have_bounds():
    clock = FastClock()
    with FakeServer(echo, lambda number, body: refused(500)) as server, pytest.raises(RetryableError):
        ask(Endpoint(pool(server.url, retries=8), "m", clock), ["x"])
    assert clock.slept == [0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 45.0, 45.0]
    assert len(server.seen) == 9


def test_the_server_is_named_when_all_tries_are_used_up():
    with FakeServer(echo, lambda number, body: refused(500, "CUDA error: no kernel image")) as server:
        with pytest.raises(RetryableError) as failed:
            ask(Endpoint(pool(server.url, retries=1), "m", FastClock()), ["x"])
        assert failed.value.message == f"{server.url}: HTTP 500: CUDA error: no kernel image, after 2 tries"


def poisoned(reply: Reply) -> Callable[[int, dict[str, Any]], Reply | None]:
    return lambda number, body: reply if body["messages"][-1]["content"] == "question 7" else None


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        pytest.param(refused(400, "This model's maximum context length is 512 tokens"), "prompt_too_long", id="long"),
        pytest.param(refused(413, "too large"), "prompt_too_long", id="413"),
        pytest.param(refused(400, "content policy"), "refused_by_server", id="400"),
        pytest.param(refused(422, "invalid"), "refused_by_server", id="422"),
        pytest.param(refused(403, "moderated"), "refused_by_server", id="403 for a prompt"),
        pytest.param(answered("ha", "content_filter"), "refused_by_server", id="filtered"),
        pytest.param(refused(500, "the tokenizer panics"), "refused_by_server", id="500 whenever it is asked"),
        pytest.param(HUNG_UP, "refused_by_server", id="hung up whenever it is asked"),
    ],
)
def test_one_bad_prompt_fails_alone(reply, error):
    with FakeServer(echo, poisoned(reply), delay=0.01) as server:
        came = ask(Endpoint(pool(server.url, retries=2), "m", FastClock()), many())
    assert (came[7].finish_reason, came[7].error) == (ERROR, error)
    assert came[:7] + came[8:] == expected(many()[:7] + many()[8:])


def test_a_bad_prompt_that_comes_first_is_settled_by_a_harmless_one():
    with FakeServer(echo, poisoned(refused(400, "content policy"))) as server:
        came = ask(Endpoint(pool(server.url), "m"), ["question 7"] * 20)
    assert came == [Completion("HTTP 400: content policy", ERROR, error="refused_by_server")] * 20
    assert len(server.seen) == 21


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (refused(401, "wrong key"), ["HTTP 401: wrong key", "hint: the server does not take this key: `key` of the"]),
        (refused(403, "not yours"), ["HTTP 403: not yours (to a harmless prompt too)", "the key may not use this"]),
        (refused(404, "The model `m` does not exist"), ["HTTP 404: The model `m`", "`model` is the server's name"]),
        (refused(402, "pay"), ["HTTP 402: pay", "no credit"]),
        (refused(429, "insufficient_quota"), ["HTTP 429: insufficient_quota", "no credit"]),
        (refused(400, "unknown field top_k"), ["unknown field top_k (to a harmless prompt too)", "take `extra`"]),
        (refused(400, "maximum context length is 5"), ["maximum context length is 5 (to a harmless prompt too)"]),
        (Reply(302, headers=(("Location", "http://[\x7f"),)), ["HTTP 302"]),
        (Reply(302), ["HTTP 302, a redirect to ``"]),
        (refused(405), ["HTTP 405", "is `url` the address of an OpenAI-compatible server?"]),
    ],
)
def test_what_would_fail_every_request_stops_and_says_what_to_look_at(reply, told):
    with FakeServer(echo, lambda number, body: reply) as server:
        with pytest.raises(RecipeError) as failed:
            ask(Endpoint(pool(server.url), "m", FastClock()), many(20))
        assert str(failed.value).startswith(f"{server.url} (model m): ")
        assert [part for part in told if part not in str(failed.value)] == []
    assert len(server.seen) <= 20 + 1


def test_a_key_that_is_taken_back_stops_the_run_and_not_each_prompt_alone():
    with FakeServer(echo, lambda number, body: refused(403, "revoked") if number >= 10 else None) as server:
        with pytest.raises(RecipeError, match=r"HTTP 403: revoked \(to a harmless prompt too\)"):
            ask(Endpoint(pool(server.url), "m"), many())
        assert len(server.seen) < 30


def test_a_404_of_a_server_that_has_answered_is_tried_again():
    """A gateway answers so while what is behind it starts anew."""
    with FakeServer(echo, lambda number, body: refused(404) if 20 <= number < 24 else None) as server:
        assert ask(Endpoint(pool(server.url), "m", FastClock()), many(40)) == expected(many(40))


def test_a_try_that_takes_too_long_is_cut_off_and_tried_again():
    with FakeServer(echo, lambda number, body: Reply(delay=30) if number == 0 else None) as server:
        began = time.monotonic()
        assert ask(Endpoint(pool(server.url, timeout_seconds=1), "m", FastClock()), ["x"]) == expected(["x"])
        assert 1 <= time.monotonic() - began < 15


def test_a_slow_drip_is_too_long_as_well():
    """The time-out is for the whole try, not for silence: a server that sends a byte now and then is no answer."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not over.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        with pytest.raises(RetryableError, match=r"no answer within 0.4 s, after 1 try"):
            ask(Endpoint(pool(url, timeout_seconds=0.4, retries=0), "m", FastClock()), ["x"])
    finally:
        over.set()
        listening.close()
        thread.join()


def test_a_time_out_counts_as_three_failures():
    with FakeServer(echo, lambda number, body: Reply(delay=30)) as server:
        opened = Endpoint(pool(server.url, timeout_seconds=0.1, retries=8), "m", FastClock())
        with pytest.raises(RetryableError, match=r"no answer within 0\.1 s, after 3 tries"):
            ask(opened, ["x"])


def test_a_server_that_is_not_up_yet_is_waited_for():
    server = FakeServer(echo)
    server.start()
    server.stop()
    starting = threading.Timer(0.3, server.start)
    starting.start()
    try:
        assert ask(Endpoint(pool(server.url, retries=30), "m", FastClock()), many(20)) == expected(many(20))
    finally:
        starting.join()
        server.stop()


def test_a_server_that_dies_and_comes_back_loses_nothing():
    with FakeServer(echo, delay=0.01) as server:

        def restart() -> None:
            while len(server.seen) < 60:
                time.sleep(0.005)
            server.stop()
            time.sleep(0.2)
            server.start()

        thread = threading.Thread(target=restart)
        thread.start()
        try:
            assert ask(Endpoint(pool(server.url, retries=30), "m", FastClock()), many(200)) == expected(many(200))
        finally:
            thread.join()
    asked_twice = Counter(server.calls) - Counter(many(200))
    assert asked_twice.total() <= 8  # what was under way when it died


def test_no_server_at_all_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    with pytest.raises(RetryableError, match=r"cannot connect \(.*[Rr]efused.*\), after 3 tries"):
        ask(Endpoint(pool(url, retries=2), "m", FastClock()), many(50))


def test_a_host_without_a_name_is_told():
    with pytest.raises(RetryableError, match=r"http://no-such-host\.invalid/v1: cannot connect"):
        ask(Endpoint(pool("http://no-such-host.invalid/v1", retries=0), "m", FastClock()), ["x"])


def test_http_where_https_is_asked_is_told():
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with pytest.raises(RecipeError, match="no secure connection"):
            ask(Endpoint(pool(f"https://127.0.0.1:{listening.getsockname()[1]}/v1"), "m", FastClock()), ["x"])
    finally:
        thread.join()
        listening.close()


def test_nobody_is_followed_elsewhere(monkeypatch):
    monkeypatch.setenv("THE_KEY", KEY)
    with FakeServer(echo) as other:
        to = Reply(307, headers=(("Location", f"{other.url}/chat/completions?token=hidden"),))
        with FakeServer(echo, lambda number, body: to) as server:
            with pytest.raises(RecipeError, match=r"HTTP 307, a redirect to `http://127.0.0.1:\d+/v1/chat/") as failed:
                ask(Endpoint(pool(server.url, key="THE_KEY"), "m"), ["x"])
            assert "hidden" not in str(failed.value)
    assert other.seen == []


FAILURES = {
    "told back": refused(400, f"Incorrect API key provided: {KEY}"),
    "wrong": refused(401, f"Incorrect API key provided: {KEY}"),
    "garbage": Reply(body=f"<html>{KEY}</html>".encode()),
    "server error": refused(500, f"Bearer {KEY} panics"),
    "redirect": Reply(302, headers=(("Location", f"http://elsewhere.invalid/{KEY}"),)),
    "hung up": HUNG_UP,
    "cut in the middle": refused(500, "x" * 280 + KEY),
    "cut in the middle of garbage": Reply(body=b"x" * 280 + KEY.encode()),
    "cut in a redirect": Reply(302, headers=(("Location", f"http://elsewhere.invalid/{'x' * 160}{KEY}"),)),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_key_is_in_no_error_no_traceback_and_no_completion(name, monkeypatch, capfd, caplog):
    monkeypatch.setenv("THE_KEY", KEY)
    with FakeServer(echo, lambda number, body: FAILURES[name]) as server:
        opened = Endpoint(pool(server.url, key="THE_KEY", retries=1), "m", FastClock())
        with pytest.raises(MarcoError) as failed:
            ask(opened, ["x"])
        assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    told: BaseException | None = failed.value
    while told is not None:
        shown = traceback.TracebackException.from_exception(told, capture_locals=True)
        ours = [frame for frame in shown.stack if "marco_data" in frame.filename]
        assert ours or told is not failed.value
        assert KEY[:9] not in "".join(traceback.StackSummary.from_list(ours).format()) + str(told)
        told = told.__context__
    assert KEY[:9].encode() not in pickle.dumps(failed.value)
    assert KEY[:9] not in str(failed.value) + caplog.text + "".join(capfd.readouterr())


def test_a_prompt_that_is_refused_does_not_tell_the_key(monkeypatch):
    monkeypatch.setenv("THE_KEY", KEY)
    with FakeServer(echo, poisoned(refused(400, f"no, {KEY}"))) as server:
        (came,) = ask(Endpoint(pool(server.url, key="THE_KEY"), "m"), ["question 7"])
    assert came == Completion("HTTP 400: no, ***", ERROR, error="refused_by_server")


def test_an_open_endpoint_shows_no_key_and_stays_in_its_process(monkeypatch):
    monkeypatch.setenv("THE_KEY", KEY)
    described = pool("http://127.0.0.1:9/v1", key="THE_KEY")
    opened = Endpoint(described, "m")
    assert repr(opened) == "Endpoint(http://127.0.0.1:9/v1, m)"
    assert KEY not in repr(vars(opened)) + described.model_dump_json()
    assert KEY.encode() not in pickle.dumps(described)
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(opened)


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_key_that_is_not_set_is_told_by_its_name(value, monkeypatch):
    monkeypatch.delenv("THE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("THE_KEY", value)
    with pytest.raises(RecipeError, match=r"`THE_KEY`.*is not set\n\nhint: export THE_KEY="):
        Endpoint(pool("http://127.0.0.1:9/v1", key="THE_KEY"), "m")


@pytest.mark.parametrize("value", ["two\nlines", "clé"])
def test_a_key_that_cannot_be_sent_is_told_without_it(value, monkeypatch):
    monkeypatch.setenv("THE_KEY", value)
    with pytest.raises(RecipeError, match="`THE_KEY` holds what cannot be a key") as failed:
        Endpoint(pool("http://127.0.0.1:9/v1", key="THE_KEY"), "m")
    assert value not in str(failed.value)


def test_the_proxy_of_the_environment_is_for_other_machines(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert _proxy("https://models.example/v1") == "http://proxy:3128"
    assert _proxy("https://inside.example/v1") is None
    assert _proxy("http://models.example/v1") is None
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert _proxy("http://127.0.0.1:8000/v1") is None


def test_what_is_cancelled_ends_its_connection_and_its_turn():
    async def cancel() -> Completion:
        opened = Endpoint(pool(server.url, concurrency=1), "m")
        slow = asyncio.create_task(opened.complete(request("slow")))
        while not server.seen:
            await asyncio.sleep(0.01)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        try:
            return await asyncio.wait_for(opened.complete(request("next")), 5)
        finally:
            await opened.close()

    with FakeServer(echo, lambda number, body: Reply(delay=30) if number == 0 else None) as server:
        assert [asyncio.run(cancel())] == expected(["next"])


def test_a_schema_goes_to_the_server_as_json():
    schema = json.dumps({"type": "object"}, sort_keys=True)

    async def one() -> Completion:
        opened = Endpoint(pool(server.url), "m")
        try:
            return await opened.complete(request("x", schema=schema))
        finally:
            await opened.close()

    with FakeServer(lambda body: json.dumps(body["response_format"]["json_schema"]["schema"])) as server:
        assert json.loads(asyncio.run(one()).text) == {"type": "object"}
