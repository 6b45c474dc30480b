"""Receiving replications: the server's side of the block protocol.

One run per primary at a time. A run is only a handle on the unfinished version: when it is lost
(the server was killed, the line was cut), the next run continues in what arrived. Thread-safe.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from notfallserver.server.pool.incoming import Incoming, utc_now
from notfallserver.server.pool.known import KnownContent
from notfallserver.server.pool.room import pool_may_be_full
from notfallserver.server.pool.store import Pool
from notfallserver.server.pool.version import (
    Manifest,
    Version,
    read_applications,
    read_sample,
    read_watched,
)
from notfallserver.wire.blocks import Buffer
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, read_machine
from notfallserver.wire.frames import best_codec, read_holes, read_offer, readable_codecs

SILENCE = 180
"""After this many seconds without a request a run is taken for lost."""
KNOWN_S = 10.0
"""A run waits at most so long until it is known what the pool holds."""
SHUTTING_DOWN = "shutting down"
"""The phase in which nobody can work with the original any more."""
IDLE_SILENCE = 15
"""The same while the agent says that it isn't busy: it was started anew, or its run has ended."""


@dataclass
class Run:
    """A replication under way."""

    id: str
    primary: str
    name: str
    machine: Machine
    incoming: Incoming
    last: bool = False  # of a handover
    down_since: float = 0.0  # when the last run began to shut down what works there
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    phase: str = "hot"
    done: int = 0
    total: int = 0
    cancelled: bool = False
    idle: bool = False  # whether the agent said so when it polled last
    sealing: threading.Lock = field(default_factory=threading.Lock)
    version: Version | None = None
    error: NotfallError | None = None

    @property
    def over(self) -> bool:
        return self.version is not None or self.error is not None

    def lost(self) -> bool:
        limit = IDLE_SILENCE if self.idle else SILENCE
        return not (self.over or self.sealing.locked()) and time.monotonic() - self.heard > limit


