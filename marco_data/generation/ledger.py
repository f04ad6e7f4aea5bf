"""The ledger: every completion that was paid for, found again by its key, whatever becomes of who asked for it.

In: completions as they come, `append`. Out: those of a place, `find`, and one Parquet file with what a task used,
`finish`. Knows neither generators nor makers.

Files lie under `ledger/<model>/<place>/`. A place stands for one source file, not for a task of it, so that changed
verdicts, prompts or shard sizes find old completions again. An attempt at a task writes a log of its own
(`ledger_log`), so that nobody shares a file; `finish` writes `completions.<hash>.parquet`, sorted by key, and removes
the attempt's log and those of dead attempts, each once every key in it is in a Parquet file of the place.

A key that several files hold, because two workers asked at once: the one in the Parquet file whose name is least
counts, then the one in the log whose name is least, then the one that comes first. So removing a log changes nothing,
and what counts is a function of the files that are there. A ledger sees its place as it was when it first looked; what
it appends itself comes before all.

What is damaged in a file is passed over and counted in `damaged`; the rest of the file counts.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from marco_data.dataset import safe_name
from marco_data.errors import RetryableError
from marco_data.generation.generator import ERROR, Completion, Request
from marco_data.generation.ledger_log import LocalLog, RemoteLog, Row, check, row_at
from marco_data.generation.ledger_place import Place, all_in, as_keys
from marco_data.step import fingerprint
from marco_data.storage import DataFile, Storage, write_parquet

FOLDER = "ledger"
SCHEMA = pa.schema(
    [
        ("key", pa.binary(16)),
        ("prompt", pa.string()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("sampling", pa.string()),
        ("schema", pa.string()),
        ("sample", pa.int32()),
        ("attempt", pa.int32()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("tokens_in", pa.int32()),
        ("tokens_out", pa.int32()),
        ("gpu_seconds", pa.float64()),
        ("check", pa.int64()),
    ]
)
GROUP_ROWS = 256  # one is read for a single completion: about a megabyte, two milliseconds


def model_folder(model: str, revision: str) -> str:
    return f"{FOLDER}/{safe_name(model)}.{fingerprint([model, revision])}"


def completion_of(row: Row) -> Completion:
    return Completion(row["text"], row["finish_reason"], row["tokens_in"], row["tokens_out"], row["gpu_seconds"])


class Ledger:
    """The completions of one model in one place. One thread at a time may find, another may append."""

    def __init__(self, storage: Storage, model: str, revision: str, place: str) -> None:
        self.storage, self.model, self.revision = storage, model, revision
        self.folder = f"{model_folder(model, revision)}/{place}"
        self._log: LocalLog | RemoteLog | None = None
        self._own: dict[bytes, int] = {}
        self._seen: Place | None = None
        self._damaged: dict[str, int] = {}
        self._using = threading.Lock()  # nothing is closed while a thread reads it

    def key(self, request: Request) -> bytes:
        return bytes.fromhex(request.key(self.model, self.revision))

    @property
    def damaged(self) -> dict[str, int]:
        """{file: completions lost of it} of all that was read so far, -1 where nobody can tell how many."""
        return {**self._damaged, **(self._seen.damaged if self._seen is not None else {})}

    def __contains__(self, key: bytes) -> bool:
        return key in self._own or bool(self._place.holds([key])[0])

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Completion]:
        """Those of `keys` that are there."""
        with self._using:
            return {key: completion_of(row) for key, row in self._rows(list(keys)).items()}

    def append(self, key: bytes, request: Request, completion: Completion) -> Completion:
        """Record the answer; it as it will be found from now on (seconds rounded to microseconds, valid Unicode)."""
        assert completion.finish_reason != ERROR, "what was not answered is no completion"
        row: Row = {
            "key": key,
            "prompt": request.prompt,
            "model": self.model,
            "revision": self.revision,
            "sampling": request.sampling.model_dump_json(),
            "schema": _digest(request.schema),
            "sample": request.sample,
            "attempt": request.attempt,
            # Half of a surrogate pair, which JSON can say and UTF-8 cannot.
            "text": completion.text.encode("utf-8", "replace").decode(),
            "finish_reason": completion.finish_reason,
            "tokens_in": completion.tokens_in,
            "tokens_out": completion.tokens_out,
            "gpu_seconds": round(float(completion.gpu_seconds), 6),
        }
        row["check"] = check(row)
        if self._log is None:
            self._log = (LocalLog if self.storage.local("") else RemoteLog)(self.storage, self.folder)
        self._own[key] = self._log.append(row)
        return completion_of(row)

    def finish(self, keys: Iterable[bytes]) -> DataFile:
        """Commit what the task used as one Parquet file, and let go of logs that nobody needs any more.

        The same completions give the same bytes, in whatever order they came. Raises KeyError for a key that was never
        found or appended.
        """
        used = sorted(set(keys))
        with self._using:
            file = self._commit(used)
        self.close()
        return file

    def _commit(self, used: list[bytes]) -> DataFile:
        file = write_parquet(self.storage, f"{self.folder}/completions", self._tables(used), SCHEMA)
        covered = np.sort(np.concatenate([as_keys(used), self._place.committed()]))
        if self._log is not None and all_in(as_keys(self._own), covered):
            self._log.remove()
        self._place.remove_logs(covered)
        return file

    def close(self) -> None:
        """Let go of files. What was appended and not finished stays as a log."""
        with self._using:
            if self._seen is not None:
                self._damaged = self.damaged
                self._seen.close()
                self._seen = None
            if self._log is not None:
                log, self._log = self._log, None
                self._own.clear()
                log.close()

    @property
    def _place(self) -> Place:
        if self._seen is None:
            self._seen = Place.look(self.storage, self.folder)
        return self._seen

    def _tables(self, used: Sequence[bytes]) -> Iterator[pa.Table]:
        for start in range(0, len(used), GROUP_ROWS):
            part = used[start : start + GROUP_ROWS]
            rows = self._rows(part)
            yield pa.Table.from_pylist([rows[key] for key in part], SCHEMA)

    def _rows(self, keys: Sequence[bytes]) -> dict[bytes, Row]:
        found = {}
        for key in keys:
            if key in self._own:
                assert self._log is not None
                row = row_at(self._log.descriptor, self._own[key])
                if row is None:
                    raise RetryableError(f"a log of `{self.folder}` does not give back what was written to it")
                found[key] = row
        found.update(self._place.rows([key for key in keys if key not in found]))
        return found


@lru_cache(256)
def _digest(schema: str | None) -> str | None:
    return None if schema is None else hashlib.sha256(schema.encode()).hexdigest()[:16]
