"""What is shut down before the last version is read: all that systemd itself would stop when the
machine goes down, but for what the line to the server and the disks need. Pure.

Whatever could still say yes to somebody is thus over, in the order that the units themselves name,
and has written what it had in memory. Units of the early boot stay (they have no default
dependencies), and so do those that make the network: they come before ``network.target``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import FrozenSet, Iterable, List, Sequence

KINDS = ("service", "socket", "timer", "path", "scope")
PROPERTIES = "Id,Before,DefaultDependencies,ActiveState,CanStop"
_NETWORK = frozenset({"network-pre.target", "network.target", "network-online.target"})
_ACTIVE = ("active", "activating", "reloading")

_KEPT = (
    *("init.scope", "dbus*", "polkit.service", "auditd.service"),
    *("NetworkManager*", "networking.service", "network.service", "ifup@*", "dhclient*"),
    *("dhcpcd*", "wpa_supplicant*", "connman*", "wicked*", "netplan-*", "openvswitch*", "ovs*"),
    *("nftables*", "iptables*", "ip6tables*", "netfilter-persistent*", "firewalld*", "ufw*"),
    *("wg-quick@*", "openvpn*", "strongswan*", "ipsec*", "tailscaled*", "zerotier*"),
    *("lvm2-*", "dm-event*", "mdmonitor*", "multipathd*", "iscsi.service", "iscsid*"),
    *("open-iscsi*", "qemu-guest-agent*", "open-vm-tools*", "vmtoolsd*"),
)


@dataclass(frozen=True)
class Unit:
    """One that is loaded; ``early``: it belongs to the beginning of the boot."""

    name: str
    active: bool
    early: bool
    before: FrozenSet[str]
    can_stop: bool


def read_units(text: str) -> List[Unit]:
    """What ``systemctl show`` printed of several units, an empty line between two."""
    found = []
    for block in text.strip().split("\n\n"):
        told = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if not told.get("Id"):
            continue
        found.append(
            Unit(
                told["Id"],
                told.get("ActiveState") in _ACTIVE,
                told.get("DefaultDependencies") == "no",
                frozenset(told.get("Before", "").split()),
                told.get("CanStop") != "no",
            )
        )
    return found


def is_kept(unit: Unit, kept: Sequence[str]) -> bool:
    """Whether it works on; ``kept``: patterns beside those that are always kept."""
    ours = unit.name.startswith("systemd-") and not unit.name.startswith("systemd-nspawn@")
    named = any(fnmatchcase(unit.name, one) for one in (*_KEPT, *kept))
    # Sessions, containers and guests are scopes, whatever they depend on.
    early = unit.early and not unit.name.endswith(".scope")
    return ours or named or early or bool(unit.before & _NETWORK) or not unit.can_stop


def to_stop(units: Iterable[Unit], kept: Sequence[str]) -> List[str]:
    """The names of those that are shut down."""
    return [one.name for one in units if one.active and not is_kept(one, kept)]


def to_start(stopped: Iterable[str]) -> List[str]:
    """Of those that were to be stopped, all that can be started again: scopes (sessions,
    containers) are made by others. Also those that still run: they may be about to stop."""
    return [one for one in stopped if not one.endswith(".scope")]


def own_unit(cgroups: str) -> str:
    """The unit of a process, from what ``/proc/PID/cgroup`` says; empty if it is in none."""
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd"):
            for part in reversed(path.split("/")):
                if part.rpartition(".")[2] in ("service", "scope"):
                    return part
    return ""
