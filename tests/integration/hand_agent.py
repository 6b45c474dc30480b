"""An agent by hand: the protocol's messages one by one, so that a test can send wrong ones.

The disks are bytes in memory. Unlike a real agent it reads nothing and knows no filesystem.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server_process import MACHINE, ServerProcess

from notfall_lab.patience import PATIENCE_S
from notfallserver.wire.blocks import BLOCK, HOLE, block_count, hash_block
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import BATCH_BLOCKS, PLAIN, Offer, write_blocks, write_holes

FEW = 16
"""Blocks of a small disk."""


def small_machine(*sizes: int, hostname: str = "hand") -> dict[str, Any]:
    disks = [{"name": f"vd{'abcdef'[at]}", "size": size} for at, size in enumerate(sizes)]
    return {**MACHINE, "hostname": hostname, "disks": disks}


class HandAgent:
    """The agent of one primary; ``disk`` is the content of its only disk."""

    def __init__(
        self,
        server: ServerProcess,
        name: str,
        disk: bytes = b"",
        enrolled: dict[str, str] | None = None,
    ) -> None:
        """``enrolled`` is the answer to a line that was pasted already."""
        self.name = name
        self.disk = disk or os.urandom(FEW * BLOCK)
        self.machine = small_machine(len(self.disk))
        self.enrolled = enrolled or server.enrol(name, self.machine)
        self.uuid = self.enrolled["primary"]
        self._files = Path(server.directory, f"{name}.pem"), Path(server.directory, f"{name}.key")
        self._files[0].write_text(self.enrolled["certificate"])
        self._files[1].write_text(self.enrolled["key"])
        self._server = server
        self.client = self.frames = self.connect()
        self.run = ""
        self.leave = threading.Event()

    def connect(self, lane: bool = False) -> Client:
        files = [str(one) for one in self._files]
        return Client(self._server.url, tls_context(self._server.ca, *files, frames=lane))

    def use_lane(self) -> None:
        """From now on frames go on the lane."""
        self.frames = self.connect(lane=True)

    def close(self) -> None:
        self.client.close()
        self.frames.close()

    # -- messages --------------------------------------------------------------------------------

    def poll(
        self, role: str = "primary", busy: bool = False, recovery: str = "", **more: Any
    ) -> dict[str, Any]:
        body = {"boot_id": "b", "role": role, "agent": "0", "busy": busy, "machine": self.machine}
        body |= {"recovery": recovery, **more}
        return self.client.call("POST", "/agent/v1/poll", body)

    def begin(self) -> dict[str, Any]:
        body = {"machine": self.machine, "codecs": [PLAIN], "tracked_since": "", "boot_id": "b"}
        answer = self.client.call("POST", "/agent/v1/runs", body)
        self.run = answer["run"]
        return answer

    def send(self, what: str, frame: bytes) -> bytes:
        return self.frames.send("POST", f"/agent/v1/runs/{self.run}/{what}", frame)

    def tell(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.client.call("POST", f"/agent/v1/runs/{self.run}/{what}", body)

    def entries(self, first: int, count: int) -> Offer:
        return [
            (number, hash_block(self.disk[number * BLOCK : (number + 1) * BLOCK]))
            for number in range(first, first + count)
        ]

    def blocks_frame(self, first: int, count: int) -> bytes:
        content = self.disk[first * BLOCK : (first + count) * BLOCK]
        return write_blocks(0, self.entries(first, count), content, PLAIN)

    def send_disk(self, pause: float = 0, batch: int = BATCH_BLOCKS) -> None:
        """All blocks; with a ``pause`` after each frame, telling the progress."""
        blocks = block_count(len(self.disk))
        for first in range(0, blocks, batch):
            count = min(batch, blocks - first)
            for number, digest in self.entries(first, count):
                if digest == HOLE:
                    self.send("holes", write_holes(0, [(number, 1)]))
                else:
                    self.send("blocks", self.blocks_frame(number, 1))
            done = min(first + count, blocks) * BLOCK
            told = {"phase": "hot", "pass": 1, "done": done, "total": len(self.disk)}
            if self.tell("progress", told)["cancelled"]:
                raise NotfallError("cancelled", "The replication was cancelled.", status=409)
            if self.leave.wait(pause):
                raise NotfallError("left", "The test is over.")

    def seal(self, **others: object) -> str:
        body = {"consistency": "crash", "machine": self.machine, "passes": 1, **others}
        return str(self.tell("seal", body)["version"])

    def replicate(self, pause: float = 0, batch: int = BATCH_BLOCKS) -> str:
        self.begin()
        self.send_disk(pause, batch)
        return self.seal()

    def protect(self) -> str:
        """A version, and the server has taken note of it."""
        stamp = self.replicate()
        until = time.monotonic() + PATIENCE_S
        with self._server.root() as root:
            while root.get(f"/api/v1/primaries/{self.name}").json()["state"] != "normal":
                assert time.monotonic() < until
                time.sleep(0.1)
        return stamp

    def await_taken(self, stamp: str) -> None:
        """Return when the server shows this version as the newest."""
        until = time.monotonic() + PATIENCE_S
        with self._server.root() as root:
            while (
                root.get(f"/api/v1/primaries/{self.name}").json()["newest_version"] != stamp
                or root.get(f"/api/v1/primaries/{self.name}").json()["state"] == "new"
            ):
                assert time.monotonic() < until
                time.sleep(0.1)


class Serving:
    """Polls and replicates on order in a thread, as long as the block lasts."""

    def __init__(self, agent: HandAgent, replicate: Callable[[], object] | None = None) -> None:
        self._agent = agent
        self._replicate = replicate or agent.replicate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                if self._agent.poll()["order"] == "replicate":
                    self._replicate()
            except NotfallError:
                self._over.wait(0.5)

    def __enter__(self) -> Serving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._agent.leave.set()
        self._thread.join()
