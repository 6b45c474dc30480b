"""Bringing versions back from media, from these alone: no catalogue is needed.

The media may come in any order. What one lacks or has damaged is missing at the end, and is said
block by block; a version that is not whole never comes into the pool.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notfallserver.server.cycle.exports import refuse_place
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.refusals import refuse_beside_standin
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.state import State
from notfallserver.server.cycle.tapes import RESTORE, WRITE, Tapes, ask_person, summary
from notfallserver.server.host.files import rename_durably, sync_path
from notfallserver.server.media import places
from notfallserver.server.media.contents import Contents
from notfallserver.server.media.places import Kind
from notfallserver.server.media.reader import (
    Label,
    members,
    read_contents,
    read_label,
    read_segment,
)
from notfallserver.server.media.restore import Choice, Rebuild
from notfallserver.server.media.segments import CONTENTS
from notfallserver.server.media.streams import Stream
from notfallserver.server.pool.version import read_version
from notfallserver.server.records.jobs import Job
from notfallserver.wire.errors import NotfallError

_PART = ".notfall-restore-{job}.part"


@dataclass(frozen=True)
class Wish:
    """``to`` None: into the pool. ``identity``: file with the secret key. ``partial``: no medium is
    waited for, what the given ones hold is enough."""

    source: Path
    choice: Choice
    to: Path | None = None
    identity: Path | None = None
    partial: bool = False


@dataclass(frozen=True)
class TapeRestore:
    """What people can have done, and the restoring job."""

    means: Means
    runner: JobRunner
    tapes: Tapes

    def register(self) -> TapeRestore:
        self.runner.register(RESTORE, self.restore, {WRITE})
        return self

    def begin(self, wish: Wish, who: str) -> Job:
        self._require_there(wish.source)
        if wish.identity is not None and not wish.identity.is_file():
            raise NotfallError(
                "tape-no-key", f"There is no file {wish.identity}.", "Name the file with the key."
            )
        if wish.to is not None:
            refuse_place(self.means, wish.to)
        elif wish.choice.disk >= 0 or wish.partial:
            raise NotfallError(
                "tape-whole-only",
                "Only a whole version can come back into the pool.",
                "Name a directory: --to DIR",
            )
        parameters = {
            "source": str(wish.source),
            "primary": wish.choice.primary,
            "version": wish.choice.stamp,
            "disk": wish.choice.disk,
            "to": str(wish.to or ""),
            "identity": str(wish.identity or ""),
            "partial": wish.partial,
        }
        return self.runner.submit(RESTORE, None, parameters, who)

    def _require_there(self, source: Path) -> Kind:
        kind = places.kind_of(source)
        if kind is Kind.FILE and not source.exists():
            raise NotfallError("tape-no-place", f"There is no file {source}.", "Look at its name.")
        return kind

    def look(self, source: Path, identity: Path | None) -> list[dict[str, Any]]:
        """What a medium, or those in a directory, tell of themselves and their sets."""
        kind = self._require_there(source)
        if kind is Kind.DIRECTORY:
            found = places.media_in(source)
            return [self._look(path, Kind.FILE, identity, label) for label, path in found]
        return [self._look(source, kind, identity, None)]

    def _look(
        self, path: Path, kind: Kind, identity: Path | None, known: Label | None
    ) -> dict[str, Any]:
        with opened(path, kind) as stream:
            label, _ = read_label(stream)
            if label is None:
                raise _no_medium(path)
            told = {**vars(label), "place": str(path), "contents": None}
            if not label.set or (label.encrypted and identity is None):
                return told
            for found in members(stream, label.set):
                if found.name.startswith(CONTENTS):
                    return {**told, "contents": summary(read_contents(found, identity))}
        return told

    # -- the job ---------------------------------------------------------------------------------

    def restore(self, ctx: JobContext) -> dict[str, Any]:
        parameters = ctx.parameters
        to = Path(parameters["to"]) if parameters["to"] else self.tapes.directory
        to.mkdir(mode=0o700, exist_ok=True)
        part = to / _PART.format(job=ctx.job.id)
        if not parameters["to"]:  # so that a version can be renamed into its place
            part = self.means.pool.root / part.name
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        try:
            rebuild = self._gather(ctx, part)
            rebuild.finish()
            if not rebuild.complete and not parameters["to"]:
                raise _incomplete(rebuild, None)
            where = self._place(ctx, rebuild, part, to if parameters["to"] else None)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        if not rebuild.complete:
            raise _incomplete(rebuild, where)
        return {"restored": ", ".join(str(one) for one in where), "bytes_read": rebuild.total}

    def _gather(self, ctx: JobContext, part: Path) -> Rebuild:
        """From one medium after another, until all is there or a person gives the rest up."""
        place = Path(ctx.notes.get("place") or ctx.parameters["source"])
        rebuild: Rebuild | None = None
        while True:
            trouble = ""
            try:
                rebuild = self._read_all(ctx, place, rebuild, part)
            except NotfallError as error:
                if rebuild is None and error.code not in ("tape-empty-drive", "tape-busy"):
                    raise
                trouble = str(error)
            if rebuild is not None and (rebuild.complete or ctx.parameters["partial"]):
                return rebuild
            code = "tape-more" if rebuild is not None else "tape-empty-drive"
            more = {"media": _needed(rebuild)} if rebuild is not None else {}
            answer = ask_person(ctx, self.means, 0, code, trouble, **more)
            if answer.get("give_up") and rebuild is not None:
                return rebuild
            if answer.get("place"):
                place = Path(answer["place"])

    def _read_all(
        self, ctx: JobContext, place: Path, rebuild: Rebuild | None, part: Path
    ) -> Rebuild:
        kind = self._require_there(place)
        if kind is not Kind.DIRECTORY:
            return self._read(ctx, place, kind, rebuild, part)
        media = places.media_in(place, rebuild.contents.set if rebuild is not None else "")
        if not media:
            raise _no_medium(place)
        if len({label.set for label, _ in media}) > 1:
            raise NotfallError(
                "tape-several-sets",
                f"Media of several sets lie in {place}.",
                "Name one file, or a directory with one set.",
                status=409,
            )
        (_, first), *others = media
        rebuild = self._read(ctx, first, Kind.FILE, rebuild, part)
        for _, path in others:
            if not rebuild.complete:
                rebuild = self._read(ctx, path, Kind.FILE, rebuild, part)
        return rebuild

    def _read(
        self, ctx: JobContext, path: Path, kind: Kind, rebuild: Rebuild | None, part: Path
    ) -> Rebuild:
        identity = Path(ctx.parameters["identity"]) if ctx.parameters["identity"] else None
        with opened(path, kind) as stream:
            label, _ = read_label(stream)
            of = rebuild.contents.set if rebuild is not None else label.set if label else ""
            if label is not None and label.set != of:
                raise NotfallError(
                    "tape-other-set",
                    f"The medium belongs to another set: '{label.label}' ({label.set}).",
                    "Insert a medium of the set that is being read.",
                    status=409,
                )
            if not of:
                raise _no_medium(path)
            done = rebuild.total - _left(rebuild) if rebuild is not None else 0
            for found in members(stream, of):
                ctx.check()
                if found.name.startswith(CONTENTS):
                    if rebuild is None:
                        rebuild = self._begin(read_contents(found, identity), ctx, part)
                    continue
                if rebuild is None:
                    continue  # the contents come first, unless they are damaged
                piece = read_segment(found, of, identity)
                if piece is not None and rebuild.wants(piece.name):
                    with room_may_end(part):
                        done += rebuild.put(piece)
                    ctx.progress("reading the medium", done, rebuild.total)
                if rebuild.complete:
                    break
        if rebuild is None:
            raise NotfallError(
                "tape-unreadable",
                "The medium does not tell what it holds: its beginning is damaged.",
                "Begin with another medium of the set; this one's pieces can be read after it.",
                status=409,
            )
        return rebuild

    def _begin(self, contents: Contents, ctx: JobContext, part: Path) -> Rebuild:
        told = ctx.parameters
        choice = Choice(told["primary"], told["version"], told["disk"])
        for copy in contents.copies:
            if choice.takes(copy):
                self._refuse_there(ctx, copy.primary, copy.stamp, copy.folder)
        rebuild = Rebuild(contents, part, choice)
        free = shutil.disk_usage(part).free
        if rebuild.total > free:
            rebuild.close()
            raise NotfallError(
                "export-no-space",
                f"{rebuild.total >> 20} MiB come back, and there are {free >> 20} MiB left.",
                "Make room there, or name another directory.",
                status=507,
            )
        return rebuild

    def _refuse_there(self, ctx: JobContext, primary: str, stamp: str, folder: str) -> None:
        if ctx.parameters["to"]:
            for name in (folder, folder + "-incomplete"):
                place = Path(ctx.parameters["to"]) / name
                if place.exists() and name.replace("/", "_") not in ctx.notes.get("placed", ()):
                    raise NotfallError(
                        "export-exists",
                        f"{place} is there already.",
                        "Remove or rename it, or name another directory.",
                        status=409,
                    )
            return
        rows = {one.uuid: one for one in self.means.catalogue.primaries.all()}
        row = rows.get(primary)
        if row is None:
            return
        refuse_beside_standin(row)
        newest = self.means.pool.add_primary(row.uuid, row.name).newest()
        if newest is not None and stamp >= newest.stamp:
            raise NotfallError(
                "tape-not-older",
                f"The pool's newest version of {row.name} ({newest.stamp}) is not newer.",
                "Restore it to a directory: --to DIR",
                status=409,
            )

    def _place(self, ctx: JobContext, rebuild: Rebuild, part: Path, to: Path | None) -> list[Path]:
        """Give everything its name; what is not whole says so in it."""
        lacking = {(one["primary"], one["version"]) for one in rebuild.missing()}
        where = []
        for at in rebuild.copies:
            copy = rebuild.contents.copies[at]
            if to is None:
                where.append(self._into_pool(ctx, part / copy.folder, copy.primary, copy.name))
                continue
            ending = "-incomplete" if (copy.name, copy.stamp) in lacking else ""
            final = to / (copy.folder + ending)
            final.parent.mkdir(mode=0o700, exist_ok=True)
            sync_path(to)
            rename_durably(part / copy.folder, final)
            placed = [*ctx.notes.get("placed", ()), (copy.folder + ending).replace("/", "_")]
            ctx.note(placed=placed)
            where.append(final)
        return where

    def _into_pool(self, ctx: JobContext, made: Path, primary: str, name: str) -> Path:
        store = self.means.pool.add_primary(primary, name)
        version = read_version(made)
        final = store.paths.versions / version.stamp
        if final.exists():
            raise NotfallError("export-exists", f"{final} is there already.", status=409)
        rename_durably(made, final)
        newest = store.need_newest()
        settings = self.means.settings
        self.means.catalogue.primaries.adopt_primary(
            primary,
            name,
            newest.manifest.machine,
            newest.stamp,
            State.NORMAL,
            settings.schedule_minutes,
            settings.capture_minutes,
        )
        self.means.catalogue.journal.write(
            primary, "version-from-tape", ctx.job.who, details={"version": version.stamp}
        )
        return final


@contextmanager
def room_may_end(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NotfallError(
            "export-no-space",
            f"There is no room left at {place.parent}.",
            "Make room there, or name another directory; then restore again.",
            status=507,
        ) from None


@contextmanager
def opened(path: Path, kind: Kind) -> Iterator[Stream]:
    stream = places.open_stream(path, kind)
    try:
        yield stream
    finally:
        stream.close()


def _needed(rebuild: Rebuild) -> list[int]:
    """Media that hold something that is missing, as far as the one that was read first knows."""
    known = rebuild.contents.media
    return [one.number for one in known if rebuild.needs_medium(one.first, one.end)]


def _left(rebuild: Rebuild) -> int:
    return sum(int(count) for one in rebuild.missing() for _, count in one["blocks"]) << 16


def _no_medium(path: Path) -> NotfallError:
    return NotfallError(
        "tape-not-ours",
        f"There is no medium of this program at {path}.",
        "Insert another one, or name another file.",
        status=409,
    )


def _incomplete(rebuild: Rebuild, where: list[Path] | None) -> NotfallError:
    missing = rebuild.missing()
    count = sum(n for one in missing for _, n in one["blocks"])
    disks = ", ".join(
        f"{one['primary']} {one['version']} disk {one['disk']}" for one in missing[:5]
    )
    there = f" What was read is in {where[0]}; missing.json names the blocks." if where else ""
    return NotfallError(
        "tape-incomplete",
        f"{count} blocks of 64 KiB are missing or damaged ({disks}).{there}",
        "Read the missing media, too, or take another version.",
        status=409,
    )
