"""What systemd says of the machine: how it came up, what did not start, where one can log in.

A machine tells it twice: the original with its facts, its rehearsed copy on the serial console; so
that what fails in the copy alone is told from what never worked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

from notfallserver.agent import commands
from notfallserver.wire.errors import NotfallError

STARTING = ("initializing", "starting")
ABSENT = ("", "offline", "unknown")
LOGINS = ("getty@*.service", "serial-getty@*.service")
DISPLAY = "display-manager.service"
"""An alias of whichever there is, which no pattern finds."""
MOST = 64
_WITHIN_S = 10.0


@dataclass(frozen=True)
class Seen:
    """``system`` is what systemd calls its state (running, degraded, starting ...), ``failed`` the
    units that did not start, ``logins`` those that wait for somebody to log in."""

    system: str
    failed: Tuple[str, ...] = ()
    logins: Tuple[str, ...] = ()


def look() -> Optional[Seen]:
    """None where there is no systemd."""
    system = _said(["systemctl", "is-system-running"])
    if system in ABSENT:
        return None
    logins = list(_units("--state=running", *LOGINS))
    if _said(["systemctl", "is-active", DISPLAY]) == "active":
        logins.append(DISPLAY)
    return Seen(system, _units("--failed"), tuple(logins))


def _units(*which: str) -> Tuple[str, ...]:
    told = _said(["systemctl", "list-units", "--plain", "--no-legend", "--full", *which])
    return tuple(line.split()[0] for line in told.splitlines() if line.strip())[:MOST]


def _said(arguments: List[str]) -> str:
    """What it printed, whatever its exit code says."""
    try:
        return commands.run(["sh", "-c", '"$@"; true', "sh", *arguments], _WITHIN_S).strip()
    except NotfallError:
        return ""
