"""Leaks of benchmark items: units, runs and hits against a plain twin; labelled leaks and near misses; the index."""

import gzip
import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_leaks import Planted, is_even, near_misses, planted, size
from small_corpus import prose

from marco_data.benchmark_build import build
from marco_data.benchmark_index import Index, IndexMissing, load, write
from marco_data.benchmark_items import Benchmark, Item, language_of, read_items
from marco_data.errors import RecipeError
from marco_data.kernels import leaks
from marco_data.languages import LANGUAGES
from marco_data.steps.decontaminate import Decontaminate
from marco_data.steps.normalize import normalize
from marco_data.words import texts_of

DATA = os.environ.get("MARCO_TEST_DATA")
LEAST = 0.98

QUESTION = (
    "Nadia bakes fourteen trays of rolls every morning, and each tray holds 12 rolls. She keeps 8 rolls for her family "
    "and sells all the others at the market for half a dollar each. How many dollars does she earn in 5 days?"
)


def texts(*written: str) -> Any:
    return texts_of(pa.array(written, pa.large_string()))


def index_of(*written: str, **options: Any) -> Index:
    items = [Item("quiz", str(number), "eng_Latn", "question", text) for number, text in enumerate(written)]
    return build(items, "a list", **options)


def hits(index: Index, document: str) -> list[dict[str, Any]]:
    return [hit._asdict() for _, hit in index.find(texts(document), 0.01, 1)]


def verdict(index: Index, document: str) -> str | None:
    return Decontaminate().verdict(hits(index, document))[0]


# Units: the twin says in Python what a unit is.

_UNIT = regex.compile(
    r"[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{LB=SA}&&[\p{L}]]\p{M}*|[\p{L}--[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{LB=SA}]]"
    r"[[\p{L}\p{M}]--[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{LB=SA}]]*|\p{Nd}+",
    regex.VERSION1,
)
_DROPPED = re.compile(r"[\u0591-\u05c7\u0640\u064b-\u065f\u0670\u00ad\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff]")


def twin_units(text: str) -> list[str]:
    text = _DROPPED.sub("", text)
    text = re.sub(r"(?<=\d)[.,'’](?=\d)", "", text)
    return [
        "".join(str(unicodedata.digit(c)) if c.isdigit() else c.casefold()[:1] or c for c in unit)
        for unit in _UNIT.findall(text)
    ]


def kernel_units(text: str) -> Any:
    found = texts(text)
    return leaks.find_units(found.data, found.offsets, leaks.character_kinds())


SPELLED = st.lists(
    st.sampled_from(
        [
            *("Door", "door", "Ünder", "ünder", "12", "1,200", "1200", "3.5", "٣", "今", "天", "ア", "ก็", "ที่", "မြ"),
            *("ខ្មែ", " ", " ", "\n", ", ", ".", "-", "’", "का", "한국", "שלום", "(", "\u200b"),
        ]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(SPELLED, SPELLED)
def test_texts_have_equal_units_where_the_twin_says_so(one: str, other: str):
    for text in (one, other):
        units = kernel_units(text)
        assert len(units.keys) == len(twin_units(text))
    known: dict[int, str] = {}
    for text in (one, other):
        for key, unit in zip(kernel_units(text).keys.tolist(), twin_units(text), strict=True):
            assert known.setdefault(key, unit) == unit
    assert len(set(known.values())) == len(known)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "d", "1", "2"]), max_size=60), st.integers(6, 9))
def test_runs_are_the_longest_common_stretches_that_hold_a_window(words: list[str], window: int):
    item = [f"w{letter}" for letter in "abcdefghijklmnopqrst"] + ["a", "b", "c", "d"] * 5
    index = build([Item("quiz", "0", "und", "q", " ".join(item))], "", window=window)
    document = " ".join([*words, *item[3:25], *words])
    units = kernel_units(document)
    found = leaks.find_runs(units, index.grams, index.weights)
    spelled, sought = twin_units(document), twin_units(" ".join(item))
    for at, start, length in zip(found.at, found.start, found.length, strict=True):
        assert spelled[start : start + length] == sought[at : at + length]
        assert start == 0 or at == 0 or spelled[start - 1] != sought[at - 1]
        assert (
            start + length == len(spelled)
            or at + length == len(sought)
            or spelled[start + length] != sought[at + length]
        )
    assert any(at <= 3 and length >= 22 for at, length in zip(found.at, found.length, strict=True))


