"""The note of what is held by commands, and thawing what a killed keeper left standing.

Holders let go by themselves when their keeper dies; what a ``freeze`` command stopped needs its
``thaw``. The note is written (in tmpfs) before each freeze and removed after the last thaw. Whoever
works by it has the lock, which the kernel takes back when its owner dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, List, Sequence

from notfallserver.agent.applications.application import Application
from notfallserver.agent.applications.command import Failed, run

_PATIENCE = 15.0


class Notes:
    """In one directory, which only root can read (``agent/place.py``)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._note = directory / "applications"

    @contextmanager
    def locked(self, seconds: float = 0) -> Iterator[bool]:
        """Whether the lock could be had within so long."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(
            self._directory / "applications.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        until = time.monotonic() + seconds
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() >= until:
                        yield False
                        return
                time.sleep(0.1)
            yield True
        finally:
            os.close(handle)

    def write(self, held: Sequence[Application]) -> None:
        """Replace the note as a whole; nothing held, no note."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not held:
            with suppress(FileNotFoundError):
                self._note.unlink()
            return
        new = self._note.with_suffix(".new")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as stream:
            json.dump([one.to_json() for one in held], stream)
        new.replace(self._note)

    def read(self) -> List[Application]:
        try:
            return [Application.from_json(one) for one in json.loads(self._note.read_text())]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def thaw_applications(notes: Notes) -> List[str]:
    """Let go what a killed keeper left; tells, a line each, what was done.

    A keeper that lives does it itself: its lock is waited for, then nothing is left to do.
    """
    if not notes.read():
        return []
    told = []
    with notes.locked(_PATIENCE) as mine:
        left: List[Application] = []
        for one in reversed(notes.read() if mine else []):
            try:
                run(one.thaw, one.user, one.environment, one.thaw_seconds)
                told.append(f"{one.name} was still held and is thawed")
            except Failed as error:
                told.append(f"{one.name} is still held and could not be thawed: {error}")
                left.insert(0, one)
        if mine:
            notes.write(left)
    return told
