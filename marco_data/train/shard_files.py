"""The two files of a shard as a trainer reads them: mapped from a disk, or in storage elsewhere.

In: a shard's prefix, a path or a URL. Out: the shard, and digests of its bytes. Of a shard elsewhere the index, 20
bytes a document, is copied to this machine and mapped; its tokens stay where they are, and each stretch of them is one
request. Raises ShardError where a file is missing or answers with fewer bytes than it had. Knows neither blends nor
the order of training.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from marco_data.errors import ShardError
from marco_data.filesystems import BLOCK_BYTES, RemoteFile, local_copy, remote_file
from marco_data.storage import file_digest
from marco_data.tokens import Shard

_SAMPLED = 64 << 10  # bytes at the start, in the middle and at the end that stand for a larger shard


@dataclass(frozen=True)
class ShardFiles:
    """Where a shard's files are. `index` is on this machine; `tokens` is the .bin that is not, with its size."""

    prefix: str
    index: Path
    tokens: RemoteFile | None = None

    @property
    def token_bytes(self) -> int:
        path = Path(f"{self.prefix}.bin")
        return self.tokens.size if self.tokens else path.stat().st_size if path.exists() else 0

    def open(self, *, whole: bool) -> Shard:
        """`whole` as in `Shard`. Of a shard elsewhere nothing is asked here."""
        return Shard(self.prefix, whole=whole, index=self.index, elsewhere=self.tokens)

    def digest(self) -> str:
        """Of the tokens, all of which are read: 16 hex digits of SHA-256, as shards are named after."""
        if self.tokens is None:
            return file_digest(Path(f"{self.prefix}.bin"))
        digest = hashlib.sha256()
        for at in range(0, self.tokens.size, BLOCK_BYTES):
            digest.update(self.tokens.read(at, min(self.tokens.size, at + BLOCK_BYTES)))
        return digest.hexdigest()[:16]

    def sampled_digest(self) -> str:
        """Of a large shard: the sizes, and bytes at the start, in the middle and at the end, of both files."""
        digest = hashlib.sha256()
        for file in (self.tokens or Path(f"{self.prefix}.bin"), self.index):
            length = file.size if isinstance(file, RemoteFile) else file.stat().st_size
            digest.update(f"{length},".encode())
            for at in (0, max(0, length // 2), max(0, length - _SAMPLED)):
                digest.update(_stretch(file, at, min(length, at + _SAMPLED)))
        return digest.hexdigest()[:16]


def shard_files(prefix: str, indexes: Path | None = None) -> ShardFiles:
    """The files of a shard; `indexes` is the folder that keeps copies, one that goes with the process where None."""
    if "://" not in prefix:
        return ShardFiles(prefix, Path(f"{prefix}.idx"))
    try:
        return ShardFiles(prefix, local_copy(f"{prefix}.idx", indexes), remote_file(f"{prefix}.bin"))
    except FileNotFoundError as error:
        raise ShardError(f"the shard `{prefix}` cannot be read: there is no `{error}`") from error


def _stretch(file: RemoteFile | Path, start: int, stop: int) -> bytes:
    if isinstance(file, RemoteFile):
        return file.read(start, stop)
    with file.open("rb") as opened_file:
        opened_file.seek(start)
        return opened_file.read(stop - start)
