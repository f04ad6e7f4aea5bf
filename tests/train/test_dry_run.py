"""What cannot be trained is refused with what is wrong and a remedy, before a process or a GPU is taken."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import Result, marco

SAMPLE = Path(__file__).parents[2] / "recipes" / "sample"
Words = Sequence[object]


@pytest.fixture
def mine(root: Path, tmp_path: Path) -> Path:
    """A built root of one's own, to spoil."""
    return Path(shutil.copytree(root, tmp_path / "mine"))


def dry_run(root: Path, *words: object) -> Result:
    return marco("train", *([] if words and isinstance(words[0], int) else [3]), *words, "--root", root, "--dry-run")


def shard(root: Path) -> Path:
    """The prefix of the stage's first shard."""
    blend = next(root.glob("stage-3-*/blend.json"))
    return blend.parent / json.loads(blend.read_text())["entries"][0]["prefix"]


def change_blend(root: Path, **tokenizer: object) -> None:
    blend = next(root.glob("stage-3-*/blend.json"))
    raw = json.loads(blend.read_text())
    raw["tokenizer"] |= tokenizer
    blend.write_text(json.dumps(raw))


def recipe(root: Path, **changes: object) -> Words:
    """The sample's recipe with other values."""
    shutil.copy(SAMPLE / "model.json", root / "model.json")
    path = root / "train.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((SAMPLE / "train.yaml").read_text()) | changes, sort_keys=False))
    return "--recipe", path


def model(root: Path, **changes: object) -> Words:
    words = recipe(root)
    path = root / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return words


def weights(root: Path, *, tokenizer: bytes | None = None, files: bool = True, **changes: object) -> Words:
    """A folder of weights to begin with, as far as a dry run looks at it."""
    folder = root / "start"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(json.loads((SAMPLE / "model.json").read_text()) | changes))
    if files:
        (folder / "model.safetensors").write_bytes(b"")
    if tokenizer is not None:
        (folder / "tokenizer.json").write_bytes(tokenizer)
    return "--initial", folder


def missing_shard(root: Path) -> Words:
    Path(f"{shard(root)}.bin").unlink()
    return ()


def truncated_shard(root: Path) -> Words:
    path = Path(f"{shard(root)}.bin")
    path.write_bytes(path.read_bytes()[:-6])
    return ()


def truncated_index(root: Path) -> Words:
    path = Path(f"{shard(root)}.idx")
    path.write_bytes(path.read_bytes()[:-6])
    return ()


def other_bytes(root: Path) -> Words:
    path = Path(f"{shard(root)}.bin")
    ids = np.fromfile(path, "<u2")
    ids[0] ^= 1
    ids.tofile(path)
    return ()


def other_end(root: Path) -> Words:
    change_blend(root, id=5)
    return ()


def small_tokenizer(root: Path) -> Words:
    change_blend(root, vocab_size=100)
    return ()


def no_blend(root: Path) -> Words:
    next(root.glob("stage-3-*/blend.json")).unlink()
    return ()


