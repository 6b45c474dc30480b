"""Disks and facts of a Windows machine: the counterpart of ``linux.py``.

A partition's filesystem is what the image will hold: of an open BitLocker volume the decrypted
one, because it is read through its snapshot; of a locked one ``BitLocker``.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from notfallserver.agent.disks.base import Protected, Volume
from notfallserver.agent.windows.adapters import Adapter, Card, cards, read_adapters
from notfallserver.agent.windows.answers import FILE_BACKED, USB, BadAnswer
from notfallserver.agent.windows.conditions import find_conditions
from notfallserver.agent.windows.contents import BITLOCKER, Content
from notfallserver.agent.windows.layout import Slot
from notfallserver.agent.windows.listeners import IPV4, IPV6, read_listeners
from notfallserver.agent.windows.smbios import read_system
from notfallserver.agent.windows.survey import SeenDisk, SeenVolume, see_disk, see_volumes
from notfallserver.agent.windows.system import UEFI, Refused, System, disk_path
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import LIST_LIMIT, TEXT_LIMIT, Disk, Machine, Nic, Partition

_CURRENT = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_CARDS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e972-e325-11ce-bfc1-08002be10318}"
_DEVICES = r"SYSTEM\CurrentControlSet\Enum"
_PHYSICAL = 4
"""NCF_PHYSICAL, of an adapter's characteristics."""
_NO_CARDS = ("BTH", "ROOT\\", "SWD\\")
"""Devices that are no network cards: Bluetooth, and what only programs make."""
_WINDOWS_11 = 22000
"""From this build on a client calls itself Windows 10 and is Windows 11."""


def built_in(disks: Sequence[SeenDisk]) -> List[SeenDisk]:
    """Neither a stick nor an image file that somebody has opened."""
    apart = (USB, FILE_BACKED)
    return [one for one in disks if not one.removable and one.descriptor.bus not in apart]


def see_disks(system: System, configured: Sequence[str] = ()) -> List[SeenDisk]:
    """The disks to replicate: those configured, in that order, or all built-in ones."""
    if configured:
        return [_named(system, one) for one in configured]
    found = [see_disk(system, number) for number in system.disks()]
    chosen = built_in([one for one in found if one is not None])
    if not chosen:
        raise NotfallError(
            "no-disks",
            "No disk to protect was found.",
            r"Name the disks: install --disk \\.\PhysicalDrive0.",
        )
    return chosen


def _named(system: System, name: str) -> SeenDisk:
    found = re.fullmatch(r"(?:\\\\\.\\)?(?:PhysicalDrive)?(\d{1,4})", name, re.IGNORECASE)
    disk = see_disk(system, int(found[1])) if found and int(found[1]) in system.disks() else None
    if disk is None:
        raise NotfallError(
            "unknown-disk",
            f"'{name}' is no whole disk of this machine.",
            r"Name whole disks such as \\.\PhysicalDrive0; Disk Management numbers them.",
        )
    return disk


def protected_of(disk: SeenDisk) -> Protected:
    """``device`` is Windows' number of the disk; partitions have it in the upper half."""
    volumes = tuple(
        Volume(f"{disk.number}/{one.number}", disk.number << 16 | one.number, *_place(one))
        for one in disk.layout.slots
    )
    name = f"PhysicalDrive{disk.number}"
    whole = Volume(name, disk.number << 16, 0, 0, disk.size)
    return Protected(
        name,
        disk_path(disk.number),
        disk.number << 16,
        disk.size,
        disk.sector,
        True,
        volumes or (whole,),
    )


def _place(slot: Slot) -> Tuple[int, int, int]:
    return slot.number, slot.start, slot.size


# -- facts ---------------------------------------------------------------------------------------


def machine_facts(
    system: System, disks: Sequence[SeenDisk], volumes: Optional[Sequence[SeenVolume]] = None
) -> Machine:
    """The whole machine as the server wants to know it."""
    known = see_volumes(system) if volumes is None else volumes
    mounted = by_place(known)
    own = read_system(_smbios(system))
    found = _cards(system)
    return Machine(
        hostname=system.hostname()[:TEXT_LIMIT],
        system=_name(system),
        kernel=_build(system),
        firmware="uefi" if system.firmware() == UEFI else "bios",
        smbios_uuid=own.uuid,
        smbios_serial=own.serial[:TEXT_LIMIT],
        vendor=own.vendor[:TEXT_LIMIT],
        product=own.product[:TEXT_LIMIT],
        cpus=system.processors(),
        memory=system.memory(),
        gateway=_gateway(found),
        ports=_ports(system),
        disks=[_disk(one, mounted) for one in disks],
        nics=[_nic(system, one) for one in found],
        outside=_outside(disks, known),
        conditions=find_conditions(system),
    )


def _smbios(system: System) -> bytes:
    try:
        return system.smbios()
    except Refused:
        return b""


def by_place(volumes: Sequence[SeenVolume]) -> Dict[Tuple[int, int], SeenVolume]:
    """Volumes of one piece, by disk and start."""
    return {
        (one.extents[0].disk, one.extents[0].start): one for one in volumes if len(one.extents) == 1
    }


def is_open(seen: Optional[Content], volume: Optional[SeenVolume]) -> bool:
    """Whether a partition is BitLocker's, and its volume is read as if it were not."""
    if seen is None or volume is None or seen.filesystem != BITLOCKER:
        return False
    return volume.content.filesystem not in ("", BITLOCKER)


