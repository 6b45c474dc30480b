"""What fstab and crypttab name when partitions go to another disk."""

from __future__ import annotations

from notfallserver.guest.facts import Volume
from notfallserver.guest.names import DeviceNames
from notfallserver.rescue.reshape import named_by_uuid
from notfallserver.wire.facts import Disk, Machine

NAMES = DeviceNames(
    [
        Volume("/dev/vdc1", 0, 1, "ext4", uuid="aaaa", part_uuid="11111111-01"),
        Volume("/dev/vdd1", 1, 1, "ext4", uuid="bbbb", part_uuid="22222222-01", label="data"),
        Volume("/dev/vdd2", 1, 2, "swap"),
    ],
    Machine("shop", disks=[Disk("sda", 1 << 30), Disk("sdb", 1 << 30, serial="WD-77")]),
)


def test_nothing_depends_on_the_disk_any_more() -> None:
    lines = [
        "# /dev/sdb1 was here",
        "UUID=aaaa / ext4 defaults 0 1",
        "/dev/sdb1\t/srv ext4 defaults 0 2",
        "PARTUUID=22222222-01 /a ext4 defaults 0 2",
        "/dev/disk/by-partuuid/22222222-01 /b ext4 defaults 0 2",
        "/dev/disk/by-id/ata-disk_WD_77-part1 /c ext4 defaults 0 2",
        "LABEL=data /d ext4 defaults 0 2",
        "/dev/mapper/vg-data /e ext4 defaults 0 2",
        "/dev/sdb2 none swap sw 0 0",
        "/dev/sdc1 /elsewhere ext4 nofail 0 2",
        "",
    ]
    told = named_by_uuid("\n".join(lines) + "\n", 0, NAMES).splitlines()
    assert told[2] == "UUID=bbbb\t/srv ext4 defaults 0 2"
    assert told[3:6] == [f"UUID=bbbb /{one} ext4 defaults 0 2" for one in "abc"]
    assert [told[0], told[1], *told[6:]] == [lines[0], lines[1], *lines[6:]]


def test_the_device_is_the_second_word_of_crypttab() -> None:
    told = named_by_uuid("sdb1 /dev/sdb1 none luks\n", 1, NAMES)
    assert told == "sdb1 UUID=bbbb none luks\n"
