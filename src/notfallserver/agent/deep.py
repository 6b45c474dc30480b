"""A deep run's question: did anything change that nobody saw being written?

The first hot pass offers everything in use, and the server says which blocks it has otherwise.
Explained is what is marked as written since the server's version, up to the frozen moment: what
was written shortly before it was read is marked by then, too. Explained is also what the version
never had, and what is no longer in use.
"""

from __future__ import annotations

from typing import List, Sequence

from notfallserver.agent.changes.base import Marks
from notfallserver.agent.disks.runs import intersect, subtract
from notfallserver.wire.blocks import Run, runs_of


def unexplained(
    differing: Sequence[Sequence[int]],
    held: Sequence[Sequence[Run]],
    used: Sequence[Sequence[Run]],
    written: Marks,
) -> List[List[Run]]:
    """Per disk, the ``differing`` blocks that the version held and nobody wrote. Pure."""
    return [
        subtract(intersect(intersect(runs_of(sorted(blocks)), had), has), marks)
        for blocks, had, has, marks in zip(differing, held, used, written)
    ]
