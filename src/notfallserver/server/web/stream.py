"""From the event bus (threads) to server-sent events (the event loop).

Changes that come faster than they are sent melt into one: a reader looks at the present anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from fastapi import Request

from notfallserver.server.records.events import Event, SessionsEnded
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import find_person

TICK_S = 1.0
ALIVE_S = 15.0


async def changes(
    request: Request, concerns: Callable[[Event], bool] = lambda event: True
) -> AsyncIterator[None]:
    """Yields at once, then after every change that concerns, and now and then without one.

    Ends when the reader is gone, may no longer read, or the server stops.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def hear(event: Event) -> None:
        if concerns(event) or isinstance(event, SessionsEnded):
            loop.call_soon_threadsafe(changed.set)

    with house_of(request).catalogue.events.listening(hear):
        yield
        silent = 0.0
        while not request.app.state.stopping() and not await request.is_disconnected():
            try:
                await asyncio.wait_for(changed.wait(), TICK_S)
            except TimeoutError:
                silent += TICK_S
                if silent < ALIVE_S:
                    continue
            changed.clear()
            silent = 0.0
            somebody = find_person(request)
            if somebody is None or somebody.bare:
                return
            yield
