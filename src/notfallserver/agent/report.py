"""How the system of a rehearsed copy came up, told on its serial console.

Only a stand-in that reaches no emergency server does so: one at work reaches the one that runs it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional

from notfallserver.agent import commands
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.report import SystemReport

CONSOLE = Path("/dev/ttyS0")
STARTING = ("initializing", "starting")
LOGINS = ("getty@tty1.service", "display-manager.service")


def tell_system(console: Path = CONSOLE) -> bool:
    """Write the line; True when the system is through with starting. Nothing of it may fail."""
    report = look()
    if report is None:
        return True
    try:
        handle = os.open(console, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        # Whatever stands there already, the line begins a new one.
        os.write(handle, f"\r\n{report.line()}\r\n".encode())
    except OSError:
        return True
    finally:
        os.close(handle)
    return report.system not in STARTING


def look() -> Optional[SystemReport]:
    """What systemd says; None where there is none."""
    system = _said(["systemctl", "is-system-running"])
    if not system:
        return None
    listed = _said(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--full"])
    failed = tuple(line.split()[0] for line in listed.splitlines() if line.strip())
    active = _said(["systemctl", "is-active", *LOGINS]).split()
    return SystemReport(system, failed, "active" in active)


def _said(arguments: List[str]) -> str:
    """What it printed, whatever its exit code says."""
    try:
        return commands.run(["sh", "-c", '"$@"; true', "sh", *arguments]).strip()
    except NotfallError:
        return ""
