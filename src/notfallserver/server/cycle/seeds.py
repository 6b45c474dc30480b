"""First copies on removable disks: handing out a seed's secret, importing, exporting.

A seed is bound to its primary by a secret: the server gives it to the agent over its certificate
when a seed is begun and keeps it with the primary; one exported here has a code that a person
carries. An import is a run like any other, whose frames come from files: it resumes where a killed
server noted it, and it ends with a sealed version or leaves none.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.cycle.work import Work
from notfallserver.server.pool.layout import check_stamp, stamp_time
from notfallserver.server.pool.seeds import write_version
from notfallserver.server.pool.version import Version
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.blocks import UNKNOWN
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import ENTRY, HEADER, readable_codecs, write_offer
from notfallserver.wire.seed import START, Position, Seed, find_seed, seed_directory

SEED = "seed"
"""In a primary's notes: id and secret of the seed begun last; ``stamp`` when it is finished."""
NOTE_BYTES = 32 << 20
"""The position is noted after so many bytes: a killed server reads at most these again."""


def awaits_seed(row: Primary) -> bool:
    """Whether a finished seed of this primary is under way to this server."""
    return bool(row.notes.get(SEED, {}).get("stamp"))


def refuse_before_seed(row: Primary) -> None:
    """A replication before the import would send over the line what the seed holds."""
    if awaits_seed(row):
        raise NotfallError(
            "seed-awaited",
            f"A seed of {row.name} was made and is not imported yet.",
            f"Import it: notfall seed import DIR. If it is lost: notfall seed forget {row.name}",
            status=409,
        )


