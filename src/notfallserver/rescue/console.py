"""What a person in front of the machine sees, on the screen and on the serial line alike.

The screen (tty1) is painted anew; the serial line gets the whole picture when something but the
progress changed, else one line, so that its log stays readable.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Sequence

from notfallserver.wire.facts import Disk, Machine

SCREEN = Path("/dev/tty1")
SERIAL = Path("/dev/ttyS0")
LINE_EVERY_S = 5.0
RULE = "=" * 72


@dataclass(frozen=True)
class View:
    """What is to be shown."""

    code: str
    servers: Sequence[str]
    reached: str  # the server's address, empty while none answers
    machine: Machine
    step: str  # what happens now, or what to do next
    progress: str = ""
    trouble: str = ""
    orders: Sequence[str] = field(default_factory=list)


def size_text(size: int) -> str:
    """Bytes for people, decimal as printed on disks."""
    number = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return ""


def disk_line(disk: Disk) -> str:
    kinds = [one.filesystem or "?" for one in disk.partitions]
    content = f"{disk.table or 'no table'}: {', '.join(kinds)}" if kinds or disk.table else "empty"
    told = f"{disk.name:<10} {size_text(disk.size):>8}  {disk.model or '-'}"
    return f"  {told}, serial {disk.serial or '-'}, {content}"


def paint(view: View) -> str:
    """The whole picture as text."""
    machine = view.machine
    addresses = ", ".join(machine.addresses()) or "none yet (waiting for DHCP)"
    server = view.reached or f"{', '.join(view.servers)} (not reached yet)"
    lines = [RULE, "NOTFALLSERVER - RESCUE SYSTEM", RULE]
    lines += [f"Pairing code:  {view.code}", ""]
    lines += [f"Emergency server:  {server}", f"This machine:      {addresses}"]
    lines += [f"                   {machine.vendor} {machine.product}, {machine.firmware.upper()}"]
    lines += ["", "Disks:"]
    lines += [disk_line(disk) for disk in machine.disks] or ["  none found"]
    lines += ["", f"Now: {view.step}"]
    if view.trouble:
        lines += [f"Trouble: {view.trouble}"]
    return "\n".join([*lines, RULE])


class Console:
    """Writes views where a person may look; a missing device is no trouble."""

    def __init__(self, screen: Path = SCREEN, serial: Path = SERIAL) -> None:
        self._screen = screen
        self._serial = serial
        self._painted = ""
        self._line_at = 0.0

    def show(self, view: View) -> None:
        picture = paint(view)
        lines: List[str] = [picture, view.progress] if view.progress else [picture]
        _write(self._screen, "\033[2J\033[H\033[9;0]" + "\n".join(lines) + "\n")
        if picture != self._painted:
            self._painted = picture
            _write(self._serial, picture + "\n")
        elif view.progress and time.monotonic() - self._line_at > LINE_EVERY_S:
            self._line_at = time.monotonic()
            _write(self._serial, view.progress + "\n")


def _write(device: Path, text: str) -> None:
    try:
        with device.open("wb", buffering=0) as raw:
            raw.write(text.replace("\n", "\r\n").encode())
    except OSError:
        pass
