"""The chat protocol without a server: what is sent, and what every kind of reply means."""

import json

import pytest
from fake_server import answered, refused
from hypothesis import given
from hypothesis import strategies as st

from marco_data.generation.chat import Fault, Kind, harmless, payload, read_reply
from marco_data.generation.generator import LENGTH, STOP, Completion, Request, Sampling

SCHEMA = '{"properties":{"a":{"type":"integer"}},"type":"object"}'


def test_a_call_carries_all_that_shapes_the_answer():
    sampling = Sampling(temperature=0.3, top_p=0.8, max_tokens=77, stop=("\n\n", "END"))
    request = Request((("system", "s"), ("user", "ถาม")), sampling, SCHEMA, sample=2, prompt="qa@1")
    assert json.loads(payload(request, "qwen", {"top_k": 20})) == {
        "model": "qwen",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "ถาม"}],
        "temperature": 0.3,
        "top_p": 0.8,
        "max_tokens": 77,
        "seed": request.seed,
        "stop": ["\n\n", "END"],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(SCHEMA)}},
        "top_k": 20,
    }


def test_samples_and_attempts_are_drawn_with_other_seeds():
    def seed(**numbers: int) -> int:
        return json.loads(payload(Request((("user", "x"),), Sampling(), **numbers), "m", {}))["seed"]

    assert len({seed(), seed(sample=1), seed(attempt=1), seed(sample=1, attempt=1)}) == 4
    assert seed(sample=1) == seed(sample=1)


def test_nothing_is_sent_for_what_is_not_wanted():
    assert {"stop", "response_format"}.isdisjoint(json.loads(payload(Request((("user", "x"),), Sampling()), "m", {})))


def test_a_harmless_request_differs_in_its_messages_alone():
    request = Request((("user", "bad"),), Sampling(max_tokens=5), SCHEMA)
    sent, other = (json.loads(payload(r, "m", {"top_k": 1})) for r in (request, harmless(request)))
    assert {key for key in sent if sent[key] != other[key]} == {"messages", "seed"}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", STOP),
        ("eos", STOP),
        ("eos_token", STOP),
        ("end_turn", STOP),
        ("length", LENGTH),
        ("max_tokens", LENGTH),
    ],
)
def test_endings_are_mapped(said, meant):
    assert read_reply(200, answered("text", said).body) == Completion("text", meant, 7, 3)


def test_thinking_to_the_end_of_the_tokens_is_an_empty_text():
    assert read_reply(200, answered(None, "length").body) == Completion("", LENGTH, 7, 3)


def test_what_a_filter_has_cut_is_refused_and_its_tokens_count():
    came = read_reply(200, answered("half", "content_filter").body)
    assert came == Completion("", "error", 7, 3, error="refused_by_server")


def test_a_server_that_does_not_count_gives_no_tokens():
    assert read_reply(200, answered("text", tokens=None).body) == Completion("text", STOP, 0, 0)


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    body = b'{"choices":[{"message":{"content":"a\\ud83d\\ude00b\\ud83d"},"finish_reason":"length"}]}'
    assert read_reply(200, body) == Completion("a😀b\ufffd", LENGTH)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b"<html>502</html>",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": [3]}',
        b'{"choices": [{"finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": ["parts"]}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "a"}, "finish_reason": null}]}',
        b'{"choices": [{"message": {"content": "a"}, "finish_reason": "abort"}]}',
        b'{"choices": [{"message": {"content": "a"}, "finish_reason": ["stop"]}]}',
        b'{"error": {"message": "engine died"}}',
        answered("cut short").body[:-5],
    ],
)
def test_a_200_that_is_no_finished_answer_is_tried_again(body):
    came = read_reply(200, body)
    assert isinstance(came, Fault)
    assert came.kind is Kind.AGAIN


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_reply_whatever_is_unreadable(status, body):
    assert isinstance(read_reply(status, body), Completion | Fault)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "content", "finish_reason", "usage", "error", "detail"]), inner
            )
        ),
    ),
    st.sampled_from([200, 400, 429, 500]),
)
def test_no_json_whatever_is_unreadable(value, status):
    assert isinstance(read_reply(status, json.dumps(value).encode()), Completion | Fault)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 512 tokens. However, you requested 900 tokens",
        "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 512 tokens",
        "The decoder prompt (length 5036) is longer than the maximum model length of 4096.",
        "The input (691,793 tokens) is longer than the model's context length (540000)",
        "the request exceeds the available context size, try increasing it",
        "`inputs` tokens + `max_new_tokens` must be <= 4096",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "context_length_exceeded",
    ],
)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_prompt_beyond_the_context_is_known_by_what_servers_say(status, message):
    came = read_reply(status, refused(status, message).body)
    assert isinstance(came, Fault)
    assert (came.kind, came.error) == (Kind.PROMPT, "prompt_too_long")
    assert message[:40] in came.what


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "schema: unsupported keyword", Kind.PROMPT),
        (422, "validation error", Kind.PROMPT),
        (413, "", Kind.PROMPT),
        (403, "moderated", Kind.PROMPT),
        (401, "wrong key", Kind.ALL),
        (402, "no credit", Kind.ALL),
        (404, "The model `x` does not exist.", Kind.ALL),
        (404, "no context window here", Kind.ALL),
        (405, "", Kind.ALL),
        (204, "", Kind.ALL),
        (408, "", Kind.AGAIN),
        (429, "Rate limit reached", Kind.BUSY),
        (429, "Request too large for m on tokens per min (TPM): Limit 30000, Requested 40000", Kind.PROMPT),
        (429, "insufficient_quota", Kind.ALL),
        (500, "CUDA error", Kind.AGAIN),
        (502, "", Kind.AGAIN),
        (503, "loading", Kind.BUSY),
        (504, "", Kind.AGAIN),
        (529, "overloaded", Kind.BUSY),
    ],
)
def test_what_a_status_is_good_for(status, message, kind):
    came = read_reply(status, refused(status, message).body)
    assert isinstance(came, Fault)
    assert came.kind is kind
    assert came.what.startswith(f"HTTP {status}")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "the cause"}},
        {"error": "the cause"},
        {"message": "the cause"},
        {"detail": "the cause"},
        {"detail": [{"msg": "the cause"}]},
    ],
)
def test_the_servers_own_words_are_told_whichever_way_it_writes_them(body):
    came = read_reply(422, json.dumps(body).encode())
    assert isinstance(came, Fault)
    assert "the cause" in came.what


def test_a_page_of_words_is_cut_and_on_one_line():
    came = read_reply(500, b"line\n\x1b[31m" * 10_000)
    assert isinstance(came, Fault)
    assert len(came.what) < 350
    assert came.what.isprintable()
