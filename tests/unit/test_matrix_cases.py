"""The cases of the matrix cover what they are meant to, and their table says what was seen."""

from __future__ import annotations

from notfall_lab.matrix.case import DRIVERS, Case
from notfall_lab.matrix.cases import CASES
from notfall_lab.matrix.layout import MIB, lay_out
from notfall_lab.matrix.results import case_key
from notfall_lab.matrix.table import render
from notfall_lab.matrix.trees import SUITES

VALUES = {
    "suite": set(SUITES),
    "firmware": {"bios", "uefi", "secure"},
    "table": {"dos", "gpt"},
    "initramfs": {"most", "dep", "dracut"},
    "filesystem": {"ext4", "xfs", "btrfs"},
    "stack": {"plain", "lvm", "raid", "luks", "luks-lvm"},
    "role": {"stand-in", "primary"},
    "fstab": {"uuid", "label", "device", "mapper", "partuuid"},
    "root": {"uuid", "label", "device", "mapper", "partuuid"},
    "target": set(DRIVERS),
}
NETWORKS = {"ifupdown", "networkd", "nm", "netplan", "eth0", "udev-rules"}
KINDS = {"bond", "vlan", "bridge", "dhcp", "mac"}


def test_every_value_appears() -> None:
    for name, values in VALUES.items():
        assert {getattr(one, name) for one in CASES} == values, name
    networks = [one.network.split("-") for one in CASES if one.network != "udev-rules"]
    assert {one[0] for one in networks} | {"udev-rules"} == NETWORKS
    assert {one[1] for one in networks if len(one) > 1} == KINDS


def test_cases_are_told_apart() -> None:
    assert len({one.name for one in CASES}) == len(CASES)
    assert len({case_key(one) for one in CASES}) == len(CASES)
    assert len(CASES) < 200  # each has an address of its own


def test_partitions_do_not_overlap_and_names_follow_the_disk() -> None:
    for case in CASES:
        layout = lay_out(case)
        ends = [0, *(one.end for one in layout.parts)]
        assert all(one.start >= end for one, end in zip(layout.parts, ends, strict=False)), case
        assert layout.size - layout.parts[-1].end >= MIB  # room for GPT's second table
    assert Case("x", source="nvme").part_name(2) == "/dev/nvme0n1p2"
    assert Case("x", source="megasas").part_name(2) == "/dev/sda2"


def test_the_table_names_what_did_not_boot() -> None:
    cases = (
        Case("good"),
        Case("bad", odd=("serial",)),
        Case("untried"),
        Case("locked", refused="driver-locked"),
    )
    told = {
        "adapt_s": 20.4,
        "warnings": [{"code": "locked-system"}],
        "date": "2026-01-01",
        "version": "0.1.0",
    }
    page = render(
        cases,
        {
            "good": {
                **told,
                "boots": True,
                "error": "",
                "changes": ["initramfs of 6.1 now with ahci, sd_mod", "role"],
            },
            "bad": {**told, "boots": False, "error": "no | root"},
            "locked": {**told, "boots": False, "refused": "driver-locked", "error": ""},
        },
    )
    assert page.startswith("1 of 3 cases boot, 1 more refused as must be, 1 not tried yet;")
    assert "| refused | 20 s |" in page
    assert "| ahci, sd_mod | yes | 20 s | 2026-01-01, 0.1.0 | locked-system |" in page
    assert "| **no** | 20 s | 2026-01-01, 0.1.0 | serial; locked-system; no / root |" in page
    assert "untried" not in page
