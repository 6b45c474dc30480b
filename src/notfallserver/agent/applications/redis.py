"""Redis (and Valkey): what the recipe runs. ``prepare`` before, ``hold`` for the frozen moment.

Writing clients wait. With an append-only file everything acknowledged is on its way to the disk,
and the freeze takes it along. With snapshots only (RDB) a new one is made, so that nothing
acknowledged is missing; but a large one would write more than can be read in a frozen moment, so it
is made in ``prepare``, and the version holds the data of that time. The pause ends by itself
should everything that holds it be killed. A Redis that stores nothing is left alone.

Arguments: what to do, the user, the longest pause in seconds, then the client's command line.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Sequence

from notfallserver.agent.applications.command import HELD, Failed, run

LARGE = 8 << 20
"""Bytes of a snapshot that is made in advance."""
_FRESH = 3600.0  # seconds for which one made in advance counts
_ANSWER = 10.0
_PAUSE = 0.05
_ERRORS = ("ERR ", "NOAUTH", "NOPERM", "WRONGPASS", "MISCONF", "Could not connect", "LOADING")


def _input_ended() -> bool:
    """Whether the one who started this is gone, or wants the application let go."""
    return bool(select.select([0], [], [], 0)[0])


class Redis:
    """Talks by the client's command line, as the server's own user."""

    def __init__(self, user: str, line: Sequence[str], gone: Callable[[], bool]) -> None:
        self._gone = gone
        self._user = user
        self._line = list(line)
        password = os.environ.get("REDISCLI_AUTH")
        self._environment = {"REDISCLI_AUTH": password} if password else {}

    def tell(self, *words: str) -> str:
        """Raises :class:`Failed` also for what Redis itself refuses."""
        answer = run([*self._line, *words], self._user, self._environment, _ANSWER)
        if answer.lstrip().startswith(_ERRORS):
            raise Failed(f"{' '.join(words)}: {' '.join(answer.split())[:200]}")
        return answer

    def setting(self, name: str) -> str:
        """Empty also where asking is forbidden."""
        try:
            lines = self.tell("CONFIG", "GET", name).splitlines()
        except Failed:
            return "?"
        return lines[1] if len(lines) > 1 else ""

    def information(self, section: str) -> Dict[str, str]:
        lines = self.tell("INFO", section).splitlines()
        return dict(line.strip().split(":", 1) for line in lines if ":" in line)

    def snapshot_size(self) -> int:
        """Of the one that is there; before the first: what there is to be written, at most."""
        place = Path(self.setting("dir"), self.setting("dbfilename"))
        try:
            return place.stat().st_size
        except OSError:
            return int(self.information("memory").get("used_memory", 0))

    def save(self) -> None:
        """Make a snapshot now."""
        self.tell("BGSAVE")
        if self.await_saved().get("rdb_last_bgsave_status") != "ok":
            raise Failed("Redis could not write its snapshot; see its log.")

    def await_saved(self) -> Dict[str, str]:
        """Until no snapshot is being made; what Redis then tells of its persistence."""
        while True:
            told = self.information("persistence")
            if told.get("rdb_bgsave_in_progress", "0") == "0":
                return told
            if self._gone():
                raise Failed("The run was given up.")
            time.sleep(_PAUSE)


def by_snapshot(redis: Redis, told: Dict[str, str]) -> bool:
    """Whether snapshots are all that it stores."""
    return told.get("aof_enabled") == "0" and redis.setting("save") != ""


def prepare(redis: Redis) -> None:
    told = redis.await_saved()
    if by_snapshot(redis, told) and redis.snapshot_size() > LARGE:
        redis.save()


def hold(redis: Redis, seconds: float) -> None:
    """Tell that it stands still, and let it go when the input ends."""
    told = redis.await_saved()  # one that runs began too early
    snapshot = by_snapshot(redis, told)
    fresh = time.time() - float(told.get("rdb_last_save_time", 0)) < _FRESH
    if snapshot and fresh and redis.snapshot_size() > LARGE:
        snapshot = False
    stands_still = snapshot or told.get("aof_enabled") == "1"
    paused = stands_still and _pause(redis, seconds)
    try:
        if snapshot:
            redis.save()
        os.write(1, HELD + b"\n")
        select.select([0], [], [], seconds)
    finally:
        if paused:
            redis.tell("CLIENT", "UNPAUSE")


def _pause(redis: Redis, seconds: float) -> bool:
    """Let writing clients wait; Redis before 6.2 can't, and its snapshot is of a moment earlier."""
    try:
        redis.tell("CLIENT", "PAUSE", str(int(seconds * 1000)), "WRITE")
    except Failed:
        return False
    return True


def main(arguments: List[str]) -> None:
    what, user, seconds, *line = arguments
    try:
        if what == "prepare":
            prepare(Redis(user, line, lambda: False))
        else:
            hold(Redis(user, line, _input_ended), float(seconds))
    except Failed as error:
        print(error, flush=True)
        sys.exit(1)
