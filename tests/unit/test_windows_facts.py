"""Facts of a Windows machine, of the bytes that it answers; and what is refused."""

from __future__ import annotations

import struct
from typing import Any, Dict, List, Tuple

import pytest

import notfall_lab.windows.structures as w
from notfall_lab.windows.machine import MIB, Device, Machine, Read, disk, of_bytes, volume
from notfallserver.agent.disks.windows import machine_facts, protected_of, see_disks
from notfallserver.agent.windows.answers import VOLUME_GET_VOLUME_DISK_EXTENTS
from notfallserver.agent.windows.conditions import find_conditions
from notfallserver.agent.windows.fitness import check_fitness
from notfallserver.agent.windows.survey import see_volumes
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import (
    DOMAIN_CONTROLLER,
    FAST_START,
    OEM_LICENCE,
    REBOOT_PENDING,
    Nic,
    Partition,
    read_machine,
)

CURRENT = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
CARDS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e972-e325-11ce-bfc1-08002be10318}"
ENUM = r"SYSTEM\CurrentControlSet\Enum"
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
MSR = "e3c9e316-0b5c-4db8-817d-f92df00215ae"
DATA = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
OWN = [f"11111111-2222-3333-4444-5555555555{number:02}" for number in range(4)]
BASE = 0x7FF600001000


def ntfs(serial: int) -> bytes:
    made = bytearray(512)
    made[3:11] = b"NTFS    "
    struct.pack_into("<Q", made, 72, serial)
    made[510:] = b"\x55\xaa"
    return bytes(made)


def fat32() -> bytes:
    made = bytearray(512)
    made[82:90] = b"FAT32   "
    made[67:71] = b"\x34\x12\xcd\xab"
    made[510:] = b"\x55\xaa"
    return bytes(made)


def bitlocker() -> bytes:
    made = bytearray(512)
    made[3:11] = b"-FVE-FS-"
    made[510:] = b"\x55\xaa"
    return bytes(made)


def sparse(pieces: Dict[int, bytes]) -> Read:
    """Content that is zero but for some pieces, of 64 KiB at most."""

    def read(at: int, length: int) -> bytes:
        found = bytearray(length)
        for start, piece in pieces.items():
            begin, end = max(at, start), min(at + length, start + len(piece))
            if begin < end:
                found[begin - at : end - at] = piece[begin - start : end - start]
        return bytes(found)

    return read


def gpt_head(entries: List[Tuple[int, str, str]], sector: int = 512) -> bytes:
    table = bytearray(2 * sector + 128 * 128)
    table[sector : sector + 8] = b"EFI PART"
    struct.pack_into("<QLL", table, sector + 72, 2, 128, 128)
    for number, kind, own in entries:
        at = 2 * sector + (number - 1) * 128
        table[at : at + 32] = bytes(w.guid(kind)) + bytes(w.guid(own))
    return bytes(table)


