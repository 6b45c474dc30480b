"""What a server does about a crash of its predecessor, when it starts."""

from __future__ import annotations

import logging
from datetime import datetime, timezone

from notfallserver.server.cycle.choice import wished
from notfallserver.server.cycle.handover.plan import read_left
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move
from notfallserver.server.cycle.rehearsals import leave_rehearsal
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.cycle.state import WITH_STANDIN, Event, State
from notfallserver.server.vm.hypervisor import MachineState
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)


def wake_standins(means: Means) -> None:
    """A server killed in a capture left its stand-in paused."""
    for row in means.catalogue.primaries.all():
        name = machine_name(row.uuid)
        try:
            if (
                State(row.state) in WITH_STANDIN
                and means.hypervisor.state(name) is MachineState.PAUSED
            ):
                means.hypervisor.resume(name)
        except NotfallError as error:
            log.warning("%s: %s", row.name, error)


def mend(means: Means, runner: JobRunner, move: Move) -> None:
    """A state that was entered, but whose job was not yet written down."""
    for row in means.catalogue.primaries.all():
        unfinished = {job.kind for job in means.catalogue.jobs.unfinished(row.uuid)}
        if row.state == State.ACTIVATING and "activate" not in unfinished:
            asked = datetime.now(timezone.utc).isoformat()
            left = read_left(row.notes)
            again = {
                "asked_at": asked,
                "again": True,
                "version": left.version if left else wished(row),
            }
            runner.submit("activate", row.uuid, again, "server")
        elif row.state == State.RECOVERING and not unfinished & {"recover", "switch_back"}:
            runner.submit("recover", row.uuid, {}, "server")
        elif row.state == State.REHEARSING and "rehearse" not in unfinished:
            leave_rehearsal(means, move, row.uuid, "the server was restarted")
        elif row.state == State.HANDING_OVER and "hand_over" not in unfinished:
            gone = Event.OUTAGE_SEEN if read_left(row.notes) else Event.HANDOVER_FAILED
            move(row.uuid, gone, "server", "the server was restarted")
