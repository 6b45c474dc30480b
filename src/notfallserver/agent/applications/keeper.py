"""The process that holds applications, and lets them go whatever becomes of the agent.

It is a process of its own: while filesystems are frozen the agent starts nothing, and when the
agent is killed somebody must let go. It reads orders, a line each: the applications (JSON), then
``prepare``, ``hold`` and ``release``; each is answered by a line. The end of the orders, and the
limit for which applications may be held, mean the same as ``release``. A thaw that fails is tried
again for a while; should this process be killed too, holders let go by themselves, and the note
(``leftovers``) makes the next start of the agent thaw the rest.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from notfallserver.agent.applications.application import Application, Hold
from notfallserver.agent.applications.command import Command, Failed, run
from notfallserver.agent.applications.leftovers import Notes

_RETRY = 1.0  # seconds between two tries to thaw
_SHORT = 2.0  # seconds for a holder that failed to end, while others are held
_PATIENCE = 120.0  # seconds for which a thaw is tried again


def _gone() -> bool:
    """Whether the agent closed its end of the pipe, or died."""
    poll = select.poll()
    poll.register(0, 0)
    return bool(poll.poll(0))


@dataclass
class _Held:
    """One application that was begun to be held."""

    application: Application
    holder: Optional[Command] = None
    since: float = 0.0
    until: float = 0.0
    error: str = ""
    doubtful: bool = False  # its freeze failed by itself, so that a failing thaw says nothing


class Keeper:
    """``limit``: seconds for which applications may be held, from the first freeze on."""

    def __init__(self, applications: Sequence[Application], limit: float, notes: Notes) -> None:
        self._applications = list(applications)
        self._limit = limit
        self._notes = notes
        self._failed: Dict[str, str] = {}  # by name, in this round
        self._unprepared: Dict[str, str] = {}
        self._held: List[_Held] = []  # in the order of holding; not yet let go
        self._over: List[_Held] = []
        self._earlier: List[Application] = []  # what an earlier run could not thaw
        self._lock = ExitStack()
        self.until = 0.0  # when the limit is reached; 0: nothing is held
        self.again = 0.0  # when a failed thaw is tried again; 0: none failed

    # -- holding ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        """While applications work; together not longer than the longest may take alone."""
        longest = max((one.prepare_seconds for one in self._applications), default=0.0)
        end = time.monotonic() + longest
        for one in self._applications:
            if not one.prepare or one.obstacle:
                continue
            seconds = max(1.0, min(one.prepare_seconds, end - time.monotonic()))
            try:
                run(one.prepare, one.user, one.environment, seconds, _gone)
            except Failed as error:
                self._unprepared[one.name] = str(error)

    def hold(self) -> None:
        """Make all stand still, one after the other; what fails is let go at once and told."""
        self._failed, self._over = dict(self._unprepared), []
        if self._held:
            self._fail_all("It is still not thawed since the last try.")
            return
        if not self._lock.enter_context(self._notes.locked()):
            self._lock.close()
            self._fail_all("Another run on this machine holds applications.")
            return
        self._earlier = self._notes.read()
        self.until = time.monotonic() + self._limit
        for one in self._applications:
            why = one.obstacle or self._unprepared.get(one.name, "")
            if one.name in (earlier.name for earlier in self._earlier):
                why = "It could not be thawed after an earlier run."
            why = why or self._hold_one(one)
            if why:
                self._failed[one.name] = why
                if one.required:
                    break
        if _gone() or not self._held:
            self.release()

    def _fail_all(self, why: str) -> None:
        self._failed = {one.name: why for one in self._applications}

    def _hold_one(self, one: Application) -> str:
        """Returns why not."""
        seconds = min(one.freeze_seconds, self.until - time.monotonic())
        if seconds <= 0:
            return f"No time was left of the {self._limit:g} s for all applications."
        held = _Held(one)
        self._held.append(held)
        self._note()
        try:
            if one.hold:
                held.holder = Command(one.hold, one.user, one.environment, True, one.say)
                held.holder.wait_held(seconds, _gone)
            else:
                held.doubtful = True  # what can't be started did nothing
                command = Command(one.freeze, one.user, one.environment)
                held.doubtful = False
                try:
                    command.wait(seconds, _gone)
                except Failed:
                    held.doubtful = command.ended
                    command.kill()
                    raise
        except Failed as error:
            self._held.remove(held)
            if not self._let_go(held, min(one.thaw_seconds, _SHORT) if one.hold else 0.0):
                self._held.append(held)
                self.again = time.monotonic() + _RETRY
            self._note()
            return str(error)
        held.since = time.monotonic()
        return ""

    def _note(self) -> None:
        held = [one.application for one in self._held if one.application.thaw]
        self._notes.write([*self._earlier, *held])

    # -- letting go ------------------------------------------------------------------------------

    def release(self) -> None:
        """Let all go, the last one first; a thaw that fails does not keep the others waiting."""
        if not (self.until or self._held):
            return
        left: List[_Held] = []
        for one in reversed(self._held):
            if self._let_go(one):
                self._over.append(one)
            else:
                left.insert(0, one)
        self._held = left
        self._note()
        self.until = 0.0
        self.again = time.monotonic() + _RETRY if left else 0.0
        if not left:
            self._lock.close()

    def _let_go(self, held: _Held, seconds: float = 0.0) -> bool:
        """False when it may still stand. ``seconds``: other than the application's own."""
        one = held.application
        seconds = seconds or one.thaw_seconds
        # From here on it may work again, long before what lets it go has ended.
        held.until = held.until or time.monotonic()
        try:
            if held.holder is not None:
                held.holder.let_go(seconds)
            elif one.thaw:
                run(one.thaw, one.user, one.environment, seconds)
        except Failed as error:
            if held.holder is None and not held.doubtful:
                held.error = f"It could not be thawed, which is tried again: {error}"
                return False
            held.error = str(error)
        return True

    @property
    def stands(self) -> bool:
        """Whether something must still be let go."""
        return bool(self._held)

    def told(self) -> List[Dict[str, Any]]:
        """What is known of each application."""
        known = {one.application.name: one for one in [*self._over, *self._held]}
        found = []
        for one in self._applications:
            held = known.get(one.name, _Held(one))
            error = self._failed.get(one.name) or held.error
            if not error and not held.since:
                error = "It was not tried, because a required application could not be held."
            found.append(asdict(Hold(one.name, held.since, held.until, one.stands_still, error)))
        return found


