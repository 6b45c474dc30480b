"""The machine's own name and number, from the raw SMBIOS table. Pure."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import List

_SYSTEM, _END = 1, 127


@dataclass(frozen=True)
class System:
    vendor: str = ""
    product: str = ""
    serial: str = ""
    uuid: str = ""


def read_system(raw: bytes) -> System:
    """RawSMBIOSData, as GetSystemFirmwareTable('RSMB') gives it; empty texts for what it lacks."""
    if len(raw) < 8:
        return System()
    version = raw[1], raw[2]
    table = raw[8 : 8 + int.from_bytes(raw[4:8], "little")]
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        end = table.find(b"\0\0", at + length)
        if length < 4 or end < 0 or kind == _END:
            break
        if kind == _SYSTEM:
            texts = [one.decode("latin-1").strip() for one in table[at + length : end].split(b"\0")]
            return _system(table[at : at + length], texts, version >= (2, 6))
        at = end + 2
    return System()


def _system(body: bytes, texts: List[str], little_endian: bool) -> System:
    def text(place: int) -> str:
        number = body[place] if place < len(body) else 0
        return texts[number - 1] if 0 < number <= len(texts) else ""

    found = body[8:24]
    known = len(found) == 16 and any(found) and found != b"\xff" * 16
    # Since SMBIOS 2.6 the first three fields are little-endian; Linux reads them so, too.
    identity = uuid.UUID(bytes_le=found) if little_endian and known else None
    if known and identity is None:
        identity = uuid.UUID(bytes=found)
    return System(text(4), text(5), text(7), str(identity) if identity else "")
