"""Talking to the server with patience: a cut line is tried again for about a minute.

Each thread has a line of its own. Every request of the protocol may be repeated without harm.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Mapping, Union

from notfallserver.agent.stop import Stop
from notfallserver.wire.blocks import Buffer
from notfallserver.wire.client import Client
from notfallserver.wire.errors import NotfallError

PATIENCE = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0


class Line:
    """A client that repeats what failed for a passing reason."""

    def __init__(self, client: Client, stop: Stop) -> None:
        self._client = client
        self._stop = stop

    def call(
        self, path: str, body: Mapping[str, Any], timeout: float = 0, patience: float = -1
    ) -> Dict[str, Any]:
        return self._patiently(  # type: ignore[no-any-return]
            lambda: self._client.call("POST", path, body, timeout), patience
        )

    def send(self, path: str, frame: Union[bytes, List[Buffer]]) -> bytes:
        return self._patiently(  # type: ignore[no-any-return]
            lambda: self._client.send("POST", path, frame), -1
        )

    def _patiently(self, request: Callable[[], Any], patience: float) -> Any:
        until = time.monotonic() + (PATIENCE if patience < 0 else patience)
        pause = _FIRST_PAUSE
        while True:
            try:
                return request()
            except NotfallError as error:
                # What the server itself refuses (4xx) stays refused within this run.
                if not error.retry or error.status < 500 or time.monotonic() > until:
                    raise
            self._stop.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def close(self) -> None:
        self._client.close()
