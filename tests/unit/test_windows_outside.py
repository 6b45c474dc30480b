r"""Whether a directory is on a disk that is replicated, by where Windows has mounted volumes."""

from __future__ import annotations

import pytest

import notfall_lab.windows.structures as w
from notfall_lab.windows.machine import MIB, Machine, disk, of_bytes, volume
from notfallserver.agent.disks.windows import see_disks
from notfallserver.agent.windows.outside import is_outside, volume_of
from notfallserver.agent.windows.survey import see_volumes

C, D, F = (f"\\\\?\\Volume{{{one}}}\\" for one in "cdf")


def machine() -> Machine:
    """C: on disk 0; a stick, disk 1, has D: and is mounted in a folder of C:, too; the volume F: is
    in pieces on both."""
    found = Machine()
    table = w.mbr_layout(1, [(7, MIB, 2 * MIB), (7, 4 * MIB, MIB), *[(0, 0, 0)] * 2])
    for number in (0, 1):
        found.devices[number] = disk(
            of_bytes(bytes(8 * MIB)), 8 * MIB, table, removable=number == 1
        )
    empty = of_bytes(bytes(4096))
    found.mounted[C] = volume(empty, [(0, MIB, 2 * MIB)], "NTFS", "", ("C:\\",))
    places = ("D:\\", "C:\\Mounts\\Stick\\")
    found.mounted[D] = volume(empty, [(1, MIB, 2 * MIB)], "NTFS", "", places)
    pieces = [(1, 4 * MIB, MIB), (0, 4 * MIB, MIB)]
    found.mounted[F] = volume(empty, pieces, "NTFS", "", ("F:\\",))
    return found


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("C:\\seeds", C),
        ("c:/seeds", C),
        ("C:\\", C),
        ("C:", C),
        ("D:\\seeds", D),
        ("\\\\?\\D:\\seeds", D),
        ("C:\\mounts\\stick\\seeds", D),
        ("C:\\mounts\\stick", D),
        ("C:\\mounts\\stickers", C),
        (f"{D}seeds", D),
        ("F:\\seeds", F),
        ("\\\\nas\\backup\\seeds", None),
        ("E:\\seeds", None),
    ],
)
def test_the_volume_of_a_path(path: str, name: str | None) -> None:
    one = machine()
    volumes = see_volumes(one)
    found = volume_of(path, volumes)
    assert (found and found.name) == name
    assert is_outside(path, see_disks(one), volumes) == (name in (D, None))
