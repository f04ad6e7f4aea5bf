"""A corpus in which every kind of verdict is planted, and the recipe over it, with two steps of a user's own.

`PLANTED` names the rows of `web/a.jsonl` and the verdict each must get; `web/b.jsonl.gz` repeats some of them.
"""

from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from small_corpus import prose, recipe_values, row, write_jsonl, write_parquet_file

from marco_data.step import BoundStep, Step, StepOutput, Tools

MARK = "MARKED-BY-THE-TEST"


class DropMarked(Step):
    """A text step of a user's: drops what is marked, and raises on what asks for it."""

    version: ClassVar[int | None] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)
    reasons: ClassVar[frozenset[str]] = frozenset({"drop_marked/marked"})

    def bind(self, language: Any, tools: Tools) -> BoundStep:
        def judge(batch: pa.RecordBatch) -> StepOutput:
            texts = batch.column("text").to_pylist()
            assert not any("RAISE-HERE" in text for text in texts)
            said = ["drop_marked/marked" if MARK in text else None for text in texts]
            return StepOutput(
                reason=pa.array(said, pa.string()),
                measured=pa.array([text.count(MARK) or None for text in texts], pa.float64()),
            )

        return judge


class DropLowTier(Step):
    """A decide step of a user's: reads the tier that the limits gave."""

    version: ClassVar[int | None] = 1
    reads: ClassVar[tuple[str, ...]] = ("quality_tier", "quality_words", "source_id")
    adds: ClassVar[pa.Schema] = pa.schema([("drop_low_tier_words", pa.float64())])
    reasons: ClassVar[frozenset[str]] = frozenset({"drop_low_tier/low"})

    def bind(self, language: Any, tools: Tools) -> BoundStep:
        def judge(batch: pa.RecordBatch) -> StepOutput:
            assert "column-crash" not in batch.column("source_id").to_pylist()
            low = pc.fill_null(pc.equal(batch.column("quality_tier"), "low"), False)
            reason = pc.if_else(low, "drop_low_tier/low", pa.scalar(None, pa.string()))
            return StepOutput({"drop_low_tier_words": batch.column("quality_words").cast(pa.float64())}, reason)

        return judge


GERMAN = prose("deu_Latn")
ENGLISH = prose("eng_Latn")
SHORT = " ".join(ENGLISH[3].split()[:40]).rstrip(",;.") + "."
PROSE = {code: prose(code) for code in ("eng_Latn", "deu_Latn", "fra_Latn")}
# Row of `web/a.jsonl` -> the verdict it must get.
PLANTED: dict[str, tuple[dict[str, Any], str | None]] = {
    "good": ({"text": ENGLISH[0]}, None),
    "declared-right": ({"text": GERMAN[0], "lang": "de"}, None),
    "declared-wrong-and-short": ({"text": SHORT, "lang": "de"}, "select_language/wrong_language"),
    "short": ({"text": SHORT}, "quality/too_few_words"),
    "short-and-marked": ({"text": f"{MARK} {SHORT}"}, "quality/too_few_words"),
    "marked": ({"text": f"{ENGLISH[1]} {MARK}"}, "drop_marked/marked"),
    "empty": ({"text": "  \n "}, "normalize/empty"),
    "no-text": ({"other": 1}, "read/missing_field"),
    "raises": ({"text": f"{ENGLISH[2]} RAISE-HERE"}, "drop_marked/crashed"),
    "column-crash": ({"text": GERMAN[1]}, "drop_low_tier/crashed"),
    "twice": ({"text": GERMAN[2]}, None),
    "two-texts": ({"text": PROSE["fra_Latn"][0]}, None),
}


def write_planted(folder: Path) -> Path:
    rows = [{"id": name, **fields} for name, (fields, _) in PLANTED.items()]
    write_jsonl(folder / "web" / "a.jsonl", rows)
    again = [
        {"id": "twice", "text": GERMAN[2]},
        {"id": "two-texts", "text": PROSE["fra_Latn"][1]},
        {"id": "copy-of-good", "text": ENGLISH[0]},
        {"id": "near-good", "text": ENGLISH[0].replace(ENGLISH[0].split()[5], "other", 1)},
    ]
    write_jsonl(folder / "web" / "b.jsonl.gz", [*again, *(row("rus_Cyrl", n) for n in (0, 1, 2))])
    write_parquet_file(folder / "books" / "d.parquet", [row(code, 3) for code in ("eng_Latn", "tha_Thai", "ben_Beng")])
    return folder


def planted_values(corpus: Path) -> dict[str, Any]:
    values = recipe_values(corpus)
    values["sources"]["web"]["fields"] |= {"language": "lang"}
    values["steps"]["extra"] = [{"step": "planted_corpus:DropMarked"}, {"step": "planted_corpus:DropLowTier"}]
    # No slice of these inputs is larger; a shard of `b.jsonl.gz` is.
    values["shards"] = {"bytes": 4000, "tokens": 2000}
    values["limits"] = {"failed_rows": 0.5}
    return values
