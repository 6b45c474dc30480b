"""The figures of one moment, as a tree, and the metrics they are. Pure.

Names and units follow Prometheus' conventions: base units (seconds, bytes), one family for each
thing. The only labels with many values are the primaries' names. What is not known is left out,
never zero. ``docs/metrics.md`` lists them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

PREFIX = "notfallserver"


@dataclass(frozen=True)
class PrimaryFigures:
    """Seconds and bytes; see :data:`PRIMARY` for each. ``alarms`` by kind."""

    name: str
    state: str
    version_age: float | None = None
    proven_version_age: float | None = None
    schedule: float | None = None
    versions: int = 0
    changed: int | None = None
    run: float | None = None
    freeze: float | None = None
    grade: int | None = None
    rehearsal_passed: int | None = None
    rehearsal_age: float | None = None
    rehearsal_answered: float | None = None
    heartbeat_age: float | None = None
    damaged_blocks: int = 0
    alarms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """``jobs`` by state, ``health`` by what was looked at: 0 good, 1 warning, 2 bad."""

    version: str
    states: tuple[str, ...]
    kinds: tuple[str, ...]
    primaries: tuple[PrimaryFigures, ...] = ()
    pool_size: int | None = None
    pool_free: int | None = None
    pool_full_in: float | None = None
    jobs: Mapping[str, int] = field(default_factory=dict)
    health: Mapping[str, int] = field(default_factory=dict)
    alarms: Mapping[str, int] = field(default_factory=dict)


PRIMARY = {
    "version_age": ("version_age_seconds", "How old the newest version is."),
    "proven_version_age": (
        "proven_version_age_seconds",
        "How old the newest version is that a rehearsal proved to start.",
    ),
    "schedule": (
        "schedule_seconds",
        "Planned time between two versions; missing where there is no schedule.",
    ),
    "versions": ("versions", "How many versions are kept."),
    "changed": ("last_run_changed_bytes", "Bytes that the last run found changed."),
    "run": ("last_run_duration_seconds", "How long the last run took."),
    "freeze": ("last_run_freeze_seconds", "How long the last run held the primary still."),
    "grade": (
        "proof_grade",
        "What was proved of the newest rehearsed version: 0 nothing, 1 prepared, 2 file systems "
        "sound, 3 started, 4 login, 5 services answered, 6 files compared.",
    ),
    "rehearsal_passed": ("rehearsal_passed", "Whether the last rehearsal passed (1) or not (0)."),
    "rehearsal_age": ("rehearsal_age_seconds", "How long ago the last rehearsal began."),
    "rehearsal_answered": (
        "rehearsal_answer_seconds",
        "Time from its start until everything answered, in the last rehearsal.",
    ),
    "heartbeat_age": ("heartbeat_age_seconds", "How long ago its agent was heard."),
    "damaged_blocks": ("damaged_blocks", "Blocks of its versions that are known to be damaged."),
}


def metrics_of(figures: Figures) -> Iterator[Metric]:
    """All families, each once."""
    yield InfoMetricFamily(f"{PREFIX}_build", "The program.", value={"version": figures.version})
    yield from _primaries(figures)
    for key, text, value in (
        ("pool_size_bytes", "Size of the image pool.", figures.pool_size),
        ("pool_free_bytes", "Free space of the image pool.", figures.pool_free),
        (
            "pool_full_in_seconds",
            "When the pool will be full at the pace of the last weeks; missing where it does not "
            "fill.",
            figures.pool_full_in,
        ),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"{PREFIX}_{key}", text, value=value)
    text = "Jobs: queued, running, or failed within a week and not made good since."
    yield _labelled("jobs", text, "state", figures.jobs)
    text = "The emergency server itself, by what was looked at: 0 good, 1 warning, 2 bad."
    yield _labelled("health", text, "check", figures.health)
    text = "Troubles of the emergency server itself that people are told of."
    yield _labelled("alarms", text, "severity", figures.alarms)


def _primaries(figures: Figures) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        f"{PREFIX}_primary_state", "1 for the state that it is in.", labels=["primary", "state"]
    )
    alarms = GaugeMetricFamily(
        f"{PREFIX}_primary_alarms",
        "Troubles of it that people are told of.",
        labels=["primary", "severity"],
    )
    for one in figures.primaries:
        for name in figures.states:
            state.add_metric([one.name, name], float(one.state == name))
        for kind in figures.kinds:
            alarms.add_metric([one.name, kind], one.alarms.get(kind, 0))
    yield state
    yield alarms
    for key, (name, text) in PRIMARY.items():
        family = GaugeMetricFamily(f"{PREFIX}_primary_{name}", text, labels=["primary"])
        for one in figures.primaries:
            if (value := getattr(one, key)) is not None:
                family.add_metric([one.name], value)
        yield family


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
