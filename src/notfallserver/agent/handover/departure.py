"""The end of a planned handover on the original: shut down, be still, tell, and switch off.

The invariant: whatever anybody was promised is in the version. What was promised before the freeze
had reached the filesystems, because all services had ended in order and nobody could be reached any
more; and after it nothing can be promised, because everything that writes waits until it is thawed.

    SERVICES STOPPED -> FROZEN -> version sealed -> server told -> off
           |              |             |               |
           +--------------+-------------+               +-- from the first try to tell it on
              thawed, and started again                     there is no way back

So the server starts the stand-in only when it was told, and an original that may have told it never
works on, even if no answer came.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping, Protocol

from notfallserver.agent.handover.note import Note
from notfallserver.agent.handover.off import switch_off
from notfallserver.agent.handover.services import Services
from notfallserver.wire.errors import NotfallError

HOLD_S = 900.0
"""Everything may stay frozen for so long, because nobody waits for it any more."""
TELL_S = 60.0
"""So long it is tried to tell the server."""


class Shutting(Protocol):
    """What :class:`~notfallserver.agent.handover.services.Services` does."""

    def stop(self, tick: Callable[[], None]) -> None: ...

    def start_again(self) -> None: ...


@dataclass(frozen=True)
class Departure:
    """``tell`` gives the last message to the server; it raises what the server refuses, and what
    does not get through with ``retry``."""

    note: Note
    services: Shutting
    tell: Callable[[Mapping[str, Any]], object]
    power_off: Callable[[], None]

    @contextmanager
    def shut_down(self, tick: Callable[[], None]) -> Iterator[None]:
        """Within the block nothing works here; leaving it starts all again, unless this machine
        has said that it goes."""
        try:
            self.services.stop(tick)
            yield
        finally:
            stopped = self.note.read()
            if stopped is None or not stopped.leaving:
                self.services.start_again()

    def leave(self, version: str, boot: str) -> None:
        """Tell the server and switch off. Raises only where the server refuses: it then knows that
        this machine works on."""
        stopped = self.note.read()
        units = stopped.units if stopped else []
        self.note.write(units, leaving=True)
        body = {"version": version, "boot_id": boot}
        until = time.monotonic() + TELL_S
        while True:
            try:
                self.tell(body)
                break
            except NotfallError as error:
                if not error.retry or error.status < 500:
                    self.note.write(units)
                    raise
            if time.monotonic() > until:
                break
            time.sleep(1)
        self.power_off()


def finish_leftovers(note: Note, services: Services) -> str:
    """After an agent was killed in a handover; what was done, in words, or empty.

    Filesystems must be thawed. One that had begun to tell the server is not taken back.
    """
    stopped = note.read()
    if stopped is None:
        return ""
    if stopped.leaving:
        switch_off()
        return "switched off"
    services.start_again()
    return f"started again what was shut down for a handover: {', '.join(stopped.units)}"
