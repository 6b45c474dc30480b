"""What a system of the matrix tells when it is up, and what it must have told."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

from notfall_lab.machine import Machine
from notfall_lab.matrix import networks
from notfall_lab.matrix.case import PASSPHRASE, Case
from notfall_lab.matrix.layout import LESS, MORE, lay_out
from notfall_lab.matrix.networks import Wiring
from notfall_lab.matrix.tagged import answers_tagged
from notfall_lab.namespace import BRIDGE, Network, sh

BOOT_S = 420.0
ADDRESS_S = 60.0
_PROMPT = r"(?i)(please unlock disk|please enter passphrase|enter passphrase for)"
_PROMPT_S = 300.0
_DEGRADED = ("[U_]", "[_U]")


class NotProven(Exception):
    """The system did not come up as it should; the text says what was missing."""


@dataclass
class Told:
    lines: list[tuple[str, str]] = field(default_factory=list)

    def all(self, kind: str) -> list[str]:
        return [text for word, text in self.lines if word == kind]

    def one(self, kind: str) -> str:
        return next(iter(self.all(kind)), "")


def read(output: str) -> Told:
    found = re.findall(r"proof (\w+) ?([^\r\n]*)", output)
    return Told([(word, text.strip()) for word, text in found])


def prove(case: Case, wiring: Wiring, machine: Machine, network: Network, role: str) -> str:
    """Wait for the proof on the console; returns what is worth knowing, raises NotProven."""
    if case.encrypted:
        _unlock(case, machine)
    try:
        machine.wait_console(r"proof end", BOOT_S)
    except TimeoutError as error:
        raise NotProven(f"it did not come up: ...{_tail(str(error))}") from None
    told = read(machine.output())
    _check_system(case, told, role)
    _check_network(case, wiring, machine, network)
    return told.one("kernel")


def _unlock(case: Case, machine: Machine) -> None:
    if "screen" in case.odd:
        # the prompt is on the screen only; typed again until the system goes on
        until = time.monotonic() + BOOT_S
        machine.wait_console(r".", BOOT_S)
        while not read(machine.output()).one("begin"):
            if time.monotonic() > until:
                return
            time.sleep(20)
            _type(machine, PASSPHRASE)
        return
    try:
        machine.wait_console(_PROMPT, _PROMPT_S)
    except TimeoutError as error:
        raise NotProven(f"it did not ask for the key: ...{_tail(str(error))}") from None
    time.sleep(1)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(machine.directory / "console.sock"))
        line.sendall(PASSPHRASE.encode() + b"\r")
        time.sleep(1)


def _type(machine: Machine, text: str) -> None:
    """On the keyboard."""
    for letter in [*text, "ret"]:
        key = "spc" if letter == " " else letter
        machine.qmp.call("send-key", keys=[{"type": "qcode", "data": key}])
        time.sleep(0.05)


def _check_system(case: Case, told: Told, role: str) -> None:
    missing = []
    mounts = {line.split()[0]: line.split() for line in told.all("mount")}
    root = mounts.get("/", ["/", "", ""])
    if root[2] != case.filesystem:
        missing.append(f"the root is {root[1:]}")
    wanted = {"lvm": "vg0-root", "luks": "secret", "luks-lvm": "vg0-root", "raid": "/dev/md"}
    if wanted.get(case.stack, "/dev/") not in root[1]:
        missing.append(f"the root is on {root[1]}")
    if case.apart and "/boot" not in mounts:
        missing.append("/boot is not mounted")
    if case.uefi and "/boot/efi" not in mounts:
        missing.append("/boot/efi is not mounted")
    if "data" in case.odd and not ("/srv" in mounts and told.one("data")):
        missing.append("/srv is not mounted")
    if not told.all("swap"):
        missing.append("no swap")
    if case.stack == "raid" and case.onto == "one" and told.one("members") not in _DEGRADED:
        missing.append(f"the array is {told.one('members')}, not degraded")
    if case.stack == "raid" and case.onto != "one" and told.one("arrays") != "1":
        missing.append("the array has not both members")
    missing += _wrong_size(case, int(told.one("size") or 0))
    if case.target_firmware == "secure" and told.one("secure") != "1":
        missing.append("Secure Boot is off")
    if told.one("role") != role:
        missing.append(f"the agent's role is '{told.one('role')}'")
    if told.all("failed"):
        missing.append(f"failed: {', '.join(told.all('failed'))}")
    if missing:
        raise NotProven("; ".join(missing))


def _wrong_size(case: Case, size: int) -> list[str]:
    """``size`` is of the root filesystem; its own structures take some of its partition."""
    was = lay_out(case).part("root").size
    grown = case.onto == "larger" and case.stack != "raid"  # an array's size stays
    if grown and not was + MORE * 0.8 < size <= was + MORE:
        return [f"the root has not grown: {size >> 20} MiB, {was >> 20} on the original"]
    if case.onto == "smaller" and not was - LESS * 1.4 < size <= was - LESS * 0.9:
        return [f"the root is not smaller: {size >> 20} MiB, {was >> 20} on the original"]
    return []


def _check_network(case: Case, wiring: Wiring, machine: Machine, network: Network) -> None:
    names = {line.split()[0] for line in read(machine.output()).all("card")}
    wanted = {one.name for one in wiring.cards}
    if not wanted <= names:
        raise NotProven(f"its cards are called {sorted(names)}, not {sorted(wanted)}")
    until = time.monotonic() + ADDRESS_S
    span = ip_network(f"{wiring.network}.0/24")
    while True:
        addresses = {line.split()[1] for line in read(machine.output()).all("address")}
        own = [one.split("/")[0] for one in addresses]
        here = [one for one in own if ip_address(one) in span]
        if not networks.leased(case):
            here = [wiring.address]
        if here and _pings(network, here[0]):
            break
        if time.monotonic() > until:
            raise NotProven(f"the network does not answer; it has {sorted(addresses)}")
        time.sleep(1)
    if networks.tagged(case) and not answers_tagged(
        network.namespace(), BRIDGE, wiring.tagged, networks.TAG, ADDRESS_S
    ):
        raise NotProven(f"{wiring.tagged} does not answer in the VLAN")


def _pings(network: Network, address: str) -> bool:
    told = sh(*network.inside("server", "ping", "-c1", "-W2", address), ok=(0, 1, 2))
    return "1 received" in told


def _tail(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [one.strip() for one in plain.splitlines() if one.strip()]
    return " | ".join(lines[-8:])[-900:]


def keep_console(machine: Machine, place: Path) -> None:
    """For whoever wants to see why."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(machine.output())
