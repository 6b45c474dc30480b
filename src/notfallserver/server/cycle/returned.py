"""An original that comes back while its stand-in works: there must be one live copy only.

Two lines hold it off. Its own agent asks for its addresses before its network comes up, keeps off
it when the stand-in answers, and tells here (``kept-off``). One that got through (a switch that was
slow, another segment, a cut that heals) calls as always, and is ordered off the network. Which of
both loses is no question: the stand-in has what was written since.
"""

from __future__ import annotations

from typing import Any

from notfallserver.server.cycle.elsewhere import works_elsewhere
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.recovery.desk import NO_ORDER
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.records.primaries import Primary
from notfallserver.server.vm.hypervisor import LIVE
from notfallserver.wire.errors import NotfallError

STAY_OFF = {"order": "stay-off"}
_RETURNED = "returned"
"""In the primary's notes: the boot of the original that called beside its stand-in."""
_KEPT_OFF = "kept_off"
"""The boot of the original that keeps off the network."""


def greet(means: Means, primary: str) -> dict[str, Any] | None:
    """The order for a caller of role ``primary``; None: there is no stand-in beside it.

    Without a stand-in that runs nothing is at stake yet: a person must see it, that is all.
    """
    row = means.catalogue.primaries.find(primary)
    if not _is_original(row, row.notes.get("made_by", "")):
        return None
    # One that said it would leave the network, and calls all the same, has not left it.
    stayed = row.notes.get(_KEPT_OFF) == row.agent_boot_id
    if row.notes.get(_RETURNED) != row.agent_boot_id or stayed:
        told = {_RETURNED: row.agent_boot_id, **({_KEPT_OFF: None} if stayed else {})}
        means.catalogue.primaries.note(primary, **told)
        means.catalogue.journal.write(
            primary,
            "original-returned",
            "server",
            "The original calls while its stand-in works: switch the original off.",
        )
    return STAY_OFF if _standin_lives(means, primary) else NO_ORDER


def hear_kept_off(means: Means, primary: str, body: dict[str, Any]) -> dict[str, Any]:
    """An original tells that it keeps off the network; whether it must stay so.

    No sign of life: nothing that the guard has to fear is on the network.
    """
    row = means.catalogue.primaries.find(primary)
    recovery, boot = str(body.get("recovery", ""))[:64], str(body.get("boot_id", ""))[:64]
    stay = _is_original(row, recovery) or works_elsewhere(row)
    if stay and row.notes.get(_KEPT_OFF) != boot:
        means.catalogue.primaries.note(primary, **{_KEPT_OFF: boot})
        means.catalogue.journal.write(
            primary,
            "original-kept-off",
            "server",
            "The original was switched on, and keeps off the network by itself.",
            {"because": str(body.get("because", ""))[:20]},
        )
    return {"stay": stay}


def _is_original(row: Primary, made_by: str) -> bool:
    """Whether there is a stand-in, and the caller is not the machine that replaces it just now."""
    if State(row.state) not in WITH_STANDIN:
        return False
    recovery = row.notes.get("recovery", {}).get("id")
    return not (row.state == State.SWITCHING_BACK and recovery and made_by == recovery)


def _standin_lives(means: Means, primary: str) -> bool:
    """A hypervisor that does not answer may run it."""
    try:
        return means.hypervisor.state(machine_name(primary)) in LIVE
    except NotfallError:
        return True
