"""Describes the machine of which images are imported. Pure.

Three sources, the first that tells counts: what a person says, what the images hold, what the
version before said. What nobody knows gets a value with which a stand-in can work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from ipaddress import ip_address, ip_interface
from typing import Any

from notfallserver.server.foreign.tables import Layout, firmware_of
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Nic, Partition, read_machine

MEMORY = 4 << 30
CPUS = 2
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_DRIVERS = {"vd": "virtio_blk", "nv": "nvme", "hd": "ata_piix"}
"""By the first letters of the disks' names that a system's files use."""


@dataclass(frozen=True)
class Wish:
    """What a person says; empty: nothing. ``memory`` in bytes; ``addresses`` with prefix length,
    of the first card, or of another one: ``MAC=ADDRESS``."""

    memory: int = 0
    cpus: int = 0
    firmware: str = ""
    macs: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    gateway: str = ""
    ports: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Wish:
        lists = {key: tuple(body.get(key, ())) for key in ("macs", "addresses", "ports")}
        return cls(**{**body, **lists})

    def over(self, before: Wish) -> Wish:
        """What was said before holds on where nothing is said now."""
        said = {key: value for key, value in vars(self).items() if value}
        return replace(before, **said)

    def check(self) -> Wish:
        """The same in one spelling; what can't be is refused."""
        if self.firmware not in ("", "bios", "uefi"):
            raise NotfallError(
                "bad-firmware", f"'{self.firmware}' is no firmware.", "Write bios or uefi."
            )
        macs = tuple(_mac(one) for one in self.macs)
        addresses = []
        for one in self.addresses:
            card, equals, address = one.rpartition("=")
            if equals and _mac(card) not in macs:
                raise NotfallError(
                    "bad-mac", f"No card has the MAC address {card}.", "Name it as a card, too."
                )
            addresses.append(f"{_mac(card)}={_interface(address)}" if equals else _interface(one))
        if self.gateway:
            _interface(self.gateway)
        return replace(self, macs=macs, addresses=tuple(addresses))


def _mac(text: str) -> str:
    mac = text.strip().lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise NotfallError(
            "bad-mac",
            f"'{text[:40]}' is no MAC address of a card.",
            "Write it as 52:54:00:12:34:56.",
        )
    return mac


def _interface(text: str) -> str:
    try:
        return str(ip_interface(text.strip()))
    except ValueError:
        raise NotfallError(
            "bad-address", f"'{text[:80]}' is no IP address.", "Write it as numbers, not as a name."
        ) from None


def describe_machine(
    primary: str,
    name: str,
    layouts: Sequence[Layout],
    wish: Wish,
    told: Mapping[str, Any],
    before: Machine | None,
) -> Machine:
    """``told`` is what the appliance found in the images (see ``guest.identify``), already bounded
    but not believed: what does not fit is left out. ``primary`` is the UUID."""
    starts_by = firmware_of(tuple(layouts))
    if wish.firmware == "bios" and starts_by == "uefi":
        raise NotfallError(
            "no-boot-loader",
            "The image has a partition for UEFI and no boot code for BIOS.",
            "Import it again without naming a firmware, or with uefi.",
        )
    inside = _believed(told)
    known = before or Machine("", cpus=CPUS, memory=MEMORY)
    names = _disk_names(told, known, len(layouts))
    cards = _cards(primary, wish, inside, known)
    return Machine(
        hostname=inside.hostname or known.hostname or name,
        system=inside.system or known.system,
        kernel=inside.kernel or known.kernel,
        firmware=wish.firmware or starts_by,
        smbios_uuid=known.smbios_uuid or primary,
        smbios_serial=known.smbios_serial,
        vendor=known.vendor,
        product=known.product,
        cpus=wish.cpus or known.cpus,
        memory=wish.memory or known.memory,
        gateway=_plain(wish.gateway) or inside.gateway or known.gateway,
        ports=sorted(wish.ports) or known.ports,
        disks=[
            Disk(
                name=names[index],
                size=layout.size,
                sector=layout.sector,
                driver=_DRIVERS.get(names[index][:2], ""),
                table=layout.table,
                partitions=_partitions(index, layout, told),
            )
            for index, layout in enumerate(layouts)
        ],
        nics=cards,
    )


