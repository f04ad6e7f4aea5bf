"""From what the format readers yield, `Row`s, to record batches of READ_SCHEMA.

Here are the rules that all formats share: how ids are made, how keys become strings, what a failed row keeps
of itself, and when a batch is full.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import xxhash

from marco_data import languages
from marco_data.sources.source import READ_SCHEMA, Source, SourceFile
from marco_data.sources.stream import HEAD_BYTES


@dataclass(slots=True)
class Row:
    """One row of a source: a text, a failure or a verdict of the reader itself. Strings are UTF-8 bytes."""

    id: str
    position: int
    text: bytes | None = None
    source_id: bytes | None = None
    url: bytes | None = None
    licence: bytes | None = None
    declared_language: str | None = None
    failed: str | None = None
    head: bytes | None = None
    reason: str | None = None
    measured: float | None = None


def keyed_id(source_name: str, key: bytes) -> str:
    """The id of a row with a key of its own: it survives every change of files and order."""
    return xxhash.xxh3_128_hexdigest(source_name.encode() + b"\0" + key)


def content_id(data: bytes) -> str:
    """The id of a row without a key."""
    return xxhash.xxh3_128_hexdigest(data)


def failure(file: SourceFile, row_id: str, position: int, reason: str, head: bytes = b"") -> Row:
    return Row(
        row_id,
        position,
        failed=reason,
        head=head[:HEAD_BYTES],
        declared_language=file.declared_language,
    )


def break_id(file: SourceFile, position: int) -> str:
    """The id of the row that stands for a break of `file`, where there are no bytes of a record to hash."""
    return content_id(f"{file.digest} {position}".encode())


def utf8(value: str) -> bytes:
    """UTF-8; half a surrogate pair (JSON can hold one, UTF-8 cannot) becomes U+FFFD."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def value_text(value: Any) -> bytes | None:
    """A key, URL or licence as a string, whatever type its column has; None where it is absent or empty."""
    if value is None or value == "" or value == b"":
        return None
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").encode()
    if isinstance(value, bool | float | list | dict):
        return utf8(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))
    return str(value).encode()


def declared_code(label: str) -> str | None:
    """A row's own language label as a canonical code; None where it is none of the known languages."""
    return _declared(label, languages.known())


@functools.lru_cache(maxsize=4096)
def _declared(label: str, known: languages.Known) -> str | None:
    code = languages.from_label(label)
    return code if code in known.languages else None


def record(
    file: SourceFile,
    source_name: str,
    source: Source,
    *,
    position: int,
    text: bytes | str,
    values: Mapping[str, Any],
    raw: bytes,
) -> Row:
    """The row of a JSONL or Parquet record. `text` is the document or, as a str, why there is none; `values`
    are its mapped fields, `raw` what its id is made of where it has no key."""
    key = value_text(values.get("id"))
    label = value_text(values.get("language"))
    row = Row(
        content_id(raw) if key is None else keyed_id(source_name, key),
        position,
        source_id=key,
        url=value_text(values.get("url")) or _default(source.url),
        licence=value_text(values.get("licence")) or _default(source.licence),
        declared_language=file.declared_language if label is None else declared_code(label.decode()),
    )
    if isinstance(text, bytes):
        row.text = text
    else:
        row.failed, row.head = text, raw[:HEAD_BYTES]
    return row


def _default(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def batches(rows: Iterable[Row], source_name: str, *, batch_bytes: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Gather rows until a batch has `batch_rows` of them or `batch_bytes` bytes of text."""
    held: list[Row] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row.text or b"")
        if len(held) >= batch_rows or size >= batch_bytes:
            yield _batch(held, source_name)
            held, size = [], 0
    if held:
        yield _batch(held, source_name)


def _batch(rows: list[Row], source_name: str) -> pa.RecordBatch:
    columns = {
        "id": [r.id for r in rows],
        "source": [source_name] * len(rows),
        "source_id": [r.source_id for r in rows],
        "url": [r.url for r in rows],
        "licence": [r.licence for r in rows],
        "declared_language": [r.declared_language for r in rows],
        "position": [r.position for r in rows],
        "text": [r.text for r in rows],
        "failed": [r.failed for r in rows],
        "head": [r.head for r in rows],
        "reason": [r.reason for r in rows],
        "measured": [r.measured for r in rows],
    }
    # Readers give UTF-8: of bytes Arrow does not ask whether they are.
    kinds = {"text": pa.binary()}
    arrays = [pa.array(columns[f.name], kinds.get(f.name, f.type)).view(f.type) for f in READ_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=READ_SCHEMA)
