"""Which versions anything uses just now: the one place that is asked before a version is removed.

Whatever names a version durably is found here without being known: all unfinished jobs, of whatever
kind, are searched for stamps, in their parameters and notes. What only lives in memory, or in the
pool, is asked for by name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from notfallserver.server.cycle.browse.shelf import Shelf
from notfallserver.server.cycle.choice import WISH
from notfallserver.server.cycle.files import FileAccess
from notfallserver.server.cycle.handover.plan import LEFT
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.trial import TRIAL
from notfallserver.server.host.files import read_json
from notfallserver.server.pool import layout
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

KIND = "retain"
"""The job that removes versions: what it notes uses none."""
NOTED = (WISH, LEFT, TRIAL, "recovery")
"""What in a primary's notes may name a version that is still wanted."""
WITH_IMAGE = {"activate", "hand_over", "prepare", "rehearse", "start_plan"}
"""Jobs that take a prepared image and name its version only when they have it."""


class Use(StrEnum):
    """What a version is used by."""

    STANDIN = "stand-in"
    RUN = "unfinished-run"
    WISH = "wish"  # an activation, a recovery, a handover or a trial period
    TARGET = "target"
    JOB = "job"
    FILES = "files"


@dataclass(frozen=True)
class Users:
    """Knows whom to ask."""

    means: Means
    shelf: Shelf
    files: FileAccess

    def of(self, row: Primary) -> dict[str, set[Use]]:
        """By stamp. What can't be read raises: then nothing must be removed."""
        store = self.means.pool.primary(row.uuid)
        found: dict[str, set[Use]] = defaultdict(set)

        def add(use: Use, stamps: Iterable[str]) -> None:
            for stamp in stamps:
                found[stamp].add(use)

        add(Use.STANDIN, _of_standin(store))
        add(Use.RUN, _of_run(store))
        add(Use.TARGET, _directories(store.paths.reshaped))
        add(Use.WISH, stamps_in([row.notes.get(key) for key in NOTED]))
        add(Use.TARGET, stamps_in(self.means.desk.orders_of(row.uuid)))
        jobs = [one for one in self.means.catalogue.jobs.unfinished() if one.kind != KIND]
        add(Use.JOB, stamps_in([[one.parameters, one.notes] for one in jobs]))
        if any(_takes_image(one, row.uuid) for one in jobs):
            add(Use.JOB, _directories(store.paths.prepared))
        add(Use.FILES, (one.stamp for one in self.shelf.all() if one.primary == row.uuid))
        add(Use.FILES, self.files.shown(row.uuid))
        return dict(found)


def _of_standin(store: PrimaryStore) -> Iterator[str]:
    """What it was made of, what was the newest then, and its last capture."""
    for directory in (store.paths.standin, store.paths.root / "standin.new"):
        try:
            yield from stamps_in(read_json(directory / layout.STANDIN))
        except FileNotFoundError:
            continue
    standin = store.standin()
    if standin is not None:
        yield store.standin_base(standin).stamp


def _of_run(store: PrimaryStore) -> Iterator[str]:
    """The base of an unfinished version."""
    for directory in (store.paths.incoming, store.paths.root / "incoming.new"):
        for name in (layout.RUN, layout.MANIFEST):
            try:
                yield str(read_json(directory / name).get("base", ""))
            except (FileNotFoundError, NotfallError):  # a run that is begun anew, from the newest
                continue


def _directories(parent: Any) -> list[str]:
    """Versions that name a directory in ``parent``."""
    return [one.name for one in parent.iterdir()] if parent.exists() else []


def _takes_image(job: Job, primary: str) -> bool:
    return job.kind in WITH_IMAGE and job.primary in (primary, None)


def stamps_in(told: Any) -> Iterator[str]:
    """All stamps that are named anywhere in some JSON."""
    if isinstance(told, str):
        yield from layout.STAMP.findall(told)
    elif isinstance(told, Mapping):
        for key, value in told.items():
            yield from stamps_in(key)
            yield from stamps_in(value)
    elif isinstance(told, list | tuple):
        for value in told:
            yield from stamps_in(value)
