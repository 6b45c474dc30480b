"""Shutting down by systemd, and taking it back.

Everything goes in one order to systemd, which stops units in the reverse of the order in which they
were to start, as when the machine goes down.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from pathlib import Path
from typing import Callable, List, Sequence

from notfallserver.agent import commands, kernel
from notfallserver.agent.handover.listeners import reachable
from notfallserver.agent.handover.note import Note
from notfallserver.agent.handover.units import (
    KINDS,
    PROPERTIES,
    Unit,
    is_kept,
    own_unit,
    read_units,
    to_start,
    to_stop,
)
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

_SYSTEMD = Path("/run/systemd/system")
_CONTAINER = Path("/run/systemd/container")
START_S = 600.0
_LISTENS_S = 5.0
"""So long somebody who was stopped may keep a port."""


def can_hand_over() -> bool:
    """Whether this machine can be shut down and switched off from here."""
    whole = _SYSTEMD.is_dir() and not _CONTAINER.exists()
    return whole and os.geteuid() == 0 and kernel.may_power_off()


class Services:
    """Those of this machine. ``keep``: patterns of units that work on."""

    def __init__(self, note: Note, keep: Sequence[str], seconds: float) -> None:
        self._note = note
        self._keep = [*keep, "notfall-agent.service"]
        if own := own_unit(Path("/proc/self/cgroup").read_text()):
            self._keep.append(own)
        self._seconds = seconds

    def stop(self, tick: Callable[[], None]) -> None:
        """Shut down; ``tick`` is called about once a second and may raise. Raises where somebody
        does not stop or can still be reached; whoever calls starts all again then."""
        units = to_stop(self._units(), self._keep)
        self._note.write(units)
        if units:
            self._order("stop", units, self._seconds, tick)
        left = to_stop(self._units(), self._keep)
        if left:
            raise _not_stopped(", ".join(left[:5]), f"keep_services, stop_seconds ({len(left)})")
        kept = {one.name for one in self._units() if is_kept(one, self._keep)}
        until = time.monotonic() + _LISTENS_S
        while ports := reachable(kept.__contains__):
            if time.monotonic() > until:
                raise _not_stopped(f"port {', port '.join(ports[:5])}", "keep_services")
            time.sleep(0.2)

    def start_again(self) -> None:
        """Everything that was stopped, as far as it can be; what fails is in the log."""
        stopped = self._note.read()
        units = to_start(stopped.units) if stopped else []
        if units and not self._order("start", units, START_S, _nobody):
            log.error("not everything was started again: see systemctl --failed")
        self._note.remove()

    @staticmethod
    def _units() -> List[Unit]:
        patterns = [f"*.{kind}" for kind in KINDS]
        return read_units(commands.run(["systemctl", "show", f"-p{PROPERTIES}", *patterns]))

    @staticmethod
    def _order(verb: str, units: Sequence[str], seconds: float, tick: Callable[[], None]) -> bool:
        """Whether systemd did it for all of them in time."""
        process = subprocess.Popen(
            ["systemctl", verb, "--", *units],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=commands.environment(),
        )
        until = time.monotonic() + seconds
        try:
            while process.poll() is None and time.monotonic() < until:
                tick()
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:
                    pass
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return process.returncode == 0


def _nobody() -> None:
    """Nobody waits for it."""


def _not_stopped(what: str, settings: str) -> NotfallError:
    return NotfallError(
        "services-not-stopped",
        f"Not everything could be shut down for the handover: {what}. It was started again.",
        f"See why it does not stop (systemctl status), or change {settings} in "
        "/etc/notfall-agent/agent.json.",
    )
