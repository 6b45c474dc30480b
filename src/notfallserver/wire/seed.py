"""A seed: a version as files on a removable disk, instead of over the line.

A directory with ``part-0001.nfs``, ``part-0002.nfs``, ..., each short enough for FAT32, and
``seed.json``, written last: a seed without it is not finished. A part is a row of records: length
(u32), MAC (16 bytes), and a frame of the block protocol (NFB2 or NFH1). They are to be applied in
their order. Every MAC is BLAKE2b with the seed's key over place and frame, so damage, exchange and
forgery are found; the content itself is not encrypted. Both sides may use this: it is pure stdlib.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import threading
import time
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from notfallserver.wire.blocks import Buffer
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import FRAME_LIMIT

FORMAT = 2
SEAL = "seed.json"
PART_BYTES = 1 << 30
"""A part is ended before it gets longer: FAT32 has files below 4 GiB."""
_RECORD = struct.Struct(">I16s")
_PLACE = struct.Struct(">II")
_SEAL_LIMIT = 16 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_NEW |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""As Linux and Windows have it."""

Position = Tuple[int, int, int]
"""Part and record, from 0, and the record's byte in the part."""
START: Position = (0, 0, 0)


def part_name(part: int) -> str:
    return f"part-{part + 1:04d}.nfs"


def seed_key(secret: str) -> bytes:
    """The key of a seed's MACs from what both sides know."""
    return blake2b(secret.strip().encode(), digest_size=32, person=b"notfall-seed-key").digest()


def stamp_of(milliseconds: int) -> str:
    """The name of a version taken so many milliseconds after 1970, UTC."""
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(milliseconds // 1000))
    return f"{moment}.{milliseconds % 1000:03d}Z"


def _mac(key: bytes, part: int, record: int, frame: Sequence[Buffer]) -> bytes:
    digest = blake2b(_PLACE.pack(part, record), key=key, digest_size=16)
    for one in frame:
        digest.update(one)
    return digest.digest()


def _seal_mac(key: bytes, body: Mapping[str, Any]) -> str:
    told = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return blake2b(told, key=key, digest_size=32).hexdigest()


def _damaged(why: str) -> NotfallError:
    return NotfallError(
        "seed-damaged",
        f"The seed is damaged: {why}.",
        "Copy it again if there is another copy, or make a new seed.",
    )


class SeedWriter:
    """Writes a new seed into an empty directory. Thread-safe."""

    def __init__(self, directory: Path, secret: str, part_bytes: int = PART_BYTES) -> None:
        self.directory = directory
        self.written = 0
        self._key = seed_key(secret)
        self._most = part_bytes
        self._lock = threading.Lock()
        self._handle = -1
        self._parts: List[List[int]] = []  # bytes and records of each

    def add(self, frame: Sequence[Buffer]) -> None:
        """One frame, given in parts."""
        length = sum(len(one) for one in frame)
        with self._lock:
            last = self._parts[-1] if self._parts else [0, 0]
            if self._handle < 0 or last[0] + _RECORD.size + length > self._most:
                last = self._next_part()
            mac = _mac(self._key, len(self._parts) - 1, last[1], frame)
            for one in (_RECORD.pack(length, mac), *frame):
                self._write(one)
            last[0] += _RECORD.size + length
            last[1] += 1
            self.written += _RECORD.size + length

    def _next_part(self) -> List[int]:
        self._end_part()
        path = self.directory / part_name(len(self._parts))
        try:
            self._handle = os.open(path, _NEW, 0o600)
        except OSError as error:
            raise _unwritable(self.directory, error) from None
        self._parts.append([0, 0])
        return self._parts[-1]

    def _end_part(self) -> None:
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            try:
                os.fsync(handle)
            except OSError as error:
                raise _unwritable(self.directory, error) from None
            finally:
                os.close(handle)

    def _write(self, data: Buffer) -> None:
        done = 0
        view = memoryview(data)
        try:
            while done < len(view):
                done += os.write(self._handle, view[done:])
        except OSError as error:
            raise _unwritable(self.directory, error) from None

    def seal(self, body: Mapping[str, Any]) -> None:
        """From now on it is a whole seed; ``body`` is what :class:`Seed` tells."""
        with self._lock:
            self._end_part()
            told: Dict[str, Any] = {"format": FORMAT, **body, "parts": self._parts}
            told["mac"] = _seal_mac(self._key, told)
            unfinished = self.directory / f"{SEAL}.new"
            try:
                self._handle = os.open(unfinished, _NEW, 0o600)
                self._write(json.dumps(told).encode())
                self._end_part()
                unfinished.replace(self.directory / SEAL)
                self._write_out()
            except OSError as error:
                raise _unwritable(self.directory, error) from None

    def _write_out(self) -> None:
        """The directory: the seal's name. Windows writes names by itself, and opens none."""
        if os.name == "nt":
            return
        handle = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self) -> None:
        """Without a seal nobody takes it for a seed."""
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1


