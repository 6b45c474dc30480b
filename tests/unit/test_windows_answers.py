"""Parsers of Windows' structures, against the structures as the headers declare them."""

from __future__ import annotations

import ctypes
import random
import struct
from typing import Any, Callable, Dict, List

import pytest

import notfall_lab.windows.structures as w
from notfallserver.agent.windows import answers
from notfallserver.agent.windows.adapters import cards, read_adapters
from notfallserver.agent.windows.answers import BadAnswer, BitmapPart, DiskExtent
from notfallserver.agent.windows.contents import Content, content_of
from notfallserver.agent.windows.layout import Slot, entry_numbers, numbered, read_layout
from notfallserver.agent.windows.listeners import read_listeners
from notfallserver.agent.windows.smbios import System, read_system

DISK = "8f2b9c3a-1111-4222-8333-444455556666"
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
MSR = "e3c9e316-0b5c-4db8-817d-f92df00215ae"
DATA = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
OWN = [f"11111111-2222-3333-4444-5555555555{number:02}" for number in range(4)]
MIB = 1 << 20


def test_the_structures_are_as_large_as_windows_says() -> None:
    assert ctypes.sizeof(w.DriveLayout) == 48
    assert ctypes.sizeof(w.PartitionInformation) == 144
    assert ctypes.sizeof(w.AdapterAddresses) == 448
    assert ctypes.sizeof(w.Unicast) == 64
    assert ctypes.sizeof(w.DiskExtent) == 24
    assert ctypes.sizeof(w.NtfsVolumeData) == 96


def gpt() -> bytes:
    return w.gpt_layout(
        DISK,
        [
            (DATA, OWN[3], 200 * MIB, 300 * MIB, "Basic data partition"),
            (ESP, OWN[0], MIB, 100 * MIB, "EFI system partition"),
            (MSR, OWN[1], 101 * MIB, 16 * MIB, ""),
            (w.UNUSED, w.UNUSED, 0, 0, ""),
        ],
    )


def test_a_gpt() -> None:
    layout = read_layout(gpt())
    assert (layout.table, layout.identity) == ("gpt", DISK)
    assert [(one.start, one.size, one.kind, one.part_uuid) for one in layout.slots] == [
        (MIB, 100 * MIB, ESP, OWN[0]),
        (101 * MIB, 16 * MIB, MSR, OWN[1]),
        (200 * MIB, 300 * MIB, DATA, OWN[3]),
    ]
    assert layout.slots[0].name == "EFI system partition"


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_gpt_is_numbered_by_its_own_entries(sector: int) -> None:
    table = bytearray(2 * sector + 128 * 128)
    table[sector : sector + 8] = b"EFI PART"
    struct.pack_into("<QLL", table, sector + 72, 2, 128, 128)
    for entry, own in ((0, OWN[0]), (1, OWN[1]), (6, OWN[3])):
        at = 2 * sector + entry * 128
        table[at : at + 32] = bytes(w.guid(DATA)) + bytes(w.guid(own))
    layout = numbered(read_layout(gpt()), bytes(table), sector)
    assert [one.number for one in layout.slots] == [1, 2, 7]
    table[2 * sector : 2 * sector + 16] = bytes(16)  # the first entry is unused
    with pytest.raises(BadAnswer, match="does not have"):
        numbered(read_layout(gpt()), bytes(table), sector)
    with pytest.raises(BadAnswer):
        entry_numbers(bytes(len(table)), sector)


def test_an_mbr_with_logical_partitions() -> None:
    """Fours for each table; the second of each in the chain leads to the next."""
    answer = w.mbr_layout(
        0xDEADBEEF,
        [
            *[
                (7, MIB, 350 * MIB),
                (0, 0, 0),
                (7, 351 * MIB, 1000 * MIB),
                (0xF, 1351 * MIB, 900 * MIB),
            ],
            *[(7, 1352 * MIB, 100 * MIB), (5, 1452 * MIB, 200 * MIB), (0, 0, 0), (0, 0, 0)],
            *[(7, 1453 * MIB, 199 * MIB), (0, 0, 0), (0, 0, 0), (0, 0, 0)],
        ],
    )
    layout = read_layout(answer)
    assert (layout.table, layout.identity) == ("dos", "deadbeef")
    assert list(layout.slots) == [
        Slot(1, MIB, 350 * MIB, "0x7", "deadbeef-01"),
        Slot(3, 351 * MIB, 1000 * MIB, "0x7", "deadbeef-03"),
        Slot(4, 1351 * MIB, 1024, "0xf", "deadbeef-04"),
        Slot(5, 1352 * MIB, 100 * MIB, "0x7", "deadbeef-05"),
        Slot(6, 1453 * MIB, 199 * MIB, "0x7", "deadbeef-06"),
    ]


def test_a_disk_without_table() -> None:
    assert read_layout(bytes(w.DriveLayout(2, 0))).table == ""


