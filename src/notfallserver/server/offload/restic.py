"""The engine: restic as an external program. Its JSON becomes dataclasses here.

Neither password nor address stands on its command line: both are in files of root's, keys of a
service in its environment.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notfallserver.server.host.follow import Ended, follow
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

OURS = "notfallserver"
"""Each of our snapshots has this tag."""
VERSION = "version"
SERVER = "server"
SERVER_HOST = "notfallserver"
"""Under this host the server itself is off-loaded; versions are under their primary's UUID."""
KEPT_UNUSED = "10%"
NOTHING_THERE = "offload-nothing-there"
LOCKED = "offload-locked"


@dataclass(frozen=True)
class Snapshot:
    """``primary`` and ``stamp`` of a version; both are empty where it is the server itself."""

    id: str
    taken_at: str
    primary: str = ""
    stamp: str = ""
    name: str = ""


@dataclass(frozen=True)
class Summary:
    """What a backup did, in bytes: ``added`` before compression."""

    snapshot: str
    added: int
    processed: int


Check = Callable[[], None]
Progress = Callable[[int, int], None]


def _never() -> None:
    return


@dataclass(frozen=True)
class Restic:
    """One repository. ``check`` may raise, which ends the program in order."""

    folder: Path
    """Holds ``password`` and ``repository`` (its address)."""
    environment: Mapping[str, str]
    options: Sequence[str]
    secrets: Collection[str]
    check: Check = _never

    # -- the repository --------------------------------------------------------------------------

    def make(self) -> None:
        """A new repository."""
        self._need(["init", "--repository-version", "2"])

    def unlock(self) -> None:
        """Take away locks that nobody holds any more, such as those of a killed engine of ours."""
        self._need(["unlock"])

    def find_written(self) -> None:
        """Take into the index what a killed engine had carried there already."""
        self._need(["rebuild-index"])

    # -- snapshots -------------------------------------------------------------------------------

    def snapshots(self) -> list[Snapshot]:
        """Ours, the newest first."""
        found = json.loads("".join(self._lines(["snapshots", "--json", "--tag", OURS])) or "[]")
        ours = [_snapshot(one) for one in found or []]
        return sorted((one for one in ours if one), key=_age, reverse=True)

    def backup(
        self,
        folder: Path,
        host: str,
        tags: Sequence[str],
        moment: str,
        parent: str,
        progress: Progress,
        read_all: bool = False,
    ) -> Summary:
        """Off-load a folder as a snapshot; ``moment`` as ``YYYY-MM-DD hh:mm:ss`` in UTC."""
        summary: dict[str, Any] = {}

        def each(line: str) -> None:
            told = _object(line)
            if told.get("message_type") == "status":
                progress(int(told.get("bytes_done", 0)), int(told.get("total_bytes", 0)))
            elif told.get("message_type") == "summary":
                summary.update(told)

        line = ["backup", "--json", "--ignore-inode", "--ignore-ctime", "--host", host]
        line += ["--time", moment]
        for one in tags:
            line += ["--tag", one]
        if read_all:
            line.append("--force")
        elif parent:
            line += ["--parent", parent]
        ended = self._run([*line, "."], each, cwd=folder)
        if ended.exit_code != 0 or not summary.get("snapshot_id"):
            raise _error(ended)
        return Summary(
            str(summary["snapshot_id"]),
            int(summary.get("data_added", 0)),
            int(summary.get("total_bytes_processed", 0)),
        )

    def restore(self, snapshot: str, paths: Sequence[str], target: Path) -> None:
        """Bring these paths of a snapshot into a folder; an empty list: all."""
        line = ["restore", snapshot, "--target", str(target)]
        for one in paths:
            line += ["--include", one]
        self._need(line)

    def forget(self, rules: Sequence[tuple[str, int]], prune: bool) -> None:
        """Keep of each primary what the rules say, and of the rest nothing."""
        line = ["forget", "--tag", OURS, "--group-by", "host"]
        for name, count in rules:
            line += [f"--keep-{name}", str(count)]
        self._need([*line, *(("--prune", "--max-unused", KEPT_UNUSED) if prune else ())])

    def verify(self, part: int, parts: int) -> None:
        """Check the structure, and read one of ``parts`` parts of all that lies there."""
        ended = self._run(["check", f"--read-data-subset={part}/{parts}"], lambda _: None)
        if ended.exit_code == 0:
            return
        error = _error(ended)
        if error.code != "offload-failed":
            raise error
        raise NotfallError(
            "offload-damaged",
            f"What lies at the place is damaged: {ended.tail[-600:]}",
            "Off-load to another place now, and have a look at this one's disks.",
            status=409,
        )

    # -- running it ------------------------------------------------------------------------------

    def _lines(self, arguments: Sequence[str]) -> list[str]:
        found: list[str] = []
        ended = self._run(arguments, found.append)
        if ended.exit_code != 0:
            raise _error(ended)
        return found

    def _need(self, arguments: Sequence[str]) -> None:
        ended = self._run(arguments, lambda line: log.debug("restic: %s", line))
        if ended.exit_code != 0:
            raise _error(ended)

    def _run(
        self, arguments: Sequence[str], each: Callable[[str], None], cwd: Path | None = None
    ) -> Ended:
        ended = self._once(arguments, each, cwd)
        if ended.exit_code != 0 and _error(ended).code == LOCKED:
            # One that a killed engine of this machine left counts no more after this.
            self._once(["unlock"], lambda _: None, None)
            ended = self._once(arguments, each, cwd)
        return ended

    def _once(
        self, arguments: Sequence[str], each: Callable[[str], None], cwd: Path | None
    ) -> Ended:
        environment = {
            "RESTIC_PASSWORD_FILE": str(self.folder / "password"),
            "RESTIC_REPOSITORY_FILE": str(self.folder / "repository"),
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
            "RESTIC_PROGRESS_FPS": "1",
            "TZ": "UTC",
            "TMPDIR": str(self.folder),
            **self.environment,
        }
        line = ["restic", *self.options, *arguments]
        return follow(
            line, each, self.check, environment=environment, cwd=cwd, secrets=self.secrets
        )


