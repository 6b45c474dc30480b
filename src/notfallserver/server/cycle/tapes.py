"""Writing versions to media: tapes, files or a pipe, one after another until all is written.

What was written of a medium counts when the medium is whole; then it is noted. A killed server
begins the medium anew that it was at. Where the next medium has to be inserted the job waits for a
person, who may name another place, or what shall be given up on the medium.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from socket import gethostname
from typing import Any

from notfallserver.server.cycle.exports import held, refuse_place
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.host.direct import forget_cached
from notfallserver.server.host.files import read_json, replace_json
from notfallserver.server.media import places
from notfallserver.server.media.age import check_recipients
from notfallserver.server.media.contents import SPAN, Contents, Medium, copy_of
from notfallserver.server.media.places import Kind
from notfallserver.server.media.reader import verify_medium
from notfallserver.server.media.segments import Ahead, contents_member, label_member
from notfallserver.server.media.sinks import FileSink, PipeSink, Sink, TapeSink
from notfallserver.server.pool.version import Version
from notfallserver.server.records.jobs import Job
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError

WRITE, RESTORE = "tape_write", "tape_restore"
MEDIA = frozenset({WRITE, RESTORE})
LEAST = 4 << 20
ASK_S = 1.0
WAITING = "waiting"
"""In a job's notes: what a person has to do."""
ANSWER = "answer"
WAIT_FOR = frozenset(
    {
        "tape-empty-drive",
        "tape-write-protected",
        "tape-holds-set",
        "tape-foreign",
        "tape-unreadable",
        "tape-busy",
        "tape-differs",
        "tape-write-failed",
        "medium-too-small",
        "medium-no-room",
    }
)
"""Errors that another medium mends."""


@dataclass(frozen=True)
class Wish:
    """``versions``: primary (UUID) and stamp of each; ``volume``: bytes of a medium, 0: all that it
    takes; ``overwrite``: what may be given up on the first medium."""

    to: Path
    versions: tuple[tuple[str, str], ...]
    label: str = ""
    volume: int = 0
    recipients: tuple[str, ...] = ()
    overwrite: str = ""
    verify: bool = True
    span: int = SPAN


