"""How often the guards of generated text are wrong: text that people wrote, and faults planted in it.

    python -m benchmarks.generation_guards [--documents 40] [--languages ko th] [--out docs/generation-guards-table.md]

Reads `clean/*.jsonl.zst` in the folder of MARCO_TEST_DATA. Human text is judged alone, as a light edit of itself
(sentences reordered, one in five dropped) and, where the corpus has the same stories in every language, as a
translation from English: every hit there is a false positive. Planted are English, half English, a neighbour's
language, another document, loops, changed numbers, invented addresses and names, refusals, remarks, leaks, copies and
wrong lengths.
Prints a table by language and the time that a thousand answers take. Does not know what a model would really write.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import regex
import zstandard

from benchmarks.corpus import data_folder
from marco_data.generation import guards, numerals
from marco_data.generation.guards import Limits, check
from marco_data.generation.names import capitalised
from marco_data.generation.phrases import shipped_phrases
from marco_data.languages import LANGUAGES, Language, canonical

NEIGHBOUR = {
    **{"ind_Latn": "zsm_Latn", "zsm_Latn": "ind_Latn", "jav_Latn": "ind_Latn", "hrv_Latn": "slv_Latn"},
    **{"dan_Latn": "nob_Latn", "nob_Latn": "dan_Latn", "swe_Latn": "dan_Latn", "glg_Latn": "por_Latn"},
    **{"por_Latn": "glg_Latn", "spa_Latn": "glg_Latn", "cat_Latn": "spa_Latn", "ces_Latn": "slk_Latn"},
    **{"slk_Latn": "ces_Latn", "hin_Deva": "mar_Deva", "mar_Deva": "hin_Deva", "npi_Deva": "hin_Deva"},
    **{"urd_Arab": "fas_Arab", "fas_Arab": "arb_Arab", "arb_Arab": "fas_Arab", "kaz_Cyrl": "rus_Cyrl"},
    **{"rus_Cyrl": "ukr_Cyrl", "ukr_Cyrl": "rus_Cyrl", "bul_Cyrl": "srp_Cyrl", "srp_Cyrl": "bul_Cyrl"},
    **{"azj_Latn": "tur_Latn", "tur_Latn": "azj_Latn", "zho_Hans": "jpn_Jpan", "jpn_Jpan": "zho_Hans"},
    **{"slv_Latn": "hrv_Latn", "ita_Latn": "spa_Latn", "nld_Latn": "deu_Latn", "ekk_Latn": "fin_Latn"},
    **{
        "fin_Latn": "ekk_Latn",
        "lvs_Latn": "lit_Latn",
        "lit_Latn": "lvs_Latn",
        "lao_Laoo": "tha_Thai",
        "fra_Latn": "spa_Latn",
    },
}
"""Whose text stands for an answer in the wrong language; French where no neighbour is named."""

STRANGERS = {
    **{"zho_Hans": ("zho_Hant", "yue_Hant"), "nob_Latn": ("nno_Latn",), "zul_Latn": ("xho_Latn", "ssw_Latn")},
    **{"hrv_Latn": ("bos_Latn",), "nld_Latn": ("afr_Latn",), "fas_Arab": ("prs_Arab", "pus_Arab")},
    **{"rus_Cyrl": ("bel_Cyrl",), "bul_Cyrl": ("mkd_Cyrl",), "kaz_Cyrl": ("kir_Cyrl", "tat_Cyrl", "bak_Cyrl")},
    **{"arb_Arab": ("snd_Arab",), "amh_Ethi": ("tir_Ethi",), "azj_Latn": ("tuk_Latn", "uzb_Latn")},
    **{"deu_Latn": ("ltz_Latn",), "dan_Latn": ("fao_Latn",)},
}
"""Languages that are not ours, by the one that they would be taken for."""

PROMPT = "You rewrite web pages as clear articles. Keep every fact and every number exactly as it is in the text below."
HUMAN = ("alone", "edited", "translated")
WRONG = frozenset({"wrong_language", "wrong_script"})
EXPECTED = {
    "english": WRONG,
    "half_english": WRONG,
    "neighbour": WRONG,
    "other_text": {"off_topic"},
    "other_translation": {"off_topic", "too_short", "too_long", "invented_number"},
    "loop": {"repetition", "too_long"},
    "number": {"invented_number"},
    "url": {"invented_url"},
    "names": {"invented_name"},
    "refusal": {"refusal"},
    "remark": {"meta_text"},
    "leak": {"prompt_leak"},
    "copy": {"copied"},
    "short": {"too_short"},
    "long": {"too_long"},
}
"""What is planted, and the reasons that are right for it."""


@dataclass(frozen=True)
class Case:
    kind: str
    text: str
    source: str | None = None
    same_language: bool = True
    limits: Limits = guards.DEFAULT


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.generation_guards", description="Guards on real text.")
    parser.add_argument("--documents", type=int, default=40, help="of each language (40)")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), help="all 64 unless some are named")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    arguments = parser.parse_args()
    if data_folder() is None:
        parser.error("set MARCO_TEST_DATA to a folder of real documents")
    codes = [canonical(code).code for code in arguments.languages]
    hits: Counter[tuple[str, str, str]] = Counter()  # language, kind, reason
    asked: Counter[tuple[str, str]] = Counter()
    for code in codes:
        for case in cases(LANGUAGES[code], arguments.documents):
            asked[code, case.kind] += 1
            found = check(
                case.text,
                language=LANGUAGES[code],
                limits=case.limits,
                source=case.source,
                same_language=case.same_language,
                prompt=PROMPT,
            )
            hits[code, case.kind, found.reason if found else "passed"] += 1
    tables = [false_positives(codes, hits, asked), recall(codes, hits, asked), strangers(codes), [cost(codes)]]
    text = "\n\n".join("\n".join(table) for table in tables)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", "utf-8")


def cases(language: Language, most: int) -> Iterator[Case]:
    """Human text and planted faults of one language: the same ones in every run."""
    rng = random.Random(language.code)
    texts = [head(text) for _, text in documents(language.code)]
    texts = [text for text in texts if len(sentences(text)) >= 4]
    texts = rng.sample(texts, min(most, len(texts)))
    loose = Limits(max_copied=None)  # a light edit is a copy by design
    for i, text in enumerate(texts):
        yield Case("alone", text)
        yield Case("edited", edited(text, rng), text, limits=loose)
        yield from planted(language, text, texts[i - 1], rng, loose)
    stories, english = parallel(language.code), parallel("eng_Latn")
    for i in rng.sample(range(len(stories)), min(most, len(stories))) if language.code != "eng_Latn" else ():
        yield Case("translated", stories[i], english[i], same_language=False)
        yield Case("other_translation", stories[i], english[i - 7], same_language=False)


def planted(language: Language, text: str, other: str, rng: random.Random, loose: Limits) -> Iterator[Case]:
    """One of each fault, where the text has room for it."""
    english = [head(story) for story in parallel("eng_Latn")]
    own = edited(text, rng)
    if language.code != "eng_Latn":
        yield Case("english", rng.choice(english))
        yield Case("half_english", half(text, rng.choice(english)))
    yield Case("neighbour", head(rng.choice(documents(NEIGHBOUR.get(language.code, "fra_Latn")))[1]))
    yield Case("other_text", other, text, limits=Limits(min_length_ratio=None, max_length_ratio=None))
    parts = sentences(own)
    yield Case("loop", " ".join([*parts[:-1], *[parts[-1]] * 12]), text, limits=loose)
    changed = change_number(own, rng)
    if changed:
        yield Case("number", changed, text, limits=loose)
    yield Case("url", own + " https://example-news.org/2024/story", text, limits=loose)
    named = add_names(own, text, language, rng)
    if named:
        yield Case("names", named, text, limits=loose)
    phrases = shipped_phrases(language.code)
    yield Case("refusal", f"{rng.choice(phrases['refusal'])} {own}", text, limits=loose)
    yield Case("remark", f"{rng.choice(phrases['lead'])} {parts[0][:40].rstrip('.:')}:\n\n{own}", text, limits=loose)
    yield Case("leak", f"{own} {PROMPT}", text, limits=loose)
    yield Case("copy", text, text)
    yield Case("short", own[: len(text) // 10], text, limits=loose)
    yield Case("long", " ".join(t for _, t in documents(language.code)[:40])[: 5 * len(text)], text, limits=loose)


def edited(text: str, rng: random.Random) -> str:
    """Sentences in another order, one in five dropped."""
    parts = sentences(text)
    return " ".join(rng.sample(parts, max(2, len(parts) * 4 // 5)))


def half(text: str, english: str) -> str:
    """The first half of a text, then as many letters of English."""
    parts = sentences(text)
    kept = " ".join(parts[: (len(parts) + 1) // 2])
    return f"{kept}\n\n{english[: max(200, int(guards.units(kept)))]}"


def change_number(text: str, rng: random.Random) -> str | None:
    """`text` with one of its numbers another; None where it has none above twelve."""
    found = [n for n in numerals.numbers(text) if len(n.parts) == 1 and max(n.values) > 12]
    if not found:
        return None
    number = rng.choice(found)
    value = int(max(number.values))
    return f"{text[: number.start]}{value * 3 + rng.choice((1, 2, 4))}{text[number.end :]}"


def add_names(text: str, source: str, language: Language, rng: random.Random) -> str | None:
    """`text` with four names that are not in the source after words of it, in languages that show names."""
    if language.code == "deu_Latn":
        return None
    made_up = ["Velkonberg", "Ostrandia", "Quimbara", "Hjartssen", "Pelluwick", "Zorvanth"]
    if language.scripts[0] in ("Cyrl", "Grek"):
        made_up = list(dict.fromkeys(n for _, t in documents(language.code)[:60] for n in capitalised(t)))
        made_up = [name for name in made_up if name[:3].casefold() not in source.casefold() and len(name) > 4]
        if len(made_up) < 4:
            return None
    words = text.split(" ")
    places = [i for i, word in enumerate(words[1:], 1) if words[i - 1][-1:].isalpha() and word[:1].islower()]
    places = places or [i for i in range(1, len(words)) if words[i - 1][-1:].isalpha()]
    if len(places) < 4:
        return None
    for name, at in zip(rng.sample(made_up, 4), rng.sample(places, 4), strict=True):
        words[at] = f"{name} {words[at]}"
    return " ".join(words)


def head(text: str, most: int = 1_500) -> str:
    """The first paragraphs of a text, about as long as an answer of 300 tokens."""
    kept = ""
    for paragraph in regex.split(r"(\n+)", text):
        if kept and len(kept) + len(paragraph) > most:
            break
        kept += paragraph
    return kept[: 2 * most].strip()


def sentences(text: str) -> list[str]:
    return [part.strip() for part in regex.split(r"(?<=[.!?。！？؟।။።])\s+|\n+| {2,}", text) if part.strip()]


@cache
def documents(code: str) -> list[tuple[str, str]]:
    """(source, text) of the clean documents of a language."""
    folder = data_folder()
    assert folder is not None
    with zstandard.open(folder / "clean" / f"{LANGUAGES[code].iso639_1}.jsonl.zst", "rt", encoding="utf-8") as file:
        return [(row["source"], row["text"]) for row in map(json.loads, file)]


@cache
def parallel(code: str) -> list[str]:
    """NTREX's 123 news stories, the same ones in each language but Javanese."""
    return [text for source, text in documents(code) if source.endswith("NTREX")]


