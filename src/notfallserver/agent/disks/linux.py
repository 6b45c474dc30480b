"""Disks and facts of a Linux machine, from sysfs, procfs, ``lsblk`` and ``ip``.

Where a tool is missing its facts stay empty; sizes and starts always come from the kernel.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from notfallserver.agent import commands
from notfallserver.agent.disks.base import Protected, Volume, device_at
from notfallserver.agent.disks.beside import licence_keys, outside_places
from notfallserver.agent.systemd import Seen, look
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import LIST_LIMIT, TEXT_LIMIT, Disk, Machine, Nic, Partition

_BLOCK = Path("/sys/class/block")
_NET = Path("/sys/class/net")
_DMI = Path("/sys/class/dmi/id")
_COLUMNS = "NAME,FSTYPE,UUID,LABEL,PARTUUID,PARTTYPE,PTTYPE,SERIAL,MODEL,MOUNTPOINT"
_VIRTUAL = re.compile(r"(loop|ram|zram|sr|fd|dm-|md|nbd|drbd|bcache|rbd|mtdblock)\d*")
_SECTOR = 512  # sysfs counts in these, whatever the disk's own


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()[:TEXT_LIMIT]
    except OSError:
        return ""


def _number(path: Path) -> int:
    told = _text(path)
    return int(told) if told.isdigit() else 0


def _natural(name: str) -> List[Tuple[int, str]]:
    """sdb before sdaa, nvme2n1 before nvme10n1."""
    return [
        (int(part) if part.isdigit() else len(part), part) for part in re.findall(r"\d+|\D+", name)
    ]


def disk_names() -> List[str]:
    """All whole physical disks that are built in and not empty."""
    found = []
    for node in _BLOCK.iterdir():
        real = (node / "partition").exists() or _VIRTUAL.fullmatch(node.name)
        if real or _text(node / "removable") == "1" or not _number(node / "size"):
            continue
        if _text(node / "hidden") == "1":
            continue
        found.append(node.name)
    return sorted(found, key=_natural)


def protected_disks(configured: Sequence[str] = ()) -> List[Protected]:
    """The disks to replicate: those configured, in that order, or all built-in ones."""
    names = [Path(one).resolve().name for one in configured] or disk_names()
    if not names:
        raise NotfallError(
            "no-disks", "No disk to protect was found.", "Name the disks: install --disk /dev/sda."
        )
    return [_protected(name) for name in names]


def _protected(name: str) -> Protected:
    node = _BLOCK / name
    if not node.exists() or (node / "partition").exists():
        raise NotfallError(
            "unknown-disk",
            f"'/dev/{name}' is no whole disk of this machine.",
            "Name whole disks such as /dev/sda; lsblk lists them.",
        )
    size = _number(node / "size") * _SECTOR
    device = device_at(node)
    volumes = [
        Volume(
            part.name,
            device_at(part),
            _number(part / "partition"),
            _number(part / "start") * _SECTOR,
            _number(part / "size") * _SECTOR,
        )
        for part in node.resolve().iterdir()
        if (part / "partition").exists()
    ]
    volumes.sort(key=lambda one: one.number)
    return Protected(
        name,
        f"/dev/{name}",
        device,
        size,
        _number(node / "queue" / "logical_block_size") or _SECTOR,
        (node / "mq").exists(),
        tuple(volumes or [Volume(name, device, 0, 0, size)]),
        _number(node / "diskseq"),
    )


# -- facts ---------------------------------------------------------------------------------------


def machine_facts(disks: Sequence[Protected]) -> Machine:
    """The whole machine as the server wants to know it."""
    told = _by_name(commands.read_json(["lsblk", "-J", "-b", "-o", _COLUMNS]))
    for disk in disks:
        for name in (disk.name, *(volume.name for volume in disk.volumes)):
            _probe(name, told.setdefault(name, {}))
    seen = look() or Seen("")
    return Machine(
        hostname=socket.gethostname(),
        system=_system(),
        kernel=os.uname().release,
        firmware="uefi" if Path("/sys/firmware/efi").exists() else "bios",
        smbios_uuid=_text(_DMI / "product_uuid").lower(),
        smbios_serial=_text(_DMI / "product_serial"),
        vendor=_text(_DMI / "sys_vendor"),
        product=_text(_DMI / "product_name"),
        cpus=os.cpu_count() or 1,
        memory=_memory(),
        gateway=_gateway(),
        ports=_ports(),
        disks=[_disk(one, told) for one in disks],
        nics=_nics(),
        outside=outside_places(one.device for one in disks),
        licence_keys=licence_keys(),
        systemd=seen.system,
        failed_units=list(seen.failed),
        logins=list(seen.logins),
    )


def _by_name(told: Any) -> Dict[str, Dict[str, Any]]:
    found: Dict[str, Dict[str, Any]] = {}

    def walk(entries: Any) -> None:
        for one in entries or []:
            found[str(one.get("name"))] = one
            walk(one.get("children"))

    walk(told.get("blockdevices") if isinstance(told, dict) else None)
    return found


_PROBED = {
    "TYPE": "fstype",
    "UUID": "uuid",
    "LABEL": "label",
    "PTTYPE": "pttype",
    "PART_ENTRY_UUID": "partuuid",
    "PART_ENTRY_TYPE": "parttype",
}


def _probe(name: str, told: Dict[str, Any]) -> None:
    """Without udev ``lsblk`` knows no contents: then look at them."""
    if told.get("fstype") or told.get("pttype"):
        return
    try:
        printed = commands.run(["blkid", "-p", "-o", "export", f"/dev/{name}"])
    except NotfallError:
        return  # nothing is there that blkid knows
    for line in printed.splitlines():
        key, _, value = line.partition("=")
        if key in _PROBED and not told.get(_PROBED[key]):
            told[_PROBED[key]] = value.replace("\\ ", " ")


def _field(told: Dict[str, Dict[str, Any]], name: str, field: str) -> str:
    return str(told.get(name, {}).get(field) or "").strip()[:TEXT_LIMIT]


def _disk(disk: Protected, told: Dict[str, Dict[str, Any]]) -> Disk:
    node = _BLOCK / disk.name
    serial = _field(told, disk.name, "serial") or _text(node / "serial")
    table = _field(told, disk.name, "pttype")
    return Disk(
        name=disk.name,
        size=disk.size,
        sector=disk.sector,
        serial=serial or _text(node / "device" / "serial"),
        model=_field(told, disk.name, "model") or _text(node / "device" / "model"),
        driver=_driver(node),
        table=table if table in ("dos", "gpt") else "",
        partitions=[_partition(one, told) for one in disk.volumes if _is_told(one, told)],
    )


def _is_told(volume: Volume, told: Dict[str, Dict[str, Any]]) -> bool:
    """A disk without table is listed as a volume only when a filesystem lies on it."""
    return bool(volume.number or _field(told, volume.name, "fstype"))


def _partition(volume: Volume, told: Dict[str, Dict[str, Any]]) -> Partition:
    def field(name: str) -> str:
        return _field(told, volume.name, name)

    return Partition(
        number=volume.number,
        start=volume.start,
        size=volume.size,
        kind=field("parttype"),
        filesystem=field("fstype"),
        uuid=field("uuid"),
        label=field("label"),
        part_uuid=field("partuuid"),
        mountpoint=field("mountpoint"),
    )


def _driver(node: Path) -> str:
    """The driver of the controller: the nearest one above the disk that isn't the disk's own."""
    place = (node / "device").resolve()
    while place != place.parent and str(place).startswith("/sys/devices/"):
        link = place / "driver"
        if link.exists() and link.resolve().name not in ("sd", "sr"):
            return link.resolve().name
        place = place.parent
    return ""


def _nics() -> List[Nic]:
    told = commands.read_json(["ip", "-j", "addr"])
    addresses: Dict[str, List[str]] = {}
    leased: Dict[str, List[str]] = {}
    for one in told if isinstance(told, list) else []:
        for item in one.get("addr_info", []):
            if "local" in item and "prefixlen" in item:
                name, address = str(one.get("ifname")), f"{item['local']}/{item['prefixlen']}"
                addresses.setdefault(name, []).append(address)
                if item.get("dynamic"):
                    leased.setdefault(name, []).append(address)
    names = sorted((one.name for one in _NET.iterdir() if one.is_dir()), key=_natural)
    # Bridges, bonds and VLANs count when a real card is below: not those of containers.
    chosen = [name for name in names if _has_hardware(name)]
    if not chosen:
        chosen = [name for name in names if name != "lo" and addresses.get(name)]
    return [
        Nic(
            name,
            _text(_NET / name / "address"),
            _nic_driver(name),
            addresses.get(name, []),
            leased.get(name, []),
        )
        for name in chosen
    ]


def _has_hardware(name: str, depth: int = 0) -> bool:
    node = _NET / name
    if (node / "device").exists():
        return True
    return depth < 8 and any(
        _has_hardware(one.name[len("lower_") :], depth + 1) for one in node.glob("lower_*")
    )


def _nic_driver(name: str) -> str:
    link = _NET / name / "device" / "driver"
    return link.resolve().name if link.exists() else ""


def _gateway() -> str:
    told = commands.read_json(["ip", "-j", "route", "show", "default"])
    for one in told if isinstance(told, list) else []:
        if one.get("gateway"):
            return str(one["gateway"])
    return _gateway_of_proc() or ""


def _gateway_of_proc() -> Optional[str]:
    for line in _text_lines(Path("/proc/net/route")):
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000" and fields[2] != "00000000":
            return socket.inet_ntoa(bytes.fromhex(fields[2])[::-1])
    return None


def _ports() -> List[int]:
    """TCP ports that something serves to the network, not only to the machine itself."""
    found = set()
    for name, own in (("tcp", "7F"), ("tcp6", "00000000000000000000000001000000")):
        for line in _text_lines(Path("/proc/net") / name):
            fields = line.split()
            if len(fields) < 4 or fields[3] != "0A":  # listening
                continue
            address, _, port = fields[1].partition(":")
            if not (address == own or (name == "tcp" and address.endswith(own))):
                found.add(int(port, 16))
    return sorted(found)[:LIST_LIMIT]


def _text_lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(errors="replace").splitlines()
    except OSError:
        return


def _memory() -> int:
    for line in _text_lines(Path("/proc/meminfo")):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _system() -> str:
    for line in _text_lines(Path("/etc/os-release")):
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")[:TEXT_LIMIT]
    return ""
