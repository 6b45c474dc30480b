"""Interfaces keep their names, and configurations that look for a card's MAC find the new one.

Pure. The names are pinned by systemd ``.link`` files, which udev obeys both in the initramfs and
after it; they match the new and the old card, so the same image also boots on the old hardware.
Lines that *set* a MAC are left alone: they work with any card.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Tuple

from notfallserver.guest.facts import Hardware, HardwareNic

LINK_FOLDER = "/etc/systemd/network/"
LINK_PREFIX = LINK_FOLDER + "10-notfall-"
NETWORK_FOLDERS = (
    "/etc/network/",
    LINK_FOLDER,
    "/etc/netplan/",
    "/etc/NetworkManager/system-connections/",
    "/etc/sysconfig/network-scripts/",
    "/etc/udev/rules.d/",
)

_SETS_A_MAC = re.compile(r"^\s*(hwaddress|pre-up|up|cloned-mac-address|MACADDR)\b", re.I)


def link_text(nic: HardwareNic) -> str:
    addresses = " ".join(dict.fromkeys(one for one in (nic.mac, nic.old_mac) if one))
    return (
        "# Written by Notfallserver: the interface keeps the name it has on the original machine.\n"
        f"[Match]\nMACAddress={addresses}\nType=ether\n\n[Link]\nName={nic.name}\n"
    )


def network_edits(files: Mapping[str, str], hardware: Hardware) -> Dict[str, Tuple[str, str]]:
    """Path -> (new text, what changed)."""
    edits: Dict[str, Tuple[str, str]] = {}
    for nic in hardware.nics:
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,15}", nic.name) or not nic.mac:
            continue
        path = f"{LINK_PREFIX}{nic.name}.link"
        if files.get(path) != link_text(nic):
            edits[path] = (link_text(nic), f"network card {nic.mac} is called {nic.name}")
    moved = moved_addresses(hardware)
    for path, text in files.items():
        if not path.startswith(NETWORK_FOLDERS) or path.startswith(LINK_PREFIX):
            continue
        new = _with_moved_addresses(path, text, moved)
        if new != text:
            edits[path] = (new, f"{path}: MAC address of the new network card")
    return edits


def moved_addresses(hardware: Hardware) -> Dict[str, str]:
    """Old card's address -> new one's, where they differ."""
    moved = {nic.old_mac: nic.mac for nic in hardware.nics if nic.old_mac and nic.mac}
    return {old: new for old, new in moved.items() if old != new}


def _with_moved_addresses(path: str, text: str, moved: Mapping[str, str]) -> str:
    if not moved:
        return text
    pattern = re.compile("|".join(re.escape(old) for old in moved), re.I)
    lines: List[str] = []
    parents: List[Tuple[int, str]] = []
    section = ""
    for line in text.splitlines(keepends=True):
        found = re.match(r"\s*\[(\w[\w-]*)\]", line)
        section = found.group(1).lower() if found else section
        parents = _parents(parents, line) if path.startswith("/etc/netplan/") else parents
        if not _sets_mac(path, line, section, parents):
            line = pattern.sub(lambda match: moved[match.group(0).lower()], line)
        lines.append(line)
    return "".join(lines)


def _sets_mac(path: str, line: str, section: str, parents: List[Tuple[int, str]]) -> bool:
    if path.startswith("/etc/netplan/"):
        return "macaddress" in line.lower() and "match" not in [key for _, key in parents]
    if path.startswith(LINK_FOLDER):
        return section not in ("match", "")
    return _SETS_A_MAC.match(line) is not None


def _parents(parents: List[Tuple[int, str]], line: str) -> List[Tuple[int, str]]:
    """The YAML keys that enclose the next line, by indentation."""
    found = re.match(r"( *)([\w.-]+):", line)
    if not found:
        return parents
    depth = len(found.group(1))
    return [one for one in parents if one[0] < depth] + [(depth, found.group(2))]
