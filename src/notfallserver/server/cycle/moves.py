"""The one function by which a primary changes its state, handed out by the conductor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from notfallserver.server.cycle.state import Event
from notfallserver.wire.errors import NotfallError


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


def because(error: BaseException) -> tuple[str, dict[str, Any]]:
    """Why something failed, for the journal: in the error's words, and its code for the page's."""
    if isinstance(error, NotfallError):
        return str(error), {"code": error.code}
    return str(error) or type(error).__name__.lower(), {"code": type(error).__name__.lower()}