class Runs:
    """All runs of all primaries."""

    def __init__(self, pool: Pool, known: KnownContent) -> None:
        self._pool = pool
        self._known = known
        self._lock = threading.Lock()
        self._beginning: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._runs: dict[str, Run] = {}  # by primary

    def of_primary(self, uuid: str) -> Run | None:
        with self._lock:
            return self._runs.get(uuid)

    def polled(self, uuid: str, busy: bool) -> None:
        """The agent told whether it is at work."""
        run = self.of_primary(uuid)
        if run is not None:
            run.idle = not busy

    def begin(self, uuid: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Start a run; an older one of the same primary ends, its work is continued."""
        machine = read_machine(body.get("machine"))
        if not machine.disks:
            raise NotfallError(
                "no-disks", "The agent found no disk to protect.", "Name the disks in its settings."
            )
        codecs = [one for one in body.get("codecs", []) if isinstance(one, int)]
        run_id = secrets.token_hex(8)
        # What an agent asked for that was killed may still be under way when its next one asks.
        with self._beginning[uuid]:
            with pool_may_be_full():
                store = self._pool.add_primary(uuid, name)
            self._end_older(uuid)
            incoming = store.open_incoming(run_id, machine.disks)
            incoming.room = self._pool.room
            self._known.refresh(KNOWN_S)
            if body.get("deep") is not True:  # which must be told of every block that differs
                incoming.search = lambda digests: self._known.find(uuid, digests)
            with self._lock:
                last = body.get("last") is True
                self._runs[uuid] = Run(run_id, uuid, name, machine, incoming, last)
        return {
            "run": run_id,
            # An agent that tracked writes counts disks as it did then: if they moved, it must
            # offer everything. "resumed" says that offering pays: something is here, or elsewhere
            # in the pool.
            "base": incoming.base if incoming.in_place else "",
            "codec": best_codec(codecs),
            "codecs": readable_codecs(),
            "resumed": incoming.resumed or bool(incoming.base) or self._known.pays(uuid),
            "disks": len(machine.disks),
        }

    def _end_older(self, uuid: str) -> None:
        with self._lock:
            older = self._runs.pop(uuid, None)
        if older is not None and not older.over:
            older.error = NotfallError("run-over", "A newer run took over.", retry=True, status=409)
            older.incoming.close()

    def _get(self, uuid: str, run_id: str) -> Run:
        run = self.of_primary(uuid)
        if run is None or run.id != run_id or run.over:
            raise NotfallError(
                "run-over",
                "The server does not know this run (any more).",
                "Start the replication again; it continues where it was.",
                retry=True,
                status=409,
            )
        run.heard = time.monotonic()
        return run

    def offer(self, uuid: str, run_id: str, frame: Buffer) -> bytes:
        run = self._get(uuid, run_id)
        disk, entries = read_offer(frame)
        with run.incoming as incoming:
            return incoming.offer(disk, entries)

    def receive(self, uuid: str, run_id: str, frame: Buffer) -> None:
        run = self._get(uuid, run_id)
        with run.incoming as incoming:
            incoming.receive(frame)

    def punch(self, uuid: str, run_id: str, frame: Buffer) -> None:
        run = self._get(uuid, run_id)
        disk, runs = read_holes(frame)
        with run.incoming as incoming:
            incoming.punch(disk, runs)

    def progress(self, uuid: str, run_id: str, body: dict[str, Any]) -> bool:
        """Take a progress message; True when the run was cancelled."""
        run = self._get(uuid, run_id)
        run.phase = str(body.get("phase", "hot"))[:40]
        if run.phase == SHUTTING_DOWN and not run.down_since:
            run.down_since = time.time()
        run.done, run.total = _whole(body.get("done")), _whole(body.get("total"))
        return run.cancelled

    def fail(self, uuid: str, run_id: str, body: dict[str, Any]) -> Run:
        run = self._get(uuid, run_id)
        run.error = NotfallError.from_json(body, 500)
        run.incoming.close()
        return run

    def seal(
        self,
        uuid: str,
        run_id: str,
        body: dict[str, Any],
        stamp: str = "",
        kind: str = "replication",
    ) -> Run:
        """End a run with a new version; asked again, the answer is the same version.

        ``stamp`` is its name where that was decided elsewhere; it must be later than all others.
        """
        known = self.of_primary(uuid)
        if known is None or known.id != run_id:
            return self._get(uuid, run_id)  # which refuses
        with known.sealing:  # syncing may take minutes, and the agent ask again meanwhile
            return (
                known if known.version is not None else self._seal(uuid, run_id, body, stamp, kind)
            )

    def _seal(self, uuid: str, run_id: str, body: dict[str, Any], stamp: str, kind: str) -> Run:
        run = self._get(uuid, run_id)
        machine = read_machine(body["machine"]) if body.get("machine") else run.machine
        if [one.size for one in machine.disks] != [one.size for one in run.machine.disks]:
            raise NotfallError(
                "disks-changed", "The disks changed during the run.", "Start it again.", retry=True
            )
        consistency = body.get("consistency")
        if consistency not in ("application", "filesystem", "crash"):
            raise NotfallError("bad-seal", "The run tells no consistency.", "Update the agent.")
        applications = read_applications(body.get("applications", []))
        if consistency == "application" and any(one.error for one in applications):
            raise NotfallError("bad-seal", "The run contradicts itself.", "Update the agent.")
        counts = run.incoming.counts
        manifest = Manifest(
            primary=uuid,
            name=run.name,
            stamp=stamp or self._pool.primary(uuid).fresh_stamp(),
            kind=kind,
            consistency=consistency,
            base=run.incoming.base,
            machine=machine,
            disks=(),
            started_at=run.incoming.started_at,
            sealed_at=utc_now(),
            freeze_ms=_number(body.get("freeze_ms")),
            passes=_whole(body.get("passes")),
            bytes_read=_whole(body.get("bytes_read")),
            bytes_sent=_whole(body.get("bytes_sent")),
            bytes_changed=counts.received + counts.punched + counts.shared,
            bytes_shared=counts.shared,
            read_all=body.get("read_all") is not False,
            applications=applications,
            deep=body.get("deep") is True,
            unexplained=_whole(body.get("unexplained")),
            sample=read_sample(body.get("sample", [])),
            watched=read_watched(body.get("watched", [])),
        )
        run.version = run.incoming.seal(manifest)
        self._known.refresh()
        return run

    def give_up(self, uuid: str) -> bool:
        """Drop what runs have left unfinished; False where one is under way."""
        with self._beginning[uuid]:
            run = self.of_primary(uuid)
            if run is not None and not run.over and not run.lost():
                return False
            self._end_older(uuid)
            self._pool.primary(uuid).drop_incoming()
            return True

    def end(self, uuid: str) -> None:
        """End the run of a primary, if there is one: its stand-in takes over."""
        self._end_older(uuid)

    def close(self) -> None:
        """Let go of all files; what arrived stays for the next start."""
        with self._lock:
            runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            if not run.over:
                run.incoming.close()
        self._known.close()


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e12 else 0.0
