"""The alarm in words and on its page: pure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from test_situation import NOW, primary

from notfallserver.server.cycle.state import State
from notfallserver.server.pool.measures import Alarm, FileMeasures, Measures, Reason
from notfallserver.server.records.journal import Entry
from notfallserver.server.web.alarm_answers import AlarmsAnswer, StandingAlarm
from notfallserver.server.web.language import LANGUAGES, speech
from notfallserver.server.web.words import alarm as told
from notfallserver.server.web.words.alarm import with_alarm
from notfallserver.server.web.words.reasons import reason_of
from notfallserver.server.web.words.situation import Light, situation
from notfallserver.server.web.words.tidings import Standing, hushed_of, troubles_of

OLD, NEW = "20261125T020000.000Z", "20261126T020000.000Z"
TURNED = {"key": "turned", "values": {"mib": 5, "percent": 0.2, "days": 7}}
REASONS = [{"key": "scrambled", "values": {"count": 20, "compared": 90, "examples": "/a & b"}}]


def noted(**other: Any) -> StandingAlarm:
    told = {"since": NEW, "clean": OLD, "answer": "", "raised_at": NOW.isoformat()}
    found = StandingAlarm.of({"alarm": {**told, "reasons": REASONS, **other}})
    assert found is not None
    return found


def shown(state: str, **other: Any) -> Any:
    one = primary(state=state, alarm=noted(**other))
    return one, with_alarm(situation(one, NOW), State(state), one.alarm)


def test_nothing_is_more_urgent_in_normal_operation() -> None:
    one, found = shown("normal")
    assert (found.light, found.title, found.step) == (Light.BAD, told.ALARM, told.LOOK)
    assert [word.text for word in found.words[:4]] == [
        *(told.REASONS["scrambled"], told.SINCE, told.CLEAN, told.ANSWER),
    ]
    assert [seen.key for seen in troubles_of(Standing(one, found, ""))] == ["alarm:u"]
    one, found = shown("normal", answer="attack", clean="")
    assert found.title == told.ATTACK and told.NONE_CLEAN in [word.text for word in found.words]
    assert troubles_of(Standing(one, found, "")) == [] and "alarm:u" in hushed_of(one)


def test_an_outage_is_told_first_and_the_alarm_beside_it() -> None:
    _, found = shown("outage")
    calm = situation(primary(state="outage"), NOW)
    assert found.title == calm.title and found.step == calm.step
    assert [word.text for word in found.words[-2:]] == [told.BESIDE, told.CLEAN]


@pytest.mark.parametrize("spoken", LANGUAGES)
def test_the_page_tells_numbers_and_asks_for_an_answer(spoken: str) -> None:
    one, found = shown("normal", reasons=[TURNED, *REASONS])
    files = FileMeasures(compared=90, scrambled=20, seen=96)
    versions = SimpleNamespace(
        alarm=None,
        alarms=(Alarm(NEW, OLD, (Reason("rate", {"percent": 3.5}),), NOW.isoformat()),),
        measured=(
            SimpleNamespace(
                stamp=NEW,
                measures=Measures("b", 1000, 500, 3, 4, 400, 300, files=files),
                suspect=True,
                there=True,
            ),
        ),
        usual_rate=0.123,
    )
    answer = AlarmsAnswer.of(versions)  # type: ignore[arg-type]
    assert (answer.measured[0].turned, answer.measured[0].change_rate) == (0.75, 0.507)
    assert answer.alarms[0].reasons == [{"key": "rate", "percent": 3.5}]
    person = SimpleNamespace(operates=True, administers=True, name="eva", bare=False)
    values = {"primary": one, "situation": found, "person": person, "here": "/p/shop/alarm"}
    spoke = speech(spoken)
    text = spoke.page(
        "alarm.html", **values, measured=answer.measured, usual_rate=answer.usual_rate
    )
    shares = ("12.3 %", "75 %", "50.7 %")
    for one in shares if spoken == "en" else (share.replace(".", ",") for share in shares):
        assert one in text
    assert "/a &amp; b" in text
    assert 'action="/p/shop/alarm/confirm"' in text and 'action="/p/shop/alarm/clear"' in text
    viewer = SimpleNamespace(operates=False, administers=False, name="max")
    part = spoke.page("parts/alarm.html", **{**values, "person": viewer})
    assert "form" not in part
    assert (
        spoke.page("parts/alarm.html", **{**values, "primary": primary(alarm=None)}).strip() == ""
    )


def test_the_journal_says_why() -> None:
    details = {"version": NEW, "reasons": [{"key": "rate", "percent": 61.2, "usual": 0.4}]}
    entry = Entry(1, NOW, "u", "alarm-raised", "server", "x", "", "", details)
    (words,) = reason_of(entry) or ()
    assert speech("en").words(words) == "61 % of everything changed at once; usual are < 1 %."
    details = {"reasons": [{"key": "of a newer server"}]}
    assert reason_of(Entry(1, NOW, "u", "alarm-raised", "server", "x", "", "", details)) == ()
