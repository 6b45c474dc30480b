"""Where reports lie: whole or not at all; one that can not be read hides no other."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from notfallserver.server.report.months import Month
from notfallserver.server.report.shelf import NAME, SIGNATURE, TREE, Shelf, papers_of, told_name
from notfallserver.server.report.tree import Report, Summary
from notfallserver.wire.errors import NotfallError

OWN = ("report-de-db.x.pdf", "report-en-db.x.pdf", "report-en-de.pdf")
"""Of a server 'db.x', and of one that is called 'de'."""
ONE, TWO = Month(2026, 9), Month(2026, 10)


def write(shelf: Shelf, month: Month, company: str = "") -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    summary = Summary(0, 0, 0, 0, None)
    report = Report(
        *(str(month), company, "srv", "0", "ff", "UTC", at, at, at, True, at, summary, ())
    )
    place = shelf.begin(month)
    for name in (SIGNATURE, "report-de.pdf", "report-en.pdf", *OWN):
        (place / name).touch()
    (place / TREE).write_bytes(report.to_json())


def test_a_report_is_there_when_it_is_whole(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "reports")
    assert shelf.months() == [] and shelf.all() == []
    write(shelf, ONE)
    assert shelf.months() == []
    shelf.put(ONE)
    write(shelf, TWO)
    (tmp_path / "reports" / f"{TWO}.new" / "rubbish").touch()
    write(shelf, TWO)
    shelf.put(TWO)
    assert shelf.months() == [TWO, ONE]
    files = ("report-de.pdf", "report-en.pdf", TREE, SIGNATURE, *OWN)
    assert shelf.need(TWO).files == files
    assert papers_of(files) == {
        "": {"de": "report-de.pdf", "en": "report-en.pdf"},
        "de": {"en": "report-en-de.pdf"},
        "db.x": {"de": "report-de-db.x.pdf", "en": "report-en-db.x.pdf"},
    }
    assert all(re.match(NAME, name) for name in files)


@pytest.mark.parametrize("name", ["report-.pdf", "../report.json", "report-de-.pdf", "report.pdf"])
def test_other_names_are_none_of_a_report(name: str) -> None:
    assert not re.match(NAME, name)
    assert papers_of([name]) == {}


def test_what_is_taken_away_tells_whose_and_when() -> None:
    for name in ("report.json", "report.json.p7s", "report-de.pdf", "report-de-db.x.pdf"):
        assert told_name("2026-10", name) == name.replace("report", "notfallserver-2026-10")


def test_another_one_takes_its_place(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "reports")
    for company in ("before", "after"):
        write(shelf, ONE, company)
        shelf.put(ONE)
        assert shelf.need(ONE).report.company == company


def test_a_broken_one_is_told_and_hides_no_other(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "reports")
    for month in (ONE, TWO):
        write(shelf, month)
        shelf.put(month)
    (tmp_path / "reports" / str(ONE) / TREE).write_text("{}")
    assert [one.month for one in shelf.all()] == [TWO]
    with pytest.raises(NotfallError) as told:
        shelf.need(ONE)
    assert told.value.code == "report-unreadable" and "--again" in told.value.remedy
    with pytest.raises(NotfallError, match="no report"):
        shelf.read(Month(2025, 1), TREE)
