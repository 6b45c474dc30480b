"""Draws the growth series of bench/results.json as docs/pictures/growth.png.

Needs matplotlib (`pip install -e '.[bench]'`, which `make bench` does).
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.table import Results, read_results

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "growth.png"
SERIES = {"volume": "volume, GiB (sparse, same content)", "files": "files (20 GiB volume)"}
PANELS = {
    "s": {"unchanged_s": "nothing changed", "changed_s": "10 MiB changed"},
    "MiB read, nothing changed": {"unchanged_read_mib": ""},
    "MiB of memory at most": {"agent_peak_mib": "agent", "server_peak_mib": "server"},
}
"""By what the axis says: the ends of the keys, and what each line is called."""


def draw(results: Results) -> Figure:
    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.subplots(len(SERIES), len(PANELS), squeeze=False)
    for row, (series, below) in zip(grid, SERIES.items()):
        sizes = results.numbers(rf"growth_{series}_(\d+)_unchanged_s")
        for axes, (beside, lines) in zip(row, PANELS.items()):
            for key, name in lines.items():
                _draw_line(axes, results, [f"growth_{series}_{one}_{key}" for one in sizes], name)
            axes.set_xscale("log")
            axes.set_xticks(sizes, [f"{one:,}" for one in sizes])
            axes.minorticks_off()
            axes.set_ylim(bottom=0)
            axes.set_xlabel(below)
            axes.set_ylabel(beside)
            axes.grid(alpha=0.3)
            if len(lines) > 1:
                axes.legend()
    return figure


def _draw_line(axes: Axes, results: Results, keys: list[str], name: str) -> None:
    sizes = [int(key.split("_")[2]) for key in keys]
    figures = [results.figures[key] for key in keys]
    values = [one["value"] for one in figures]
    # From the least to the most of the repetitions.
    below = [one["value"] - one["low"] for one in figures]
    above = [one["high"] - one["value"] for one in figures]
    axes.errorbar(sizes, values, yerr=(below, above), marker="o", capsize=3, label=name)


def main() -> int:
    PICTURE.parent.mkdir(exist_ok=True)
    # Without the program's version in it, the same figures give the same file.
    draw(read_results()).savefig(PICTURE, dpi=80, metadata={"Software": None})
    print(f"written: {PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
