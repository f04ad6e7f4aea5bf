"""What is shown of what was dropped: samples that are the same each time, pairs that are true, figures that add up."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from command_line import marco
from planted_corpus import planted_values, write_planted
from small_corpus import Built, as_recipe, build, prose, write_jsonl, write_recipe

from marco_data.evidence import (
    BEGINNING,
    Pair,
    Shown,
    Survey,
    Wanted,
    dropped,
    explained,
    pairs,
    sample,
    similarity_label,
    size_label,
    survey,
    surveyed,
)
from marco_data.records import DROPPED, KEPT
from marco_data.report_evidence import pair_lines
from marco_data.storage import Storage
from marco_data.why import Lookup, Place

CODES = ("eng_Latn", "tha_Thai", "arb_Arab")


def one_word_more(text: str, number: int) -> str:
    """The text with something else after its first half."""
    half = len(text) // 2
    return f"{text[:half]} {number} {text[half:]}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The planted corpus, clusters of 2, 3 and 12 near duplicates, three exact copies, and an id that comes twice."""
    folder = tmp_path_factory.mktemp("evidence")
    corpus = write_planted(folder / "in")
    rows = []
    for code, size in zip(CODES, (12, 3, 2), strict=True):
        text = prose(code)[2]
        text = "\n\n".join([prose(code)[1], text]) if code == "eng_Latn" else text
        rows += [{"id": f"{code}-{n}", "text": one_word_more(text, n)} for n in range(size)]
    rows += [{"id": f"copy-{n}", "text": one_word_more(prose("eng_Latn")[1], 0)} for n in range(4)]
    rows.append({"id": "copy-3", "text": one_word_more(prose("eng_Latn")[1], 0)})
    write_jsonl(corpus / "web" / "clusters.jsonl", rows)
    values = planted_values(corpus)
    values["languages"] = [*values["languages"], "arb_Arab"]
    return build(as_recipe(values), folder / "out")


@pytest.fixture(scope="module")
def lookup(built: Built) -> Lookup:
    return Lookup(built.stage, built.storage)


def every_place(lookup: Lookup) -> list[Place]:
    return [Place(n, row) for n, (_, file, _) in enumerate(lookup.measured) for row in range(file.rows)]


WANTED = [
    Wanted("dedup"),
    Wanted("dedup/near"),
    Wanted("dedup/near", "tha_Thai"),
    Wanted("dedup/exact"),
    Wanted("dedup/near", None, "web"),
    Wanted("dedup/near", None, "books"),
    Wanted("quality"),
    Wanted("quality/too_few_words", "eng_Latn", "web"),
    Wanted("drop_marked"),
]


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_a_large_sample_is_all_documents_that_were_dropped_for_it(lookup: Lookup, wanted: Wanted):
    told = {place: lookup.answer(place) for place in every_place(lookup)}
    expected = {
        place
        for place, a in told.items()
        if a.verdict == DROPPED
        and f"{a.reason}/".startswith(f"{wanted.step}/")
        and wanted.language in (None, a.language)
        and wanted.source in (None, a.source)
    }
    assert set(sample(lookup, wanted, 1000)) == expected


def test_a_sample_is_the_beginning_of_a_larger_one_and_another_seed_gives_another(lookup: Lookup):
    wanted = Wanted("dedup/near")
    large = sample(lookup, wanted, 12)
    assert sample(lookup, wanted, 5) == large[:5]
    assert sample(lookup, wanted, 12, seed=1)[:5] != large[:5]
    assert sample(lookup, wanted, 0) == []


def test_a_sample_does_not_depend_on_how_the_corpus_is_cut_into_shards(built: Built, lookup: Lookup, tmp_path: Path):
    recipe = built.recipe.model_copy(update={"shards": built.recipe.shards.model_copy(update={"bytes": 20_000})})
    other = build(recipe, tmp_path / "out")
    elsewhere = Lookup(other.stage, other.storage)
    assert len(elsewhere.measured) < len(lookup.measured)
    names = [
        [lookup_.answer(place).source_id for place in sample(lookup_, Wanted("dedup/near"), 6)]
        for lookup_ in (lookup, elsewhere)
    ]
    assert names[0] == names[1]


@pytest.fixture(scope="module")
def all_pairs(lookup: Lookup) -> list[Pair]:
    return list(pairs(lookup, sample(lookup, Wanted("dedup"), 1000)))


