"""Two runs at once, one for each server: whether they meet at the frozen moment, and who leads.

Orders come independently, so usually there is one run. When there are two, the one that is ready
to freeze waits a while for the other if that one will soon be ready, too. Whoever comes second
leads: it freezes and reads for both, while the other waits and only tells its server so. Each run
is a thread and talks to its own server; so neither waits for the other longer than
:data:`PATIENCE_S` without a sign from it, nor longer than :data:`LONGEST_WAIT_S` altogether, except
within a freeze, in which no server is asked.

    UNDER_WAY --ready--> READY --the other is ready--> LED --the moment is over--> BEYOND
                           |                            |
                           +--not worth waiting any more / left alone--> BEYOND (freezes alone)
"""

from __future__ import annotations

import enum
import threading
import time
from contextlib import contextmanager
from typing import Callable, Iterator, List, Optional

from notfallserver.agent.moment import Still
from notfallserver.agent.passes import Passes
from notfallserver.agent.sight import LONGEST_WAIT_S, Sight, worth_waiting

PATIENCE_S = 10.0
"""Who gave no sign for so long is not waited for."""
LONGEST_PASS_S = 30.0
"""The one that leads waits so long at most until the other has read once more."""
_LOOK_S = 1.0


class Stage(enum.Enum):
    """Of one run."""

    UNDER_WAY = "hot passes"
    READY = "waits for the other"
    LED = "the other freezes for both"
    BEYOND = "freezes for itself, or is past it"


class Meeting:
    """One per process; all runs of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.state = threading.Condition()
        self.companions: List[Companion] = []

    @contextmanager
    def join(self, passes: Passes) -> Iterator[Companion]:
        """A run is under way as long as the block lasts."""
        companion = Companion(self, passes)
        passes.shown = companion.show
        with self.state:
            self.companions.append(companion)
        try:
            yield companion
        finally:
            companion.leave()


class Companion:
    """One run, as the others see it. Used by the run's own thread, but for what says otherwise."""

    def __init__(self, meeting: Meeting, passes: Passes) -> None:
        self.passes = passes
        self.stage = Stage.UNDER_WAY
        self._meeting = meeting
        self._state = meeting.state
        self._clock = meeting.clock
        self._began = self._ready = self.sign = self._clock()
        self.sight = Sight(self._began, self._began)
        self._number = 0
        self._leader: Optional[Companion] = None
        self._led: Optional[Companion] = None
        self._led_since = 0.0
        self._in_use = False  # the leader works with what is ours
        self._asked = False  # the leader waits until we have read once more
        self._still: Optional[Still] = None

    def show(self, number: int, done: int, total: int) -> None:
        """The server has answered: pass ``number`` has done so many bytes of all."""
        with self._state:
            self.sign = self._clock()
            self.sight = self.sight.next(self.sign, done, total, number != self._number)
            self._number = number
            self._state.notify_all()

    def leave(self) -> None:
        """The run is over, however."""
        with self._state:
            while self._in_use:
                self._state.wait()
            self.part()
            if self in self._meeting.companions:
                self._meeting.companions.remove(self)
            self._state.notify_all()

    def part(self) -> None:
        """Whoever is together is so no longer."""
        with self._state:
            for one, other in ((self, self._led), (self._leader, self)):
                if one is not None and other is not None:
                    one._led = other._leader = None
                    other._asked = False
            self._state.notify_all()

    # -- being ready -----------------------------------------------------------------------------

    def meet(self) -> Optional[Still]:
        """Return when it is time: with what the other reached for both, or None: freeze now.

        Then :meth:`together` has the other, too, if it was ready.
        """
        with self._state:
            self.stage, self._ready = Stage.READY, self._clock()
            other = self._other()
            if other is not None and other.stage is Stage.READY:
                other.stage, other._leader, self._led = Stage.LED, self, other
                other._led_since = self._ready
                self.stage = Stage.BEYOND
                self._state.notify_all()
                return None
        while True:
            with self._state:
                if self._decided():
                    return self._still
                asked = self._asked and self.stage is Stage.LED
            if asked:
                self._read()
            else:
                self.passes.enter("waiting for other work")
                with self._state:
                    if not self._decided() and not self._asked:
                        self._state.wait(_LOOK_S)

    def _decided(self) -> bool:
        """Whether waiting is over."""
        if self.stage is Stage.READY:
            other, now = self._other(), self._clock()
            if (
                other is not None
                and other.stage is Stage.UNDER_WAY
                and worth_waiting(self._began, self._ready, other.sight, now)
            ):
                return False
            self.stage = Stage.BEYOND
        elif self.stage is Stage.LED:
            leader = self._leader
            if leader is not None and self._still is None:
                now = self._clock()
                late = now - self._led_since > LONGEST_WAIT_S or now - leader.sign >= PATIENCE_S
                if self._in_use or not late:
                    return False
                self.part()
            self.stage = Stage.BEYOND
        self._state.notify_all()
        return True

    def _other(self) -> Optional[Companion]:
        """A run on the same disks that knows what is written, as this one does."""
        for one in self._meeting.companions:
            if one is not self and one.passes.like(self.passes):
                return one
        return None

    def _read(self) -> None:
        self.passes.catch_up()
        with self._state:
            self._asked = False
            self.sign = self._clock()
            self._state.notify_all()

    # -- leading ---------------------------------------------------------------------------------

    @property
    def waited(self) -> bool:
        """Whether time has passed since the last pass, for this run or the one it leads."""
        with self._state:
            return self._led is not None or self._clock() - self._ready > _LOOK_S

    def catch_up(self) -> None:
        """All read hot what was written meanwhile; who isn't done in time is left behind."""
        with self._state:
            led = self._led
            if led is not None:
                led._asked = True
                self._state.notify_all()
        self._read()
        until = self._clock() + LONGEST_PASS_S
        while led is not None:
            with self._state:
                if self._led is not led or not led._asked:
                    return
                if self._clock() > until or self._clock() - led.sign > PATIENCE_S:
                    self.part()
                    return
                self._state.wait(_LOOK_S)
            self.passes.tick()

    @contextmanager
    def together(self) -> Iterator[List[Passes]]:
        """Everybody for whom this run freezes; within the block nobody leaves."""
        with self._state:
            led = self._led
            if led is not None:
                led._in_use = True
        try:
            yield [self.passes, led.passes] if led is not None else [self.passes]
        finally:
            with self._state:
                if led is not None:
                    led._in_use = False
                self.sign = self._clock()
                self._state.notify_all()

    def share(self, still: Still) -> None:
        """This is what was reached, for both."""
        with self._state:
            if self._led is not None:
                self._led._still = still
            self.part()
