"""A table of changes: what the plan says of each, which nodes then run how many tasks, and that undoing it is free.

Every case starts from a finished build of the small corpus (`small_corpus`: 4 files, 2 parts, 7 languages) and a
budget that leaves some documents out.
"""

import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_corpus import CODES, Built, as_recipe, build, recipe_values, row, write_corpus, write_jsonl

from marco_data.dataset import Dataset
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.plan import REBUILD, REDECIDE, SKIP, NodePlan, plan_nodes
from marco_data.stage import find_stage
from marco_data.storage import Storage

NODES = ("measure", "decide", "documents", "dedup", "tokenize", "mix", "shards")
"""Those between `documents` and `dedup` run where what they read has changed, most of them once: all look at all."""
NOTHING = (0, 0, 0, 0, 0, 0, 0)
SOME = None
"""How many depends on the documents' lengths."""

Values = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What is done to the recipe or the corpus; the tasks that run, node by node; the first line of the plan that
    is not `skip`: its node, its status and a key it names."""

    do: Callable[[Values, Path], object]
    ran: tuple[int | None, ...]
    node: str
    status: str
    because: str
    verdicts: dict[str, int] = field(default_factory=dict)  # drops by reason that are new


def steps(**sections: Any) -> Callable[[Values, Path], None]:
    def change(values: Values, corpus: Path) -> None:
        for name, section in sections.items():
            values["steps"][name] = values["steps"].get(name, {}) | section

    return change


def add_source(values: Values, corpus: Path) -> None:
    write_jsonl(corpus / "more" / "m.jsonl", [row("fra_Latn", 3)])
    values["sources"]["more"] = {"paths": [f"{corpus}/more"], "fields": {"id": "id"}}
    values["mixture"]["more"] = {"weight": 1}


def change_file(values: Values, corpus: Path) -> None:
    write_jsonl(corpus / "web" / "c.jsonl", [row(code, n) for code in CODES[5:] for n in (0, 3)])


def drop_language(values: Values, corpus: Path) -> None:
    values["languages"].remove("deu_Latn")


def set_key(section: str, **changed: Any) -> Callable[[Values, Path], None]:
    return lambda values, corpus: values[section].update(changed)


CHANGES = {
    # One Bengali page of 70 words goes. All is decided again, and looked at for duplicates again; the sidecar of its
    # file alone changes, and that file alone is tokenized again.
    "limit_tighter": Change(
        steps(quality={"overrides": {"ben_Beng": {"min_words": 75}}}),
        (0, 4, 1, 1, 1, 1, SOME),
        "decide",
        REDECIDE,
        "steps.quality.config.limits.ben_Beng.min_words: 50.0 -> 75.0",
        {"quality/too_few_words": 1},
    ),
    "limit_looser": Change(
        steps(quality={"overrides": {"ben_Beng": {"min_words": 10}}}),
        (0, 4, 0, 0, 0, 0, 0),
        "decide",
        REDECIDE,
        "steps.quality.config.limits.ben_Beng.min_words: 50.0 -> 10.0",
    ),
    "language_threshold_that_changes_no_verdict": Change(
        steps(identify_language={"threshold": 0.31}),
        (0, 4, 0, 0, 0, 0, 0),
        "decide",
        REDECIDE,
        "steps.select_language.config.thresholds.ben_Beng: 0.3 -> 0.31",
    ),
    # Every document is a language's own; a share that none reaches would drop them all, so the limit is only moved.
    "language_share_that_changes_no_verdict": Change(
        steps(identify_language={"min_share": 0.9}),
        (0, 4, 0, 0, 0, 0, 0),
        "decide",
        REDECIDE,
        "steps.select_language.config.min_share: 0.7 -> 0.9",
    ),
    "weight": Change(
        lambda values, corpus: values["mixture"]["web"].update(weight=9),
        (0, 0, 0, 0, 0, 1, SOME),
        "mix",
        REBUILD,
        "mixture.web.weight: 3.0 -> 9.0",
    ),
    "budget": Change(
        lambda values, corpus: values.update(budget=4000),
        (0, 0, 0, 0, 0, 1, SOME),
        "mix",
        REBUILD,
        "budget: 5000 -> 4000",
    ),
    "seed": Change(
        lambda values, corpus: values.update(seed="another"),
        (0, 0, 0, 0, 0, 1, SOME),
        "mix",
        REBUILD,
        "seed: small -> another",
    ),
    "tokenizer": Change(
        set_key("tokenizer", end_of_document="<|im_end|>"),
        (0, 0, 0, 0, 4, 1, SOME),
        "tokenize",
        REBUILD,
        "end_of_document: <|endoftext|> -> <|im_end|>",
    ),
    "file_added": Change(
        lambda values, corpus: write_jsonl(corpus / "web" / "z.jsonl", [row("eng_Latn", 3)]),
        (1, 1, 1, 1, 1, 1, 1),
        "measure",
        REBUILD,
        "1 of 5 input slices are new or changed",
    ),
    # Russian and Thai lose half: the records of every other file are there.
    "file_removed": Change(
        lambda values, corpus: (corpus / "web" / "b.jsonl.gz").unlink(),
        (0, 0, 1, 1, 0, 1, SOME),
        "documents",
        REBUILD,
        "1 of 1 read something that changed",
    ),
    "file_changed": Change(
        change_file, (1, 1, 1, 1, 1, 1, 2), "measure", REBUILD, "1 of 4 input slices are new or changed"
    ),
    "source_added": Change(
        add_source, (1, 1, 1, 4, 1, 1, SOME), "measure", REBUILD, "1 of 5 input slices are new or changed"
    ),
    # The German documents are in two of the four files; those behind them move to other places, with the same verdicts.
    "language_dropped": Change(
        drop_language,
        (0, 4, 1, 4, 2, 1, SOME),
        "decide",
        REDECIDE,
        "steps.select_language.config.languages",
        {"select_language/not_in_recipe": 3},
    ),
    "dedup_threshold": Change(
        steps(dedup={"threshold": 0.7}),
        (0, 0, 0, 0, 0, 0, 0),
        "bands",
        REBUILD,
        "rows: 7 -> 5",
    ),
    # Signatures are measured: text is read again, but no verdict and no token changes.
    "hashes": Change(
        steps(dedup={"hashes": 128}),
        (4, 4, 1, 0, 4, 0, 0),
        "measure",
        REBUILD,
        "steps.sign.config.hashes: 112 -> 128",
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus in `in` and its build in `out`."""
    folder = tmp_path_factory.mktemp("finished")
    build(as_recipe(base(folder)), folder / "out")
    return folder


