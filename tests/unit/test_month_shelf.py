"""Where reports lie: whole or not at all; one that can not be read hides no other."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from notfallserver.server.report.months import Month
from notfallserver.server.report.shelf import SIGNATURE, TREE, Shelf
from notfallserver.server.report.tree import Report, Summary
from notfallserver.wire.errors import NotfallError

ONE, TWO = Month(2026, 9), Month(2026, 10)


def write(shelf: Shelf, month: Month, company: str = "") -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    summary = Summary(0, 0, 0, 0, None)
    report = Report(
        *(str(month), company, "srv", "0", "ff", "UTC", at, at, at, True, at, summary, ())
    )
    place = shelf.begin(month)
    for name in (SIGNATURE, "report-de.pdf", "report-en.pdf"):
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
    files = ("report-de.pdf", "report-en.pdf", TREE, SIGNATURE)
    assert shelf.need(TWO).files == files


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
