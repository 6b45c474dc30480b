"""A replication whose line is a removable disk: the first copy of a primary with a thin line.

The run is the same; only what would be sent is written into a seed (``wire/seed.py``). Every block
is offered and every one is wanted, zeros are written down as holes: a seed means the same on top of
whatever the server has. The server gives the secret and its time before, so that the version's name
is its name there, and hears when the seed is whole: it then takes no other version before it.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

from notfallserver.agent.line import Line
from notfallserver.wire.blocks import HOLE, Buffer, runs_of
from notfallserver.wire.client import Throttle
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import best_codec, read_offer, write_holes
from notfallserver.wire.seed import SeedWriter, seed_directory, stamp_of

log = logging.getLogger("notfall-agent")

_RUN = "seed"
_TELL_EVERY_S = 5.0


class SeedDesk:
    """What the lines of one seed share: it answers as the server would."""

    def __init__(self, to: Path, primary: str, server: Line) -> None:
        self.server = server
        begun = server.call("/agent/v1/seeds", {})
        self._seed = str(begun.get("seed", ""))
        self._began, self._server_ms = time.monotonic(), int(begun.get("now_ms", 0))
        codecs = begun.get("codecs")
        self._codecs = [one for one in codecs if isinstance(one, int)] if codecs else []
        self._primary, self._name = primary, str(begun.get("name", ""))
        self.writer = SeedWriter(
            seed_directory(to, primary, self._seed), str(begun.get("secret", ""))
        )
        self._told = 0.0

    def answer(self, what: str, body: Mapping[str, Any]) -> Dict[str, Any]:
        if what == "runs":
            codec = best_codec(self._codecs)
            return {"run": _RUN, "codec": codec, "codecs": self._codecs, "resumed": True}
        if what == "progress":
            self._tell(body)
        elif what == "seal":
            return {"version": self._seal(body)}
        return {}

    def _tell(self, body: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self._told > _TELL_EVERY_S and sys.stderr.isatty():
            self._told = now
            done, total = body.get("done", 0) >> 20, body.get("total", 0) >> 20
            print(f"{body.get('phase')}: {done} of {total} MiB", file=sys.stderr)

    def _seal(self, body: Mapping[str, Any]) -> str:
        stamp = stamp_of(self._server_ms + round((time.monotonic() - self._began) * 1000))
        told = {"seed": self._seed, "primary": self._primary, "name": self._name}
        self.writer.seal({**told, "stamp": stamp, "source": "agent", "seal": dict(body)})
        try:
            self.server.call(f"/agent/v1/seeds/{self._seed}/sealed", {"stamp": stamp})
        except NotfallError as error:
            log.warning("the server does not know that the seed is finished: %s", error)
        return stamp

    def offer(self, frame: bytes) -> bytes:
        """Everything is wanted; zeros are noted as holes."""
        disk, entries = read_offer(frame)
        zeros = [number for number, digest in entries if digest == HOLE]
        if zeros:
            self.writer.add([write_holes(disk, runs_of(zeros))])
        return b"\xff" * ((len(entries) + 7) // 8)


class SeedLine(Line):
    """A line of a seed's run; what belongs to an earlier run goes to the server."""

    def __init__(self, desk: SeedDesk) -> None:
        self._desk = desk

    def call(
        self, path: str, body: Mapping[str, Any], timeout: float = 0, patience: float = -1
    ) -> Dict[str, Any]:
        if path == "/agent/v1/runs" or path.startswith(f"/agent/v1/runs/{_RUN}/"):
            return self._desk.answer(path.rsplit("/", 1)[1], body)
        return self._desk.server.call(path, body, timeout, patience)

    def send(self, path: str, frame: Union[bytes, List[Buffer]]) -> bytes:
        if path.endswith("/offer") and isinstance(frame, bytes):
            return self._desk.offer(frame)
        self._desk.writer.add([frame] if isinstance(frame, bytes) else frame)
        return b""

    def close(self) -> None:
        """The desk stays open for the others."""


def seed_lines(desk: SeedDesk) -> Callable[[Optional[Throttle]], Line]:
    """As a replication wants its lines; nothing is throttled."""
    return lambda _throttle: SeedLine(desk)