def base(folder: Path) -> Values:
    if not (folder / "in").exists():
        write_corpus(folder / "in")
    return recipe_values(folder / "in") | {"budget": 5000}


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished build, for one case to change."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def plan(values: Values, root: Path) -> list[NodePlan]:
    recipe, storage = as_recipe(values), Storage(str(root))
    dataset: Dataset = recipe.pipeline_function()(recipe)
    return plan_nodes(dataset, storage, find_stage(storage, recipe.family, recipe.stage))


def ran(built: Built) -> tuple[int, ...]:
    return tuple(built.run.ran[name] for name in NODES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_runs_what_reads_it_and_nothing_else(name: str, folder: Path):
    change = CHANGES[name]
    values, root = base(folder), folder / "out"
    before = find_stage(Storage(str(root)), "small", 3)
    changed = deepcopy(values)
    change.do(changed, folder / "in")

    told = plan(changed, root)
    built = build(as_recipe(changed), root)

    first = next(line for line in told if line.status != SKIP)
    assert (first.node, first.status) == (change.node, change.status)
    assert any(change.because in reason for reason in first.because), first.because
    assert first.pending == built.run.ran[first.node]
    for line in told[: told.index(first)]:
        assert built.run.ran[line.node] == 0, f"the plan said that {line.node} has nothing to do"
    expected = zip(change.ran, ran(built), strict=True)
    assert all(n is SOME or n == there for n, there in expected), ran(built)
    assert built.stage.balanced
    drops = {reason: n for reason, n in built.stage.books.dropped.items() if not reason.startswith("mix/")}
    assert drops == change.verdicts

    shutil.rmtree(folder / "in")
    again = base(folder)
    assert all(line.status == SKIP for line in plan(again, root))
    undone = build(as_recipe(again), root)
    assert not any(undone.run.ran.values())
    assert replace(undone.stage, recipe={}) == replace(before, recipe={})


@pytest.mark.parametrize("name", ["seed", "tokenizer"])
def test_a_change_of_every_token_or_place_rewrites_every_shard(name: str, folder: Path):
    values = base(folder)
    CHANGES[name].do(values, folder / "in")
    built = build(as_recipe(values), folder / "out")
    assert built.run.ran["shards"] == len(built.stage.shards) > 0


def test_a_build_that_is_there_already_runs_nothing(folder: Path):
    assert all(line.status == SKIP and line.pending == 0 for line in plan(base(folder), folder / "out"))
    assert not any(build(as_recipe(base(folder)), folder / "out").run.ran.values())


@pytest.mark.parametrize("how", ["moved", "touched", "reordered"])
def test_where_inputs_lie_and_when_they_were_written_is_no_identity(how: str, folder: Path):
    values = base(folder)
    if how == "moved":
        (folder / "in").rename(folder / "elsewhere")
        values = recipe_values(folder / "elsewhere") | {"budget": 5000}
    elif how == "touched":
        for file in (folder / "in").rglob("*.*"):
            file.touch()
    else:
        values["languages"].reverse()
        values["sources"] = dict(reversed(values["sources"].items()))
    built = build(as_recipe(values), folder / "out")
    # The order of languages is told to the mix, whose answer does not depend on it.
    assert ran(built) == (*NOTHING[:5], int(how == "reordered"), 0)


def destroyed_text(file: Path) -> None:
    """Overwrite the pages of a Parquet file's `text`; what the footer says of them stays."""
    metadata = pq.read_metadata(file)
    data = bytearray(file.read_bytes())
    for group in range(metadata.num_row_groups):
        columns = (metadata.row_group(group).column(i) for i in range(metadata.num_columns))
        column = next(c for c in columns if c.path_in_schema == "text")
        start = column.dictionary_page_offset or column.data_page_offset
        data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(data)


def measured(root: Path) -> Iterator[Path]:
    yield from root.glob("measure-*/*.[0-9][0-9][0-9].*.parquet")


@pytest.mark.parametrize("name", ["limit_tighter", "limit_looser", "language_dropped", "dedup_threshold"])
def test_verdicts_are_decided_again_without_a_byte_of_text(name: str, folder: Path):
    values, storage = base(folder), Storage(str(folder / "out"))
    CHANGES[name].do(values, folder / "in")
    files = list(measured(folder / "out"))
    assert len(files) == 4
    for file in files:
        destroyed_text(file)
        with pytest.raises(OSError, match=r"zstd|ZSTD|page|decompress"):
            pq.read_table(file, columns=["text"])
    recipe = as_recipe(values)
    dataset = recipe.pipeline_function()(recipe)
    names = [node.name for node in dataset.nodes]
    verdicts = Dataset(dataset.nodes[: names.index("dedup") + 1])

    result = run(verdicts, storage, LocalExecutor(), Silent())

    assert result.complete
    assert tuple(result.ran[node] for node in NODES[:3]) == CHANGES[name].ran[:3]


def test_only_shards_whose_kept_rows_changed_are_tokenized_again(folder: Path):
    root = folder / "out"
    before = {path.name for path in root.glob("tokenize-*/*.json")}
    values = base(folder)
    CHANGES["limit_tighter"].do(values, folder / "in")
    build(as_recipe(values), root)
    new = [path.name for path in root.glob("tokenize-*/*.json") if path.name not in before]
    assert ["web-c-jsonl" in name for name in new if not name.startswith("manifest")] == [True]


def test_a_build_with_another_input_leaves_no_trace_in_the_bytes(folder: Path, tmp_path: Path):
    """Adding a file and taking it away again ends where a build that never saw it ends."""
    values = base(folder)
    write_jsonl(folder / "in" / "web" / "z.jsonl", [row("eng_Latn", 3)])
    build(as_recipe(values), folder / "out")
    (folder / "in" / "web" / "z.jsonl").unlink()
    through = build(as_recipe(values), folder / "out")
    fresh = build(as_recipe(values), tmp_path / "fresh")
    assert through.stage.shards == fresh.stage.shards
    assert through.stage.folder == fresh.stage.folder
    for shard in fresh.stage.shards:
        for suffix in (".bin", ".idx"):
            assert through.storage.read(shard["prefix"] + suffix) == fresh.storage.read(shard["prefix"] + suffix)
