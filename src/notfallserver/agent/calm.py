"""When a hot pass pauses for the sake of the primary's own work (pure, but for :func:`look`).

The load of the last minute is taken as it is. The pressure on the disks would count our own
reading: so from time to time we hold still for a moment and count only how long others wait. All
pauses of a run together are bounded, so that it ends on a machine that is always busy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from notfallserver.wire.allowance import Allowance

LISTEN_EVERY_S = 30.0
_PRESSURE = Path("/proc/pressure/io")
_LOAD = Path("/proc/loadavg")


@dataclass(frozen=True)
class Look:
    """Seconds on a clock; load of the last minute; microseconds so far in which somebody waited
    for a disk, None where the kernel doesn't count them."""

    at: float
    load: float
    waited_us: Optional[int]


def look(now: float) -> Look:
    """How busy the machine is."""
    try:
        load = float(_LOAD.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        load = 0.0
    try:
        found = re.search(r"^some .*total=(\d+)", _PRESSURE.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return Look(now, load, int(found[1]) if found else None)


class Calm:
    """One per run; asked about once a second."""

    def __init__(self) -> None:
        self._before: Optional[Look] = None
        self._listened = float("-inf")
        self._held = ""
        self._paused = 0.0

    def judge(self, now: Look, allowance: Allowance) -> str:
        """Why to hold still until asked again: ``load``, ``pressure``, ``listen``; empty: go on."""
        before, self._before = self._before, now
        if before is not None and self._held in ("load", "pressure"):
            self._paused += now.at - before.at
        if self._paused >= allowance.pause_s:
            self._held = ""
        elif allowance.pause_load and now.load > allowance.pause_load:
            self._held = "load"
        else:
            self._held = self._by_pressure(before, now, allowance.pause_pressure)
        return self._held

    def _by_pressure(self, before: Optional[Look], now: Look, limit: float) -> str:
        if not limit or now.waited_us is None:
            return ""
        if not self._held or before is None or before.waited_us is None:
            return "listen" if now.at - self._listened >= LISTEN_EVERY_S else ""
        # Nothing of ours was read since the last look.
        self._listened = now.at
        passed_us = max(1.0, (now.at - before.at) * 1e6)
        share = 100 * (now.waited_us - before.waited_us) / passed_us
        return "pressure" if share > limit else ""

    def forget(self) -> None:
        """The hot pass is over; what was held is not any more."""
        self._held, self._before = "", None