def test_every_duplicate_is_shown_with_a_document_that_stays(lookup: Lookup, all_pairs: list[Pair]):
    reasons = Counter(pair.reason for pair in all_pairs)
    assert reasons == {reason: n for reason, n in lookup.stage.books.dropped.items() if reason.startswith("dedup/")}
    for pair in all_pairs:
        answers = [lookup.answer(place) for _, place in lookup.places([pair.kept.id])]
        assert any(a.verdict == KEPT and a.source_id == pair.kept.name for a in answers)
        assert pair.similarity == 1 if pair.reason != "dedup/near" else pair.similarity >= 0.8
        if pair.reason != "dedup/near":
            assert (pair.dropped.text, pair.counted) == (pair.kept.text, True)


def test_a_pair_has_both_texts_beginnings_and_where_they_part(all_pairs: list[Pair]):
    by_language = {pair.dropped.language: pair for pair in all_pairs if pair.dropped.name.startswith(CODES)}
    thai, english = by_language["tha_Thai"], by_language["eng_Latn"]
    text = prose("tha_Thai")[2]
    assert thai.dropped.text.startswith(text[:50])
    assert len(thai.kept.text) <= BEGINNING
    assert (thai.cluster_size, english.cluster_size) == (3, 12)
    assert (thai.differ_at, thai.around) == (None, None), "the difference is in the beginnings"
    half = len("\n\n".join(prose("eng_Latn")[1:3])) // 2
    assert english.differ_at == half + 1
    ones = [around[english.differ_at - 100 - len(around) :] for around in english.around]
    assert ones[0] != ones[1]


def test_the_twin_of_a_repeated_id_is_the_document_that_stays(all_pairs: list[Pair]):
    (again,) = [pair for pair in all_pairs if pair.dropped.name == "copy-3" and pair.reason == "dedup/same_id"]
    (first,) = [pair for pair in all_pairs if pair.dropped.id == again.dropped.id and pair.reason == "dedup/exact"]
    assert again.kept == first.kept, "the first of them is a copy itself, and does not stay"
    (twice,) = [pair for pair in all_pairs if pair.dropped.name == "twice"]
    assert twice.dropped.id == twice.kept.id


def test_what_a_limit_dropped_is_shown_with_its_figure(lookup: Lookup):
    (short,) = [one for one in dropped(lookup, Wanted("quality"), 100) if one.document.name == "short"]
    assert (short.reason, short.measured) == ("quality/too_few_words", 41)
    (marked,) = dropped(lookup, Wanted("drop_marked"), 100)
    assert marked.document.text.startswith(prose("eng_Latn")[1][:50])


def test_the_survey_is_a_sum_over_all_documents(lookup: Lookup):
    told = survey(lookup, Wanted("dedup"))
    answers = [lookup.answer(place) for place in every_place(lookup)]
    for language in {a.language for a in answers}:
        mine = [a for a in answers if a.language == language]
        gone = [a for a in mine if str(a.reason).startswith("dedup/")]
        one = told.get(language, Survey())
        assert one.reasons == Counter(a.reason for a in gone)
        near = Counter(int(a.similarity * 20 + 1e-9) for a in gone if a.reason == "dedup/near")
        assert one.counted + one.estimated == near
        sizes = [a.cluster_size for a in mine if a.verdict == KEPT and (a.cluster_size or 1) > 1]
        assert one.clusters.total() == len(sizes)
        assert one.members.total() == sum(sizes)
    whole = surveyed(told.values())
    assert whole.reasons.total() == sum(one.reasons.total() for one in told.values())
    assert whole.clusters[2] == 1, "the cluster of 12"


def test_the_survey_of_one_source_and_language_is_a_part_of_it(lookup: Lookup):
    assert survey(lookup, Wanted("dedup", "tha_Thai")) == {"tha_Thai": survey(lookup, Wanted("dedup"))["tha_Thai"]}
    assert survey(lookup, Wanted("dedup", None, "books")) == {}


@pytest.mark.parametrize(
    ("size", "label"),
    [
        (2, "2"),
        (3, "3-10"),
        (10, "3-10"),
        (11, "11-100"),
        (100, "11-100"),
        (101, "101-1,000"),
        (10**6, "100,001-1,000,000"),
    ],
)
def test_cluster_sizes_are_told_by_powers_of_ten(size: int, label: str):
    assert size_label(0 if size == 2 else len(str(size - 1))) == label


def test_similarities_are_told_in_twentieths():
    assert [similarity_label(part) for part in (16, 19, 20)] == ["0.80-0.85", "0.95-1.00", "1.00"]


def test_a_twin_of_an_earlier_build_is_named_without_its_text(all_pairs: list[Pair]):
    (pair, *_) = [pair for pair in all_pairs if pair.dropped.language == "eng_Latn"]
    earlier = replace(pair, kept=Shown("f" * 32, "", "f" * 32, "eng_Latn", 0, None), differ_at=None, around=None)
    lines = pair_lines(earlier, 120)
    assert any("kept: " + "f" * 32 in line for line in lines)
    assert any("(its text is in an earlier build)" in line for line in lines)
    assert any(line.startswith(pair.dropped.text[:15]) for line in lines)


