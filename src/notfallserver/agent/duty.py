"""What the agent does for one server, on each system: polls it, and carries out its orders.

The poll is the heartbeat; it goes on (marked busy) in a thread of its own while a replication
runs. An unreachable server is tried again for ever, soon at even intervals. What an order means is
the system's (``work/``).
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, MutableMapping, Optional, Tuple

from notfallserver import VERSION
from notfallserver.agent import config
from notfallserver.agent.addresses import remember
from notfallserver.agent.config import Settings
from notfallserver.agent.line import Line
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.role import recovery, role
from notfallserver.agent.seed import SeedDesk, seed_lines
from notfallserver.agent.servers import Server
from notfallserver.agent.stop import Stop
from notfallserver.agent.work.base import HAND_OVER, Connect, Run, Work
from notfallserver.wire.client import Client, Throttle
from notfallserver.wire.errors import NotfallError

POLL_TIMEOUT = 30.0
HEARTBEAT = 1.0
"""Between two polls while busy, in seconds; the server holds each for 5 s besides."""
_FIRST_PAUSE = 1.0
_ADDRESSES_S = 3600.0
"""So often the server is asked under which addresses it is found."""
_STANDOFF_PAUSE = 5.0
"""Between two polls of a machine that ought to leave the network, and can't."""


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # takes no parameter before Python 3.11


class _Named(_Adapter):
    """Says which server a line is about."""

    def __init__(self, server: str) -> None:
        super().__init__(logging.getLogger("notfall-agent"), {})
        self._server = server

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> Tuple[Any, MutableMapping[str, Any]]:
        return f"{self._server}: {msg}", kwargs


def _never() -> bool:
    return False


