"""What is printed: tables for people, JSON for programs, errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from notfallserver.wire.errors import NotfallError


@dataclass
class Choice:
    """What was chosen on the command line for this run."""

    as_json: bool = False
    config: Path | None = None


chosen = Choice()


def begin(as_json: bool, config: Path | None) -> None:
    chosen.as_json, chosen.config = as_json, config


def console(stderr: bool = False) -> Console:
    """A terminal has its own width; a pipe gets lines that aren't broken."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


def tell(text: str) -> None:
    """A line for people; nothing where JSON is wanted."""
    if not chosen.as_json:
        console().print(escape(text))


def tell_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))


def tell_table(titles: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    table = Table(*titles, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    if table.row_count:
        console().print(table)
    else:
        console().print(escape(empty))


def tell_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in pairs:
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(value))
    console().print(table)


def tell_error(error: NotfallError) -> None:
    if chosen.as_json:
        print(json.dumps(error.to_json(), ensure_ascii=False), file=sys.stderr)
        return
    out = console(stderr=True)
    out.print(f"[bold red]error[/bold red] ({escape(error.code)}): {escape(error.cause)}")
    if error.remedy:
        out.print(escape(error.remedy))


def size(count: float) -> str:
    """Bytes in the largest fitting unit of 1000."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.0f} B" if units[0] == "B" else f"{count:.1f} {units[0]}"


def lasting(seconds: float) -> str:
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 6000:
        return f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"


def ago(moment: str | None, never: str = "never") -> str:
    if not moment:
        return never
    passed = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    return f"{lasting(max(0.0, passed))} ago"


def local(moment: str | None) -> str:
    if not moment:
        return ""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")
