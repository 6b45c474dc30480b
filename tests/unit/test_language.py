"""The pages' languages: German is complete, the browser's wish is heard."""

from __future__ import annotations

import re

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from notfallserver.server.cycle.browse import archive
from notfallserver.server.web import card, language, report_paper
from notfallserver.server.web.page import checks_form, fence_form, journal
from notfallserver.server.web.words import (
    alarm,
    beginning,
    findings,
    health,
    history,
    offloads,
    plans,
    power,
    problems,
    proof,
    readiness,
    reasons,
    report,
    retention,
    roles,
    setting_up,
    situation,
    starting,
    tidings,
)


def test_every_text_of_the_pages_has_its_german() -> None:
    found = {
        message if isinstance(message, str) else message[0]
        for _, _, message, _, _ in extract_from_dir(
            language.HERE / "templates", method_map=[("**.html", "jinja2.ext:babel_extract")]
        )
    }
    for told in (language.STATES, language.KINDS, language.PHASES, history.EVENTS):
        found |= set(told.values())
    for module in (
        *(situation, findings, plans, problems, reasons, roles, power, archive, proof),
        *(starting, alarm),
    ):
        found |= set(module.TEXTS)
    for module in (
        readiness,
        setting_up,
        beginning,
        retention,
        card,
        health,
        tidings,
        fence_form,
        checks_form,
        report,
        report_paper,
        offloads,
    ):
        found |= set(module.TEXTS)
    found |= {*language.PROGRAMS.values(), *journal.HEAD}
    rows = []
    for path in (language.HERE / "strings" / "de").glob("*.po"):
        with path.open("rb") as file:
            rows += [one for one in read_po(file) if one.id]
    known = {one.id if isinstance(one.id, str) else one.id[0] for one in rows if one.string}
    assert found - known == set()
    values = re.compile(r"%\(\w+\)s")
    for one in rows:
        if isinstance(one.id, str):
            assert set(values.findall(one.id)) == set(values.findall(str(one.string))), one.id


@pytest.mark.parametrize(
    ("wish", "spoken"),
    [
        ("de-AT,de;q=0.9,en;q=0.1", "de"),
        ("fr,en;q=0.8,de;q=0.2", "en"),
        ("fr", "en"),
        ("", "en"),
        (";q=x,,*", "en"),
    ],
)
def test_the_browser_chooses_the_language(wish: str, spoken: str) -> None:
    assert language.speech_for(wish).language == spoken