class Tapes:
    """What people can have done, and the writing job."""

    def __init__(self, means: Means, runner: JobRunner) -> None:
        self._means = means
        self._runner = runner
        self.directory = means.settings.data_dir / "tape"

    def register(self) -> Tapes:
        self._runner.register(WRITE, self.write, {RESTORE})
        return self

    # -- beginning -------------------------------------------------------------------------------

    def begin(self, wish: Wish, who: str) -> Job:
        kind = places.kind_of(wish.to)
        check_recipients(wish.recipients)
        if wish.volume and wish.volume < LEAST + wish.span * BLOCK:
            raise NotfallError(
                "medium-too-small",
                "A medium must take 100 MiB at least.",
                "Give the size of a medium in MiB.",
            )
        versions = list({one.path: one for one in map(self._named, wish.versions)}.values())
        if not versions:
            raise NotfallError("no-version", "No version is named.", "Name one.", status=409)
        if kind is Kind.DIRECTORY:
            refuse_place(self._means, wish.to)
        elif kind is Kind.FILE:
            refuse_place(self._means, wish.to.parent)
            if wish.to.exists() or wish.to.is_symlink():
                places.file_for(wish.to, Kind.FILE, "", 1, "")
        needed = sum(one.bytes_used for one in versions)
        if kind in (Kind.DIRECTORY, Kind.FILE) and not wish.volume:
            _refuse_full(wish.to, needed)
        parameters = {
            "to": str(wish.to),
            "versions": [[one.manifest.primary, one.stamp] for one in versions],
            "label": _label(wish.label),
            "volume": wish.volume,
            "recipients": list(wish.recipients),
            "overwrite": wish.overwrite,
            "verify": wish.verify,
            "span": wish.span,
        }
        return self._runner.submit(WRITE, None, parameters, who)

    def _named(self, one: tuple[str, str]) -> Version:
        return self._version(*one)

    def _version(self, primary: str, stamp: str) -> Version:
        store = self._means.pool.primary(primary)
        return store.version(stamp) if stamp else store.need_best()

    def label_tape(self, device: Path, label: str, overwrite: str) -> None:
        """Give an empty tape a name, by which it is asked for; there is no set on it then."""
        if places.kind_of(device) is not Kind.TAPE:
            raise NotfallError("tape-no-drive", f"{device} is no tape drive.", "Name one.")
        drive = places.open_drive(device, True)
        try:
            places.refuse_valuable(drive, ("", 0), overwrite)
            drive.rewind()
            blank = Contents("", _label(label), "", gethostname(), ())
            sink = TapeSink(drive)
            made = label_member(blank, 0, _now())
            sink.add(made)
            sink.finish()
        except OSError as error:
            raise _failed(error) from None
        finally:
            drive.close()

    def go_on(self, job_id: str, answer: Mapping[str, Any], who: str) -> Job:
        """A person has done what a job waits for."""
        jobs = self._means.catalogue.jobs
        job = jobs.find(job_id)
        if job.kind not in MEDIA or job.finished or not job.notes.get(WAITING):
            raise NotfallError(
                "tape-waits-not", "This job waits for no medium.", "See: notfall jobs", status=409
            )
        if answer.get("place"):
            places.kind_of(Path(answer["place"]))
        jobs.note(job_id, {ANSWER: dict(answer)})
        self._means.catalogue.journal.write(
            None, "medium-changed", who, details={"job": job_id, **job.notes[WAITING]}
        )
        return jobs.find(job_id)

    def sets(self) -> list[dict[str, Any]]:
        """The catalogue of what was written here, newest first; without the lists of blocks."""
        found = []
        for path in self.directory.glob("*.json") if self.directory.is_dir() else ():
            contents = Contents.from_json(read_json(path))
            found.append(summary(contents))
        return sorted(found, key=lambda one: str(one["created_at"]), reverse=True)

    # -- the job ---------------------------------------------------------------------------------

    def write(self, ctx: JobContext) -> dict[str, Any]:
        pairs = [(str(one), str(stamp)) for one, stamp in ctx.parameters["versions"]]
        with ExitStack() as stack:
            for primary, stamp in pairs:
                stack.enter_context(held(self._means, primary, stamp, ctx))
            versions = [self._version(*one) for one in pairs]
            contents = self._contents(ctx, versions)
            while not contents.complete:
                contents = self._next(ctx, contents, versions)
                self.directory.mkdir(mode=0o700, exist_ok=True)
                replace_json(self.directory / f"{contents.set}.json", contents.to_json())
        for version in versions:
            self._means.catalogue.journal.write(
                version.manifest.primary,
                "version-on-tape",
                ctx.job.who,
                details={"version": version.stamp, "set": contents.set},
            )
        return {
            "set": contents.set,
            "label": contents.label,
            "media": len(contents.media),
            "bytes_written": sum(one.bytes for one in contents.media),
        }

    def _contents(self, ctx: JobContext, versions: Sequence[Version]) -> Contents:
        parameters = ctx.parameters
        media = tuple(Medium(**one) for one in ctx.notes.get("media", ()))
        return Contents(
            set=ctx.job.id,
            label=parameters["label"],
            created_at=ctx.job.created_at.isoformat(),
            server=gethostname(),
            copies=tuple(copy_of(one) for one in versions),
            recipients=tuple(parameters["recipients"]),
            span=parameters["span"],
            media=media,
            complete=bool(ctx.notes.get("complete")),
        )

    def _next(self, ctx: JobContext, contents: Contents, versions: Sequence[Version]) -> Contents:
        """Write one medium, and another one in its place where it can't be used."""
        number = len(contents.media) + 1
        place, overwrite = Path(ctx.notes.get("place") or ctx.parameters["to"]), ""
        if number == 1:
            overwrite = ctx.parameters["overwrite"]
        elif places.kind_of(place) in (Kind.TAPE, Kind.PIPE):
            answer = ask_person(ctx, self._means, number, "tape-next", "")
            place, overwrite = _answered(ctx, answer, place)
        while True:
            try:
                medium, complete = self._fill(ctx, contents, versions, place, overwrite, number)
                break
            except NotfallError as error:
                if error.code not in WAIT_FOR:
                    raise
                answer = ask_person(ctx, self._means, number, error.code, str(error))
                place, overwrite = _answered(ctx, answer, place)
        contents = contents.with_medium(medium, complete)
        ctx.note(media=[vars(one) for one in contents.media], complete=complete)
        return contents

    def _fill(
        self,
        ctx: JobContext,
        contents: Contents,
        versions: Sequence[Version],
        place: Path,
        overwrite: str,
        number: int,
    ) -> tuple[Medium, bool]:
        first = contents.media[-1].end if contents.media else 0
        with self._opened(ctx, contents, place, overwrite, number) as (sink, where, kind):
            ctx.progress("writing the medium", 0, contents.bytes_used)
            try:
                end, complete = self._stream(ctx, contents, versions, sink, first, number)
            except OSError as error:
                raise _failed(error) from None
            medium = Medium(number, first, end, sink.length, sink.hexdigest(), _now(), str(where))
        if ctx.parameters["verify"] and kind is not Kind.PIPE:
            self._verify(ctx, where, kind, medium)
        return medium, complete

    def _stream(
        self,
        ctx: JobContext,
        contents: Contents,
        versions: Sequence[Version],
        sink: Sink,
        first: int,
        number: int,
    ) -> tuple[int, bool]:
        head = [label_member(contents, number, _now()), contents_member(contents)]
        if not all(sink.add(one) for one in head):
            raise _too_small()
        done = sum(one.bytes for one in contents.media)
        ahead, end, complete = Ahead(contents, versions, first), first, True
        try:
            for segment, made in ahead:
                ctx.check()
                if not sink.add(made):
                    complete = False
                    break
                end = segment.number + 1
                total = max(contents.bytes_used, done + sink.length)
                ctx.progress("writing the medium", done + sink.length, total)
        finally:
            ahead.close()
        if end == first and not complete:
            raise _too_small()
        ctx.progress("finishing the medium")
        sink.finish()
        return end, complete

    @contextmanager
    def _opened(
        self, ctx: JobContext, contents: Contents, place: Path, overwrite: str, number: int
    ) -> Iterator[tuple[Sink, Path, Kind]]:
        kind = places.kind_of(place)
        if kind is Kind.TAPE:
            drive = places.open_drive(place, True)
            try:
                try:
                    places.refuse_valuable(drive, (contents.set, number), overwrite)
                    drive.rewind()
                except OSError as error:
                    raise _failed(error) from None
                yield TapeSink(drive), place, kind
            finally:
                drive.close()
            return
        volume = ctx.parameters["volume"]
        sink: FileSink | PipeSink
        where = place
        if kind is Kind.PIPE:
            sink = self._pipe(ctx, place, volume)
        else:
            where = places.file_for(place, kind, contents.label, number, contents.set)
            if volume and places.free_at(place) < LEAST + contents.span * BLOCK:
                raise NotfallError(
                    "medium-no-room",
                    f"There is no room left at {place}.",
                    "Mount another disk there, or name another directory.",
                    status=507,
                )
            sink = FileSink(where, volume)
        try:
            yield sink, where, kind
        finally:
            sink.abandon()  # nothing where it was finished

    def _pipe(self, ctx: JobContext, place: Path, volume: int) -> PipeSink:
        """Waits until somebody reads it."""
        while True:
            try:
                return PipeSink(place, volume)
            except OSError:
                ctx.progress("waiting for who reads the pipe")
                ctx.sleep(ASK_S / 4)

    def _verify(self, ctx: JobContext, where: Path, kind: Kind, medium: Medium) -> None:
        if kind is not Kind.TAPE:
            forget_cached(where)
        stream = places.open_stream(where, kind)
        done = 0

        def check(count: int) -> None:
            nonlocal done
            ctx.check()
            done += count
            ctx.progress("reading the medium back", done, medium.bytes)

        try:
            verify_medium(stream, medium.bytes, medium.sha256, check)
        except NotfallError:
            if kind is not Kind.TAPE:
                where.unlink()
            raise
        finally:
            stream.close()


