"""What a system's own files tell of its machine: name, cards and their addresses, names of disks.

For images that no agent describes. Pure, from texts; what is not understood is left out. Bridges,
bonds and VLANs are no cards: their addresses are told with the first card.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

from notfallserver.guest.network import LINK_FOLDER

_CARD = re.compile(r"(eth\d+|en[a-z0-9]+|em\d+|p\d+p\d+|net\d+)(np?\d+)?")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_DISK = re.compile(r"/dev/(sd|vd|xvd|hd|nvme)[a-z0-9]")
_RULES = "/etc/udev/rules.d/"
_NETPLAN = "/etc/netplan/"
_MANAGER = "/etc/NetworkManager/system-connections/"
_IFCFG = "/etc/sysconfig/network-scripts/ifcfg-"
_IFUPDOWN = "/etc/network/"
MOST = 32


@dataclass
class Card:
    """``addresses`` with prefix length."""

    name: str
    mac: str = ""
    addresses: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    cards: Tuple[Card, ...] = ()
    gateway: str = ""


class _Found:
    """What the files told so far, in their order."""

    def __init__(self) -> None:
        self.cards: Dict[str, Card] = {}
        self.loose: List[str] = []
        self.gateway = ""

    def card(self, name: str, mac: str = "") -> None:
        if _CARD.fullmatch(name) and len(self.cards) < MOST:
            one = self.cards.setdefault(name, Card(name))
            plain = mac.lower().replace("-", ":")
            if _MAC.fullmatch(plain):
                one.mac = one.mac or plain

    def address(self, name: str, text: str) -> None:
        address = _address(text)
        if not address:
            return
        if name in self.cards:
            one = self.cards[name]
            if address not in one.addresses:
                one.addresses += (address,)
        elif address not in self.loose:
            self.loose.append(address)

    def way_out(self, text: str) -> None:
        address = _address(text)
        if address and not self.gateway:
            self.gateway = address.split("/")[0]


def find_network(files: Mapping[str, str]) -> Network:
    """``files``: texts by their path in the system."""
    found = _Found()
    for path in sorted(files):
        text = files[path]
        if path.startswith(_IFUPDOWN):
            _read_interfaces(text, found)
        elif path.startswith(_NETPLAN):
            _read_netplan(text, found)
        elif path.startswith(LINK_FOLDER):
            _read_networkd(text, found)
        elif path.startswith(_MANAGER):
            _read_manager(text, found)
        elif path.startswith(_IFCFG):
            _read_ifcfg(text, found)
        elif path.startswith(_RULES):
            _read_rules(text, found)
    cards = [found.cards[name] for name in sorted(found.cards, key=_order)]
    if cards and found.loose:
        cards[0].addresses += tuple(one for one in found.loose if one not in cards[0].addresses)
    return Network(tuple(cards), found.gateway)


def find_disk_names(texts: Sequence[str]) -> str:
    """How the system calls its disks (``sd``, ``vd``, ...) where its files name any; else empty."""
    for text in texts:
        for line in text.splitlines():
            match = None if line.lstrip().startswith("#") else _DISK.search(line)
            if match:
                return match.group(1)
    return ""


def _order(name: str) -> Tuple[Tuple[int, str], ...]:
    parts = re.findall(r"\d+|\D+", name)
    return tuple((int(one), "") if one.isdigit() else (-1, one) for one in parts)


def _address(text: str) -> str:
    try:
        found = ip_interface(text.strip().strip("\"'"))
    except ValueError:
        return ""
    useless = found.ip.is_loopback or found.ip.is_link_local or found.ip.is_unspecified
    return "" if useless else str(found)


def _read_interfaces(text: str, found: _Found) -> None:
    """Debian's ifupdown; the netmask may stand after the address."""
    name, address = "", ""
    for words in (line.split() for line in text.splitlines()):
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("auto", "iface", "mapping", "source") or words[0].startswith("allow-"):
            found.address(name, address)
            name, address = words[1] if len(words) > 1 else "", ""
            if words[0] == "iface":
                found.card(name)
        elif len(words) > 1 and words[0] == "address":
            found.address(name, address)
            address = words[1]
        elif len(words) > 1 and words[0] == "netmask" and "/" not in address:
            address = f"{address}/{words[1]}"
        elif len(words) > 1 and words[0] == "gateway":
            found.way_out(words[1])
    found.address(name, address)


