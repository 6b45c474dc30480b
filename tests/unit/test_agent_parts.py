"""Small pure parts of the agent: mounts and freeze order, eBPF assembler, settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from notfallserver.agent import config
from notfallserver.agent.changes.assembler import EXIT, JEQ, MOV, Assembler
from notfallserver.agent.disks import mounts
from notfallserver.agent.role import role
from notfallserver.wire.errors import NotfallError

MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:21 / /proc rw - proc proc rw
24 22 253:0 / /srv/my\040data rw - xfs /dev/mapper/vg-data rw,attr2
25 22 8:1 /home /srv/home ro,relatime - ext4 /dev/sda1 rw
26 22 8:2 / /boot ro - ext4 /dev/sda2 ro
27 24 7:0 / /srv/my\040data/image rw - ext4 /dev/loop0 rw
28 22 8:17 / /other rw - ext4 /dev/sdb1 rw
"""


def fake_sysfs(root: Path) -> None:
    for disk, number, parts in (("sda", "8:0", ("8:1", "8:2", "8:3")), ("sdb", "8:16", ("8:17",))):
        (root / "devices" / disk).mkdir(parents=True)
        (root / "devices" / disk / "dev").write_text(number)
        for place, part in enumerate(parts):
            node = root / "devices" / disk / f"{disk}{place + 1}"
            node.mkdir()
            (node / "dev").write_text(part)
            (node / "partition").write_text(str(place + 1))
            (root / part).symlink_to(node)
        (root / number).symlink_to(root / "devices" / disk)
    (root / "253:0" / "slaves" / "sda3").mkdir(parents=True)
    (root / "253:0" / "slaves" / "sda3" / "dev").write_text("8:3\n")
    (root / "7:0" / "loop").mkdir(parents=True)


def test_inner_filesystems_freeze_first_and_each_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sysfs(tmp_path)
    monkeypatch.setattr(mounts, "_SYS", tmp_path)
    found = mounts.read_mounts(MOUNTINFO)
    groups = mounts.to_freeze(found, [os.makedev(8, 0)])
    assert [[one.place for one in group] for group in groups] == [
        ["/srv/my data"],
        ["/", "/srv/home"],
    ]


def test_a_loop_on_a_protected_disk_freezes_before_what_it_lies_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sysfs(tmp_path)
    monkeypatch.setattr(mounts, "_SYS", tmp_path)
    backing = tmp_path / "disk.img"
    backing.write_bytes(b"")
    (tmp_path / "7:0" / "loop" / "backing_file").write_text(f"{backing}\n")
    groups = mounts.to_freeze(mounts.read_mounts(MOUNTINFO), [backing.stat().st_dev])
    assert [group[0].place for group in groups] == ["/srv/my data/image"]


def test_the_assembler_resolves_jumps_both_ways() -> None:
    code = Assembler()
    code.label("again")
    code.jump(JEQ, "end", to=3, value=-1)
    code.load_map(1, 7)
    code.jump(0x05, "again")
    code.label("end")
    code.op(MOV, 0, value=2)
    code.op(EXIT)
    assert code.finish().hex(" ", 8) == " ".join(
        [
            "15030300ffffffff",
            "1811000007000000",
            "0000000000000000",
            "0500fcff00000000",
            "b700000002000000",
            "9500000000000000",
        ]
    )


def test_settings_that_make_no_sense_say_so(tmp_path: Path) -> None:
    for broken in ("", "[]", "{}", '{"url": "https://x", "workers": 0}', '{"url": 1}'):
        (tmp_path / "agent.json").write_text(broken)
        with pytest.raises(NotfallError) as caught:
            config.load_settings(tmp_path)
        assert caught.value.code == "bad-settings"
    (tmp_path / "agent.json").write_text(json.dumps({"url": "https://x:1", "later": 1}))
    assert config.load_settings(tmp_path).url == "https://x:1"


def test_the_role_is_primary_until_the_adaptation_says_otherwise(tmp_path: Path) -> None:
    assert role(tmp_path) == "primary"
    (tmp_path / "role").write_text("stand-in\n")
    assert role(tmp_path) == "stand-in"
