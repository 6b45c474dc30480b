"""What a run achieved, and how its server is told. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Tuple

from notfallserver.agent.applications.application import Applied


@dataclass(frozen=True)
class Outcome:
    """What a run achieved. Bytes; milliseconds; seconds."""

    version: str
    read_all: bool
    passes: int
    bytes_read: int
    bytes_sent: int
    frozen_blocks: int
    freeze_ms: float
    seconds: float
    consistency: str
    applications: Tuple[Applied, ...] = ()
    unexplained: int = 0  # blocks that a deep run found changed, but not written
    frozen_at: str = ""


def seal_body(
    outcome: Outcome, machine: Dict[str, Any], line_rate: float, deep: bool
) -> Dict[str, Any]:
    """The message that makes it a version; ``line_rate`` in bytes a second, 0 = unknown."""
    return {
        "machine": machine,
        "frozen_at": outcome.frozen_at,
        "freeze_ms": round(outcome.freeze_ms, 1),
        "consistency": outcome.consistency,
        "applications": [asdict(one) for one in outcome.applications],
        "passes": outcome.passes,
        "bytes_read": outcome.bytes_read,
        "bytes_sent": outcome.bytes_sent,
        "read_all": outcome.read_all,
        "line_rate": round(line_rate),
        "deep": deep,
        "unexplained": outcome.unexplained,
    }
