"""Which hardware of this machine Windows needs drivers for: controllers and cards, by its names.

Of a disk it is the outermost device on the way to it that is a controller of disks: behind Intel's
VMD a disk hangs on a controller of its own, which Windows does not see before it has VMD's driver.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from notfallserver.guest.facts import Hardware
from notfallserver.guest.windows.devices import pci_ids
from notfallserver.rescue.targets import TargetDisk

SYS = Path("/sys")
STORAGE = 0x01
"""The class of PCI devices that are controllers of disks."""


def with_ids(hardware: Hardware, disks: Sequence[TargetDisk], sys: Path = SYS) -> Hardware:
    """``disks`` in the order of the hardware's."""
    pairs = zip(hardware.disks, disks)
    return replace(
        hardware,
        disks=[replace(one, ids=controller_ids(disk.name, sys)) for one, disk in pairs],
        nics=[replace(one, ids=card_ids(one.mac, sys)) for one in hardware.nics],
    )


def controller_ids(disk: str, sys: Path = SYS) -> Tuple[str, ...]:
    """Empty for one that hangs on no such device, as on USB."""
    base = sys / "block" / disk / "device"
    # with native multipath an NVMe disk hangs below no PCI device, but its controllers do
    for start in (base, *sorted(base.glob("nvme*"))):
        found = [one for one in _pci_above(start) if _number(one / "class") >> 16 == STORAGE]
        if found:
            return ids_of(found[-1])
    return ()


def card_ids(mac: str, sys: Path = SYS) -> Tuple[str, ...]:
    for card in sorted((sys / "class/net").iterdir()):
        if (card / "device").exists() and _text(card / "address").lower() == mac.lower():
            return next((ids_of(one) for one in _pci_above(card / "device")), ())
    return ()


def ids_of(device: Path) -> Tuple[str, ...]:
    """``device``: a folder of a PCI device."""
    names = ("vendor", "device", "subsystem_device", "subsystem_vendor", "revision", "class")
    vendor, chip, sub, sub_vendor, revision, kind = (_number(device / one) for one in names)
    return pci_ids(vendor, chip, sub << 16 | sub_vendor, revision, kind)


def _pci_above(start: Path) -> Iterator[Path]:
    """From the inside to the outside."""
    here = start.resolve()
    above: List[Path] = [here, *here.parents]
    for one in above:
        if (one / "subsystem").resolve().name == "pci" and (one / "vendor").is_file():
            yield one


def _number(path: Path) -> int:
    told = _text(path)
    return int(told, 16) if told.startswith("0x") else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
