"""How far a new server is on its way to being protected (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from notfallserver.server.cycle.state import State
from notfallserver.server.web.answers import JobAnswer, PrimaryAnswer


class Stage(StrEnum):
    """In their order."""

    APPEAR = "appear"
    COPY = "copy"
    PREPARE = "prepare"
    PROTECTED = "protected"


class Place(StrEnum):
    """Where a stage is as seen from now."""

    DONE = "done"
    NOW = "now"
    LATER = "later"


TITLES = {
    Stage.APPEAR: "The server has appeared",
    Stage.COPY: "The first copy",
    Stage.PREPARE: "Making the copy ready to start",
    Stage.PROTECTED: "Protected",
}
TEXTS = tuple(TITLES.values())
_KINDS = {
    Stage.COPY: ("replicate", "seed_import", "image_import"),
    Stage.PREPARE: ("prepare",),
}


@dataclass(frozen=True)
class Mark:
    """One stage; ``job`` is what runs for it, ``failed`` what did not work."""

    stage: Stage
    title: str
    place: Place
    job: JobAnswer | None = None
    failed: JobAnswer | None = None


def stages(primary: PrimaryAnswer, prepared: bool, failed: JobAnswer | None) -> tuple[Mark, ...]:
    """``prepared``: the newest copy can start; ``failed``: the newest job that did not work."""
    order = list(Stage)
    now = order.index(_stage(primary, prepared))
    marks = []
    for index, stage in enumerate(order):
        kinds = _KINDS.get(stage, ()) if index == now else ()
        job = next((one for one in primary.jobs if one.kind in kinds), None)
        trouble = failed if failed and failed.kind in kinds else None
        done = index < now or order[now] is Stage.PROTECTED
        place = Place.DONE if done else Place.NOW if index == now else Place.LATER
        marks.append(Mark(stage, TITLES[stage], place, job, trouble))
    return tuple(marks)


def _stage(primary: PrimaryAnswer, prepared: bool) -> Stage:
    if primary.last_seen is None and not primary.newest_version and not primary.agentless:
        return Stage.APPEAR
    if State(primary.state) is State.NEW or not primary.newest_version:
        return Stage.COPY
    return Stage.PROTECTED if prepared else Stage.PREPARE
