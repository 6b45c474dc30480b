"""An application that appends, creates and renames without a pause, and notes how long it waits.

It never asks for anything to be written out (no fsync), so that what it waits for is the filesystem
that stands still, and not the disk.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS_A_SECOND = 100
LOGS, APPENDED = 8, 1 << 16
CREATED, CREATED_BYTES = 4, 2000
"""A round: 64 KiB to a log, four small files that get their names at last, one old one gone: about
7 MiB and 500 new files a second, spread over the directories of ``spread``."""


class Writer:
    """A context manager; ``spread`` are directories that exist."""

    def __init__(self, logs: Path, spread: list[Path]) -> None:
        self._logs = logs
        self._spread = spread
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._longest = 0.0
        self._thread = threading.Thread(target=self._work)
        self._failure: BaseException | None = None

    def __enter__(self) -> Writer:
        self._logs.mkdir()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failure:
            raise RuntimeError("the writer could not go on") from self._failure

    def longest_ms(self) -> float:
        """The longest wait for one system call since this was asked last."""
        with self._lock:
            longest, self._longest = self._longest, 0.0
        return longest * 1000

    def _work(self) -> None:
        try:
            self._write()
        except OSError as error:
            self._failure = error

    def _write(self) -> None:
        dice = random.Random(1)
        noise = dice.randbytes(1 << 20)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        logs = [os.open(self._logs / f"{one}.log", append, 0o644) for one in range(LOGS)]
        names: list[Path] = []
        for turn in itertools.count():
            at = dice.randrange(len(noise) - APPENDED)
            self._timed(os.write, logs[turn % LOGS], noise[at : at + APPENDED])
            for one in range(CREATED):
                names.append(dice.choice(self._spread) / f"new-{turn * CREATED + one}")
                self._create(names[-1], noise[at : at + CREATED_BYTES])
            self._timed(os.unlink, names.pop(dice.randrange(len(names))))
            if self._over.wait(1 / ROUNDS_A_SECOND):
                break
        for log in logs:
            os.close(log)

    def _create(self, path: Path, content: bytes) -> None:
        unfinished = path.with_name(f".{path.name}")
        handle = self._timed(os.open, unfinished, os.O_WRONLY | os.O_CREAT, 0o644)
        self._timed(os.write, handle, content)
        os.close(handle)
        self._timed(os.rename, unfinished, path)

    def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        began = time.monotonic()
        result = call(*arguments)
        waited = time.monotonic() - began
        with self._lock:
            self._longest = max(self._longest, waited)
        return result
