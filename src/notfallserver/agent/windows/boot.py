"""Which boot of Windows this is."""

from __future__ import annotations

from notfallserver.agent.windows.system import Refused, System


def boot_id(system: System) -> str:
    """Another text after each start of Windows; a start from hibernation or a fast one is none.

    A mark of our own: what Windows counts of its starts it need not count on a server.
    """
    try:
        return f"windows-{system.boot_mark()}"
    except Refused:
        return ""
