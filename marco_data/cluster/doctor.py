"""Is everything there that a build needs? Each look at one thing gives a `Finding`: ok, warn or fail, and what to fix.

In: a root, and a recipe where there is one. Out: findings, on the machine that this runs on. Reads the head of each
source and writes nothing but a few bytes under `runs/doctor-.../`, which it removes. Knows no cluster.
"""

import importlib.metadata
import math
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from marco_data import __version__
from marco_data.cluster.engine_checks import engines
from marco_data.cluster.findings import FAIL, OK, WARN, Finding
from marco_data.dataset import Dataset
from marco_data.errors import MarcoError
from marco_data.filesystems import filesystem_of
from marco_data.generation.entry import Model
from marco_data.generation.pools import Pool
from marco_data.nodes.measure import Measure
from marco_data.nodes.tokenize import Tokenize
from marco_data.redact import redacted
from marco_data.sources import check_fields, read_slice, split
from marco_data.step import Tools
from marco_data.storage import Storage
from marco_data.tokenizer import Tokenizer

PYTHONS = ((3, 11), (3, 13))
PACKAGES = (
    "ray",
    "pyarrow",
    "numpy",
    "numba",
    "tokenizers",
    "fastokens",
    "fasttext-numpy2-wheel",
    "ftfy",
)
SKEW_WARN, SKEW_FAIL = 30.0, 600.0
"""Seconds between two clocks: S3 refuses requests that are 15 minutes off."""
DISK_WARN, DISK_FAIL = 20 << 30, 2 << 30
"""Free bytes: each worker writes its shard to a scratch folder before it is uploaded."""
TROUBLE = (OSError, MarcoError, ImportError, ValueError)


def look(
    storage: Storage,
    dataset: Dataset | None,
    pools: Mapping[str, Pool] | None,
    answers: Mapping[str, Model] = MappingProxyType({}),
) -> Iterator[Finding]:
    """All findings of this machine; `pools` None: it is one of a cluster, whose engines are looked at from its nodes.

    `answers` are the recipe's generators, which the pools are of.
    """
    yield version()
    yield from disk(storage)
    yield from storage_rights(storage)
    if pools is not None:
        yield graphics(pools)
        yield from engines(pools, answers, gpus())
    if dataset is not None:
        yield from models(dataset)
        yield tokenizer(dataset)
        yield from sources(dataset)


def version() -> Finding:
    installed = ", ".join(f"{name} {number}" for name, number in versions().items())
    if not PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return Finding("versions", FAIL, f"Python {platform.python_version()}", "use Python 3.11 or 3.12")
    return Finding("versions", OK, f"Python {platform.python_version()}, {installed}")


def versions() -> dict[str, str]:
    """{package: version} of what shapes the output; one that is not installed is left out."""
    found = {"marco-data": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def disk(storage: Storage) -> Iterator[Finding]:
    places = {"scratch": Path(tempfile.gettempdir()), "root": storage.local("")}
    for name, place in places.items():
        there = None if place is None else next((p for p in (place, *place.absolute().parents) if p.exists()), None)
        if there is None:
            continue
        free = shutil.disk_usage(there).free
        level = OK if free >= DISK_WARN else WARN if free >= DISK_FAIL else FAIL
        remedy = "" if level == OK else "make room" + ("" if name == "root" else ", or set TMPDIR to a larger disk")
        yield Finding(f"disk of the {name}", level, f"{free / 2**30:.1f} GiB free at {there}", remedy)


def storage_rights(storage: Storage) -> Iterator[Finding]:
    """What a commit needs of the root: to write, to be refused a second time, to list and to delete; and its clock."""
    folder = f"runs/doctor-{secrets.token_hex(8)}"  # its own: nobody takes away a folder that another is filling
    path = f"{folder}/probe.json"
    before = time.time()
    try:
        created = storage.create(path, b"{}\n")
        seconds = time.time() - before
    except TROUBLE as error:
        rights = "choose another with --root, or give these nodes the right to write there"
        yield Finding("storage", FAIL, f"`{storage.root}` cannot be written: {_first(error)}", rights)
        return
    try:
        if not created or storage.create(path, b"[]\n") or storage.read(path) != b"{}\n":
            yield Finding(
                "atomic commit",
                FAIL,
                f"`{storage.root}` writes over what is there when told to create: two jobs could commit the same shard",
                "use a store with conditional writes (S3's If-None-Match), or a file system with hard links",
            )
        else:
            yield Finding("atomic commit", OK, "a second create is refused")
        listed = storage.names(folder) == ["probe.json"]
        yield Finding(
            "storage",
            OK if listed else FAIL,
            f"`{storage.root}` is written in {seconds:.2f} s" + ("" if listed else ", and its listing lacks the file"),
            "" if listed else "give these nodes the right to list (s3:ListBucket)",
        )
        yield skew("clock", _modified(storage, path) - (before + time.time()) / 2, "the storage's")
    except TROUBLE as error:
        yield Finding("storage", FAIL, f"`{storage.root}`: {_first(error)}", "give these nodes the right to read there")
    try:
        storage.remove_many([path])  # and its folders on a disk
        gone = not storage.exists(path)
    except TROUBLE:
        gone = False
    if not gone:
        right = "give these nodes the right to delete under runs/ (s3:DeleteObject)"
        yield Finding("storage", WARN, f"`{storage.root}` does not let its files be deleted", right)


def _modified(storage: Storage, path: str) -> float:
    filesystem, place = filesystem_of(storage.uri(path), "cannot read")
    when: datetime = filesystem.modified(place)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def skew(check: str, seconds: float, whose: str) -> Finding:
    level = OK if abs(seconds) < SKEW_WARN else WARN if abs(seconds) < SKEW_FAIL else FAIL
    remedy = "" if level == OK else "let both be set by the same time servers (chrony, systemd-timesyncd)"
    says = f"{whose} clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
    return Finding(check, level, says if abs(seconds) >= 1 else f"{whose} clock is this machine's", remedy)


def graphics(pools: Mapping[str, Pool]) -> Finding:
    """The GPUs of this machine, beside what the engines of the pools need of a whole cluster."""
    found = gpus()
    wanted = math.fsum(pool.replicas.min * pool.gpus for pool in pools.values() if pool.kind == "vllm")
    said = f"{found} GPUs" if found else "no GPU"
    if wanted > found:
        remedy = "give the cluster nodes with GPUs, or ask for fewer `replicas`"
        return Finding("GPUs", WARN, f"{said} on this machine; the pools ask for {wanted:g} in all", remedy)
    return Finding("GPUs", OK, said if wanted else f"{said}, and none is asked for")


def gpus() -> int:
    try:
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in told.stdout.splitlines()) if told.returncode == 0 else 0


