"""What a source is, and the three things reading makes of it: files, slices and rows.

In: the `sources:` section of a recipe. Out: `Source` (what the recipe says), `SourceFile` (one listed file),
`Slice` (the fixed piece of a file, or the run of small files, that one task reads) and `READ_SCHEMA`, the
columns every reader gives. Nothing here opens a file.

Identity and context are kept apart: names, sizes and digests are identity; where a file lies is not, so a
corpus can move without a rebuild.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

Format = Literal["jsonl", "parquet", "warc", "wet", "text"]

READER_VERSION = 2
"""Raised when the same bytes would give other rows."""

READ_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # 32 hex digits
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_id", pa.string()),  # the source's own key
        pa.field("url", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("declared_language", pa.string()),  # a canonical code
        pa.field("position", pa.int64(), nullable=False),  # JSONL: byte offset of the line; else an ordinal
        pa.field("text", pa.string()),  # null where failed or dropped at reading
        pa.field("failed", pa.string()),
        pa.field("head", pa.binary()),  # first 200 raw bytes of a failed row
        pa.field("reason", pa.string()),
        pa.field("measured", pa.float64()),
    ]
)

READ_REASONS = frozenset({"read/not_html", "read/http_error", "read/no_text"})
READ_FAILURES = frozenset(
    {
        "read/invalid_json",
        "read/not_an_object",
        "read/empty_line",
        "read/invalid_utf8",
        "read/missing_field",
        "read/document_too_large",
        "read/truncated",
        "read/corrupt",
        "read/unreadable",
        "read/expands_too_much",
        "read/header_too_large",
        "read/html_extraction_failed",
        "read/worker_died",
    }
)


class Fields(BaseModel):
    """Which column of the source holds what; None: the source has no such column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = "text"
    id: str | None = None
    url: str | None = None
    language: str | None = None
    licence: str | None = None

    def mapped(self) -> dict[str, str]:
        """Role -> column, of the roles that have one."""
        return {role: column for role, column in self.model_dump().items() if column is not None}


class Source(BaseModel):
    """One raw corpus, as the recipe describes it. Its name is the key it stands under.

    `paths` are files, folders and globs on any fsspec URL; `{language}` in one stands for one path component
    that declares the language. `language`, `licence` and `url` hold where a row says nothing itself.
    `read` may be left out where the file names tell the format. A file may lack the columns of the roles in `optional`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: Format | None = None
    paths: tuple[str, ...] = Field(min_length=1)
    fields: Fields = Fields()
    optional: tuple[Literal["id", "url", "language", "licence"], ...] = ()
    licence: str | None = None
    language: str | None = None
    url: str | None = None

    def row_config(self) -> str:
        """Canonical JSON of what shapes the rows of any file of this source (paths do not)."""
        config = {"fields": self.fields.model_dump(), "licence": self.licence, "url": self.url}
        return json.dumps(config, sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class SourceFile:
    """A listed file. `uri` and `version` (its ETag or modification time) are context, the rest identity."""

    source: str
    name: str  # relative to the fixed part of the path that found it
    size: int  # bytes, as stored
    digest: str
    format: Format
    compression: Literal["gz", "zst"] | None
    declared_language: str | None
    config: str  # Source.row_config()
    uri: str
    version: str

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self.size,
            "digest": self.digest,
            "compression": self.compression,
            "declared_language": self.declared_language,
        }


@dataclass(frozen=True)
class Slice:
    """What one task reads: a part of one file, or a run of small text files. Independent of worker count.

    `start` and `end` count bytes (plain JSONL), row groups (Parquet) or files of the slice (everything else).
    """

    files: tuple[SourceFile, ...]
    start: int
    end: int
    bytes: int  # stored bytes it covers, for scheduling and progress; not identity

    @property
    def source(self) -> str:
        return self.files[0].source

    @property
    def format(self) -> Format:
        return self.files[0].format

    @property
    def name(self) -> str:
        """For people: `web/a.jsonl[0:1048576]`."""
        more = f"+{len(self.files) - 1}" if len(self.files) > 1 else ""
        return f"{self.source}/{self.files[0].name}{more}[{self.start}:{self.end}]"

    def identity(self) -> dict[str, Any]:
        """Everything this slice's rows depend on but `max_document_bytes` and `packages_of(format)`."""
        return {
            "reader": READER_VERSION,
            "source": self.source,
            "format": self.format,
            "config": json.loads(self.files[0].config),
            "files": [file.identity() for file in self.files],
            "start": self.start,
            "end": self.end,
        }
