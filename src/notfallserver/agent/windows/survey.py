"""All disks and volumes of a Windows machine, as it tells them. Facts only; nothing is decided."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from notfallserver.agent.windows import answers
from notfallserver.agent.windows.answers import BadAnswer, Descriptor, DiskExtent
from notfallserver.agent.windows.contents import Content, content_of
from notfallserver.agent.windows.layout import Layout, gpt_bytes, numbered, read_layout
from notfallserver.agent.windows.system import (
    DRIVE_FIXED,
    Handle,
    Label,
    Refused,
    System,
    asked,
    disk_path,
    failed,
)

_NO_MEDIUM = (2, 21, 1112)
"""Windows' errors: not found, not ready, no medium."""
_UNKNOWN = (1, 50)
"""Invalid function, not supported: the driver does not know the question."""
_PORT = r"HARDWARE\DEVICEMAP\Scsi\Scsi Port {}"


@dataclass(frozen=True)
class SeenDisk:
    number: int
    size: int
    sector: int
    removable: bool
    descriptor: Descriptor
    driver: str
    layout: Layout
    contents: Dict[int, Content]  # by the partition's start; 0 where the disk has no table


@dataclass(frozen=True)
class SeenVolume:
    r"""``name`` is ``\\?\Volume{…}\``."""

    name: str
    extents: Tuple[DiskExtent, ...]
    content: Content  # as its own handle shows it: decrypted where BitLocker is open
    label: Label
    places: Tuple[str, ...]

    @property
    def path(self) -> str:
        """By which it is opened."""
        return self.name.rstrip("\\")


def see_disk(system: System, number: int) -> Optional[SeenDisk]:
    """None for what has no medium."""
    path = disk_path(number)
    try:
        with closing(system.open(path)) as handle:
            return _disk(system, handle, number)
    except Refused as error:
        if error.number in _NO_MEDIUM:
            return None
        raise failed(path, error) from None
    except BadAnswer as error:
        raise failed(path, error) from None


def _disk(system: System, handle: Handle, number: int) -> Optional[SeenDisk]:
    geometry = answers.read_geometry(asked(handle, answers.DISK_GET_DRIVE_GEOMETRY_EX))
    size = answers.read_length(asked(handle, answers.DISK_GET_LENGTH_INFO))
    if not size:
        return None
    descriptor = answers.read_descriptor(
        asked(handle, answers.STORAGE_QUERY_PROPERTY, answers.DEVICE_PROPERTY)
    )
    sector = geometry.sector
    layout = read_layout(asked(handle, answers.DISK_GET_DRIVE_LAYOUT_EX, size=16384))
    if layout.table == "gpt":
        head = handle.read(0, -(-gpt_bytes(sector) // sector) * sector)
        layout = numbered(layout, head, sector)
    starts = [one.start for one in layout.slots] or [0]
    contents = {at: content_of(handle.read(at, max(512, sector))) for at in starts}
    return SeenDisk(
        number,
        size,
        sector,
        geometry.removable or descriptor.removable,
        descriptor,
        _driver(system, handle),
        layout,
        contents,
    )


def _driver(system: System, handle: Handle) -> str:
    """The driver of the controller, by the port that Windows gave it."""
    with suppress(Refused, BadAnswer):
        port = answers.read_port(asked(handle, answers.SCSI_GET_ADDRESS))
        return str(system.setting(_PORT.format(port), "Driver") or "")
    return ""


def see_volumes(system: System) -> List[SeenVolume]:
    """All volumes that lie on disks.

    One that can't be asked is an error: taken for none it would be read while it is written.
    """
    found = []
    try:
        for name in system.volumes():
            if system.drive_kind(name) == DRIVE_FIXED:
                volume = _volume(system, name)
                found += [volume] if volume is not None else []
    except (Refused, BadAnswer) as error:
        raise failed("A volume", error) from None
    return found


def _volume(system: System, name: str) -> Optional[SeenVolume]:
    """None for what has no medium, or lies on no disk (in memory)."""
    try:
        handle = system.open(name.rstrip("\\"))
    except Refused as error:
        if error.number in _NO_MEDIUM:
            return None
        raise
    with closing(handle):
        try:
            told = asked(handle, answers.VOLUME_GET_VOLUME_DISK_EXTENTS)
        except Refused as error:
            if error.number in (*_NO_MEDIUM, *_UNKNOWN):
                return None
            raise
        extents = answers.read_extents(told)
        content = Content("")
        with suppress(Refused):  # of no known kind
            content = content_of(handle.read(0, 4096))
    label = Label("", "")
    with suppress(Refused):
        label = system.label(name)
    places: List[str] = []
    with suppress(Refused):
        places = system.places(name)
    return SeenVolume(name, tuple(extents), content, label, tuple(places))
