"""Free clusters of real FAT filesystems: wiping them must not hurt any file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from notfallserver.agent.disks.fat import free_extents

TOOLS = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MTOOLS_SKIP_CHECK": "1"}


def tool(*arguments: object) -> bytes:
    words = [str(one) for one in arguments]
    return subprocess.run(words, check=True, capture_output=True, env=TOOLS, timeout=60).stdout


@pytest.mark.parametrize(("bits", "mib"), [(12, 4), (16, 32), (32, 80)])
def test_wiping_free_clusters_keeps_all_files(tmp_path: Path, bits: int, mib: int) -> None:
    image = tmp_path / "fat.img"
    with image.open("wb") as stream:
        stream.truncate(mib << 20)
    tool("mkfs.fat", "-F", bits, image)
    contents = {f"file{number}": os.urandom(150_000 + number) for number in range(8)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        tool("mcopy", "-i", image, tmp_path / name, f"::{name}")
    for name in ("file2", "file5"):
        tool("mdel", "-i", image, f"::{name}")
        del contents[name]

    raw = bytearray(image.read_bytes())
    free = free_extents(lambda at, length: bytes(raw[at : at + length]), len(raw))
    assert free is not None
    for start, length in free:
        raw[start : start + length] = b"\xee" * length
    image.write_bytes(raw)

    assert sum(length for _, length in free) > len(raw) * 0.6
    tool("fsck.fat", "-n", image)
    for name, content in contents.items():
        assert tool("mtype", "-i", image, f"::{name}") == content


@pytest.mark.parametrize("content", [bytes(512), os.urandom(512), b"\xff" * 512])
def test_what_is_no_fat_counts_as_used(content: bytes) -> None:
    assert free_extents(lambda at, length: (content * 300)[at : at + length], 512 * 300) is None
