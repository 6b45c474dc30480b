"""A server whose files are copied and judged day by day, with the real agent and the real pool."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from agent_receiver import Receiver, loop_device, mounted
from source_machine import NEW_EXT4

from notfallserver.agent import watched
from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.place import Place
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.server.cycle.alarm import measure
from notfallserver.server.cycle.alarm.alarms import Alarms
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.pool.layout import make_stamp
from notfallserver.server.pool.measures import Alarm, Measures
from notfallserver.server.pool.store import PrimaryStore

MAKE = {
    "ext4": ["mkfs.ext4", *NEW_EXT4, "-b", "4096"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
MONDAY = datetime(2026, 11, 23, 20, tzinfo=timezone.utc)


class _Catalogue:
    """Where the job writes what people are shown."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.notes: dict[str, Any] = {}
        self.jobs = SimpleNamespace(unfinished=lambda *_: [])
        self.journal = SimpleNamespace(write=lambda *told: self.entries.append(told))
        self.primaries = SimpleNamespace(
            find=lambda _: SimpleNamespace(notes=self.notes),
            note=lambda _, **told: self.notes.update(told),
        )


class Company:
    """A disk with one filesystem at ``place``; each :meth:`day` makes a version and judges it."""

    def __init__(self, place: Path, receiver: Receiver, agent: Service) -> None:
        self.place = place
        self.store: PrimaryStore = receiver.store
        self.catalogue = _Catalogue()
        self.now = MONDAY
        self._agent = agent
        pool = SimpleNamespace(primary=lambda _: self.store)
        means = SimpleNamespace(
            catalogue=self.catalogue, pool=pool, place=SimpleNamespace(reflink=False)
        )
        self.runner = SimpleNamespace(submit=lambda *_, **__: None)
        self.alarms = Alarms(cast(Means, means), cast(JobRunner, self.runner))
        self._context = cast(
            JobContext,
            SimpleNamespace(
                primary=receiver.uuid,
                progress=lambda *_: None,
                check=lambda: None,
                sleep=lambda _: None,
            ),
        )

    def day(self, hours: float = 24) -> Measures:
        """Copy and judge what was done since; returns what the version shows."""
        self.now += timedelta(hours=hours)
        os.sync()
        self._agent.replicate()
        self.alarms.measure(self._context)
        return self.store.measures.all()[self.newest]

    @property
    def newest(self) -> str:
        return self.store.need_newest().stamp

    @property
    def alarm(self) -> Alarm | None:
        return self.store.measures.standing()


@contextmanager
def company(root: Path, mib: int = 400, kind: str = "ext4") -> Iterator[Company]:
    """Stamps follow the scene's own clock: a week passes in a minute."""
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        image = root / "disk.img"
        with image.open("wb") as file:
            file.truncate(mib << 20)
        device = cleanup.enter_context(loop_device(image))
        subprocess.run([*MAKE[kind], device], check=True)
        place = cleanup.enter_context(mounted(device, root / "data"))
        receiver = Receiver(root / "server")
        cleanup.callback(receiver.close)
        cleanup.callback(lambda: remove_traces(Place(receiver.config)))
        receiver.settings([device])
        agent = Service(receiver.config, Stop())
        cleanup.callback(agent.close)
        patch = cleanup.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(watched, "ADAPTED", ())  # the disks of tests are mounted below /tmp
        patch.setattr(watched, "WITHIN_S", 60.0)  # a busy machine shall not see less
        patch.setattr(measure, "READING_S", 600.0)
        scene = Company(place, receiver, agent)
        patch.setattr(PrimaryStore, "fresh_stamp", lambda _: make_stamp(scene.now))
        yield scene