def summary(contents: Contents) -> dict[str, Any]:
    """What people want to know of a set."""
    return {
        "set": contents.set,
        "label": contents.label,
        "created_at": contents.created_at,
        "server": contents.server,
        "encrypted": bool(contents.recipients),
        "complete": contents.complete,
        "versions": [
            {"primary": one.primary, "name": one.name, "version": one.stamp}
            for one in contents.copies
        ],
        "media": [vars(one) for one in contents.media],
    }


def ask_person(
    ctx: JobContext, means: Means, number: int, code: str, cause: str, **more: Any
) -> dict[str, Any]:
    """Wait until a person has inserted a medium; what they said with it."""
    ctx.note(**{ANSWER: None, WAITING: {"medium": number, "code": code, "cause": cause, **more}})
    ctx.progress("waiting for a medium")
    while True:
        answer = means.catalogue.jobs.find(ctx.job.id).notes.get(ANSWER)
        if answer is not None:
            ctx.note(**{ANSWER: None, WAITING: None})
            return dict(answer)
        ctx.sleep(ASK_S)


def _answered(ctx: JobContext, answer: Mapping[str, Any], place: Path) -> tuple[Path, str]:
    if answer.get("place"):
        ctx.note(place=answer["place"])
        place = Path(answer["place"])
    return place, str(answer.get("overwrite", ""))


def _label(text: str) -> str:
    plain = text.strip() or f"notfall-{datetime.now(timezone.utc):%Y%m%d-%H%M}"
    if not plain.isprintable() or "/" in plain or plain.startswith(".") or len(plain) > 60:
        raise NotfallError(
            "bad-label", "This can't be a medium's label.", "Take up to 60 letters and digits."
        )
    return plain


def _refuse_full(to: Path, needed: int) -> None:
    free = places.free_at(to)
    if needed + needed // 100 + LEAST > free:
        raise NotfallError(
            "export-no-space",
            f"The set needs {needed >> 20} MiB, and there are {free >> 20} MiB left at {to}.",
            "Make room there, or give the size of a medium (--volume), to change disks between.",
            status=507,
        )


def _too_small() -> NotfallError:
    return NotfallError(
        "medium-too-small",
        "Not even one piece of the set fits onto the medium.",
        "Take a larger one.",
        status=507,
    )


def _failed(error: OSError) -> NotfallError:
    return NotfallError(
        "tape-write-failed",
        f"The medium can't be written: {error.strerror or error}.",
        "Take another one; it is begun anew.",
        retry=True,
        status=500,
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
