"""The one error type that crosses module and machine borders.

An error carries a stable code, the cause, the next step for a layperson, and whether trying
the same again can help. On the wire it is a JSON object (see :meth:`NotfallError.to_json`);
pages translate by code, never by text.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping


class NotfallError(Exception):
    """A failure that a person or a caller can act on.

    ``code`` is stable, lower case with dashes. ``cause`` says what is wrong, ``remedy`` what to
    do next. ``retry`` is true when the same call may succeed later. ``status`` is the HTTP status
    that the server answers with.
    """

    def __init__(
        self, code: str, cause: str, remedy: str = "", retry: bool = False, status: int = 400
    ) -> None:
        super().__init__(f"{cause} {remedy}".strip())
        self.code = code
        self.cause = cause
        self.remedy = remedy
        self.retry = retry
        self.status = status

    def to_json(self) -> Dict[str, Any]:
        return {
            "code": self.code,
            "cause": self.cause,
            "remedy": self.remedy,
            "retry": self.retry,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any], status: int) -> NotfallError:
        """Read an error answer; fields of the wrong type are replaced, never trusted."""
        return cls(
            code=str(body.get("code", "unknown")),
            cause=str(body.get("cause", "The server gave no reason.")),
            remedy=str(body.get("remedy", "")),
            retry=body.get("retry") is True,
            status=status,
        )