def _serve(keeper: Keeper, orders: _Orders) -> None:
    """Until the orders end and nothing stands any more."""
    while True:
        order = orders.next(keeper.until or keeper.again)
        if order is None:  # it is time
            keeper.release()
        elif order == "":
            keeper.release()
            break
        else:
            {"prepare": keeper.prepare, "hold": keeper.hold, "release": keeper.release}[order]()
            os.write(1, json.dumps(keeper.told()).encode() + b"\n")
    patience = time.monotonic() + _PATIENCE
    while keeper.stands and time.monotonic() < patience:
        time.sleep(_RETRY)
        keeper.release()


class _Orders:
    """Lines from the standard input."""

    def __init__(self) -> None:
        self._rest = b""

    def next(self, until: float = 0.0) -> Optional[str]:
        """The next line; an empty one at the end; None when ``until`` (if not 0) passed."""
        while b"\n" not in self._rest:
            wait = max(0.0, until - time.monotonic()) if until else None
            if not select.select([0], [], [], wait)[0]:
                return None
            got = os.read(0, 65536)
            if not got:
                return ""
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


def main(arguments: List[str]) -> None:
    """The keeper's own process: the directory of the note, and the limit in seconds."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stay)
    directory, limit = arguments
    orders = _Orders()
    planned = json.loads(orders.next() or "[]")
    applications = [Application.from_json(one) for one in planned]
    os.write(1, b"ready\n")
    _serve(Keeper(applications, float(limit), Notes(Path(directory))), orders)


def _stay(_number: int, _frame: object) -> None:
    """Leaving is told by the end of the orders. (Ignored signals would be so in commands, too.)"""