def test_sizes_and_numbers() -> None:
    geometry = answers.read_geometry(bytes(w.GeometryEx(1, 12, 255, 63, 4096, 500 << 30)))
    assert (geometry.sector, geometry.size, geometry.removable) == (4096, 500 << 30, False)
    assert answers.read_geometry(bytes(w.GeometryEx(1, 11, 255, 63, 512, 1))).removable
    assert answers.read_length(struct.pack("<q", 123456789 * 512)) == 123456789 * 512
    number = answers.read_device_number(struct.pack("<LLL", 7, 3, 0xFFFFFFFF))
    assert (number.disk, number.partition) == (3, 0)
    assert answers.read_port(bytes(w.ScsiAddress(8, 2, 0, 1, 0))) == 2
    with pytest.raises(BadAnswer):
        answers.read_device_number(struct.pack("<LLL", 2, 0, 0))
    with pytest.raises(BadAnswer):
        answers.read_geometry(bytes(w.GeometryEx(1, 12, 255, 63, 500, 1)))


def test_how_a_disk_calls_itself() -> None:
    found = answers.read_descriptor(w.descriptor("DELL    ", "PERC H730", "00a1b2", 8))
    assert found == answers.Descriptor("DELL PERC H730", "00a1b2", 8, False)
    found = answers.read_descriptor(w.descriptor("", "Samsung SSD 980", "", 17, True))
    assert found == answers.Descriptor("Samsung SSD 980", "", 17, True)


def test_a_descriptor_without_serial_says_minus_one() -> None:
    answer = bytearray(w.descriptor("", "QEMU HARDDISK", "", 11))
    struct.pack_into("<L", answer, 24, 0xFFFFFFFF)
    assert answers.read_descriptor(bytes(answer)).serial == ""


def test_extents_of_volumes() -> None:
    answer = w.disk_extents([(0, MIB, 5 << 40), (2, 3 * MIB, 7 * MIB)])
    found = [DiskExtent(0, MIB, 5 << 40), DiskExtent(2, 3 * MIB, 7 * MIB)]
    assert answers.read_extents(answer) == found


def test_bitmaps_and_ntfs_data() -> None:
    assert answers.read_bitmap(w.volume_bitmap(64, 90, b"\xf0\x01")) == BitmapPart(
        64, 90, b"\xf0\x01"
    )
    told = w.NtfsVolumeData(
        serial=0xABCDEF,
        sectors=1000,
        clusters=125,
        free=7,
        sector=512,
        cluster=4096,
        record=1024,
        table=4,
    )
    found = answers.read_ntfs_data(bytes(told))
    assert (found.serial, found.sectors, found.clusters, found.free) == (0xABCDEF, 1000, 125, 7)
    assert (found.sector, found.cluster, found.record, found.table) == (512, 4096, 1024, 4)


