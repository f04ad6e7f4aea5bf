"""Tokenizers: documents come back as they went in, and never hold a control token of their own making."""

import gzip
import json
import os
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from marco_data import tokenizer as module
from marco_data.errors import RecipeError
from marco_data.tokenizer import END_OF_DOCUMENT, SPECIAL_TOKENS, Tokenizer, train_tokenizer

TEXTS = [
    "The quick brown fox doesn't jump over the lazy dog; it's asleep, and we'll wait.",
    "Быстрая лиса перепрыгивает через ленивую собаку 123 раза.",
    "敏捷的棕色狐狸跳过了懒狗。今天天气很好，我们去公园散步吧。",
    "দ্রুত বাদামী শিয়াল অলস কুকুরের উপর লাফ দেয়।",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
    "الثعلب البني السريع يقفز فوق الكلب الكسول.",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "for i in range(10):\n\tprint(i)  # 10 numbers\n\n\n",
]
# Assigned characters: for others Python's and the tokenizer's tables of combining classes may differ.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"])
UNICODE = st.text(st.one_of(CHARACTERS, st.sampled_from(" \n\r\t'’。.sSaée\u0301\u0308한\u1100\u1161<|>1２")))


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(TEXTS * 3, 400, path)
    return path


@pytest.fixture(scope="module")
def tokenizer(file) -> Tokenizer:
    return Tokenizer.load(file)


def changed(file: Path, folder: Path, **fields: object) -> Path:
    """A copy of the tokenizer with other fields."""
    path = folder / "changed.json"
    path.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return path


def as_spec(pre_tokenizer: tokenizers.pre_tokenizers.PreTokenizer) -> dict[str, object]:
    holder = tokenizers.Tokenizer(tokenizers.models.BPE())
    holder.pre_tokenizer = pre_tokenizer
    return json.loads(holder.to_str())["pre_tokenizer"]


@given(text=UNICODE)
@example("")
@example("\n \n a\u0301 'S ſ \u212a")
@example("".join(SPECIAL_TOKENS))
def test_decoding_gives_back_the_normalised_text(tokenizer, text):
    (ids,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


@given(before=UNICODE, after=UNICODE, token=st.sampled_from(SPECIAL_TOKENS))
def test_only_the_last_token_is_a_control_token(tokenizer, before, after, token):
    (ids,) = tokenizer.encode_batch([before + token + after])
    assert ids[-1] == tokenizer.end_of_document_id
    assert set(ids[:-1].tolist()).isdisjoint(range(tokenizer.vocab_size - len(SPECIAL_TOKENS), tokenizer.vocab_size))


@given(texts=st.lists(UNICODE, max_size=5))
def test_ids_do_not_depend_on_the_batch(tokenizer, texts):
    together = tokenizer.encode_batch(texts)
    assert [ids.dtype for ids in together] == [np.dtype("uint32")] * len(texts)
    assert [ids.tolist() for ids in together] == [tokenizer.encode_batch([text])[0].tolist() for text in texts]


@given(parts=st.lists(st.one_of(UNICODE, st.sampled_from(TEXTS)), max_size=12), size=st.integers(1, 30))
def test_a_long_document_is_cut_without_changing_an_id(tokenizer, parts, size):
    text = "".join(parts)
    pieces = module._pieces(text, size)
    assert "".join(pieces) == text
    whole = tokenizer._encoder.encode(text, add_special_tokens=False).ids
    cut = [i for piece in pieces for i in tokenizer._encoder.encode(piece, add_special_tokens=False).ids]
    assert cut == whole


def test_long_documents_are_cut_everywhere_they_can_be(tokenizer):
    texts = [" ".join(random.Random(seed).choices(TEXTS, k=4_000)) for seed in range(2)]
    assert max(len(piece) for text in texts for piece in module._pieces(text, 10)) < 60
    assert min(len(module._pieces(text)) for text in texts) > 2
    ids, offsets = module._library_encoder(tokenizer._encoder, cuts=True)(texts)
    assert [tokenizer.decode(ids) for ids in np.split(ids, offsets[1:-1])] == texts


@pytest.mark.parametrize(
    ("pre_tokenizer", "cuts"),
    [
        (tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False), True),
        (tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True), False),
        (tokenizers.pre_tokenizers.Metaspace(), False),
        (tokenizers.pre_tokenizers.Split(" ", "merged_with_next"), False),
    ],
    ids=["gpt2", "gpt2 with prefix space", "sentencepiece", "unknown"],
)
def test_only_known_pre_tokenizers_have_their_documents_cut(file, tmp_path, pre_tokenizer, cuts):
    path = changed(file, tmp_path, pre_tokenizer=as_spec(pre_tokenizer))
    assert Tokenizer.load(path)._cuts is cuts
    assert Tokenizer.load(file)._cuts


