"""The one function by which a primary changes its state, handed out by the conductor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from notfallserver.server.cycle.state import Event


class Move(Protocol):
    """Apply ``event`` to a primary; refused where the table has no such way."""

    def __call__(
        self,
        primary: str,
        event: Event,
        who: str,
        why: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None: ...
