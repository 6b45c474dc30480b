"""What the page says of evidence, beside the lines that tests with a browser see."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from notfallserver.server.pool.proof import Evidence
from notfallserver.server.web.evidence_answers import EvidenceAnswer
from notfallserver.server.web.language import speech

AT = "2026-11-26T09:00:00+00:00"
UNITS = ("new.service", "old.service")


def lines(language: str, evidence: Evidence) -> list[str]:
    one = SimpleNamespace(evidence=EvidenceAnswer.of(evidence))
    text = speech(language).page("parts/evidence.html", one=one)
    return re.findall(r"<small>(.*?)</small>", text)


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (Evidence(at=AT, login=True), ["The login screen was there."]),
        (Evidence(at=AT, login=False), []),
        (
            Evidence(at=AT, login=False, login_before=True),
            ["No login screen came, as there is one on the server."],
        ),
        (
            Evidence(at=AT, system="running", failed_before=()),
            ["All that should start in it has started."],
        ),
        (
            Evidence(at=AT, system="degraded", failed_units=UNITS),
            ["What did not start in it: new.service, old.service"],
        ),
        (
            Evidence(at=AT, failed_units=UNITS, failed_before=("old.service",)),
            [
                "Did not start in it, but had on the server: new.service. It may need another "
                "machine, and in a rehearsal there is none.",
                "Did not start in it, as on the server itself: old.service",
            ],
        ),
    ],
)
def test_it_tells_of_login_screen_and_units(evidence: Evidence, told: list[str]) -> None:
    assert lines("en", evidence) == told
    german = lines("de", evidence)
    assert len(german) == len(told) and not set(german) & set(told)