def models(dataset: Dataset) -> Iterator[Finding]:
    """Everything that a node's identity is the hash of: language models, block lists, prompts, indexes, packages."""
    there = 0
    for node in dataset.nodes:
        try:
            _ = node.identity
        except TROUBLE as error:
            yield Finding(f"models of {node.name}", FAIL, _first(error), _remedy(error))
        else:
            there += 1
    if there == len(dataset.nodes):
        yield Finding("models", OK, f"of all {there} steps, with their lists and prompts, are there")


def tokenizer(dataset: Dataset) -> Finding:
    node = dataset.node("tokenize")
    assert isinstance(node, Tokenize)
    text = "The quick brown fox. Быстрая лиса. 敏捷的狐狸。"
    try:
        loaded = Tokenizer.load(Tools().path(node.tokenizer), node.end_of_document)
        (ids,) = loaded.encode_batch([text])
        same = loaded.decode(ids) == text
    except TROUBLE as error:
        return Finding("tokenizer", FAIL, _first(error), _remedy(error))
    if not same:
        return Finding("tokenizer", WARN, "does not give a text back as it was", "is it meant for these languages?")
    return Finding("tokenizer", OK, f"`{Path(node.tokenizer).name}` gives a text back as it was")


def sources(dataset: Dataset) -> Iterator[Finding]:
    """The first rows of each source's first file, as a build would read them."""
    measure = dataset.node("measure")
    assert isinstance(measure, Measure)
    for name, source in sorted(measure.sources.items()):
        try:
            files = measure.files(name)
            check_fields(files[0], source)
            first = next(iter(split(files[:1], measure.shard_bytes)))
            rows = next(iter(read_slice(first, name, source, batch_rows=100)), None)
        except TROUBLE as error:
            yield Finding(f"source {name}", FAIL, _first(error), _remedy(error) or "can these nodes read it?")
            continue
        if rows is None:
            yield Finding(f"source {name}", WARN, f"`{files[0].name}` has no rows", "is it the right file?")
            continue
        broken = rows.num_rows - rows["failed"].null_count
        level = OK if not broken else WARN if broken < rows.num_rows else FAIL
        says = f"{len(files):,} files; of the first {rows.num_rows:,} rows of `{files[0].name}` {broken:,} are broken"
        yield Finding(f"source {name}", level, says, "" if level == OK else "`marco-data failures` lists broken rows")


def _first(error: BaseException) -> str:
    said = error.message if isinstance(error, MarcoError) else f"{type(error).__name__}: {error}"
    return redacted(said).strip().splitlines()[0][:300] if said.strip() else type(error).__name__


def _remedy(error: BaseException) -> str:
    return error.hint or "" if isinstance(error, MarcoError) else ""
