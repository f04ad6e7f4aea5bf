"""Code, filler, noise and documents of two languages, from files to books, with a model that has labels for them."""

import base64
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import marco
from small_corpus import prose, recipe_values, write_jsonl, write_recipe

_TRAIN = """
import sys, fasttext
model = fasttext.train_supervised(sys.argv[1], dim=16, minn=2, maxn=4, bucket=20000, epoch=60, lr=0.5, thread=1,
                                  verbose=0)
model.save_model(sys.argv[2])
"""
FILLER = """\
lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna
aliqua ut enim ad minim veniam quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat
"""
CODE = """\
def total(rows, key):
    return sum(int(row[key]) for row in rows if row.get(key) is not None)
for i in range(len(values)):
    values[i] = max(values[i], limit) if i % 2 else -values[i]
class Reader(Base):
    def __init__(self, path, *, encoding="utf-8"):
        self.path, self.encoding = path, encoding
import os, sys, json
assert isinstance(args, list) and len(args) == 3, args
if not os.path.exists(path): raise ValueError(f"no file {path!r}")
""".splitlines()


def lines_of(label: str, chance: random.Random) -> list[str]:
    if label == "zxx_Code":
        return [" ".join(chance.sample(CODE, 2)).strip() for _ in range(60)]
    if label == "zxx_Filler":
        return [" ".join(chance.choices(FILLER.split(), k=14)) for _ in range(60)]
    if label == "zxx_Noise":
        return [base64.b64encode(chance.randbytes(75)).decode() for _ in range(60)]
    return [sentence for text in prose(label) for sentence in text.replace("\n", " ").split(". ")]


LABELS = ("eng_Latn", "deu_Latn", "zxx_Code", "zxx_Filler", "zxx_Noise")


def make_model(folder: Path) -> Path:
    chance = random.Random(1)
    lines = [f"__label__{label} {line}\n" for label in LABELS for line in lines_of(label, chance)]
    (folder / "lines.txt").write_text("".join(lines * 3), encoding="utf-8")
    environment = os.environ | {"MALLOC_PERTURB_": "255"}
    out = folder / "model.bin"
    subprocess.run([sys.executable, "-c", _TRAIN, str(folder / "lines.txt"), str(out)], env=environment, check=True)
    return out


def paragraphs(code: str) -> list[str]:
    return [part for text in prose(code)[1:] for part in text.split("\n") if len(part) > 150]


# Key of a document -> its verdict, its reason and the language `why` must name.
EXPECTED = {
    "english": ("kept", None, "eng_Latn"),
    "german": ("kept", None, "deu_Latn"),
    "code": ("dropped", "select_language/no_language", "zxx_Code"),
    "filler": ("dropped", "select_language/no_language", "zxx_Filler"),
    "noise": ("dropped", "select_language/no_language", "zxx_Noise"),
    "declared-code": ("kept", None, "eng_Latn"),
    "declared-noise": ("dropped", "select_language/no_language", "zxx_Noise"),
    "two-languages": ("dropped", "select_language/mixed_language", "eng_Latn"),
}


def write(folder: Path) -> dict[str, Any]:
    """The corpus and its recipe, as values."""
    chance = random.Random(2)
    other = {label: "\n".join(lines_of(label, chance)[:25]) for label in LABELS[2:]}
    turns = zip(paragraphs("eng_Latn")[:7], paragraphs("deu_Latn")[:7], strict=True)
    web = {
        "english": prose("eng_Latn")[0],
        "german": prose("deu_Latn")[0],
        "code": other["zxx_Code"],
        "filler": other["zxx_Filler"],
        "noise": other["zxx_Noise"],
        "two-languages": "\n".join(f"{english}\n{german[: len(english) * 2 // 3]}" for english, german in turns),
    }
    code = {"declared-code": "\n".join(CODE), "declared-noise": other["zxx_Noise"][::-1]}
    write_jsonl(folder / "in" / "web" / "w.jsonl", [{"id": key, "text": text} for key, text in web.items()])
    write_jsonl(folder / "in" / "code" / "c.jsonl", [{"id": k, "text": t, "lang": "en"} for k, t in code.items()])
    values = recipe_values(folder / "in") | {
        "languages": ["eng_Latn", "deu_Latn"],
        "sources": {
            "web": {"paths": [f"{folder}/in/web/*"], "fields": {"id": "id"}},
            "code": {"paths": [f"{folder}/in/code/*"], "fields": {"id": "id", "language": "lang"}},
        },
        "mixture": {"web": {"weight": 1}, "code": {"weight": 1}},
    }
    # A page of code has few words; what is asked here is its language.
    values["steps"]["quality"] = {"exempt": ["web", "code"]}
    values["steps"]["identify_language"] |= {"model": str(make_model(folder))}
    return values


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    values = write(folder)
    write_recipe(folder / "r.yaml", values)
    values["steps"]["identify_language"]["min_share"] = None
    write_recipe(folder / "any_share.yaml", values)
    return folder


def build(site: Path, recipe: str = "r.yaml") -> Any:
    words = ("--recipe", site / recipe, "--root", site / "out", "--executor", "local", "--json")
    built = marco("build-stage", 3, *words)
    assert built.code == 0, built.err
    return built


def test_each_is_dropped_for_what_it_is_and_the_books_balance(site: Path):
    built = build(site).json
    reasons = [reason for _, reason, _ in EXPECTED.values() if reason]
    assert built["balanced"] is True
    assert built["documents"]["read"] == len(EXPECTED)
    assert built["documents"]["dropped"] == {reason: reasons.count(reason) for reason in set(reasons)}


def test_why_names_the_reason_and_the_label(site: Path):
    build(site)
    told = marco("why", *EXPECTED, "--family", "small", "--root", site / "out", "--json").lines
    assert {a["source_id"]: (a["verdict"], a["reason"], a["language"]) for a in told} == EXPECTED
    mixed = next(a for a in told if a["source_id"] == "two-languages")
    assert list(mixed["language_shares"]) == ["eng_Latn", "deu_Latn"]
    assert mixed["measured"] == pytest.approx(1 - mixed["language_shares"]["deu_Latn"], abs=1e-4)
    assert 0.5 < mixed["measured"] < 0.7
    said = marco("why", "two-languages", "noise", "--family", "small", "--root", site / "out").out
    assert f"deu_Latn {mixed['language_shares']['deu_Latn']:.0%} of the text" in said
    assert "select_language/no_language" in said
    assert ", zxx_Noise 0.9" in said or ", zxx_Noise 1.0" in said


def test_stats_have_a_line_for_each_reason_and_a_row_for_each_label(site: Path):
    build(site)
    said = marco("stats", 3, "--family", "small", "--root", site / "out").out
    for name in ("select_language/no_language", "select_language/mixed_language", *LABELS):
        assert name in said


def test_a_document_that_is_read_without_the_limit_is_kept_and_nothing_is_measured_again(site: Path):
    build(site)
    planned = marco("plan", site / "any_share.yaml", "--root", site / "out", "--json").json
    nodes = {node["node"]: node for node in planned["nodes"]}
    assert nodes["measure"]["status"] == "skip"
    assert nodes["decide"]["status"] == "re-decide"
    assert nodes["decide"]["because"] == ["steps.select_language.config.min_share: 0.7 -> None"]
    before = sorted((site / "out").glob("measure-*/*"))

    again = build(site, "any_share.yaml")

    assert sorted((site / "out").glob("measure-*/*")) == before
    assert "select_language/mixed_language" not in again.json["documents"]["dropped"]
    assert again.json["documents"]["kept"] == 4
    assert again.json["balanced"] is True
