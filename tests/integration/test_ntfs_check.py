"""NTFS of a copy is checked: real volumes, sound, in use when they were copied, and damaged."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from agent_receiver import command, loop_device

from notfallserver.guest.check import CLEAN, DAMAGED, Checked, Comparison, check_filesystems

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

CLUSTER = 4096
CONTENT = b"what was written last\n"


@pytest.fixture(scope="module")
def in_use(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As it is on the disk while it is mounted, with files and holes."""
    folder = tmp_path_factory.mktemp("ntfs")
    image, place, copy = folder / "disk.img", folder / "mounted", folder / "copy.img"
    with image.open("wb") as file:
        file.truncate(48 << 20)
    place.mkdir()
    with loop_device(image) as device:
        command("mkntfs", "-Q", "-F", "-q", device)
        command("ntfs-3g", device, str(place))
        try:
            for number in range(200):
                (place / f"file{number}").write_bytes(os.urandom(5000))
            for number in range(0, 200, 3):
                (place / f"file{number}").unlink()
            (place / "last.txt").write_bytes(CONTENT)
            command("sync")
            command("cp", "--sparse=always", image, copy)
        finally:
            command("umount", str(place))
    yield copy


def checked(image: Path, folder: Path, comparison: Comparison | None = None) -> Checked:
    copy = folder / "checked.img"
    shutil.copyfile(image, copy)
    with loop_device(copy) as device:
        (found,) = check_filesystems([device], comparison or Comparison())
    assert found.volume.filesystem == "ntfs"
    return found


def place_of(inode: int, image: Path) -> int:
    """Byte at which the content of an inode begins."""
    told = command("ntfscluster", "-f", "-I", str(inode), str(image))
    found = re.search(r"0x80 - non-resident\s+VCN\s+LCN\s+Length\s+\d+\s+(\d+)", told)
    assert found, told
    return int(found[1]) * CLUSTER


def without_bits(image: Path) -> None:
    with image.open("r+b") as raw:
        raw.seek(place_of(6, image))
        raw.write(bytes(16))


def with_more_bits(image: Path) -> None:
    """Three clusters are called used that nobody has: that may be all that is left of a file."""
    with image.open("r+b") as raw:
        start = place_of(6, image)
        raw.seek(start)
        bits = bytearray(raw.read((48 << 20) // CLUSTER // 8))
        at = next(n for n in range(len(bits)) if not any(bits[n : n + 8]))
        bits[at : at + 2] = bytes((7, 0))
        raw.seek(start)
        raw.write(bits)


def with_torn_record(image: Path) -> None:
    """Files are lost, with what they had."""
    with image.open("r+b") as raw:
        raw.seek(place_of(0, image) + 70 * 1024)
        raw.write(b"BAAD" * 256 * 8)


def test_what_was_in_use_is_sound_and_its_files_are_compared(in_use: Path, tmp_path: Path) -> None:
    uuid = command("blkid", "-p", "-s", "UUID", "-o", "value", str(in_use)).strip()
    told = {"filesystem": uuid, "path": "/last.txt", "size": len(CONTENT)}
    same = {**told, "sha256": sha256(CONTENT).hexdigest()}
    other = {**told, "path": "/file1", "sha256": sha256(CONTENT).hexdigest()}
    comparison = Comparison([same, other])
    found = checked(in_use, tmp_path, comparison)
    assert (found.state, found.told) == (CLEAN, "")
    assert (comparison.compared, comparison.differing) == (2, ["/file1"])


@pytest.mark.parametrize("hurt", [without_bits, with_more_bits, with_torn_record])
def test_damage_is_told(in_use: Path, tmp_path: Path, hurt: Callable[[Path], None]) -> None:
    copy = tmp_path / "hurt.img"
    shutil.copyfile(in_use, copy)
    hurt(copy)
    found = checked(copy, tmp_path)
    assert found.state == DAMAGED
    assert "inconsistent" in found.told, found.told
