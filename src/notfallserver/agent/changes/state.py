"""The record that tells a restarted agent what its predecessor knew.

Written as a whole (new file, rename), so it is the old one or the new one wherever an agent is
killed. It counts only in the same boot, for the same primary, disks and tracker. It may be
removed at any time: an agent without it reads everything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, List, Optional, Sequence

from notfallserver.agent.disks.base import Protected
from notfallserver.wire.blocks import Run

FORMAT = 1


@dataclass(frozen=True)
class State:
    """The first four say for what the others count, which are as in the ledger."""

    boot: str
    primary: str
    layout: str
    tracker: str = ""
    since: str = ""
    held: List[List[Run]] = field(default_factory=list)
    sealing: str = ""
    promised: List[List[Run]] = field(default_factory=list)

    def differs(self, other: State) -> str:
        """In what of the first four, empty where in nothing."""
        names = ("boot", "primary", "layout", "tracker")
        return next((one for one in names if getattr(self, one) != getattr(other, one)), "")


def layout_mark(disks: Sequence[Protected]) -> str:
    """Equal for equal disks, down to each partition."""
    told = json.dumps([asdict(one) for one in disks], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def read_state(path: Path) -> Optional[State]:
    """None if there is none, or one that this program does not understand."""
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            return None
        return State(
            boot=str(told["boot"]),
            primary=str(told["primary"]),
            layout=str(told["layout"]),
            tracker=str(told["tracker"]),
            since=str(told["since"]),
            held=_read_runs(told["held"]),
            sealing=str(told["sealing"]),
            promised=_read_runs(told["promised"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _read_runs(told: Any) -> List[List[Run]]:
    return [[(int(first), int(count)) for first, count in runs] for runs in told]


def write_state(path: Path, state: State) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps({"format": FORMAT, **vars(state)}), encoding="utf-8")
    new.replace(path)
