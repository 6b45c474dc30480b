"""Recovery plans and forecasts in plain words: pure."""

from __future__ import annotations

import pytest

from notfallserver.server.cycle.normal.forecast import Forecast, Outlook
from notfallserver.server.cycle.recovery.plan import plan_recovery
from notfallserver.server.web.language import speech
from notfallserver.server.web.line_answers import ForecastAnswer
from notfallserver.server.web.words import plans
from notfallserver.server.web.words.plans import forecast_words, plan_words
from notfallserver.wire.facts import Machine, Nic


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("partition 1: ext4 root", "Partition 1: ext4 root"),
        ("partition 2: unknown content", "Partition 2: unbekannter Inhalt"),
        ("what 100 % nobody knows", "what 100 % nobody knows"),
    ],
)
def test_what_is_overwritten_is_told_in_the_readers_language(text: str, told: str) -> None:
    assert speech("de").words(plan_words(text)) == told


def test_the_plans_warnings_are_understood() -> None:
    card = Nic("eth0", "52:54:00:00:00:01", "e1000")
    original = Machine(
        "old", memory=8 << 30, nics=[card, Nic("eth1", "52:54:00:00:00:02", "e1000")]
    )
    plan = plan_recovery(original, Machine("new", memory=2 << 30, nics=[card]), {})
    words = [speech("de").words(plan_words(one)) for one in plan.warnings]
    assert len(words) == 2 and all(one.startswith("Die Maschine hat") for one in words)


@pytest.mark.parametrize("outlook", list(Outlook))
def test_every_outlook_has_its_words(outlook: Outlook) -> None:
    worst = None if outlook in (Outlook.CANNOT_KEEP_UP, Outlook.ON_REQUEST) else 3700.0
    forecast = ForecastAnswer.of(Forecast(outlook, 3, 1.0, 1.0, 1.0, 60.0, worst, worst))
    told = forecast_words(forecast)
    assert told.text in plans.TEXTS and ("time" in told.values) == ("%(time)s" in told.text)
