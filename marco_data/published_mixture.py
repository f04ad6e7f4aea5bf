"""The mixture that Marco-MoE has published, beside which a ledger puts a recipe's and a build's own.

In: `published_mixture.csv`, per cent of each of the four stages by category and by language, read off the charts of
the Marco-MoE report (arXiv 2604.25578; github.com/AIDC-AI/Marco-LLM, Marco-MoE/README.md). The charts round: the
languages of stage 2 sum to 31.3 and not to 30. They do not divide the multilingual category, and give no share of
English. Out: shares of a stage. Which of a recipe's parts make up a category is the column `parts`. Knows no build.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Category:
    """A bar of the chart: its share of the stage, and the parts of ours that make it up."""

    name: str
    parts: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Published:
    categories: tuple[Category, ...]
    languages: Mapping[str, float]


@cache
def published(stage: int) -> Published:
    """What was published of a stage; nothing of one that Marco-MoE does not have."""
    column = f"stage{stage}"
    text = resources.files(__package__).joinpath("published_mixture.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row.get(column)]
    categories = [
        Category(row["name"], tuple(row["parts"].split()), float(row[column]) / 100)
        for row in rows
        if row["kind"] == "category"
    ]
    languages = {row["name"]: float(row[column]) / 100 for row in rows if row["kind"] == "language"}
    return Published(tuple(categories), languages)
