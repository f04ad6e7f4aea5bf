"""Token shards are Megatron's, byte for byte, and a broken one is refused when it is opened."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.errors import ShardError
from marco_data.tokens import Shard, ShardWriter, token_dtype

DOCUMENTS = [[1, 2, 3, 0], [65_000, 0], [0], [7, 8, 9, 10, 0]]

# Made by megatron-core 0.16.1: IndexedDatasetBuilder(dtype).add_document(ids, [len(ids)]) for each of DOCUMENTS.
MEGATRON = {
    "uint16": (
        "0100020003000000e8fd000000000700080009000a000000",
        "4d4d49444944580000010000000000000008040000000000000005000000000000000400000002000000010000000500"
        "0000000000000000000008000000000000000c000000000000000e000000000000000000000000000000010000000000"
        "0000020000000000000003000000000000000400000000000000",
    ),
    "int32": (
        "01000000020000000300000000000000e8fd000000000000000000000700000008000000090000000a00000000000000",
        "4d4d49444944580000010000000000000004040000000000000005000000000000000400000002000000010000000500"
        "00000000000000000000100000000000000018000000000000001c000000000000000000000000000000010000000000"
        "0000020000000000000003000000000000000400000000000000",
    ),
}


def shard_bytes(documents: list[list[int]], dtype: str) -> tuple[bytes, bytes]:
    bin_file, idx_file = io.BytesIO(), io.BytesIO()
    writer = ShardWriter(bin_file, idx_file, np.dtype(dtype))
    for document in documents:
        writer.append(np.array(document, dtype=np.uint32))
    size = writer.finish()
    assert (size.documents, size.tokens) == (len(documents), sum(map(len, documents)))
    assert (size.bin_bytes, size.idx_bytes) == (len(bin_file.getvalue()), len(idx_file.getvalue()))
    return bin_file.getvalue(), idx_file.getvalue()


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    data, index = shard_bytes(DOCUMENTS, "int32")
    (tmp_path / "shard.bin").write_bytes(data)
    (tmp_path / "shard.idx").write_bytes(index)
    return tmp_path / "shard"


@pytest.mark.parametrize("dtype", MEGATRON)
def test_bytes_equal_what_megatron_core_wrote(dtype):
    data, index = shard_bytes(DOCUMENTS, dtype)
    assert (data.hex(), index.hex()) == MEGATRON[dtype]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_megatron_core_writes_the_same_bytes_and_reads_ours(tmp_path, dtype):
    pytest.importorskip("torch", reason="megatron-core needs torch")
    indexed = pytest.importorskip(
        "megatron.core.datasets.indexed_dataset", reason="needs megatron-core", exc_type=ImportError
    )
    rng = np.random.default_rng(5)
    documents = [rng.integers(0, 65_000, size=n).tolist() for n in rng.integers(1, 200, size=500)]
    builder = indexed.IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=dtype)
    for document in documents:
        builder.add_document(np.array(document, dtype=dtype), [len(document)])
    builder.finalize(str(tmp_path / "theirs.idx"))
    data, index = shard_bytes(documents, np.dtype(dtype).name)
    assert data == (tmp_path / "theirs.bin").read_bytes()
    assert index == (tmp_path / "theirs.idx").read_bytes()
    (tmp_path / "ours.bin").write_bytes(data)
    (tmp_path / "ours.idx").write_bytes(index)
    theirs = indexed.IndexedDataset(str(tmp_path / "ours"))
    assert [theirs[i].tolist() for i in range(len(theirs))] == documents
    del theirs


@given(
    documents=st.lists(st.lists(st.integers(0, 65_499), min_size=1, max_size=6), min_size=1, max_size=20),
    dtype=st.sampled_from(["uint16", "int32"]),
)
def test_reader_returns_every_document_and_finds_every_token(tmp_path_factory, documents, dtype):
    prefix = tmp_path_factory.mktemp("shard") / "shard"
    data, index = shard_bytes(documents, dtype)
    prefix.with_suffix(".bin").write_bytes(data)
    prefix.with_suffix(".idx").write_bytes(index)
    shard = Shard(prefix)
    assert [shard.read_document(i).tolist() for i in range(shard.documents)] == documents
    owners = [i for i, document in enumerate(documents) for _ in document]
    assert [shard.position(t) for t in range(shard.tokens)] == owners


def test_index_of_many_documents_is_written_in_blocks(monkeypatch):
    whole = shard_bytes(DOCUMENTS, "uint16")
    for block in (1, 2, 3, 4, 5):
        monkeypatch.setattr("marco_data.tokens._POINTERS_AT_ONCE", block)
        assert shard_bytes(DOCUMENTS, "uint16") == whole


def test_a_document_outlives_its_shard(prefix):
    document = Shard(prefix).read_document(3)
    assert document.tolist() == DOCUMENTS[3]
    assert not document.flags.writeable


def test_documents_of_several_sequences_are_read_whole(prefix):
    index = bytearray(prefix.with_suffix(".idx").read_bytes())
    index[26:34] = (3).to_bytes(8, "little")
    index[34 + 12 * 4 :] = np.array([0, 1, 4], dtype="<i8").tobytes()
    prefix.with_suffix(".idx").write_bytes(index)
    shard = Shard(prefix)
    assert shard.read_document(1).tolist() == DOCUMENTS[1] + DOCUMENTS[2] + DOCUMENTS[3]
    assert shard.position(4) == shard.position(11) == 1


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_499, "uint16"), (65_500, "int32"), (151_936, "int32")])
def test_token_width_is_megatrons(vocab_size, dtype):
    assert token_dtype(vocab_size).name == dtype


@pytest.mark.parametrize(("token", "dtype"), [(65_536, "uint16"), (2**31, "int32")])
def test_an_id_that_would_wrap_is_refused(token, dtype):
    with pytest.raises(ShardError, match=f"{token}.*do not fit"):
        shard_bytes([[token]], dtype)


def test_an_empty_shard_is_refused():
    with pytest.raises(ShardError, match="without tokens"):
        shard_bytes([], "int32")


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
@pytest.mark.parametrize("change", [-1, 1, -10_000, None])
def test_a_shard_of_the_wrong_size_is_refused(prefix, suffix, change):
    path = prefix.with_suffix(suffix)
    data = path.read_bytes()
    if change is None:
        path.unlink()
    else:
        path.write_bytes(data[:change] if change < 0 else data + b"\0")
    with pytest.raises(ShardError):
        Shard(prefix)


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (0, 0, "begins with"),
        (9, 2, "begins with"),
        (17, 7, "dtype code"),
        (18, 3, "announces"),
        (34, 5, "do not agree"),
        (50, 1, "do not agree"),
        (82, 1, "document index"),
        (114, 3, "document index"),
    ],
)
def test_a_damaged_index_is_refused(prefix, offset, value, said):
    path = prefix.with_suffix(".idx")
    data = bytearray(path.read_bytes())
    data[offset] = value
    path.write_bytes(data)
    with pytest.raises(ShardError, match=said):
        Shard(prefix)


def test_the_data_of_another_shard_is_refused(prefix):
    prefix.with_suffix(".bin").write_bytes(shard_bytes(DOCUMENTS[:3], "int32")[0])
    with pytest.raises(ShardError, match=r"\.bin has 28 bytes where its \.idx announces 48"):
        Shard(prefix)
