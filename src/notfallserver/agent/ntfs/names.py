"""The path of a file, from its record up to the root. Pure but for reading the volume."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import List, Optional

from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.record import (
    FILE_NAME,
    REPARSE_POINT,
    Record,
    Reference,
    reference,
)
from notfallserver.agent.ntfs.volume import Volume

ROOT = 5
"""The record of the root directory."""
_SHORT = 2
"""The space of names that DOS would take; the same file has another one then."""
_DEPTH = 64
_HEAD = 66


@dataclass(frozen=True)
class Named:
    """One name of a file, and the directory that it has it in."""

    parent: Reference
    name: str


def names_of(record: Record) -> List[Named]:
    """The long ones that lie in the record itself; several for a file with hard links."""
    found = []
    for one in record.find(FILE_NAME):
        value = one.value
        if value is None or len(value) < _HEAD:
            raise Unreadable("a name is broken")
        letters, space = value[64], value[65]
        if len(value) < _HEAD + 2 * letters:
            raise Unreadable("a name is cut off")
        if space == _SHORT:
            continue
        try:
            name = value[_HEAD : _HEAD + 2 * letters].decode("utf-16-le")
        except UnicodeDecodeError:
            continue
        (parent,) = struct.unpack_from("<Q", value)
        found.append(Named(reference(parent), name))
    return found


def path_of(volume: Volume, record: Record) -> Optional[str]:
    """From the root, with slashes; None for what has no such name or lies in no directory."""
    parts: List[str] = []
    at = record
    for _ in range(_DEPTH):
        names = names_of(at)
        if not names:
            return None
        parts.append(names[0].name)
        parent = names[0].parent
        if parent.number == ROOT:
            return "/" + "/".join(reversed(parts))
        at = volume.record(parent.number)
        if not at.directory or at.sequence != parent.sequence or at.find(REPARSE_POINT):
            return None
    return None