def false_positives(
    codes: list[str], hits: Counter[tuple[str, str, str]], asked: Counter[tuple[str, str]]
) -> list[str]:
    reasons = sorted({reason for _, kind, reason in hits if kind in HUMAN and reason != "passed"})
    lines = ["Human text that a guard rejected: documents, of those judged", ""]
    lines += ["| language | judged | " + " | ".join(reasons) + " |", "|---" * (len(reasons) + 2) + "|"]
    for code in [*codes, "all"]:
        own = codes if code == "all" else [code]
        judged = sum(asked[c, kind] for c in own for kind in HUMAN)
        found = [sum(hits[c, kind, reason] for c in own for kind in HUMAN) for reason in reasons]
        if code == "all" or any(found):
            cells = [f"{n} ({n / judged:.2%})" if code == "all" else str(n or "") for n in found]
            lines.append(f"| {code} | {judged} | " + " | ".join(cells) + " |")
    return lines


def recall(codes: list[str], hits: Counter[tuple[str, str, str]], asked: Counter[tuple[str, str]]) -> list[str]:
    """Shares in percent, below 95 in bold."""
    lines = ["Planted faults that were found, percent", ""]
    lines += ["| language | " + " | ".join(EXPECTED) + " |", "|---" * (len(EXPECTED) + 1) + "|"]
    for code in [*codes, "all"]:
        own = codes if code == "all" else [code]
        cells = []
        for kind, right in EXPECTED.items():
            judged = sum(asked[c, kind] for c in own)
            found = sum(hits[c, kind, reason] for c in own for reason in right)
            share = 100 * found / judged if judged else 0
            cells.append("" if not judged else f"{share:.0f}" if share >= 95 else f"**{share:.0f}**")
        lines.append(f"| {code} | " + " | ".join(cells) + " |")
    return lines


