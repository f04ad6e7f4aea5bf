"""Training the language model: what its lines are made of, and that the same text gives the same bytes."""

import json
import random

import pytest
import zstandard

from marco_data.errors import RecipeError
from marco_data.languages import no_language
from marco_data.languages.labelled import HELD_OUT, Document, is_held_out, read_documents
from marco_data.languages.train import INSEPARABLE, Lines, sentences_of, threshold, train, training_lines

ALPHABETS = {"eng": "abcdefghij", "rus_Cyrl": "абвгдежзик", "tha": "กขคงจฉชซญ", "xho_Latn": "klmnopqrst"}
PLAN = Lines(characters=2_000, windows=50, other_windows=20, no_language=10)


def documents(label, count=40):
    """Made-up text: words drawn from an alphabet of its own for each language."""
    chance = random.Random(label)
    letters = next((letters for name, letters in ALPHABETS.items() if name == label), "uvwxyz")

    def sentence():
        return " ".join("".join(chance.choices(letters, k=chance.randint(2, 7))) for _ in range(9)) + ". "

    return [
        {"id": f"{label}-{i}", "text": "".join(sentence() for _ in range(5)), "label": label, "source": "made up"}
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    ours, other = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("other")
    for label in ("eng", "rus_Cyrl"):
        rows = "".join(json.dumps(row) + "\n" for row in documents(label))
        (ours / f"{label}.jsonl").write_text(rows, encoding="utf-8")
    with zstandard.open(ours / "tha.jsonl.zst", "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in documents("tha")))
    rows = [row for label in ("xho_Latn", "bos_Latn") for row in documents(label)]
    (other / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ours, other


def test_documents_are_read_from_plain_and_compressed_files_with_our_codes(folders):
    read = read_documents(folders[0])
    assert {d.label for d in read} == {"eng_Latn", "rus_Cyrl", "tha_Thai"}
    assert len(read) == 120


def test_a_folder_without_documents_is_a_recipe_error(tmp_path):
    with pytest.raises(RecipeError, match=r"no \*\.jsonl"):
        read_documents(tmp_path)


def test_a_document_without_a_label_is_a_recipe_error(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "x"}\n')
    with pytest.raises(RecipeError, match="label"):
        read_documents(tmp_path)


def test_a_language_without_a_letter_gives_no_line():
    lines = training_lines([Document("1", "12 34", "eng_Latn", "made up")], PLAN, seed=1)
    assert {line.split(" ")[0] for line in lines} == {f"__label__{kind}" for kind in no_language.KINDS}


def test_held_out_documents_and_inseparable_languages_give_no_line():
    read = [Document(str(i), f"word{chr(97 + i % 26) * (i + 1)} text", "eng_Latn", "made up") for i in range(200)]
    held_out = [d for d in read if is_held_out(d.id)]
    assert 0 < len(held_out) < 3 * len(read) / HELD_OUT
    bosnian = [Document(f"b{i}", "neka riječ", "bos_Latn", "made up") for i in range(20)]
    assert "bos_Latn" in INSEPARABLE
    lines = training_lines(read + bosnian, PLAN, seed=1)
    assert not any("bos_Latn" in line for line in lines)
    words = {word for line in lines for word in line.split()}
    assert not words & {d.text.split()[0] for d in held_out}


def test_a_sentence_in_another_script_is_not_its_languages():
    document = Document("1", "Вот это предложение.\nimport os\nИ ещё одно.", "rus_Cyrl", "made up")
    assert sentences_of(document) == ["вот это предложение", "и ещё одно"]


def test_a_sentence_of_two_languages_teaches_neither_but_english():
    texts = {"eng_Latn": "red apple. same words here.", "deu_Latn": "roter Apfel. same words here."}
    texts |= {"dan_Latn": "den samme linje. kun dansk.", "nob_Latn": "den samme linje. bare norsk."}
    # Ids that are not held out: 0 modulo 20 would give no line.
    ids = [str(i) for i in range(40) if not is_held_out(str(i))]
    documents = [Document(i, text, label, "made up") for i, (label, text) in zip(ids, texts.items(), strict=False)]
    lines = training_lines(documents, Lines(characters=100, windows=0, other_windows=0, no_language=0), seed=1)
    assert sorted(set(lines)) == [
        "__label__dan_Latn kun dansk",
        "__label__deu_Latn roter apfel",
        "__label__eng_Latn red apple",
        "__label__eng_Latn same words here",
        "__label__nob_Latn bare norsk",
    ]


def test_lines_depend_on_the_seed_and_on_nothing_else(folders):
    read = read_documents(folders[0])
    assert training_lines(read, PLAN, seed=1) == training_lines(read, PLAN, seed=1)
    assert training_lines(read, PLAN, seed=1) != training_lines(read, PLAN, seed=2)


def test_adding_a_language_leaves_the_lines_of_the_others(folders):
    read = read_documents(folders[0])
    fewer = training_lines([d for d in read if d.label != "tha_Thai"], PLAN, seed=1)
    assert sorted(fewer) == sorted(line for line in training_lines(read, PLAN, seed=1) if "tha_Thai" not in line)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1.0] * 10, 0.7), ([0.1, 0.2, 0.1], 0.3), ([0.5, 0.6, 0.7], 0.518), ([0.6], 0.6)],
)
def test_a_threshold_is_the_median_less_a_standard_deviation_within_bounds(scores, expected):
    assert threshold(scores) == expected


@pytest.mark.slow  # two trainings of a million buckets
def test_the_same_text_and_seed_give_the_same_bytes(folders, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = train(folders[0], tmp_path / "first" / "lid.ftz", 1, folders[1])
    second = train(folders[0], tmp_path / "second" / "lid.ftz", 1, folders[1])
    assert first == second
    assert (tmp_path / "first/lid.ftz").read_bytes() == (tmp_path / "second/lid.ftz").read_bytes()
    visayan = ["ceb_Latn", "hil_Latn", "war_Latn"]
    assert first["labels"] == sorted(["eng_Latn", "rus_Cyrl", "tha_Thai", "xho_Latn", *visayan, *no_language.KINDS])
    assert first["held_out"]["documents"]["macro_f1"] == 1.0
    assert sorted(first["thresholds"]) == ["eng_Latn", "rus_Cyrl", "tha_Thai"]
