"""The target's program: code, console, disks it may touch, hardware, orders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notfallserver.guest.hardware import own_hardware
from notfallserver.rescue.console import Console, View, paint
from notfallserver.rescue.network import FixedAddress, fixed_address, kernel_parameters
from notfallserver.rescue.pull import HeldIndex
from notfallserver.rescue.secret import new_secret, pairing_code
from notfallserver.rescue.targets import TargetDisk, read_disks, refuse_other
from notfallserver.wire.blocks import HASH, HOLE
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Nic, Partition, read_machine

HERE = Machine(
    hostname="notfall-rescue",
    disks=[
        Disk("nvme0n1", 9 << 30, serial="N1", driver="nvme"),
        Disk("sda", 9 << 30, driver="ahci"),
    ],
    nics=[Nic("enp1s0", "aa:00:00:00:00:01", "e1000e"), Nic("enp2s0", "52:54:00:00:00:02", "igb")],
)


def test_the_code_belongs_to_the_secret() -> None:
    secret = new_secret()
    assert len(secret) == 64 and int(secret, 16) >= 0
    assert len(pairing_code(secret)) == 8
    assert pairing_code("ab" * 32) == pairing_code("ab" * 32) != pairing_code(secret)


def test_kernel_parameters_give_a_fixed_address() -> None:
    told = kernel_parameters("quiet notfall.ip=10.0.0.2/24,10.0.0.1 notfall.server=https://a:1 x=y")
    assert told == {"ip": "10.0.0.2/24,10.0.0.1", "server": "https://a:1"}
    assert fixed_address(told["ip"]) == FixedAddress("10.0.0.2/24", "10.0.0.1")
    with pytest.raises(NotfallError):
        fixed_address("10.0.0.2")


def view(progress: str = "") -> View:
    disk = Disk(
        "sda", 8 << 30, serial="S-1", table="dos", partitions=[Partition(1, 0, 9, "", "ext4")]
    )
    return View("ABCD2345", ["https://h:1"], "", Machine("x", disks=[disk]), "waiting", progress)


def test_the_console_shows_code_and_disks_and_repeats_only_progress(tmp_path: Path) -> None:
    screen, serial = tmp_path / "screen", tmp_path / "serial"
    console = Console(screen, serial)
    console.show(view())
    console.show(view())
    text = serial.read_text()
    assert text.count("ABCD2345") == 1
    assert "serial S-1" in text and "dos: ext4" in text
    assert "ABCD2345" in screen.read_text()
    Console(tmp_path / "no/screen", tmp_path / "no/serial").show(view())  # which is no failure
    assert "none found" in paint(View("C", [], "", Machine("x"), "waiting"))


def test_only_the_confirmed_disk_is_accepted() -> None:
    wanted = TargetDisk(0, "sda", "S-1", 1 << 30)
    refuse_other(wanted, Disk("sda", 1 << 30, serial="S-1"))
    for other in (Disk("sda", 1 << 30, serial="S-2"), Disk("sda", 2 << 30, serial="S-1")):
        with pytest.raises(NotfallError) as caught:
            refuse_other(wanted, other)
        assert caught.value.code == "disk-changed"


@pytest.mark.parametrize(
    "disks",
    [
        [],
        [{"index": 1, "name": "sda", "serial": "", "size": 1}],
        [{"index": 0, "name": "../sda", "serial": "", "size": 1}],
        [{"index": n, "name": "sda", "serial": "", "size": 1} for n in (0, 1)],
        [{"index": 0, "name": "sda"}],
    ],
)
def test_unclear_orders_are_refused(disks: list[dict[str, object]]) -> None:
    with pytest.raises(NotfallError):
        read_disks({"disks": disks})


def test_what_differs_is_fetched_or_zeroed() -> None:
    held = HeldIndex(4)
    one, two = b"1" * HASH, b"2" * HASH
    wanted = one + two + HOLE + HOLE
    held[0], held[2], held[3] = one, two, HOLE
    assert held.differing(wanted) == ([1], [2])


def test_cards_keep_their_own_address_or_follow_in_order() -> None:
    original = Machine(
        hostname="shop",
        nics=[
            Nic("ens3", "52:54:00:00:00:01", "virtio_net"),
            Nic("br0", "52:54:00:00:00:01", "bridge"),
            Nic("ens4", "52:54:00:00:00:02", "virtio_net"),
        ],
    )
    found = own_hardware(original, HERE, ["sda", "nvme0n1"], "recovery-1")
    assert [(nic.name, nic.mac, nic.old_mac) for nic in found.nics] == [
        ("ens3", "aa:00:00:00:00:01", "52:54:00:00:00:01"),
        ("ens4", "52:54:00:00:00:02", "52:54:00:00:00:02"),
    ]
    assert [disk.driver for disk in found.disks] == ["ahci", "nvme"]
    assert (found.role, found.recovery) == ("primary", "recovery-1")


def test_the_machine_survives_the_wire() -> None:
    assert read_machine(json.loads(json.dumps(HERE.to_json()))) == HERE
