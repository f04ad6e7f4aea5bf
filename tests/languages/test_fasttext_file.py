"""Our reader and kernel against fastText itself, on models of every kind the reader takes, made here."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels.fasttext import SAMPLED, new_cache, width_of
from marco_data.languages.evaluate import read_lines
from marco_data.languages.fasttext_file import Unreadable, read
from marco_data.languages.model import load_file, load_model
from marco_data.step import Tools

ALPHABETS = {
    "eng": "abcdefghij ",
    "rus": "абвгдежзик",
    "tha": "กขคงจฉชซญ",
    "xho": "klmnopqrst",
    "zho": "我们今天去图书馆看",
    "emo": "😀😁😂é",
}

KINDS = {
    "softmax": ({}, None),
    "hierarchical": ({"loss": "hs"}, None),
    "words only": ({"maxn": 0, "minn": 0, "bucket": 0}, None),
    "single characters": ({"minn": 1, "maxn": 3}, None),
    "quantised": ({}, {"qnorm": False, "dsub": 2}),
    "quantised norms": ({"loss": "hs"}, {"qnorm": True, "dsub": 2}),
    "uneven parts": ({"dim": 10}, {"qnorm": True, "dsub": 4}),
    "pruned": ({}, {"qnorm": True, "dsub": 2, "cutoff": 600, "retrain": True, "epoch": 1}),
    "quantised output": ({}, {"qnorm": True, "dsub": 3, "qout": True}),
}
_TRAIN = """
import sys, json, fasttext
lines, out, train, quantize = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
model = fasttext.train_supervised(lines, **({"dim": 8, "minn": 2, "maxn": 4, "bucket": 5000, "epoch": 8, "lr": 0.5,
                                             "thread": 1, "verbose": 0} | train))
if quantize is not None:
    model.quantize(lines, thread=1, verbose=0, **quantize)
model.save_model(out)
"""


def sentence(label, chance):
    return " ".join("".join(chance.choices(ALPHABETS[label], k=chance.randint(2, 7))) for _ in range(9))


def lines(seed, count):
    chance = random.Random(seed)
    return [(label, sentence(label, chance)) for _ in range(count) for label in ALPHABETS]


def make(folder, train, quantize):
    # Of each label another number of lines, or the tree would be made of ties.
    text = [f"__label__{label} {s}\n" for i, (label, s) in enumerate(lines(1, 60)) if i % 7 or label == "eng"]
    # More than 256 labels, so that an output matrix can be quantised.
    text += [f"__label__x{i} word{i} in{i}\n" for i in range(300)]
    (folder / "lines.txt").write_text("".join(text), encoding="utf-8")
    out = folder / "model.bin"
    subprocess.run(
        [sys.executable, "-c", _TRAIN, str(folder / "lines.txt"), str(out), json.dumps(train), json.dumps(quantize)],
        env=os.environ | {"MALLOC_PERTURB_": "255"},
        check=True,
    )
    return out


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    return load_file(make(tmp_path_factory.mktemp("model"), *KINDS[request.param]), ours=False, sha256=request.param)


def answers(model, texts, sampled=False):
    languages, scores = model.predict_all(pa.array(texts, pa.string()), sampled=sampled)
    return list(zip(languages.to_pylist(), scores.tolist(), strict=True))


ODD = [
    "", " ", "\u00a0", "\u2028 \u3000", "\n\n", "</s>", "abc </s> абв", "__label__eng abc", "__label__none",
    "a\0b\tc\rd\v\f", "a" * 5000, "我们" * 3000, "<abc>", "é" * 24, "x" * 24, "x" * 25, "\u00a0abc\u00a0", "😀",
    "__label_", "</s", "</s>x",
]  # fmt: skip


def test_every_kind_of_model_answers_as_fasttext_does(model):
    assert model.file is not None
    texts = [text for _, text in lines(2, 100)] + ODD
    for text, found, (label, score) in zip(texts, answers(model, texts), map(model.reference, texts), strict=True):
        assert found[0] == label or abs(found[1] - score) < 1e-3, text  # another label only where two are level
        assert found[1] == pytest.approx(score, abs=2e-4)


@given(st.lists(st.text(max_size=300), max_size=5))
@settings(deadline=None, max_examples=50)
def test_any_text_gets_fasttexts_probability(model, texts):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    assert [s for _, s in answers(model, texts)] == pytest.approx([model.reference(t)[1] for t in texts], abs=3e-4)


def test_what_was_asked_before_does_not_show_in_an_answer(model):
    texts = [text for _, text in lines(3, 50)]
    alone = []
    for text in texts:
        fresh = load_file.__wrapped__(model.path, False, "fresh")
        alone += answers(fresh, [text])
    assert answers(model, texts) == alone
    assert answers(model, texts[::-1]) == alone[::-1]


def test_a_cache_of_one_place_changes_no_answer(model):
    texts = [text for _, text in lines(4, 30)]
    before = answers(model, texts)
    tiny = load_file.__wrapped__(model.path, False, "tiny")
    object.__setattr__(tiny, "_cache", new_cache(model.file.model.dim, 0))
    assert len(tiny._cache) == 2 * width_of(model.file.model.dim)
    assert answers(tiny, texts) == before


def test_a_long_text_of_one_language_gets_the_label_of_the_whole(model):
    chance = random.Random(5)
    for label in ALPHABETS:
        text = " ".join(sentence(label, chance) for _ in range(200))
        assert len(text.encode()) > SAMPLED
        assert answers(model, [text], sampled=True)[0][0] == model.reference(text)[0]


def test_a_long_text_whose_samples_disagree_is_read_whole(model):
    chance = random.Random(6)
    text = " ".join(sentence("rus" if i < 100 else "tha", chance) for i in range(200))
    assert answers(model, [text], sampled=True) == answers(model, [text], sampled=False)


@pytest.mark.parametrize("train", [{"wordNgrams": 2}, {"loss": "ova"}, {"loss": "ns"}])
def test_what_is_not_read_is_left_to_fasttext(tmp_path, train):
    path = make(tmp_path, train, None)
    with pytest.raises(Unreadable):
        read(path)
    fallback = load_file(path, ours=False, sha256="fallback")
    assert fallback.file is None
    texts = [text for _, text in lines(2, 5)] + [""]
    assert answers(fallback, texts) == [fallback.reference(text) for text in texts]


@pytest.mark.parametrize("cut", [0, 3, 40, 100, 2000, -1])
def test_a_file_that_was_cut_is_unreadable(model, tmp_path, cut):
    (tmp_path / "cut.bin").write_bytes(model.path.read_bytes()[:cut])
    with pytest.raises(Unreadable):
        read(tmp_path / "cut.bin")


def test_labels_are_fasttexts(model):
    assert sorted(model.file.labels) == sorted(model.fasttext.get_labels())


@pytest.mark.skipif("MARCO_TEST_DATA" not in os.environ, reason="MARCO_TEST_DATA: the folder with lid_test.tsv")
def test_on_real_lines_the_shipped_model_says_what_fasttext_says_of_it():
    texts = [text for _, text in read_lines(Path(os.environ["MARCO_TEST_DATA"]) / "lid_test.tsv")][::5]
    shipped = load_model("embedded", Tools())
    found = answers(shipped, texts)
    same = sum(a[0] == shipped.reference(t)[0] for a, t in zip(found, texts, strict=True))
    assert same >= 0.999 * len(texts)
