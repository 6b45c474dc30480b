"""How the emergency server itself is: judged from facts; when its pool is full."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notfallserver.server.health.clock import clock_synchronised
from notfallserver.server.health.facts import Facts
from notfallserver.server.health.filling import time_until_full
from notfallserver.server.health.judge import Grade, judge, worst
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.space import KEPT, Sample
from notfallserver.server.settings import CHANGEABLE, Settings
from notfallserver.server.web.language import speech
from notfallserver.server.web.words import health
from notfallserver.wire.errors import NotfallError

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)
GIB = 1 << 30
WELL = Facts(
    pool_size=1000 * GIB,
    pool_free=500 * GIB,
    disk_free=50 * GIB,
    disk_size=1200 * GIB,
    pool_grows=0,
    full_in=None,
    clock_right=True,
    server_certificate_until=NOW + 3000 * DAY,
    authority_until=NOW + 9000 * DAY,
    accelerator="kvm",
    accelerators=("kvm", "tcg"),
    bridge="br0",
    bridge_there=True,
    medium=True,
    medium_in_work=False,
    largest=8 * GIB,
    largest_name="shop",
    memory=32 * GIB,
    witnesses=2,
    receivers=1,
    mute=(),
)


def test_a_server_that_is_well_has_nothing_to_do() -> None:
    findings = judge(WELL, NOW)
    assert worst(findings) is Grade.GOOD
    assert not any(health.in_words(one).remedy for one in findings)
    assert {one.key for one in findings} == set(health.TITLES)


def test_that_copies_will_go_is_told_before_they_do() -> None:
    def space(**wrong: Any) -> tuple[Grade, str]:
        (found,) = [one for one in judge(replace(WELL, **wrong), NOW) if one.key == "space"]
        assert health.in_words(found).remedy or found.grade is Grade.GOOD
        return found.grade, found.case

    low = {"pool_free": 149 * GIB}
    assert space(**low) == (Grade.WARNING, "space-low")
    assert space(**low, make_room=5) == (Grade.WARNING, "space-going")
    assert space(pool_free=240 * GIB, make_room=20) == (Grade.WARNING, "space-going")
    assert space(pool_free=260 * GIB, make_room=20)[0] is Grade.GOOD
    assert space(pool_free=45 * GIB, make_room=5) == (Grade.BAD, "space-out")
    assert space(pool_free=45 * GIB, make_room=5, stuck=True) == (Grade.BAD, "space-stuck")


@pytest.mark.parametrize(
    ("wrong", "key", "grade"),
    [
        ({"pool_free": 149 * GIB}, "space", Grade.WARNING),
        ({"pool_free": 49 * GIB}, "space", Grade.BAD),
        ({"pool_size": None, "pool_free": None}, "space", Grade.BAD),
        ({"full_in": 29 * DAY}, "forecast", Grade.WARNING),
        ({"pool_grows": 60 * GIB}, "disk", Grade.BAD),
        ({"pool_grows": 60 * GIB, "disk_size": 900 * GIB}, "disk", Grade.WARNING),
        ({"disk_free": GIB}, "disk", Grade.WARNING),
        ({"disk_free": GIB // 4}, "disk", Grade.BAD),
        ({"disk_free": None}, "disk", Grade.BAD),
        ({"full_in": 6 * DAY}, "forecast", Grade.BAD),
        ({"clock_right": False}, "clock", Grade.WARNING),
        ({"server_certificate_until": NOW + 100 * DAY}, "server-certificate", Grade.WARNING),
        ({"server_certificate_until": NOW + 10 * DAY}, "server-certificate", Grade.BAD),
        ({"server_certificate_until": NOW - DAY}, "server-certificate", Grade.BAD),
        ({"server_certificate_until": None}, "server-certificate", Grade.BAD),
        ({"authority_until": NOW + 100 * DAY}, "authority", Grade.WARNING),
        ({"authority_until": None}, "authority", Grade.BAD),
        ({"accelerators": None}, "hypervisor", Grade.BAD),
        ({"accelerators": ("tcg",)}, "hypervisor", Grade.BAD),
        ({"accelerator": "tcg"}, "hypervisor", Grade.WARNING),
        ({"bridge_there": False}, "bridge", Grade.BAD),
        ({"medium": False}, "medium", Grade.BAD),
        ({"largest": 64 * GIB}, "memory", Grade.WARNING),
        ({"witnesses": 0}, "witnesses", Grade.BAD),
        ({"witnesses": None}, "witnesses", Grade.WARNING),
        ({"receivers": 0}, "receivers", Grade.WARNING),
        ({"mute": ("anna",)}, "receivers", Grade.WARNING),
    ],
)
def test_each_thing_that_is_wrong_is_found_and_says_what_to_do(
    wrong: dict[str, Any], key: str, grade: Grade
) -> None:
    findings = judge(replace(WELL, **wrong), NOW)
    found = [one for one in findings if one.grade is not Grade.GOOD]
    assert [(one.key, one.grade) for one in found] == [(key, grade)]
    assert health.in_words(found[0]).remedy


def test_a_medium_in_work_is_no_reason_to_worry() -> None:
    assert worst(judge(replace(WELL, medium=False, medium_in_work=True), NOW)) is Grade.GOOD


def test_every_case_can_be_said_in_both_languages() -> None:
    cases = [
        WELL,
        replace(WELL, pool_free=GIB, full_in=20 * DAY, largest=64 * GIB, mute=("a", "b")),
        replace(WELL, full_in=400 * DAY, bridge_there=False, pool_grows=60 * GIB),
        replace(WELL, disk_free=GIB),
    ]
    for language in ("en", "de"):
        spoken = speech(language)
        said = [
            spoken.words(health.in_words(one).words) for facts in cases for one in judge(facts, NOW)
        ]
        assert not any("%(" in one for one in said)
    assert any("Bei diesem Tempo" in one for one in said)


@pytest.mark.parametrize(("language", "free"), [("en", "1.6 GB"), ("de", "1,6 GB")])
def test_sizes_are_told_as_the_language_writes_them(language: str, free: str) -> None:
    facts = replace(WELL, disk_free=3 * GIB // 2)
    (found,) = (one for one in judge(facts, NOW) if one.key == "disk")
    assert free in speech(language).words(health.in_words(found).words)


# -- the forecast --------------------------------------------------------------------------------


def samples(
    days: int, a_day: float, free: float = 500 * GIB, size: int = 1000 * GIB
) -> list[Sample]:
    """Four a day until now; the last has ``free``."""
    return [
        Sample(NOW - n * DAY / 4, size, int(free + a_day * n / 4)) for n in range(days * 4, 0, -1)
    ]


def test_a_steady_pace_is_foreseen() -> None:
    found = time_until_full(samples(20, 10 * GIB), 1000 * GIB, 500 * GIB, NOW)
    assert found is not None and abs(found - 50 * DAY) < DAY


def test_one_removal_of_old_copies_does_not_decide() -> None:
    dice = random.Random(1)
    past = [replace(one, free=one.free + dice.randint(-GIB, GIB)) for one in samples(20, 10 * GIB)]
    past = [
        replace(one, free=one.free - 60 * GIB) if one.at < NOW - 12 * DAY else one for one in past
    ]
    found = time_until_full(past, 1000 * GIB, 500 * GIB, NOW)
    assert found is not None and 25 * DAY < found < 100 * DAY


@pytest.mark.parametrize(
    "past",
    [
        [],
        samples(1, 10 * GIB),
        samples(20, 0),
        samples(20, -10 * GIB),
        samples(20, 10 * GIB, size=500 * GIB),  # before it was made larger
        samples(20, 0.01 * GIB),  # in more than ten years
    ],
)
def test_where_nothing_can_be_said_nothing_is(past: list[Sample]) -> None:
    assert time_until_full(past, 1000 * GIB, 500 * GIB, NOW) is None


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    yield opened
    opened.close()


def test_samples_are_kept_now_and_then_and_not_for_ever(catalogue: Catalogue) -> None:
    space = catalogue.space
    for hour in range(24 * 90):
        space.note(Sample(NOW + timedelta(hours=hour), 100, hour))
    kept = space.samples()
    assert len(kept) == pytest.approx(KEPT / timedelta(hours=6), abs=2)
    space.note(Sample(NOW + DAY, 100, 1))  # the clock was set back
    assert space.samples()[-1].at == NOW + DAY


def test_the_clock_tells_whether_it_is_right() -> None:
    assert clock_synchronised() in (True, False, None)


# -- settings changed meanwhile ------------------------------------------------------------------


def test_a_wish_goes_before_the_file_and_is_checked(catalogue: Catalogue) -> None:
    in_file = Settings(scrub_days=7)
    wishes = {"scrub_days": 3, "witnesses": ["192.0.2.1"]}
    catalogue.preferences.set(wishes, "anna")
    now = in_file.changed(catalogue.preferences.all())
    assert (now.scrub_days, now.guard.witnesses) == (3, ("192.0.2.1",))
    catalogue.preferences.set({"scrub_days": None}, "anna")
    assert in_file.changed(catalogue.preferences.all()).scrub_days == 7
    for wrong in ({"scrub_days": -1}, {"witnesses": ["router"]}, {"pool_path": "/"}):
        with pytest.raises(NotfallError) as caught:
            in_file.changed(wrong)
        assert caught.value.code == "bad-settings"
    assert "witnesses" in CHANGEABLE
