"""The roots of the ledger's benchmark: what a build leaves, and a ledger of them that adds up."""

from pathlib import Path

from benchmarks.ledger import Reading, report
from benchmarks.ledger_roots import BYTES, Root
from marco_data.stage import load_stage
from marco_data.stage_ledger import read_ledger


def test_a_finished_root_is_a_whole_balanced_stage(tmp_path: Path) -> None:
    root = Root(str(tmp_path), shards=30, languages=4)
    root.finished()
    assert load_stage(root.storage, "sample", 3).balanced
    (total,) = read_ledger(root.storage, "sample", 3).total()
    assert total.documents_read == 30 * 4 * 100
    assert (total.documents_written, total.pending.documents) == (30 * 4 * (100 - 18 - 11), 0)


def test_of_a_root_that_is_being_built_all_but_one_shard_is_decided(tmp_path: Path) -> None:
    root = Root(str(tmp_path), shards=30, languages=4)
    root.killed()
    ledger = read_ledger(root.storage, "sample", 3)
    assert {node.name: (node.done, node.tasks) for node in ledger.nodes if node.tasks} == {
        "measure": (30, 30),
        "decide": (29, 30),
    }
    (total,) = ledger.total()
    assert sum(amount.documents for amount in total.dropped.values()) == 29 * 4 * 18
    assert total.pending.bytes == (30 * 100 - 29 * 18) * 4 * BYTES
    root.commit([29])
    (total,) = read_ledger(root.storage, "sample", 3).total()
    assert sum(amount.documents for amount in total.dropped.values()) == 30 * 4 * 18


def test_the_table_says_what_meets_its_goal() -> None:
    slow = Reading("finished", 5_000, 64, 9.0, 1.9, 9.5, 2.4, 276_000_000, 896, 1)
    text = report([slow, Reading("finished", 1_000_000, 1, 9.0, 1.9, 9.5, 2.4, 276_000_000, 896, 1)], (1.0, 1.0, 1.0))
    assert "| finished | 5,000 | 64 | 896 | 1 | 9.00 (1.90) | 9.50 (2.40) | 276 | 2: missed |" in text
    assert "| 30: met |" in text
