"""The agent's side of holding applications: its keeper, and what came of it.

A failing application does not stop the run, which goes on without it and says why; unless it is
required. Everything is started before the first freeze; between holding and releasing the agent
does nothing here.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

from notfallserver.agent.applications.application import Application, Applied, Hold, judge
from notfallserver.agent.applications.leftovers import Notes, thaw_applications
from notfallserver.agent.commands import this_program
from notfallserver.wire.errors import NotfallError

_READY_SECONDS = 20.0
_LEAVE_SECONDS = 20.0
_GONE = "The process that holds applications is gone."


class _Lost(Exception):
    """The keeper is gone or does not answer."""


class Applications:
    """One per run. Closing it lets everything go, too."""

    def __init__(self, planned: Sequence[Application], limit: float, state: Path) -> None:
        self._planned = list(planned)
        self._limit = limit
        self._state = state
        self._keeper: Optional[subprocess.Popen[bytes]] = None
        self._rest = b""
        self._held: List[Hold] = []
        self._given_up = ""

    @property
    def keeper_pid(self) -> int:
        return self._keeper.pid if self._keeper is not None else 0

    @property
    def any(self) -> bool:
        return bool(self._planned)

    def prepare(self, tick: Callable[[], None]) -> bool:
        """Start the keeper, and what can be done while applications work; True if that was much.

        ``tick`` is called about once a second.
        """
        if not self._planned:
            return False
        thaw_applications(Notes(self._state))
        try:
            self._start()
            if not any(one.prepare and not one.obstacle for one in self._planned):
                return False
            longest = max(one.prepare_seconds for one in self._planned)
            self._order("prepare", longest + len(self._planned) + 10, tick)
        except _Lost as error:
            self._fail(str(error))
            return False
        return True

    def give_up(self, why: str) -> None:
        """Hold nothing any more in this run; refused for what is required."""
        if not any(one.required for one in self._planned):
            self._fail(why)

    def _fail(self, why: str) -> None:
        self._given_up = why

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Within the block applications stand still. Raises when a required one doesn't."""
        self._held = [Hold(one.name, error=self._given_up) for one in self._planned]
        if not self._planned or self._given_up:
            self._check_required()
            yield
            return
        longest = self._limit + sum(one.thaw_seconds + 3 for one in self._planned) + 10
        try:
            self._told("hold", longest)
        except BaseException:
            self.close()  # the end of the orders: it gives up what it is at, and lets go
            raise
        try:
            self._check_required()
            yield
        finally:
            self._told("release", longest)

    def _told(self, order: str, seconds: float) -> None:
        if self._given_up:
            return
        try:
            self._held = self._order(order, seconds)
        except _Lost as error:
            self._fail(str(error))
            self._held = [Hold(one.name, error=str(error)) for one in self._planned]
            thaw_applications(Notes(self._state))

    def _check_required(self) -> None:
        errors = {one.name: one.error for one in self._held}
        for one in self._planned:
            why = errors.get(one.name)
            if one.required and why:
                raise _not_held(one.name, why)

    def applied(self, frozen_at: float) -> Tuple[Applied, ...]:
        """What counts for the version; raises when a required one was let go too early.

        ``frozen_at``: the monotonic second at which the last filesystem froze.
        """
        found = judge(self._held, frozen_at, self._limit)
        for one, planned in zip(found, self._planned):
            if planned.required and one.error:
                raise _not_held(one.name, one.error)
        return found

    # -- the keeper ------------------------------------------------------------------------------

    def _start(self) -> None:
        line = this_program("applications.keeper", [str(self._state), str(self._limit)])
        try:
            self._keeper = subprocess.Popen(
                line,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                bufsize=0,
                start_new_session=True,  # Ctrl-C is the agent's
            )
        except OSError as error:
            raise _Lost(f"Nothing could be held ({error}).") from None
        planned = json.dumps([one.to_json() for one in self._planned])
        self._say(planned)
        self._line(_READY_SECONDS, None)

    def _say(self, line: str) -> None:
        if self._keeper is None or self._keeper.stdin is None:
            raise _Lost(_GONE)
        rest = memoryview(line.encode() + b"\n")
        try:
            while rest:
                rest = rest[self._keeper.stdin.write(rest) or 0 :]
        except OSError:
            raise _Lost(_GONE) from None

    def _line(self, seconds: float, tick: Optional[Callable[[], None]]) -> bytes:
        if self._keeper is None or self._keeper.stdout is None:
            raise _Lost(_GONE)
        until = time.monotonic() + seconds
        while b"\n" not in self._rest:
            wait = min(1.0, max(0.0, until - time.monotonic()))
            if select.select([self._keeper.stdout], [], [], wait)[0]:
                got = os.read(self._keeper.stdout.fileno(), 65536)
                if not got:
                    raise _Lost(_GONE)
                self._rest += got
            elif time.monotonic() > until:
                raise _Lost("The process that holds applications does not answer.")
            if tick is not None:
                tick()
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _order(
        self, order: str, seconds: float, tick: Optional[Callable[[], None]] = None
    ) -> List[Hold]:
        self._say(order)
        answer: List[Any] = json.loads(self._line(seconds, tick))
        return [Hold(**one) for one in answer]

    def close(self) -> None:
        """The keeper lets go what still stands, and goes on trying alone if that takes long."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        for stream in (keeper.stdin, keeper.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        with suppress(subprocess.TimeoutExpired):
            keeper.wait(_LEAVE_SECONDS)


def _not_held(name: str, why: str) -> NotfallError:
    return NotfallError(
        "application-not-held",
        f"{name} did not stand still for the version: {why}",
        "It is marked as required in /etc/notfall-agent/agent.json. Repair what is named, or take "
        "the mark away; 'notfall-agent applications --try' shows whether it can be held.",
        retry=True,
    )
