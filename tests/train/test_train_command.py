"""`marco-data train` from a built stage to checkpoints, by two processes that share the experts."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from command_line import marco

from marco_data.s3 import S3
from marco_data.tokens import Shard
from marco_data.train.batches import Batches
from marco_data.train.blend import load_blend
from marco_data.train.order import plan_stages

HERE = Path(__file__).parent


def run(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "marco_data.cli", "train", *map(str, words)]
    paths = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_dry_run_says_what_a_run_would_be_and_writes_nothing(root: Path):
    before = set(root.rglob("*"))
    done = run(3, "--root", root, "--dry-run", "--ranks", 2, "--ep", 2, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["data"]["iterations"] * 8 * 128 == said["data"]["tokens"] == sum(said["settings"]["schedule"]["tokens"])
    assert said["memory_bytes_per_gpu"] > 0
    assert set(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param((2,), "build-stage 2", id="a stage that is not built"),
        pytest.param((3, "--nproc", 3), "cannot be dealt to 3 ranks", id="ranks"),
        pytest.param((3, "--nproc", 2, "--ep", 32), "does not divide", id="ep"),
        pytest.param((3, "--family", "marco-mini-global"), "no training recipe", id="a family without a recipe"),
    ],
)
def test_what_is_wrong_is_told_before_a_process_is_started(root: Path, words, told):
    done = run(*words, "--root", root)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed here")
def test_without_torch_the_remedy_is_told(root: Path):
    done = run(3, "--root", root)
    assert done.returncode == 2
    assert "the trainer needs torch" in done.stderr
    assert ".[train]" in done.stderr


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    """The folder of a run of 20 iterations by two processes."""
    pytest.importorskip("torch")
    out = root.parent / "run"
    options = ("--root", root, "--out", out, "--ep", 2, "--log-every", 5, "--checkpoint-every", 10, "--json")
    done = run(3, *options, "--nproc", 2, "--stop-after", 20)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert {**said, "loss": 0} == {"folder": str(out), "iteration": 20, "finished": False, "loss": 0}
    return out


def why(root: Path, out: Path, iteration: int) -> list[dict[str, Any]]:
    asked = marco("why", "--stage", 3, "--root", root, "--iteration", iteration, "--run", out, "--json")
    assert asked.code == 0, asked.err
    return [json.loads(text) for text in asked.out.splitlines()]


def inside_root(prefix: str) -> str:
    """As `why` names a shard, which a blend, and so a run, names from its own folder."""
    return prefix.removeprefix("../")


def blend_of(root: Path) -> Path:
    [path] = root.glob("stage-3-*/blend.json")
    return path


@pytest.mark.slow
def test_shards_in_a_bucket_train_as_those_of_a_disk(root: Path, trained: Path, bucket, tmp_path: Path):
    S3().put(f"{root}/", there := bucket("trained"), recursive=True)
    options = ("--root", there, "--out", tmp_path, "--ep", 2, "--log-every", 5, "--nproc", 2, "--stop-after", 20)
    done = run(3, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    steps = [
        [
            line["loss"]
            for text in (out / "metrics.jsonl").read_text().splitlines()
            if "loss" in (line := json.loads(text))
        ]
        for out in (trained, tmp_path)
    ]
    assert len(steps[0]) >= 4
    assert steps[0] == steps[1]
    assert why(root, trained, 20) == why(there, tmp_path, 20)


@pytest.mark.slow
def test_two_processes_train_and_what_a_batch_was_made_of_can_be_asked(root: Path, trained: Path):
    lines = [json.loads(text) for text in (trained / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    assert [line["iteration"] for line in steps] == [5, 10, 15, 20]
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.3, "it learns"
    plan = plan_stages([load_blend(blend_of(root))], sequence=128)
    [batch] = [batch for batch in Batches(plan, batch=8) if batch.iteration == 20]
    paths = {inside_root(entry.prefix): entry.files.prefix for entry in plan.stage(3).blend.entries}
    samples: dict[int, list[int]] = defaultdict(list)
    for document in why(root, trained, 20):
        shard = Shard(paths[document["prefix"]])
        start = shard.start(document["document"]) + document["offset"]
        samples[document["sample"]] += shard.read_tokens(start, document["tokens"]).tolist()
    assert [samples[number] for number in sorted(samples)] == batch.tokens.tolist(), "its documents are the batch"
    assert sorted(samples) == list(range(152, 160))


@pytest.mark.slow
def test_what_was_trained_is_exported_run_by_transformers_and_brought_back_bit_for_bit(trained: Path, tmp_path: Path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from written_models import model_of

    from marco_data.train.export import CheckpointFolder
    from marco_data.train.hub import parameter_shapes

    checkpoint = trained / "iteration-00000020"
    exported = marco("export", checkpoint, "--to", tmp_path / "hf", "--dtype", "float32")
    assert exported.code == 0, exported.err
    source = CheckpointFolder(checkpoint)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    tokens = torch.randint(0, source.config.vocab_size, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (theirs(tokens).logits - model_of(source).logits(tokens)).abs().max()
    assert float(difference) <= 5e-6
    returned = marco("export", tmp_path / "hf", "--from-hf", "--to", tmp_path / "back")
    assert returned.code == 0, returned.err
    back = CheckpointFolder(tmp_path / "back")
    for name in parameter_shapes(source.config):
        assert torch.equal(back.tensor(name), source.tensor(name)), name
    damaged = tmp_path / "damaged"
    shutil.copytree(checkpoint, damaged)
    file = damaged / "__1_0.distcp"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    refused = marco("export", damaged, "--to", tmp_path / "none")
    assert (refused.code, "`__1_0.distcp` is not what was written" in refused.err) == (2, True)


@pytest.mark.slow
def test_documents_of_a_spike_are_among_those_that_why_names(root: Path, tmp_path: Path):
    pytest.importorskip("torch")
    shipped = HERE.parents[1] / "recipes/sample"
    recipe = (shipped / "train.yaml").read_text().replace("model: model.json", f"model: {shipped / 'model.json'}")
    # A model that learns next to nothing has losses that differ by their batches alone: half of them are spikes.
    recipe = recipe.replace("peak: 3.0e-3", "peak: 1.0e-12").replace("to: 3.0e-4", "to: 1.0e-13")
    (tmp_path / "train.yaml").write_text(recipe + "spikes: {deviations: 0.1, window: 16}\n")
    done = run(3, "--root", root, "--recipe", tmp_path / "train.yaml", "--out", tmp_path / "run", "--stop-after", 24)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(text) for text in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    spikes = [line for line in lines if line["event"] == "spike"]
    assert spikes
    where = ("sample", "prefix", "document", "offset", "tokens", "language", "source")
    found = {
        tuple(document[name] for name in where) for document in why(root, tmp_path / "run", spikes[0]["iteration"])
    }
    rows = [{**document, "prefix": inside_root(document["prefix"])} for document in spikes[0]["documents"]]
    named = {tuple(row[name] for name in where) for row in rows}
    assert len(named) == 5
    assert named <= found
