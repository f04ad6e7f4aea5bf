"""Shares of languages against their specification in plain Python, and against fastText where only it reads a model."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import regex
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels.pieces import EAST, ENOUGH, LEAST, MOST, MOST_BYTES, SENTENCE_ENDS
from marco_data.languages.model import FEW, READ_CHARACTERS, load_file, load_model
from marco_data.languages.shares import MANY, SURE, language_shares
from marco_data.step import Tools

SAMPLE = Path(__file__).parents[2] / "recipes" / "sample" / "text"
LETTER = regex.compile(r"[\p{L}\p{M}]")


def pieces(text, most):
    """The specification of `kernels.pieces.cut`: (text of the piece, its size, letters it stands for)."""
    data = text[:READ_CHARACTERS].encode()
    found, at, ended = [], 0, -1
    for n in range(most):
        letters, size, end = 0, 0, at
        for c in data[at:].decode():
            if size >= MOST or end - at >= MOST_BYTES:
                break
            end += len(c.encode())
            if LETTER.match(c):
                letters += 1
                size += 3 if ord(c) >= EAST else 1
            elif size >= LEAST and (c == "\n" or c in SENTENCE_ENDS or (size >= ENOUGH and regex.match(r"\s", c))):
                break
        then = max(end, len(data) * (n + 1) // most)
        if then > end:  # to white space that is near, or to the next character
            near = [i for i in range(then, min(then + 32, len(data))) if data[i] <= 32]
            starts = [i for i in range(then, len(data)) if data[i] & 0xC0 != 0x80]
            then = (near or starts or [len(data)])[0]
        if letters:
            stands_for = letters * (then - at) // (end - at)
            if size < LEAST and ended == at:
                piece, before, stood_for = found.pop()
                found.append((piece + data[at:end].decode(), before + size, stood_for + stands_for))
            else:
                found.append((data[at:end].decode(), size, stands_for))
            ended = end
        at = then
    return found


def specified(text, predict):
    """The specification of `language_shares`."""
    for most in (FEW, MANY):
        cut = pieces(text, most)
        sums = Counter()
        for piece, size, stands_for in cut:
            language, score = predict(piece)
            if score >= SURE and size >= LEAST:
                sums[language] += stands_for
        whole = sum(stands_for for _, _, stands_for in cut)
        if len(sums) < 2:
            break
    ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return {language: float(np.round(letters / whole, 4)) for language, letters in ranked}


def shares(model, texts):
    found = language_shares(model, pa.array(texts, pa.string())).to_pylist()
    return [{entry["language"]: entry["share"] for entry in of} for of in found]


def prose(code):
    return [part.partition("\n")[2].strip() for part in (SAMPLE / f"{code}.txt").read_text("utf-8").split("== ")[1:]]


@pytest.fixture(scope="module")
def model():
    return load_model("embedded", Tools())


CODES = ("eng_Latn", "deu_Latn", "rus_Cyrl", "tha_Thai", "zho_Hans", "kor_Hang", "ben_Beng", "amh_Ethi", "arb_Arab")
LINES = [line for code in CODES for line in "\n".join(prose(code)).split("\n") if line]


def assert_as_specified(model, texts):
    for text, found in zip(texts, shares(model, texts), strict=True):
        assert list(found.items()) == list(specified(text, model.predict).items()), text


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=150)), max_size=40), st.sampled_from(["\n", " ", ""])
)
def test_shares_are_those_of_the_specification(lines, between):
    assert_as_specified(load_model("embedded", Tools()), [between.join(lines)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "12 7/8",
        "a" * 50_000,
        "我们" * 9000,
        "。" * 3000,
        "\u0301" * 700,
        "é\u200b " * 400,
        "1 " * 900 + "word " * 50,
    ],
)
def test_odd_texts_are_as_specified(model, text):
    assert_as_specified(model, [text])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=80)), max_size=6), st.randoms())
def test_the_shares_of_a_text_do_not_depend_on_its_batch(texts, chance):
    model = load_model("embedded", Tools())
    texts = [*texts, "\n".join(chance.sample(LINES, 20))]
    together = language_shares(model, pa.array([*texts, None], pa.string()))
    alone = [language_shares(model, pa.array([text], pa.string())).to_pylist()[0] for text in texts]
    assert together.to_pylist() == [*alone, []]
    sliced = pa.array(["not read", *texts], pa.string()).slice(1)
    assert language_shares(model, sliced).to_pylist() == alone


def test_a_text_of_one_language_is_all_of_it(model):
    for code in CODES:
        assert shares(model, ["\n".join(prose(code)), prose(code)[0]]) == [{code: 1.0}] * 2


@pytest.mark.parametrize("other", ["deu_Latn", "tha_Thai", "zho_Hans"])
@pytest.mark.parametrize("lines", [1, 3])
def test_the_share_of_a_second_language_is_about_its_letters(model, other, lines):
    """In paragraphs by turns: `lines` of English and one of the other language."""
    english, foreign = " ".join(prose("eng_Latn")), " ".join(prose(other))
    n = 21  # 20 turns and 5 places fall in step: only one language would be seen, as the card says
    mine = [english[i * 400 : i * 400 + 400] for i in range(lines)]
    theirs = foreign[:200]
    text = "\n".join([*mine, theirs] * n)
    true = len(LETTER.findall(theirs)) / len(LETTER.findall("".join([*mine, theirs])))
    (found,) = shares(model, [text])
    assert found[other] == pytest.approx(true, abs=0.12)
    assert found["eng_Latn"] == pytest.approx(1 - true, abs=0.12)


def test_text_that_is_too_short_is_of_no_language_for_certain(model):
    assert shares(model, ["Hello there", "", "2026", prose("eng_Latn")[0][:50]]) == [{}, {}, {}, {}]


_TRAIN = """
import sys, fasttext
model = fasttext.train_supervised(sys.argv[1], dim=8, minn=2, maxn=3, bucket=2000, epoch=40, lr=0.5, thread=1,
                                  wordNgrams=2, verbose=0)
model.save_model(sys.argv[2])
"""


def test_a_model_that_only_fasttext_reads_has_shares_by_fasttext(tmp_path):
    lines = [f"__label__{code} {line}\n" for code in CODES[:4] for line in "\n".join(prose(code)).split("\n") if line]
    (tmp_path / "lines.txt").write_text("".join(lines * 3), encoding="utf-8")
    out = tmp_path / "model.bin"
    environment = os.environ | {"MALLOC_PERTURB_": "255"}
    subprocess.run([sys.executable, "-c", _TRAIN, str(tmp_path / "lines.txt"), str(out)], env=environment, check=True)
    model = load_file(out, ours=False, sha256="only fastText")
    assert model.file is None
    chance = random.Random(1)
    known = LINES[: LINES.index(prose(CODES[4])[0].split("\n")[0])]  # of languages that the model was trained on
    texts = ["\n".join(chance.sample(known, n)) for n in (0, 1, 2, 5, 30)]
    found = shares(model, texts)
    assert found == [specified(text, model.reference) for text in texts]
    assert len(found[-1]) > 1


@pytest.mark.skipif("MARCO_TEST_DATA" not in os.environ, reason="MARCO_TEST_DATA: the folder with clean/*.jsonl.zst")
def test_real_documents_are_as_specified(model):
    for file in sorted((Path(os.environ["MARCO_TEST_DATA"]) / "clean").glob("*.jsonl.zst")):
        with zstandard.open(file, "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line, _ in zip(lines, range(4), strict=False)]
        assert_as_specified(model, [*texts, "\n".join(texts)])
