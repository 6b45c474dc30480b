"""The agent's service: a duty for each server, which neither knows nor hinders the other.

The first server's is the main thread, so that asked to leave it does so at once; the second's is a
thread that leaves when it comes to ask.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import List

from notfallserver.agent.applications.leftovers import Notes, thaw_applications
from notfallserver.agent.changes.boots import going_down
from notfallserver.agent.duty import Duty
from notfallserver.agent.freeze.linux import thaw_leftovers
from notfallserver.agent.gentle import settle_down
from notfallserver.agent.handover.departure import finish_leftovers
from notfallserver.agent.handover.note import Note
from notfallserver.agent.handover.services import Services
from notfallserver.agent.meeting import Meeting
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.place import Place
from notfallserver.agent.servers import known_servers
from notfallserver.agent.stop import Stop, Stopped
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

_AGAIN_S = 60.0
"""After so long a duty that ended with an error is begun anew, where there is another one."""
_LEAVE_S = 15.0
"""For a run that is under way when the service is asked to leave; systemd waits 60 s."""


class Service:
    """One per process; ``directory`` has the machine's settings (``servers.py``)."""

    def __init__(self, directory: Path, stop: Stop) -> None:
        self._place = Place(directory)
        self._stop = stop
        first, *others = known_servers(directory)
        self._nice = first.settings().nice
        meeting = Meeting()
        self.first = Duty(first, stop, meeting)
        self.others: List[Duty] = []
        for one in others:
            try:
                self.others.append(Duty(one, stop, meeting))
            except NotfallError as error:  # it must not keep the first from being served
                log.error("%s", error)

    def serve(self) -> None:
        """Work until asked to leave."""
        settle_down(self._nice)
        for place in thaw_leftovers(self._place.note):
            log.warning("thawed %s, which an agent that was killed had left frozen", place)
        for line in thaw_applications(Notes(self._place.common)):
            log.warning("%s", line)
        if done := go_on_after_handover(self._place):
            log.warning("%s", done)
        asked = False
        try:
            for one in self.others:
                threading.Thread(target=self._attend_apart, args=(one,), daemon=True).start()
            if self.others:
                self._attend(self.first)
            else:
                self.first.serve()
        except Stopped:
            asked = True
            log.info("asked to leave")
        finally:
            down = asked and going_down()
            for one in (self.first, *self.others):
                one.leave_off(asked, down, _LEAVE_S)

    def _attend_apart(self, duty: Duty) -> None:
        with suppress(Stopped):
            self._attend(duty)

    def _attend(self, duty: Duty) -> None:
        """An error in what one server needs is no reason to leave the other one."""
        while True:
            try:
                duty.serve()
            except NotfallError as error:
                log.error("%s", error)
            except Exception:
                log.exception("serving one server failed")
            self._stop.wait(_AGAIN_S)

    def replicate(self, deep: bool = False) -> Outcome:
        """One run for the first server now; a deep one reads all, whatever is known."""
        return self.first.replicate(deep)

    def close(self) -> None:
        for one in (self.first, *self.others):
            one.leave_off(False, False, 0)


def go_on_after_handover(place: Place) -> str:
    """What an agent that was killed had shut down; see :func:`finish_leftovers`."""
    note = Note(place.stopped)
    return finish_leftovers(note, Services(note, [], 0)) if note.read() else ""