def test_a_normaliser_other_than_nfc_keeps_documents_whole(file, tmp_path):
    assert not Tokenizer.load(changed(file, tmp_path, normalizer={"type": "NFKC"}))._cuts


def test_training_gives_the_same_bytes_whatever_the_order(file, tmp_path):
    train_tokenizer(iter(TEXTS[::-1] * 3), 400, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()


def test_a_trained_tokenizer_is_shaped_like_qwen2(file, tokenizer):
    spec = json.loads(file.read_text())
    assert spec["normalizer"] == {"type": "NFC"}
    assert tokenizer.vocab_size == 400
    assert [t["content"] for t in spec["added_tokens"]] == list(SPECIAL_TOKENS)
    assert [t["id"] for t in spec["added_tokens"]] == [397, 398, 399]
    assert tokenizer.identity() == {
        "hash": tokenizer.digest,
        "end_of_document": END_OF_DOCUMENT,
        "id": 397,
        "vocab_size": 400,
    }


def test_too_small_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="at least 259"):
        train_tokenizer(TEXTS, 258, tmp_path / "tokenizer.json")


def test_a_tokenizer_is_its_content_and_not_its_place_or_packing(file, tmp_path):
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "tokenizer.json.gz").write_bytes(gzip.compress(file.read_bytes()))
    digest = Tokenizer.load(file).digest
    assert Tokenizer.load(file.parent).digest == digest
    assert Tokenizer.load(tmp_path / "packed").digest == digest
    assert Tokenizer.load(tmp_path / "packed" / "tokenizer.json.gz").digest == digest
    assert Tokenizer.load(changed(file, tmp_path, normalizer=None)).digest != digest


def test_nothing_is_truncated_padded_or_prefixed(file, tmp_path, tokenizer):
    other = tokenizers.Tokenizer.from_file(str(file))
    other.enable_truncation(3)
    other.enable_padding(length=50)
    other.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{END_OF_DOCUMENT} $A", special_tokens=[(END_OF_DOCUMENT, tokenizer.end_of_document_id)]
    )
    other.save(str(tmp_path / "other.json"))
    loaded = Tokenizer.load(tmp_path / "other.json")
    assert [ids.tolist() for ids in loaded.encode_batch(TEXTS)] == [
        ids.tolist() for ids in tokenizer.encode_batch(TEXTS)
    ]


def test_an_unknown_end_of_document_token_names_those_there_are(file):
    with pytest.raises(RecipeError, match=r"`</s>` is not a token") as error:
        Tokenizer.load(file, "</s>")
    assert error.value.hint == "its special tokens: <|endoftext|>, <|im_end|>, <|im_start|>"


def test_an_end_of_document_token_that_text_can_spell_is_refused(file):
    with pytest.raises(RecipeError, match=r"`a` of .* is an ordinary token"):
        Tokenizer.load(file, "a")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", b"{}", "is not a Hugging Face tokenizer"),
        ("tokenizer.json", b"\xff\xfe", "is not a Hugging Face tokenizer"),
        ("tokenizer.json.gz", gzip.compress(b"{}" * 100, mtime=0)[:-9], "not a whole gzip"),
        ("tokenizer.json.gz", b"plain", "not a whole gzip"),
        ("vocab.txt", b"", "has no tokenizer.json"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_the_users_mistake(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=said):
        Tokenizer.load(tmp_path)


def test_a_missing_tokenizer_is_the_users_mistake(tmp_path):
    with pytest.raises(RecipeError, match="there is no tokenizer at"):
        Tokenizer.load(tmp_path / "nowhere")


@pytest.mark.skipif("MARCO_TEST_DATA" not in os.environ, reason="MARCO_TEST_DATA has Qwen's own tokenizer; unset")
def test_qwens_own_tokenizer_loads_and_may_be_cut():
    qwen = Tokenizer.load(Path(os.environ["MARCO_TEST_DATA"]) / "qwen_tokenizer")
    assert (qwen.end_of_document_id, qwen.vocab_size, qwen._cuts) == (151_643, 151_646, True)
    text = " ".join(TEXTS)
    whole = qwen._encoder.encode(text, add_special_tokens=False).ids
    for size in range(1, 40):
        pieces = module._pieces(text, size)
        assert [i for p in pieces for i in qwen._encoder.encode(p, add_special_tokens=False).ids] == whole
    (ids,) = qwen.encode_batch([text + END_OF_DOCUMENT])
    assert (ids == 151_643).sum() == 1
    assert qwen.decode(ids) == text + END_OF_DOCUMENT
