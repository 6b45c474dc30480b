"""A point in time of all volumes: with writers if that can be had, else without, recorded as such.

Decides only; the set itself is ``vss.py``. A set with writers is tried as long as what it fails for
may pass; then a set without: the filesystems are whole then, and programs are as after a power cut.
"""

from __future__ import annotations

import logging
from typing import Callable, List, Sequence, Tuple

from notfallserver.agent.applications.application import Applied
from notfallserver.agent.windows import vss
from notfallserver.agent.windows.com import ComError
from notfallserver.agent.windows.vss import SnapshotSet, Writer
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

_PASSING = (vss.BUSY, vss.FLUSH_TIMEOUT, vss.HOLD_TIMEOUT)
_HOPELESS = (vss.NOT_ALLOWED, vss.NO_SPACE, vss.TOO_MANY, vss.NOT_SUPPORTED)
"""Without writers it would fail, too."""
TRIES = 4
PAUSE_S = 30.0

Make = Callable[[int], SnapshotSet]
"""A new set for a context."""


def take_snapshots(
    volumes: Sequence[str], make: Make, wait: Callable[[float], None]
) -> Tuple[SnapshotSet, Tuple[Applied, ...]]:
    """The set, which the caller closes, and what a version records of programs.

    ``wait`` sleeps so many seconds, and may raise.
    """
    try:
        found = _tried(volumes, make, vss.WITH_WRITERS, wait)
        return found, applied(found.writers)
    except ComError as error:
        if error.number in _HOPELESS:
            raise no_snapshot(error) from None
        log.warning("no snapshot with writers: %s", error)
        told = str(error)
    try:
        found = _tried(volumes, make, vss.WITHOUT_WRITERS, wait)
    except ComError as error:
        raise no_snapshot(error) from None
    return found, (Applied("VSS", 0.0, f"Windows made no snapshot with writers ({told})."),)


def _tried(
    volumes: Sequence[str], make: Make, context: int, wait: Callable[[float], None]
) -> SnapshotSet:
    for attempt in range(TRIES):
        one = make(context)
        try:
            one.take(volumes)
        except ComError as error:
            one.close()
            if error.number not in _PASSING or attempt == TRIES - 1:
                raise
            log.info("snapshot: %s; tried again", error)
        except BaseException:
            one.close()
            raise
        else:
            return one
        wait(PAUSE_S)
    raise AssertionError("the last try returns or raises")


def applied(writers: Sequence[Writer]) -> Tuple[Applied, ...]:
    """Each writer by its name once; one that failed counts."""
    found: List[Applied] = []
    for name in dict.fromkeys(one.name for one in writers):
        bad = [one for one in writers if one.name == name and not one.good]
        error = ""
        if bad:
            error = f"Its VSS writer failed (state {bad[0].state}, {bad[0].failure:#010x})."
        found.append(Applied(name, 0.0, error))
    return tuple(found)


def no_snapshot(error: ComError) -> NotfallError:
    """As it is told to a person."""
    cause, remedy = vss.described(error)
    return NotfallError("no-snapshot", cause, remedy, retry=True)
