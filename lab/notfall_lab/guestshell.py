"""Commands in a guest, by the lab-shell service that its image carries (files/lab-shell.py)."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any

from notfall_lab.netns import Connection

PORT = 2222


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


class GuestShell:
    """``namespace`` is where the calls come from, ``address`` the guest's."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace = namespace
        self.address = address

    def run(self, script: str, timeout: float = 60, check: bool = True) -> Answer:
        """Run a shell script as root; raises when it fails, unless ``check`` is false."""
        body = self._post(json.dumps({"script": script, "timeout": timeout}), timeout + 30)
        answer = Answer(**body)
        if check and answer.code:
            raise RuntimeError(
                f"in guest {self.address}: exit code {answer.code}: {script}\n"
                f"{answer.out[-2000:]}{answer.err[-2000:]}"
            )
        return answer

    def wait(self, timeout: float) -> float:
        """Wait until the guest answers; the seconds it took."""
        start = time.monotonic()
        while True:
            try:
                self._post(json.dumps({"script": "true", "timeout": 20}), 25)
            except (OSError, http.client.HTTPException):
                if time.monotonic() - start > timeout:
                    raise TimeoutError(f"{self.address} does not answer in {timeout} s") from None
                time.sleep(0.3)
            else:
                return time.monotonic() - start

    def _post(self, body: str, timeout: float) -> Any:
        connection = Connection(self.namespace, self.address, PORT, timeout)
        try:
            connection.request("POST", "/", body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()
