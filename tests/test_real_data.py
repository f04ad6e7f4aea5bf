"""Stages 3 and 4 on real text in 64 languages, on both executors, read back by Megatron's own reader.

Needs the folder that MARCO_TEST_DATA names; the Megatron reader needs torch and megatron-core.
"""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest

from marco_data.languages import LANGUAGES
from marco_data.stage import Stage, load_stage
from marco_data.storage import Storage
from marco_data.tokenizer import Tokenizer
from marco_data.tokens import Shard

DATA = os.environ.get("MARCO_TEST_DATA")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DATA is None, reason="MARCO_TEST_DATA is not set: no real text here"),
]

RECIPE = """
family: real
stage: {stage}
tokenizer: {{path: {tokenizer}}}
budget: {budget}
languages: all
sources:
  clean: {{paths: ["{data}/clean/*.jsonl.zst"], fields: {{text: text, id: id, url: url, licence: licence}}}}
  pages: {{paths: ["{data}/web/*.warc.gz"]}}
  pages_text: {{paths: ["{data}/web/*.warc.wet.gz"]}}
  registers: {{paths: ["{data}/web/turku_register_docs.jsonl.zst"], fields: {{id: id}}}}
mixture:
  multilingual_web: {{weight: 62.5, sources: [clean, pages, pages_text]}}
  registers: {{weight: 10}}
limits: {{failed_rows: 0.01, failed_files: 0.01}}
"""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("recipes")
    with gzip.open(f"{DATA}/qwen_tokenizer/tokenizer.json.gz") as packed:
        (folder / "tokenizer.json").write_bytes(packed.read())
    out = {}
    for stage, budget in ((3, "8M"), (4, "5M")):
        out[stage] = folder / f"stage{stage}.yaml"
        text = RECIPE.format(stage=stage, budget=budget, data=DATA, tokenizer=folder / "tokenizer.json")
        out[stage].write_text(text, encoding="utf-8")
    return out


def build(recipe: Path, stage: int, root: Path, *options: str) -> str:
    """Build in a process of its own, as a user does; what it said on stderr."""
    command = [sys.executable, "-m", "marco_data.cli", "build-stage", str(stage), "--recipe", str(recipe)]
    ran = subprocess.run([*command, "--root", str(root), *options], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


@pytest.fixture(scope="module")
def roots(recipes, tmp_path_factory) -> dict[str, Path]:
    out = {name: tmp_path_factory.mktemp(name) for name in ("local", "ray")}
    for stage in (3, 4):
        build(recipes[stage], stage, out["local"], "--executor", "local", "--workers", "2")
        build(recipes[stage], stage, out["ray"], "--workers", "2")
    return out


@pytest.fixture(scope="module", params=[3, 4])
def stage(request, roots) -> tuple[Stage, Storage]:
    storage = Storage(str(roots["local"]))
    return load_stage(storage, "real", request.param), storage


def test_both_executors_give_the_same_bytes(roots):
    assert digests(roots["local"]) == digests(roots["ray"])


def test_a_second_run_does_nothing(recipes, roots):
    before = digests(roots["local"])
    for number in (3, 4):
        said = build(recipes[number], number, roots["local"], "--executor", "local")
        assert "to do" not in said.replace("nothing to do", "")
    assert digests(roots["local"]) == before


def test_books_balance_and_every_language_is_there(stage):
    built, _ = stage
    assert built.balanced
    assert built.books.read > 14_000
    if built.stage == 3:
        assert {shard["language"] for shard in built.shards} == set(LANGUAGES)


def test_stage_four_shares_no_document_with_stage_three(roots):
    storage = Storage(str(roots["local"]))
    ids = {}
    for number in (3, 4):
        shards = load_stage(storage, "real", number).shards
        ids[number] = {i for s in shards for i in storage.read_table(s["lineage"], ["id"])["id"].to_pylist()}
        assert len(ids[number]) == sum(s["documents"] for s in shards)
    assert not ids[3] & ids[4]


def test_detokenized_text_is_the_kept_text(stage, recipes):
    built, storage = stage
    tokenizer = Tokenizer.load(recipes[3].parent / "tokenizer.json", "<|endoftext|>")
    texts = kept_texts(built, storage)
    checked = 0
    for entry in built.shards:
        shard = Shard(f"{storage.root}/{entry['prefix']}")
        ids = storage.read_table(entry["lineage"], ["id"])["id"].to_pylist()
        assert shard.documents == len(ids) == entry["documents"]
        for number, document in enumerate(ids):
            tokens = shard.read_document(number)
            assert tokens[-1] == tokenizer.end_of_document_id
            assert tokenizer.decode(tokens[:-1]) == texts[document]
            checked += 1
    assert checked == built.books.kept


def kept_texts(built: Stage, storage: Storage) -> dict[str, str]:
    files = [file for record in built.records(storage, "measure") for file in record.data]
    sidecars = [record.data[0] for record in built.records(storage, "dedup")]
    texts = {}
    for file, sidecar in zip(files, sidecars, strict=True):
        verdicts = storage.read_table(sidecar.path, ["id", "kept"])
        text = storage.read_table(file.path, ["text"])["text"].filter(verdicts["kept"])
        ids = verdicts["id"].filter(verdicts["kept"])
        assert pc.all(pc.is_valid(text), min_count=0).as_py()
        texts |= dict(zip(ids.to_pylist(), text.to_pylist(), strict=True))
    return texts


@pytest.mark.filterwarnings("ignore")
def test_megatron_core_reads_every_shard(stage):
    pytest.importorskip("torch", reason="megatron-core needs torch")
    indexed = pytest.importorskip(
        "megatron.core.datasets.indexed_dataset", reason="needs megatron-core", exc_type=ImportError
    )
    built, storage = stage
    for entry in built.shards:
        prefix = f"{storage.root}/{entry['prefix']}"
        theirs, ours = indexed.IndexedDataset(prefix), Shard(prefix)
        assert len(theirs) == ours.documents == entry["documents"]
        assert sum(len(theirs[i]) for i in range(len(theirs))) == entry["tokens"]
        assert all((theirs[i] == ours.read_document(i)).all() for i in range(len(theirs)))


def test_the_blend_names_every_shard_by_a_path_relative_to_itself(stage):
    built, storage = stage
    folder = Path(storage.root) / built.folder
    blend = json.loads((folder / "blend.json").read_text(encoding="utf-8"))
    prefixes = [folder / entry["prefix"] for entry in blend["entries"]]
    assert len(prefixes) == len(built.shards)
    assert all(p.with_name(f"{p.name}.bin").exists() for p in prefixes)
    assert sum(entry["weight"] for entry in blend["entries"]) == pytest.approx(1)


def digests(root: Path) -> dict[str, str]:
    """{path: hash} of everything that is identity: all but runs/."""
    files = (p for p in root.rglob("*") if p.is_file() and p.relative_to(root).parts[0] != "runs")
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
