"""Which script a text is written in: text in, one ISO 15924 code out. Knows nothing of languages."""

import sys
from functools import cache

import numpy as np
import pyarrow as pa
import regex

from marco_data.languages.texts import text_buffers

# The scripts in use today and those of the languages we reject; a letter of any other counts as `Zzzz`.
_SCRIPTS = (
    "Latn",
    "Cyrl",
    "Arab",
    "Hani",
    "Deva",
    "Beng",
    "Hira",
    "Kana",
    "Hang",
    "Grek",
    "Hebr",
    "Thai",
    "Taml",
    "Telu",
    "Gujr",
    "Guru",
    "Mymr",
    "Khmr",
    "Laoo",
    "Ethi",
    "Armn",
    "Geor",
    "Knda",
    "Mlym",
    "Sinh",
    "Orya",
    "Tibt",
    "Thaa",
    "Mong",
    "Bopo",
    "Syrc",
    "Cher",
    "Cans",
    "Tfng",
    "Nkoo",
    "Vaii",
    "Olck",
    "Yiii",
    "Java",
    "Sund",
    "Bali",
    "Batk",
    "Bugi",
    "Lana",
    "Talu",
    "Tale",
    "Cham",
    "Kali",
    "Limb",
    "Lepc",
    "Mtei",
    "Saur",
    "Cakm",
    "Newa",
    "Rohg",
    "Adlm",
    "Lisu",
    "Plrd",
    "Osge",
    "Goth",
    "Copt",
    "Runr",
    "Ogam",
)

# Japanese mixes kana with Han, Korean Hangul with Han. In clean text at least half the letters of a Japanese
# document are kana and a Chinese one has none; a name or a quotation in kana must not turn Chinese into Japanese.
_KANA_SHARE = 0.05
_HANGUL_SHARE = 0.10

UNDETERMINED = "Zyyy"  # ISO 15924's code for text without letters of any script
_UNLISTED = "Zzzz"


def script_letters(text: str) -> dict[str, int]:
    """How many letters of `text` each script has, those that have any. Linear, about 20 ns a character."""
    found = np.bincount(_table()[_points(text)], minlength=len(_SCRIPTS) + 2)[1:].tolist()
    return {script: letters for script, letters in zip((*_SCRIPTS, _UNLISTED), found, strict=True) if letters}


def dominant_script(text: str) -> str:
    """The script of most letters of `text`; `Zyyy` where there is none.

    `Jpan` for Han with kana, `Hang` for Hangul with or without Han, `Hani` for Han alone: letters do not tell
    simplified from traditional. Of equally frequent scripts the first by code.
    """
    counts = script_letters(text)
    han, kana = counts.get("Hani", 0), counts.pop("Hira", 0) + counts.pop("Kana", 0)
    if kana > _KANA_SHARE * (kana + han):
        counts["Jpan"] = kana + counts.pop("Hani", 0)
    elif counts.get("Hang", 0) > _HANGUL_SHARE * (counts.get("Hang", 0) + han):
        counts["Hang"] += counts.pop("Hani", 0)
    counts = {script: letters for script, letters in counts.items() if letters}
    return min(counts, key=lambda script: (-counts[script], script)) if counts else UNDETERMINED


def dominant_scripts(texts: pa.Array, characters: int) -> pa.Array:
    """`dominant_script` of the first `characters` of each text, at ten times its speed; null is the empty text."""
    from marco_data.kernels.scripts import count_scripts  # numba takes 0.6 s to import: not for a plan

    found = count_scripts(*text_buffers(texts), characters, _table(), len(_SCRIPTS) + 2)
    place = {script: 1 + i for i, script in enumerate((*_SCRIPTS, _UNLISTED))}
    han, kana, hangul = (found[:, [place[s] for s in of]].sum(axis=1) for of in (["Hani"], ["Hira", "Kana"], ["Hang"]))
    japanese = kana > _KANA_SHARE * (kana + han)
    korean = ~japanese & (hangul > _HANGUL_SHARE * (hangul + han))
    counts = {script: found[:, at] for script, at in place.items() if script not in ("Hira", "Kana")}
    counts["Jpan"] = np.where(japanese, kana + han, 0)
    counts["Hang"] = np.where(korean, hangul + han, hangul)
    counts["Hani"] = np.where(japanese | korean, 0, han)
    names = sorted(counts)
    best = np.stack([counts[name] for name in names], axis=1)
    index = np.where(best.any(axis=1), best.argmax(axis=1), len(names)) if len(best) else np.zeros(0, np.int64)
    return pa.array([*names, UNDETERMINED], pa.string()).take(pa.array(index))


@cache
def _table() -> np.ndarray:
    """For each code point 0 (no letter, or one that scripts share), 1 + its place in `_SCRIPTS`, or last: another.

    uint8, one entry a code point; made once per process from Unicode's own properties.
    """
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    planes = "".join(map(chr, range(0x40000)))  # no letter is assigned in planes 4 to 16
    letters = "".join(regex.findall(r"[\p{L}--\p{Script=Zyyy}]+", planes, regex.V1))
    table[_points(letters)] = len(_SCRIPTS) + 1
    for place, script in enumerate(_SCRIPTS, 1):
        table[_points("".join(regex.findall(rf"\p{{Script={script}}}+", letters)))] = place
    return table


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
