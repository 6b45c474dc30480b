"""A customer that places numbered orders and remembers each one that was acknowledged.

Numbers ascend without gaps; an order that is not acknowledged is repeated until it is (the service
takes the same number twice without harm). So at any time: every number in the file was promised,
and at most one more may be there. As a process: ``python -m notfall_lab.orders --address A --file F
--client NAME``, ended by SIGTERM; it takes up its file where it ended.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import urlencode

from notfall_lab.netns import Connection, get
from notfall_lab.patience import PATIENCE_S

PORT = 8080
TEXT = "1 box of paper " * 16  # what an order weighs
RATE = 5.0
"""Orders a second at most: a guest that is emulated must have time for its agent, too."""


def place_orders(address: str, client: str, file: Path, rate: float) -> None:
    """Place at most ``rate`` orders a second, for ever."""
    number = len(read_file(file)) + 1
    connection = http.client.HTTPConnection(address, PORT, timeout=5)
    due = time.monotonic()
    with file.open("a", buffering=1) as acknowledged:
        while True:
            due = max(due + 1 / rate, time.monotonic() - 1)
            if _place(connection, client, number):
                acknowledged.write(f"{number} {time.time():.3f}\n")
                number += 1
                time.sleep(max(0.0, due - time.monotonic()))
            else:
                connection.close()
                time.sleep(0.5)


def _place(connection: http.client.HTTPConnection, client: str, number: int) -> bool:
    body = json.dumps({"client": client, "number": number, "text": TEXT})
    try:
        connection.request("POST", "/orders", body)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return False
    return answer.status == 200


def read_file(file: Path) -> list[tuple[int, float]]:
    """(number, time of the acknowledgement); a last line cut short does not count."""
    if not file.exists():
        return []
    lines = file.read_text().split("\n")[:-1]
    return [(int(number), float(at)) for number, at in (line.split() for line in lines)]


@dataclass(frozen=True)
class Verdict:
    """What the service has of what it acknowledged, and whether its two disks fit together."""

    acknowledged: int
    missing: list[int]
    unjournalled: list[int]

    @property
    def ok(self) -> bool:
        return not self.missing and not self.unjournalled


class OrderClient:
    """The customer as a process in a namespace of the lab; ends with its context."""

    def __init__(
        self, namespace: str, address: str, file: Path, client: str = "lab", rate: float = RATE
    ) -> None:
        self.namespace = namespace
        self.address = address
        self.file = file
        self.client = client
        self.rate = rate
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OrderClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "TERM", "--"),
                *("nsenter", f"--net=/run/netns/{self.namespace}", "--"),
                *(sys.executable, "-m", "notfall_lab.orders", "--address", self.address),
                *("--file", str(self.file), "--client", self.client, "--rate", str(self.rate)),
            ],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def stop(self) -> None:
        """No further orders; the last line of the file is complete."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None

    def acknowledged(self) -> list[tuple[int, float]]:
        return read_file(self.file)

    def rewind_to(self, count: int) -> None:
        """Forget all but the first ``count`` acknowledgements: the others are placed again."""
        if self._process is not None:
            raise RuntimeError("stop the order client first")
        kept = self.acknowledged()[:count]
        self.file.write_text("".join(f"{number} {at:.3f}\n" for number, at in kept))

    def wait_more(self, count: int, timeout: float) -> float:
        """Wait for ``count`` further acknowledgements; the seconds until the first one."""
        begun, start = len(self.acknowledged()), time.monotonic()
        first = 0.0
        while True:
            now = len(self.acknowledged())
            passed = time.monotonic() - start
            if now > begun and not first:
                first = passed
            if now >= begun + count:
                return first
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError("the order client is not running")
            if passed > timeout:
                raise TimeoutError(f"{now - begun} of {count} orders in {timeout:.0f} s")
            time.sleep(0.1)

    def longest_outage(self, since: float = 0) -> float:
        """The longest time between two acknowledgements (seconds), of those after ``since``."""
        times = [at for _, at in self.acknowledged() if at >= since]
        return max((b - a for a, b in zip(times, times[1:], strict=False)), default=0.0)

    def verify(self, timeout: float = PATIENCE_S) -> Verdict:
        """Ask the service for all orders and compare."""
        promised = {number for number, _ in self.acknowledged()}
        there: set[int] = set()
        last = 0
        while True:
            query = urlencode({"client": self.client, "after": last})
            page = self._get(f"/orders?{query}", timeout)["numbers"]
            if not page:
                break
            there.update(page)
            last = page[-1]
        unjournalled = self._get("/check", timeout)["unjournalled"]
        return Verdict(len(promised), sorted(promised - there), unjournalled)

    def place_one(self, client: str, number: int) -> bool:
        """One order out of turn, to see whether the service takes any."""
        connection = Connection(self.namespace, self.address, PORT, 10)
        try:
            return _place(connection, client, number)
        finally:
            connection.close()

    def healthy(self) -> bool:
        try:
            return get(self.namespace, self.address, PORT, "/health", 5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_healthy(self, timeout: float) -> float:
        """Wait until the service answers; the seconds it took."""
        start = time.monotonic()
        while not self.healthy():
            if time.monotonic() - start > timeout:
                raise TimeoutError(f"{self.address} takes no orders after {timeout:.0f} s")
            time.sleep(0.3)
        return time.monotonic() - start

    def _get(self, path: str, timeout: float) -> dict[str, list[int]]:
        status, body = get(self.namespace, self.address, PORT, path, timeout)
        if status != 200:
            raise RuntimeError(f"{path}: status {status}: {body[:500]}")
        found: dict[str, list[int]] = json.loads(body)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Places orders until it is ended.")
    parser.add_argument("--address", required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--client", default="lab")
    parser.add_argument("--rate", type=float, default=RATE)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    place_orders(given.address, given.client, given.file, given.rate)


if __name__ == "__main__":
    main()
