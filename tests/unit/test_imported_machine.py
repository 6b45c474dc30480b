"""What machine an image is of: from partition tables, from the system's files, from people."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from notfallserver.guest.identify import find_disk_names, find_network
from notfallserver.server.foreign.machine import Wish, describe_machine, own_mac
from notfallserver.server.foreign.tables import BIOS_BOOT, ESP, Layout, firmware_of, read_layout
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, Partition, read_machine

MIB = 1 << 20
UUID = "7d1f7c1e-0b1a-4a5e-9d3f-000000000001"


def layout_of(path: Path, table: str, size: int = 64 * MIB, code: bool = False) -> Layout:
    """Of a disk that sfdisk has partitioned; ``code``: its first sector starts something."""
    with path.open("wb") as stream:
        stream.truncate(size)
    subprocess.run(["/usr/sbin/sfdisk", "-q", str(path)], input=table, text=True, check=True)
    content = bytearray(path.read_bytes())
    if code:
        content[:3] = b"\xeb\x63\x90"
    return read_layout(len(content), lambda at, length: bytes(content[at : at + length]))


def starts(path: Path) -> list[tuple[int, int, int]]:
    told = subprocess.run(
        ["/usr/sbin/sfdisk", "--json", str(path)], capture_output=True, text=True, check=True
    )
    rows = json.loads(told.stdout)["partitiontable"]["partitions"]
    return [
        (int(one["node"].removeprefix(str(path))), one["start"] * 512, one["size"] * 512)
        for one in rows
    ]


ESP_GPT = "label: gpt\n,16M,U\n,16M,L\n"
HYBRID = "label: gpt\n,1M,21686148-6449-6E6F-744E-656564454649\n,16M,U\n,16M,L\n"
DOS = "label: dos\n,8M,83,*\n,8M,82\n,,5\n,4M,83\n,4M,8e\n"


@pytest.mark.parametrize(
    ("table", "code", "firmware"),
    [
        (ESP_GPT, False, "uefi"),
        (ESP_GPT, True, "uefi"),  # as Windows leaves it: nothing that could be started by it
        (HYBRID, True, "bios"),
        (HYBRID, False, "uefi"),
        (DOS, True, "bios"),
        ("label: dos\n,16M,ef\n,16M,83\n", False, "uefi"),
        ("label: dos\n,16M,ef\n,16M,83\n", True, "bios"),
    ],
)
def test_tables_are_read_as_sfdisk_reads_them(
    tmp_path: Path, table: str, code: bool, firmware: str
) -> None:
    disk = tmp_path / "disk"
    found = layout_of(disk, table, code=code)
    assert [(one.number, one.start, one.size) for one in found.partitions] == starts(disk)
    assert found.table == table.split()[1]
    assert (found.boot_code, firmware_of((found,))) == (code, firmware)


def test_a_gpt_whose_beginning_is_lost_is_read_from_its_end(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    whole = layout_of(disk, ESP_GPT)
    content = bytearray(disk.read_bytes())
    content[512:1024] = bytes(512)
    found = read_layout(len(content), lambda at, length: bytes(content[at : at + length]))
    assert found == whole
    short = content[: 20 * MIB]
    content[512:1024] = disk.read_bytes()[512:1024]
    with pytest.raises(NotfallError) as caught:
        read_layout(20 * MIB, lambda at, length: bytes(content[: len(short)][at : at + length]))
    assert caught.value.code == "image-cut-short"


def test_a_disk_without_a_table_may_hold_a_file_system_or_nothing() -> None:
    def read(content: bytes) -> Layout:
        return read_layout(len(content), lambda at, length: content[at : at + length])

    assert read(bytes(MIB)).empty
    (whole,) = read(b"XFSB" + bytes(MIB - 4)).partitions
    assert (whole.number, whole.start, whole.size, whole.filesystem) == (0, 0, MIB, "xfs")
    label = bytearray(MIB)
    label[512:520] = b"LABELONE"
    assert read(bytes(label)).partitions[0].filesystem == "LVM2_member"
    ntfs = bytearray(MIB)
    ntfs[3:11], ntfs[510:512] = b"NTFS    ", b"\x55\xaa"
    assert (read(bytes(ntfs)).table, read(bytes(ntfs)).partitions[0].filesystem) == ("", "ntfs")


@given(some.binary(max_size=2048), some.integers(0, 4096))
def test_rubbish_is_no_table(noise: bytes, at: int) -> None:
    content = bytearray(1 << 16)
    content[at : at + len(noise)] = noise
    content[510:512] = b"\x55\xaa"
    try:
        found = read_layout(1 << 16, lambda at, length: bytes(content[at : at + length]))
    except NotfallError as error:
        assert error.code == "image-cut-short"
        return
    assert all(one.start + one.size <= 1 << 16 for one in found.partitions)


# -- the system's files --------------------------------------------------------------------------


IFUPDOWN = """auto lo
iface lo inet loopback
allow-hotplug ens192
iface ens192 inet static
    address 198.51.100.7
    netmask 255.255.255.0
    gateway 198.51.100.1
