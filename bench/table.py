"""Writes the tables of docs/benchmarks.md from bench/results.json: the same figures, the same page.

A table stands between ``<!-- table NAME -->`` and ``<!-- end of table -->``; what is between is
replaced, the rest of the page is left alone. A figure that is not there is shown as a dash.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import RESULTS, settings_file
from bench.goals import GOALS, Goal

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
TOOLS = ("dd", "rsync", "borg", "restic", "nbdcopy", "nbdcopy_tls", "bdsync")
FREEZES = ("1m_files_ext4", "1m_files_xfs")
PARTS = ("freeze", "prepare", "read", "end", "thaw")
LINES = ("2mbit", "10mbit", "50mbit")
PAGES = {
    "home": "home",
    "tiles": "home, when something has changed",
    "primary": "a server",
    "primary_part": "a server, when something has changed",
    "journal": "journal",
    "journal_grave": "journal, only what is grave",
    "journal_person": "journal, one person",
    "journal_day": "journal, half a year",
    "jobs": "jobs",
    "jobs_failed": "jobs that did not work",
    "server": "this emergency server",
}
NONE = "-"
_PLACE = re.compile(r"(<!-- table (?P<name>\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


@dataclass(frozen=True)
class Results:
    """What was measured, and by program what with."""

    figures: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Mapping[str, str]]

    def span(self, key: str, unit: str = "") -> str:
        """The median, and the extremes if it was measured more than once."""
        one = self.figures.get(key)
        if one is None:
            return NONE
        told = f"{one['value']}{unit}"
        if one.get("times", 1) > 1:
            told += f" ({one['low']} to {one['high']})"
        return told

    def numbers(self, pattern: str) -> list[int]:
        """The numbers for which there are keys of this pattern, in order."""
        found = (re.fullmatch(pattern, key) for key in self.figures)
        return sorted({int(one[1]) for one in found if one})


def read_results(path: Path = RESULTS) -> Results:
    settings = settings_file(path)
    return Results(
        json.loads(path.read_text()),
        json.loads(settings.read_text()) if settings.exists() else {},
    )


def render(page: str, results: Results) -> str:
    """The page with all its tables; a name that no table has is an error."""

    def table(place: re.Match[str]) -> str:
        return place[1] + "\n".join(TABLES[place["name"]](results)) + "\n" + place[3]

    return _PLACE.sub(table, page)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    line = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(each) + " |" for each in (head, line, *rows)]


def _goals(results: Results) -> list[str]:
    def row(goal: Goal) -> list[str]:
        figure = results.figures.get(goal.key)
        if figure is None:
            return [goal.what, goal.told, NONE, "not measured"]
        met = "yes" if goal.met(float(figure["value"])) else "**no**"
        return [goal.what, goal.told, results.span(goal.key), met]

    return _rows(["what", "goal", "measured", "met"], [row(one) for one in GOALS])


def _comparison(suffix: str) -> Callable[[Results], list[str]]:
    def table(results: Results) -> list[str]:
        head = ["", "full copy, s", "we are faster", "1 % changed, s", "we are faster"]
        span = results.span
        ours = [span(f"{what}_s{suffix}") for what in ("full", "incremental")]
        rows = [["ours", ours[0], "", ours[1], ""]]
        for tool in TOOLS:
            row = [tool]
            for what in ("full", "incremental"):
                row.append(span(f"{what}_{tool}_s{suffix}"))
                row.append(span(f"{what}_vs_{tool}{suffix}", " x"))
            rows.append(row)
        return _rows(head, rows)

    return table


def _freeze(results: Results) -> list[str]:
    wanted = [
        ("longest freeze of the later runs, ms", "freeze_ms_{}"),
        ("freeze of the first run, ms", "freeze_first_ms_{}"),
        ("longest wait of the application in a later run, ms", "freeze_stall_ms_{}"),
        ("the same in the first run, ms", "freeze_stall_first_ms_{}"),
        ("the same without a run, ms", "freeze_stall_calm_ms_{}"),
        ("a later run, s", "freeze_run_s_{}"),
        ("the first run, s", "freeze_first_run_s_{}"),
        ("read by a later run, MiB", "freeze_run_read_mib_{}"),
        *((f"of a watched freeze: {part}, ms", f"freeze_part_{part}_ms_{{}}") for part in PARTS),
    ]
    rows = [[what, *(results.span(key.format(one)) for one in FREEZES)] for what, key in wanted]
    return _rows(["1,000,000 files, under a write load", "ext4", "XFS"], rows)


def _growth(results: Results) -> list[str]:
    columns = {
        "unchanged run, s": "unchanged_s",
        "read, MiB": "unchanged_read_mib",
        "10 MiB changed, s": "changed_s",
        "first copy, s": "first_s",
        "agent, MiB": "agent_peak_mib",
        "server, MiB": "server_peak_mib",
    }
    rows = []
    for series, unit in (("volume", "GiB"), ("files", "files")):
        for size in results.numbers(rf"growth_{series}_(\d+)_unchanged_s"):
            key = f"growth_{series}_{size}"
            cells = [results.span(f"{key}_{column}") for column in columns.values()]
            rows.append([f"{size:,} {unit}", *cells])
    picture = ["", "![The growth series](pictures/growth.png)"] if rows else []
    return [*_rows(["", *columns], rows), *picture]


def _lines(results: Results) -> list[str]:
    columns = {
        "share of the line": "line_share_{}",
        "content, MiB/s": "line_content_mib_s_{}",
        "a later run, s": "line_again_s_{}",
    }
    rows = [
        [
            one.replace("mbit", " Mbit/s"),
            *(results.span(key.format(one)) for key in columns.values()),
        ]
        for one in LINES
    ]
    return _rows(["40 ms to and fro, 0.5 % lost", *columns], rows)


def _scale(results: Results) -> list[str]:
    wanted = [
        ("agent, disk of 16 TiB with 2 GiB in files: peak, MiB", "agent_peak_mib_16tib"),
        ("server, the same: peak, MiB", "server_peak_mib_16tib"),
        ("first copy of it, s", "full_16tib_s"),
        ("run after 1 MiB was written, s", "incremental_16tib_s"),
        ("read by it, MiB", "incremental_16tib_read_mib"),
        ("sent by it, MiB", "incremental_16tib_sent_mib"),
        ("20 agents at once, 64 MiB each: each is done after, s", "agents20_s"),
        ("server meanwhile: peak, MiB", "server_peak_mib_20_agents"),
        ("and for each run beyond its start, MiB", "server_mib_per_run_20_agents"),
        ("each of the 20 agents: peak, MiB", "agent_peak_mib_20_agents"),
        ("longest silence of an agent meanwhile, s", "agents20_longest_silence_s"),
    ]
    return _rows(["what", "figure"], [[what, results.span(key)] for what, key in wanted])


def _activation(results: Results) -> list[str]:
    wanted = [
        ("image of 1 GiB, s", "activation_own_s_1gib"),
        ("image of 4 TiB, s", "activation_own_s_4tib"),
        ("8 at once by a start plan, until the last one boots, s", "activation_own_s_8_at_once"),
    ]
    rows = [[what, results.span(key)] for what, key in wanted]
    return _rows(["from the order to the first instruction", "figure"], rows)


def _pages(results: Results) -> list[str]:
    columns = {
        "in a browser, ms": "page_load_ms_{}",
        "last byte, ms": "page_ms_{}",
        "server's CPU, ms": "page_cpu_ms_{}",
        "sent, KiB": "page_kib_{}",
        "unpacked, KiB": "page_plain_kib_{}",
    }
    rows = [
        [told, *(results.span(key.format(page)) for key in columns.values())]
        for page, told in PAGES.items()
    ]
    return _rows(["page", *columns], rows)


def _alarm(results: Results) -> list[str]:
    """In how many copies each attack was noticed; what was wrongly taken for one."""
    columns = ("ext4", "xfs", "blocks")
    rows = []
    names = [
        key[len("alarm_blocks_") :] for key in results.figures if key.startswith("alarm_blocks_")
    ]
    for name in sorted(names):
        rows.append(
            [
                name.replace("_", " "),
                *(_noticed(results, f"alarm_{one}_{name}") for one in columns),
            ]
        )
    for key in sorted(one for one in results.figures if one.startswith("alarm_hard_ext4_")):
        name = key[len("alarm_hard_ext4_") :]
        told = (results.figures.get(f"alarm_hard_{one}_{name}") for one in columns)
        shown = [NONE if one is None else "alarm" if one["value"] else "calm" for one in told]
        rows.append([f"no attack: {name.replace('_', ' ')}", *shown])
    weeks = [one for key, one in results.figures.items() if key.startswith("alarm_week_")]
    false = str(round(sum(one["value"] for one in weeks))) if weeks else NONE
    rows.append([f"no attack: {len(weeks)} days of ordinary work, false alarms", false, "", ""])
    return _rows(["what", "ext4", "XFS", "blocks alone, ext4"], rows)


def _noticed(results: Results, key: str) -> str:
    one = results.figures.get(key)
    if one is None:
        return NONE
    return f"copy {round(one['value'])}" if one["value"] else "**not noticed**"


def _offload(results: Results) -> list[str]:
    span = results.span
    rows = []
    for step, told in (("full", "off-load of all"), ("changed", "1 % changed")):
        rows.append(
            [
                told,
                span(f"offload_{step}_s"),
                span(f"offload_{step}_restic_s"),
                span(f"offload_{step}_vs_restic", " x"),
                span(f"offload_{step}_stored_mib"),
                span(f"offload_{step}_restic_stored_mib"),
            ]
        )
    restore = [span(f"offload_restore_{one}") for one in ("s", "restic_s")]
    rows.append(["restore", *restore, span("offload_restore_vs_restic", " x"), "", ""])
    head = ["", "ours, s", "restic alone, s", "we are faster", "stored, MiB", "restic alone, MiB"]
    rebuilt = [
        ["until the catalogue is there, s", span("rebuild_20_catalogue_s")],
        ["until all versions are back, s", span("rebuild_20_versions_s")],
    ]
    return [*_rows(head, rows), "", *_rows(["20 primaries made again", "figure"], rebuilt)]


def _all(results: Results) -> list[str]:
    rows = [
        [
            f"`{key}`",
            *(str(one.get(what, NONE)) for what in ("value", "low", "high", "unit", "times")),
        ]
        for key, one in sorted(results.figures.items())
    ]
    return _rows(["figure", "median", "least", "most", "unit", "times"], rows)


def _settings(results: Results) -> list[str]:
    return [
        f"- `{program}`: " + "; ".join(f"{what}: {told}" for what, told in sorted(setting.items()))
        for program, setting in sorted(results.settings.items())
    ]


def _retention(results: Results) -> list[str]:
    wanted = [
        ("ideal: the first version and what changed, MiB", "retention_days_ideal_mib"),
        ("all versions together, MiB", "retention_days_used_mib"),
        ("of the ideal", "retention_days_used_share"),
        ("of that only set aside by XFS, MiB", "retention_set_aside_mib"),
        ("versions that the rules let go", "retention_gone"),
        ("so much it was told to free, MiB", "retention_told_mib"),
        ("so much was free, MiB", "retention_freed_mib"),
        ("extents of all images", "retention_extents"),
        ("preview from cold caches, s", "retention_preview_s"),
        ("what each version alone occupies, after that, s", "retention_preview_each_s"),
    ]
    return _rows(["what", "figure"], [[what, results.span(key)] for what, key in wanted])


TABLES: dict[str, Callable[[Results], list[str]]] = {
    "goals": _goals,
    "comparison": _comparison(""),
    "comparison-40gib": _comparison("_40gib"),
    "freeze": _freeze,
    "growth": _growth,
    "lines": _lines,
    "scale": _scale,
    "retention": _retention,
    "activation": _activation,
    "pages": _pages,
    "alarm": _alarm,
    "offload": _offload,
    "all": _all,
    "settings": _settings,
}


def main() -> int:
    PAGE.write_text(render(PAGE.read_text(), read_results()))
    print(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