CASES: list[tuple[str, Callable[[Path], Words], tuple[str, ...]]] = [
    ("a stage that is not built", lambda _: (2,), ("stage 2 of `sample` is not built", "marco-data build-stage 2")),
    ("no blend", no_blend, ("blend.json", "build-stage")),
    ("a missing shard", missing_shard, (".bin", "blend.json", "build the stage again")),
    ("a shard cut short", truncated_shard, (".bin has", "blend.json", "hint:")),
    ("an index cut short", truncated_index, (".idx", "blend.json", "hint:")),
    ("a shard of other bytes", other_bytes, ("has changed: its bytes hash to", "bring back the shard")),
    ("another end of document", other_end, ("as the end of a document", "tokenize it again")),
    ("ids that the tokenizer has not", small_tokenizer, ("the tokenizer has 100 ids", "tokenize it again")),
    (
        "a model with fewer ids than the tokenizer",
        lambda root: model(root, vocab_size=512),
        ("stage 3 has 4,096 token ids, the model 512", "as large a vocabulary"),
    ),
    (
        "weights with another tokenizer",
        lambda root: weights(root, tokenizer=b"{}"),
        ("the tokenizer of", "the model's is", "built with the model's tokenizer"),
    ),
    (
        "weights of another model",
        lambda root: weights(root, num_experts_per_tok=2),
        ("has `num_experts_per_tok` 2, the recipe's model", "upcycle --to"),
    ),
    ("a config without weights", lambda root: weights(root, files=False), ("no weights (`*.safetensors`)", "hint:")),
    ("no folder of weights", lambda root: ("--initial", root / "none"), ("there is no", "config.json", "hint:")),
    ("ranks that ep does not divide", lambda _: ("--ranks", 4, "--ep", 3), ("over 3 does not divide 4", "`ep` has to")),
    (
        "experts that ep does not divide",
        lambda root: (*model(root, num_experts=10), "--ranks", 4, "--ep", 4),
        ("10 experts cannot be shared out over 4", "divide `num_experts`"),
    ),
    (
        "experts that the ranks cannot cut",
        lambda root: (*model(root, hidden_size=60, head_dim=30), "--ranks", 8),
        ("cannot be cut into 8 equal shards", "change `--ep`"),
    ),
    (
        "a batch that ranks do not divide",
        lambda _: ("--ranks", 3),
        ("global batch of 8", "the ranks have to divide it"),
    ),
    (
        "a micro-batch that does not fit",
        lambda _: ("--ranks", 2, "--micro-batch", 3),
        ("`--micro-batch` has to divide",),
    ),
    (
        "a sequence beyond the positions",
        lambda root: recipe(root, sequence=2176, global_batch=1),
        ("2,048 positions", "`sequence`"),
    ),
    ("a batch beyond the stage", lambda root: recipe(root, global_batch=65536), ("no global batch", "smaller")),
    (
        "a warm-up beyond the run",
        lambda root: recipe(root, schedule={"peak": 0.001, "warmup": "1B"}),
        ("warm-up", "hint:"),
    ),
    ("an unknown key", lambda root: recipe(root, sequenze=1), ("train.yaml:", "did you mean `sequence`")),
    ("too little memory", lambda _: ("--gpu-memory", 0.001), ("GB on each GPU, which has 0.001", "`--recompute`")),
]


@pytest.mark.parametrize(("spoil", "told"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_dry_run_refuses(mine: Path, spoil, told):
    words = spoil(mine)
    before = sorted(mine.rglob("*"))
    said = dry_run(mine, *words)
    assert said.code == 2, said.out + said.err
    assert [text for text in told if text not in said.err] == []
    assert "Traceback" not in said.err
    assert sorted(mine.rglob("*")) == before


def test_a_dry_run_accepts_what_is_right_beside_what_it_refuses(mine: Path):
    tokenizer = (SAMPLE / "tokenizer.json").read_bytes()
    said = dry_run(mine, *weights(mine, tokenizer=tokenizer), "--ranks", 4, "--ep", 2, "--gpu-memory", 1, "--json")
    assert said.code == 0, said.err
    assert said.json["memory_bytes_per_gpu"] < 1e9
    assert said.json["folder"] == str(mine / "training" / "sample-3")


def test_weights_are_not_asked_for_again_once_there_is_a_checkpoint(mine: Path):
    (mine / "training" / "sample-3" / "iteration-00000010.partial").mkdir(parents=True)
    assert dry_run(mine, "--initial", mine / "none").code == 2, "one that was never finished is none"


@pytest.mark.slow
def test_a_checkpoint_that_is_damaged_or_of_another_run_is_refused_before_a_process_is_started(mine: Path):
    pytest.importorskip("torch")
    run = mine / "training" / "sample-3"
    words = ("--stop-after", 2, "--checkpoint-every", 1)
    from test_train_command import run as train  # its own process, which leaves no process group behind in this one

    done = train(3, "--root", mine, *words)
    assert done.returncode == 0, done.stderr
    again = dry_run(mine, "--initial", mine / "gone")
    assert again.code == 0, again.err
    other = dry_run(mine, *recipe(mine, seed=5))
    assert other.code == 2
    assert "seed" in other.err
    newest = run / "iteration-00000002"
    data = next(newest.glob("*.distcp"))
    data.write_bytes(data.read_bytes()[:-1])
    for last in ((), ("--nproc", 2)):
        broken = dry_run(mine, *last)
        assert broken.code == 2
        assert f"`{newest}` is damaged" in broken.err
        assert "goes on from `iteration-00000001`" in broken.err
    started = train(3, "--root", mine, "--nproc", 2)
    assert started.returncode == 2
    assert "is damaged" in started.stderr
    assert "torch.distributed" not in started.stderr, "no process was started"
