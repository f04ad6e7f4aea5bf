"""The stage ledger: rows that add up, to what the books and the blend say, at every moment of a build."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted_corpus import planted_values, write_planted
from small_corpus import as_recipe, build, recipe_values, write_corpus, write_jsonl
from small_corpus import row as document

from marco_data.dataset import Task
from marco_data.errors import RecipeError
from marco_data.execute import Done, LocalExecutor, Run, Silent, run
from marco_data.ledger_rows import LedgerRow
from marco_data.recipe import Recipe
from marco_data.records import Record
from marco_data.run_state import Announced, find_state
from marco_data.stage import books, counts_of_books, finish
from marco_data.stage_ledger import StageLedger, read_ledger, stage_so_far
from marco_data.storage import Storage

BUDGET = 3000


class Killed(Exception):
    """What ends a run here, as suddenly as a kill does."""


class DiesAt(LocalExecutor):
    """Does as `LocalExecutor` does, until so many tasks of a node are committed."""

    def __init__(self, node: str, tasks: int) -> None:
        super().__init__()
        self.at, self.left = node, tasks

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
        for done in super().run(tasks, storage):
            yield done
            if done.task.node.name == self.at:
                self.left -= 1
                if self.left == 0:
                    raise Killed


def started(recipe: Recipe, root: Path | str, executor: LocalExecutor | None = None) -> Run:
    """A build as the command line starts it, up to its last node."""
    storage, dataset = Storage(str(root)), recipe.pipeline_function()(recipe)
    announced = Announced.of(recipe, dataset.nodes, storage)
    done = run(dataset, storage, executor or LocalExecutor(), Silent(), waive=recipe.waive, announced=announced)
    finish(recipe, dataset, done, storage)
    return done


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    values = planted_values(write_planted(tmp_path_factory.mktemp("planted"))) | {"budget": BUDGET}
    return as_recipe(values | {"shards": {"bytes": 6000, "tokens": 2000}})


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    started(recipe, root)
    return root


@pytest.fixture(scope="module")
def ledger(whole: Path) -> StageLedger:
    return read_ledger(Storage(str(whole)), "small", 3)


def adds_up(row: LedgerRow) -> bool:
    """Whether what came in is what went out and what is left, in each unit."""
    out = row.gone + row.replaced + row.pending
    return (
        row.documents_read + row.documents_synthesized == out.documents + row.documents_written
        and row.bytes_read + row.bytes_synthesized == out.bytes + row.bytes_written
        and row.collected + row.synthesized == out.tokens + row.written
    )


def committed_in(root: Path) -> dict[str, list[Record]]:
    """The records of a root that holds one build, by the node's name, read one by one."""
    found: dict[str, list[Record]] = {}
    for path in sorted(root.glob("*-*/*.json")):
        if "manifest" not in path.name and path.parent.parent == root and not path.parent.name.startswith("stage-"):
            raw = json.loads(path.read_text("utf-8"))
            found.setdefault(path.parent.name.partition("-")[0], []).append(Record.from_json(raw))
    return found


# A build that is through


def test_every_row_adds_up_in_documents_bytes_and_tokens(ledger: StageLedger) -> None:
    assert len(ledger.rows) == 8
    assert [row for row in ledger.rows if not adds_up(row)] == []
    assert all(min(row.pending.documents, row.pending.bytes, row.pending.tokens) == 0 for row in ledger.rows)


def test_sums_over_rows_are_the_books_of_the_stage(ledger: StageLedger, whole: Path, recipe: Recipe) -> None:
    stage = build(recipe, whole).stage
    (total,) = ledger.total()
    assert (total.documents_read, total.documents_synthesized) == (stage.books.read, stage.books.generated)
    assert total.documents_written == stage.books.kept
    assert {reason: a.documents for reason, a in total.dropped.items()} == stage.books.dropped
    assert {reason: a.documents for reason, a in total.failed.items()} == stage.books.failed
    assert stage.books.failed
    assert len(stage.books.dropped) > 5
    for kind in ("language", "part", "source"):
        mine = {getattr(row, kind): row.written for row in ledger.total(kind) if row.written}
        theirs: dict[str, int] = {}
        for shard in stage.shards:
            theirs[shard[kind]] = theirs.get(shard[kind], 0) + shard["tokens"]
        assert mine == theirs


