"""What a machine has beside its replicated disks: told as it is, and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from notfallserver.agent.disks import beside
from notfallserver.agent.disks.beside import licence_keys, network_mounts, outside_places
from notfallserver.agent.disks.mounts import Mount

MOUNTS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:41 / /srv/data rw,relatime shared:9 - nfs4 nas:/data rw,vers=4.2
31 22 0:42 / /mnt/office rw,relatime - cifs //nas/office rw
32 22 0:43 / /run/user/0/gvfs rw - fuse.sshfs me@nas: rw
33 22 0:44 / /tmp rw - tmpfs tmpfs rw
nonsense
"""


def test_what_lies_on_other_machines_is_named() -> None:
    assert network_mounts(MOUNTS) == ["/srv/data (nfs4)", "/mnt/office (cifs)"]


def test_what_lies_on_other_disks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [
        Mount(1, "/", "ext4", True),
        Mount(2, "/backup", "xfs", True),
        Mount(3, "/media/cd", "iso9660", False),
        Mount(4, "/snap/core/1", "squashfs", True),
        Mount(5, "/pool", "btrfs", True),
        Mount(6, "/old", "ext4", False),
    ]
    disks = {1: {10}, 2: {20}, 3: {30}, 4: {40}, 5: {10, 20}, 6: {20}}
    monkeypatch.setattr(beside, "current_mounts", lambda: mounts)
    monkeypatch.setattr(beside, "members", lambda mount: {mount.device})
    monkeypatch.setattr(beside, "leaves", lambda device, protected: disks[device])
    monkeypatch.setattr(beside, "network_mounts", lambda text: [])
    assert outside_places([10]) == ["/backup (xfs)", "/pool (btrfs)"]
    assert outside_places([10, 20]) == []
    monkeypatch.setattr(
        beside, "current_mounts", lambda: [Mount(2, f"/{n}", "xfs", True) for n in range(99)]
    )
    assert len(outside_places([10])) == beside.MOST


def test_a_name_that_is_no_text_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    strange = b"/m\xff".decode(errors="surrogateescape")
    monkeypatch.setattr(beside, "current_mounts", lambda: [Mount(2, strange, "xfs", True)])
    monkeypatch.setattr(beside, "members", lambda mount: {mount.device})
    monkeypatch.setattr(beside, "leaves", lambda device, protected: {20})
    (told,) = [one for one in outside_places([10]) if one.endswith("(xfs)")]
    told.encode()


def test_licence_keys_are_known_by_their_makers(tmp_path: Path) -> None:
    for name, vendor, product, text in (
        ("1-1", "0529", "0001", "HASP HL 3.25"),
        ("1-2", "046d", "c31c", "Keyboard"),
        ("1-3", "064F", "2af9", ""),
        ("1-4", "0403", "6001", "Serial adapter"),
        ("1-5", "0403", "c580", "Key"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "idVendor").write_text(vendor + "\n")
        (tmp_path / name / "idProduct").write_text(product + "\n")
        if text:
            (tmp_path / name / "product").write_text(text + "\n")
    (tmp_path / "usb1").mkdir()
    assert licence_keys(tmp_path) == [
        *("Aladdin/SafeNet HASP: HASP HL 3.25", "Wibu CodeMeter", "Eutron SmartKey: Key")
    ]
    assert licence_keys(tmp_path / "absent") == []
