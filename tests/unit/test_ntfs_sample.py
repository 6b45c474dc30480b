"""Which records are files that nobody has changed for a day."""

from __future__ import annotations

import struct
import time

import pytest

from notfall_lab.windows.ntfs_image import record, resident
from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.names import names_of
from notfallserver.agent.ntfs.record import Record, read_record
from notfallserver.agent.ntfs.sample import is_adapted, is_at_rest

NOW = time.time()


def information(modified: float, changed: float, flags: int = 0x20) -> bytes:
    """Ages in seconds."""
    times = [int((NOW - age + 11644473600) * 1e7) for age in (0, modified, changed, 0)]
    return struct.pack("<4QL", *times, flags) + bytes(12)


def of(*attributes: bytes, base: int = 0, flags: int = 1) -> Record:
    return read_record(record(attributes, base=base, flags=flags), 1000)


def test_a_day_since_both_changes() -> None:
    def at_rest(modified: float, changed: float) -> bool:
        return is_at_rest(of(resident(0x10, information(modified, changed))), NOW)

    assert at_rest(90000, 90000)
    assert not at_rest(80000, 90000)
    assert not at_rest(90000, 80000)
    assert not at_rest(-90000, 90000)  # a clock that was wrong


def test_only_files_of_their_own() -> None:
    old = resident(0x10, information(90000, 90000))
    assert is_at_rest(of(old), NOW)
    assert not is_at_rest(of(old, flags=3), NOW)  # a directory
    assert not is_at_rest(of(old, base=40), NOW)  # a piece of another
    assert not is_at_rest(of(old, resident(0xC0, bytes(8))), NOW)  # a link, or packed elsewhere
    assert not is_at_rest(of(resident(0x10, information(90000, 90000, 4))), NOW)
    assert not is_at_rest(of(), NOW)
    assert not is_at_rest(of(resident(0x10, bytes(20))), NOW)


def name(text: str, space: int, letters: int = -1) -> bytes:
    packed = text.encode("utf-16-le", "surrogatepass")
    count = len(packed) // 2 if letters < 0 else letters
    return resident(
        0x30, struct.pack("<Q", 5 | 7 << 48) + bytes(56) + bytes([count, space]) + packed
    )


def test_names() -> None:
    found = names_of(of(name("LONGNA~1.TXT", 2), name("long name.txt", 1), name("\ud800", 1)))
    assert [(one.name, one.parent.number, one.parent.sequence) for one in found] == [
        ("long name.txt", 5, 7)
    ]
    with pytest.raises(Unreadable):
        names_of(of(name("cut", 1, 9)))
    with pytest.raises(Unreadable):
        names_of(of(resident(0x30, bytes(60))))


def test_what_no_copy_has_alike() -> None:
    for path in ("/WINDOWS/System32/Config/SAM", "/pagefile.sys", "/$Extend/x", "/Boot/BCD"):
        assert is_adapted(path)
    for path in ("/Windows/System32/notepad.exe", "/data/pagefile.sys", "/Users/boot/x"):
        assert not is_adapted(path)
