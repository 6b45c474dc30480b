"""Drivers of the customer's for this machine, from the emergency server."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Callable, Optional, Sequence

from notfallserver.guest.windows.packages import Windows
from notfallserver.guest.windows.parcel import READ_LIMIT, unpack_parcel
from notfallserver.wire.client import Client
from notfallserver.wire.errors import NotfallError


class DriverSupply:
    """Asks when the adaptation knows which Windows it is; ``folder`` takes what comes."""

    def __init__(
        self, connect: Callable[[], Client], folder: Path, stopped: threading.Event
    ) -> None:
        self._connect = connect
        self._folder = folder
        self._stopped = stopped

    def fetch(self, windows: Windows, ids: Sequence[str]) -> Optional[Path]:
        """None where the server has none that fit. Waits for a server that restarts."""
        body = {**vars(windows), "version": list(windows.version), "ids": list(ids)}
        raw = self._ask(json.dumps(body).encode())
        if not raw:
            return None
        unpack_parcel(io.BytesIO(raw), self._folder)
        return self._folder

    def _ask(self, body: bytes) -> bytes:
        client = self._connect()
        try:
            while True:
                try:
                    return client.send("POST", "/target/v1/drivers", body, READ_LIMIT)
                except NotfallError as error:
                    if not error.retry or self._stopped.wait(1):
                        raise
        finally:
            client.close()
