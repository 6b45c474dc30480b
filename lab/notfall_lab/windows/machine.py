"""A Windows machine of bytes: disks, volumes and snapshots that answer as Windows would."""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Tuple, Union

import notfall_lab.windows.structures as w
from notfallserver.agent.windows import answers
from notfallserver.agent.windows.system import Answer, Handle, Label, Refused, System, Times, Value

Read = Callable[[int, int], bytes]
MIB = 1 << 20


def of_bytes(content: bytes) -> Read:
    return lambda at, length: content[at : at + length]


@dataclass
class Device:
    """What a path leads to."""

    read: Read
    size: int
    answers: Dict[int, bytes] = field(default_factory=dict)
    sector: int = 512
    refused: int = 0  # the error number of opening it


def disk(
    content: Read,
    size: int,
    layout: bytes,
    model: str = "QEMU HARDDISK",
    serial: str = "QM00001",
    bus: int = 11,
    port: int = 0,
    sector: int = 512,
    removable: bool = False,
) -> Device:
    return Device(
        content,
        size,
        {
            answers.DISK_GET_DRIVE_GEOMETRY_EX: bytes(w.GeometryEx(1, 12, 255, 63, sector, size)),
            answers.DISK_GET_LENGTH_INFO: struct.pack("<q", size),
            answers.STORAGE_QUERY_PROPERTY: w.descriptor("", model, serial, bus, removable),
            answers.DISK_GET_DRIVE_LAYOUT_EX: layout,
            answers.SCSI_GET_ADDRESS: bytes(w.ScsiAddress(8, port, 0, 0, 0)),
        },
        sector,
    )


@dataclass
class Mounted:
    """A volume."""

    device: Device
    label: Optional[Label]
    places: List[str]
    kind: int = 3


def volume(
    content: Read,
    extents: List[Tuple[int, int, int]],
    filesystem: str,
    name: str = "",
    places: Tuple[str, ...] = (),
    kind: int = 3,
) -> Mounted:
    size = sum(one[2] for one in extents)
    codes = {
        answers.VOLUME_GET_VOLUME_DISK_EXTENTS: w.disk_extents(extents),
        answers.DISK_GET_LENGTH_INFO: struct.pack("<q", size),
    }
    label = Label(filesystem, name) if filesystem else None
    return Mounted(Device(content, size, codes), label, list(places), kind)


class RecordedHandle(Handle):
    def __init__(self, device: Device) -> None:
        self._device = device
        self.open = True
        self.flushed = 0
        self.allowed_all = False
        self._lock = threading.Lock()

    def control(self, code: int, given: bytes = b"", size: int = 1024) -> Answer:
        assert self.open
        if code == answers.ALLOW_EXTENDED_DASD_IO:
            self.allowed_all = True
            return Answer(b"")
        if code not in self._device.answers:
            raise Refused(1, f"control code {code:#x}")  # ERROR_INVALID_FUNCTION
        answer = self._device.answers[code]
        if len(answer) > size:
            raise Refused(122, "too small")
        return Answer(answer)

    def read_into(self, view: memoryview, at: int) -> int:
        assert self.open
        assert at % self._device.sector == 0
        assert len(view) % self._device.sector == 0, len(view)
        content = self._device.read(at, min(len(view), max(0, self._device.size - at)))
        view[: len(content)] = content
        return len(content)

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.open = False


class Machine(System):
    """``registry`` by key and name."""

    def __init__(self) -> None:
        self.devices: Dict[int, Device] = {}
        self.mounted: Dict[str, Mounted] = {}
        self.other: Dict[str, Device] = {}  # snapshots, by path
        self.registry: Dict[Tuple[str, str], Union[str, int]] = {}
        self.network: Tuple[bytes, int] = (b"", 0)
        self.commands: List[Tuple[str, ...]] = []  # what netsh was asked
        self.netsh_refuses = False
        self.driver_commands: List[Tuple[str, ...]] = []  # what pnputil was asked
        self.pnputil_answers = 0
        self.values: Dict[Tuple[str, str], Value] = {}  # of the registry, with their kinds
        self.mark = "first start"
        self.tables: Dict[int, bytes] = {}
        self.bios = b""
        self.mode = 1
        self.handles: List[RecordedHandle] = []
        self.clock = Times(0, 0)
        self.settled = 0  # how often it was asked for a lower priority

    def disks(self) -> List[int]:
        return sorted(self.devices)

    def open(self, path: str, write: bool = False) -> Handle:
        found = self.other.get(path)
        for number, device in self.devices.items():
            if path == rf"\\.\PhysicalDrive{number}":
                found = device
        for name, one in self.mounted.items():
            if path == name.rstrip("\\"):
                found = one.device
        if found is None or found.refused:
            raise Refused(found.refused if found else 2, path)
        self.handles.append(RecordedHandle(found))
        return self.handles[-1]

    def volumes(self) -> List[str]:
        return list(self.mounted)

    def drive_kind(self, volume: str) -> int:
        return self.mounted[volume].kind

    def label(self, volume: str) -> Label:
        found = self.mounted[volume].label
        if found is None:
            raise Refused(1005, volume)  # ERROR_UNRECOGNIZED_VOLUME
        return found

    def places(self, volume: str) -> List[str]:
        return self.mounted[volume].places

    def firmware(self) -> int:
        return self.mode

    def smbios(self) -> bytes:
        return self.bios

    def adapters(self) -> Tuple[bytes, int]:
        return self.network

    def listeners(self, family: int) -> bytes:
        return self.tables.get(family, b"")

    def memory(self) -> int:
        return 16 << 30

    def processors(self) -> int:
        return 4

    def times(self) -> Times:
        return self.clock

    def settle_down(self) -> None:
        self.settled += 1

    def hostname(self) -> str:
        return "DC01"

    def setting(self, key: str, name: str) -> Optional[Union[str, int]]:
        return self.registry.get((key, name))

    def netsh(self, *arguments: str) -> None:
        if self.netsh_refuses:
            raise Refused(1, "netsh")
        self.commands.append(arguments)

    def pnputil(self, *arguments: str) -> int:
        self.driver_commands.append(arguments)
        return self.pnputil_answers

    def value(self, key: str, name: str) -> Optional[Value]:
        return self.values.get((key, name))

    def set_value(self, key: str, name: str, value: Optional[Value]) -> None:
        if value is None:
            self.values.pop((key, name), None)
        else:
            self.values[(key, name)] = value

    def boot_mark(self) -> str:
        return self.mark

    def settings_below(self, key: str) -> List[str]:
        found = {
            one[len(key) + 1 :].split("\\")[0]
            for one, _ in self.registry
            if one.startswith(key + "\\")
        }
        return sorted(found)