def _unwritable(directory: Path, error: OSError) -> NotfallError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return NotfallError(
        "seed-disk-full" if full else "seed-unwritable",
        f"{directory} is full." if full else f"{directory} cannot be written ({error.strerror}).",
        "Take a larger disk, or make space on it; then make the seed anew."
        if full
        else "Check that disk.",
    )


class Seed:
    """A finished seed, open for reading. ``told`` counts only after :meth:`check`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            with (directory / SEAL).open("rb") as stream:
                raw = stream.read(_SEAL_LIMIT + 1)
        except FileNotFoundError:
            raise NotfallError(
                "seed-unfinished",
                f"The seed in {directory} was not finished: it has no {SEAL}.",
                "Make it anew on the primary.",
            ) from None
        except OSError as error:
            raise _damaged(f"{SEAL} cannot be read ({error.strerror})") from None
        try:
            told = json.loads(raw)
            self.told: Dict[str, Any] = dict(told)
            if self.told["format"] != FORMAT:
                raise NotfallError(
                    "unknown-format", "This seed is of a newer version.", "Update this server."
                )
            self.primary, self.stamp = str(told["primary"]), str(told["stamp"])
            self.id, self.name = str(told["seed"]), str(told["name"])
            self._parts = [(int(length), int(records)) for length, records in told["parts"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise _damaged(f"{SEAL} is not understood") from None

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(length for length, _ in self._parts)

    def check(self, secret: str) -> None:
        """Refuse a seal that was not made with this secret."""
        body = {key: value for key, value in self.told.items() if key != "mac"}
        if not compare_digest(str(self.told.get("mac")), _seal_mac(seed_key(secret), body)):
            raise NotfallError(
                "seed-forged",
                "The seed was not made with the secret that this server knows: it is another "
                "one's, an older one, or was changed.",
                "Take the seed that was made last, or give its code; else make a new one.",
            )

    def frames(self, secret: str, since: Position = START) -> Iterator[Tuple[Position, bytes]]:
        """Each frame from ``since`` on, with the position behind it; a wrong one ends it."""
        key = seed_key(secret)
        first, number, at = since
        for part in range(first, len(self._parts)):
            length, records = self._parts[part]
            name = part_name(part)
            try:
                handle = os.open(self.directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                raise _damaged(f"{name} cannot be opened ({error.strerror})") from None
            with os.fdopen(handle, "rb") as stream:
                stream.seek(at)
                for record in range(number, records):
                    frame = _read_record(stream, name, at, key, part, record)
                    at += _RECORD.size + len(frame)
                    yield (part, record + 1, at), frame
            if at != length:
                raise _damaged(f"{name} ends at byte {at} instead of {length}")
            number = at = 0


def _read_record(stream: Any, name: str, at: int, key: bytes, part: int, record: int) -> bytes:
    try:
        head = stream.read(_RECORD.size)
        if len(head) < _RECORD.size:
            raise _damaged(f"{name} is cut at byte {at}")
        length, mac = _RECORD.unpack(head)
        if length > FRAME_LIMIT:
            raise _damaged(f"{name} is wrong at byte {at}")
        frame: bytes = stream.read(length)
    except OSError as error:
        raise _damaged(f"{name} cannot be read at byte {at} ({error.strerror})") from None
    if not compare_digest(mac, _mac(key, part, record, [frame])):
        raise _damaged(f"{name} is wrong between byte {at} and {at + _RECORD.size + length}")
    return frame


def find_seed(directory: Path) -> Path:
    """The one seed in ``directory``, or ``directory`` itself if it is one."""
    if (directory / SEAL).exists() or (directory / part_name(0)).exists():
        return directory
    found = sorted(one.parent for one in directory.glob(f"*/{part_name(0)}"))
    if len(found) == 1:
        return found[0]
    told = ", ".join(one.name for one in found)
    raise NotfallError(
        "no-seed" if not found else "several-seeds",
        f"There is no seed in {directory}." if not found else f"There are several seeds: {told}.",
        "Name the directory of the seed: notfall-seed-...",
    )


def seed_directory(to: Path, primary: str, seed: str) -> Path:
    """A new directory below ``to``; what an unfinished seed of this primary left is removed."""
    begin = f"notfall-seed-{primary[:8]}-"
    try:
        for left in to.glob(f"{begin}*"):
            if not (left / SEAL).exists():
                for one in [*left.glob("part-*.nfs"), *left.glob(f"{SEAL}.new")]:
                    one.unlink()
                left.rmdir()
        made = to / f"{begin}{seed[:8]}"
        made.mkdir(mode=0o700)
    except OSError as error:
        raise _unwritable(to, error) from None
    return made
