"""Record and pins together: what of an agent's knowledge outlives its process.

Order: a tracker is pinned before it is recorded, and its record is removed before its pins. What
is pinned counts for nothing without a record that names its very objects.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Optional, Sequence, Tuple

from notfallserver.agent.changes.base import Watched
from notfallserver.agent.changes.pins import Pins
from notfallserver.agent.changes.state import State, read_state, write_state
from notfallserver.agent.changes.tracker import PARTS, Tracker
from notfallserver.agent.place import Place, take_lock

log = logging.getLogger("notfall-agent")


class Keeping:
    """Of one place, while this process holds its lock."""

    def __init__(self, place: Place) -> None:
        """:class:`OSError` when another process holds the lock."""
        self._place = place
        self._lock = take_lock(place.lock)
        self._pins = Pins(place)

    def write(self, state: State) -> None:
        """After this the record is ``state``, or there is none."""
        try:
            write_state(self._place.state, state)
        except OSError as error:
            log.warning("%s cannot be written (%s)", self._place.state, error)
            self._place.state.unlink(missing_ok=True)

    def resume(self, wanted: State, watched: Sequence[Watched]) -> Optional[Tuple[State, Tracker]]:
        """What a predecessor left for the same boot, primary and disks, if it has no gap."""
        state = read_state(self._place.state)
        if state is None:
            log.info("nothing is known of what was written before: there is no record")
            return None
        if other := state.differs(replace(wanted, tracker=state.tracker)):
            log.info("what is known of written blocks is of another %s", other)
            return None
        try:
            tracker = Tracker(watched, self._pins.open(PARTS))
        except OSError as error:
            log.warning("reading all again: the tracker is not there any more (%s)", error)
            return None
        if tracker.is_called(state.tracker):
            why = tracker.broken()
        else:
            why = "the tracker is another one"
        if not why:
            return state, tracker
        log.warning("reading all again: %s", why)
        tracker.close()
        return None

    def begin(self, wanted: State, tracker: Tracker) -> State:
        """Pin a new tracker and record it; :class:`OSError` where it can't be pinned."""
        state = replace(wanted, tracker=tracker.identity())
        self._pins.keep(tracker.parts)
        self.write(state)
        return state

    def drop(self) -> None:
        """From now on nothing is known, and nothing watches but who holds it open."""
        self._place.state.unlink(missing_ok=True)
        self._pins.drop()

    def close(self) -> None:
        os.close(self._lock)


def remove_traces(place: Place) -> None:
    """Leave nothing of this agent in memory or kernel, whoever may be using it."""
    pins = Pins(place)
    place.state.unlink(missing_ok=True)
    pins.drop()
    pins.leave()
    place.remove()
