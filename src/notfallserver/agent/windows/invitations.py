"""Who invites this machine while it works: its service serves whoever was added, or enrolled anew.

An enrolment by hand is another process, and known by the files that it leaves.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, Dict, Tuple

from notfallserver.agent.servers import Server, known_servers
from notfallserver.agent.stop import Stop, Stopped
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

LOOK_AGAIN_S = 15.0
TRY_AGAIN_S = 60.0
"""After so long an invitation is tried again that failed for what may pass."""

Mark = Tuple[int, int]
"""Of ``agent.json``, which is replaced last: when, and its size."""


class Invitation:
    """What the package has written down: ``read`` tells the server and the token, empty if there is
    none; ``enrol`` uses it, and ``forget`` removes the token.

    One that was refused is not tried again. What fails for the network is told once.
    """

    def __init__(
        self,
        read: Callable[[], Tuple[str, str]],
        enrol: Callable[[str, str], None],
        forget: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._enrol = enrol
        self._forget = forget
        self._clock = clock
        self._tried: Tuple[str, str] = ("", "")
        self._again = 0.0
        self._told = ""

    def use(self) -> None:
        """If there is one, and its time has come."""
        found = self._read()
        if not found[1] or (found == self._tried and self._clock() < self._again):
            return
        if found != self._tried:
            self._tried, self._told = found, ""
        try:
            self._enrol(*found)
        except NotfallError as error:
            if str(error) != self._told:
                log.error("enrolment: %s", error)
            self._told = str(error)
            if error.retry:
                self._again = self._clock() + TRY_AGAIN_S
                return
        self._forget()
        self._tried = ("", "")


class Watch:
    """``use`` uses an invitation if there is one; ``enrolled`` hears of each server whose enrolment
    is newer than this watch."""

    def __init__(
        self,
        directory: Path,
        stop: Stop,
        use: Callable[[], None],
        enrolled: Callable[[Server], None],
    ) -> None:
        self._directory = directory
        self._stop = stop
        self._use = use
        self._enrolled = enrolled
        self._known = self._marks()

    def start(self) -> None:
        """Look again and again, in a thread that leaves with the service."""
        threading.Thread(target=self._watch, daemon=True).start()

    def look(self) -> None:
        self._use()
        for server, mark in self._marks().items():
            if self._known.get(server) != mark:
                self._enrolled(server)
                self._known[server] = mark  # not before: what failed is tried again

    def _watch(self) -> None:
        with suppress(Stopped):
            while True:
                try:
                    self.look()
                except NotfallError as error:
                    log.error("%s", error)
                except Exception:
                    log.exception("looking for invitations failed")
                self._stop.wait(LOOK_AGAIN_S)

    def _marks(self) -> Dict[Server, Mark]:
        found: Dict[Server, Mark] = {}
        for one in known_servers(self._directory):
            with suppress(OSError):
                told = (one.directory / "agent.json").stat()
                found[one] = (told.st_mtime_ns, told.st_size)
        return found