iface ens192 inet6 static
    address 2001:db8::7/64
auto eth1
iface eth1 inet dhcp
"""
NETPLAN = """network:
  version: 2
  ethernets:
    ens160:
      match:
        macaddress: "00:50:56:AB:CD:EF"
      set-name: ens160
      addresses: [198.51.100.7/24, "2001:db8::7/64"]
      nameservers:
        addresses: [203.0.113.53]
      routes:
        - to: default
          via: 198.51.100.1
    ens192:
      addresses:
        - 203.0.113.7/24
      routes:
        - to: 10.0.0.0/8
          via: 203.0.113.1
  bridges:
    br0:
      interfaces: [ens160]
      addresses: [198.51.100.8/24]
"""
LINK = "[Match]\nMACAddress=00:50:56:aa:bb:cc\n[Link]\nName=eth0\n"
UNIT = "[Match]\nName=eth0\n[Network]\nAddress=198.51.100.7/24\n[Route]\nGateway=198.51.100.1\n"
KEYFILE = """[connection]
id=x
type=ethernet
interface-name=ens192
[ethernet]
mac-address=00:50:56:AA:BB:CC
[ipv4]
address1=198.51.100.7/24,198.51.100.1
method=manual
"""
IFCFG = (
    'DEVICE="eth0"\nHWADDR=00:50:56:AA:BB:CC\nIPADDR=198.51.100.7\nPREFIX=24\nGATEWAY=198.51.100.1'
)
RULE = 'SUBSYSTEM=="net", ATTR{address}=="00:50:56:aa:bb:cc", ATTR{type}=="1", NAME="eth0"\n'
MAC = "00:50:56:aa:bb:cc"
ONE = ("198.51.100.7/24",)


@pytest.mark.parametrize(
    ("files", "cards"),
    [
        (
            {"/etc/network/interfaces": IFUPDOWN},
            [("ens192", "", (*ONE, "2001:db8::7/64")), ("eth1", "", ())],
        ),
        (
            {"/etc/netplan/01.yaml": NETPLAN},
            [
                ("ens160", "00:50:56:ab:cd:ef", (*ONE, "2001:db8::7/64", "198.51.100.8/24")),
                ("ens192", "", ("203.0.113.7/24",)),
            ],
        ),
        (
            {"/etc/systemd/network/1.link": LINK, "/etc/systemd/network/2.network": UNIT},
            [("eth0", MAC, ONE)],
        ),
        ({"/etc/NetworkManager/system-connections/x": KEYFILE}, [("ens192", MAC, ONE)]),
        ({"/etc/sysconfig/network-scripts/ifcfg-eth0": IFCFG}, [("eth0", MAC, ONE)]),
        ({"/etc/udev/rules.d/70-persistent-net.rules": RULE}, [("eth0", MAC, ())]),
    ],
)
def test_cards_and_addresses_are_found_in_what_sets_them(
    files: dict[str, str], cards: list[tuple[str, str, tuple[str, ...]]]
) -> None:
    found = find_network(files)
    assert [(one.name, one.mac, one.addresses) for one in found.cards] == cards
    assert found.gateway == ("" if "rules" in next(iter(files)) else "198.51.100.1")


@given(some.text(max_size=400))
def test_any_text_is_survived(text: str) -> None:
    folders = ("/etc/network/i", "/etc/netplan/n", "/etc/systemd/network/a.network")
    more = ("/etc/NetworkManager/system-connections/c", "/etc/sysconfig/network-scripts/ifcfg-x")
    find_network(dict.fromkeys((*folders, *more, "/etc/udev/rules.d/r"), text))
    find_network(dict.fromkeys(folders, NETPLAN.replace("ens160", text)))


def test_how_a_system_calls_its_disks() -> None:
    assert find_disk_names(["UUID=1 / ext4\n", "# /dev/sda1\n/dev/vda2 none swap\n"]) == "vd"
    assert find_disk_names(["/dev/nvme0n1p2 / ext4"]) == "nvme"
    assert find_disk_names(["/dev/mapper/x / ext4"]) == ""


# -- all together --------------------------------------------------------------------------------


def described(wish: Wish, told: Mapping[str, object], before: Machine | None = None) -> Machine:
    layouts = [read_layout(MIB, lambda at, length: bytes(length)) for _ in range(2)]
    machine = describe_machine(UUID, "shop", layouts, wish.check(), told, before)
    assert read_machine(machine.to_json()) == machine
    return machine


def test_what_nobody_tells_gets_what_a_stand_in_can_work_with() -> None:
    machine = described(Wish(), {})
    assert (machine.hostname, machine.cpus, machine.memory >> 30) == ("shop", 2, 4)
    assert [one.name for one in machine.disks] == ["sda", "sdb"]
    (card,) = machine.nics
    assert (card.name, card.mac, card.addresses) == ("", own_mac(UUID, 0), [])


def test_people_come_before_images_and_those_before_what_was() -> None:
    told = {
        "hostname": "shop.example",
        "disks": "vd",
        "gateway": "198.51.100.1",
        "nics": [{"name": "ens160", "mac": MAC, "addresses": list(ONE)}],
    }
    first = described(Wish(memory=8 << 30, ports=(443, 22)), told)
    assert (first.hostname, first.gateway, first.ports) == (
        "shop.example",
        "198.51.100.1",
        [22, 443],
    )
    assert [(one.name, one.driver) for one in first.disks] == [
        *(("vda", "virtio_blk"), ("vdb", "virtio_blk")),
    ]
    assert [(one.name, one.mac, one.addresses) for one in first.nics] == [("ens160", MAC, [*ONE])]
    again = described(Wish(cpus=4), {}, first)  # the appliance was not there
    assert (again.memory, again.cpus, again.nics, again.disks[0].name) == (
        *(8 << 30, 4, first.nics, "vda"),
    )
    wish = Wish(macs=("52-54-00-00-00-01",), addresses=("203.0.113.4/24",), firmware="uefi")
    said = described(wish, told, first)
    assert said.firmware == "uefi"
    assert [(one.name, one.mac, one.addresses) for one in said.nics] == [
        ("ens160", "52:54:00:00:00:01", ["203.0.113.4/24"])
    ]


def test_bios_is_refused_for_what_only_uefi_can_start() -> None:
    esp = Partition(1, MIB, MIB, kind=ESP)
    only = Layout(4 * MIB, table="gpt", partitions=(esp,), boot_code=True)
    place = replace(only, partitions=(esp, Partition(2, 2 * MIB, MIB, kind=BIOS_BOOT)))
    with pytest.raises(NotfallError) as refused:
        describe_machine(UUID, "shop", [only], Wish(firmware="bios"), {}, None)
    assert refused.value.code == "no-boot-loader"
    for layout, firmware in ((only, "uefi"), (place, "bios")):
        said = describe_machine(UUID, "shop", [layout], Wish(firmware=firmware), {}, None)
        assert said.firmware == firmware


def test_what_was_said_once_holds_until_something_else_is_said() -> None:
    before = Wish(firmware="uefi", macs=(MAC,), addresses=(f"{MAC}=198.51.100.7/24",), cpus=2)
    now = Wish(cpus=4).over(Wish.from_json(json.loads(json.dumps(before.to_json()))))
    assert now.check() == Wish(
        **{**vars(before), "cpus": 4},
    )
    assert Wish().over(Wish()) == Wish()


def test_what_an_image_tells_is_not_believed_where_it_can_not_be() -> None:
    strange: tuple[Mapping[str, object], ...] = (
        {"nics": "x"},
        {"hostname": "x" * 1000},
        {"nics": [{"name": "e", "mac": "m", "addresses": ["nowhere"]}]},
        {"gateway": "x"},
        {"volumes": [7, {"disk": 0, "partition": 0, "label": "\n"}], "disks": 7},
    )
    for told in strange:
        assert described(Wish(), told) == described(Wish(), {})


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (Wish(firmware="efi"), "bad-firmware"),
        (Wish(macs=("01:00:5e:00:00:01",)), "bad-mac"),
        (Wish(macs=("52:54",)), "bad-mac"),
        (Wish(addresses=("shop.example",)), "bad-address"),
        (Wish(addresses=("52:54:00:00:00:01=198.51.100.7/24",)), "bad-mac"),
        (Wish(gateway="x"), "bad-address"),
    ],
)
def test_what_people_say_must_be_possible(wish: Wish, code: str) -> None:
    with pytest.raises(NotfallError) as caught:
        wish.check()
    assert caught.value.code == code
