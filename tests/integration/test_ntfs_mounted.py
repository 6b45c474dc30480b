"""A volume that ntfs-3g has filled and fragmented: wiping what is free hurts no file.

Its file table is in hundreds of pieces, told by an attribute list that lies outside of its record.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from agent_receiver import command

from notfallserver.agent.ntfs.bitmap import free_extents, zero_bits
from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.record import ATTRIBUTE_LIST, DATA, fixed_up
from notfallserver.agent.ntfs.volatile import root_entries
from notfallserver.agent.ntfs.volume import Volume

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    command("ntfs-3g", image, place)
    try:
        yield place
    finally:
        command("umount", place)


def fill(place: Path, name: str, content: int, most: int = 1 << 30) -> int:
    """Files until the volume is full, or so many."""
    for number in range(most):
        try:
            (place / f"{name}{number:05}").write_bytes(os.urandom(content))
        except OSError:
            return number
    return most


def hashes(place: Path) -> dict[str, str]:
    return {one.name: sha256(one.read_bytes()).hexdigest() for one in place.iterdir()}


def test_a_fragmented_volume(tmp_path: Path) -> None:
    image = tmp_path / "ntfs.img"
    with image.open("wb") as stream:
        stream.truncate(8 << 20)
    command("mkntfs", "-F", "-q", "-f", "-c", 512, "-p", 0, image, stderr=subprocess.DEVNULL)
    luck = random.Random(1)
    with mounted(image, tmp_path / "m") as place:
        count = fill(place, "a", 900)
        for number in range(0, count, 2):
            (place / f"a{number:05}").unlink(missing_ok=True)
        fill(place, "b", 5)  # they lie in their records: only the file table grows
        for one in luck.sample(sorted(place.iterdir()), 600):
            one.unlink()
        fill(place, "c", 70_000, 3)
        kept = hashes(place)

    raw = bytearray(image.read_bytes())
    volume = Volume(lambda at, length: bytes(raw[at : at + length]), len(raw))
    table = volume.stored(0, DATA)
    assert table is not None
    assert len(table.spans) > 100
    lists = volume.record(0).find(ATTRIBUTE_LIST)
    assert [one.value for one in lists] == [None]  # outside of the record
    assert set(kept) < set(root_entries(volume))
    check_table(image, volume)

    bitmap = subprocess.run(["ntfscat", "-i", "6", image], capture_output=True, check=True).stdout
    told = volume.stored(6, DATA)
    assert told is not None
    assert b"".join(volume.pieces(told)) == bitmap
    for first, number in zero_bits([bitmap], volume.shape.clusters, 1):
        raw[first * 512 : (first + number) * 512] = b"\xee" * (number * 512)
    assert all(
        set(raw[at : at + length]) == {0xEE} for at, length in free_extents(volume)
    )  # a part of them
    image.write_bytes(raw)
    command("ntfsfix", "-n", image)
    with mounted(image, tmp_path / "m") as place:
        assert hashes(place) == kept


def check_table(image: Path, volume: Volume) -> None:
    """Every record is what ntfs-3g reads."""
    table = subprocess.run(["ntfscat", "-i", "0", image], capture_output=True, check=True).stdout
    stored = volume.stored(0, DATA)
    assert stored is not None
    own = b"".join(volume.pieces(stored))
    assert len(own) == len(table)
    for at in range(0, len(own), 1024):
        try:
            assert fixed_up(own[at : at + 1024], b"FILE") == table[at : at + 1024]
        except Unreadable:
            assert own[at : at + 4] != b"FILE"
