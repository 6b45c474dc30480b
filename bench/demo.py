"""Figures that only the whole cycle has: taken from the timeline that `make demo` writes."""

from __future__ import annotations

import json
from pathlib import Path

from bench.figures import Sheet

WANTED = {"capture_pause_ms": "ms", "activation_own_s": "s", "switch_back_own_s": "s"}


def add_figures(sheet: Sheet, timeline: Path) -> None:
    """Take what is there; say how to get what is not."""
    try:
        told = json.loads(timeline.read_text())
    except (OSError, ValueError):
        told = {}
    figures = told.get("figures", {}) if isinstance(told, dict) else {}
    for key, unit in WANTED.items():
        value = figures.get(key)
        if isinstance(value, (int, float)):
            sheet.add(key, [float(value)], unit)
        else:
            print(f"  {key} is left out: run 'make demo' first, it writes {timeline}")
