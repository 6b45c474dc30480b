"""How the LAN's bridge is made on this host, to be copied (pure).

The bridge takes over the card's addresses and its hardware address: so the router, and a DHCP
server with a reservation, go on knowing this host. STP is off, because with it a stand-in that
starts hears nothing for half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

from notfallserver.server.host.network import Link, Manager


@dataclass(frozen=True)
class Recipe:
    """``files``: path and what is written into it; ``command`` makes it hold."""

    manager: Manager
    files: tuple[tuple[str, str], ...]
    command: str


def bridge_recipe(manager: Manager, bridge: str, card: Link, gateways: tuple[str, ...]) -> Recipe:
    """The recipe for ``card`` to become a port of ``bridge``."""
    make = {
        Manager.IFUPDOWN: _ifupdown,
        Manager.NETPLAN: _netplan,
        Manager.NETWORKD: _networkd,
    }[manager]
    # What was leased is leased again; what is fixed is written down.
    fixed = () if card.leased else card.addresses
    return make(bridge, card, fixed, gateways)


def _ifupdown(bridge: str, card: Link, fixed: tuple[str, ...], gateways: tuple[str, ...]) -> Recipe:
    old = [one for one in fixed if ":" not in one]
    new = [one for one in fixed if ":" in one]
    lines = [f"auto {bridge}", f"iface {bridge} inet {'static' if old else 'dhcp'}"]
    if old:
        lines += [f"    address {one}" for one in old[:1]]
        lines += [f"    gateway {one}" for one in gateways if ":" not in one]
        lines += [f"    up ip address add {one} dev {bridge}" for one in old[1:]]
    lines += [f"    bridge_ports {card.name}", "    bridge_stp off", "    bridge_fd 0"]
    lines += [f"    bridge_hw {card.mac}"]
    if new:
        lines += [f"iface {bridge} inet6 static"]
        lines += [f"    address {one}" for one in new[:1]]
        lines += [f"    gateway {one}" for one in gateways if ":" in one]
        lines += [f"    up ip address add {one} dev {bridge}" for one in new[1:]]
    command = f"ifdown {card.name}; ip address flush dev {card.name}; ifup {bridge}"
    return Recipe(Manager.IFUPDOWN, (("/etc/network/interfaces", _text(lines)),), command)


def _netplan(bridge: str, card: Link, fixed: tuple[str, ...], gateways: tuple[str, ...]) -> Recipe:
    lines = ["network:", "  version: 2", "  ethernets:", f"    {card.name}:"]
    lines += ["      dhcp4: false", "      dhcp6: false", "  bridges:", f"    {bridge}:"]
    lines += [f"      interfaces: [{card.name}]", f'      macaddress: "{card.mac}"']
    if fixed:
        lines += [f"      addresses: [{', '.join(fixed)}]"]
        if gateways:
            lines += ["      routes:"]
        for one in gateways:
            lines += [f'        - to: "{"::/0" if ":" in one else "0.0.0.0/0"}"']
            lines += [f'          via: "{one}"']
    else:
        lines += ["      dhcp4: true"]
    lines += ["      parameters:", "        stp: false", "        forward-delay: 0"]
    path = "/etc/netplan/60-notfallserver.yaml"
    return Recipe(Manager.NETPLAN, ((path, _text(lines)),), f"chmod 600 {path}; netplan apply")


def _networkd(bridge: str, card: Link, fixed: tuple[str, ...], gateways: tuple[str, ...]) -> Recipe:
    device = ["[NetDev]", f"Name={bridge}", "Kind=bridge", f"MACAddress={card.mac}"]
    device += ["", "[Bridge]", "STP=no"]
    port = ["[Match]", f"Name={card.name}", "", "[Network]", f"Bridge={bridge}"]
    network = ["[Match]", f"Name={bridge}", "", "[Network]"]
    if fixed:
        network += [f"Address={one}" for one in fixed] + [f"Gateway={one}" for one in gateways]
    else:
        network += ["DHCP=yes"]
    place = "/etc/systemd/network/05-notfallserver"
    files = (
        (f"{place}.netdev", _text(device)),
        (f"{place}-port.network", _text(port)),
        (f"{place}.network", _text(network)),
    )
    return Recipe(Manager.NETWORKD, files, "networkctl reload")


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
