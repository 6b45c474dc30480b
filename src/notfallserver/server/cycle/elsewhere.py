"""A stand-in that another emergency server has started: it calls here, too.

Its disks are those of the primary, so its agent carries the certificate for this server as well,
and tells the role ``stand-in`` while this server has started none. It is no sign of life of the
original that work could be built on: no run is ordered or taken, no schedule goes on. But the guard
counts it, because there must be only one live copy.
"""

from __future__ import annotations

from notfallserver.server.cycle.state import WITH_STANDIN
from notfallserver.server.records.catalogue import Catalogue
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

_NOTE = "elsewhere"
"""In the primary's notes: the boot of the stand-in that called."""


def works_elsewhere(row: Primary) -> bool:
    """Whether who called last under this name is another server's stand-in."""
    return row.agent_role == "stand-in" and row.notes.get(_NOTE) == row.agent_boot_id


def note_caller(catalogue: Catalogue, before: Primary, role: str, boot_id: str) -> None:
    """Tell people when a stand-in calls that isn't ours; ``before``: the row before this call."""
    known = before.notes.get(_NOTE)
    if role != "stand-in":
        if known:
            catalogue.primaries.note(before.uuid, **{_NOTE: None})
        return
    # One that called while this server had a stand-in is ours, and goes down just now.
    ours = before.agent_role == "stand-in" and before.agent_boot_id == boot_id
    if before.state in WITH_STANDIN or ours or known == boot_id:
        return
    catalogue.primaries.note(before.uuid, **{_NOTE: boot_id})
    catalogue.journal.write(
        before.uuid,
        "stand-in-elsewhere",
        "server",
        "A stand-in that another emergency server started does the work of this primary.",
    )


def refuse_elsewhere(row: Primary) -> None:
    """What such a stand-in writes must not become versions here, as if it were the primary."""
    if works_elsewhere(row):
        raise NotfallError(
            "stand-in-elsewhere",
            f"A stand-in of {row.name} works at another emergency server.",
            "Bring the primary back from there; then it is replicated here again.",
            status=409,
        )