def _object(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _snapshot(told: dict[str, Any]) -> Snapshot | None:
    tags = told.get("tags") or []
    values = dict(one.split("=", 1) for one in tags if "=" in one)
    made = Snapshot(str(told["id"]), str(told["time"]))
    if SERVER in tags:
        return made
    if VERSION not in tags or "stamp" not in values:
        return None
    return Snapshot(
        made.id, made.taken_at, str(told["hostname"]), values["stamp"], values.get("name", "")
    )


def _age(one: Snapshot) -> tuple[str, str]:
    return one.stamp or one.taken_at, one.id


# In this order: that nothing can be reached must not be taken for that nothing is there.
_KNOWN = (
    (
        ("wrong password", "no key found"),
        "offload-wrong-key",
        "The key does not open what lies there.",
        "Take the key that was printed when the place was made.",
        409,
    ),
    (
        ("already locked", "unable to create lock"),
        LOCKED,
        "Something else works at the place just now, or was broken off there.",
        "Wait half an hour: then an old lock counts no more.",
        409,
    ),
    (
        ("no space left", "disk quota exceeded", "InsufficientStorage"),
        "offload-full",
        "The place is full.",
        "Keep fewer off-loads there, or take a larger disk.",
        507,
    ),
    (
        (
            "connection refused",
            "dial tcp",
            "x509:",
            "no such host",
            "i/o timeout",
            "no route to host",
            "Host key verification failed",
            "Permission denied (",
            "server response unexpected",
            "unable to start the sftp session",
            "Access Denied",
            "401 Unauthorized",
        ),
        "offload-no-way",
        "The place can't be reached, or doesn't let us in.",
        "Look whether it is on, and whether address, name and keys are right.",
        502,
    ),
    (
        ("unable to open config file", "Is there a repository"),
        NOTHING_THERE,
        "Nothing of ours lies at the place.",
        "Is it the right disk, is it mounted, is the address right? To begin anew, remove the "
        "place and add it again.",
        409,
    ),
)


def _error(ended: Ended) -> NotfallError:
    tail = ended.tail[-800:]
    if ended.exit_code < 0 or ended.exit_code in (130, 137, 143):
        return NotfallError(
            "offload-broken-off",
            f"The program that carries copies away (restic) was ended from outside. {tail}",
            "Begin again: what has arrived is not carried once more.",
            retry=True,
            status=503,
        )
    for words, code, cause, remedy, status in _KNOWN:
        if any(one.lower() in tail.lower() for one in words):
            told = f"{cause} ({tail.splitlines()[-1] if tail else ''})"
            return NotfallError(code, told, remedy, retry=status >= 500, status=status)
    return NotfallError(
        "offload-failed",
        f"The program that carries copies away (restic) failed: {tail or 'it said nothing'}",
        "What it said tells more; then begin again.",
        status=500,
    )
