"""The network configurations of the matrix: what a system is given, and what must answer then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from notfall_lab.guest_tree import chroot, write_file
from notfall_lab.matrix.case import Case

TAG = 5
"""Of the VLAN."""


@dataclass(frozen=True)
class Card:
    """``mac`` is the target's, ``old`` the one that the system was installed with."""

    name: str
    mac: str
    old: str


@dataclass(frozen=True)
class Wiring:
    """The place of a case in the lab's LAN; ``host`` is its last byte."""

    network: str  # "10.77.9"
    host: int
    cards: tuple[Card, ...]

    @property
    def address(self) -> str:
        return f"{self.network}.{self.host}"

    @property
    def tagged(self) -> str:
        """Its address in the VLAN."""
        return f"10.99.{TAG}.{self.host}"

    @property
    def gateway(self) -> str:
        return f"{self.network}.254"


def wire(case: Case, network: str, host: int) -> Wiring:
    names = {"eth0": ["eth0"], "udev-rules": ["lan"], "netplan": ["lan"]}.get(
        case.network, ["ens18", "ens19"] if case.network.endswith("bond") else ["ens18"]
    )
    cards = []
    for number, name in enumerate(names):
        old = f"52:54:00:76:{number:02x}:{host:02x}"
        new = old if case.role == "stand-in" else f"52:54:00:77:{number:02x}:{host:02x}"
        cards.append(Card(name, new, old))
    return Wiring(network, host, tuple(cards))


def leased(case: Case) -> bool:
    return case.network in ("ifupdown-dhcp", "networkd-mac", "nm-mac")


def tagged(case: Case) -> bool:
    return case.network.endswith("vlan")


def kernel_words(case: Case) -> list[str]:
    return ["net.ifnames=0"] if case.network == "eth0" else []


def configure(tree: Path, case: Case, wiring: Wiring) -> None:
    """Only the case's own service runs the network."""
    service = case.network.partition("-")[0]
    write_file(tree / "etc/resolv.conf", f"nameserver {wiring.gateway}")
    write_file(tree / "etc/network/interfaces", "auto lo\niface lo inet loopback")
    owners = {"nm": "NetworkManager", "networkd": "systemd-networkd", "netplan": "systemd-networkd"}
    owner = owners.get(service, "networking")
    for one in ("NetworkManager", "systemd-networkd", "networking"):
        chroot(tree, "systemctl", "enable" if one == owner else "disable", f"{one}.service")
    _WRITERS.get(service, _ifupdown)(tree, case, wiring)


def _ifupdown(tree: Path, case: Case, wiring: Wiring) -> None:
    name = wiring.cards[0].name
    static = f"\taddress {wiring.address}/24\n\tgateway {wiring.gateway}\n"
    text = {
        "ifupdown-dhcp": f"allow-hotplug {name}\niface {name} inet dhcp\n",
        "ifupdown-bridge": f"iface {name} inet manual\n\nauto br0\niface br0 inet static\n{static}"
        f"\tbridge_ports {name}\n\tbridge_stp off\n\tbridge_fd 0\n",
        "ifupdown-vlan": f"auto {name}\niface {name} inet static\n{static}\nauto {name}.{TAG}\n"
        f"iface {name}.{TAG} inet static\n\taddress {wiring.tagged}/24\n",
    }.get(case.network, f"allow-hotplug {name}\niface {name} inet static\n{static}")
    write_file(tree / "etc/network/interfaces", f"auto lo\niface lo inet loopback\n\n{text}")
    if case.network == "udev-rules":
        write_file(
            tree / "etc/udev/rules.d/70-persistent-net.rules",
            f'SUBSYSTEM=="net", ACTION=="add", ATTR{{address}}=="{wiring.cards[0].old}", '
            f'ATTR{{type}}=="1", NAME="{name}"',
        )


def _networkd(tree: Path, case: Case, wiring: Wiring) -> None:
    folder = tree / "etc/systemd/network"
    static = f"[Network]\nAddress={wiring.address}/24\nGateway={wiring.gateway}\nIPv6AcceptRA=no\n"
    name = wiring.cards[0].name
    if case.network == "networkd-bond":
        write_file(
            folder / "20-bond.netdev",
            "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nMode=active-backup",
        )
        names = " ".join(one.name for one in wiring.cards)
        write_file(folder / "30-ports.network", f"[Match]\nName={names}\n\n[Network]\nBond=bond0")
        write_file(folder / "40-bond.network", f"[Match]\nName=bond0\n\n{static}")
    elif case.network == "networkd-vlan":
        write_file(
            folder / "20-vlan.netdev", f"[NetDev]\nName=office\nKind=vlan\n\n[VLAN]\nId={TAG}"
        )
        write_file(folder / "30-lan.network", f"[Match]\nName={name}\n\n{static}VLAN=office")
        write_file(
            folder / "40-vlan.network",
            f"[Match]\nName=office\n\n[Network]\nAddress={wiring.tagged}/24",
        )
    elif case.network == "networkd-mac":
        match = f"[Match]\nMACAddress={wiring.cards[0].old}\n"
        write_file(folder / "30-lan.network", f"{match}\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no")
    else:
        write_file(folder / "30-lan.network", f"[Match]\nName={name}\n\n{static}")


def _network_manager(tree: Path, case: Case, wiring: Wiring) -> None:
    card = wiring.cards[0]
    if case.network == "nm-mac":
        ethernet, ip = f"[ethernet]\nmac-address={card.old.upper()}\n", "method=auto\n"
    else:
        ethernet = ""
        ip = f"method=manual\naddress1={wiring.address}/24,{wiring.gateway}\n"
    named = "" if case.network == "nm-mac" else f"interface-name={card.name}\n"
    place = tree / "etc/NetworkManager/system-connections/lan.nmconnection"
    write_file(
        place,
        "[connection]\nid=lan\nuuid=77000000-1111-4222-8333-444455556666\ntype=ethernet\n"
        f"{named}\n{ethernet}\n[ipv4]\n{ip}\n[ipv6]\nmethod=disabled",
    )
    place.chmod(0o600)


def _netplan(tree: Path, case: Case, wiring: Wiring) -> None:
    card = wiring.cards[0]
    place = tree / "etc/netplan/50-lan.yaml"
    write_file(
        place,
        "network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    lan:\n      match:\n"
        f"        macaddress: '{card.old}'\n      set-name: {card.name}\n"
        f"      addresses: [{wiring.address}/24]\n      routes:\n"
        f"        - to: 0.0.0.0/0\n          via: {wiring.gateway}",
    )
    place.chmod(0o600)


_WRITERS: dict[str, Callable[[Path, Case, Wiring], None]] = {
    "networkd": _networkd,
    "nm": _network_manager,
    "netplan": _netplan,
}
