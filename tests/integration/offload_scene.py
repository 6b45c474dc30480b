"""A server with something to carry away, and its places, by the command line as a person would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hand_agent import HandAgent
from server_process import ServerProcess

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.host.mount import unmount_image
from notfallserver.server.offload.places import Places
from notfallserver.wire.blocks import BLOCK, block_count
from notfallserver.wire.frames import write_holes

LARGE = 32
"""Blocks in a frame."""


@dataclass
class Away:
    """One place of a server, and what is done with it."""

    server: ServerProcess
    name: str
    key: str

    @classmethod
    def add(cls, server: ServerProcess, name: str, *options: str) -> Away:
        done = server.notfall("offload", "place", "add", name, *options, "--json")
        assert done.returncode == 0, done.stderr
        return cls(server, name, json.loads(done.stdout)["key"])

    @property
    def folder(self) -> Path:
        places = Places(self.server.data)
        return places.folder(places.find(self.name))

    def ask(self, what: str, **body: Any) -> str:
        """Begin a job; its id."""
        with self.server.root() as root:
            answer = root.post(f"/api/v1/offload/places/{self.name}/{what}", json=body)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

    def done(self, what: str, seconds: float = 120, **body: Any) -> dict[str, Any]:
        """Do it; its result."""
        row = self.server.await_job(self.ask(what, **body), seconds)
        assert row["state"] == "done", row
        result: dict[str, Any] = row["result"]
        return result

    def refused(self, what: str, **body: Any) -> str:
        """Do it; the code of its failure."""
        row = self.server.await_job(self.ask(what, **body))
        assert row["state"] == "failed", row
        return str(row["error"]["code"])

    def shown(self) -> dict[str, Any]:
        with self.server.root() as root:
            rows = root.get("/api/v1/offload/places").json()
        found: dict[str, Any] = next(one for one in rows if one["name"] == self.name)
        return found

    def contents(self, **query: Any) -> list[dict[str, Any]]:
        with self.server.root() as root:
            where = f"/api/v1/offload/places/{self.name}/contents"
            rows: list[dict[str, Any]] = root.get(where, params=query).json()
            return rows

    def restic(self, *arguments: str) -> str:
        """The engine by hand, as somebody without us would use it."""
        environment = {
            **os.environ,
            "RESTIC_PASSWORD": self.key,
            "RESTIC_REPOSITORY_FILE": str(self.folder / "repository"),
        }
        done = subprocess.run(
            ["restic", "--no-cache", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout


def protect(agent: HandAgent) -> str:
    """A version of the agent's disk, sent in large frames; the server has taken note of it."""
    agent.begin()
    blocks = block_count(len(agent.disk))
    for first in range(0, blocks, LARGE):
        count = min(LARGE, blocks - first)
        part = agent.disk[first * BLOCK : (first + count) * BLOCK]
        if part.strip(b"\0"):
            agent.send("blocks", agent.blocks_frame(first, count))
        else:
            agent.send("holes", write_holes(0, [(first, count)]))
    stamp = agent.seal()
    agent.await_taken(stamp)
    return stamp


def engines(server: ServerProcess) -> list[int]:
    """The engine's processes of this server, by what they were told."""
    found = []
    mark = f"RESTIC_REPOSITORY_FILE={server.data}/".encode()
    for one in Path("/proc").glob("[0-9]*"):
        try:
            ours = (one / "comm").read_text().strip() == "restic"
            if ours and mark in (one / "environ").read_bytes():
                found.append(int(one.name))
        except OSError:
            continue
    return found


def kill_engine_when(server: ServerProcess, ready: Callable[[], bool]) -> None:
    """Kill it at once (as the kernel does), as soon as it has come so far."""
    until = time.monotonic() + PATIENCE_S
    while not (ready() and engines(server)):
        assert time.monotonic() < until
        time.sleep(0.01)
    for one in engines(server):
        os.kill(one, signal.SIGKILL)


def lose(server: ServerProcess) -> None:
    """The machine burns: no process, no data, no pool, no settings."""
    if server.process is not None:
        server.kill()
    unmount_image(server.data / "pool")
    shutil.rmtree(server.data)
    server.settings_file.unlink()