def test_what_is_drawn_wanted_and_short_is_what_blend_and_mix_say(ledger: StageLedger, whole: Path) -> None:
    blend = json.loads((whole / str(ledger.folder) / "blend.json").read_text("utf-8"))
    shares = {(s["language"], s["part"]): s for s in blend["shares"]}
    assert {(r.language, r.part): r.drawn for r in ledger.total("language", "part") if r.drawn} == {
        key: share["drawn"] for key, share in shares.items() if share["drawn"]
    }
    for row in ledger.total("language", "part"):
        share = shares.get((row.language, row.part), {"requested": 0, "shortfall": 0, "epochs": 0.0})
        assert (row.wanted, row.shortfall) == (share["requested"], share["shortfall"])
        assert row.epochs == pytest.approx(share["epochs"])
    (total,) = ledger.total()
    assert (total.wanted, total.drawn) == (BUDGET, blend["drawn"])


def test_after_each_step_is_left_what_it_has_not_dropped(ledger: StageLedger) -> None:
    assert ledger.steps.index("quality") < ledger.steps.index("drop_marked") < ledger.steps.index("dedup")
    assert ledger.steps[-1] == "mix"
    for row in ledger.rows:
        left = row.collected + row.synthesized
        for step in ledger.steps:
            gone = [a.tokens for r, a in (*row.dropped.items(), *row.failed.items()) if r.partition("/")[0] == step]
            left -= sum(gone)
            assert row.after[step] == left
        assert left == row.written


def test_only_what_was_never_tokenized_is_estimated(ledger: StageLedger) -> None:
    for row in ledger.rows:
        dropped_early = [a for reason, a in row.dropped.items() if not reason.startswith("mix/") and a.bytes]
        failed = [a for a in row.failed.values() if a.bytes]
        assert ("collected" in row.estimated) == bool(dropped_early or failed)
        assert not row.estimated & {
            "written",
            "drawn",
            "selected",
            "available",
            "shortfall",
            "after.mix",
            "after.dedup",
        }
    assert any(not row.estimated and row.written for row in ledger.rows)


def test_a_fertility_is_the_tokens_over_the_bytes_that_were_tokenized(ledger: StageLedger, whole: Path) -> None:
    counts = [c for r in committed_in(whole)["tokenize"] for c in r.counts if c.language == "deu_Latn"]
    measured = ledger.fertility["deu_Latn"]
    assert measured.bytes == sum(c.bytes for c in counts)
    assert measured.tokens_per_byte == sum(c.tokens for c in counts) / measured.bytes
    assert measured.basis == "language"
    (gone,) = (r.dropped["drop_marked/marked"] for r in ledger.rows if "drop_marked/marked" in r.dropped)
    assert gone.tokens == round(gone.bytes * ledger.fertility["eng_Latn"].tokens_per_byte) > 0


# A build under way


STOPS = [("measure", 1), ("measure", 3), ("decide", 1), ("decide", 3), ("documents", 1), ("dedup", 2), ("dedup", 3)]
STOPS += [("tokenize", 2), ("mix", 1), ("shards", 2)]


@pytest.mark.parametrize(("node", "tasks"), STOPS)
def test_a_killed_build_has_what_it_committed_and_goes_on_to_the_same_ledger(
    node: str, tasks: int, recipe: Recipe, ledger: StageLedger, tmp_path: Path
) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(Killed):
        started(recipe, tmp_path, DiesAt(node, tasks))
    part = read_ledger(storage, "small", 3)
    assert (part.complete, part.running, part.balanced, part.folder) == (False, True, False, None)
    assert [row for row in part.rows if not adds_up(row)] == []
    there = committed_in(tmp_path)
    known = books(counts_of_books({name: [c for r in records for c in r.counts] for name, records in there.items()}))
    (total,) = part.total()
    assert total.documents_read == known.read > 0
    assert {reason: a.documents for reason, a in total.dropped.items()} == known.dropped
    assert total.documents_written == known.kept
    decided = known.kept + sum(known.dropped.values()) + sum(known.failed.values())
    assert total.pending.documents == known.read - decided
    assert {n.name: n.done for n in part.nodes if n.name in there} == {n: len(r) for n, r in there.items()}
    assert total.wanted == BUDGET
    state = find_state(storage, "small", 3)
    assert state is not None
    assert stage_so_far(storage, state).books == known
    started(recipe, tmp_path)
    after = read_ledger(storage, "small", 3)
    assert after.to_object() == ledger.to_object()