def server() -> Machine:
    """UEFI; disk 0: ESP, MSR, C: (open BitLocker), a locked one. Disk 1: MBR with D:. A stick."""
    machine = Machine()
    parts = [
        (ESP, OWN[0], MIB, 100 * MIB, ""),
        (MSR, OWN[1], 101 * MIB, 16 * MIB, ""),
        (DATA, OWN[2], 117 * MIB, 1000 * MIB, ""),
        (DATA, OWN[3], 1117 * MIB, 500 * MIB, ""),
    ]
    head = gpt_head([(1, ESP, OWN[0]), (2, MSR, OWN[1]), (4, DATA, OWN[2]), (5, DATA, OWN[3])])
    content = {0: head, MIB: fat32(), 117 * MIB: bitlocker(), 1117 * MIB: bitlocker()}
    machine.devices[0] = disk(
        sparse(content), 2000 * MIB, w.gpt_layout(OWN[0], parts), "PERC H730", "00a1", 8, 1
    )
    table = w.mbr_layout(0xCAFE, [(7, MIB, 300 * MIB), *[(0, 0, 0)] * 3])
    machine.devices[1] = disk(sparse({MIB: ntfs(0x55)}), 400 * MIB, table, bus=11)
    machine.devices[2] = disk(of_bytes(b""), 50 * MIB, w.mbr_layout(1, []), bus=7, removable=True)
    machine.mounted = {
        "\\\\?\\Volume{esp}\\": volume(sparse({0: fat32()}), [(0, MIB, 100 * MIB)], "FAT32"),
        "\\\\?\\Volume{c}\\": volume(
            sparse({0: ntfs(0xC0FFEE)}), [(0, 117 * MIB, 1000 * MIB)], "NTFS", "System", ("C:\\",)
        ),
        "\\\\?\\Volume{locked}\\": volume(
            sparse({0: bitlocker()}), [(0, 1117 * MIB, 500 * MIB)], "", "", ("L:\\",)
        ),
        "\\\\?\\Volume{d}\\": volume(
            sparse({0: ntfs(0x55)}), [(1, MIB, 300 * MIB)], "NTFS", "Daten", ("D:\\", "C:\\mnt\\")
        ),
        "\\\\?\\Volume{dvd}\\": volume(of_bytes(b""), [], "CDFS", kind=5),
        "\\\\?\\Volume{gone}\\": volume(of_bytes(b""), [], "NTFS"),
    }
    machine.mounted["\\\\?\\Volume{gone}\\"].device.refused = 21
    machine.mode = 2
    machine.bios = w.smbios(
        ["Dell Inc.", "PowerEdge T340", "1.0", "H1Y2Z33"], "4c4c4544-0031-3510-8052-b4c04f4a4e32"
    )
    machine.network = (
        w.adapters(
            BASE,
            [
                card(
                    "{AA-1}",
                    "Ethernet",
                    "00:1b:21:aa:bb:cc",
                    [("198.51.100.7", 24, 1)],
                    "198.51.100.1",
                ),
                card("{AA-2}", "Ethernet 2", "00:1b:21:aa:bb:dd", [("203.0.113.9", 25, 3)], ""),
                card("{AA-3}", "Bluetooth", "00:1b:21:00:00:01", [], ""),
                card("{AA-4}", "vEthernet", "00:15:5d:00:00:02", [("172.16.0.1", 20, 1)], ""),
            ],
        ),
        BASE,
    )
    machine.tables = {2: w.listeners([("198.51.100.7", 445)]), 23: w.listeners6([("::", 3389)])}
    machine.registry = {
        (CURRENT, "ProductName"): "Windows Server 2022 Standard",
        (CURRENT, "DisplayVersion"): "21H2",
        (CURRENT, "InstallationType"): "Server",
        (CURRENT, "CurrentMajorVersionNumber"): 10,
        (CURRENT, "CurrentMinorVersionNumber"): 0,
        (CURRENT, "CurrentBuildNumber"): "20348",
        (CURRENT, "UBR"): 2700,
        (r"HARDWARE\DEVICEMAP\Scsi\Scsi Port 1", "Driver"): "megasas2",
        (r"HARDWARE\DEVICEMAP\Scsi\Scsi Port 0", "Driver"): "storahci",
        (CARDS + r"\0003", "NetCfgInstanceId"): "{aa-1}",
        (CARDS + r"\0003", "DeviceInstanceID"): r"PCI\VEN_8086&DEV_1521\3&1",
        (CARDS + r"\0003", "Characteristics"): 0x84,
        (CARDS + r"\0007", "NetCfgInstanceId"): "{AA-3}",
        (CARDS + r"\0007", "DeviceInstanceID"): r"BTH\MS_BTHPAN\7",
        (CARDS + r"\0007", "Characteristics"): 4,
        (CARDS + r"\0008", "NetCfgInstanceId"): "{AA-4}",
        (CARDS + r"\0008", "DeviceInstanceID"): r"ROOT\VMS_MP\0000",
        (CARDS + r"\0008", "Characteristics"): 1,
        (ENUM + r"\PCI\VEN_8086&DEV_1521\3&1", "Service"): "e1rexpress",
    }
    return machine


def card(guid: str, name: str, mac: str, addresses: List[Any], gateway: str) -> Dict[str, Any]:
    gateways = [gateway] if gateway else []
    told = {"guid": guid, "name": name, "description": name, "mac": mac, "kind": 6}
    return {**told, "addresses": addresses, "gateways": gateways}