# Commands


@pytest.fixture(scope="module")
def site(built: Built) -> list[str]:
    return ["--family", "small", "--root", built.storage.root]


def test_the_command_prints_figures_and_pairs(site: list[str], lookup: Lookup):
    done = marco("duplicates", 3, "--sample", 3, "--language", "en", "--reason", "near", *site)
    assert done.code == 0, done.err
    assert done.out.count("-- dedup/near, similarity ") == 3
    assert "pair 3 of 3" in done.out
    assert "cluster of 12" in done.out
    assert "11-100" in done.out
    assert "tha_Thai" not in done.out
    assert marco("duplicates", 3, "--sample", 3, "--language", "en", "--reason", "near", *site).out == done.out


def test_the_command_gives_the_same_as_data(site: list[str], lookup: Lookup, all_pairs: list[Pair]):
    told = marco("duplicates", 3, "--sample", 1000, *site, "--json").json
    assert [pair["dropped"]["id"] for pair in told["pairs"]] == [pair.dropped.id for pair in all_pairs]
    assert told["languages"] == {code: one.to_json() for code, one in survey(lookup, Wanted("dedup")).items()}
    none = marco("duplicates", 3, "--source", "books", *site, "--json").json
    assert none == {"languages": {}, "pairs": []}
    assert "no duplicates were found" in marco("duplicates", 3, "--source", "books", *site).out


def test_why_shows_the_twin_that_stays(site: list[str]):
    done = marco("why", "tha_Thai-1", *site)
    assert done.code == 0
    assert "-- dedup/near, similarity 0." in done.out
    assert "cluster of 3" in done.out
    assert ("counted on shingles" in done.out) != ("estimated from signatures" in done.out)
    (told,) = marco("why", "tha_Thai-1", *site, "--json").lines
    if told["verdict"] == KEPT:
        (told,) = marco("why", "tha_Thai-2", *site, "--json").lines
    assert told["pair"]["kept"]["name"] == told["duplicate_of"]
    (short,) = marco("why", "short", *site, "--json").lines
    assert (short["reason"], short["pair"]) == ("quality/too_few_words", None)


def test_a_wrong_language_source_or_reason_is_told(site: list[str]):
    for words, says in (
        (("--language", "xx"), "xx"),
        (("--source", "wbe"), "no source `wbe`"),
        (("--reason", "nearly"), "'nearly' is not one of 'near', 'exact', 'same_id'"),
    ):
        done = marco("duplicates", 3, *words, *site)
        assert (done.code, done.out) == (2, "")
        assert says in done.err


def test_weights_need_the_cluster_sizes_of_what_was_dropped(site: list[str]):
    done = marco("duplicates", 3, "--rehydrate", 10, *site)
    assert (done.code, done.out) == (2, "")
    assert "`steps: {dedup: {over: all}}`" in done.err


def test_a_build_that_stopped_before_has_no_duplicates_to_show(built: Built, tmp_path: Path):
    values = planted_values(write_planted(tmp_path / "in"))
    values["limits"] |= {"removal": {"documents": 1, "quality": 0.01}}
    path = write_recipe(tmp_path / "r.yaml", values)
    assert marco("build-stage", 3, "--recipe", path, "--root", tmp_path / "out", "--executor", "local").code == 1
    told = marco("duplicates", 3, "--family", "small", "--root", tmp_path / "out")
    assert (told.code, "stopped before duplicates were looked for" in told.err) == (2, True)
    assert marco("why", "short", "--family", "small", "--root", tmp_path / "out").code == 0


def test_what_is_known_of_many_is_what_is_known_of_each_at_the_price_of_one(
    lookup: Lookup, monkeypatch: pytest.MonkeyPatch
):
    places = every_place(lookup)
    each = [(lookup.answer(place), next(pairs(lookup, [place]), None)) for place in places]
    assert sum(answer.duplicate_of is not None for answer, _ in each) > 10
    looks = Counter[str]()
    read_table = Storage.read_table

    def counted(storage: Storage, path: str, columns: list[str] | None = None) -> pa.Table:
        looks[path] += 1
        return read_table(storage, path, columns)

    monkeypatch.setattr(Storage, "read_table", counted)
    together = list(explained(lookup, places))
    assert [pair for _, pair in together] == [pair for _, pair in each]
    assert [answer for answer, _ in together] == [answer for answer, _ in each]
    assert max(looks[file.path] for file in lookup.sidecars) <= 2
