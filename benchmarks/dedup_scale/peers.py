"""The peers' own commands over the same texts: seconds, memory, disk, and what they keep.

Each is a process that reads the Parquet files of a corpus and writes what it keeps; it is watched like ours and ended
when it holds more or takes longer than it may. `signing` are the seconds until there are signatures, reading and (where
the peer does it first) loading included, `finding` those from there to what is kept.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.apart.environment import Environment
from benchmarks.contest import CannotRun
from benchmarks.contests import TEXT_DEDUP
from benchmarks.dedup_scale.corpus import Corpus
from benchmarks.dedup_scale.nodes import ROOT, size_of
from benchmarks.dedup_scale.truth import Found, found, from_kept
from benchmarks.dedup_scale.watch import Watch
from benchmarks.peers import HASHES, SHINGLE

Stages = dict[str, float]
TEXT_DEDUP_SIGNS = ("Loading", "MinHashing")
LINE = re.compile(r"(Loading|MinHashing|Clustering|Filtering|Saving)\s*: ([\d.]+)s")


@dataclass(frozen=True)
class Peer:
    """`command` for a folder of texts, one for what it writes, and a number of workers; `stages` reads its output."""

    name: str
    package: str
    python: Callable[[], Path]
    command: Callable[[Path, Path, int], list[str]]
    stages: Callable[[str], Stages]
    kept: Callable[[Path], Sequence[pa.ChunkedArray]]
    signs: tuple[str, ...]


@dataclass(frozen=True)
class PeerTimes:
    """What a peer took of how many documents. `failed`: why there is no more than the memory and the seconds."""

    name: str
    version: str
    documents: int
    seconds: float
    processor_seconds: float
    largest: int
    together: int
    written: int
    disk: int
    stages: Stages
    signing: float = 0.0
    found: Found | None = None
    failed: str = ""

    @property
    def finding(self) -> float:
        return sum(self.stages.values()) - self.signing


@dataclass(frozen=True)
class Limits:
    """What a peer may hold and take, bytes and seconds."""

    bytes: float
    seconds: float


def peers(folder: Path) -> tuple[Peer, ...]:
    """`folder` holds environments of peers that need their own."""
    return (
        Peer(
            "datatrove, four stages",
            "datatrove",
            _here,
            lambda texts, out, workers: ["-m", f"{__package__}.datatrove_stages", str(texts), str(out), str(workers)],
            _printed,
            _parquet,
            ("signatures",),
        ),
        Peer(
            "text-dedup minhash",
            "text-dedup",
            partial(Environment.python, TEXT_DEDUP, folder),
            _text_dedup,
            lambda output: {name: float(seconds) for name, seconds in LINE.findall(output)},
            _arrow,
            TEXT_DEDUP_SIGNS,
        ),
        Peer(
            "rensa RMinHashLSH",
            "rensa",
            _here,
            lambda texts, out, _: ["-m", f"{__package__}.rensa_lookup", str(texts), str(out)],
            _printed,
            _parquet,
            ("signatures",),
        ),
    )


def run_peer(peer: Peer, one: Corpus, workers: int, limits: Limits) -> PeerTimes:
    """Run it in a folder that is gone afterwards, beside the corpus."""
    try:
        python = peer.python()
        version = _version(python, peer.package)
    except CannotRun as error:
        return PeerTimes(peer.name, "", one.documents, 0, 0, 0, 0, 0, 0, {}, failed=str(error))
    with tempfile.TemporaryDirectory(dir=one.folder) as name:
        out = Path(name).resolve()
        start = time.monotonic()
        with (out / "said").open("w+") as said:
            process = subprocess.Popen(
                [str(python), *peer.command(one.texts.resolve(), out, workers)],
                cwd=ROOT if python == _here() else out,
                env=_environment(out),
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            with Watch(process.pid, limits.bytes, limits.seconds) as watch:
                process.wait()
            said.seek(0)
            output = said.read()
        took = (time.monotonic() - start, watch.processor, watch.peak, watch.together, watch.written)
        failed = watch.stopped_for or (f"ended: {_last(output)}" if process.returncode else "")
        if failed:
            return PeerTimes(peer.name, version, one.documents, *took, size_of(out), {}, failed=failed)
        stages = peer.stages(output)
        dropped = from_kept(one.documents, peer.kept(out))
        signing = sum(stages[name] for name in peer.signs)
        truth = found(one.planted(), dropped)
        return PeerTimes(peer.name, version, one.documents, *took, size_of(out), stages, signing, truth)


def _here() -> Path:
    return Path(sys.executable)


def _environment(out: Path) -> dict[str, str]:
    """Ours, with what peers would write to the user's folders written to `out`, and no asking of any hub."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return ours | {"HF_HOME": str(out / "hub"), "HF_DATASETS_OFFLINE": "1", "COLUMNS": "200"}


def _text_dedup(texts: Path, out: Path, workers: int) -> list[str]:
    options = {
        "path": "parquet",
        "data_files": f"{texts}/*.parquet",
        "split": "train",
        "cache_dir": str(out / "cache"),
        "column": "text",
        "output": str(out / "kept"),
        "num_perm": str(HASHES),
        "ngram": str(SHINGLE),
        "threshold": "0.8",
        "hash_func": "xxh3",
        "num_proc": str(workers),
    }
    return ["-m", "text_dedup.minhash", *(word for name, value in options.items() for word in (f"--{name}", value))]


def _printed(output: str) -> Stages:
    stages: Stages = json.loads(next(line for line in reversed(output.splitlines()) if line.startswith("{")))
    return stages


def _parquet(out: Path) -> list[pa.ChunkedArray]:
    return [pq.read_table(path, columns=["id"])["id"] for path in sorted((out / "kept").rglob("*.parquet"))]


def _arrow(out: Path) -> list[pa.ChunkedArray]:
    return [pa.ipc.open_stream(path).read_all()["id"] for path in sorted((out / "kept").glob("*.arrow"))]


def _version(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun("it is not installed")
    return done.stdout.strip()


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
