"""Where the bytes of a device lie on the devices below it. Pure.

A device that is made of others (partition, LVM, md, LUKS) is described by segments. Two segments
may cover the same bytes: a mirror keeps them in several places. Bytes that no segment covers lie
nowhere that is known. All numbers are bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Sequence

from notfallserver.agent.disks.runs import Extent, merged


@dataclass(frozen=True)
class Segment:
    """Bytes ``start`` to ``start + length`` of a device lie at ``at`` on the device ``below``."""

    start: int
    length: int
    below: int  # device number as stat(2) tells it
    at: int


def compose(upper: Iterable[Segment], lower: Mapping[int, Sequence[Segment]]) -> List[Segment]:
    """The segments of a device told by what its lower devices lie on.

    ``lower`` has the segments of each device below; what is missing there is left out.
    """
    found: List[Segment] = []
    for one in upper:
        for other in lower.get(one.below, ()):
            begin = max(one.at, other.start)
            end = min(one.at + one.length, other.start + other.length)
            if end > begin:
                start = one.start + begin - one.at
                place = other.at + begin - other.start
                found.append(Segment(start, end - begin, other.below, place))
    return found


def project(extents: Iterable[Extent], segments: Iterable[Segment]) -> Dict[int, List[Extent]]:
    """Extents of a device as extents of the devices that its segments name."""
    sorted_extents = merged(extents)
    begins = [start for start, _ in sorted_extents]
    ends = [start + length for start, length in sorted_extents]
    found: Dict[int, List[Extent]] = {}
    for one in segments:
        first = bisect_right(ends, one.start)
        last = bisect_left(begins, one.start + one.length)
        for number in range(first, last):
            begin = max(begins[number], one.start)
            end = min(ends[number], one.start + one.length)
            found.setdefault(one.below, []).append((one.at + begin - one.start, end - begin))
    return found
