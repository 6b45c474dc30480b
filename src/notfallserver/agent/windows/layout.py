"""The partition table as Windows tells it (DRIVE_LAYOUT_INFORMATION_EX). Pure.

Partitions are numbered as Linux and the tables themselves number them, because images are adapted
and recovered by Linux: entries of an MBR 1 to 4, logical partitions from 5 on, entries of a GPT by
their place. Windows counts otherwise: it leaves out what is empty, and its answer has no place of
a GPT's entry, so that one is read from the disk (:func:`entry_numbers`).
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, replace
from typing import Dict, Iterable, List, Tuple

from notfallserver.agent.windows.answers import BadAnswer, unpack

MBR, GPT, RAW = 0, 1, 2
EXTENDED = (0x05, 0x0F, 0x85)
CONTAINER = 1024
"""So much of an extended partition is its own; the rest is that of the logical ones."""
_HEAD, _ENTRY = 48, 144
_MOST = 1024
_UNUSED = "00000000-0000-0000-0000-000000000000"
_SIGNATURE = b"EFI PART"


@dataclass(frozen=True)
class Slot:
    """One partition."""

    number: int
    start: int
    size: int
    kind: str  # 0x7, or the GUID in lower case
    part_uuid: str
    name: str = ""


@dataclass(frozen=True)
class Layout:
    table: str  # "dos", "gpt", or empty
    identity: str  # the disk's signature (8 digits) or GUID
    slots: Tuple[Slot, ...]


def read_layout(answer: bytes) -> Layout:
    style, count = unpack("LL", answer)
    if style == RAW:
        return Layout("", "", ())
    if style not in (MBR, GPT) or count > _MOST:
        raise BadAnswer(f"a partition table of kind {style} with {count} entries")
    if len(answer) < _HEAD + count * _ENTRY:
        raise BadAnswer("a partition table is cut off")
    entries = [answer[_HEAD + at * _ENTRY : _HEAD + (at + 1) * _ENTRY] for at in range(count)]
    if style == GPT:
        slots = [_of_gpt(one) for one in entries]
        found = [one for one in slots if one.kind != _UNUSED and one.size]
        return Layout("gpt", _guid(answer, 8), tuple(sorted(found, key=lambda one: one.start)))
    (signature,) = unpack("L", answer, 8)
    return Layout("dos", f"{signature:08x}", tuple(_of_mbr(entries, signature)))


def _of_gpt(entry: bytes) -> Slot:
    start, size, number = unpack("qqL", entry, 8)
    if start < 0 or size < 0:
        raise BadAnswer("a partition lies nowhere")
    name = entry[72:144].decode("utf-16-le", "replace").split("\0", 1)[0]
    return Slot(number, start, size, _guid(entry, 32), _guid(entry, 48), name)


def _of_mbr(entries: List[bytes], signature: int) -> Iterable[Slot]:
    """Four entries for each table: the first has the primary ones, those of the chain one each."""
    logical = 5
    for at, entry in enumerate(entries):
        start, size = unpack("qq", entry, 8)
        kind = entry[32]
        if start < 0 or size < 0:
            raise BadAnswer("a partition lies nowhere")
        if not kind or not size or (at >= 4 and kind in EXTENDED):
            continue
        if kind in EXTENDED:
            size = min(size, CONTAINER)  # the same as Linux says
        number = at + 1 if at < 4 else logical
        logical += at >= 4
        yield Slot(number, start, size, f"0x{kind:x}", f"{signature:08x}-{number:02x}")


def _guid(answer: bytes, at: int) -> str:
    return str(uuid.UUID(bytes_le=answer[at : at + 16]))


def numbered(layout: Layout, head: bytes, sector: int) -> Layout:
    """The same with the GPT's own numbers; ``head`` is the disk's beginning (:func:`gpt_bytes`)."""
    if layout.table != "gpt":
        return layout
    numbers = entry_numbers(head, sector)
    missing = [one.part_uuid for one in layout.slots if one.part_uuid not in numbers]
    if missing:
        raise BadAnswer(f"the disk's table does not have partition {missing[0]}")
    slots = [replace(one, number=numbers[one.part_uuid]) for one in layout.slots]
    return replace(layout, slots=tuple(sorted(slots, key=lambda one: one.number)))


def gpt_bytes(sector: int) -> int:
    """So much of a disk's beginning holds a table of the usual 128 entries."""
    return 2 * sector + 128 * 128


def entry_numbers(head: bytes, sector: int) -> Dict[str, int]:
    """Places in the GPT, from 1, by the partitions' own GUIDs."""
    if head[sector : sector + 8] != _SIGNATURE:
        raise BadAnswer("there is no GPT where it ought to be")
    first, count, size = struct.unpack_from("<QLL", head, sector + 72)
    if size < 128 or size % 8 or first < 2:
        raise BadAnswer("the GPT is not understood")
    found: Dict[str, int] = {}
    for number in range(min(count, _MOST)):
        entry = head[first * sector + number * size :][:size]
        if len(entry) == size and any(entry[:16]):
            found[_guid(entry, 16)] = number + 1
    return found
