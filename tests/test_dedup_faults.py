"""Whatever happens to dedup's files or to the run between two of them, the same verdicts come out."""

import random
from pathlib import Path

import pytest
from test_duplicates import corpus, root
from written_corpora import deduplicated, plan

from marco_data.dedup import DropDuplicates
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.storage import Storage

SHARDS = corpus(11, most=120)
RULE = DropDuplicates(partition=20, first=3)


@pytest.fixture(scope="module")
def expected():
    with root() as folder:
        found, _ = deduplicated(folder, SHARDS, RULE)
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*.run")}
    assert any(row["reason"] == "dedup/near" for shard in found for row in shard)
    return found, files


class Stops(Silent):
    """Ends the run, as a kill would, when a node is about to begin."""

    def __init__(self, node: str) -> None:
        self.stop = node

    def node(self, node, tasks, pending):
        if node.name == self.stop:
            raise KeyboardInterrupt


NODES = [node.name for node in plan(SHARDS, RULE).nodes][3:]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("damage", ["a flipped bit", "a lost tail", "no file"])
def test_a_damaged_file_is_noticed_and_made_again(node, damage, expected):
    """The run has stopped before a node; whatever lies there then may be damaged."""
    found, files = expected
    rng = random.Random(f"{node} {damage}")
    with root() as folder:
        with pytest.raises(KeyboardInterrupt):
            run(plan(SHARDS, RULE), Storage(folder), LocalExecutor(), Stops(node))
        for path in rng.sample(sorted(Path(folder).rglob("*.run")), 3):
            data = bytearray(path.read_bytes())
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            if damage == "no file":
                path.unlink()
            else:
                path.write_bytes(data if damage == "a flipped bit" else data[: rng.randrange(len(data))])
        again, result = deduplicated(folder, SHARDS, RULE)
        assert again == found
        assert not result.failures
        # What nobody read again may still be damaged; it is no part of the answer.
        names = {p.relative_to(folder).as_posix() for p in Path(folder).rglob("*.run")}
        assert names <= set(files)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_do_not_matter(workers, expected):
    executor = LocalExecutor(workers)
    try:
        with root() as folder:
            found, _ = deduplicated(folder, SHARDS, RULE, executor)
            files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*.run")}
    finally:
        executor.close()
    assert (found, files) == expected


def test_the_order_of_shards_does_not_matter_where_ids_are_their_own():
    seen: set[str] = set()
    shards = []
    for shard in corpus(5, most=120):
        shards.append([d for d in shard if d.id not in seen])
        seen |= {d.id for d in shard}
    shards = [shard for shard in shards if shard]
    with root() as folder:
        found, _ = deduplicated(folder, shards, RULE)
    order = random.Random(1).sample(range(len(shards)), len(shards))
    with root() as folder:
        other, _ = deduplicated(folder, [shards[i] for i in order], RULE)
    assert other == [found[i] for i in order]
