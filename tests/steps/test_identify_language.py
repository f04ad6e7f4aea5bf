"""Identify language: our own model, models of each family of labels, and what the answer may not depend on."""

import pyarrow as pa
import pytest
from fasttext_models import FAMILIES, OURS, SENTENCES, make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES
from marco_data.languages.model import EMBEDDED, READ_CHARACTERS, load_model, model_facts, model_sha256
from marco_data.step import Tools, check_output
from marco_data.steps.identify_language import IdentifyLanguage

# Written for this test.
TEXTS = {
    "eng_Latn": "The ferry leaves the harbour every morning at seven, and the fishermen come back before noon.",
    "deu_Latn": "Die Fähre verlässt jeden Morgen um sieben Uhr den Hafen, und die Fischer kommen vor Mittag zurück.",
    "fra_Latn": "Le bateau quitte le port chaque matin à sept heures, et les pêcheurs reviennent avant midi.",
    "ben_Beng": "প্রতিদিন সকালে নদীর ঘাট থেকে নৌকা ছাড়ে, আর জেলেরা দুপুরের আগেই ফিরে আসে।",
    "rus_Cyrl": "Паром каждое утро уходит из гавани в семь часов, а рыбаки возвращаются до полудня.",
    "jpn_Jpan": "フェリーは毎朝七時に港を出て、漁師たちは昼前に戻ってきます。",
    "zho_Hans": "渡轮每天早上七点离开港口，渔民们中午之前就会回来。",
    "kor_Hang": "여객선은 매일 아침 일곱 시에 항구를 떠나고 어부들은 정오 전에 돌아옵니다.",
    "tha_Thai": "เรือข้ามฟากออกจากท่าเรือทุกเช้าเวลาเจ็ดโมง และชาวประมงกลับมาก่อนเที่ยง",
    "arb_Arab": "تغادر العبارة الميناء كل صباح في الساعة السابعة، ويعود الصيادون قبل الظهر.",
    "ell_Grek": "Το πλοίο φεύγει από το λιμάνι κάθε πρωί στις επτά και οι ψαράδες γυρίζουν πριν το μεσημέρι.",
}


def batch_of(texts, declared=None):
    declared = declared or [None] * len(texts)
    return pa.record_batch({"text": pa.array(texts, pa.string()), "declared_language": pa.array(declared, pa.string())})


def rows(output):
    names = ("lid_language", "lid_score", "lid_script")
    return list(zip(*(output.columns[name].to_pylist() for name in names), strict=True))


@pytest.fixture(scope="module")
def identify():
    return IdentifyLanguage().bind(None, Tools())


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {family: make_model(family, folder) for family in FAMILIES}


def test_the_embedded_model_knows_plain_sentences(identify):
    found = rows(identify(batch_of(list(TEXTS.values()))))
    assert [language for language, _, _ in found] == list(TEXTS)
    for language, score, script in found:
        assert 0.5 < score <= 1.0
        assert score == round(score, 4)
        assert script in LANGUAGES[language].scripts


