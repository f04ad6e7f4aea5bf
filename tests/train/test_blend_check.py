"""A blend's shards are refused before training where they are not what was built, by file and with a remedy."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from written_shards import END, TOKENIZER, VOCABULARY, entry, random_documents, write_blend, write_shard, write_stage

from marco_data.errors import RecipeError
from marco_data.tokens import MAGIC
from marco_data.train import blend as module
from marco_data.train import shard_files
from marco_data.train.blend import load_blend
from marco_data.train.order import plan_stages


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_stage(tmp_path, [([20, 30, 40], 1.0), ([25] * 4, 1.5)])


def refused(path: Path | str, **options) -> str:
    with pytest.raises(RecipeError) as caught:
        load_blend(path, **options)
    assert caught.value.hint, "a remedy"
    return caught.value.message


def shard(path: Path, number: int = 0) -> str:
    return str(path.parent / json.loads(path.read_text())["entries"][number]["prefix"])


def test_a_stage_is_read_with_what_it_draws(path):
    blend = load_blend(path)
    assert [(e.documents, e.tokens, e.drawn, e.epochs) for e in blend.entries] == [(3, 90, 90, 1.0), (4, 100, 150, 1.5)]
    assert (blend.family, blend.stage, blend.fingerprint, blend.drawn) == ("made", 1, "f1", 240)
    assert blend.tokenizer == TOKENIZER
    folder = path.parent / "named"
    folder.mkdir()
    path.rename(folder / "blend.json")
    (path.parent / "shards-1").rename(folder / "shards-1")
    assert [e.content for e in load_blend(folder).entries] == [e.content for e in blend.entries]


@pytest.mark.parametrize("epochs", [1 / 3, 0.1, 1.7, 12.25, 3])
def test_fractional_epochs_draw_the_nearest_number_of_tokens(tmp_path, epochs):
    (named,) = load_blend(write_stage(tmp_path, [([33, 44], epochs)])).entries
    assert abs(named.drawn - epochs * 77) <= 0.5
    assert named.epochs == pytest.approx(epochs, abs=0.5 / 77)


def test_a_shard_cut_short_is_refused(path):
    cut = Path(shard(path) + ".bin")
    cut.write_bytes(cut.read_bytes()[:-4])
    message = refused(path)
    assert shard(path) in message
    assert ".bin has" in message


def test_a_missing_shard_is_refused(path):
    Path(shard(path, 1) + ".idx").unlink()
    assert f"{shard(path, 1)}.idx" in refused(path)


def test_an_empty_shard_is_refused(path, tmp_path):
    prefix = tmp_path / "empty-000"
    Path(f"{prefix}.bin").write_bytes(b"")
    counts = np.array([1, 0, 1], "<u8")  # version, sequences, documents + 1
    Path(f"{prefix}.idx").write_bytes(
        MAGIC + counts[:1].tobytes() + b"\x04" + counts[1:].tobytes() + np.array([0], "<i8").tobytes()
    )
    raw = json.loads(path.read_text())
    raw["entries"].append(entry(tmp_path, prefix, [], 1.0))
    path.write_text(json.dumps(raw))
    assert "empty-000` is empty" in refused(path)


def test_an_id_that_the_tokenizer_does_not_have_is_refused_and_placed(tmp_path):
    documents = random_documents(np.random.default_rng(1), [20, 30, 10])
    documents[1][4] = VOCABULARY
    prefix = write_shard(tmp_path / "a-000", documents)
    path = write_blend(tmp_path / "blend.json", [entry(tmp_path, prefix, documents, 1.0)])
    assert f"token id {VOCABULARY} at 24, in document 1; the tokenizer has 512 ids" in refused(path)


def test_an_id_in_a_shard_too_large_to_read_whole_is_refused_when_it_is_met(tmp_path, monkeypatch):
    from marco_data.errors import ShardError
    from marco_data.train.batches import Samples

    monkeypatch.setattr(module, "READ_WHOLE", 100)
    documents = random_documents(np.random.default_rng(1), [20, 30, 10])
    documents[1][4] = VOCABULARY + 1
    prefix = write_shard(tmp_path / "a-000", documents)
    path = write_blend(tmp_path / "blend.json", [entry(tmp_path, prefix, documents, 1.0)])
    samples = Samples(plan_stages([load_blend(path)], sequence=8).stage(1))
    with pytest.raises(ShardError, match=f"token id {VOCABULARY + 1} at 24, in document 1"):
        [samples[k] for k in range(len(samples))]
    assert "token id 513 at 24" in refused(path, verify=True)


def test_a_shard_with_other_bytes_than_its_name_says_is_refused(path):
    changed = Path(shard(path) + ".bin")
    data = bytearray(changed.read_bytes())
    data[0] ^= 1
    changed.write_bytes(data)
    message = refused(path)
    assert "has changed: its bytes hash to" in message
    assert shard(path) in message


def test_a_large_shard_has_one_identity_verified_or_not_and_shows_a_change_at_its_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_WHOLE", 100)
    monkeypatch.setattr(shard_files, "_SAMPLED", 64)
    path = write_stage(tmp_path, [([400, 500], 1.0)])
    before = load_blend(path).entries[0].content
    assert load_blend(path, verify=True).entries[0].content == before
    changed = Path(shard(path) + ".bin")
    whole = changed.read_bytes()
    changed.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert load_blend(path).entries[0].content != before
    changed.write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    assert "has changed" in refused(path, verify=True), "what the samples do not cover is found when asked for"


def test_a_shard_with_other_counts_than_the_blend_says_is_refused(path):
    raw = json.loads(path.read_text())
    raw["entries"][0]["documents"] += 1
    path.write_text(json.dumps(raw))
    assert "3 documents and 90 tokens, where the blend has 4 and 90" in refused(path)


def test_a_shard_whose_documents_end_otherwise_is_refused(path):
    raw = json.loads(path.read_text())
    raw["tokenizer"] = {**TOKENIZER, "id": END + 1}
    path.write_text(json.dumps(raw))
    assert "ends with token 7, where the blend's tokenizer has 8" in refused(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"entries": []}, "names no shard"),
        ({"entries": [{"prefix": "a"}]}, r"entries[0] has no `part`"),
        ({"entries": ["a"]}, "entries[0] is str"),
        ({"tokenizer": {"hash": "a"}}, "tokenizer has no `end_of_document`"),
        ({"tokenizer": None}, "tokenizer is NoneType"),
    ],
)
def test_a_blend_without_what_is_needed_is_refused(path, change, said):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert said in refused(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("epochs", -1), ("epochs", "2"), ("epochs", float("nan")), ("epochs", True), ("tokens", 1.5), ("documents", None)],
)
def test_numbers_that_are_none_are_refused(path, key, value):
    raw = json.loads(path.read_text())
    raw["entries"][1][key] = value
    path.write_text(json.dumps(raw))
    assert f"{key} {value!r}" in refused(path)


def test_a_shard_named_twice_is_refused(path):
    raw = json.loads(path.read_text())
    raw["entries"].append(raw["entries"][0])
    path.write_text(json.dumps(raw))
    assert "twice" in refused(path)


def test_what_is_no_blend_is_refused(tmp_path):
    assert "there is no" in refused(tmp_path / "nowhere" / "blend.json")
    assert "there is no" in refused(tmp_path)
    (tmp_path / "blend.json").write_text("{")
    assert "cannot be read" in refused(tmp_path)


def test_names_hold_the_digest_that_the_data_side_writes(path):
    data = Path(shard(path) + ".bin").read_bytes()
    assert shard(path).endswith(hashlib.sha256(data).hexdigest()[:8])