def _disk(disk: SeenDisk, mounted: Dict[Tuple[int, int], SeenVolume]) -> Disk:
    slots = list(disk.layout.slots)
    if not slots and disk.contents[0].filesystem:
        slots = [Slot(0, 0, disk.size, "", "")]
    return Disk(
        name=f"PhysicalDrive{disk.number}",
        size=disk.size,
        sector=disk.sector,
        serial=disk.descriptor.serial[:TEXT_LIMIT],
        model=disk.descriptor.model[:TEXT_LIMIT],
        driver=disk.driver[:TEXT_LIMIT],
        table=disk.layout.table,
        partitions=[_partition(disk, one, mounted.get((disk.number, one.start))) for one in slots],
    )


def _partition(disk: SeenDisk, slot: Slot, volume: Optional[SeenVolume]) -> Partition:
    seen = disk.contents.get(slot.start, Content(""))
    opened = is_open(seen, volume)
    content = volume.content if opened and volume is not None else seen
    return Partition(
        number=slot.number,
        start=slot.start,
        size=slot.size,
        kind=slot.kind,
        filesystem=content.filesystem,
        uuid=content.uuid,
        label=volume.label.name[:TEXT_LIMIT] if volume else "",
        part_uuid=slot.part_uuid,
        mountpoint=volume.places[0][:TEXT_LIMIT] if volume and volume.places else "",
        encrypted=BITLOCKER if seen.filesystem == BITLOCKER else "",
    )


def _outside(disks: Sequence[SeenDisk], volumes: Sequence[SeenVolume]) -> List[str]:
    """Where volumes are mounted that are on none of the protected disks."""
    protected = {one.number for one in disks}
    return [
        f"{place} ({volume.label.filesystem})"[:TEXT_LIMIT]
        for volume in volumes
        if not protected & {one.disk for one in volume.extents}
        for place in volume.places[:1]
    ][:LIST_LIMIT]


def _setting(system: System, key: str, name: str) -> str:
    told = system.setting(key, name)
    return "" if told is None else str(told).strip()


def _build(system: System) -> str:
    major = _setting(system, _CURRENT, "CurrentMajorVersionNumber")
    minor = _setting(system, _CURRENT, "CurrentMinorVersionNumber")
    version = f"{major}.{minor}" if major else _setting(system, _CURRENT, "CurrentVersion")
    parts = (version, _setting(system, _CURRENT, "CurrentBuildNumber"))
    revision = _setting(system, _CURRENT, "UBR")
    return ".".join(one for one in (*parts, revision) if one)[:TEXT_LIMIT]


def _name(system: System) -> str:
    name = _setting(system, _CURRENT, "ProductName") or "Windows"
    build = _setting(system, _CURRENT, "CurrentBuildNumber")
    client = _setting(system, _CURRENT, "InstallationType") == "Client"
    if client and build.isdigit() and int(build) >= _WINDOWS_11:
        name = name.replace("Windows 10", "Windows 11")
    release = _setting(system, _CURRENT, "DisplayVersion")
    return f"{name} {release}".strip()[:TEXT_LIMIT]


def _cards(system: System) -> List[Card]:
    try:
        found = read_adapters(*system.adapters())
    except (Refused, BadAnswer):
        return []
    return cards(found, hardware_known(system))


def hardware_known(system: System) -> Callable[[Adapter], bool]:
    """Whether an adapter is a card, and not only made by programs."""
    keys = card_keys(system)

    def is_hardware(adapter: Adapter) -> bool:
        key = keys.get(adapter.guid.lower())
        return key is None or _is_card(system, key)  # nothing may be known of it

    return is_hardware


def known_cards(system: System) -> List[str]:
    """The GUIDs of all cards that Windows knows, in lower case, also of those switched off."""
    return [guid for guid, key in card_keys(system).items() if _is_card(system, key)]


def _is_card(system: System, key: str) -> bool:
    told = _setting(system, key, "Characteristics")
    device = _setting(system, key, "DeviceInstanceID").upper()
    return bool(told.isdigit() and int(told) & _PHYSICAL) and not device.startswith(_NO_CARDS)


def _gateway(found: Sequence[Card]) -> str:
    """The first one of IPv4."""
    return next((gate for one in found for gate in one.works.gateways if ":" not in gate), "")


def card_keys(system: System) -> Dict[str, str]:
    """The registry's key of each adapter, by its GUID in lower case."""
    keys = [rf"{_CARDS}\{one}" for one in system.settings_below(_CARDS)]
    return {_setting(system, one, "NetCfgInstanceId").lower(): one for one in keys}


def _nic(system: System, card: Card) -> Nic:
    addresses = card.works.addresses[:LIST_LIMIT]
    key = card_keys(system).get(card.hardware.guid.lower(), "")
    device = _setting(system, key, "DeviceInstanceID") if key else ""
    return Nic(
        card.works.name[:TEXT_LIMIT],
        card.hardware.mac,
        _setting(system, rf"{_DEVICES}\{device}", "Service")[:TEXT_LIMIT] if device else "",
        [one.text for one in addresses],
        [one.text for one in addresses if one.leased],
    )


def _ports(system: System) -> List[int]:
    try:
        return read_listeners(system.listeners(IPV4), system.listeners(IPV6))[:LIST_LIMIT]
    except (Refused, BadAnswer):
        return []
