"""Measuring a version: which blocks changed how, by a sample, and what became of watched files.

Only files of the pool are read: no image is mounted. Bounded: at most so many pairs of blocks, and
so many seconds of reading; what was not read by then is left out of the sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from notfallserver.server.cycle.alarm.files import compare
from notfallserver.server.cycle.alarm.texture import Alone, Rewritten
from notfallserver.server.pool.changed import Blocks, Change, Changed, Place, changed_blocks
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.measures import FileMeasures, Measures
from notfallserver.server.pool.version import Version
from notfallserver.wire.blocks import BLOCK

REWRITTEN, ALONE = 1000, 500
"""Of blocks that are read: pairs, and of those that came and that went each."""
READING_S = 60.0
LOOKS_BACK = (timedelta(days=1), timedelta(days=7))
"""Files are compared with the version before, and with one about so old."""


def measure(
    version: Version,
    before: Version | None,
    older: Sequence[Version],
    spend: Callable[[int], None],
) -> Measures:
    """``before`` is what it was made of; ``older``: versions that files may be compared with.
    ``spend`` is told of bytes that were read; it may wait, or raise."""
    if before is None:
        return Measures()
    began = time.monotonic()
    # Where an older version went away meanwhile, FileNotFoundError leaves by the caller.
    changed = changed_blocks(before, version, REWRITTEN, version.stamp, lambda: spend(0))
    rewritten, fresh, emptied = Rewritten(), Alone(), Alone()
    until = time.monotonic() + READING_S
    with Blocks(before) as old, Blocks(version) as new:
        for place in _some(changed, Change.REWRITTEN, REWRITTEN, until):
            rewritten.add(old.read(place), new.read(place))
            spend(2 * BLOCK)
        for place in _some(changed, Change.FRESH, ALONE, until):
            fresh.add(new.read(place))
            spend(BLOCK)
        for place in _some(changed, Change.EMPTIED, ALONE, until):
            emptied.add(old.read(place))
            spend(BLOCK)
    return Measures(
        base=before.stamp,
        used=changed.used,
        rewritten=changed.counts[Change.REWRITTEN],
        fresh=changed.counts[Change.FRESH],
        emptied=changed.counts[Change.EMPTIED],
        rewritten_read=rewritten.read,
        turned=rewritten.turned,
        dark=rewritten.dark,
        fresh_read=fresh.read,
        fresh_random=fresh.random,
        emptied_read=emptied.read,
        content_gone=emptied.read - emptied.random,
        files=files_against(version, before, older),
        seconds=round(time.monotonic() - began, 2),
    )


def _some(changed: Changed, kind: Change, most: int, until: float) -> Iterator[Place]:
    """In random order, until time is up."""
    for place in changed.picked[kind][:most]:
        if time.monotonic() > until:
            return
        yield place


def files_against(version: Version, before: Version, older: Sequence[Version]) -> FileMeasures:
    """Against the version before, or the older one that shows most: slow attacks change little
    from one to the next."""
    watched = version.manifest.watched
    found = compare(before.stamp, before.manifest.watched, watched)
    at = stamp_time(version.stamp)
    for span in LOOKS_BACK:
        within = [one for one in older if at - span <= stamp_time(one.stamp)]
        oldest = min(within, key=lambda one: one.stamp, default=None)
        if oldest is None or oldest.stamp >= before.stamp or not oldest.manifest.watched:
            continue
        other = compare(oldest.stamp, oldest.manifest.watched, watched)
        if (other.hit, other.strange - other.strange_before) > (
            found.hit,
            found.strange - found.strange_before,
        ):
            found = other
    return found
