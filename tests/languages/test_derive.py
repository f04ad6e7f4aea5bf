"""`languages derive`: limits follow the spread of figures, stop words follow a rule, a recipe reads what is written."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from added_languages import PROSE
from command_line import marco
from small_corpus import TOKENIZER, prose, write_recipe

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES, SHIPPED, new_languages
from marco_data.languages.derive import (
    DERIVED,
    ENOUGH_DOCUMENTS,
    FIGURES_CSV,
    LEAST,
    PERCENTILES,
    derive,
    stop_words_of,
)
from marco_data.languages.match_limits import DIFFERS
from marco_data.new_languages import read_new_languages
from marco_data.sources import Slice, read_slice
from marco_data.steps.apply_limits import load_limits

TEXTS = [text for text in PROSE["nno_Latn"] for _ in range(3)]


def write_text(folder: Path, code: str, texts: list[str]) -> Path:
    path = folder / f"{code}.jsonl"
    folder.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"content": t}, ensure_ascii=False) + "\n" for t in texts), "utf-8")
    return path


def test_the_reference_has_every_language_and_limit_and_the_limits_that_ship():
    with FIGURES_CSV.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["language"], r["limit"]) for r in rows] == [(code, limit) for code in SHIPPED for limit in DERIVED]
    limits = load_limits()
    for row in rows:
        assert (float(row["value"]) if row["value"] else None) == getattr(limits[row["language"]], row["limit"])
        spread = [float(row[f"p{p}"]) for p in PERCENTILES]
        assert spread == sorted(spread)
        assert 0 <= float(row["drops"]) <= 1
        assert int(row["documents"]) >= ENOUGH_DOCUMENTS or row["language"] in FEW


FEW = {row for row in SHIPPED if row in ("amh_Ethi", "ibo_Latn", "jav_Latn", "swh_Latn", "yor_Latn", "zul_Latn")}


def test_a_limit_is_carried_over_unless_it_drops_more_here():
    found = derive([*TEXTS, "x1 y2 z3 å"], "nno_Latn", like="nob_Latn")
    like = load_limits()["nob_Latn"]
    carried = {limit for limit in DERIVED if found.new.limits[limit] == getattr(like, limit)}
    assert 0 < len(carried) < len(DERIVED)
    for limit in carried:
        assert found.evidence[limit]["drops"] - found.evidence[limit]["like_drops"] < DIFFERS
    for limit in set(DERIVED) - carried:
        looser = found.new.limits[limit] > getattr(like, limit)
        assert looser == limit.startswith("max_"), limit
    assert found.new.limits["min_stop_words"] == 2
    assert found.evidence["min_stop_words"]["drops"] == round(1 / 7, 4)


def test_longer_words_give_a_higher_limit_on_their_length():
    long = [" ".join(f"{word}{word}{word}{word}" for word in text.split()) + "." for text in TEXTS]
    assert (
        derive(long, "nno_Latn").new.limits["max_word_length"] > derive(TEXTS, "nno_Latn").new.limits["max_word_length"]
    )


def test_stop_words_are_frequent_words_of_many_documents():
    documents = [["og", "i", "på", f"ord{i}", ",", "og"] * 3 + ["fjord"] * 40 * (i == 0) for i in range(9)]
    documents = [[*words, "det", "som", "ein", "er", "til"] for words in documents]
    found, few = stop_words_of(documents)
    assert few is None
    assert found == {"og", "i", "på", "det", "som", "ein", "er", "til"}


def test_of_a_text_with_few_frequent_words_the_most_widespread_stand_for_them():
    found, few = stop_words_of([[f"a{chr(97 + i)}", f"b{chr(97 + i)}", "og"] for i in range(20)])
    assert (len(found), few) == (LEAST, 1)
    assert "og" in found


def test_too_little_text_is_warned_of_and_none_is_refused():
    few = derive(TEXTS, "nno_Latn")
    assert few.warnings[0].startswith(f"this rests on 6 documents and {few.words:,} words; ")
    many = derive([f"{text} {i}" for i in range(60) for text in TEXTS[:5]], "nno_Latn")
    assert many.documents == 300
    assert not any("rests on" in warning for warning in many.warnings)
    with pytest.raises(RecipeError, match="there is no text"):
        derive(["  "], "nno_Latn")


def test_what_the_model_takes_the_language_for_is_found():
    assert derive(list(PROSE["bos_Latn"]), "bos_Latn", like="hr").new.identified_as == ("hrv_Latn",)
    assert derive(list(PROSE["nno_Latn"]), "nno_Latn").new.identified_as == ()


def test_text_in_another_script_is_warned_of():
    assert any("not in the script of `srp_Latn`" in w for w in derive(prose("srp_Cyrl"), "srp_Latn").warnings)


def test_deriving_leaves_the_known_languages_as_they_were():
    derive(TEXTS, "nno_Latn")
    assert new_languages() == {}
    assert list(LANGUAGES) == list(SHIPPED)


# The command


def test_the_files_that_are_written_are_read_by_a_recipe_that_builds(tmp_path: Path):
    folder = tmp_path / "own"
    for code, name in (("nno_Latn", "Nynorsk"), ("bos_Latn", "Bosnian")):
        text = write_text(tmp_path, code, list(PROSE[code]))
        words = ["--from", text, "--field", "text=content", "--code", code, "--name", name, "--out", folder]
        done = marco("languages", "derive", *words, "--json")
        assert (done.code, done.json["code"], done.json["documents"]) == (0, code, 2)
        assert "warning: this rests on 2 documents" in done.err
    assert [n.language.name for n in read_new_languages(folder)] == ["Bosnian", "Nynorsk"]
    recipe = {
        "family": "own",
        "stage": 1,
        "tokenizer": {"path": str(TOKENIZER)},
        "languages_from": "own",
        "languages": ["nno_Latn", "bos_Latn"],
        "sources": {"web": {"paths": ["{language}.jsonl"], "fields": {"text": "content"}}},
        "mixture": {"web": {"weight": 1}},
    }
    write_recipe(tmp_path / "r.yaml", recipe)
    words = ["--recipe", tmp_path / "r.yaml", "--root", tmp_path / "root", "--executor", "local", "--json"]
    assert set(marco("build-stage", 1, *words).json["languages"]) == {"nno_Latn", "bos_Latn"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--code", "nynorsk"], "`nynorsk` is not ISO 639-3 and script"),
        (["--code", "nob_Latn"], "`nob_Latn` ships with marco-data"),
        (["--code", "nno_Latn", "--like", "nn"], "`nn` is not one of the 64 languages"),
        (["--code", "nno_Latn", "--field", "text=body"], "no text to derive limits from"),
        (["--code", "nno_Latn", "--from", "gone.jsonl"], "no file to read at"),
    ],
)
def test_a_mistake_ends_in_one_message_and_no_file(words: list[str], says: str, tmp_path: Path):
    text = write_text(tmp_path, "text", ["Eit døme."])
    done = marco("languages", "derive", "--from", text, *words, "--out", tmp_path / "own", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert not (tmp_path / "own").exists()


def test_a_language_that_is_there_is_not_written_again(tmp_path: Path):
    text = write_text(tmp_path, "nno_Latn", list(PROSE["nno_Latn"]))
    words = [
        "languages",
        "derive",
        "--from",
        text,
        "--field",
        "text=content",
        "--code",
        "nno_Latn",
        "--out",
        tmp_path / "o",
    ]
    assert marco(*words).code == 0
    before = (tmp_path / "o" / "limits.csv").read_bytes()
    again = marco(*words)
    assert (again.code, (tmp_path / "o" / "limits.csv").read_bytes()) == (2, before)
    assert "has `nno_Latn` already" in again.err


def test_no_more_files_are_read_than_the_text_that_is_wanted_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []

    def reading(part: Slice, *arguments: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        read.append(part.name)
        return read_slice(part, *arguments, **options)

    files = [write_text(tmp_path / "in", f"part{n}", list(PROSE["nno_Latn"])) for n in range(4)]
    wanted = sum(len(text.encode()) for text in PROSE["nno_Latn"])
    monkeypatch.setattr("marco_data.cli_languages.read_slice", reading)
    # A byte more than the first file has: the second is opened for one document, the others are not.
    monkeypatch.setattr("marco_data.cli_languages.MOST_BYTES", wanted + 1)
    words = ["--field", "text=content", "--code", "nno_Latn", "--out", tmp_path / "own", "--json"]
    told = marco("languages", "derive", "--from", tmp_path / "in", *words)
    assert told.json["documents"] == len(PROSE["nno_Latn"]) + 1
    assert {name.partition("[")[0] for name in read} == {f"text/{file.name}" for file in files[:2]}


def test_languages_alone_still_lists_them():
    assert len(marco("languages").out.splitlines()) == 64
    assert {entry["code"] for entry in marco("languages", "--json").json} == set(SHIPPED)


# Real text


@pytest.mark.skipif("MARCO_TEST_DATA" not in os.environ, reason="MARCO_TEST_DATA is not set")
@pytest.mark.parametrize(("code", "like"), [("nno_Latn", "nob_Latn"), ("bos_Latn", "hrv_Latn")])
def test_limits_from_half_of_real_text_keep_the_other_half(code: str, like: str):
    file = Path(os.environ["MARCO_TEST_DATA"]) / "other" / "other_languages.jsonl.zst"
    if not file.exists():
        pytest.skip("no text of other languages in MARCO_TEST_DATA")
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        texts = [row["text"] for row in map(json.loads, lines) if row["label"] == code]
    half = derive(texts[::2], code, like=like)
    assert not any("only" in warning for warning in half.warnings)
    other = derive(texts[1::2], code, like=like)
    # The other half finds nearly the same limits, so they are no accident of the documents.
    for limit in DERIVED:
        a, b = half.new.limits[limit], other.new.limits[limit]
        assert np.isclose(a, b, rtol=0.25, atol=0.1), (limit, a, b)
    assert len(half.new.stop_words & other.new.stop_words) >= 0.6 * len(half.new.stop_words)
