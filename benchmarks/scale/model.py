"""How long a build takes and what it costs, by arithmetic over figures that were measured elsewhere.

In: bytes of text, documents, shards, machines. Out: core hours of each pass, seconds of the driver, which of the two is
longer, and money by prices that are given. A figure that was measured names the file and the words it stands in, which
a test looks up; what nobody measured is an `ASSUMED`, and says so. Knows nothing of failures or of waiting.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import recipes
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates.documents import DISK_A_DOCUMENT
from marco_data.plan_price import DEDUP_SECONDS
from marco_data.recipe import load_recipe

HOUR = 3600


@dataclass(frozen=True)
class Figure:
    """A number that was measured: `words` stand in `file`, a path in the project."""

    value: float
    file: str
    words: str


MEASURED = {
    "measure": Figure(12.5e6, "benchmarks/RESULTS.md", "| whole pass | marco-data | 24 | MB/s | 12.5 "),
    "decide": Figure(1.53 / 26_196, "benchmarks/PLAN.md", "| cpu | decide | 1.53 seconds |"),
    "dedup": Figure(DEDUP_SECONDS.expected, "marco_data/plan_price.py", "DEDUP_SECONDS = Range(28.3e-6,"),
    "tokenize": Figure(58.3e6 / 3.91, "benchmarks/PLAN.md", "| cpu | tokenize | 3.91 seconds |"),
    "shards": Figure(20e6 / 4.78, "benchmarks/PLAN.md", "| cpu | shards | 4.78 seconds |"),
    "Ray's part of a task": Figure(1e-3, "marco_data/ray_executor.py", "a Ray task costs about 1 ms"),
    "disk of a byte of text": Figure(38.1 / 80.1, "benchmarks/PLAN.md", "| disk | measure | 38.1M bytes |"),
    "disk of a token, before it is mixed": Figure(21.3 / 20, "benchmarks/PLAN.md", "| disk | tokenize | 21.3M bytes |"),
    "kept": Figure(58.3 / 80.1, "benchmarks/PLAN.md", "| kept | bytes | 58.3M |"),
}
"""Bytes of text a second and core (measure, tokenize), seconds of a core a document (decide, dedup), tokens a second
and core (shards), seconds of the driver, bytes, the share of bytes that is kept. Those of PLAN.md are of a small build
and hold its start."""

ASSUMED = {
    "bytes a token": 4.0,
    "bytes a document": 3000.0,
    "cores of a machine": 64.0,
    "accepted of what a model writes": 0.5,
    "tokens a second and GPU": 2500.0,
    "seconds a request": 0.02,
    "share of documents with a line": 0.4,
}
"""No text of the recipe's sources was read and no GPU was measured here."""

PRICES = {"core hour": 0.04, "GPU hour": 2.50, "write": 0.005 / 1000, "read": 0.0004 / 1000}
"""USD. Requests: the list prices of S3 Standard in us-east-1 as known in November 2026; the others are examples
(`infra/prices.yaml`). All are inputs: put in what you pay."""


@dataclass(frozen=True)
class Work:
    """Of one build: what is read and what of it is kept."""

    read_bytes: float
    shards: float

    @property
    def documents(self) -> float:
        return self.read_bytes / ASSUMED["bytes a document"]

    @property
    def kept_bytes(self) -> float:
        return self.read_bytes * MEASURED["kept"].value

    @property
    def tokens(self) -> float:
        return self.kept_bytes / ASSUMED["bytes a token"]

    def core_seconds(self) -> dict[str, float]:
        """Of all cores, by pass."""
        rate = {name: figure.value for name, figure in MEASURED.items()}
        return {
            "measure": self.read_bytes / rate["measure"],
            "decide": self.documents * rate["decide"],
            "dedup": self.documents * rate["dedup"],
            "tokenize": self.kept_bytes / rate["tokenize"],
            "shards": self.tokens / rate["shards"],
        }

    def disk_bytes(self) -> dict[str, float]:
        """What a build leaves; a token takes four bytes in a shard."""
        return {
            "measure": self.read_bytes * MEASURED["disk of a byte of text"].value,
            "dedup": self.documents * (DISK_A_DOCUMENT + 4 * DropDuplicates().hashes),
            "tokenize": self.tokens * MEASURED["disk of a token, before it is mixed"].value,
            "shards": self.tokens * 4,
        }


def dispatched(work: Work) -> dict[str, float]:
    """Tasks by pass: those with a task for every shard. The others have thousands."""
    return dict.fromkeys(("measure", "decide", "dedup", "tokenize"), work.shards)


@dataclass(frozen=True)
class Spell:
    """One pass on some machines: seconds that the cores need, and that one driver needs to hand its tasks out."""

    node: str
    cores: float
    driver: float

    @property
    def seconds(self) -> float:
        """The longer of the two: they go on at the same time."""
        return max(self.cores, self.driver)


def spells(work: Work, machines: int, tasks_a_second: float) -> list[Spell]:
    cores = machines * ASSUMED["cores of a machine"]
    tasks = dispatched(work)
    return [
        Spell(node, seconds / cores, tasks.get(node, 0.0) / tasks_a_second)
        for node, seconds in work.core_seconds().items()
    ]


def machines_one_driver_feeds(work: Work, tasks_a_second: float) -> dict[str, float]:
    """By pass, on how many machines its tasks take as long to do as to hand out."""
    seconds = work.core_seconds()
    return {
        node: seconds[node] / ASSUMED["cores of a machine"] / (tasks / tasks_a_second)
        for node, tasks in dispatched(work).items()
    }


@dataclass(frozen=True)
class Stage:
    number: int
    budget: float  # tokens
    generated: float  # tokens that are to be accepted


def marco_mini() -> list[Stage]:
    """The stages of the recipe as it stands."""
    folder = Path(recipes.__file__).parent / "marco-mini"
    stages = []
    for number in (1, 2, 3, 4):
        recipe = load_recipe(folder / f"stage{number}.yaml")
        wanted = sum(
            entry.target_of(code) or 0
            for entry in recipe.generate.values()
            for code in entry.languages or recipe.languages
        )
        stages.append(Stage(number, float(recipe.budget or 0), wanted))
    return stages


def work_of(tokens: float, shard_bytes: float = 100e6) -> Work:
    """What has to be read for so many tokens to be kept, each once."""
    read = tokens * ASSUMED["bytes a token"] / MEASURED["kept"].value
    return Work(read, read / shard_bytes)


def gpu_hours(accepted_tokens: float) -> float:
    written = accepted_tokens / ASSUMED["accepted of what a model writes"]
    return written / ASSUMED["tokens a second and GPU"] / HOUR


def cost(core_seconds: Mapping[str, float], gpus: float = 0.0) -> float:
    """USD of processors and GPUs."""
    return sum(core_seconds.values()) / HOUR * PRICES["core hour"] + gpus * PRICES["GPU hour"]