READERS: Dict[str, Any] = {
    "layout": (read_layout, gpt()),
    "geometry": (answers.read_geometry, bytes(w.GeometryEx(1, 12, 255, 63, 512, 1))),
    "extents": (answers.read_extents, w.disk_extents([(0, 1, 2)])),
    "bitmap": (answers.read_bitmap, w.volume_bitmap(0, 9, b"")),
    "ntfs": (answers.read_ntfs_data, bytes(w.NtfsVolumeData(sector=1, cluster=1))[:72]),
    "descriptor": (answers.read_descriptor, w.descriptor("", "", "", 1)),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_cut_off_is_refused(name: str) -> None:
    read: Callable[[bytes], Any]
    read, answer = READERS[name]
    read(answer)
    least = 32 if name in ("geometry", "descriptor") else len(answer)
    for length in range(least):
        with pytest.raises(BadAnswer):
            read(answer[: min(length, least - 1)])


# -- contents ------------------------------------------------------------------------------------


def boot(at: int, name: bytes, number_at: int, number: bytes) -> bytes:
    made = bytearray(512)
    made[at : at + len(name)] = name
    made[number_at : number_at + len(number)] = number
    made[510:] = b"\x55\xaa"
    return bytes(made)


@pytest.mark.parametrize(
    ("sector", "content"),
    [
        (boot(3, b"NTFS    ", 72, bytes(range(1, 9))), Content("ntfs", "0807060504030201")),
        (boot(3, b"-FVE-FS-", 72, b""), Content("BitLocker")),
        (boot(82, b"FAT32   ", 67, b"\x34\x12\xcd\xab"), Content("vfat", "ABCD-1234")),
        (boot(54, b"FAT16   ", 39, b"\x34\x12\xcd\xab"), Content("vfat", "ABCD-1234")),
        (boot(3, b"EXFAT   ", 100, b"\x34\x12\xcd\xab"), Content("exfat", "ABCD-1234")),
        (boot(3, b"ReFS\0\0\0\0", 56, bytes(range(1, 9))), Content("ReFS", "0807060504030201")),
        (bytes(512), Content("")),
    ],
)
def test_contents(sector: bytes, content: Content) -> None:
    assert content_of(sector) == content


# -- network -------------------------------------------------------------------------------------

CARDS: List[Dict[str, Any]] = [
    {
        "guid": "{0A1B-1}",
        "name": "Ethernet",
        "description": "Intel(R) I350 Gigabit",
        "mac": "00:1b:21:aa:bb:cc",
        "kind": 6,
        "addresses": [],
        "gateways": [],
    },
    {
        "guid": "{0A1B-2}",
        "name": "vEthernet (Büro)",
        "description": "Hyper-V Virtual Ethernet Adapter",
        "mac": "00:1b:21:aa:bb:cc",
        "kind": 6,
        "addresses": [("198.51.100.7", 24, 1), ("fe80::1", 64, 2), ("2001:db8::5", 64, 4)],
        "gateways": ["fe80::ff", "198.51.100.1"],
    },
    {
        "guid": "{0A1B-3}",
        "name": "Loopback Pseudo-Interface 1",
        "description": "Software Loopback",
        "mac": "",
        "kind": 24,
        "addresses": [("127.0.0.1", 8, 2)],
        "gateways": [],
    },
    {
        "guid": "{0A1B-4}",
        "name": "Ethernet 2",
        "description": "Broadcom",
        "mac": "00:1b:21:aa:bb:dd",
        "kind": 6,
        "addresses": [("203.0.113.9", 25, 3)],
        "gateways": [],
    },
]


def test_adapters() -> None:
    base = 0x7FF6_0000_1000
    found = read_adapters(w.adapters(base, CARDS), base)
    assert [one.name for one in found] == [str(one["name"]) for one in CARDS]
    assert found[1].guid == "{0A1B-2}"
    assert found[1].description == "Hyper-V Virtual Ethernet Adapter"
    assert [(one.text, one.leased) for one in found[1].addresses] == [
        ("198.51.100.7/24", False),
        ("fe80::1/64", False),
        ("2001:db8::5/64", True),
    ]
    assert found[1].gateways == ("fe80::ff", "198.51.100.1")
    assert found[2].mac == ""


def test_cards_and_what_is_above_them() -> None:
    base = 0x10000
    vpn = {**CARDS[3], "guid": "{0A1B-5}", "name": "VPN", "mac": "00:ff:00:00:00:01"}
    found = read_adapters(w.adapters(base, [*CARDS, vpn]), base)
    chosen = cards(found, lambda one: one.guid in ("{0A1B-1}", "{0A1B-4}"))
    assert [(one.hardware.name, one.works.name) for one in chosen] == [
        ("Ethernet", "vEthernet (Büro)"),
        ("Ethernet 2", "Ethernet 2"),
    ]
    assert chosen[1].works.addresses[0].leased
    everything = cards(found, lambda _: False)
    assert [one.hardware.name for one in everything] == ["Ethernet", "Ethernet 2", "VPN"]


def test_broken_lists_of_adapters_end() -> None:
    base = 0x10000
    whole = w.adapters(base, CARDS)
    luck = random.Random(7)
    for _ in range(2000):
        broken = bytearray(whole)
        for _ in range(3):
            broken[luck.randrange(len(broken))] = luck.randrange(256)
        try:
            read_adapters(
                bytes(broken[: luck.choice([len(broken), luck.randrange(len(broken))])]), base
            )
        except BadAnswer:
            pass
    circle = bytearray(whole)
    struct.pack_into("<Q", circle, 8, base)
    with pytest.raises(BadAnswer, match="no end"):
        read_adapters(bytes(circle), base)


def test_ports() -> None:
    table = w.listeners([("0.0.0.0", 445), ("127.0.0.1", 5432), ("198.51.100.7", 139)])  # noqa: S104
    table6 = w.listeners6([("::", 3389), ("::1", 42000), ("::", 445)])
    assert read_listeners(table, table6) == [139, 445, 3389]
    assert read_listeners(b"", b"") == []


# -- SMBIOS --------------------------------------------------------------------------------------

IDENTITY = "4c4c4544-0031-3510-8052-b4c04f4a4e32"


@pytest.mark.parametrize("version", [(2, 4), (2, 8), (3, 3)])
def test_smbios(version: tuple[int, int]) -> None:
    raw = w.smbios(["Dell Inc.", "PowerEdge T340", "1.0", "H1Y2Z33"], IDENTITY, version)
    assert read_system(raw) == System("Dell Inc.", "PowerEdge T340", "H1Y2Z33", IDENTITY)


def test_smbios_that_tells_nothing() -> None:
    assert read_system(b"") == System()
    whole = w.smbios(["a", "b", "c", "d"], "ffffffff-ffff-ffff-ffff-ffffffffffff")
    assert read_system(whole) == System("a", "b", "d", "")
    for length in range(len(whole)):
        read_system(whole[:length])
