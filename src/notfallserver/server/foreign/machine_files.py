"""What lies beside exported disks: the machine that they belong to, for programs and for people.

Pure. The OVF is of version 1.1 with the few words of VMware's that tell the firmware.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element, SubElement

from notfallserver.wire.cards import real_cards
from notfallserver.wire.facts import Machine

FORMAT = 1
_OVF = "http://schemas.dmtf.org/ovf/envelope/1"
_RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
_VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
_VMW = "http://www.vmware.com/schema/ovf"
_STREAM = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
for _prefix, _uri in (("ovf", _OVF), ("rasd", _RASD), ("vssd", _VSSD), ("vmw", _VMW)):
    ET.register_namespace(_prefix, _uri)
_DEFAULT_MEMORY = 2 << 30


@dataclass(frozen=True)
class DiskFile:
    """``size`` of the disk and ``bytes`` of its file."""

    name: str
    format: str
    size: int
    bytes: int
    sector: int = 512
    sha256: str = ""


@dataclass(frozen=True)
class Told:
    """What was exported: ``changes`` is what the adaptation changed, empty where nothing was."""

    name: str
    version: str
    machine: Machine
    disks: Sequence[DiskFile]
    adapted_to: str = ""
    changes: Sequence[str] = ()

    @property
    def memory(self) -> int:
        return self.machine.memory or _DEFAULT_MEMORY


def description(told: Told) -> dict[str, Any]:
    """``machine.json``."""
    return {
        "format": FORMAT,
        "name": told.name,
        "version": told.version,
        "adapted_to": told.adapted_to,
        "changes": list(told.changes),
        "disks": [asdict(one) for one in told.disks],
        "machine": told.machine.to_json(),
    }


def ovf(told: Told) -> str:
    """The machine with SATA disks, which every system since 2008 has a driver for."""
    root = Element(f"{{{_OVF}}}Envelope", {f"{{{_VMW}}}buildId": "notfallserver"})
    files = _add(root, "References")
    for number, one in enumerate(told.disks):
        _add(files, "File", id=f"file{number}", href=one.name, size=str(one.bytes))
    disks = _add(root, "DiskSection")
    _add(disks, "Info", "The disks")
    for number, one in enumerate(told.disks):
        _add(
            disks,
            "Disk",
            diskId=f"disk{number}",
            fileRef=f"file{number}",
            capacity=str(one.size),
            capacityAllocationUnits="byte",
            format=_STREAM,
        )
    networks = _add(root, "NetworkSection")
    _add(networks, "Info", "The networks")
    _add(_add(networks, "Network", name="LAN"), "Description", "The network of the original")
    system = _add(root, "VirtualSystem", id=told.name)
    _add(system, "Info", f"{told.name}, as it was at {told.version}")
    _add(system, "Name", told.name)
    kind = _add(system, "OperatingSystemSection", id="1")
    _add(kind, "Info", told.machine.system or "unknown")
    hardware = _add(system, "VirtualHardwareSection")
    _add(hardware, "Info", "The hardware")
    about = _add(hardware, "System")
    for key, value in (
        ("ElementName", "Virtual Hardware Family"),
        ("InstanceID", "0"),
        ("VirtualSystemIdentifier", told.name),
        ("VirtualSystemType", "vmx-13"),
    ):
        SubElement(about, f"{{{_VSSD}}}{key}").text = value
    for item in _items(told):
        _add_item(hardware, item)
    firmware = "efi" if told.machine.firmware == "uefi" else "bios"
    attributes = {f"{{{_OVF}}}required": "false"}
    attributes |= {f"{{{_VMW}}}key": "firmware", f"{{{_VMW}}}value": firmware}
    SubElement(hardware, f"{{{_VMW}}}Config", attributes)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    named = {f"{{{_OVF}}}{key}": value for key, value in attributes.items()}
    child = SubElement(parent, f"{{{_OVF}}}{tag}", named)
    child.text = text
    return child


def _items(told: Told) -> Sequence[dict[str, str]]:
    memory = max(1, -(-told.memory >> 20))
    items = [
        {"type": "3", "name": f"{told.machine.cpus} processors", "count": str(told.machine.cpus)},
        {"type": "4", "name": f"{memory} MiB", "count": str(memory), "units": "byte * 2^20"},
        {"type": "20", "name": "SATA controller", "sub": "vmware.sata.ahci", "address": "0"},
    ]
    for number, _ in enumerate(told.disks):
        disk = {"type": "17", "name": f"Disk {number}", "host": f"ovf:/disk/disk{number}"}
        items.append({**disk, "parent": "3", "place": str(number)})
    for number, card in enumerate(real_cards(told.machine)):
        items.append(
            {
                "type": "10",
                "name": f"Card {number}",
                "sub": "E1000E",
                "address": card.mac,
                "network": "LAN",
                "place": str(number),
            }
        )
    return [{**one, "id": str(number)} for number, one in enumerate(items, 1)]


_FIELDS = (  # in the order of the alphabet, as the schema wants it
    ("Address", "address"),
    ("AddressOnParent", "place"),
    ("AllocationUnits", "units"),
    ("Connection", "network"),
    ("ElementName", "name"),
    ("HostResource", "host"),
    ("InstanceID", "id"),
    ("Parent", "parent"),
    ("ResourceSubType", "sub"),
    ("ResourceType", "type"),
    ("VirtualQuantity", "count"),
)


def _add_item(hardware: Element, told: dict[str, str]) -> None:
    item = _add(hardware, "Item")
    for tag, key in _FIELDS:
        if key in told:
            SubElement(item, f"{{{_RASD}}}{tag}").text = told[key]


def manifest(sums: Sequence[tuple[str, str]]) -> str:
    """The ``.mf`` beside an OVF: name and SHA-256 of each file."""
    return "".join(f"SHA256({name})= {digest}\n" for name, digest in sums)


def readme(told: Told) -> str:
    """For whoever makes a machine of the disks by hand, in both languages."""
    machine = told.machine
    disks = "\n".join(
        f"    {number}: {one.name}, {one.size} bytes, sectors of {one.sector}"
        for number, one in enumerate(told.disks)
    )
    cards = "\n".join(
        f"    {one.mac}  {', '.join(one.addresses)}".rstrip() for one in real_cards(machine)
    )
    adapted = told.adapted_to or "- (as it was / wie es war)"
    return f"""{told.name}, {told.version}
{machine.system}