def test_facts_of_a_server() -> None:
    machine = server()
    facts = machine_facts(machine, see_disks(machine))

    assert read_machine(facts.to_json()) == facts
    assert (facts.hostname, facts.system) == ("DC01", "Windows Server 2022 Standard 21H2")
    assert (facts.kernel, facts.firmware) == ("10.0.20348.2700", "uefi")
    assert (facts.vendor, facts.product) == ("Dell Inc.", "PowerEdge T340")
    assert (facts.smbios_serial, facts.smbios_uuid[:8]) == ("H1Y2Z33", "4c4c4544")
    assert (facts.gateway, facts.ports) == ("198.51.100.1", [445, 3389])
    assert facts.nics == [
        Nic("Ethernet", "00:1b:21:aa:bb:cc", "e1rexpress", ["198.51.100.7/24"], []),
        Nic("Ethernet 2", "00:1b:21:aa:bb:dd", "", ["203.0.113.9/25"], ["203.0.113.9/25"]),
    ]
    first, second = facts.disks
    assert (first.name, first.size, first.table) == ("PhysicalDrive0", 2000 * MIB, "gpt")
    assert (first.model, first.serial, first.driver) == ("PERC H730", "00a1", "megasas2")
    assert first.partitions == [
        Partition(1, MIB, 100 * MIB, ESP, "vfat", "ABCD-1234", "", OWN[0]),
        Partition(2, 101 * MIB, 16 * MIB, MSR, "", "", "", OWN[1]),
        Partition(
            *(4, 117 * MIB, 1000 * MIB, DATA, "ntfs", "0000000000C0FFEE", "System", OWN[2], "C:\\"),
            encrypted="BitLocker",
        ),
        Partition(
            *(5, 1117 * MIB, 500 * MIB, DATA, "BitLocker", "", "", OWN[3], "L:\\"),
            encrypted="BitLocker",
        ),
    ]
    assert (second.driver, second.table) == ("storahci", "dos")
    assert second.partitions[0].mountpoint == "D:\\"
    assert second.partitions[0].part_uuid == "0000cafe-01"
    assert not any(one.open for one in machine.handles)


def test_sticks_and_opened_images_are_not_replicated() -> None:
    machine = server()
    machine.devices[3] = disk(of_bytes(b""), 50 * MIB, w.mbr_layout(1, []), bus=15)
    machine.devices[4] = disk(of_bytes(b""), 0, w.mbr_layout(1, []))
    machine.devices[5] = Device(of_bytes(b""), 0, refused=21)
    assert [one.number for one in see_disks(machine)] == [0, 1]
    assert [one.number for one in see_disks(machine, [r"\\.\PHYSICALDRIVE2", "1"])] == [2, 1]


@pytest.mark.parametrize("name", ["9", "C:", r"\\.\PhysicalDrive0\x", "", "/dev/sda"])
def test_a_disk_that_is_none(name: str) -> None:
    with pytest.raises(NotfallError) as caught:
        see_disks(server(), [name])
    assert caught.value.code == "unknown-disk"


def test_a_disk_that_cannot_be_read_is_an_error() -> None:
    machine = server()
    machine.devices[1].refused = 5
    with pytest.raises(NotfallError) as caught:
        see_disks(machine)
    assert caught.value.code == "windows-refused"


def test_a_volume_that_cannot_be_asked_is_an_error() -> None:
    """Taken for not mounted, it would be read while it is written."""
    machine = server()
    machine.mounted["\\\\?\\Volume{d}\\"].device.refused = 32  # somebody has it for himself
    with pytest.raises(NotfallError, match="Windows error 32") as caught:
        see_volumes(machine)
    assert caught.value.retry


def test_a_volume_in_memory_is_none() -> None:
    machine = server()
    del machine.mounted["\\\\?\\Volume{d}\\"].device.answers[VOLUME_GET_VOLUME_DISK_EXTENTS]
    assert [one.places for one in see_volumes(machine)] == [(), ("C:\\",), ("L:\\",)]


def test_protected_disks_have_boot_areas() -> None:
    protected = [protected_of(one) for one in see_disks(server())]
    assert protected[0].path == r"\\.\PhysicalDrive0"
    assert [one.number for one in protected[0].volumes] == [1, 2, 4, 5]
    assert protected[0].boot_areas() == ((0, 16), (31999, 1))


def test_data_elsewhere_is_told() -> None:
    machine = server()
    facts = machine_facts(machine, see_disks(machine, ["0"]))
    assert facts.outside == ["D:\\ (NTFS)"]


