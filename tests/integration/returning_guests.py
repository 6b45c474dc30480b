"""The returning original with other firmware and whatever sets up its network; by hand, as root:
``PYTHONPATH=lab:tests/integration python tests/integration/returning_guests.py [PATTERN ...]``.

Some minutes for each guest, which is why ``make test`` has only one (``test_agent_fence.py``). What
the guest sends is looked at on its cable: until its stand-in is gone there may be nothing of its
addresses. The guest tells when its units worked, and how long the start of the fence's program
takes; ``OLD_AGENT`` names another agent.pyz to compare it with, ``KEEP`` a folder for the consoles.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from fnmatch import fnmatch
from ipaddress import IPv4Address
from pathlib import Path

from test_agent_fence import Server, install_agent

from notfall_lab.guest_tree import loop_part, mounted, write_file
from notfall_lab.machine import HardDisk, Hardware, Machine
from notfall_lab.matrix.assemble import assemble
from notfall_lab.matrix.case import Case
from notfall_lab.matrix.networks import wire
from notfall_lab.namespace import Network, sh
from notfall_lab.own_lab import own_network
from notfall_lab.patience import BOOT_S, until_soon
from notfallserver.agent.fence import own
from notfallserver.server.host.namespace import in_namespace

CASES = (
    Case("f12-networkd", network="networkd"),
    Case("f13-nm-uefi", suite="trixie", firmware="uefi", table="gpt", network="nm"),
    Case("f12-netplan-uefi", firmware="uefi", table="gpt", network="netplan"),
    Case("f11-nm", suite="bullseye", network="nm"),
)
HOST = 40
_UNITS = "notfall-agent-fence systemd-networkd NetworkManager networking"
_TIMES = "InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic,ActiveState"
_TELL = f"""#!/bin/sh
systemctl is-system-running --wait >/dev/null
for unit in {_UNITS}; do
    printf 'tell %s %s\\n' $unit \
        "$(systemctl show $unit.service -p {_TIMES} | tr '\\n' ' ')" >/dev/ttyS0
done
journalctl -b -u notfall-agent-fence.service -o short-monotonic --no-pager >/dev/ttyS0
mkdir -p /run/empty
for turn in 1 2 3; do
    for one in /opt/old.pyz /opt/notfall-agent/agent.pyz; do
        [ -e $one ] || continue
        begun=$(date +%s%N)
        python3 -B $one guard-boot --config /run/empty 2>/dev/null
        printf 'took %s %s ms\\n' $one $((($(date +%s%N) - begun) / 1000000)) >/dev/ttyS0
    done
done
echo tell end >/dev/ttyS0
"""
_TELL_UNIT = """[Service]
ExecStart=/bin/sh /usr/local/lib/tell.sh
[Install]
WantedBy=multi-user.target
"""


class Cable:
    """What comes out of the guest's card."""

    def __init__(self, network: Network, tap: str) -> None:
        def listen() -> socket.socket:
            line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            line.bind((tap, 3))
            return line

        with open(f"/run/netns/{network.namespace()}", "rb") as place:
            self._line = in_namespace(place.fileno(), listen)
        self.sent: list[tuple[float, str]] = []
        self._begun = time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                frame, about = self._line.recvfrom(2048)
            except OSError:
                return  # the machine is off
            if about[2] == socket.PACKET_OUTGOING:
                continue  # to the guest
            self.sent.append((round(time.monotonic() - self._begun, 1), named(frame)))


def named(frame: bytes) -> str:
    mac, kind = frame[6:12].hex(":"), struct.unpack(">H", frame[12:14])[0]
    if kind == 0x0806:
        asker, asked = IPv4Address(frame[28:32]), IPv4Address(frame[38:42])
        return f"{mac} ARP from {asker} for {asked}"
    if kind == 0x0800:
        return f"{mac} IPv4 from {IPv4Address(frame[26:30])}"
    return f"{mac} {kind:#06x}"


