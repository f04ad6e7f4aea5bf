"""Whether an answer is in the language that was asked: a text in, what is wrong with its script or language out.

The project's own model reads every piece of the answer (`kernels/pieces.py`), formulas, code and addresses left out.
A piece that is of an unrelated language for certain counts against the answer; one of a neighbour that the model
confuses with the wanted language counts only where the whole answer is the neighbour's, for certain or by overwhelming
evidence of many pieces. Of a text that is too short to tell nothing is said but its script.
"""

import re
from functools import cache

import numpy as np
import pyarrow as pa
import regex

from marco_data.languages import NOT_LINGUISTIC, Language
from marco_data.languages.model import NO_LANGUAGE, LanguageModel, load_model
from marco_data.languages.script import script_letters
from marco_data.languages.shares import MANY, SURE
from marco_data.step import Tools

NEIGHBOURS = (
    {"ind_Latn", "zsm_Latn", "jav_Latn"},
    {"hrv_Latn", "bos_Latn", "srp_Latn", "srp_Cyrl", "slv_Latn"},
    {"dan_Latn", "nob_Latn", "nno_Latn", "swe_Latn"},
    {"glg_Latn", "por_Latn", "spa_Latn", "cat_Latn"},
    {"ces_Latn", "slk_Latn"},
    {"hin_Deva", "mar_Deva", "npi_Deva"},
    {"urd_Arab", "fas_Arab", "arb_Arab", "pus_Arab", "ckb_Arab", "snd_Arab"},
    {"kaz_Cyrl", "kir_Cyrl", "tat_Cyrl", "bak_Cyrl"},
    {"zho_Hans", "zho_Hant", "yue_Hant"},
    {"zul_Latn", "xho_Latn", "ssw_Latn"},
    {"fil_Latn", "ceb_Latn", "hil_Latn", "war_Latn"},
    {"azj_Latn", "tur_Latn", "tuk_Latn"},
    {"rus_Cyrl", "ukr_Cyrl", "bel_Cyrl", "bul_Cyrl", "mkd_Cyrl", "srp_Cyrl"},
    {"amh_Ethi", "tir_Ethi"},
)
"""Languages that a sentence of one is sometimes taken for another of. By the labels of the embedded model."""

CERTAIN = 0.9
"""The least score with which a whole text is a neighbour's."""

LONG_LETTERS, OVERWHELMING = 200, 4.0
"""A text of so many letters is a neighbour's where the evidence for neighbours is so many times that for its own."""

LEAST_LETTERS = 40
"""Letters below which a text says nothing of its language."""

_NO_PROSE = regex.compile(
    r"```.*?```|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$|\\\(.*?\\\)|\\\[.*?\\\]|https?://\S+|www\.\S+|[\w.+-]+@[\w.-]+",
    regex.DOTALL,
)

_MAY_HOLD_MORE = re.compile(r"[`$@]|\\[(\[]|://|www\.")


def prose(text: str) -> str:
    """`text` without code, formulas and addresses."""
    return str(_NO_PROSE.sub(" ", text)) if _MAY_HOLD_MORE.search(text) else text


@cache
def neighbours(language: str) -> frozenset[str]:
    """The languages that `language` may be taken for, itself among them."""
    return frozenset({language}.union(*(family for family in NEIGHBOURS if language in family)))


@cache
def _model() -> LanguageModel:
    return load_model("embedded", Tools())


def script_shares(text: str, language: Language, source: str = "") -> tuple[float, float]:
    """The shares of the letters of `text` in the language's scripts, and in scripts that nothing accounts for.

    Latin letters may be a name's and Greek ones a formula's, and any others the source's. (1, 0) without a letter.
    """
    counts = script_letters(text)
    total = sum(counts.values())
    if not total:
        return 1.0, 0.0
    own = own_scripts(language)
    foreign = {script: letters for script, letters in counts.items() if script not in own | {"Latn", "Grek"}}
    if foreign:
        known = script_letters(source)
        foreign = {script: letters for script, letters in foreign.items() if script not in known}
    letters = 0 if _is_not_its_han(text, counts, language) else sum(counts.get(script, 0) for script in own)
    return round(letters / total, 4), round(sum(foreign.values()) / total, 4)


# Characters of traditional Chinese that simplified writing has no use for, of the commonest: about one letter in six.
_TRADITIONAL = frozenset(
    "這個們來時說國會對學過還發經與當動現實關點長開問無種樣間頭題體見書車東電話語讀寫聽買賣錢員業產進運連達遠選邊兩為於後從將應該"
    "讓給幾機樂歡歲歷壓麼嗎媽馬門風飛魚鳥龍齊黃麗觀覺親視覽誰請課調論議證識護變質貴費資賽軍輕較輪輸辦農適鄉郵醫釋針鐵銀錯鏡閉"
    "隊陽陰陳陸險隨難離雙雜雲靜韓響頁順須預領顏願類顯飯飲館驗驚鹽麥黨"
)
_LEAST_HAN = 20  # letters that tell whose Han characters they are
_LEAST_OF_OWN = 0.05  # kana of Japanese, Hangul of Korean; in clean documents half and nearly all of the letters


def _is_not_its_han(text: str, counts: dict[str, int], language: Language) -> bool:
    """Whether Han characters are another language's: without kana, without Hangul, or traditional ones."""
    han = counts.get("Hani", 0)
    if han < _LEAST_HAN:
        return False
    if language.code == "zho_Hans":
        return sum(character in _TRADITIONAL for character in text) > _LEAST_OF_OWN * han
    own = sum(counts.get(script, 0) for script in own_scripts(language) - {"Hani"})
    return "Hani" in own_scripts(language) and own < _LEAST_OF_OWN * (own + han)


@cache
def own_scripts(language: Language) -> frozenset[str]:
    """The scripts of single letters that the language is written in."""
    mixed = {"Jpan": ("Hani", "Hira", "Kana"), "Hans": ("Hani",), "Kore": ("Hang", "Hani"), "Hang": ("Hang", "Hani")}
    return frozenset(part for script in language.scripts for part in mixed.get(script, (script,)))


def other_language(text: str, language: Language) -> float:
    """The share of `text` that is of another language for certain; 0 for one too short to tell."""
    reading = _model().read(pa.array([text], pa.string()), MANY)
    pieces = reading.pieces
    weights = pieces.stands_for.astype(np.float64)
    total = float(weights.sum())
    if total < LEAST_LETTERS:
        return 0.0
    near = neighbours(language.code)
    other = kin = 0.0
    evidence = {True: 0.0, False: 0.0}  # for the language itself and for its neighbours: letters by the model's score
    for label, letters, score in zip(
        reading.piece_languages.to_pylist(), weights.tolist(), reading.piece_scores.tolist(), strict=True
    ):
        if label in near:
            evidence[label == language.code] += letters * score
            kin += letters if score >= SURE and label != language.code else 0
        elif score >= SURE and not label.startswith(NOT_LINGUISTIC) and label != NO_LANGUAGE:
            other += letters
    whole, score = reading.languages[0].as_py(), float(reading.scores[0])
    if whole in near and whole != language.code:
        long = total >= LONG_LETTERS and evidence[False] >= OVERWHELMING * evidence[True]
        if long or (score >= CERTAIN and kin > evidence[True]):
            other = max(total - evidence[True], other)
    return round(other / total, 4)
