"""What a replication may take of line and disks right now: the server decides it, the agent obeys.

The server knows limits, windows and its clock; the agent gets only what holds at this moment, with
the answer to the beginning of a run and to each message of progress. Zero means no limit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Dict

_MOST = 1e15


@dataclass(frozen=True)
class Allowance:
    """Zero: no limit; ``pause_s`` zero: it never pauses."""

    rate: float = 0
    """Bytes a second on the line, all connections together."""
    read_rate: float = 0
    """Bytes a second read from the disks, outside of the frozen moment."""
    pause_load: float = 0
    """Above this load of the last minute (as in /proc/loadavg) hot passes pause."""
    pause_pressure: float = 0
    """The same for the share of time, in percent, in which others wait for disks."""
    pause_s: float = 0
    """Most seconds that one run pauses altogether; then it goes on whatever the load is."""

    def to_json(self) -> Dict[str, float]:
        return asdict(self)


def read_allowance(body: Any) -> Allowance:
    """What the other side told; what is missing, negative or no number is no limit."""
    told = body if isinstance(body, dict) else {}
    known = {}
    for one in fields(Allowance):
        value = told.get(one.name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if 0 < value < _MOST:
            known[one.name] = float(value)
    return Allowance(**known)
