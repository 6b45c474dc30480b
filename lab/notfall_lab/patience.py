"""Waiting for what happens elsewhere, as long as that may reasonably take."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_S = 0.1
PATIENCE_S = 180.0
"""What takes seconds may take so long on a machine that is busy or slow. It says nothing of how
fast something must be: where that matters, a test names a time of its own."""
BOOT_S = 600.0
"""The same for an emulated machine that starts, beside another one that does."""


def until(
    happened: Callable[[], object], seconds: float = PATIENCE_S, look: float = LOOK_S
) -> None:
    """Return when it has happened; looks every ``look`` seconds, gives up after ``seconds``."""
    give_up = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < give_up, f"it did not happen within {seconds:.0f} s"
        time.sleep(look)


def until_soon(happened: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """The same where the very moment matters, and looking costs nothing."""
    until(happened, seconds, 0.005)
