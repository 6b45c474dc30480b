"""Members of a pax archive (POSIX.1-2001), with the sparse files of GNU tar (``GNU.sparse`` 1.0).

Every member has an extended header that names its set, so that a reader who lost the thread in
damaged bytes finds the next one and takes no foreign archive in somebody's data for one of ours.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

BLOCK = 512
OURS = "NOTFALL."
SET = OURS + "set"
BLOCKS = OURS + "blocks"
"""Hexadecimal: the hashes of the blocks in the member, in order."""
MOST_HEADER = 1 << 20
END = bytes(2 * BLOCK)
_SPARSE = "GNUSparseFile.0/"
_NAME = 100


def member(name: str, parts: Sequence[bytes], records: Mapping[str, str]) -> list[bytes]:
    """A file as it is."""
    return _with_headers(name, {**_path(name), **records}, parts)


def sparse_member(
    name: str,
    size: int,
    stretches: Sequence[tuple[int, int]],
    parts: Sequence[bytes],
    records: Mapping[str, str],
) -> list[bytes]:
    """A file of ``size`` bytes with ``parts`` at ``stretches`` (offset, length), else zeros."""
    shown = [*stretches]
    if not shown or sum(shown[-1]) < size:
        shown.append((size, 0))
    table = f"{len(shown)}\n" + "".join(f"{at}\n{length}\n" for at, length in shown)
    told = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
        **records,
    }
    where = _SPARSE + name.rsplit("/", 1)[-1]
    return _with_headers(where, told, [_filled(table.encode()), *parts])


def _path(name: str) -> dict[str, str]:
    return {"path": name} if len(name.encode()) > _NAME or not name.isascii() else {}


def _with_headers(name: str, records: Mapping[str, str], parts: Sequence[bytes]) -> list[bytes]:
    body = b"".join(_record(key, value) for key, value in records.items())
    size = sum(len(one) for one in parts)
    extended = header("PaxHeaders/" + name.rsplit("/", 1)[-1], len(body), b"x") + _filled(body)
    return [extended, header(name, size, b"0"), *parts, bytes(-size % BLOCK)]


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def header(name: str, size: int, kind: bytes) -> bytes:
    """Of one member; ``size`` below 8 GiB."""
    short = name.encode("ascii", "replace")[-_NAME:]
    fields = short.ljust(_NAME, b"\0") + b"0000600\0" + b"0000000\0" * 2
    fields += b"%011o\0" % size + b"%011o\0" % int(time.time())
    rest = kind + bytes(100) + b"ustar\00000" + b"root".ljust(32, b"\0") * 2
    rest += b"0000000\0" * 2 + bytes(155 + 12)
    total = sum(fields) + sum(rest) + 8 * ord(" ")
    return fields + b"%06o\0 " % total + rest


def read_header(data: bytes) -> tuple[str, int, bytes] | None:
    """Name, size and kind; None for what is no header."""
    if len(data) != BLOCK or data[257:262] != b"ustar":
        return None
    try:
        told = int(data[148:156].split(b"\0")[0].strip() or b"0", 8)
        size = int(data[124:136].rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return None
    if told != sum(data[:148]) + sum(data[156:]) + 8 * ord(" "):
        return None
    return data[:_NAME].rstrip(b"\0").decode("ascii", "replace"), size, data[156:157]


def read_records(body: bytes) -> dict[str, str] | None:
    """What an extended header tells; None where it is torn."""
    found = {}
    while body.strip(b"\0"):
        length, _, _ = body.partition(b" ")
        if not length.isdigit() or len(length) > 7 or not len(length) < int(length) <= len(body):
            return None
        key, equal, value = body[len(length) + 1 : int(length) - 1].partition(b"=")
        if not equal:
            return None
        found[key.decode(errors="replace")] = value.decode(errors="replace")
        body = body[int(length) :]
    return found


def read_sparse(data: bytes) -> tuple[list[tuple[int, int]], int] | None:
    """The table of a sparse member and where its content begins; None where it is torn."""
    try:
        lines = data[: 1 << 20].split(b"\n", 1)
        count = int(lines[0])
        if not 0 <= count <= 1 << 17:
            return None
        numbers = lines[1].split(b"\n", 2 * count)[: 2 * count]
        used = len(lines[0]) + 1 + sum(len(one) + 1 for one in numbers)
        values = [int(one) for one in numbers]
    except (ValueError, IndexError):
        return None
    if len(values) != 2 * count:
        return None
    return list(zip(values[::2], values[1::2], strict=True)), used + (-used % BLOCK)
