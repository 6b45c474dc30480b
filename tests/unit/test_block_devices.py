"""When a disk may not be touched: what lsblk tells of disks in use."""

from __future__ import annotations

from typing import Any

import pytest

from notfallserver.server.media.block_devices import (
    BlockDevice,
    Target,
    busy_reason,
    check_target,
)
from notfallserver.wire.errors import NotfallError


def node(name: str, kind: str, *mountpoints: str | None) -> dict[str, Any]:
    return {"name": name, "type": kind, "mountpoints": list(mountpoints) or [None]}


@pytest.mark.parametrize(
    "below",
    [
        [node("sdb1", "part", "/srv")],
        [node("sdb1", "part"), node("sdb2", "part", "[SWAP]")],
        [node("sdb1", "part"), node("vg-root", "lvm")],
        [node("md0", "raid1")],
        [node("sdb3", "part"), node("secret", "crypt")],
        [node("mpatha", "mpath")],
    ],
)
def test_what_is_mounted_or_built_upon_is_in_use(below: list[dict[str, Any]]) -> None:
    assert below[-1]["name"] in busy_reason([node("sdb", "disk"), *below])


def test_partitions_alone_are_no_use() -> None:
    assert busy_reason([node("sdb", "disk"), node("sdb1", "part"), node("sdb2", "part")]) == ""


DISK = BlockDevice(
    name="sdb",
    path="/dev/sdb",
    size=1 << 30,
    sector=512,
    model="Stick",
    serial="S1",
    transport="usb",
    removable=True,
    attached="7",
    table="gpt",
    parts=(),
)


@pytest.mark.parametrize(
    ("changed", "said", "code"),
    [
        ({}, Target("/dev/sdb", "S1", attached="7"), ""),
        ({}, Target("/dev/sdb", "s1"), "disk-not-confirmed"),
        ({"serial": ""}, Target("/dev/sdb", ""), "disk-not-confirmed"),
        ({"serial": ""}, Target("/dev/sdb", f"sdb-{1 << 30}"), ""),
        ({"removable": False}, Target("/dev/sdb", "S1"), "disk-internal"),
        ({"removable": False}, Target("/dev/sdb", "S1", internal=True), ""),
        ({"member": "LVM2_member"}, Target("/dev/sdb", "S1"), "disk-internal"),
        ({"busy": "mounted"}, Target("/dev/sdb", "S1", internal=True), "export-disk-busy"),
        ({"attached": "8"}, Target("/dev/sdb", "S1", attached="7"), "export-disk-changed"),
        ({"size": (1 << 29) - 512}, Target("/dev/sdb", "S1"), "disk-small"),
        ({"sector": 4096}, Target("/dev/sdb", "S1"), "disk-sector"),
    ],
)
def test_a_target_is_taken_only_as_it_was_confirmed(
    changed: dict[str, Any], said: Target, code: str
) -> None:
    disk = BlockDevice(**{**vars(DISK), **changed})
    if not code:
        check_target(disk, said, 1 << 29, 512)
        return
    with pytest.raises(NotfallError) as caught:
        check_target(disk, said, 1 << 29, 512)
    assert caught.value.code == code