def strangers(codes: list[str]) -> list[str]:
    """How much of a language that is not ours is rejected where its neighbour was wanted."""
    folder = data_folder()
    assert folder is not None
    texts: dict[str, list[str]] = {}
    with zstandard.open(folder / "other" / "other_languages.jsonl.zst", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            texts.setdefault(row["label"], []).append(head(row["text"]))
    lines = ["Languages that are not ours, given for one of ours", "", "| wanted | given | rejected |", "|---|---|---|"]
    for code, label in ((own, other) for own in codes for other in STRANGERS.get(own, ())):
        found = [check(text, language=LANGUAGES[code]) for text in texts.get(label, ())]
        right = sum(verdict is not None and verdict.reason in WRONG for verdict in found)
        lines.append(f"| {code} | {label} | {right} of {len(found)} |")
    return lines


def cost(codes: list[str]) -> str:
    """Processor time of `check` on edits of real texts, all languages alike."""
    rng = random.Random(0)
    pairs = [(LANGUAGES[c], head(text)) for c in codes for _, text in documents(c)[:16]]
    asked = [(language, edited(text, rng), text) for language, text in pairs if len(sentences(text)) >= 2]
    limits = Limits(max_copied=1)
    for language, text, source in asked[:: len(asked) // 64 or 1]:
        check(text, language=language, limits=limits, source=source, prompt=PROMPT)
    before = time.process_time()
    for language, text, source in asked:
        check(text, language=language, limits=limits, source=source, prompt=PROMPT)
    seconds = (time.process_time() - before) * 1_000 / len(asked)
    letters = sum(len(text) for _, text, _ in asked) / len(asked)
    return f"{seconds:.2f} processor seconds for 1,000 answers of {letters:.0f} characters with sources of their length"


if __name__ == "__main__":
    main()