class Duty:
    """One per server. Its own thread works with it, except for :meth:`leave_off`."""

    def __init__(self, server: Server, settings: Settings, stop: Stop, work: Work) -> None:
        self.server = server
        self.work = work
        self._machine = server.machine
        self._stop = stop
        self._settings = settings
        self._log = _Named(server.name)
        self._pinned: Optional[Settings] = None  # in a handover, where names are not known any more
        self._untold: Optional[NotfallError] = None  # a failure that no run could report
        self._may_stay = False  # was ordered off the network, and nothing here can do it

    # -- serving ---------------------------------------------------------------------------------

    def serve(self, over: Callable[[], bool] = _never) -> None:
        """Work until asked to leave, or until between two orders it is ``over``."""
        self._prepare()
        client = config.connect(self.server.directory, self._settings)
        try:
            self._serve(client, over)
        finally:
            client.close()

    def _serve(self, client: Client, over: Callable[[], bool]) -> None:
        pause = _FIRST_PAUSE
        first, told = True, ""
        ask_again = 0.0
        while not over():
            self._stop.check()
            self.work.settle()
            try:
                body = self.poll_body(first, False)
                if ask := time.monotonic() >= ask_again:
                    body["near"] = True  # and where else it is found
                answer = client.call("POST", "/agent/v1/poll", body, POLL_TIMEOUT)
                if ask:
                    self._remember(answer.get("near"), answer.get("urls"))
                    ask_again = time.monotonic() + _ADDRESSES_S
                first, pause, self._untold, told = False, _FIRST_PAUSE, None, ""
            except NotfallError as error:
                # Once per outage: logs are read by people.
                level = logging.DEBUG if error.code == told else logging.WARNING
                self._log.log(level, "poll: %s", error)
                told = error.code
                ask_again = 0.0  # one that was lost may be another machine now
                if self._role() == "stand-in" and not self.work.tell_system():
                    pause = _FIRST_PAUSE  # of a rehearsal: soon there is more to tell
                self._stop.wait(pause)
                pause = min(pause * 2, self.work.longest_pause)
                continue
            self._obey(answer)

    def _obey(self, answer: Dict[str, Any]) -> None:
        order = answer.get("order")
        if order == "replicate" and self._role() == "primary":
            self._beating(lambda: self.replicate(answer.get("deep") is True))
        elif order == HAND_OVER and self._role() == "primary":
            self._beating(self.hand_over)
        elif order == "stay-off" and self._role() == "primary":
            self._may_stay = self._may_stay or not self.work.stay_off()
            self._stop.wait(_STANDOFF_PAUSE if self._may_stay else _FIRST_PAUSE)
        elif order != "none":
            self._stop.wait(_FIRST_PAUSE)

    def _prepare(self) -> None:
        if self._role() == "stand-in":
            return
        try:
            self.work.prepare()
        except NotfallError as error:
            self._log.warning("%s", error)

    def _role(self) -> str:
        return role(self._machine)

    def poll_body(self, facts: bool, busy: bool) -> Dict[str, Any]:
        """What is told with a poll; ``facts``: with those of the machine."""
        body: Dict[str, Any] = {
            "boot_id": self.work.boot_id(),
            "role": self._role(),
            "recovery": recovery(self._machine),
            "agent": VERSION,
            "busy": busy,
            "can": self.work.can(),
        }
        if self._untold is not None:
            body["failed"] = self._untold.to_json()
        if facts:
            try:
                body["machine"] = self.work.facts().to_json()
            except NotfallError as error:
                self._log.warning("%s", error)
        return body

    def _remember(self, near: Any = None, urls: Any = None) -> None:
        """The addresses that this machine has now, for its next start, and those of the server."""
        remember(self.server.directory, self._settings.url, urls)
        if self._role() == "primary":
            told = [str(one) for one in near] if isinstance(near, list) else []
            self.work.remember(self._settings.url if told else "", told)

    def _beating(self, replicate: Callable[[], Outcome]) -> None:
        """A run by order: it leaves the service whole, however it ends."""
        self._remember()
        over = threading.Event()
        self._start_heart(over)
        try:
            outcome = replicate()
            self._log.info("version %s: %s", outcome.version, outcome)
            for one in outcome.applications:
                if one.error:
                    self._log.warning("%s did not stand still: %s", one.name, one.error)
            if outcome.unexplained:
                self._log.error("%d blocks had changed without being seen", outcome.unexplained)
        except NotfallError as error:
            self._log.error("replication failed: %s [%s]", error, error.code)
        except self.work.passing as error:
            self._log.exception("replication failed")
            self._untold = self._failed(error)
        finally:
            over.set()

    def _start_heart(self, over: threading.Event) -> None:
        threading.Thread(target=self._beat, args=(over,), daemon=True).start()

    def _beat(self, over: threading.Event) -> None:
        """Keep polling while busy; orders given meanwhile are given again later."""
        client = self._client(None)
        while not over.wait(HEARTBEAT):
            try:
                client.call("POST", "/agent/v1/poll", self.poll_body(False, True), POLL_TIMEOUT)
            except NotfallError:
                pass  # the replication itself says when the server is away for long
        client.close()

    # -- replicating -----------------------------------------------------------------------------

    def _client(self, throttle: Optional[Throttle]) -> Client:
        settings = self._pinned or self._settings
        return config.connect(self.server.directory, settings, throttle)

    def _line(self, throttle: Optional[Throttle]) -> Line:
        return Line(self._client(throttle), self._stop)

    def replicate(self, deep: bool = False) -> Outcome:
        """One run now; a deep one reads all, whatever is known."""
        return self.carry_out(lambda connect: self.work.replication(connect, deep))

    def hand_over(self) -> Outcome:
        """The last version of this machine, and its end: on success this does not return."""
        try:
            self._pinned = config.pinned(self.server.directory, self._settings)
        except NotfallError as error:
            self._untold = error
            raise
        client = self._client(None)
        try:
            return self.carry_out(
                lambda connect: self.work.departing(
                    connect,
                    lambda body: client.call("POST", "/agent/v1/farewell", body, timeout=10),
                )
            )
        finally:
            client.close()
            self._pinned = None

    def seed(self, to: Path) -> Tuple[Outcome, Path]:
        """A first copy into a new directory below ``to``; the outcome, and that directory."""
        self.work.check_seed(to)
        line = self._line(None)
        over = threading.Event()
        self._start_heart(over)
        desk: Optional[SeedDesk] = None
        try:
            desk = SeedDesk(to, self._settings.primary, line)
            lines = seed_lines(desk)
            outcome = self.carry_out(lambda _: self.work.replication(lines, False))
            return outcome, desk.writer.directory
        finally:
            over.set()
            if desk is not None:
                desk.writer.close()
            line.close()

    def carry_out(self, prepare: Callable[[Connect], AbstractContextManager[Run]]) -> Outcome:
        """One run; a failure of which the server doesn't hear by it is told with a poll."""
        if self._role() == "stand-in":
            raise NotfallError(
                "is-stand-in",
                "This machine is a stand-in: its emergency server saves it by itself.",
                "Bring the primary back; then it is replicated again.",
            )
        run: Optional[Run] = None
        try:
            with prepare(self._line) as run:
                return run.run()
        except (NotfallError, OSError) as error:
            failed = error if isinstance(error, NotfallError) else self._failed(error)
            if run is None or not run.begun:
                self._untold = failed
            raise failed from error

    def leave_off(self, keep: bool, down: bool, seconds: float) -> None:
        """See :meth:`Work.leave_off`."""
        self.work.leave_off(keep, down, seconds)

    def _failed(self, error: Exception) -> NotfallError:
        return NotfallError(
            "agent-failed",
            f"The agent could not go on ({error}).",
            self.work.log_place,
            retry=True,
        )
