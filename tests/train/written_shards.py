"""Shards and `blend.json` files on disk, of random documents that end with a known token."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marco_data.tokens import ShardWriter, token_dtype

END, VOCABULARY = 7, 512
TOKENIZER = {"hash": "ab" * 8, "end_of_document": "<|endoftext|>", "id": END, "vocab_size": VOCABULARY}


def write_shard(stem: Path, documents: Sequence[Sequence[int]], vocab_size: int = VOCABULARY) -> Path:
    """`<stem>.<hash of the tokens>` as the data side names it; its prefix."""
    bin_file, idx_file = io.BytesIO(), io.BytesIO()
    writer = ShardWriter(bin_file, idx_file, token_dtype(vocab_size))
    for document in documents:
        writer.append(np.asarray(document, np.uint32))
    writer.finish()
    prefix = stem.with_name(f"{stem.name}.{hashlib.sha256(bin_file.getvalue()).hexdigest()[:8]}")
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.bin").write_bytes(bin_file.getvalue())
    Path(f"{prefix}.idx").write_bytes(idx_file.getvalue())
    return prefix


def random_documents(random: np.random.Generator, lengths: Sequence[int]) -> list[list[int]]:
    """Documents of so many tokens, the last of each END, which is nowhere else."""
    return [[*random.integers(8, VOCABULARY, length - 1).tolist(), END] for length in lengths]


def entry(
    folder: Path, prefix: Path, documents: Sequence[Sequence[int]], epochs: float, **names: str
) -> dict[str, Any]:
    """A shard's row in a blend."""
    return {
        "prefix": f"{prefix.relative_to(folder)}",
        "part": "web",
        "language": "eng_Latn",
        "source": prefix.name.partition("-")[0],
        "documents": len(documents),
        "tokens": sum(map(len, documents)),
        "epochs": epochs,
        **names,
    }


def write_blend(path: Path, entries: Sequence[dict[str, Any]], *, stage: int = 1, **values: Any) -> Path:
    total = sum(row["tokens"] * row["epochs"] for row in entries)
    rows = [{**row, "weight": row["tokens"] * row["epochs"] / total if total else 0.0} for row in entries]
    made = {"family": "made", "stage": stage, "fingerprint": f"f{stage}", "tokenizer": TOKENIZER, "entries": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made | values))
    return path


def write_stage(
    folder: Path, shards: Sequence[tuple[Sequence[int], float]], *, stage: int = 1, seed: int = 0, **values: Any
) -> Path:
    """A stage of shards, each given by its documents' lengths and its epochs; the path of its blend."""
    random = np.random.default_rng([seed, stage])
    rows = []
    for number, (lengths, epochs) in enumerate(shards):
        documents = random_documents(random, lengths)
        prefix = write_shard(folder / f"shards-{stage}" / f"source{number}-000", documents)
        language = ("eng_Latn", "deu_Latn", "tha_Thai")[number % 3]
        rows.append(entry(folder, prefix, documents, epochs, source=f"source{number}", language=language))
    return write_blend(folder / f"stage-{stage}.json", rows, stage=stage, **values)
