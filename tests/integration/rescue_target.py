"""A machine booted from the rescue medium, as far as the server sees it, and asking about it.

The target is the rescue system's own puller on a real disk; only the adaptation is said, not done.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from typing import Any

from hand_agent import HandAgent
from server_process import ServerProcess

from notfall_lab.patience import PATIENCE_S
from notfallserver.rescue.pull import Puller, PullProgress
from notfallserver.rescue.secret import pairing_code
from notfallserver.rescue.targets import read_disks
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine

MIB = 1 << 20
SIZE = 24 * MIB + 512  # the last block is short


class Target:
    """A machine booted from the rescue medium, as far as the server sees it."""

    def __init__(self, server: ServerProcess, *disks: Disk, firmware: str = "bios") -> None:
        self.machine = Machine("notfall-rescue", firmware=firmware, disks=list(disks))
        self.secret = secrets.token_hex(32)
        self.code = pairing_code(self.secret)
        self._server = server
        self.client = self.connect()
        self.report: dict[str, Any] = {"state": "idle"}

    def connect(self) -> Client:
        return Client(self._server.url, tls_context(self._server.ca), bearer=self.secret)

    def register(self, code: str = "") -> str:
        body = {"machine": self.machine.to_json(), "code": code or self.code}
        return str(self.client.call("POST", "/target/v1/register", body)["target"])

    def poll(self) -> dict[str, Any]:
        return self.client.call("POST", "/target/v1/poll", {"report": self.report})

    def index(self, version: str, disk: int = 0) -> bytes:
        return self.client.send("GET", f"/target/v1/index?version={version}&disk={disk}", b"")

    def want(self, version: str, frame: bytes) -> bytes:
        return self.client.send("POST", f"/target/v1/want?version={version}", frame)


class Working(threading.Thread):
    """A target that does what it is ordered; ``hold`` keeps it before each pull."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target
        self.over = threading.Event()
        self.hold = threading.Event()
        self.orders: list[dict[str, Any]] = []
        self.written: list[int] = []
        self._puller: Puller | None = None

    def run(self) -> None:
        while not self.over.is_set():
            try:
                order = self.target.poll()
            except NotfallError:
                time.sleep(0.3)
                continue
            if order["order"] in ("none", "release"):
                continue
            if not self.orders or order != self.orders[-1]:
                self.orders.append(order)
            self._carry_out(order)

    def _carry_out(self, order: dict[str, Any]) -> None:
        told = {"recovery": order["recovery"], "version": order.get("version", "")}
        try:
            if order["order"] == "pull":
                while self.hold.is_set() and not self.over.is_set():
                    time.sleep(0.1)
                if self._puller is None:
                    self._puller = Puller(read_disks(order), self.target.connect, self.over)
                progress = PullProgress()
                self._puller.pull(order["version"], progress)
                self.written.append(progress.written)
                amount = {"written": progress.written, "verified": progress.verified}
                self.target.report = {"state": "pulled", **told, **amount}
            elif order["order"] == "adapt":
                self.target.report = {"state": "adapted", **told, "changes": ["fstab"]}
            elif order["order"] == "reboot":
                self.target.report = {"state": "rebooting", **told}
        except NotfallError as error:
            self.target.report = {"state": "failed", **told, "error": error.to_json()}

    def __enter__(self) -> Working:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def state_of(server: ServerProcess, agent: HandAgent) -> str:
    with server.root() as root:
        return str(root.get(f"/api/v1/primaries/{agent.name}").json()["state"])


def await_state(server: ServerProcess, agent: HandAgent, state: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while (now := state_of(server, agent)) != state:
        assert time.monotonic() < until, (now, server.log()[-3000:])
        time.sleep(0.2)


def refusal(server: ServerProcess, *arguments: str) -> dict[str, Any]:
    done = server.notfall(*arguments, "--json")
    assert done.returncode == 1, done.stdout
    told: dict[str, Any] = json.loads(done.stderr)
    return told


def recover(server: ServerProcess, agent: HandAgent, target: Target) -> str:
    done = server.notfall("recover", agent.name, "--to", target.code, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def ready(server: ServerProcess, agent: HandAgent) -> bool:
    with server.catalogue() as catalogue:
        notes = catalogue.primaries.find(agent.uuid).notes.get("recovery", {})
    return bool(notes.get("closeness", {}).get("ready"))