def test_before_anything_is_tokenized_an_earlier_build_says_how_many_tokens_a_byte_has(
    recipe: Recipe, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "in")
    first = as_recipe(recipe_values(corpus))
    with pytest.raises(Killed):
        started(first, tmp_path / "alone", DiesAt("measure", 2))
    bases = {f.basis for f in read_ledger(Storage(f"{tmp_path}/alone"), "small", 3).fertility.values()}
    assert bases == {"assumed"}
    started(first, tmp_path / "out")
    write_jsonl(corpus / "web" / "e.jsonl", [document("fra_Latn", 3)])
    with pytest.raises(Killed):
        started(first, tmp_path / "out", DiesAt("measure", 1))
    found = read_ledger(Storage(f"{tmp_path}/out"), "small", 3).fertility["fra_Latn"]
    assert (found.basis, found.bytes > 1000) == ("earlier build", True)


def test_records_of_other_builds_in_the_same_folders_do_not_count(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in")
    recipe = as_recipe(recipe_values(corpus))
    started(recipe, tmp_path / "out")
    (corpus / "web" / "a.jsonl").unlink()
    write_jsonl(corpus / "web" / "e.jsonl", [document("fra_Latn", 3)])
    with pytest.raises(Killed):
        started(recipe, tmp_path / "out", DiesAt("decide", 1))
    part = read_ledger(Storage(f"{tmp_path}/out"), "small", 3)
    assert part.running
    assert {r.source: r.documents_read for r in part.total("source")} == {"web": 9, "books": 7}


def test_each_recipe_has_its_own_ledger_and_the_newest_is_the_stage_s(recipe: Recipe, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    started(recipe, tmp_path)
    other = as_recipe(recipe.model_dump(mode="json", exclude_unset=True) | {"budget": 500})
    with pytest.raises(Killed):
        started(other, tmp_path, DiesAt("mix", 1))
    assert (read_ledger(storage, "small", 3).budget, read_ledger(storage, "small", 3).running) == (500, True)
    first = read_ledger(storage, "small", 3, recipe)
    assert (first.budget, first.complete, first.recipe) == (BUDGET, True, recipe.digest)


def test_a_stage_that_nobody_has_begun_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has not been built") as told:
        read_ledger(Storage(str(tmp_path)), "small", 3)
    assert "build-stage 3" in str(told.value.hint)


# Builds that failed


def test_a_build_with_a_shard_that_failed_has_what_it_did(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        started(recipe, tmp_path, DiesAt("measure", 4))
    first = committed_in(tmp_path)["measure"][0]
    pq.write_table(pa.table({"another": [1]}), tmp_path / first.data[0].path)
    assert [failure.node for failure in started(recipe, tmp_path).failures] == ["decide"]
    found = read_ledger(Storage(str(tmp_path)), "small", 3)
    assert (found.complete, found.running, found.balanced) == (False, False, False)
    assert [row for row in found.rows if not adds_up(row)] == []
    (total,) = found.total()
    read = sum(c.documents for r in committed_in(tmp_path)["measure"] for c in r.counts if c.outcome == "read")
    assert (total.documents_read, total.written) == (read, 0)
    assert total.pending.documents > 0


def test_a_shard_that_is_waived_is_neither_read_nor_pending(tmp_path: Path) -> None:
    values = recipe_values(write_corpus(tmp_path / "in"))
    key = started(as_recipe(values), tmp_path / "out").records["measure"][0].key
    again = as_recipe(values | {"waive": [key]})
    assert started(again, tmp_path / "out").complete
    found = read_ledger(Storage(f"{tmp_path}/out"), "small", 3, again)
    assert (found.complete, found.balanced) == (True, False)
    (total,) = found.total()
    assert (total.documents_read, total.pending.documents) == (14, 0)
    assert all(adds_up(row) for row in found.rows)


# Elsewhere


def test_the_ledger_of_a_remote_root_is_that_of_a_local_one(recipe: Recipe, ledger: StageLedger) -> None:
    root = "memory://ledger/of/a/build"
    with pytest.raises(Killed):
        started(recipe, root, DiesAt("tokenize", 2))
    part = read_ledger(Storage(root), "small", 3)
    assert part.running
    assert [row for row in part.rows if not adds_up(row)] == []
    assert part.total()[0].documents_read == ledger.total()[0].documents_read
    started(recipe, root)
    assert read_ledger(Storage(root), "small", 3).to_object() == ledger.to_object()


def test_a_run_that_has_ended_leaves_its_state_and_no_keys(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        started(recipe, tmp_path, DiesAt("decide", 1))
    assert list((tmp_path / "runs" / "now").glob("*-decide.*.parquet"))
    started(recipe, tmp_path)
    state = find_state(Storage(str(tmp_path)), "small", 3, recipe.digest)
    assert state is not None
    assert state.ended is not None
    assert (tmp_path / state.ended / "manifest.json").exists()
    assert not list((tmp_path / "runs" / "now").glob("*.parquet"))
