"""Scalars in the files that TensorBoard reads, written without TensorBoard.

In come names, values and iterations; out comes an events file: TFRecords (length, its checksum, bytes, theirs) of
protobuf messages, of which two kinds are enough. Knows nothing of training.
"""

import socket
import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum."""
    table, value = _table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """One TFRecord."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def event(wall_time: float, iteration: int, values: Mapping[str, float]) -> bytes:
    """An Event message (1 wall_time, 2 step, 5 summary) of Values (1 tag, 2 simple_value)."""
    summary = b"".join(
        _bytes(1, _bytes(1, name.encode()) + b"\x15" + struct.pack("<f", value)) for name, value in values.items()
    )
    return b"\x09" + struct.pack("<d", wall_time) + b"\x10" + _varint(iteration) + _bytes(5, summary)


class EventsFile:
    """One run's file in `folder`; a resumed run writes another beside it, which TensorBoard joins to it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        self.path = folder / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}"
        self._file = self.path.open("wb")
        self._file.write(record(b"\x09" + struct.pack("<d", now) + _bytes(3, b"brain.Event:2")))
        self._file.flush()

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add scalars of one iteration."""
        self._file.write(record(event(time.time(), iteration, values)))
        self._file.flush()

    def close(self) -> None:
        self._file.close()