def show(case: Case, folder: Path) -> None:
    with ExitStack() as stack:
        network = stack.enter_context(own_network("back", 100))
        wiring = wire(case, network.address(0).rpartition(".")[0], HOST)
        # As the kernel names it: this system was never adapted to other hardware.
        card = replace(wiring.cards[0], name="enp0s3")
        if case.network != "netplan":
            wiring = replace(wiring, cards=(card,))
        network.add_host("customer", 100)
        network.add_host("standin", HOST, card.mac)
        (folder / "server").mkdir()
        server = Server(folder / "server", network)
        stack.callback(server.close)
        begun = time.monotonic()
        made = assemble(case, wiring, folder)
        (folder / "tree").mkdir()
        name = wiring.cards[0].name
        known = own.Network(
            (own.Card(name, card.mac),),
            (own.Address(wiring.address, cards=(name,)),),
            frozenset([card.mac]),
            {server.url: tuple(server.near)},
        )
        with (
            loop_part(made.disks[0], made.layers.offset, made.layers.size) as device,
            mounted(device, folder / "tree"),
        ):
            tree = folder / "tree"
            install_agent(tree, server, known, [])
            if old := os.environ.get("OLD_AGENT"):
                shutil.copy(old, tree / "opt/old.pyz")
            write_file(tree / "usr/local/lib/tell.sh", _TELL)
            write_file(tree / "etc/systemd/system/tell.service", _TELL_UNIT)
            wants = tree / "etc/systemd/system/multi-user.target.wants"
            (wants / "tell.service").symlink_to("../tell.service")
            (wants / "proof.service").unlink()
        print(f"{case.name}: made in {time.monotonic() - begun:.0f} s", flush=True)
        hardware = Hardware(
            case.name,
            tuple(HardDisk(one) for one in made.disks),
            card.mac,
            firmware=case.firmware,
            memory=896,
        )
        machine = Machine(hardware, folder / "m", network.namespace())
        stack.enter_context(machine)
        try:
            _watch(case, network, server, machine, wiring.address)
        finally:
            keep = Path(os.environ.get("KEEP", tempfile.gettempdir())) / f"{case.name}.console"
            keep.write_text(machine.output())


def _watch(case: Case, network: Network, server: Server, machine: Machine, address: str) -> None:
    mac = machine.hardware.mac
    before = _taps(network)
    machine.power_on()
    begun = time.monotonic()
    until_soon(lambda: bool(_taps(network) - before), 20)
    cable = Cable(network, (_taps(network) - before).pop())
    machine.wait_console(f"answers at {address} .{mac}.", BOOT_S)
    print(f"{case.name}: says on the console that it keeps off", flush=True)
    machine.wait_console("KEEPS OFF THE NETWORK[^$]*login:", BOOT_S)
    until_soon(lambda: bool(server.kept_off), 180)
    assert server.kept_off[0]["because"] == "stand-in" and "poll" not in server.log
    print(f"{case.name}: told the server after {time.monotonic() - begun:.0f} s", flush=True)
    machine.wait_console("tell end", BOOT_S)
    for line in re.findall(
        r"(?:tell|took) [^\r\n]*|\[ *[0-9.]+\][^\r\n]*python3[^\r\n]*", machine.output()
    ):
        print(f"{case.name}: {line}", flush=True)
    sent = list(cable.sent)
    kinds: dict[str, list[float]] = {}
    for at, what in sent:
        kinds.setdefault(what, []).append(at)
    for what, times in kinds.items():
        print(f"{case.name}: sent {len(times)} x {what}, {times[0]} to {times[-1]} s", flush=True)
    used = re.compile(f"(ARP|IPv4) from {re.escape(address)}( |$)")
    assert not [what for what in kinds if used.search(what)]
    told = sh(*network.inside("customer", "ping", "-c1", "-W2", address), ok=(0, 1))
    assert "1 received" in told  # the stand-in still answers
    network.drop_host("standin")
    silent = sh(*network.inside("customer", "ping", "-c2", "-W2", address), ok=(0, 1, 2))
    assert " 0 received" in silent
    server.stay = False
    gone = time.monotonic()

    def back() -> bool:
        told = sh(*network.inside("customer", "ping", "-c1", "-W2", address), ok=(0, 1, 2))
        return "1 received" in told

    until_soon(back, 180)
    print(f"{case.name}: answers again after {time.monotonic() - gone:.0f} s", flush=True)
    until_soon(lambda: "poll" in server.log, 120)
    print(f"{case.name}: its agent calls the server. AS IT MUST BE", flush=True)


def _taps(network: Network) -> set[str]:
    told = sh("ip", "-n", network.namespace(), "-o", "link", "show", "type", "tun")
    return {line.split(":")[1].strip() for line in told.splitlines()}


def main(patterns: list[str]) -> None:
    for case in CASES:
        if any(fnmatch(case.name, one) for one in patterns or ["*"]):
            folder = Path(tempfile.mkdtemp(prefix="nfr-", dir="/var/tmp"))
            try:
                show(case, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
