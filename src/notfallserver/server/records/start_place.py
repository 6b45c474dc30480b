"""A server's place in the start plan, in its own words (pure): also the command line's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Begins(StrEnum):
    """When a server's turn comes."""

    TOGETHER = "together"  # with the one before it
    DELAY = "delay"  # so long after the one before it was started
    WORKS = "works"  # when the one before it works


class IfFails(StrEnum):
    """What becomes of the rest when a server does not start."""

    GO_ON = "go-on"
    STOP = "stop"


@dataclass(frozen=True)
class Place:
    """One server's place in the plan.

    ``delay_s`` seconds after the one before was started, or works; that it works is waited for
    ``limit_s`` seconds at most. Its stand-in gets at most ``memory_mib``, 0: as others do.
    """

    primary: str
    begins: Begins = Begins.WORKS
    delay_s: int = 0
    limit_s: int = 300
    if_fails: IfFails = IfFails.GO_ON
    memory_mib: int = 0
