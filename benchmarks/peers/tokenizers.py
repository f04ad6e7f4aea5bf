"""tokenizers and tiktoken with the vocabulary that ours encodes with."""

import json
import os
import unicodedata
from functools import cache
from typing import Any

from benchmarks.contest import Thunk
from benchmarks.corpus import Round, tokenizer_folder
from marco_data.tokenizer import QWEN2_PATTERN, Tokenizer


def tokenizers_batch(texts: Round) -> Thunk:
    import tokenizers

    tokenizer = Tokenizer.load(tokenizer_folder())._encoder
    assert isinstance(tokenizer, tokenizers.Tokenizer)
    plain = [text.text for text in texts]
    return lambda: [encoding.ids for encoding in tokenizer.encode_batch_fast(plain, add_special_tokens=False)]


def tiktoken_batch(texts: Round) -> Thunk:
    encoding, plain = _tiktoken(), [text.text for text in texts]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def run() -> Any:
        return encoding.encode_ordinary_batch([unicodedata.normalize("NFC", t) for t in plain], num_threads=cores)

    return run


@cache
def _tiktoken() -> Any:
    import tiktoken

    spec = json.loads(Tokenizer.load(tokenizer_folder())._encoder.to_str())
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    letter_of = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    byte_of = {letter: byte for byte, letter in letter_of.items()}
    ranks = {bytes(byte_of[c] for c in token): number for token, number in spec["model"]["vocab"].items()}
    return tiktoken.Encoding("qwen2", pat_str=QWEN2_PATTERN, mergeable_ranks=ranks, special_tokens={})
