"""What happened when, how long it took, how many bytes it moved, and whether it is as promised.

Steps are printed as they happen and as a table at the end; checks are collected, so that one that
fails does not hide the others. ``finish`` is the exit code: 0 only when every check holds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def _console() -> Console:
    """A terminal has its own width; a log gets lines that are not broken early."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@dataclass
class Step:
    """``at`` and ``seconds`` since the timeline's start; ``size`` in bytes where bytes moved."""

    what: str
    at: float
    seconds: float = 0.0
    size: int | None = None
    detail: str = ""
    ended: bool = False


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str


@dataclass
class Timeline:
    """Steps, checks and measured figures of one run; a figure's name ends in its unit."""

    title: str
    console: Console = field(default_factory=_console)
    steps: list[Step] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        return time.monotonic() - self.start

    @contextmanager
    def step(self, what: str) -> Iterator[Step]:
        """Something that takes time; set ``size`` and ``detail`` inside the block."""
        one = Step(what, self.now())
        self.steps.append(one)
        self.console.print(f"[dim]{_clock(one.at)}[/dim]  {escape(what)} ...")
        try:
            yield one
        finally:
            one.seconds = self.now() - one.at
            one.ended = True
        told = [f"{one.seconds:.1f} s"]
        if one.size is not None:
            told.append(size_text(one.size))
        if one.detail:
            told.append(one.detail)
        line = escape(", ".join(told))
        self.console.print(f"[dim]{_clock(self.now())}[/dim]  [green]done[/green] {line}")

    def note(self, what: str, detail: str = "", size: int | None = None) -> None:
        """Something that happened at once."""
        self.steps.append(Step(what, self.now(), 0.0, size, detail, True))
        more = f": {detail}" if detail else ""
        self.console.print(f"[dim]{_clock(self.now())}[/dim]  {escape(what + more)}")

    def check(self, name: str, ok: bool, detail: str = "") -> bool:
        """A promise, kept or not."""
        self.checks.append(Check(name, ok, detail))
        mark = "[green]ok[/green]" if ok else "[bold red]FAILED[/bold red]"
        more = f" ({detail})" if detail else ""
        self.console.print(f"[dim]{_clock(self.now())}[/dim]  {mark} {escape(name + more)}")
        return ok

    @property
    def failed(self) -> list[Check]:
        return [one for one in self.checks if not one.ok]

    def finish(self, json_file: Path | None = None) -> int:
        """Print the tables; 0 when there were checks and all hold."""
        self.console.print()
        self.console.print(self._step_table())
        self.console.print(self._check_table())
        if json_file is not None:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(self.to_json(), indent=2) + "\n")
        broken = len(self.failed) + (not self.checks)
        if broken:
            self.console.print(f"[bold red]{escape(self.title)}: {broken} FAILED[/bold red]")
        else:
            minutes = f"{_clock(self.now())} ({len(self.checks)} checks)"
            self.console.print(f"[bold green]{escape(self.title)}: all well, {minutes}[/]")
        return 1 if broken else 0

    def to_json(self) -> dict[str, object]:
        return {
            "title": self.title,
            "seconds": round(self.now(), 1),
            "ok": bool(self.checks) and not self.failed,
            "steps": [asdict(one) for one in self.steps],
            "checks": [asdict(one) for one in self.checks],
            "figures": self.figures,
        }

    def _step_table(self) -> Table:
        table = Table(title=self.title, title_justify="left", box=None, pad_edge=False)
        table.add_column("WHEN", no_wrap=True)
        table.add_column("WHAT")
        table.add_column("SECONDS", justify="right", no_wrap=True)
        table.add_column("BYTES", justify="right", no_wrap=True)
        table.add_column("DETAIL")
        for one in self.steps:
            moved = size_text(one.size) if one.size is not None else ""
            lasted = f"{one.seconds:.1f}" if one.seconds else ""
            detail = one.detail if one.ended else "not ended"
            table.add_row(_clock(one.at), escape(one.what), lasted, moved, escape(detail))
        return table

    def _check_table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("CHECK", "", "DETAIL"):
            table.add_column(column)
        for one in self.checks:
            mark = "[green]ok[/green]" if one.ok else "[bold red]FAILED[/bold red]"
            table.add_row(escape(one.name), mark, escape(one.detail))
        return table


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"


def size_text(size: float) -> str:
    """Bytes for people, in units of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
