"""Partition tables, read and written by sfdisk. All starts and sizes are bytes.

Writing sets the whole table anew and nothing else: boot code stays, no signature is wiped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from notfallserver.guest.layout import MIB, Place, is_extended
from notfallserver.guest.shell import run
from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Slot:
    """One partition; ``uuid``, ``name``, ``attrs`` only in a GPT, ``bootable`` only in an MBR."""

    number: int
    start: int
    size: int
    kind: str
    uuid: str = ""
    name: str = ""
    attrs: str = ""
    bootable: bool = False


@dataclass(frozen=True)
class Table:
    """``label`` is ``dos`` or ``gpt``, ``id`` the disk's own number."""

    label: str
    id: str
    sector: int
    slots: Tuple[Slot, ...]


_KINDS = (
    ("83", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"),  # Linux
    ("82", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"),  # swap
    ("8e", "E6D6D379-F507-44C2-A23C-238F2A3DF928"),  # LVM
    ("fd", "A19D880F-05FC-4D3B-A006-743F0F84911E"),  # RAID
    ("ef", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),  # EFI system partition
    ("7", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"),  # Windows' data
)
LINUX = {"dos": "83", "gpt": "0FC63DAF-8483-4772-8E79-3D69D8477DE4"}


def read_table(disk: str) -> Table:
    """The table of a disk; one without a table is an error."""
    told = json.loads(run(["sfdisk", "--json", disk]).out)["partitiontable"]
    if told.get("label") not in ("dos", "gpt"):
        raise NotfallError(
            "no-partition-table",
            f"The disk has a partition table of the kind '{told.get('label')}'.",
            "Use disks of the original's sizes.",
        )
    sector = int(told.get("sectorsize", 512))
    slots = tuple(_slot(one, sector) for one in told.get("partitions", []))
    return Table(told["label"], str(told.get("id", "")), sector, slots)


def _slot(told: Mapping[str, Any], sector: int) -> Slot:
    number = re.search(r"(\d+)$", str(told["node"]))
    return Slot(
        number=int(number.group(1)) if number else 0,
        start=int(told["start"]) * sector,
        size=int(told["size"]) * sector,
        kind=str(told.get("type", "")),
        uuid=str(told.get("uuid", "")),
        name=str(told.get("name", "")),
        attrs=str(told.get("attrs", "")),
        bootable=told.get("bootable") is True,
    )


def kind_in(label: str, kind: str) -> str:
    """A partition's type in the words of another kind of table."""
    plain = kind.lower().replace("0x", "")
    for dos, gpt in _KINDS:
        if plain in (dos, gpt.lower()):
            return dos if label == "dos" else gpt
    fits = ("-" in plain) == (label == "gpt")
    return plain if fits else LINUX[label]


def new_table(base: Table, others: Mapping[int, Table], places: Sequence[Place]) -> Table:
    """The table in which the parts lie as ``places`` say; ``others`` by the disk they are of."""
    slots: List[Slot] = []
    for place in places:
        table = others.get(place.part.disk, base)
        old = next((one for one in table.slots if one.number == place.part.number), None)
        if old is None:  # a whole disk becomes a partition
            slot = Slot(place.number, 0, 0, LINUX[base.label])
        elif table is base:
            slot = old
        else:
            same = base.label == table.label == "gpt"
            kind = kind_in(base.label, old.kind)
            slot = Slot(0, 0, 0, kind, old.uuid if same else "", old.name if same else "")
        slots.append(replace(slot, number=place.number, start=place.start, size=place.size))
    container = next((one for one in base.slots if is_extended(one.kind)), None)
    logical = [one for one in slots if base.label == "dos" and one.number > 4]
    if container is not None and logical:
        first, end = min(one.start for one in logical), max(one.start + one.size for one in logical)
        stays = any(one.number > 4 and one.start == first for one in base.slots)
        start = container.start if stays else first - MIB
        slots.append(replace(container, start=start, size=end - start))
    made = replace(base, slots=tuple(sorted(slots, key=lambda one: one.number)))
    _refuse_overlap(made)
    return made


def _refuse_overlap(table: Table) -> None:
    """A table that would lose data must never be written, whatever went wrong before."""
    plain = sorted(
        ((one.start, one.start + one.size) for one in table.slots if not is_extended(one.kind)),
    )
    for (_, end), (start, _) in zip(plain, plain[1:]):
        if start < end:
            raise NotfallError(
                "layout-not-possible",
                "The partitions of the original can't be arranged on this disk.",
                "Use disks of at least the original's sizes.",
                status=500,
            )


def script(table: Table) -> str:
    """In sfdisk's language."""
    lines = [f"label: {table.label}", "unit: sectors"]
    if table.id:
        lines.insert(1, f"label-id: {table.id}")
    if table.label == "gpt":
        lines.append("first-lba: 34" if table.sector == 512 else "first-lba: 6")
    lines.append(f"sector-size: {table.sector}")
    # containers first: what lies in them is added afterwards
    for one in sorted(table.slots, key=lambda slot: slot.number):
        start, size = one.start // table.sector, one.size // table.sector
        told: Dict[str, str] = {"start": str(start), "size": str(size), "type": one.kind}
        if table.label == "gpt":
            if one.uuid:
                told["uuid"] = one.uuid
            if one.name:
                told["name"] = '"' + one.name.replace('"', "") + '"'
            if one.attrs:
                told["attrs"] = f'"{one.attrs}"'
        words = [f"{key}={value}" for key, value in told.items()]
        lines.append(f"/dev/x{one.number} : " + ", ".join(words + ["bootable"] * one.bootable))
    return "\n".join(lines) + "\n"


def write_table(disk: str, table: Table) -> None:
    """Replace the table of a disk."""
    never = ["--wipe", "never", "--wipe-partitions", "never"]
    run(["sfdisk", "--quiet", "--force", *never, disk], text_in=script(table), ok=(0,))