def _plain(address: str) -> str:
    return address.split("/", maxsplit=1)[0]


def _believed(told: Mapping[str, Any]) -> Machine:
    keys = ("hostname", "system", "kernel", "gateway", "nics")
    try:
        found = read_machine({"hostname": "", **{key: told[key] for key in keys if key in told}})
        for nic in found.nics:
            for one in nic.addresses:
                ip_interface(one)
        if found.gateway:
            ip_address(found.gateway)
    except (NotfallError, ValueError):
        return Machine("")
    return found


def _disk_names(told: Mapping[str, Any], known: Machine, count: int) -> list[str]:
    """As the system's own files call them, so that these names are understood."""
    first = told.get("disks")
    if isinstance(first, str) and re.fullmatch(r"sd|vd|xvd|hd|nvme", first):
        if first == "nvme":
            return [f"nvme{index}n1" for index in range(count)]
        return [f"{first}{_letters(index)}" for index in range(count)]
    if len(known.disks) == count:
        return [one.name for one in known.disks]
    return [f"sd{_letters(index)}" for index in range(count)]


def _letters(index: int) -> str:
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def _partitions(disk: int, layout: Layout, told: Mapping[str, Any]) -> list[Partition]:
    """The table's, with what the appliance says of the file systems in them."""
    volumes: dict[int, Mapping[str, Any]] = {}
    listed = told.get("volumes")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, Mapping) and one.get("disk") == disk:
            volumes[one.get("partition", -1)] = one
    found = []
    for part in layout.partitions:
        inside = volumes.get(part.number, {})
        found.append(
            replace(
                part,
                filesystem=_text(inside, "filesystem") or part.filesystem,
                uuid=_text(inside, "uuid"),
                label=_text(inside, "label"),
                mountpoint=_text(inside, "mountpoint"),
            )
        )
    return found


def _text(told: Mapping[str, Any], key: str) -> str:
    value = told.get(key)
    return value[:200] if isinstance(value, str) and value.isprintable() else ""


def _cards(primary: str, wish: Wish, inside: Machine, known: Machine) -> list[Nic]:
    """Cards by name from the images; MAC addresses from the person, the images, or before.

    A card whose name nobody knows has none: a wrong one would be given to it in the stand-in.
    """
    found = [one for one in inside.nics if one.name] or list(known.nics)
    count = max(len(found), len(wish.macs), 1)
    cards = []
    for index in range(count):
        nic = found[index] if index < len(found) else Nic("", "")
        old = known.nics[index].mac if index < len(known.nics) else ""
        wished = wish.macs[index] if index < len(wish.macs) else ""
        mac = wished or nic.mac.lower() or old or own_mac(primary, index)
        if not _MAC.fullmatch(mac):
            mac = own_mac(primary, index)
        if not nic.addresses and index < len(known.nics):
            nic = replace(nic, addresses=known.nics[index].addresses)
        cards.append(replace(nic, mac=mac))
    if wish.addresses:
        cards = [replace(one, addresses=[]) for one in cards]
    for one in wish.addresses:
        mac, _, address = one.rpartition("=")
        for index, card in enumerate(cards):
            if card.mac == mac or (not mac and index == 0):
                cards[index] = replace(card, addresses=[*card.addresses, address])
    return cards


def own_mac(primary: str, index: int) -> str:
    """Where nobody knows the card's: always the same for a primary, of QEMU's own range."""
    digest = sha256(f"{primary} {index}".encode()).digest()
    return ":".join(["52", "54", "00", *(f"{one:02x}" for one in digest[:3])])