@given(st.lists(st.one_of(st.sampled_from(sorted(TEXTS.values())), st.text(max_size=200)), max_size=8))
@settings(deadline=None, max_examples=60)
def test_a_document_is_answered_the_same_in_any_batch(texts):
    identify = IdentifyLanguage().bind(None, Tools())
    together = rows(identify(batch_of(texts)))
    alone = [row for text in texts for row in rows(identify(batch_of([text])))]
    assert together == alone
    assert rows(identify(batch_of(texts).slice(len(texts) // 2))) == together[len(texts) // 2 :]


def test_what_a_source_declares_changes_no_answer_for_text_in_a_language(identify):
    texts = list(TEXTS.values())
    assert rows(identify(batch_of(texts, ["ibo_Latn"] * len(texts)))) == rows(identify(batch_of(texts)))


def test_an_empty_batch_gives_empty_columns(identify):
    batch = batch_of([])
    output = identify(batch)
    check_output(IdentifyLanguage(), batch, output)
    assert rows(output) == []


@pytest.mark.parametrize("text", ["", "   \n\n", "12.50 - 7/8 (3)", "!!! ???", "https://example.org/a"])
def test_text_without_a_word_is_of_no_language(identify, text):
    language, score, _ = rows(identify(batch_of([text])))[0]
    assert (language, score) == ("und", 0.0)


def test_what_comes_after_the_first_20000_characters_changes_nothing(identify):
    head = (TEXTS["deu_Latn"] + " ") * (READ_CHARACTERS // len(TEXTS["deu_Latn"]) + 1)
    head = head[:READ_CHARACTERS]
    first, second = rows(identify(batch_of([head, head + TEXTS["rus_Cyrl"] * 1000])))
    assert first == second


def test_case_digits_and_punctuation_do_not_change_the_answer(identify):
    plain = rows(identify(batch_of([TEXTS["fra_Latn"]])))[0]
    loud = rows(identify(batch_of([TEXTS["fra_Latn"].upper().replace(",", " 123 ;") + "!!!"])))[0]
    assert loud == plain


@pytest.mark.parametrize("family", FAMILIES)
def test_a_foreign_models_labels_become_our_codes(foreign, family):
    identify = IdentifyLanguage(model=str(foreign[family])).bind(None, Tools())
    found = rows(identify(batch_of(list(SENTENCES.values()))))
    expected = [OURS[name] if name != "nno" else FAMILIES[family]["nno"] for name in SENTENCES]
    assert [language for language, _, _ in found] == expected


def test_a_foreign_model_reads_text_as_it_is_with_newlines_as_spaces(foreign):
    model = load_model(str(foreign["lid.176"]), Tools())
    assert not model.ours
    assert model.predict(SENTENCES["eng"].replace(" ", "\n")) == model.predict(SENTENCES["eng"])


def test_the_models_content_is_identity_and_its_path_is_not(foreign, tmp_path):
    copy = tmp_path / "elsewhere.bin"
    copy.write_bytes(foreign["glotlid"].read_bytes())
    here, there = IdentifyLanguage(model=str(foreign["glotlid"])), IdentifyLanguage(model=str(copy))
    assert here.identity(Tools()) == there.identity(Tools())
    assert here.identity(Tools()) != IdentifyLanguage().identity(Tools())
    assert here.identity(Tools()) != IdentifyLanguage(model=str(foreign["lid218"])).identity(Tools())


def test_the_shipped_facts_are_those_of_the_shipped_model():
    facts = model_facts("embedded", Tools())
    assert facts is not None
    assert facts["sha256"] == model_sha256(EMBEDDED)
    assert facts["bytes"] == EMBEDDED.stat().st_size <= 5_500_000
    assert set(facts["thresholds"]) == set(LANGUAGES)
    assert all(0.3 <= threshold <= 0.9 for threshold in facts["thresholds"].values())
    assert set(LANGUAGES) < set(facts["labels"]) == set(load_model("embedded", Tools()).labels())


def test_a_model_beside_another_models_facts_is_refused(foreign, tmp_path):
    (tmp_path / "mine.bin").write_bytes(foreign["lid218"].read_bytes())
    (tmp_path / "mine.json").write_text(EMBEDDED.with_suffix(".json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(RecipeError, match="another model"):
        IdentifyLanguage(model=str(tmp_path / "mine.bin")).bind(None, Tools())


def test_a_model_trained_here_is_recognised_wherever_it_lies(tmp_path):
    for suffix in (".ftz", ".json"):
        (tmp_path / f"mine{suffix}").write_bytes(EMBEDDED.with_suffix(suffix).read_bytes())
    mine = IdentifyLanguage(model=str(tmp_path / "mine.ftz"))
    assert mine.identity(Tools()) == IdentifyLanguage().identity(Tools())


def test_a_missing_model_is_a_recipe_error(tmp_path):
    with pytest.raises(RecipeError, match="no language model at"):
        IdentifyLanguage(model=str(tmp_path / "none.ftz")).identity(Tools())


def test_a_file_that_is_no_model_is_a_recipe_error(tmp_path):
    (tmp_path / "text.ftz").write_text("not a model")
    with pytest.raises(RecipeError, match="not a fastText model"):
        IdentifyLanguage(model=str(tmp_path / "text.ftz")).bind(None, Tools())
