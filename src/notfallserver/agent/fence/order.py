"""The emergency server says that the stand-in works: off the network, at once."""

from __future__ import annotations

import logging

from notfallserver.agent.fence.apart import ORDER, Apart, read_apart, write_apart
from notfallserver.agent.fence.units import can_watch, start_watch

log = logging.getLogger("notfall-agent")


def obey() -> bool:
    """Has it done by the unit that stays; the agent itself loses its server by that.

    False where that can't be.
    """
    if not can_watch():
        log.error("this machine's stand-in works, and nothing here can take the cards away:")
        log.error("switch this machine off, or pull its network cables")
        return False
    log.error("this machine's stand-in works: it goes off the network")
    if read_apart() is None:
        write_apart(Apart(ORDER))
    start_watch()
    return True
