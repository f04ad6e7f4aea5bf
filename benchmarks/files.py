"""Rounds as files, for what begins at a file."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import xxhash

from benchmarks.corpus import Round


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="marco-data-benchmarks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def write_rows(texts: Round) -> Path:
    """The round as plain JSONL with an id and a text a line; the same round is the same file."""
    data = "".join(
        json.dumps({"id": str(number), "text": text.text}, ensure_ascii=False) + "\n"
        for number, text in enumerate(texts)
    ).encode()
    path = _folder() / f"{xxhash.xxh3_64_hexdigest(data)}.jsonl"
    if not path.exists():
        path.write_bytes(data)
    return path


def scratch() -> Path:
    """A new empty folder, gone when the process ends."""
    return Path(tempfile.mkdtemp(dir=_folder()))
