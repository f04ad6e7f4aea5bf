"""What a document was generated from, and what was generated from a document: answers from a built stage.

In: the records of `generate`. Out: plain rows. A seed's requests are looked for among the tasks of its own shard alone.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marco_data.records import Record
from marco_data.stage import Stage
from marco_data.storage import Storage, row_of

ORIGIN = (
    "entry",
    "maker",
    "prompt",
    "model",
    "parent_ids",
    "seed_language",
    "ordinal",
    "attempt",
    "labels",
    "completions",
)
ASKED = ["maker", "language", "ordinal", "attempt", "prompt"]


@dataclass(frozen=True)
class Generation:
    """The entries of `generate` of one built stage."""

    stage: Stage
    storage: Storage

    @cached_property
    def records(self) -> list[Record]:
        names = sorted(name for name in self.stage.nodes if name.startswith("generate_"))
        return [record for name in names for record in self.stage.records(self.storage, name)]

    @cached_property
    def _by_documents(self) -> Mapping[str, Record]:
        return {record.data[0].digest: record for record in self.records}

    @cached_property
    def _by_seeds(self) -> Mapping[str, Sequence[Record]]:
        out: dict[str, list[Record]] = defaultdict(list)
        for record in self.records:
            out[record.facts["seeds"]].append(record)
        return out

    def origin(self, documents: str, position: int) -> dict[str, Any]:
        """What the row at `position` of the generated file of that digest was made from, and how."""
        row = row_of(self.storage, self._by_documents[documents].data[0], position, list(ORIGIN))
        return {**{name: row[name] for name in ORIGIN}, "labels": json.loads(row["labels"])}

    def made_of(self, shard: str, seed_id: str) -> list[dict[str, Any]]:
        """Each document that was wanted of a seed: its `id`, or the `reason` why there is none, `measured` and text."""
        found = []
        for record in self._by_seeds.get(shard, ()):
            documents, rejected = record.data[:2]
            columns = ["id", "parent_ids", "declared_language", "maker", "ordinal", "attempt", "prompt"]
            table = self.storage.read_table(documents.path, columns)
            if table.num_rows:
                parents = pc.list_element(table["parent_ids"], 0)
                for row in table.filter(pc.equal(parents, seed_id)).to_pylist():
                    row["language"] = row.pop("declared_language")
                    found.append({name: row[name] for name in ASKED} | {"id": row["id"], "reason": None})
            table = self.storage.read_table(rejected.path, [*ASKED, "seed_id", "reason", "measured", "text"])
            for row in table.filter(pc.equal(table["seed_id"], pa.scalar(seed_id))).to_pylist():
                said = {"id": None, "reason": row["reason"], "measured": row["measured"], "text": row["text"]}
                found.append({name: row[name] for name in ASKED} | said)
        return sorted(found, key=lambda row: (row["maker"], row["language"], row["ordinal"]))
