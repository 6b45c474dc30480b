"""How a primary stands, in words: pure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notfallserver.server.cycle.state import State
from notfallserver.server.web.answers import (
    DeepAnswer,
    PrimaryAnswer,
    RecoveryAnswer,
    RehearsedAnswer,
)
from notfallserver.server.web.words import situation as told
from notfallserver.server.web.words.situation import Light, situation

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def primary(**given: Any) -> PrimaryAnswer:
    known: dict[str, Any] = {
        "uuid": "u",
        "name": "shop",
        "state": "normal",
        "schedule_minutes": 15,
        "capture_minutes": 15,
        "enrolled_at": NOW - timedelta(days=9),
        "last_seen": NOW,
        "agent_role": "primary",
        "agent_version": "1",
        "hostname": "shop",
        "system": "Debian",
        "addresses": [],
        "newest_version": "v",
        "newest_version_at": NOW - timedelta(minutes=12),
        "standin_off": False,
        "trial": None,
        "shut_down": False,
        "damaged_versions": 0,
        "deep": DeepAnswer(days=0, at=None, found_in="", found_at=None, unexplained=0, words=""),
        "rehearsed": None,
        "recovery": None,
        "limits": None,
        "line": None,
        "forecast": None,
        "jobs": [],
    }
    return PrimaryAnswer.model_construct(**(known | given))


def texts(one: told.Situation) -> list[str]:
    return [words.text for words in one.words]


@pytest.mark.parametrize(
    ("schedule", "age", "light", "title"),
    [
        (15, timedelta(minutes=12), Light.GOOD, told.PROTECTED),
        (15, timedelta(minutes=44), Light.GOOD, told.PROTECTED),
        (15, timedelta(minutes=46), Light.WARN, told.PROTECTED_BUT),
        (15, timedelta(minutes=136), Light.BAD, told.OVERDUE),
        (5, timedelta(minutes=29), Light.GOOD, told.PROTECTED),
        (1440, timedelta(days=2), Light.GOOD, told.PROTECTED),
        (0, timedelta(hours=25), Light.GOOD, told.PROTECTED),
        (0, timedelta(hours=27), Light.WARN, told.PROTECTED_BUT),
        (0, timedelta(days=4), Light.BAD, told.OVERDUE),
    ],
)
def test_a_copy_may_be_as_old_as_its_schedule_lets_expect(
    schedule: int, age: timedelta, light: Light, title: str
) -> None:
    one = situation(primary(schedule_minutes=schedule, newest_version_at=NOW - age), NOW)
    assert (one.light, one.title) == (light, title)
    assert (told.SHOULD_BE in texts(one)) == (light is not Light.GOOD and schedule > 0)


def test_damage_is_told_and_never_green() -> None:
    deep = DeepAnswer(days=7, at=NOW, found_in="v", found_at=NOW, unexplained=3, words="")
    for trouble, text in (
        ({"damaged_versions": 2}, told.DAMAGED),
        ({"deep": deep}, told.CHANGED_UNSEEN),
    ):
        one = situation(primary(**trouble), NOW)
        assert one.light is Light.WARN and text in texts(one)
    late = primary(damaged_versions=1, newest_version_at=NOW - timedelta(days=3))
    assert situation(late, NOW).light is Light.BAD


def test_every_state_has_words_a_place_and_its_step() -> None:
    found = {state: situation(primary(state=state), NOW) for state in State}
    assert {state: one.step.page for state, one in found.items() if one.step} == {
        State.REHEARSING: "rehearsal",
        State.HANDING_OVER: "hand-over",
        State.OUTAGE: "emergency",
        State.ACTIVATING: "emergency",
        State.EMERGENCY: "recovery",
        State.RECOVERING: "recovery",
        State.SWITCHING_BACK: "recovery",
    }
    assert found[State.OUTAGE].light is Light.BAD
    assert found[State.EMERGENCY].light is Light.WARN
    circle = (State.NORMAL, State.OUTAGE, State.EMERGENCY, State.RECOVERING)
    assert [found[one].place for one in circle] == list(range(4))
    assert all(set(texts(one)) <= set(told.TEXTS) and one.words for one in found.values())
    assert all(one.title in told.TEXTS for one in found.values())


def test_an_original_that_was_handed_over_is_said_to_be_whole() -> None:
    told_off = {told.SHUT_DOWN, told.IS_WHOLE}
    assert told_off <= set(texts(situation(primary(state="outage", shut_down=True), NOW)))
    assert not told_off & set(texts(situation(primary(state="outage"), NOW)))
    going = situation(primary(state="handing_over"), NOW)
    assert (going.light, going.place) == (Light.BUSY, 0) and told.STILL_WORKS in texts(going)
    gone = situation(primary(state="handing_over", shut_down=True), NOW)
    assert told.SHUT_DOWN in texts(gone) and told.STILL_WORKS not in texts(gone)


def test_an_outage_without_a_copy_promises_nothing() -> None:
    none = situation(primary(state="outage", newest_version="", newest_version_at=None), NOW)
    assert told.NO_COPY in texts(none) and told.CAN_REPLACE not in texts(none)


def test_a_ready_target_is_told_with_the_pause_to_expect() -> None:
    ready = RecoveryAnswer(
        target="t", ready=True, rounds=3, last_delta=1, rate=1.0, predicted_downtime_s=94
    )
    one = situation(primary(state="recovering", recovery=ready), NOW)
    assert texts(one)[:2] == [told.CAN_SWITCH, told.SHORT_PAUSE]
    assert one.words[1].values == {"time": timedelta(seconds=94)}
    behind = ready.model_copy(update={"ready": False})
    assert texts(situation(primary(state="recovering", recovery=behind), NOW))[0] == told.BEHIND


def test_what_failed_and_was_not_made_good_is_never_green() -> None:
    one = situation(primary(), NOW, "prepare")
    assert one.light is Light.WARN and told.FAILED["prepare"] in texts(one)
    assert told.SOMETHING_FAILED in texts(situation(primary(), NOW, "seed_import"))
    assert situation(primary(state="outage"), NOW, "activate").light is Light.BAD
    assert told.CAN_REPLACE in texts(situation(primary(state="outage"), NOW))
    assert told.CAN_REPLACE not in texts(situation(primary(state="outage"), NOW, "prepare"))


@pytest.mark.parametrize("state", [State.EMERGENCY, State.RECOVERING])
def test_a_stand_in_that_is_off_is_an_alarm(state: State) -> None:
    closeness = RecoveryAnswer(
        target="t", ready=True, rounds=1, last_delta=0, rate=0, predicted_downtime_s=1
    )
    off = situation(primary(state=state, standin_off=True, recovery=closeness), NOW)
    assert (off.light, off.title) == (Light.BAD, told.STANDIN_OFF)
    assert told.NOBODY_WORKS in texts(off) and told.WORK_GOES_ON not in texts(off)


def test_what_a_rehearsal_showed_is_told_and_a_failed_one_is_never_green() -> None:
    at = NOW - timedelta(hours=4)
    passed = RehearsedAnswer(id="r", at=at, outcome="passed")
    failed = passed.model_copy(update={"outcome": "failed"})
    one = situation(primary(rehearsed=passed), NOW)
    assert one.light is Light.GOOD and one.words[-1].values == {"at": at}
    assert told.STARTS in texts(one)
    for state in ("normal", "rehearsing"):
        bad = situation(primary(rehearsed=failed, state=state), NOW)
        assert bad.light is Light.WARN and told.STARTS_NOT in texts(bad)
    assert told.STARTS in texts(situation(primary(rehearsed=passed, state="outage"), NOW))
    late = primary(rehearsed=failed, newest_version_at=NOW - timedelta(days=3))
    assert situation(late, NOW).light is Light.BAD
