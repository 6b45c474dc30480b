"""Where reports lie: ``data_dir/reports/2026-10/``.

``report.json`` (the tree), ``report.json.p7s`` (its signature), ``report-de.pdf`` and
``report-en.pdf``, and of each server alone ``report-de-NAME.pdf``. They are made in
``2026-10.new`` and come to their place by one rename, so that what is there is whole. A report
that is made again takes the place of the one before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from notfallserver.server.host.files import discard_tree, rename_durably, sweep_discarded, sync_path
from notfallserver.server.report.months import Month, read_month
from notfallserver.server.report.tree import Report, read_report
from notfallserver.wire.errors import NotfallError

TREE, SIGNATURE = "report.json", "report.json.p7s"
_UNFINISHED = ".new"


PDF = r"report-(?P<language>[a-z]{2})(-(?P<server>[A-Za-z0-9][A-Za-z0-9._-]{0,62}))?\.pdf"
NAME = rf"^({PDF}|report\.json(\.p7s)?)$"
"""Of a report's file."""


def pdf_name(language: str, server: str = "") -> str:
    """Of the report of all, or of one server alone."""
    return f"report-{language}{'-' if server else ''}{server}.pdf"


def told_name(month: str, name: str) -> str:
    """What a file is called where it no longer lies in its month's directory."""
    return f"notfallserver-{month}{name.removeprefix('report')}"


def papers_of(files: Sequence[str]) -> dict[str, dict[str, str]]:
    """The PDFs by server (empty: of all) and language."""
    found: dict[str, dict[str, str]] = {}
    for name in files:
        if told := re.fullmatch(PDF, name):
            found.setdefault(told["server"] or "", {})[told["language"]] = name
    return {server: found[server] for server in sorted(found)}


@dataclass(frozen=True)
class Kept:
    """One report; ``files`` are the names of what is there, the PDFs of all first."""

    month: Month
    report: Report
    files: tuple[str, ...]


class Shelf:
    """All reports of this server, in ``directory``. Thread-safe, as long as one job makes them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def months(self) -> list[Month]:
        """The newest first."""
        found = []
        for tree in self.directory.glob(f"*/{TREE}"):
            try:
                found.append(read_month(tree.parent.name))
            except NotfallError:
                continue  # unfinished, or being removed
        return sorted(found, reverse=True)

    def all(self) -> list[Kept]:
        """The newest first; what can't be read is left out."""
        found = []
        for month in self.months():
            try:
                found.append(self.need(month))
            except NotfallError:
                continue
        return found

    def need(self, month: Month) -> Kept:
        path = self.directory / str(month) / TREE
        try:
            told = path.stat()
            report = _read(path, told.st_ino, told.st_mtime_ns)
        except FileNotFoundError:
            raise _no_such(month) from None
        except ValueError as error:
            raise NotfallError(
                "report-unreadable",
                f"The report of {month} can't be read: {str(error)[:200]}",
                f"Make it again: notfall report make {month} --again",
                status=500,
            ) from None
        names = {one.name for one in (self.directory / str(month)).iterdir()}
        papers = papers_of(sorted(names))
        first = papers.pop("", {}).values()
        others = (name for one in papers.values() for name in one.values())
        return Kept(month, report, (*first, TREE, SIGNATURE, *others))

    def read(self, month: Month, name: str) -> bytes:
        """The content of one file."""
        try:
            return (self.directory / str(month) / name).read_bytes()
        except FileNotFoundError:
            raise _no_such(month) from None

    def begin(self, month: Month) -> Path:
        """An empty directory to make it in; what a crash left there goes."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        sweep_discarded(self.directory)
        unfinished = self.directory / f"{month}{_UNFINISHED}"
        discard_tree(unfinished)
        unfinished.mkdir(mode=0o700)
        return unfinished

    def put(self, month: Month) -> None:
        """What was made since :meth:`begin` is the report from now on."""
        unfinished = self.directory / f"{month}{_UNFINISHED}"
        sync_path(unfinished)
        discard_tree(self.directory / str(month))
        rename_durably(unfinished, self.directory / str(month))


@lru_cache(maxsize=64)
def _read(path: Path, inode: int, written_ns: int) -> Report:
    """A report never changes in its place, so the same file is understood once."""
    return read_report(path.read_bytes())


def _no_such(month: Month) -> NotfallError:
    return NotfallError(
        "no-such-report",
        f"There is no report of {month}.",
        f"See 'notfall report list', or make it: notfall report make {month}",
        status=404,
    )
