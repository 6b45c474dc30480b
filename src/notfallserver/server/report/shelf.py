"""Where reports lie: ``data_dir/reports/2026-10/``.

``report.json`` (the tree), ``report.json.p7s`` (its signature), ``report-de.pdf`` and
``report-en.pdf``. They are made in ``2026-10.new`` and come to their place by one rename, so that
what is there is whole. A report that is made again takes the place of the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from notfallserver.server.host.files import discard_tree, rename_durably, sweep_discarded, sync_path
from notfallserver.server.report.months import Month, read_month
from notfallserver.server.report.tree import Report, read_report
from notfallserver.wire.errors import NotfallError

TREE, SIGNATURE = "report.json", "report.json.p7s"
_UNFINISHED = ".new"


def pdf_name(language: str) -> str:
    return f"report-{language}.pdf"


def told_name(month: str, name: str) -> str:
    """What a file is called where it no longer lies in its month's directory."""
    if name.startswith(TREE):
        return f"notfallserver-{month}{name.removeprefix('report')}"
    stem, dot, end = name.partition(".")
    return f"notfallserver-{month}{stem.removeprefix('report')}{dot}{end}"


@dataclass(frozen=True)
class Kept:
    """One report; ``files`` are the names of what is there, the PDFs first."""

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
        pdfs = sorted(one for one in names if one.endswith(".pdf"))
        return Kept(month, report, (*pdfs, TREE, SIGNATURE))

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
