"""The requests of a build, counted: a real build of stage 3 with its root on an S3 server of this machine.

In: how many languages each shard holds. Out: requests by node and kind, for a task of each. The server is moto's, over
HTTP; what is counted is what `marco_data.s3` sends. Shards are of a few kilobytes, so what grows with bytes (a request
for each stretch that is read, and for each part that is sent) is not in here; `bill` adds it.
"""

import json
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import recipes
from benchmarks.scale.nothing import PASSES, Counting
from marco_data.execute import Silent
from marco_data.execute import run as run_plan
from marco_data.recipe import Recipe
from marco_data.s3 import S3
from marco_data.storage import Storage
from marco_data.storage_counts import StorageCounts

SAMPLE = Path(recipes.__file__).parent / "sample"
WRITES = frozenset(
    {"put_object", "create_multipart_upload", "upload_part", "complete_multipart_upload", "list_objects_v2"}
)
"""What S3 bills as PUT, COPY, POST or LIST; everything else is billed as GET."""


@dataclass(frozen=True)
class Asked:
    """Requests of one build: by node the tasks it had and what they asked, each kind summed over its tasks."""

    languages: int
    tasks: Mapping[str, int]
    requests: Mapping[str, Mapping[str, int]]

    def a_task(self, node: str) -> tuple[float, float]:
        """(writes, reads) of one task."""
        kinds = self.requests[node]
        writes = sum(n for kind, n in kinds.items() if kind in WRITES)
        return writes / self.tasks[node], (sum(kinds.values()) - writes) / self.tasks[node]


def count_requests(languages: int, files: int = 6) -> Asked:
    """Build stage 3 from so many files of three documents in each of so many languages."""
    codes = sorted(path.stem for path in (SAMPLE / "text").glob("*.txt"))[:languages]
    with tempfile.TemporaryDirectory() as folder, server():
        for number in range(files):
            rows = [
                {"id": f"{code}-{number}-{i}", "text": f"{text} {number}."}
                for code in codes
                for i, text in enumerate(_prose(code)[:3])
            ]
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            Path(folder, f"{number}.jsonl").write_text(lines, "utf-8")
        recipe = Recipe.model_validate(
            {
                "family": "scale",
                "stage": 3,
                "tokenizer": {"path": str(SAMPLE / "tokenizer.json")},
                "languages": codes,
                "sources": {"crawl": {"paths": [f"{folder}/*.jsonl"], "fields": {"text": "text", "id": "id"}}},
                "mixture": {"crawl": {"weight": 1}},
                "steps": {"identify_language": {"threshold": 0.3}},
            }
        )
        counting = Counting()
        result = run_plan(
            recipe.pipeline_function()(recipe), Storage(f"s3://scale/{secrets.token_hex(4)}"), counting, Silent()
        )
        assert result.complete
    return Asked(
        languages,
        {name: len(counts) for name, counts in counting.asked.items()},
        {name: _usual(counts) for name, counts in counting.asked.items()},
    )


def _usual(counts: Sequence[StorageCounts]) -> dict[str, int]:
    """Requests by kind, each task as the median one: the beat of a lease falls into some task now and then."""
    kinds = sorted({kind for each in counts for kind in each.requests})
    return {kind: len(counts) * int(median(each.requests[kind] for each in counts)) for kind in kinds}


def _prose(code: str) -> list[str]:
    pieces = (SAMPLE / "text" / f"{code}.txt").read_text("utf-8").split("== ")[1:]
    return [piece.partition("\n")[2].strip() for piece in pieces]


@contextmanager
def server() -> Iterator[None]:
    """An S3 server with a bucket `scale`, and credentials that it takes."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    before = {name: os.environ.get(name) for name in names}
    os.environ |= dict(zip(names[1:], ("benchmark", "benchmark", "us-east-1"), strict=True))
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        with suppress(FileExistsError):  # the buckets of moto's servers of one process are the same
            S3().mkdir("scale")
        yield
    finally:
        S3.clear_instance_cache()
        running.stop()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@dataclass(frozen=True)
class Line:
    """Requests of one node over all its tasks, in a large build."""

    node: str
    writes: float
    reads: float


@dataclass(frozen=True)
class Sizes:
    """Bytes of a large build's shards, of `languages` languages each, by node: what is read and what is written."""

    shards: int
    languages: int
    read: Mapping[str, float]
    written: Mapping[str, float]


READ_STRETCH = 4 << 20
"""Bytes of a request for a part of a file, at most what a source's read-ahead asks for."""
MULTIPART_FROM, PART = 32 << 20, 16 << 20


def bill(one: Asked, many: Asked, sizes: Sizes) -> list[Line]:
    """Requests of the passes that have a task a shard: counted at two numbers of languages, on a line between them and
    beyond, and to it what grows with bytes."""
    lines = []
    for node in PASSES:
        (w1, r1), (w2, r2) = one.a_task(node), many.a_task(node)
        further = (sizes.languages - one.languages) / (many.languages - one.languages)
        parts = sizes.written[node] / PART + 2 if sizes.written[node] > MULTIPART_FROM else 0.0
        stretches = sizes.read[node] / READ_STRETCH
        lines.append(
            Line(
                node,
                sizes.shards * (w1 + (w2 - w1) * further + parts),
                sizes.shards * (r1 + (r2 - r1) * further + stretches),
            )
        )
    return lines
