"""The command line on what a user brings: files of any format, a recipe, a step and a pipeline of their own."""

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from command_line import marco
from small_corpus import SAMPLE, prose, recipe_values, row, write_corpus, write_jsonl, write_parquet_file, write_recipe

# --input and its kin


def read_of(*inputs: Path, out: Path, fields: tuple[str, ...] = ("text=text",)) -> int:
    """How many documents a build from these inputs says it has read."""
    words = [word for path in inputs for word in ("--input", path)]
    words += [word for field in fields for word in ("--field", field)]
    done = marco("build-stage", 3, *words, "--root", out, "--executor", "local", "--json")
    assert "Traceback" not in done.err
    assert done.json["balanced"] is True
    assert done.json["parts"].keys() == {"input"}
    return done.json["documents"]["read"]


def lines_of(data: bytes) -> int:
    """`wc -l`, and one for a last line without its end."""
    return data.count(b"\n") + (not data.endswith(b"\n"))


def warc_records(path: Path, *kinds: str) -> int:
    iterator = pytest.importorskip("warcio.archiveiterator")
    with path.open("rb") as file:
        return sum(record.rec_type in kinds for record in iterator.ArchiveIterator(file))


SOURCES = SAMPLE / "sources"
OUTSIDE: dict[str, tuple[Callable[[], int], list[Path], tuple[str, ...]]] = {
    "jsonl and jsonl.gz": (
        lambda: (
            lines_of((SOURCES / "web_records" / "records-a.jsonl").read_bytes())
            + lines_of(gzip.decompress((SOURCES / "web_records" / "records-b.jsonl.gz").read_bytes()))
        ),
        [SOURCES / "web_records"],
        ("text=text", "id=id"),
    ),
    "jsonl.zst": (
        lambda: sum(
            lines_of(zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read())
            for path in (SOURCES / "by_language").rglob("*.zst")
        ),
        [SOURCES / "by_language" / "*" / "*.jsonl.zst"],
        ("text=text",),
    ),
    "parquet": (
        lambda: sum(pq.read_metadata(path).num_rows for path in (SOURCES / "web_tables").glob("*.parquet")),
        [SOURCES / "web_tables"],
        ("text=content",),
    ),
    "warc": (
        lambda: warc_records(SOURCES / "crawl" / "pages.warc.gz", "response", "resource"),
        [SOURCES / "crawl"],
        ("text=text",),
    ),
    "wet": (
        lambda: warc_records(SOURCES / "crawl_text" / "pages.warc.wet.gz", "conversion"),
        [SOURCES / "crawl_text" / "pages.warc.wet.gz"],
        ("text=text",),
    ),
    "text": (lambda: len(list((SOURCES / "archive").glob("*.txt"))), [SOURCES / "archive"], ("text=text",)),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_an_outside_count_is_what_was_read(kind: str, tmp_path: Path):
    count, inputs, fields = OUTSIDE[kind]
    assert read_of(*inputs, out=tmp_path / "out", fields=fields) == count() > 0


def test_files_folders_and_globs_may_be_mixed(tmp_path: Path):
    corpus = write_corpus(tmp_path / "in")
    one, folder, glob = corpus / "web" / "a.jsonl", corpus / "books", corpus / "web" / "[bc].*"
    assert read_of(one, out=tmp_path / "one") == 6
    assert read_of(one, folder, glob, out=tmp_path / "all") == 6 + 7 + 8


def test_a_wrong_field_says_which_there_are(tmp_path: Path):
    file = write_jsonl(tmp_path / "my.jsonl", [{"content": "some words", "key": 1}])
    done = marco("build-stage", 3, "--input", file, "--root", tmp_path / "o", "--executor", "local")
    assert done.code == 2
    assert "`my.jsonl` has no field `text`; it has: `content`, `key`" in done.err
    assert "--field text=NAME" in done.err
    assert read_of(file, out=tmp_path / "o", fields=("text=content", "id=key")) == 1


def test_the_usual_names_of_id_and_url_are_read_where_a_file_has_them(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", [row("eng_Latn", 0), row("deu_Latn", 0)])
    write_jsonl(tmp_path / "bare.jsonl", [{"text": row("fra_Latn", 0)["text"]}])
    write_parquet_file(tmp_path / "bare.parquet", [{"text": row("rus_Cyrl", 0)["text"]}])
    build = ("build-stage", 3, "--input", tmp_path, "--root", tmp_path / "o", "--executor", "local", "--json")
    built = marco(*build)
    assert (built.code, built.json["documents"]["kept"]) == (0, 4), built.err
    (answer,) = marco("why", row("eng_Latn", 0)["id"], "--root", tmp_path / "o", "--json").lines
    assert (answer["source_id"], answer["url"]) == (row("eng_Latn", 0)["id"], row("eng_Latn", 0)["url"])
    wrong = marco(*build, "--field", "id=key")
    assert (wrong.code, "has no field `key`" in wrong.err) == (2, True)


def test_input_is_held_to_the_limits_of_a_recipe_of_the_users_own(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", [row("eng_Latn", 0), {"nothing": 1}])
    write_recipe(tmp_path / "r.yaml", recipe_values(tmp_path) | {"limits": {"failed_rows": 0.5}})
    build = ("build-stage", 3, "--input", tmp_path / "a.jsonl", "--root", tmp_path / "o", "--executor", "local")
    assert marco(*build).code == 1
    assert marco(*build, "--recipe", tmp_path / "r.yaml").code == 0


def test_a_budget_and_languages_from_the_command_line(tmp_path: Path):
    rows = [row(code, n) for code in ("eng_Latn", "deu_Latn") for n in (0, 1, 2)]
    file = write_parquet_file(tmp_path / "p.parquet", rows)
    command = ("build-stage", 3, "--input", file, "--root", tmp_path / "o", "--executor", "local", "--json")
    everything = marco(*command).json
    assert everything["documents"]["kept"] == 6
    some = marco(*command, "--budget", "600").json
    assert sum(entry["tokens"] for entry in some["languages"].values()) <= 600
    assert some["documents"]["dropped"]["mix/not_selected"] == 6 - some["documents"]["kept"] > 0
    german = marco(*command, "--languages", "de").json
    assert german["languages"].keys() == {"deu_Latn"}
    assert german["documents"]["dropped"] == {"select_language/not_in_recipe": 3}
    wrong = marco(*command, "--languages", "de,tlh")
    assert wrong.code == 2
    assert "tlh" in wrong.err


def test_a_budget_that_is_not_filled_is_told(tmp_path: Path):
    rows = [row(code, n) for code in ("eng_Latn", "deu_Latn") for n in (0, 1)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    build = ("build-stage", 3, "--input", tmp_path / "a.jsonl", "--root", tmp_path / "o", "--executor", "local")
    assert "note: the stage draws 0 of the 10 tokens asked for" in marco(*build, "--budget", 10).err
    assert "tokens asked for" not in marco(*build).err


# A user's own


STEPS = '''
from typing import ClassVar

import pyarrow as pa

from marco_data.step import Step, StepOutput


class DropQuestions(Step):
    """Texts that ask too much."""

    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[pa.Schema] = pa.schema([("questions", pa.int32())])
    reasons: ClassVar[frozenset[str]] = frozenset({"drop_questions/too_many"})

    most: int = 3

    def bind(self, language, tools):
        def judge(batch):
            counts = [text.count("?") for text in batch.column("text").to_pylist()]
            wrong = [n if n > self.most else None for n in counts]
            return StepOutput(
                {"questions": pa.array(counts, pa.int32())},
                reason=pa.array([None if n is None else "drop_questions/too_many" for n in wrong], pa.string()),
                measured=pa.array(wrong, pa.float64()),
            )

        return judge
'''
PIPELINE = '''
from pipelines.build_stage import build_stage


def mine(recipe, *, sample=1.0, verify=False):
    """Everything once, whatever the recipe's budget says."""
    return build_stage(recipe.model_copy(update={"budget": None}), sample=sample, verify=verify)
'''


def test_a_users_own_step_a_datatrove_filter_and_a_pipeline_give_reasons_in_the_books(tmp_path: Path):
    pytest.importorskip("datatrove")
    (tmp_path / "my_steps_of_test_cli.py").write_text(STEPS)
    (tmp_path / "my_pipeline_of_test_cli.py").write_text(PIPELINE)
    questions = prose("eng_Latn")[1].replace(".", "?")
    rows = [row("eng_Latn", 0), row("deu_Latn", 0)]
    rows += [{"id": "asks", "text": questions}, {"id": "secret", "text": f"{prose('eng_Latn')[2]} Xyzzy."}]
    write_jsonl(tmp_path / "in" / "web" / "a.jsonl", rows)
    values = recipe_values(tmp_path / "in") | {"mixture": {"web": {"weight": 1}}, "budget": 10}
    del values["sources"]["books"]
    values["pipeline"] = "my_pipeline_of_test_cli:mine"
    values["steps"]["extra"] = [
        {"step": "my_steps_of_test_cli:DropQuestions", "arguments": {"most": 2}},
        {
            "step": "datatrove:datatrove.pipeline.filters.RegexFilter",
            "arguments": {"regex_exp": "Xyzzy"},
        },
    ]
    recipe = write_recipe(tmp_path / "r.yaml", values)
    command = ("build-stage", 3, "--recipe", recipe, "--root", tmp_path / "o", "--executor", "local", "--json")
    done = marco(*command, cwd=tmp_path)
    assert done.code == 0, done.err
    documents = done.json["documents"]
    assert (documents["read"], documents["kept"]) == (4, 2)
    dropped = dict(documents["dropped"])
    assert dropped.pop("drop_questions/too_many") == 1
    assert [reason.startswith("datatrove/RegexFilter") for reason in dropped] == [True]
    (asks,) = marco("why", "asks", "--family", "small", "--root", tmp_path / "o", "--json").lines
    assert asks["measured"] == questions.count("?")
    for name in ("my_steps_of_test_cli", "my_pipeline_of_test_cli"):
        del sys.modules[name]
    elsewhere = marco(*command)
    assert elsewhere.code == 2
    assert "no pipeline `my_pipeline_of_test_cli:mine`" in elsewhere.err
