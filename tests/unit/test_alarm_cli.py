"""What the command line tells of an alarm."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from notfallserver.server.cli import alarm

STANDING = {
    "answer": "",
    "since": "B",
    "clean": "A",
    "raised_at": "2026-11-27T12:00:00+00:00",
    "reasons": [{"key": "turned", "mib": 9, "percent": 4.2, "days": 1}, {"key": "newer"}],
}
ONE = {
    "stamp": "B",
    "change_rate": 0.11,
    "turned": 0.5,
    "dark": 0.0,
    "compared": 76,
    "renamed": 2,
    "scrambled": 3,
    "suspect": True,
    "there": True,
}


def test_an_alarm_is_told_with_its_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: dict[str, Any] = {"standing": STANDING, "usual_rate": 0.2, "measured": [ONE]}
    monkeypatch.setattr(alarm, "connect", lambda: SimpleNamespace(get=lambda _: told))
    alarm.show("shop")
    shown = capsys.readouterr().out
    assert "ALARM since version B" in shown and "held is A" in shown
    assert "9 MiB (4.2 %)" in shown and "SUSPECT" in shown and "11.0 %" in shown
    told["standing"] = None
    alarm.show("shop")
    assert "No alarm." in capsys.readouterr().out