# What is a leak.

LEAKS = {
    "as it is": QUESTION,
    "other marks": QUESTION.replace(",", " -").replace(". ", " ... ").replace("?", "!"),
    "capitals": QUESTION.upper(),
    "curly and wide": QUESTION.replace("12", "１２").replace(" ", "\u00a0"),
    "a line a word": QUESTION.replace(" ", "\n> "),
    "in a page": f"{prose('eng_Latn')[0]}\n\n{QUESTION}\n\n{prose('eng_Latn')[1]}",
    "its first half": QUESTION[: len(QUESTION) // 2],
    "its second half": QUESTION[len(QUESTION) // 2 :],
}
NEAR = {
    "other numbers": QUESTION.replace("12", "15").replace("8", "6").replace("5 days", "7 days"),
    "its subject": "Nadia bakes rolls every morning and sells them at the market, but keeps a few for her family.",
    "seven words of it": "She sells all the others at the market on Sunday.",
    "letters": "Question 3. A) 14 B) 12 C) 8 D) 5. Answer: C",
    "numbers": "12, 8, 5, 14, 12, 8, 5 " * 20,
}


@pytest.mark.parametrize("form", LEAKS)
def test_a_leak_is_found_however_it_is_written(form: str):
    assert verdict(index_of(QUESTION), LEAKS[form]) in {"decontaminate/whole_item", "decontaminate/part_of_item"}


@pytest.mark.parametrize("form", NEAR)
def test_what_only_looks_like_an_item_is_none(form: str):
    assert verdict(index_of(QUESTION), NEAR[form]) is None


def test_a_hit_names_the_item_and_its_place_in_characters():
    page = f"Ça commence ici: 前言。\n\n{QUESTION} And so it ends."
    [hit] = hits(index_of(QUESTION), page)
    assert (hit["benchmark"], hit["item"], hit["field"], hit["share"], hit["whole"]) == (
        "quiz",
        "0",
        "question",
        1.0,
        True,
    )
    assert page[hit["start"] : hit["end"]] == QUESTION.rstrip("?")


def test_an_item_is_found_beside_another_of_its_form():
    other = QUESTION.replace("12", "15").replace("8", "6").replace("5 days", "7 days")
    for page in (f"{other}\n\n{QUESTION}", f"{QUESTION}\n\n{other}"):
        assert verdict(index_of(QUESTION), page) == "decontaminate/whole_item"


def test_a_long_stretch_of_a_long_item_is_a_leak():
    passage = " ".join(f"{word}{n}" for n in range(10) for word in " ".join(prose("eng_Latn")).split())
    words = passage.split()
    index = index_of(passage)
    assert verdict(index, " ".join(words[300:360])) == "decontaminate/long_stretch"
    assert verdict(index, " ".join(words[300:330])) is None


def test_a_short_item_is_found_only_as_a_whole():
    index = index_of("Which planet has the most moons?", "泰国的首都叫什么名字")
    assert verdict(index, "Quiz: which planet has the most moons? Saturn.") == "decontaminate/whole_item"
    assert verdict(index, "We asked which planet has the most rings.") is None
    assert verdict(index, "请问：泰国的首都，叫什么名字？") == "decontaminate/whole_item"
    assert verdict(index, "老挝的首都叫什么名字") is None


def test_what_is_too_short_to_tell_is_counted_and_not_looked_for():
    index = index_of("B", "The answer is 18", QUESTION)
    assert index.header["benchmarks"] == {"quiz": {"texts": 3, "broken": 0, "too_short": 2, "common": 0}}
    assert verdict(index, "The answer is 18. B") is None


def test_a_quotation_that_the_sample_knows_convicts_nobody():
    quotation = " ".join(prose("eng_Latn")[0].split()[:30])
    item = f"Who wrote these lines, and in which year did they appear first? {quotation}"
    pages = [f"{prose('eng_Latn')[n]}\n\n{quotation}" for n in (1, 2, 3)]
    assert verdict(index_of(item), pages[0]) == "decontaminate/part_of_item"
    index = index_of(item, sample=[pages])
    assert [verdict(index, page) for page in pages] == [None] * 3
    assert verdict(index, item) == "decontaminate/whole_item"


def test_copies_of_an_item_in_the_sample_do_not_make_it_common():
    index = index_of(QUESTION, sample=[[f"{page}\n{QUESTION}" for page in prose("eng_Latn")] * 2])
    assert verdict(index, QUESTION) == "decontaminate/whole_item"


def test_a_form_that_many_items_share_is_no_evidence():
    form = "Your answer must be in English and all of it in lower case letters, with no commas in it at all."
    subjects = ("a walk in the hills", "rain", "an old ferry", "bread and salt", "two brothers", "a lost key", "snow")
    index = index_of(*(f"Write a poem of two stanzas about {subject}, please. {form}" for subject in subjects))
    assert verdict(index, f"Tell me about the moon. {form}") is None
    assert (
        verdict(index, f"Write a poem of two stanzas about an old ferry, please. {form}") == "decontaminate/whole_item"
    )


def test_a_text_that_two_benchmarks_share_is_a_leak_of_both():
    items = [Item(name, "7", "eng_Latn", "q", QUESTION) for name in ("one", "two")]
    assert [hit["benchmark"] for hit in hits(build(items, ""), QUESTION)] == ["one", "two"]


def test_hits_are_a_matter_of_the_document_alone():
    index = index_of(
        QUESTION, *(" ".join(prose(code)[0].split()[:40]) for code in ("deu_Latn", "tha_Thai", "zho_Hans"))
    )
    documents = [QUESTION, "", prose("tha_Thai")[0], prose("deu_Latn")[0], "x", f"{prose('zho_Hans')[0]} {QUESTION}"]
    together = [(d, hit) for d, hit in index.find(texts(*documents), 0.01, 1)]
    alone = [(d, hit) for d, text in enumerate(documents) for _, hit in index.find(texts(text), 0.01, 1)]
    assert together == alone
    assert len(together) == 5


def test_rows_of_numbers_that_are_alike_everywhere_are_bounded_work():
    index = index_of("Add these up: " + "1 2 1 2 1 1 2 " * 12, QUESTION)
    document = f"{QUESTION}\n" + "1 2 1 2 1 1 2 " * 100_000
    units = kernel_units(document)
    assert len(leaks.find_runs(units, index.grams, index.weights).text) <= leaks.MOST_RUNS
    assert verdict(index, document) == "decontaminate/whole_item"


# Labelled documents.


def score(index: Index, documents: Sequence[Planted]) -> tuple[float, float, dict[str, int]]:
    """(recall, precision, wrong verdicts by form)."""
    found: list[list[dict[str, Any]]] = [[] for _ in documents]
    for start in range(0, len(documents), 1000):
        batch = [normalize(document.text) for document in documents[start : start + 1000]]
        for document, hit in index.find(texts(*batch), 0.2, 30):
            found[start + document].append(hit._asdict())
    rule = Decontaminate()
    said = [rule.verdict(of)[0] is not None for of in found]
    wrong: dict[str, int] = defaultdict(int)
    for document, leak in zip(documents, said, strict=True):
        wrong[document.form] += document.leak != leak
    right = sum(document.leak and leak for document, leak in zip(documents, said, strict=True))
    return right / sum(d.leak for d in documents), right / max(1, sum(said)), {k: n for k, n in wrong.items() if n}


def start_of(text: str) -> str:
    """The first sentences of a document, about forty words: what stands for an item."""
    pieces = (
        re.findall(r".+?(?:[.!?。！？।።]\s*|$)", text.replace("\n", " "))
        if not re.search("[ก-๛ກ-ໟက-႟ក-៿]", text)
        else text.split()
    )
    out = ""
    for piece in pieces:
        if size(out) >= 35:
            break
        out += piece if out == "" else f" {piece}"
    return out


def test_leaks_and_near_misses_in_64_languages_are_told_apart():
    own = {code: prose(code) for code in LANGUAGES}
    items = {code: Item("quiz", code, code, "question", start_of(documents[2])) for code, documents in own.items()}
    others = {code: Item("quiz", code, code, "question", start_of(documents[3])) for code, documents in own.items()}
    index = build(items.values(), "a list")
    documents = []
    for code, item in items.items():
        documents += [*planted(item, own[code][:2]), *near_misses(item, others[code], own[code][:2])]
    recall, precision, wrong = score(index, documents)
    assert len(documents) > 550
    assert (recall >= LEAST, precision >= LEAST) == (True, True), (recall, precision, wrong)


@pytest.mark.skipif(DATA is None, reason="MARCO_TEST_DATA is not set: real benchmarks are not here")
def test_real_items_planted_in_real_text_are_found_and_their_neighbours_are_not():
    """On the half of items and pages that no limit was chosen on; a fifth of the items is not in the index."""
    items = [item for item in read_items(real_benchmarks(Path(str(DATA)))) if item.text is not None]
    pages: dict[str, list[str]] = defaultdict(list)
    for row in rows_of(sorted((Path(str(DATA)) / "clean").glob("*.zst"))):
        if not is_even(row["id"]):
            pages[language_of(row["language"])].append(row["text"])
    groups: dict[tuple[str, str, str], list[Item]] = defaultdict(list)
    left_out: dict[tuple[str, str, str], list[Item]] = defaultdict(list)
    for item in items:
        if item.field.partition(".")[0] != "options" and size(item.text or "") >= 5:
            (left_out if is_left_out(item) else groups)[item.benchmark, item.language, item.field].append(item)
    documents: list[Planted] = []
    for key, members in sorted(groups.items()):
        chosen = [item for item in members if not is_even(item.benchmark, item.item, item.text or "")]
        for n, item in enumerate(chosen[:12]):
            there = pages.get(item.language) or pages["eng_Latn"]
            documents += [*planted(item, there), *near_misses(item, left_out[key][n % len(left_out[key])], there)]
    index = build((item for item in items if not is_left_out(item)), "a list")
    recall, precision, wrong = score(index, documents)
    print(f"{len(documents)} documents, recall {recall:.4f}, precision {precision:.4f}, wrong: {wrong}")
    assert len(documents) > 4000
    assert (recall >= LEAST, precision >= LEAST) == (True, True), (recall, precision, wrong)


def is_left_out(item: Item) -> bool:
    """By the item's number, so that its versions go with it; the first items of GSM8K are those of MGSM."""
    number = item.item.rpartition(":")[2]
    return sum(map(ord, f"{item.benchmark.replace('mgsm', 'gsm8k')} {number}")) % 5 == 0


def real_benchmarks(data: Path) -> dict[str, Benchmark]:
    place = data / "benchmarks"
    return {
        "mif": Benchmark(paths=(f"{place}/marco_bench_mif/{{language}}.jsonl.zst",), fields=("prompt",), id="key"),
        "mgsm": Benchmark(paths=(f"{place}/mgsm/mgsm_{{language}}.tsv.zst",), fields=("1",)),
        "gsm8k": Benchmark(paths=(f"{place}/gsm8k_test.jsonl.zst",), fields=("question", "answer"), language="en"),
        "aqua": Benchmark(
            paths=(f"{place}/aqua_dev.jsonl.zst", f"{place}/aqua_test.jsonl.zst"),
            fields=("question", "options", "rationale"),
            language="en",
        ),
    }


def rows_of(files: Iterable[Path]) -> Iterable[dict[str, Any]]:
    for file in files:
        with zstandard.open(file, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="MARCO_TEST_DATA is not set: real text is not here")
def test_real_text_without_known_leaks_is_left_alone():
    """Clean and web text in 64 languages, and the training half of GSM8K, which has the form of its test half."""
    folder = Path(str(DATA))
    index = build(read_items(real_benchmarks(folder)), "a list")
    files = [
        *sorted((folder / "clean").glob("*.zst")),
        *sorted((folder / "web").glob("*.zst")),
        *(folder / "stem").glob("*.zst"),
    ]
    rule, read, convicted = Decontaminate(), 0, []
    for file in files:
        documents = [normalize(row["text"]) for row in rows_of([file])]
        read += len(documents)
        for document, hit in index.find(texts(*documents), 0.2, 30):
            if rule.reason(hit._asdict()) is not None:
                convicted.append((file.name, hit, documents[document][hit.start : hit.end]))
    assert read > 16_000
    assert convicted == []


# The index: from files, to a file.


def test_items_are_read_from_jsonl_tables_and_parquet(tmp_path: Path):
    row = {"q": QUESTION, "choices": {"text": ["one", "two"]}, "id": 7}
    (tmp_path / "bn.jsonl.gz").write_bytes(gzip.compress((json.dumps(row) + "\n{broken\n").encode()))
    (tmp_path / "plain.tsv").write_text(f"{QUESTION}\t18\n", "utf-8")
    (tmp_path / "zh.csv").write_text('\ufeff,Question\n0,"one, two"\n', "utf-8")
    (tmp_path / "named.tsv").write_text(f"question\tanswer\n{QUESTION}\t18\n", "utf-8")
    pq.write_table(pa.Table.from_pylist([{"q": QUESTION}]), tmp_path / "t.parquet")
    benchmarks = {
        "commas": Benchmark(paths=(f"{tmp_path}/*.csv",), fields=("Question",), language="zh"),
        "lines": Benchmark(paths=(f"{tmp_path}/{{language}}.jsonl.gz",), fields=("q", "choices.text"), id="id"),
        "named": Benchmark(paths=(f"{tmp_path}/named.tsv",), fields=("answer",), language="sw"),
        "plain": Benchmark(paths=(f"{tmp_path}/plain.tsv",), fields=("2",)),
        "table": Benchmark(paths=(f"{tmp_path}/t.parquet",), fields=("q",), language="xx"),
    }
    assert list(read_items(benchmarks)) == [
        Item("commas", "zh:1", "zho_Hans", "Question", "one, two"),
        Item("lines", "7", "ben_Beng", "q", QUESTION),
        Item("lines", "7", "ben_Beng", "choices.text.0", "one"),
        Item("lines", "7", "ben_Beng", "choices.text.1", "two"),
        Item("lines", "bn:2", "ben_Beng", "", None),
        Item("named", "named:1", "swh_Latn", "answer", "18"),
        Item("plain", "plain:1", "und", "2", "18"),
        Item("table", "t:1", "xx", "q", QUESTION),
    ]


def test_a_benchmark_that_is_not_there_and_a_field_that_is_not_are_told(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"q": "x"}\n', "utf-8")
    with pytest.raises(RecipeError, match="benchmark `quiz`: no file at"):
        list(read_items({"quiz": Benchmark(paths=(f"{tmp_path}/b.jsonl",), fields=("q",))}))
    with pytest.raises(RecipeError, match=r"no item of `.*a.jsonl` has the field `question`"):
        list(read_items({"quiz": Benchmark(paths=(f"{tmp_path}/a.jsonl",), fields=("question",))}))


@pytest.mark.parametrize(
    ("label", "code"),
    [("bn", "ben_Beng"), ("zh_local", "zho_Hans"), ("AR_XY", "arb_Arab"), ("tlh", "tlh"), ("", "und")],
)
def test_a_files_language_is_ours_where_we_have_it(label: str, code: str):
    assert language_of(label) == code


def test_the_same_items_give_the_same_bytes_and_a_file_reads_as_it_was_made(tmp_path: Path):
    made = [index_of(QUESTION, *prose("khm_Khmr")) for _ in range(2)]
    for name, index in zip("ab", made, strict=True):
        write(index, str(tmp_path / "deep" / name))
    assert (tmp_path / "deep/a").read_bytes() == (tmp_path / "deep/b").read_bytes()
    read = load(tmp_path / "deep" / "a")
    assert read.header == made[0].header
    assert hits(read, QUESTION) == hits(made[0], QUESTION) != []


def test_an_index_without_items_finds_nothing(tmp_path: Path):
    write(build([], "a list"), str(tmp_path / "empty.index"))
    assert hits(load(tmp_path / "empty.index"), QUESTION) == []


@pytest.mark.parametrize("at", [-1, 300])
def test_a_damaged_index_is_refused(tmp_path: Path, at: int):
    write(index_of(QUESTION), str(tmp_path / "i"))
    data = bytearray((tmp_path / "i").read_bytes())
    data = data[: len(data) // 2] if at < 0 else data
    data[at] ^= 1
    (tmp_path / "i").write_bytes(data)
    with pytest.raises(RecipeError, match="index"):
        load(tmp_path / "i")


def test_a_missing_index_says_what_makes_it(tmp_path: Path):
    with pytest.raises(IndexMissing, match="not there") as error:
        load(tmp_path / "none")
    assert "index-benchmarks" in str(error.value)
