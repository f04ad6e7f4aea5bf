"""The fast engine gives the ids of the `tokenizers` library, on everything, or is not used."""

import io
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marco_data import tokenizer as module
from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.execute import LocalExecutor
from marco_data.fast_encoder import fast_encoder, samples
from marco_data.step import Tools
from marco_data.storage import Storage
from marco_data.tokenizer import SPECIAL_TOKENS, Tokenizer

SAMPLE = Path(__file__).resolve().parents[1] / "recipes" / "sample" / "tokenizer.json"
ANY_TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(" \n\r\t\u00a0\u3000'’sStTrRvVmMlLdDeE\u0301\u0308\u1100\u1161\u11a8<|>1２²!.。\x00"),
    ),
    max_size=200,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(SAMPLE)


@pytest.fixture(scope="module")
def qwen(test_data) -> Tokenizer:
    return Tokenizer.load(test_data / "qwen_tokenizer")


def changed(folder: Path, **fields: object) -> Path:
    """A copy of the sample tokenizer with other fields."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(SAMPLE.read_text()) | fields))
    return path


def assert_same_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.engine == "fastokens"
    ids, offsets = tokenizer._encode(texts)
    expected, expected_offsets = module._library_encoder(tokenizer._encoder, cuts=True)(texts)
    differing = [
        text
        for text, (a, b), (c, d) in zip(
            texts,
            pairwise(offsets),
            pairwise(expected_offsets),
            strict=True,
        )
        if not np.array_equal(ids[a:b], expected[c:d])
    ]
    assert differing == []
    assert ids.dtype == np.uint32
    assert np.array_equal(offsets, expected_offsets)


@settings(max_examples=300)
@given(texts=st.lists(ANY_TEXT, max_size=4))
@example(["", "<|endoftext|>", "a<|im_start|>\u0301", "'S ſ \u212a 'ſ"])
def test_random_text_has_the_librarys_ids(tokenizer, texts):
    assert_same_ids(tokenizer, texts)


@pytest.mark.parametrize("context", ["a{}b", " {}x", "1{} {}", "'s{}\n{}", "e\u0301{}\u0323\u0301"])
def test_every_code_point_has_the_librarys_ids(tokenizer, context):
    points = [chr(point) for point in (*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE0200))]
    rows = ["".join(points[at : at + 32]) for at in range(0, len(points), 32)]
    assert_same_ids(tokenizer, [".".join(context.replace("{}", point) for point in row) for row in rows])


@given(parts=st.lists(st.one_of(st.sampled_from([*SPECIAL_TOKENS, "<|", "|>", "endoftext"]), ANY_TEXT), max_size=6))
def test_text_that_spells_special_tokens_has_the_librarys_ids(tokenizer, parts):
    text = "".join(parts)
    assert_same_ids(tokenizer, [text, text.upper()])
    assert not set(tokenizer.encode_batch([text])[0][:-1].tolist()) & set(range(4093, 4096))


@pytest.mark.parametrize("unit", ["a", " ", "\n", "ab ", "!", "中", "x\u0301", "\u0301", "1", " \n", "\x00", "한"])
def test_a_very_long_document_has_the_librarys_ids(tokenizer, unit):
    assert_same_ids(tokenizer, [unit * (200_000 // len(unit)), unit * 3])


def test_many_documents_at_once_have_the_ids_of_each_alone(tokenizer):
    order = random.Random(1)
    texts = ["".join(order.choices("ab é中1\n'.", k=order.randrange(0, 300))) for _ in range(3_000)]
    flat, offsets = tokenizer.encode_flat(texts)
    alone = [tokenizer.encode_flat([text])[0] for text in texts]
    assert np.array_equal(flat, np.concatenate(alone))
    assert np.array_equal(np.diff(offsets), [len(ids) for ids in alone])
    assert (flat[offsets[1:] - 1] == tokenizer.end_of_document_id).all()


def test_an_encoder_that_differs_in_one_id_is_refused(tokenizer):
    spec = SAMPLE.read_text()
    reference = module._library_encoder(tokenizer._encoder, cuts=True)

    def other(texts):
        ids, offsets = reference(texts)
        return np.concatenate([ids[:-1], [0]]).astype(np.uint32), offsets

    assert fast_encoder(spec, SPECIAL_TOKENS, reference) is not None
    assert fast_encoder(spec, SPECIAL_TOKENS, other) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"normalizer": {"type": "NFKC"}},
        {"pre_tokenizer": None},
        {"model": json.loads(SAMPLE.read_text())["model"] | {"dropout": 0.5}},
        {
            "added_tokens": [
                *json.loads(SAMPLE.read_text())["added_tokens"],
                # The library numbers it 4096 whatever it says.
                {"id": 5000, "content": "<mark>", "special": False}
                | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
            ]
        },
    ],
    ids=["NFKC", "no pre-tokenizer", "dropout", "an id the library does not give"],
)
def test_other_shapes_are_left_to_the_library(tmp_path, fields):
    tokenizer = Tokenizer.load(changed(tmp_path, **fields))
    assert tokenizer.engine == "tokenizers"
    assert tokenizer.decode(tokenizer.encode_batch(["plain"])[0]) == "plain"


def test_truncation_and_padding_in_the_file_are_ignored(tmp_path, tokenizer):
    path = changed(
        tmp_path, truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    )
    cut = Tokenizer.load(path)
    assert cut.engine == "fastokens"
    assert cut.encode_batch(["one two three four"])[0].tolist() == (
        tokenizer.encode_batch(["one two three four"])[0].tolist()
    )


def test_the_engine_is_no_part_of_the_identity(tokenizer):
    assert set(tokenizer.identity()) == {"hash", "end_of_document", "id", "vocab_size"}


def test_the_strings_that_decide_are_fixed(tokenizer):
    assert samples(["<x>"]) == samples(["<x>"])
    assert {"<x>", "a<x> <x>\n", "<X>"} < set(samples(["<x>"]))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
@pytest.mark.parametrize(("before", "threads"), [("", (os.cpu_count() or 1) - 1), ("one_thread_for_tokens()", 0)])
def test_a_worker_encodes_with_one_thread(before, threads):
    script = (
        "from pathlib import Path\n"
        "from marco_data.execute import one_thread_for_tokens\n"
        "from marco_data.tokenizer import Tokenizer\n"
        f"{before}\n"
        f"Tokenizer.load({str(SAMPLE)!r}).encode_batch(['some text ' * 5_000] * 20)\n"
        "names = [(task / 'comm').read_text() for task in Path('/proc/self/task').iterdir()]\n"
        "print(sum(name.startswith('fastokens') for name in names))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "FASTOKENS_BPE_THREADS"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) == min(threads, 31)


@dataclass(frozen=True)
class Settings(Node):
    """Says how many threads a worker would encode with."""

    kind: ClassVar[str] = "settings"

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        return [Task(self, f"task-{number}", {"number": number}, ()) for number in range(3)]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        return Outcome(facts={"threads": os.environ.get("FASTOKENS_BPE_THREADS")})


def test_only_workers_that_share_a_machine_are_held_to_one_thread(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTOKENS_BPE_THREADS", raising=False)
    threads = {}
    for workers in (1, 2):
        storage = Storage(str(tmp_path / str(workers)))
        tasks = Settings().tasks(Context(storage, Tools(), {}))
        executor = LocalExecutor(workers)
        done = list(executor.run(tasks, storage))
        executor.close()
        assert [one.error for one in done] == [None] * 3
        threads[workers] = {one.record.facts["threads"] for one in done if one.record}
    assert threads == {1: {None}, 2: {"1"}}


def documents(folder: Path, stride: int) -> list[str]:
    files = sorted(folder.glob("clean/*.jsonl.zst")) + sorted(folder.glob("web/*.jsonl.zst"))
    assert len(files) > 64
    texts = []
    for file in files:
        with file.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as stream:
            lines = io.TextIOWrapper(stream, "utf-8").readlines()
        texts += [json.loads(line)["text"] for line in lines[::stride]]
    return texts


@pytest.mark.parametrize("stride", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_text_of_64_languages_has_the_librarys_ids(qwen, test_data, stride):
    assert_same_ids(qwen, documents(test_data, stride))


def test_a_merged_pair_of_documents_is_no_cache_hit(qwen):
    """What was encoded before changes nothing: the engine keeps a cache of words."""
    texts = ["naïve cafés", "naïve", " cafés", "naïve cafés"]
    assert_same_ids(qwen, texts)
    assert_same_ids(qwen, texts[::-1])
