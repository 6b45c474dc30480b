"""The table of ``docs/compatibility.md``, written between two marks. Pure but for the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from notfall_lab.matrix.case import Case
from notfall_lab.matrix.results import is_well

BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
Told = Mapping[str, Mapping[str, Any]]
_RELEASES = {"bullseye": "11", "bookworm": "12", "trixie": "13"}


def write_table(
    page: Path, cases: Sequence[Case], results: Mapping[str, Mapping[str, Any]]
) -> None:
    text = page.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{render(cases, results)}{END}{tail}")


def render(cases: Sequence[Case], results: Told) -> str:
    tried = [(one, results[one.name]) for one in cases if one.name in results]
    meant = [(one, told) for one, told in tried if not one.refused]
    booted = [told for _, told in meant if told["boots"]]
    refused = [one for one, told in tried if one.refused and is_well(one, told)]
    whole = sum(not one.refused for one in cases)
    lines = [f"{len(booted)} of {whole} cases boot"]
    if refused:
        lines[0] += f", {len(refused)} more refused as must be"
    if len(tried) < len(cases):
        lines[0] += f", {len(cases) - len(tried)} not tried yet"
    times = [told["adapt_s"] for _, told in tried if told["adapt_s"]]
    if times:
        lines[0] += (
            f"; the adaptation took {median(times):.0f} s (median; {min(times):.0f} to "
            f"{max(times):.0f} s), the appliance's own start included, under emulation"
        )
    lines[0] += "."
    lines += [
        "",
        "| case | Debian | firmware | initramfs | root | disk | fstab, root= | network, card "
        "| drivers it lacked | boots | adapted in | tried | remarks |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, told in tried:
        lines.append(_row(case, told))
    return "\n".join(lines) + "\n"


def _word(case: Case, told: Mapping[str, Any]) -> str:
    if not is_well(case, told):
        return "**no**"
    return "refused" if case.refused else "yes"


def _added(changes: Sequence[str]) -> str:
    """Without them the unadapted image would not have found its root."""
    found = [word for one in changes for word in re.findall(r"now with (.+)", one)]
    return ", ".join(dict.fromkeys(", ".join(found).split(", "))) if found else ""


def _onto(case: Case) -> str:
    what = {"larger": "larger, grown", "smaller": "smaller", "one": "one disk for all"}
    if case.onto == "larger" and case.stack == "raid":
        return ", larger"
    return f", {what[case.onto]}" if case.onto else ""


def _row(case: Case, told: Mapping[str, Any]) -> str:
    stack = "" if case.stack == "plain" else f" on {case.stack}"
    apart = ", own /boot" if case.apart else ""
    card = "virtio" if case.card == "virtio-net-pci" else case.card
    cards = f"{card}{', other MAC' if case.role == 'primary' else ''}"
    back = " and back" if "back" in case.odd else ""
    odd = [one for one in case.odd if one != "back"]
    warned = [one["code"] for one in told["warnings"]]
    remarks = "; ".join([*odd, *dict.fromkeys(warned), *([told["error"]] if told["error"] else [])])
    cells = (
        case.name,
        _RELEASES[case.suite],
        f"{case.firmware}{f' -> {case.then}' if case.then else ''}, {case.table}",
        case.initramfs,
        f"{case.filesystem}{stack}{apart}",
        f"{case.source} -> {case.target}{back}{_onto(case)}",
        f"{case.fstab}, {case.root}",
        f"{case.network}, {cards}",
        _added(told.get("changes", ())),
        _word(case, told),
        f"{told['adapt_s']:.0f} s" if told["adapt_s"] else "",
        f"{told['date']}, {told['version']}",
        remarks.replace("|", "/").replace("\n", " ")[:300],
    )
    return f"| {' | '.join(cells)} |"