def _read_netplan(text: str, found: _Found) -> None:
    """As much of YAML as these files use; keys by their indentation."""
    parents: List[Tuple[int, str]] = []
    default = False
    for line in text.splitlines():
        plain = line.split(" #")[0].rstrip()
        if not plain.strip() or plain.lstrip().startswith("#"):
            continue
        depth = len(plain) - len(plain.lstrip())
        item = plain.lstrip().startswith("- ")
        body = plain.lstrip().lstrip("- ").strip()
        key, colon, value = body.partition(":")
        pair = bool(colon) and (value == "" or value.startswith(" "))
        parents = [one for one in parents if one[0] < depth or (item and one[0] == depth)]
        keys = [one for _, one in parents]
        name = _interface_of(keys)
        if pair:
            key, value = key.strip("\"' "), value.strip().strip("\"'")
            if keys[-1:] == ["ethernets"]:
                found.card(key)
            elif key == "macaddress" and keys[-1:] == ["match"]:
                found.card(name, value)
            elif key in ("gateway4", "gateway6"):
                found.way_out(value)
            elif key == "to":
                default = value in ("default", "0.0.0.0/0", "::/0")
            elif key == "via" and default:
                found.way_out(value)
            elif key == "addresses" and "nameservers" not in keys:
                for one in value.strip("[]").split(","):
                    found.address(name, one)
            if not item:
                parents.append((depth, key))
        elif item and keys[-1:] == ["addresses"] and "nameservers" not in keys:
            found.address(name, body)


def _interface_of(keys: Sequence[str]) -> str:
    """The name below ``ethernets``, ``bonds``, ``bridges`` or ``vlans``."""
    for kind in ("ethernets", "bonds", "bridges", "vlans"):
        if kind in keys[:-1]:
            return keys[keys.index(kind) + 1]
    return ""


def _sections(text: str) -> Iterator[Tuple[str, str, str]]:
    """Section, key and value of an INI file, section and key in lower case."""
    section = ""
    for line in text.splitlines():
        plain = line.strip()
        if plain.startswith("["):
            section = plain.strip("[]").lower()
        elif "=" in plain and plain[:1] not in "#;":
            key, _, value = plain.partition("=")
            yield section, key.strip().lower(), value.strip()


def _read_networkd(text: str, found: _Found) -> None:
    """``.network`` and ``.link`` files of systemd."""
    told = list(_sections(text))
    values = {(section, key): value for section, key, value in told}
    name = values.get(("link", "name")) or values.get(("match", "name"), "")
    mac = values.get(("match", "macaddress")) or values.get(("match", "permanentmacaddress"), "")
    found.card(name, mac.split()[0] if mac.split() else "")
    for section, key, value in told:
        if section in ("network", "address") and key == "address":
            found.address(name, value)
        elif section in ("network", "route") and key == "gateway":
            found.way_out(value)


def _read_manager(text: str, found: _Found) -> None:
    """A connection of NetworkManager."""
    told = list(_sections(text))
    values = {(section, key): value for section, key, value in told}
    name = values.get(("connection", "interface-name"), "")
    if values.get(("connection", "type")) in ("ethernet", "802-3-ethernet"):
        mac = values.get(("ethernet", "mac-address"))
        found.card(name, mac or values.get(("802-3-ethernet", "mac-address"), ""))
    for section, key, value in told:
        if section not in ("ipv4", "ipv6"):
            continue
        if re.fullmatch(r"address\d*", key):
            parts = re.split(r"[,;]", value)
            found.address(name, parts[0])
            if len(parts) > 1:
                found.way_out(parts[1])
        elif key == "gateway":
            found.way_out(value)


def _read_ifcfg(text: str, found: _Found) -> None:
    """Red Hat's older files."""
    told = {key.upper(): value.strip("\"'") for _, key, value in _sections(text)}
    name = told.get("DEVICE") or told.get("NAME", "")
    found.card(name, told.get("HWADDR", ""))
    for number in ("", "0", "1", "2"):
        address = told.get(f"IPADDR{number}", "")
        prefix = told.get(f"PREFIX{number}") or told.get(f"NETMASK{number}")
        found.address(name, f"{address}/{prefix}" if prefix else address)
    found.way_out(told.get("GATEWAY", ""))


def _read_rules(text: str, found: _Found) -> None:
    """udev's lasting names of cards."""
    for line in text.splitlines():
        mac = re.search(r'ATTR\{address\}=="([^"]+)"', line)
        name = re.search(r'NAME="([^"]+)"', line)
        if mac and name and not line.lstrip().startswith("#"):
            found.card(name.group(1), mac.group(1))