@dataclass(frozen=True)
class Seeds:
    """What the conductor and the agents' door have done about seeds; its jobs."""

    means: Means
    runner: JobRunner
    work: Work

    def register(self) -> None:
        others = {"replicate", "capture", "switch_back", "recover"}
        self.runner.register("seed_import", self.import_seed, others)
        self.runner.register("seed_export", self.export_seed)

    # -- the agent's side ------------------------------------------------------------------------

    def begin(self, row: Primary) -> dict[str, Any]:
        """A new secret; a seed begun before counts no more."""
        seed = {"id": secrets.token_hex(8), "secret": secrets.token_hex(32)}
        store = self.means.pool.add_primary(row.uuid, row.name)
        self.means.catalogue.primaries.note(row.uuid, seed=seed)
        self.means.catalogue.journal.write(
            row.uuid, "seed-begun", "agent", details={"seed": seed["id"]}
        )
        return {
            "seed": seed["id"],
            "secret": seed["secret"],
            "name": row.name,
            "now_ms": round(stamp_time(store.fresh_stamp()).timestamp() * 1000),
            "codecs": readable_codecs(),
        }

    def sealed(self, primary: str, seed: str, stamp: str) -> None:
        """The agent's seed is whole; from now on it is waited for."""
        known = self.means.catalogue.primaries.find(primary).notes.get(SEED, {})
        if known.get("id") != seed:
            raise NotfallError("unknown-seed", "Another seed was begun meanwhile.", status=409)
        waiting = {**known, "stamp": check_stamp(stamp)}
        self.means.catalogue.primaries.note(primary, seed=waiting)

    def forget(self, row: Primary, who: str) -> None:
        self.means.catalogue.primaries.note(row.uuid, seed=None)
        self.means.catalogue.journal.write(row.uuid, "seed-forgotten", who)

    # -- import ----------------------------------------------------------------------------------

    def begin_import(
        self,
        directory: Path,
        primary: str,
        code: str,
        who: str,
        refuse: Callable[[Primary], None],
    ) -> Job:
        """Everything that can be checked is checked before the job begins."""
        seed = Seed(find_seed(directory))
        row = self._primary_of(seed, primary)
        refuse(row)
        seed.check(self._secret(row, code))
        self._refuse_old(row, seed)
        parameters = {"directory": str(seed.directory), "code": code}
        return self.runner.submit("seed_import", row.uuid, parameters, who)

    def _primary_of(self, seed: Seed, wanted: str) -> Primary:
        try:
            row = self.means.catalogue.primaries.find(wanted or seed.primary)
        except NotfallError:
            if wanted:
                raise
            raise NotfallError(
                "seed-of-unknown-primary",
                f"The seed is of '{seed.name[:80]}', which this server does not protect.",
                "Invite that server first, or name the primary it is of: --primary NAME",
                status=404,
            ) from None
        if row.uuid != seed.primary and seed.told.get("source") != "server":
            raise NotfallError(
                "seed-of-another-primary",
                f"The seed is of '{seed.name[:80]}' and not of {row.name}.",
                "Leave --primary out.",
            )
        return row

    def _secret(self, row: Primary, code: str) -> str:
        secret = code or str(row.notes.get(SEED, {}).get("secret", ""))
        if not secret:
            raise NotfallError(
                "seed-not-awaited",
                f"This server knows no secret of a seed of {row.name}: it was imported already, "
                "forgotten, or another server exported it.",
                "Give the code that the export told (--code), or make a new seed.",
                status=409,
            )
        return secret

    def _refuse_old(self, row: Primary, seed: Seed) -> None:
        check_stamp(seed.stamp)
        newest = self.means.pool.add_primary(row.uuid, row.name).newest()
        if newest is not None and seed.stamp <= newest.stamp:
            raise NotfallError(
                "seed-old",
                f"The seed ({seed.stamp}) is not newer than the newest version {newest.stamp}.",
                "It is not needed: replicate over the line.",
                status=409,
            )

    def import_seed(self, ctx: JobContext) -> dict[str, Any]:
        row = self.means.catalogue.primaries.find(ctx.primary)
        seed = Seed(Path(ctx.parameters["directory"]))
        secret = self._secret(row, ctx.parameters["code"])
        seed.check(secret)
        version = self._sealed_before(ctx, seed)
        if version is None:
            self._refuse_old(row, seed)
            try:
                version = self._receive(ctx, row, seed, secret)
            except (Cancelled, NotfallError):
                self.means.runs.end(row.uuid)
                raise
        result = self.work.arrived(ctx, version)
        self.means.catalogue.primaries.note(row.uuid, seed=None)
        return {**result, "bytes_imported": seed.size}

    def _sealed_before(self, ctx: JobContext, seed: Seed) -> Version | None:
        """The version, if the server was killed between its seal and the end of the job."""
        newest = self.means.pool.primary(ctx.primary).newest()
        return newest if newest is not None and newest.stamp == seed.stamp else None

    def _receive(self, ctx: JobContext, row: Primary, seed: Seed, secret: str) -> Version:
        runs, body = self.means.runs, seed.told.get("seal")
        if not isinstance(body, dict):
            raise NotfallError("seed-damaged", "The seed tells of no version.", "Make a new one.")
        run = str(runs.begin(row.uuid, row.name, body)["run"])
        known = runs.of_primary(row.uuid)
        # A position counts only in the work that it was noted for: no other run can begin while
        # this job is unfinished, so what is resumed is that.
        since: Position = START
        if known is not None and known.incoming.resumed and ctx.notes.get("place"):
            part, record, at = ctx.notes["place"]
            since = (part, record, at)
        done = noted = 0
        for place, frame in seed.frames(secret, since):
            ctx.check()
            self._apply(row.uuid, run, frame)
            done += len(frame)
            ctx.progress("reading the seed", done, seed.size)
            if done - noted >= NOTE_BYTES:
                noted = done
                ctx.note(place=list(place))
        ctx.progress("sealing")
        version = runs.seal(row.uuid, run, body, seed.stamp).version
        if version is None:
            raise NotfallError("incomplete", "The seed made no version.", "Make a new one.")
        return version

    def _apply(self, uuid: str, run: str, frame: bytes) -> None:
        """A block that is there already, here or elsewhere in the pool, is not written again."""
        runs = self.means.runs
        if frame[:4] == b"NFH1":
            runs.punch(uuid, run, frame)
            return
        _, disk, _, count, _ = HEADER.unpack_from(frame)
        entries = list(ENTRY.iter_unpack(frame[HEADER.size : HEADER.size + count * ENTRY.size]))
        if any(digest == UNKNOWN for _, digest in entries) or any(
            runs.offer(uuid, run, write_offer(disk, entries))
        ):
            runs.receive(uuid, run, frame)

    # -- export ----------------------------------------------------------------------------------

    def begin_export(
        self, row: Primary, directory: Path, version: str | None, who: str
    ) -> tuple[Job, str]:
        store = self.means.pool.primary(row.uuid)
        wanted = store.version(version) if version else store.need_best()
        if not directory.is_dir():
            raise NotfallError("no-such-directory", f"{directory} is no directory.", "Mount it.")
        code = "-".join(secrets.token_hex(4) for _ in range(4))
        parameters = {"directory": str(directory), "version": wanted.stamp, "code": code}
        return self.runner.submit("seed_export", row.uuid, parameters, who), code

    def export_seed(self, ctx: JobContext) -> dict[str, Any]:
        version = self.means.pool.primary(ctx.primary).version(ctx.parameters["version"])
        directory = seed_directory(Path(ctx.parameters["directory"]), ctx.primary, ctx.job.id)
        written = write_version(version, directory, ctx.job.id, ctx.parameters["code"], ctx)
        self.means.catalogue.journal.write(
            ctx.primary, "seed-exported", ctx.job.who, details={"version": version.stamp}
        )
        return {"seed": str(directory), "version": version.stamp, "bytes_written": written}
