"""The page of the benchmark: tables from results, the rest left alone, the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import figures
from bench.figures import Sheet
from bench.goals import GOALS
from bench.table import PAGE, TABLES, Results, read_results, render


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "results.json"
    monkeypatch.setattr(figures, "RESULTS", path)
    return path


def _figure(value: float) -> dict[str, Any]:
    return {"value": value, "unit": "x", "low": value, "high": value, "times": 1}


def test_a_table_shows_what_was_measured_and_leaves_the_rest_alone(results: Path) -> None:
    sheet = Sheet("run")
    sheet.add("full_s", [12.5, 11.0, 14.0], "s")
    sheet.add("full_dd_s", [8.25], "s")
    sheet.compare("full_vs_dd", [10.0, 20.0], [5.0, 30.0])
    sheet.write({"disk": "4 GiB"})
    page = "before\n<!-- table comparison -->\nold\n<!-- end of table -->\nafter\n"
    shown = render(page, read_results(results))
    assert shown.startswith("before\n<!-- table comparison -->\n|")
    assert shown.endswith("\n<!-- end of table -->\nafter\n")
    assert "old" not in shown
    assert "| ours | 12.5 (11.0 to 14.0) |  | - |  |" in shown
    assert "| dd | 8.25 | 1.0 x (0.5 to 1.5) | - | - |" in shown
    assert render(shown, read_results(results)) == shown


def test_programs_add_to_what_others_wrote(results: Path) -> None:
    for name, value in (("one", 1.0), ("two", 2.0), ("one", 3.0)):
        sheet = Sheet(name)
        sheet.add(f"figure_{name}", [value], "s")
        sheet.write({"value": str(value)})
    found = read_results(results)
    assert {key: one["value"] for key, one in found.figures.items()} == {
        "figure_one": 3.0,
        "figure_two": 2.0,
    }
    assert found.settings == {"one": {"value": "3.0"}, "two": {"value": "2.0"}}


def test_goals_are_told_as_met_only_when_measured_and_met() -> None:
    page = "<!-- table goals -->\n<!-- end of table -->"

    def told(key: str, value: float | None) -> str:
        found = Results({} if value is None else {key: _figure(value)}, {})
        what = next(one.what for one in GOALS if one.key == key)
        return next(line for line in render(page, found).splitlines() if f"| {what} |" in line)

    assert told("full_vs_dd", 0.8).endswith("| **no** |")
    assert told("full_vs_dd", 0.9).endswith("| yes |")
    assert told("full_vs_dd", None).endswith("| - | not measured |")
    assert told("freeze_ms_1m_files_xfs", 1001).endswith("| **no** |")
    assert told("freeze_ms_1m_files_xfs", 1000).endswith("| yes |")
    assert told("incremental_vs_bdsync_40gib", 9.9).endswith("| **no** |")


def test_the_growth_series_is_in_order_of_size() -> None:
    found = Results({f"growth_volume_{one}_unchanged_s": _figure(one) for one in (160, 10, 40)}, {})
    shown = render("<!-- table growth -->\n<!-- end of table -->", found)
    assert [line.split(" | ")[0] for line in shown.splitlines()[3:6]] == [
        "| 10 GiB",
        "| 40 GiB",
        "| 160 GiB",
    ]


def test_the_page_has_each_table_once_and_is_up_to_date() -> None:
    page = PAGE.read_text()
    for name in TABLES:
        assert page.count(f"<!-- table {name} -->\n") == 1
    assert page.count("<!-- table ") == page.count("<!-- end of table -->") == len(TABLES)
    # It is written by `python -m bench.table`, not by hand.
    committed = PAGE.parents[1] / "bench" / "results.json"
    assert render(page, read_results(committed)) == page
