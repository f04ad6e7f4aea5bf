"""Event files as TensorBoard reads them: its framing, its checksum and its messages, taken apart by hand."""

import struct
from pathlib import Path

import pytest

from marco_data.train.tensorboard import EventsFile, crc32c


@pytest.mark.parametrize(("data", "checksum"), [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"", 0)])
def test_the_checksum_is_castagnoli_s(data, checksum):
    assert crc32c(data) == checksum  # RFC 3720, B.4


def records(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        body = data[at + 12 : at + 12 + length]
        for content, place in ((data[at : at + 8], at + 8), (body, at + 12 + length)):
            (masked,) = struct.unpack_from("<I", data, place)
            turned = (masked - 0xA282EAD8) & 0xFFFFFFFF
            assert (turned >> 17 | turned << 15) & 0xFFFFFFFF == crc32c(content)
        found.append(body)
        at += length + 16
    return found


def test_a_file_begins_with_its_version_and_has_a_record_a_step(tmp_path: Path):
    file = EventsFile(tmp_path / "tensorboard")
    file.write(300, {"loss": 2.5})
    file.close()
    first, second = records(file.path.read_bytes())
    assert first[9:] == b"\x1a\x0dbrain.Event:2"
    # step (field 2) 300; summary (5), one value (1): tag (1) "loss", simple_value (2) 2.5
    value = b"\x0a\x04loss\x15" + struct.pack("<f", 2.5)
    assert second[9:] == b"\x10\xac\x02" + b"\x2a" + bytes([len(value) + 2]) + b"\x0a" + bytes([len(value)]) + value
