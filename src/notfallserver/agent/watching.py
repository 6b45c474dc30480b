"""Files that are looked at in each run, so that the server sees what becomes of them: what a look
is, on each system.

The same files each time, or the alarm would compare nothing; documents rather than programs, which
updates change. Of each its first 4 KiB and 4 KiB from its middle are read: which kind its first
bytes say it is, and which of both pieces are dense (compressed or random). No content is told.
"""

from __future__ import annotations

import zlib
from typing import Any, Dict, Tuple

FILES = 96
WITHIN_S = 3.0
PIECE = 4096
LONGEST = 512
"""Of a path; longer ones are left out."""
HEAD, MIDDLE = 1, 2
"""Which pieces are dense, added up."""
_SHARE = 0.97
_SHORTEST = 512

MAGIC: Tuple[Tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"\x5d\x00\x00", "lzma"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!", "rar"),
    (0, b"MSCF", "cab"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG", "png"),
    (0, b"GIF8", "gif"),
    (0, b"RIFF", "riff"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (4, b"ftyp", "mp4"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"),
    (0, b"OggS", "ogg"),
    (0, b"fLaC", "flac"),
    (0, b"%PDF", "pdf"),
    (0, b"%!PS", "postscript"),
    (0, b"{\\rtf", "rtf"),
    (0, b"\xd0\xcf\x11\xe0", "office"),
    (0, b"SQLite format 3", "sqlite"),
    (0, b"\x00\x01\x00\x00Standard", "access"),
    (0, b"!BDN", "outlook"),
    (0, b"\x7fELF", "elf"),
    (0, b"MZ", "exe"),
    (0, b"\xca\xfe\xba\xbe", "class"),
    (0, b"!<arch>", "ar"),
    (0, b"\xed\xab\xee\xdb", "rpm"),
    (0, b"wOF", "font"),
    (0, b"PACK", "git"),
    (0, b"BORG_SEG", "borg"),
    (0, b"\x78\x01", "zlib"),
    (0, b"\x78\x9c", "zlib"),
    (0, b"\x78\xda", "zlib"),
    (0, b"hsqs", "squashfs"),
    (0, b"QFI\xfb", "qcow2"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"KDMV", "vmdk"),
    (0, b"-----BEGIN", "pem"),
    (257, b"ustar", "tar"),
)


def kind_of(head: bytes) -> str:
    """Empty where the first bytes say nothing."""
    for at, magic, kind in MAGIC:
        if head[at : at + len(magic)] == magic:
            return kind
    return ""


def is_dense(piece: bytes) -> bool:
    """Whether it does not pack: compressed, or random."""
    return len(piece) >= _SHORTEST and len(zlib.compress(piece, 1)) > len(piece) * _SHARE


def told(key: str, path: str, size: int, head: bytes, middle: bytes) -> Dict[str, Any]:
    """``key`` stays the same when the file gets another extension; ``path`` from the root of its
    filesystem."""
    dense = (HEAD if is_dense(head) else 0) | (MIDDLE if is_dense(middle) else 0)
    return {"key": key, "path": path, "size": size, "kind": kind_of(head), "dense": dense}


def stem_of(name: str) -> str:
    """What an extension, or one more, does not change."""
    return name.split(".", 1)[0] or name
