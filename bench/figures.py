"""Collecting repetitions and writing them down: median, least and most of each figure."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(os.environ.get("BENCH_RESULTS", Path(__file__).with_name("results.json")))
"""All figures by key; BENCH_RESULTS names another file, to try something out."""


@dataclass(frozen=True)
class Figure:
    """One result; ``low`` and ``high`` are the extremes of the repetitions."""

    key: str
    value: float
    unit: str
    low: float
    high: float
    times: int

    def to_json(self) -> dict[str, Any]:
        return {
            "value": rounded(self.value),
            "unit": self.unit,
            "low": rounded(self.low),
            "high": rounded(self.high),
            "times": self.times,
        }


class Sheet:
    """All results of one program of the benchmark; ``name`` is the program's."""

    def __init__(self, name: str) -> None:
        self._name = name
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

    def write(self, setting: Mapping[str, str]) -> None:
        """Add to what other programs wrote; a figure measured anew replaces the old.

        ``setting`` is what a reader needs to judge this program's figures; it goes beside them.
        """
        _merge(RESULTS, {key: one.to_json() for key, one in self.figures.items()})
        _merge(settings_file(RESULTS), {self._name: dict(setting)})
        print(f"written: {RESULTS}", flush=True)


def settings_file(results: Path) -> Path:
    """Where the settings stand that belong to a file of results."""
    return results.with_name(f"{results.stem}-settings.json")


def _merge(path: Path, more: Mapping[str, Any]) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **more}, indent=2, sort_keys=True) + "\n")


def rounded(value: float) -> float | int:
    """Three figures that count; whole numbers from 100 on."""
    return round(value) if abs(value) >= 100 else float(f"{value:.3g}")


def _shown(one: Figure) -> str:
    if one.times == 1:
        return f"{rounded(one.value)} {one.unit}"
    return f"{rounded(one.value)} {one.unit} ({rounded(one.low)} to {rounded(one.high)})"
