"""What a rehearsed copy tells of its own system: how it came up, and whether one can log in.

Its agent writes that on the serial console (``wire.report``), and goes on until the system has
started. Where no agent tells anything, a prompt on that console shows as well that one can log in.
It is held against what the original's agent told of the original when the version was made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine
from notfallserver.wire.report import SystemReport, last_report, told_name

CONSOLE_END = 256 << 10
FIRST_REPORT_S = 15.0
"""A copy whose agent has told nothing by then has none that can, or no serial console ..."""
KNOWN_TO_TELL_S = 60.0
"""... unless the original's agent told of its system: the same one is in the copy, and waits for
its server a while before it tells."""
REPORTS_S = 180.0
"""One that is still starting then is told as such."""
STARTING = ("initializing", "starting")
_PROMPT = re.compile(r"^[^\r\n]{1,80} login:[ \r]*(\[ *\d+\.\d+\].*)?$", re.MULTILINE)
"""The kernel may write behind it."""


@dataclass(frozen=True)
class Heard:
    """Fields of the evidence (``pool.proof``), with its names."""

    system: str = ""
    failed_units: tuple[str, ...] = ()
    failed_before: tuple[str, ...] | None = None
    login: bool | None = None
    login_before: bool | None = None


def hear(console: Path, machine: Machine, pause: Callable[[], None]) -> Heard:
    """``console`` is what the copy of ``machine`` writes; ``pause`` waits about a second."""
    began = time.monotonic()
    first = KNOWN_TO_TELL_S if machine.systemd else FIRST_REPORT_S
    while True:
        text = _end_of(console)
        report = last_report(text)
        through = report is not None and report.system not in STARTING
        if through or time.monotonic() - began > (first if report is None else REPORTS_S):
            return weigh(report, machine, bool(_PROMPT.search(text)))
        pause()


def weigh(report: SystemReport | None, machine: Machine, prompt: bool) -> Heard:
    """Pure. What is still starting has no login screen *yet*, which says nothing."""
    known = bool(machine.systemd) and machine.systemd not in STARTING
    login_before = bool(machine.logins) if known else None
    if report is None:
        return Heard(login=True if prompt else None, login_before=login_before)
    before = {told_name(one) for one in machine.failed_units}
    return Heard(
        system=report.system,
        failed_units=report.failed,
        failed_before=tuple(one for one in report.failed if one in before) if known else None,
        login=None if report.system in STARTING and not report.login else report.login,
        login_before=login_before,
    )


def no_login_error() -> NotfallError:
    """Why a rehearsal failed."""
    return NotfallError(
        "rehearsal-no-login",
        "It answers, but nobody could log in at its screen, as one can at the original.",
        "Look at the picture of its screen. A desktop that needs the original's graphics card does "
        "not start in a virtual machine; a text console beside it does (getty@tty1).",
        status=409,
    )


def _end_of(log_file: Path) -> str:
    """The machine writes it, so it may be of any length."""
    try:
        with log_file.open("rb") as file:
            file.seek(max(0, log_file.stat().st_size - CONSOLE_END))
            return file.read(CONSOLE_END).decode(errors="replace")
    except OSError:
        return ""