def test_windows_11_calls_itself_10() -> None:
    machine = server()
    machine.registry[CURRENT, "ProductName"] = "Windows 10 Pro"
    machine.registry[CURRENT, "InstallationType"] = "Client"
    machine.registry[CURRENT, "CurrentBuildNumber"] = "22631"
    machine.registry[CURRENT, "DisplayVersion"] = "23H2"
    facts = machine_facts(machine, see_disks(machine))
    assert facts.system == "Windows 11 Pro 23H2"


# -- what is refused -----------------------------------------------------------------------------


def refusal(machine: Machine, names: Tuple[str, ...] = ()) -> NotfallError:
    with pytest.raises(NotfallError) as caught:
        check_fitness(see_disks(machine, names), see_volumes(machine))
    assert caught.value.code == "storage-not-supported"
    return caught.value


def test_an_ordinary_server_is_fit() -> None:
    machine = server()
    check_fitness(see_disks(machine), see_volumes(machine))


def test_dynamic_disks_are_refused() -> None:
    machine = server()
    table = w.mbr_layout(1, [(0x42, MIB, 300 * MIB), *[(0, 0, 0)] * 3])
    machine.devices[1] = disk(of_bytes(bytes(2 * MIB)), 400 * MIB, table)
    error = refusal(machine)
    assert "dynamic disk 1" in error.cause
    assert "basic" in error.remedy


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "dynamic disk 1"),
        ("af9b60a0-1431-4f62-bc68-3311714a69ad", "dynamic disk 1"),
        ("e75caf8f-f680-4cee-afa3-b001e56efc2d", "Disk 1 of a storage pool"),
    ],
)
def test_dynamic_and_pooled_disks_with_gpt_are_refused(kind: str, told: str) -> None:
    machine = server()
    table = w.gpt_layout(OWN[0], [(kind, OWN[1], MIB, 300 * MIB, "")])
    content = sparse({0: gpt_head([(1, kind, OWN[1])])})
    machine.devices[1] = disk(content, 400 * MIB, table)
    assert told in refusal(machine).cause


def test_storage_spaces_are_refused() -> None:
    machine = server()
    table = w.mbr_layout(0xCAFE, [(7, MIB, 300 * MIB), *[(0, 0, 0)] * 3])
    machine.devices[1] = disk(of_bytes(bytes(2 * MIB)), 400 * MIB, table, bus=16)
    assert "storage space on disk 1" in refusal(machine).cause


def test_clustered_volumes_are_refused() -> None:
    machine = server()
    machine.mounted["\\\\?\\Volume{d}\\"] = volume(
        of_bytes(bytes(4096)), [(1, MIB, 300 * MIB)], "CSVFS", "", ("D:\\",)
    )
    assert "clustered volume D:" in refusal(machine).cause


def test_a_volume_partly_elsewhere_is_refused() -> None:
    machine = server()
    machine.mounted["\\\\?\\Volume{d}\\"] = volume(
        of_bytes(bytes(4096)),
        [(1, MIB, 150 * MIB), (0, 1700 * MIB, 150 * MIB)],
        "NTFS",
        "",
        ("D:\\",),
    )
    assert "not protected" in refusal(machine, ("0",)).cause
    assert "several pieces" in refusal(machine).cause


def test_states_that_matter_on_the_worst_day() -> None:
    machine = Machine()
    assert find_conditions(machine) == []
    control = r"SYSTEM\CurrentControlSet\Control"
    servicing = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"
    machine.registry = {
        (rf"{servicing}\RebootPending", ""): "",
        (CURRENT, "ProductId"): "00325-80000-00000-AAOEM",
        (rf"{control}\ProductOptions", "ProductType"): "LanmanNT",
        (rf"{control}\Power", "HibernateEnabled"): 1,
        (rf"{control}\Session Manager\Power", "HiberbootEnabled"): 1,
    }
    assert find_conditions(machine) == [REBOOT_PENDING, FAST_START, OEM_LICENCE, DOMAIN_CONTROLLER]
    machine.registry[rf"{control}\Power", "HibernateEnabled"] = 0
    assert FAST_START not in find_conditions(machine)
    waits = r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired"
    machine.registry = {(waits, ""): ""}
    assert find_conditions(machine) == [REBOOT_PENDING]
