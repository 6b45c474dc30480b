"""What a system does for the agent: what an order means there, and what is told of the machine.

A :class:`Host` is a machine, a :class:`Work` what is done on it for one server. ``duty.py`` and
``service.py`` are the same everywhere and know only these two; ``here.py`` has those of the system
this runs on. What a system can't do keeps the meaning that stands here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple, Type

from notfallserver.agent.config import Settings
from notfallserver.agent.line import Line
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.servers import Server
from notfallserver.wire.client import Throttle
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

Connect = Callable[[Optional[Throttle]], Line]
"""Makes a line to the server for each thread of a run; with a throttle it is one for frames."""

Farewell = Callable[[Mapping[str, Any]], Dict[str, Any]]
"""Tells the server that this machine goes; raises what it refuses."""

HAND_OVER = "hand-over"
"""The order for a planned handover, and what an agent says that it can do."""


class Run(Protocol):
    """One replication."""

    @property
    def begun(self) -> bool:
        """Whether the server knows this run: then it also hears how it ends."""

    def run(self) -> Outcome: ...


class Work:
    """For one server. The duty's own thread works with it, but for what says otherwise."""

    passing: Tuple[Type[Exception], ...] = (OSError, RuntimeError, ValueError, MemoryError)
    """Besides :class:`NotfallError`: what ends a run, but not the service."""

    log_place = "See the agent's log on the primary."
    """Where a person finds more about a failure."""

    longest_pause = 60.0
    """Between two tries to reach a server that is away, in seconds."""

    # -- telling ---------------------------------------------------------------------------------

    def boot_id(self) -> str:
        """Another text after each start of this machine. From any thread."""
        raise NotImplementedError

    def facts(self) -> Machine:
        """What the server is told of this machine; :class:`NotfallError` where it can't be known.
        From any thread."""
        raise NotImplementedError

    def can(self) -> List[str]:
        """Which orders beyond replication this machine can carry out. From any thread."""
        return []

    def tell_system(self) -> bool:
        """Of a stand-in that reaches no server, as in a rehearsal: tell how the system came up.
        True when there will be nothing more to tell."""
        return True

    # -- between orders --------------------------------------------------------------------------

    def prepare(self) -> None:
        """Before the first poll. Raises :class:`NotfallError`, which only is logged."""

    def settle(self) -> None:
        """Before each poll, however the server is."""

    def remember(self, url: str, near: Sequence[str]) -> None:
        """Of a primary: the addresses that it has now, for its next start. ``near`` are those by
        which the server at ``url`` is found without an address of one's own; empty: not told."""

    # -- orders ----------------------------------------------------------------------------------

    def replication(self, connect: Connect, deep: bool) -> AbstractContextManager[Run]:
        """A run, to be run within the block; a deep one reads all, whatever is known."""
        raise NotImplementedError

    def departing(self, connect: Connect, farewell: Farewell) -> AbstractContextManager[Run]:
        """The last run of this machine, and its end: on success it does not return."""
        raise NotfallError(
            "no-handover",
            "This machine can't hand over by itself.",
            "Shut it down, and start the stand-in then.",
        )

    def stay_off(self) -> bool:
        """The stand-in works: leave the network. False where this can't be done here. May return
        only when the network is back."""
        return False

    def check_seed(self, to: Path) -> None:
        """Refuse to make a seed below ``to``: :class:`NotfallError`."""

    # -- leaving ---------------------------------------------------------------------------------

    def leave_off(self, keep: bool, down: bool, seconds: float) -> None:
        """Let go of what is known; ``keep``: write down before what would be lost; ``down``: the
        machine goes down.

        Any thread may do so. A run that does not end within so many seconds keeps it. No run may
        follow.
        """


class Host:
    """The machine."""

    restarts = False
    """Whether who started this process starts it again when it ends by an error."""

    def come_up(self) -> None:
        """When the service starts, before all else: off the network, where nothing else has looked
        whether a stand-in works in this machine's place. Returns when it may work."""

    def begin(self, settings: Settings) -> None:
        """Before anything else: be a small load, and put in order what a killed agent left."""

    def going_down(self) -> bool:
        """Whether the machine is about to end."""
        return False

    def work(self, server: Server, settings: Settings) -> Work:
        raise NotImplementedError
