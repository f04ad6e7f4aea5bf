"""`marco_data.generation.recorded`: a file of completions answers as the ledger it came from would."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.errors import RecipeError
from marco_data.generation.generator import LENGTH, STOP, Completion, Request, Sampling
from marco_data.generation.ledger import Ledger
from marco_data.generation.recorded import Recorded, export_ledger, write_recorded
from marco_data.storage import Storage

MODEL, REVISION = "org/model", "f" * 40


def request(number: int) -> Request:
    return Request((("user", f"question {number}"),), Sampling(), prompt="ask@1")


def row(number: int, **other: Any) -> dict[str, Any]:
    return {
        "key": f"{number:032x}",
        "prompt": "ask@1",
        "text": f"антwort {number}\n\u2028\0",
        "finish_reason": LENGTH if number % 2 else STOP,
        "tokens_in": number,
        "tokens_out": 2 * number,
        **other,
    }


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def completion(number: int) -> Completion:
    said = row(number)
    return Completion(said["text"], said["finish_reason"], number, 2 * number)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_what_was_written_is_given_back(suffix: str, tmp_path: Path):
    path = tmp_path / f"answers{suffix}"
    assert write_recorded(path, [row(n) for n in range(0, 600, 2)]) == 300
    recorded = Recorded([path])
    assert len(recorded) == 300
    assert recorded.keys() == [key(n) for n in range(0, 600, 2)]
    assert [recorded.get(key(n)) for n in range(602)] == [
        None if n % 2 or n > 598 else completion(n) for n in range(602)
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@given(order=st.permutations(range(9)), cut=st.integers(0, 8))
@settings(max_examples=20, deadline=None)
def test_equal_rows_give_equal_bytes_and_equal_content_one_digest(
    order: list[int], cut: int, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("recorded")
    rows = [row(n) for n in range(9)]
    paths = [folder / name for name in ("a.jsonl.gz", "b.jsonl.gz", "c.jsonl", "d.jsonl.zst")]
    write_recorded(paths[0], rows)
    write_recorded(paths[1], [dict(reversed(rows[n].items())) for n in order])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    write_recorded(paths[2], [rows[n] | {"prompt": "renamed@2", "note": n} for n in order[: cut + 1]])
    write_recorded(paths[3], [rows[n] for n in order[cut:]])
    assert Recorded([paths[0]]).digest == Recorded(paths[2:]).digest
    changed = [*rows[:8], row(8, text="another")]
    write_recorded(paths[1], changed)
    assert Recorded([paths[1]]).digest != Recorded([paths[0]]).digest


def test_packed_files_of_several_members_are_read_to_the_end(tmp_path: Path):
    parts = [(json.dumps(row(n)) + "\n").encode() for n in (1, 2)]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    (tmp_path / "b.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, parts)))
    for name in ("a.jsonl.gz", "b.jsonl.zst"):
        assert Recorded([tmp_path / name]).keys() == [key(1), key(2)]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_file_without_its_end_is_refused(suffix: str, tmp_path: Path):
    path = tmp_path / f"a.jsonl{suffix}"
    write_recorded(path, [row(n) for n in range(200)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RecipeError, match=f"a.jsonl{suffix}` is not a whole"):
        Recorded([path])


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('{"key": ', "it is not JSON"),
        ("[1]", "it is not an object"),
        ("{}", "it has no `key`, `prompt`, `text`"),
        (json.dumps(row(1, key="xyz")), "`key` is not 32 hex digits"),
        (json.dumps(row(1, text=None)), "`text` is not text"),
        (json.dumps(row(1, finish_reason="error")), "`finish_reason` is neither `stop` nor `length`"),
        (json.dumps(row(1, tokens_out=-1)), "`tokens_out` is not a number of tokens"),
        (json.dumps(row(1, tokens_in=True)), "`tokens_in` is not a number of tokens"),
        (json.dumps(row(1, gpu_seconds="1")), "`gpu_seconds` is not a number of seconds"),
    ],
)
def test_a_line_that_is_none_is_named(line: str, wrong: str, tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    path.write_text(f"{json.dumps(row(0))}\n\n{line}\n{json.dumps(row(2))}\n", "utf-8")
    with pytest.raises(RecipeError, match=r"answers\.jsonl:3` is no recorded completion") as raised:
        Recorded([path])
    assert wrong in raised.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"there is no file of recorded completions `.*none\.jsonl`"):
        Recorded([tmp_path / "none.jsonl"])


def test_two_answers_to_one_request_are_refused_where_they_differ(tmp_path: Path):
    write_recorded(tmp_path / "a.jsonl", [row(1), row(2)])
    write_recorded(tmp_path / "b.jsonl", [row(2), row(3)])
    assert len(Recorded([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])) == 3
    write_recorded(tmp_path / "b.jsonl", [row(2, text="else"), row(3)])
    with pytest.raises(RecipeError, match=r"a\.jsonl:2` and `.*b\.jsonl:1` answer the same request"):
        Recorded([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def test_what_is_no_completion_is_not_written(tmp_path: Path):
    with pytest.raises(RecipeError, match="`finish_reason` is neither"):
        write_recorded(tmp_path / "a.jsonl", [row(1, finish_reason="error")])
    assert list(tmp_path.iterdir()) == []


def test_a_ledgers_own_files_answer_like_its_export(tmp_path: Path):
    storage = Storage(str(tmp_path / "root"))
    asked, files = {}, []
    for place in ("one", "two", "three"):
        for model in (MODEL, "org/other"):
            ledger = Ledger(storage, model, REVISION, place)
            numbers = range(400) if place == "one" else range(300, 500)
            for n in numbers:
                key = ledger.key(request(n))
                said = ledger.append(key, request(n), Completion(f"{model} answers {n}", STOP, 1, n, n / 7))
                asked[key] = said
            if place == "three":
                ledger.close()  # never finished: a log
            else:
                files.append(tmp_path / "root" / ledger.finish(map(ledger.key, map(request, numbers))).path)
    exported = tmp_path / "all.jsonl.zst"
    assert export_ledger(storage, exported) == len(asked) == 1000
    recorded = Recorded([exported])
    assert {key: recorded.get(key) for key in asked} == asked
    assert recorded.keys() == sorted(asked)
    assert Recorded(files).digest == recorded.digest
    first = exported.read_bytes()
    export_ledger(storage, exported)
    assert exported.read_bytes() == first


def test_of_a_request_answered_in_two_places_the_export_has_the_answer_of_the_first(tmp_path: Path):
    storage = Storage(str(tmp_path / "root"))
    for place in ("b", "a"):
        ledger = Ledger(storage, MODEL, REVISION, place)
        key = ledger.key(request(1))
        ledger.append(key, request(1), Completion(f"in {place}", STOP))
        ledger.finish([key])
    assert export_ledger(storage, tmp_path / "all.jsonl") == 1
    line = json.loads((tmp_path / "all.jsonl").read_text("utf-8"))
    assert (line["text"], line["prompt"], line["model"], line["revision"]) == ("in a", "ask@1", MODEL, REVISION)


def test_a_file_that_is_no_ledgers_is_refused(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(RecipeError, match="is no file of the ledger: it has no column `prompt`"):
        Recorded([tmp_path / "other.parquet"])
