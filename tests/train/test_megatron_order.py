"""The `megatron` order is megatron-core 0.16.1's: its indices, its blend, and the tokens of its samples."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from written_shards import random_documents, write_shard, write_stage

from marco_data.errors import RecipeError
from marco_data.train.batches import Samples
from marco_data.train.blend import load_blend
from marco_data.train.megatron_order import MegatronBlend, blend_indices, normalized, shard_indices
from marco_data.train.order import MEGATRON, plan_stages


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(a.astype(np.int64).tobytes() for a in arrays)).hexdigest()[:16]


# The digests are those of megatron-core 0.16.1's own arrays; the slow test below makes them again.
LENGTHS = np.array([5, 0, 12, 40, 1, 7, 33], np.int32)
FROZEN = [
    (8, 10, 3, "6a5fd99862bcb538"),
    (8, 21, 3, "db0d0702869a5c8f"),
    (8, 30, 3, "ccedaedc3a78b92b"),
    (5, 100, 11, "796bd113775b70ed"),
]


@pytest.mark.parametrize(("sequence", "samples", "seed", "expected"), FROZEN)
def test_indices_of_a_shard_are_as_megatron_core_made_them(sequence, samples, seed, expected):
    found = shard_indices(LENGTHS, sequence, samples, seed)
    assert digest(found.documents, found.samples, found.shuffle) == expected


def test_a_blend_takes_what_is_furthest_behind():
    shards, before = blend_indices(normalized([1, 2, 1]), 8)
    assert shards.tolist() == [1, 0, 2, 1, 0, 1, 2, 1]
    assert [before[i] for i in range(8) if shards[i] == 1] == [0, 1, 2, 3]
    assert (shards.dtype, before.dtype) == (np.int16, np.int64)


def test_a_blend_that_megatron_cannot_make_is_refused():
    # 50 shards of a hundredth each are rounded up to a sample, and the blend asks half as many of the first again.
    lengths = [np.array([11]), *[np.array([1000])] * 50]
    with pytest.raises(RecipeError, match=r"takes \d+ samples of shard 0, which has"):
        MegatronBlend(lengths, [0.5, *[0.01] * 50], sequence=10, samples=10, seed=1)


@pytest.fixture(scope="module")
def core():
    """megatron-core's datasets in a process group of one."""
    torch = pytest.importorskip("torch", reason="megatron-core needs torch")
    pytest.importorskip("megatron.core.datasets.gpt_dataset", reason="needs megatron-core", exc_type=ImportError)
    import tempfile

    from megatron.core.datasets import blended_megatron_dataset_builder, gpt_dataset

    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
        try:
            yield blended_megatron_dataset_builder, gpt_dataset
        finally:
            torch.distributed.destroy_process_group()


class WordlessTokenizer:
    vocab_size, eod, pad = 512, 7, -1
    special_tokens_dict: dict[str, int] = {}  # noqa: RUF012
    unique_identifiers = {"class": "WordlessTokenizer"}  # noqa: RUF012


def megatron_dataset(core, prefixes: list[Path], weights: list[float] | None, sequence, samples, seed, cache: Path):
    """As its training script makes it of a blend file; without weights, of one prefix alone."""
    builder, gpt = core
    names = [str(prefix) for prefix in prefixes]
    of = {"blend": (names, weights), "split": "1,0,0"} if weights else {"blend_per_split": [(names, None), None, None]}
    config = gpt.GPTDatasetConfig(
        random_seed=seed,
        sequence_length=sequence,
        **of,
        tokenizer=WordlessTokenizer(),
        path_to_cache=str(cache),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    return builder.BlendedMegatronDatasetBuilder(gpt.GPTDataset, [samples, 0, 0], lambda: True, config).build()[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(60))
def test_indices_of_a_shard_equal_megatron_cores(core, tmp_path: Path, number: int):
    random = np.random.default_rng(number)
    lengths = random.integers(1, [4, 40, 400][number % 3], size=int(random.integers(4, 300)))
    sequence, seed = int(random.integers(2, 90)), int(random.integers(1, 1000))
    tokens = int(lengths.sum())
    samples = int(random.integers(1, max(2, int(3.3 * tokens / sequence))))
    prefix = write_shard(tmp_path / "a-000", random_documents(random, lengths.tolist()))
    theirs = megatron_dataset(core, [prefix], None, sequence, samples, seed, tmp_path / "cache")
    ours = shard_indices(lengths.astype(np.int32), sequence, samples, seed)
    np.testing.assert_array_equal(ours.documents, theirs.document_index)
    np.testing.assert_array_equal(ours.samples, theirs.sample_index)
    np.testing.assert_array_equal(ours.shuffle, theirs.shuffle_index)
    assert (ours.documents.dtype, ours.shuffle.dtype) == (theirs.document_index.dtype, theirs.shuffle_index.dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("sequence", "samples", "seed", "expected"), FROZEN)
def test_the_digests_are_those_of_megatron_core(core, tmp_path: Path, sequence, samples, seed, expected):
    documents = [[9] * length for length in LENGTHS]
    prefix = write_shard(tmp_path / "a-000", documents)
    theirs = megatron_dataset(core, [prefix], None, sequence, samples, seed, tmp_path / "cache")
    assert digest(theirs.document_index, theirs.sample_index, theirs.shuffle_index) == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_a_blends_order_and_samples_equal_megatron_cores(core, tmp_path: Path, number: int):
    random = np.random.default_rng(1000 + number)
    shards = [
        (random.integers(1, 60, size=int(random.integers(20, 80))).tolist(), float(random.choice([1.0, 1.5, 2.0, 4.2])))
        for _ in range(int(random.integers(1, 7)))
    ]
    sequence, seed = int(random.integers(4, 40)), int(random.integers(1, 1000))
    blend = load_blend(write_stage(tmp_path, shards, seed=number))
    samples = max(60, int(blend.drawn / sequence * random.uniform(0.4, 1.6)))
    plan = plan_stages([blend], sequence=sequence, seed=seed, order=MEGATRON, samples={1: samples})
    ours, stage = plan.stage(1).order, Samples(plan.stage(1))
    weights = [named.weight for named in blend.entries]
    prefixes = [named.files.prefix for named in blend.entries]
    theirs = megatron_dataset(core, prefixes, weights, sequence, samples, seed, tmp_path / "cache")
    np.testing.assert_array_equal(ours.blend.shards, theirs.dataset_index)
    np.testing.assert_array_equal(ours.blend.before, theirs.dataset_sample_index)
    for indices, dataset in zip(ours.blend.indices, theirs.datasets, strict=True):
        np.testing.assert_array_equal(indices.documents, dataset.document_index)
        np.testing.assert_array_equal(indices.samples, dataset.sample_index)
        np.testing.assert_array_equal(indices.shuffle, dataset.shuffle_index)
    assert len(stage) == len(theirs) >= samples
    for k in range(0, len(theirs), 3):
        sample, their = stage[k], theirs[k]
        np.testing.assert_array_equal(sample.tokens[:-1], their["tokens"].numpy())
        np.testing.assert_array_equal(sample.tokens[1:], their["labels"].numpy())
    counts = np.bincount(theirs.dataset_index, minlength=len(prefixes))
    assert all(abs(counts[i] - len(theirs) * w) < 1 for i, w in enumerate(normalized(weights)))
