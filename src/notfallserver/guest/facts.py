"""What inspection finds in an image and what the hardware shall be: frozen, free of any action."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Tuple

from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Volume:
    """Something that can hold a filesystem; ``disk`` and ``partition`` count from 0 and 1.

    Logical volumes and arrays have ``disk`` -1.
    """

    device: str
    disk: int = -1
    partition: int = 0
    filesystem: str = ""
    uuid: str = ""
    label: str = ""
    part_uuid: str = ""
    kind: str = ""  # MBR type (0xef) or GPT type GUID
    size: int = 0


@dataclass(frozen=True)
class Kernel:
    """One installed kernel; module names with underscores."""

    version: str
    initramfs: str  # path in the guest, "" without one
    carried: FrozenSet[str] = frozenset()  # modules in the initramfs
    builtin: FrozenSet[str] = frozenset()
    available: FrozenSet[str] = frozenset()  # below /lib/modules
    late: str = ""  # the script in the initramfs that changes a locked root at its start


@dataclass(frozen=True)
class Esp:
    """The EFI system partition; ``files`` are paths in lower case with forward slashes."""

    volume: Volume
    mountpoint: str  # in the guest
    files: Tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """An operating system found in an image."""

    name: str
    root: Volume
    volumes: Tuple[Volume, ...]
    files: Mapping[str, str]  # texts that the plan may change, by path in the guest
    kernels: Tuple[Kernel, ...] = ()
    esp: Tuple[Esp, ...] = ()
    boot_code: Tuple[str, ...] = ()  # per disk: "grub", "broken", "other" or "none"
    tools: FrozenSet[str] = frozenset()  # commands of the guest that steps may need
    locked: bool = False
    """The root is encrypted: only /boot and the ESP can be read and written, see ``late``."""


@dataclass(frozen=True)
class HardwareDisk:
    """``driver`` is Linux' of its controller; ``ids`` are Windows' names of that controller, the
    closest first (``windows/devices.py``), where they are known."""

    driver: str
    ids: Tuple[str, ...] = ()


@dataclass(frozen=True)
class HardwareNic:
    """``name`` is the one the interface keeps, ``old_mac`` the card's address on the original;
    ``ids`` as of a disk's controller."""

    name: str
    mac: str
    old_mac: str = ""
    driver: str = ""
    ids: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Hardware:
    """What the image shall boot on."""

    firmware: str  # bios or uefi
    role: str  # stand-in or primary
    disks: List[HardwareDisk] = field(default_factory=list)
    nics: List[HardwareNic] = field(default_factory=list)
    recovery: str = ""  # which recovery made this machine; nothing on a stand-in

    def to_json(self) -> Dict[str, Any]:
        return {
            "firmware": self.firmware,
            "role": self.role,
            "disks": [dict(vars(one)) for one in self.disks],
            "nics": [dict(vars(one)) for one in self.nics],
        }


def read_hardware(body: Mapping[str, Any]) -> Hardware:
    """Read what the server sent with a job."""
    try:
        hardware = Hardware(
            firmware=str(body["firmware"]),
            role=str(body["role"]),
            disks=[
                HardwareDisk(str(one["driver"]), _texts(one.get("ids"))) for one in body["disks"]
            ],
            nics=[
                HardwareNic(
                    name=str(one["name"]),
                    mac=str(one["mac"]).lower(),
                    old_mac=str(one.get("old_mac", "")).lower(),
                    driver=str(one.get("driver", "")),
                    ids=_texts(one.get("ids")),
                )
                for one in body["nics"]
            ],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad(f"{error} is missing or of the wrong kind") from None
    if hardware.firmware not in ("bios", "uefi"):
        raise _bad(f"firmware '{hardware.firmware}' is not known")
    if hardware.role not in ("stand-in", "primary"):
        raise _bad(f"role '{hardware.role}' is not known")
    return hardware


def _texts(told: Any) -> Tuple[str, ...]:
    return tuple(str(one) for one in told) if isinstance(told, (list, tuple)) else ()


def _bad(why: str) -> NotfallError:
    return NotfallError(
        "bad-hardware",
        f"The description of the hardware is broken: {why}.",
        "Build the rescue medium anew, so that it fits the server.",
    )
