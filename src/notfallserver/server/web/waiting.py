"""Threads for requests that wait: polls must not use up the threads that move blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MOST = 256
_threads = ThreadPoolExecutor(MOST, "poll")


async def run_waiting(function: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """Run a function that blocks for seconds."""
    return await asyncio.get_running_loop().run_in_executor(_threads, function, *given)
