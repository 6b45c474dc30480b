"""cpio archives (format newc): written for our initrds, read to see what an initramfs holds.

An initramfs file is a chain of segments: plain archives (microcode), then one packed archive.
Reading streams through the unpacking tool, so memory stays small however large the archive is;
names, kinds and sizes come from the image and are bounded.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Callable, Dict, Iterable, Iterator, Optional, Tuple

from notfallserver.guest.shell import ENVIRONMENT
from notfallserver.wire.errors import NotfallError

NAME_LIMIT = 4096
CONTENT_LIMIT = 4 << 20
ENTRY_LIMIT = 200_000

PACKERS: Dict[str, Tuple[str, ...]] = {
    "gzip": ("gzip", "-1", "-c"),
    "zstd": ("zstd", "-1", "-q", "-c"),
    "xz": ("xz", "-0", "--check=crc32", "-c"),
    "bzip2": ("bzip2", "-1", "-c"),
    "lz4": ("lz4", "-l", "-q", "-c"),
    "lzop": ("lzop", "-1", "-c"),
}
"""Packed so that every kernel that read the original reads the result; speed before size."""

HARD_PACKERS: Dict[str, Tuple[str, ...]] = {
    "gzip": ("gzip", "-9", "-c"),
    "zstd": ("zstd", "-12", "-q", "-c"),
    "xz": ("xz", "-6", "--check=crc32", "-c"),
    "bzip2": ("bzip2", "-9", "-c"),
    "lz4": ("lz4", "-l", "-9", "-q", "-c"),
    "lzop": ("lzop", "-9", "-c"),
}
"""The same, size before speed."""

UNPACKERS: Dict[bytes, Tuple[str, ...]] = {
    b"\x1f\x8b": ("gzip", "-dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "-dc"),
    b"\xfd7zXZ\x00": ("xz", "-dc"),
    b"\x5d\x00\x00": ("xz", "--format=lzma", "-dc"),
    b"BZh": ("bzip2", "-dc"),
    b"\x02\x21\x4c\x18": ("lz4", "-dc"),
    b"\x89LZO": ("lzop", "-dc"),
}


@dataclass(frozen=True)
class Entry:
    """One file of an archive; ``data`` is a link's target for links, empty unless wanted.

    ``source`` stands in the place of ``data`` for what is too large for memory; write only.
    """

    name: str
    mode: int
    data: bytes = b""
    source: Optional[Path] = None


def file_entry(name: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(name, stat.S_IFREG | mode, data)


def folder_entry(name: str) -> Entry:
    return Entry(name, stat.S_IFDIR | 0o755)


def tree_entries(root: Path, under: str = "") -> Iterator[Entry]:
    """A directory tree in stable order, its names below ``under``."""
    for path in sorted(root.rglob("*")):
        name = f"{under}{path.relative_to(root)}"
        if path.is_symlink():
            yield Entry(name, stat.S_IFLNK | 0o777, str(path.readlink()).encode())
        elif path.is_dir():
            yield folder_entry(name)
        else:
            yield Entry(name, path.stat().st_mode, path.read_bytes())


def write_archive(entries: Iterable[Entry], out: IO[bytes]) -> None:
    """Append an archive to ``out``, padded so that another one may follow."""
    written = 0
    for inode, entry in enumerate(chain(entries, [Entry("TRAILER!!!", 0)]), start=1):
        name = entry.name.encode() + b"\0"
        size = entry.source.stat().st_size if entry.source else len(entry.data)
        numbers = (inode, entry.mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % one for one in numbers) + name
        head += bytes(-len(head) % 4)
        out.write(head)
        if entry.source:
            with entry.source.open("rb") as content:
                shutil.copyfileobj(content, out, 1 << 20)
        else:
            out.write(entry.data)
        out.write(bytes(-size % 4))
        written += len(head) + size + -size % 4
    out.write(bytes(-written % 512))


def read_initramfs(path: Path, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    """All entries of all segments; contents only where ``wanted(name)``."""
    with path.open("rb") as raw:
        while True:
            lead = _skip_padding(raw)
            if not lead:
                return
            if lead[:5] == b"07070":
                yield from _read_segment(raw, lead, wanted)
                continue
            tool = next((args for magic, args in UNPACKERS.items() if lead.startswith(magic)), None)
            if tool is None:
                raise _broken(path, "it is packed in a way that is not known")
            raw.seek(-len(lead), 1)
            yield from _read_packed(path, raw, tool, wanted)
            return


def _read_packed(
    path: Path, raw: IO[bytes], tool: Tuple[str, ...], wanted: Callable[[str], bool]
) -> Iterator[Entry]:
    # the tool gets the open file: its offset is ours, nothing is copied through Python
    raw_offset = raw.tell()
    with path.open("rb", buffering=0) as plain:
        plain.seek(raw_offset)
        with subprocess.Popen(
            list(tool),
            stdin=plain,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
        ) as process:
            assert process.stdout is not None  # noqa: S101 - PIPE was asked for
            try:
                lead = _skip_padding(process.stdout)
                if lead[:5] != b"07070":
                    raise _broken(path, "its packed part is no cpio archive")
                while lead[:5] == b"07070":
                    yield from _read_segment(process.stdout, lead, wanted)
                    lead = _skip_padding(process.stdout)
            finally:
                process.kill()


def extend_initramfs(path: Path, entries: Iterable[Entry], out: Path, hard: bool = False) -> None:
    """Write ``path`` with more entries to ``out``; one of the same name takes the place of the old.

    Plain leading segments stay as they are; the packed part becomes one stream again, because not
    every kernel reads on behind a packed one. ``hard``: size counts more than time.
    """
    with path.open("rb") as raw, out.open("wb") as new:
        tool = _skip_plain_segments(raw, path)
        start = raw.tell()
        raw.seek(0)
        new.write(raw.read(start))
        new.flush()
        if tool is None:
            write_archive(entries, new)
            return
        packers = HARD_PACKERS if hard else PACKERS
        packer = packers["gzip" if "--format=lzma" in tool else tool[0]]
        with path.open("rb", buffering=0) as packed:
            packed.seek(start)
            _repack(tool, packer, packed, new, entries)


def _repack(
    unpacker: Tuple[str, ...],
    packer: Tuple[str, ...],
    packed: IO[bytes],
    new: IO[bytes],
    entries: Iterable[Entry],
) -> None:
    pipe = subprocess.PIPE
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        list(packer), stdin=pipe, stdout=new, stderr=quiet, env=ENVIRONMENT
    ) as packing:
        assert packing.stdin is not None  # noqa: S101 - PIPE was asked for
        done = subprocess.run(
            list(unpacker),
            stdin=packed,
            stdout=packing.stdin,
            stderr=quiet,
            env=ENVIRONMENT,
            check=False,
        )
        write_archive(entries, packing.stdin)
        packing.stdin.close()
    # gzip and zstd say 2 and 1 about padding behind their data; what matters is read back later
    if packing.returncode or done.returncode not in (0, 1, 2):
        raise NotfallError("bad-initramfs", "The initramfs could not be packed again.", "")


def _skip_plain_segments(raw: IO[bytes], path: Path) -> Optional[Tuple[str, ...]]:
    """Go to the packed part and say what unpacks it; to the end and None where there is none."""
    while True:
        lead = _skip_padding(raw)
        if not lead:
            return None
        if lead[:5] != b"07070":
            raw.seek(-len(lead), 1)
            tool = next((args for magic, args in UNPACKERS.items() if lead.startswith(magic)), None)
            if tool is None:
                raise _broken(path, "it is packed in a way that is not known")
            return tool
        for _ in _read_segment(raw, lead, lambda name: False):
            pass


def _skip_padding(raw: IO[bytes]) -> bytes:
    """The first six bytes that follow zero padding; shorter at the end."""
    while True:
        four = raw.read(4)
        if len(four) < 4:
            return b""
        if four != bytes(4):
            return four + raw.read(2)


def _read_segment(raw: IO[bytes], lead: bytes, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    for _ in range(ENTRY_LIMIT):
        rest = raw.read(104)
        if len(lead) < 6 or len(rest) < 104:
            return
        try:
            numbers = [int(rest[at : at + 8], 16) for at in range(0, 104, 8)]
        except ValueError:
            return
        mode, size, name_size = numbers[1], numbers[6], numbers[11]
        if not 0 < name_size <= NAME_LIMIT:
            return
        padded = name_size + (-(110 + name_size) % 4)
        name = raw.read(padded)[: name_size - 1].decode("utf-8", "replace")
        if name == "TRAILER!!!":
            return
        keep = (wanted(name) or stat.S_ISLNK(mode)) and size <= CONTENT_LIMIT
        data = _take(raw, size + (-size % 4), keep)
        yield Entry(name[2:] if name.startswith("./") else name, mode, data[:size])
        lead = raw.read(6)


def _take(raw: IO[bytes], size: int, keep: bool) -> bytes:
    if keep:
        return raw.read(size)
    while size > 0:
        got = len(raw.read(min(size, 1 << 20)))
        if not got:
            break
        size -= got
    return b""


def _broken(path: Path, why: str) -> NotfallError:
    return NotfallError("bad-initramfs", f"{path.name} cannot be read: {why}.", "It is rebuilt.")