NEVER START THIS WHILE THE ORIGINAL OR ITS STAND-IN IS RUNNING IN THE SAME NETWORK.
Two of them would answer for one another, and what is written to one is missing in the other.
STARTEN SIE DIES NIE, SOLANGE DAS ORIGINAL ODER SEIN ERSATZSYSTEM IM SELBEN NETZ LÄUFT.
Zwei davon nähmen einander die Arbeit ab, und was in das eine geschrieben wird, fehlt im anderen.

Firmware:                {machine.firmware.upper()}
Processors/Prozessoren:  {machine.cpus}
Memory/Arbeitsspeicher:  {told.memory >> 20} MiB
Adapted/Angepasst:       {adapted}
Disks in this order; it starts from the first / Platten in dieser Reihenfolge; die erste startet:
{disks or "    -"}
Cards/Netzwerkkarten (MAC):
{cards or "    -"}

Give the new machine the same firmware (BIOS or UEFI, without secure boot), the disks in this order,
and the same MAC addresses: by these the system knows its cards. machine.json tells the rest.
Geben Sie der neuen Maschine dieselbe Firmware (BIOS oder UEFI, ohne Secure Boot), die Platten in
dieser Reihenfolge und dieselben MAC-Adressen: Daran erkennt das System seine Karten. Das Übrige
steht in machine.json.
"""
