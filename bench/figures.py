"""Collecting repetitions and writing them down: median, least and most of each figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MARK = "<!-- results of the last `make bench`: written by it, not by hand -->"


@dataclass(frozen=True)
class Figure:
    """One result; ``low`` and ``high`` are the extremes of the repetitions."""

    key: str
    value: float
    unit: str
    low: float
    high: float
    times: int


class Sheet:
    """All results of one run of the benchmark."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}

    def add(self, key: str, values: Sequence[float], unit: str) -> Figure:
        figure = Figure(key, median(values), unit, min(values), max(values), len(values))
        self.figures[key] = figure
        print(f"  {key}: {_shown(figure)}", flush=True)
        return figure

    def compare(self, key: str, ours: Sequence[float], peer: Sequence[float]) -> None:
        """How many times faster we are, repetition by repetition: noise of the machine that
        lasts longer than one repetition meets both."""
        self.add(key, [other / one for one, other in zip(ours, peer, strict=True)], "x")

    def write(self, path: Path) -> None:
        """Add to what other measurements wrote there; a figure measured anew replaces the old."""
        known = json.loads(path.read_text()) if path.exists() else {}
        flat = {one.key: {"value": _rounded(one.value), "unit": one.unit} for one in self._all()}
        path.write_text(json.dumps({**known, **flat}, indent=2, sort_keys=True) + "\n")

    def write_table(self, path: Path, setting: Mapping[str, str]) -> None:
        """Replace what stands between the two marks of ``path``."""
        head, _, rest = path.read_text().partition(MARK)
        _, _, tail = rest.partition(MARK)
        rows = [
            "| figure | median | least | most | unit | times |",
            "|---|---:|---:|---:|---|---:|",
        ]
        rows += [
            f"| `{one.key}` | {_rounded(one.value)} | {_rounded(one.low)} | {_rounded(one.high)} "
            f"| {one.unit} | {one.times} |"
            for one in self._all()
        ]
        rows += [""] + [f"- {what}: {how}" for what, how in setting.items()]
        path.write_text(f"{head}{MARK}\n" + "\n".join(rows) + f"\n{MARK}{tail}")

    def _all(self) -> list[Figure]:
        return sorted(self.figures.values(), key=lambda one: one.key)


def _rounded(value: float) -> float | int:
    """Three figures that count; whole numbers from 100 on."""
    return round(value) if abs(value) >= 100 else float(f"{value:.3g}")


def _shown(one: Figure) -> str:
    if one.times == 1:
        return f"{_rounded(one.value)} {one.unit}"
    return f"{_rounded(one.value)} {one.unit} ({_rounded(one.low)} to {_rounded(one.high)})"
