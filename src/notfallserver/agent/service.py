"""The agent's service: a duty for each server, which neither knows nor hinders the other.

The first server's is the caller's thread, so that asked to leave it does so at once; the second's
is a thread that leaves when it comes to ask.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import List, Optional, Set

from notfallserver.agent.duty import Duty
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.servers import Server, known_servers
from notfallserver.agent.stop import Stop, Stopped
from notfallserver.agent.work.base import Host
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

_AGAIN_S = 60.0
"""After so long a duty that ended with an error is begun anew, where there is another one."""
_LEAVE_S = 15.0
"""For a run that is under way when the service is asked to leave; systemd waits 60 s, Windows'
service manager as long as the service says that it is leaving."""


class Service:
    """One per process; ``directory`` has the machine's settings (``servers.py``)."""

    def __init__(self, directory: Path, stop: Stop, host: Optional[Host] = None) -> None:
        if host is None:
            from notfallserver.agent.work.here import host as this_host

            host = this_host(directory, stop)
        self._directory = directory
        self._stop = stop
        self._host = host
        self._state = threading.Lock()
        self._renewed: Set[Path] = set()
        """Whose enrolment was renewed and not yet taken up."""
        first, *others = known_servers(directory)
        self._settings = first.settings()
        self.first = self._duty(first)
        self.others: List[Duty] = []
        for one in others:
            try:
                self.others.append(self._duty(one))
            except NotfallError as error:  # it must not keep the first from being served
                log.error("%s", error)

    def _duty(self, server: Server) -> Duty:
        settings = server.settings()
        return Duty(server, settings, self._stop, self._host.work(server, settings))

    @property
    def duties(self) -> List[Duty]:
        return [self.first, *self.others]

    # -- serving ---------------------------------------------------------------------------------

    def serve(self) -> None:
        """Work until asked to leave."""
        self._host.come_up()
        self._host.begin(self._settings)
        asked = False
        try:
            for one in self.others:
                self._begin(one)
            if self.others or not self._host.restarts:
                self._attend(self.first)
            else:
                self.first.serve()
        except Stopped:
            asked = True
            log.info("asked to leave")
        finally:
            down = asked and self._host.going_down()
            for one in self.duties:
                one.leave_off(asked, down, _LEAVE_S)

    def _begin(self, duty: Duty) -> None:
        threading.Thread(target=self._attend_apart, args=(duty,), daemon=True).start()

    def _attend_apart(self, duty: Duty) -> None:
        with suppress(Stopped):
            self._attend(duty)

    def _attend(self, duty: Duty) -> None:
        """An error in what one server needs is no reason to leave the other one."""
        while True:
            try:
                duty = self._serve(duty)
                continue
            except NotfallError as error:
                log.error("%s", error)
            except Exception:
                log.exception("serving one server failed")
            self._stop.wait(_AGAIN_S)

    def _serve(self, duty: Duty) -> Duty:
        """Returns when the server's enrolment was renewed: the duty that knows the new one."""
        directory = duty.server.directory
        duty.serve(lambda: directory in self._renewed)
        duty.leave_off(False, False, _LEAVE_S)
        new = self._duty(duty.server)
        with self._state:
            self._renewed.discard(directory)
            if duty is self.first:
                self.first = new
            else:
                self.others = [new if one is duty else one for one in self.others]
        return new

    # -- of another thread -----------------------------------------------------------------------

    def enrolled(self, server: Server) -> None:
        """There was an enrolment while this service works: serve the server by it from now on.

        A run for it that is under way comes to its end first. Raises ``bad-settings``.
        """
        with self._state:
            if any(one.server == server for one in self.duties):
                self._renewed.add(server.directory)
                return
        duty = self._duty(server)
        with self._state:
            self.others.append(duty)
        self._begin(duty)

    # -- by hand ---------------------------------------------------------------------------------

    def replicate(self, deep: bool = False) -> Outcome:
        """One run for the first server now; a deep one reads all, whatever is known."""
        return self.first.replicate(deep)

    def close(self) -> None:
        for one in self.duties:
            one.leave_off(False, False, 0)
