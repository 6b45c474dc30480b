"""The pool as a whole: primaries, their versions, and clones made from them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from notfallserver.server.host.clone import clone_file
from notfallserver.server.host.files import (
    delete_tree,
    discard_tree,
    doom_tree,
    read_json,
    rename_durably,
    replace_json,
    sweep_discarded,
    sync_path,
)
from notfallserver.server.host.set_aside import give_back
from notfallserver.server.pool import layout
from notfallserver.server.pool.health import SOUND, HealthRecord
from notfallserver.server.pool.incoming import Incoming, drop_hopeless, drop_incoming
from notfallserver.server.pool.measures import MeasureRecord
from notfallserver.server.pool.pins import PinRecord
from notfallserver.server.pool.proof import ProofRecord, worth_keeping
from notfallserver.server.pool.protection import lifted, protect_version, release_version
from notfallserver.server.pool.room import Room, pool_may_be_full
from notfallserver.server.pool.version import Version, read_version
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk

log = logging.getLogger(__name__)

_told: set[Path] = set()
"""Broken manifests that the log knows of."""


@dataclass(frozen=True)
class Clones:
    """Writable clones of all disks of a version, in ``directory``, described by its seal."""

    directory: Path
    disks: tuple[Path, ...]
    record: dict[str, Any]

    @property
    def version(self) -> str:
        return str(self.record["version"])


class PrimaryStore:
    """All that the pool holds of one primary; ``sparing``: a clone costs as much as the whole.

    ``protect``: sealed versions carry the immutable flag.
    """

    def __init__(
        self, paths: layout.PrimaryPaths, sparing: bool = False, protect: bool = False
    ) -> None:
        self.paths = paths
        self._sparing = sparing
        self._protect = protect
        self.uuid = paths.root.name
        self.health = HealthRecord(paths)
        self.proofs = ProofRecord(paths)
        self.pins = PinRecord(paths)
        self.measures = MeasureRecord(paths)

    def describe(self, name: str) -> None:
        """Keep what a rebuilt catalogue needs to know."""
        replace_json(self.paths.record, {"uuid": self.uuid, "name": name})

    # -- versions --------------------------------------------------------------------------------

    def versions(self, most: int | None = None) -> list[Version]:
        """Sealed versions, newest first, at most ``most``; a damaged one is left out and logged."""
        return list(islice(self._versions(), most))

    def _versions(self) -> Iterator[Version]:
        for manifest in sorted(self.paths.versions.glob(f"*/{layout.MANIFEST}"), reverse=True):
            if manifest.parent.suffix == ".discarded":
                continue
            try:
                yield read_version(manifest.parent)
            except FileNotFoundError:
                continue  # it was removed just now
            except (NotfallError, KeyError, TypeError, OSError) as error:
                if manifest not in _told:  # it is looked at every few seconds
                    _told.add(manifest)
                    log.error("version %s is damaged: %s", manifest.parent, error)

    def newest(self) -> Version | None:
        return next(self._versions(), None)

    def best(self) -> Version | None:
        """The newest version in which no damage is known; where all are damaged, the newest."""
        known = self.health.all()
        sound = (one for one in self._versions() if not known.get(one.stamp, SOUND).damaged)
        return next(sound, None) or self.newest()

    def version(self, stamp: str) -> Version:
        path = self.paths.versions / layout.check_stamp(stamp)
        if not (path / layout.MANIFEST).exists():
            raise NotfallError(
                "unknown-version",
                f"There is no version {stamp} of this primary.",
                "List the versions and take one from there.",
                status=404,
            )
        return read_version(path)

    def need_newest(self) -> Version:
        version = self.newest()
        if version is None:
            raise NotfallError(
                "no-version",
                "There is no complete copy of this primary yet.",
                "Run a replication first.",
                status=409,
            )
        return version

    def need_best(self) -> Version:
        """As :meth:`best`; that there is no version at all is an error."""
        return self.best() or self.need_newest()

    def fresh_stamp(self) -> str:
        """A name for a version made now, later than all there are even if the clock went back."""
        stamp = layout.make_stamp(datetime.now(timezone.utc))
        newest = max((one.name for one in self.paths.versions.iterdir()), default="")
        if stamp <= newest[: len(stamp)]:
            later = layout.stamp_time(newest[: len(stamp)]).timestamp() + 0.001
            stamp = layout.make_stamp(datetime.fromtimestamp(later, timezone.utc))
        return stamp

    def remove_version(self, stamp: str) -> None:
        """It is gone for good; refused while it is pinned."""
        delete_tree(self.doom_version(stamp))

    def doom_version(self, stamp: str) -> Path:
        """From now on it is no version; what is left of it has to be deleted, and may be at any
        time. Refused while it is pinned."""
        version = self.version(stamp)
        with self.pins.held_still() as held:
            if pins := held.get(stamp):
                raise NotfallError(
                    "version-pinned",
                    f"Version {stamp} is held: {'; '.join(one.why for one in pins.values())}",
                    "Let it go first, if it is really not needed any more.",
                    status=409,
                )
            doomed = doom_tree(version.path)
        sync_path(self.paths.versions)
        if doomed is None:
            raise NotfallError("unknown-version", f"Version {stamp} is gone.", status=404)
        return doomed

    def protect(self) -> None:
        """Protect all versions that are not yet, or lift the flags where that is not wanted."""
        for version in self._versions():
            if self._protect:
                protect_version(version.path)
            else:
                release_version(version.path)

    @contextmanager
    def writable(self, version: Version) -> Iterator[None]:
        """For a repair: a sealed version can be written to inside this block."""
        with lifted(version.path, again=self._protect):
            yield

    def open_incoming(self, run: str, disks: Sequence[Disk]) -> Incoming:
        base = self.newest()
        with pool_may_be_full():
            incoming = Incoming.open_or_make(self.paths, run, disks, base)
            if base is not None:  # asked after cloning: what is found damaged meanwhile counts too
                incoming.distrust(base, self.health.of(base.stamp).blocks)
        return incoming

    def drop_incoming(self) -> None:
        drop_incoming(self.paths)

    # -- prepared image --------------------------------------------------------------------------

    def prepared(self, stamp: str) -> Clones | None:
        """The prepared image of a version, unless it may hold damage that was found since."""
        if self.health.of(stamp).renew:
            return None
        return _read_clones(self.paths.prepared / stamp, layout.PREPARED)

    def newest_prepared(self) -> Clones | None:
        for path in sorted(self.paths.prepared.iterdir(), reverse=True):
            if path.suffix != ".discarded" and (found := _read_clones(path, layout.PREPARED)):
                return found
        return None

    @contextmanager
    def preparing(self, version: Version) -> Iterator[Clones]:
        """Clones to adapt; sealed as the prepared image by :meth:`seal_prepared`, else removed."""
        directory = self.paths.prepared / version.stamp
        discard_tree(directory)
        self.health.change(version.stamp, lambda one: replace(one, renew=False))
        directory.mkdir(parents=True)
        try:
            disks = _clone_disks(_disks_of(version), directory)
            yield Clones(directory, disks, {"version": version.stamp})
        finally:
            if not (directory / layout.PREPARED).exists():
                discard_tree(directory)

    def seal_prepared(
        self, clones: Clones, record: dict[str, Any], wanted: Collection[str] = ()
    ) -> None:
        """From now on this is a prepared image; see :meth:`trim_prepared` for the others.

        Only one may be made at a time: what has no seal is what a crash left.
        """
        for disk in clones.disks:
            sync_path(disk)
        replace_json(clones.directory / layout.PREPARED, {**clones.record, **record})
        for other in self.paths.prepared.iterdir():
            if other.suffix != ".discarded" and not (other / layout.PREPARED).exists():
                discard_tree(other)
        self.trim_prepared({clones.version, *wanted})

    def trim_prepared(self, wanted: Collection[str] = ()) -> None:
        """Remove sealed images but the newest, the newest proven version's, and ``wanted``."""
        sealed = {
            one.name
            for one in self.paths.prepared.iterdir()
            if one.suffix != ".discarded" and (one / layout.PREPARED).exists()
        }
        usable = {one for one in sealed if self.prepared(one) is not None}
        kept = {*worth_keeping(sealed, usable, {} if self._sparing else self.proofs.all()), *wanted}
        for name in sealed - kept:
            discard_tree(self.paths.prepared / name)

    # -- stand-in --------------------------------------------------------------------------------

    def standin(self) -> Clones | None:
        return _read_clones(self.paths.standin, layout.STANDIN)

    def make_standin(self, prepared: Clones, record: dict[str, Any]) -> Clones:
        """Clone the prepared image to the stand-in's disks; an existing stand-in is kept."""
        if (existing := self.standin()) is not None:
            return existing
        unfinished = self.paths.root / "standin.new"
        discard_tree(unfinished)
        unfinished.mkdir()
        for disk in prepared.disks:
            clone_file(disk, unfinished / disk.name)
            sync_path(unfinished / disk.name)
        newest = self.newest()
        told = {"version": prepared.version, "newest": newest.stamp if newest else ""}
        replace_json(unfinished / layout.STANDIN, {**told, **record})
        discard_tree(self.paths.standin)
        rename_durably(unfinished, self.paths.standin)
        return Clones(
            self.paths.standin,
            tuple(self.paths.standin / disk.name for disk in prepared.disks),
            read_json(self.paths.standin / layout.STANDIN),
        )

    def standin_base(self, standin: Clones) -> Version:
        """The newest version of what a stand-in holds: its last capture, or what it was made of.

        That need not be the newest version: one that was made of an older version leaves newer
        ones as they are. What is newer than all that were there when it was made is its own.
        """
        newest = self.need_newest()
        before = str(standin.record.get("newest", ""))
        if not before or newest.stamp > before:
            return newest
        try:
            return self.version(standin.version)
        except NotfallError:  # gone meanwhile
            return newest

    def need_current(self) -> Version:
        """The version that tells what the primary is now: its stand-in's, or the newest."""
        standin = self.standin()
        return self.standin_base(standin) if standin else self.need_newest()

    def retire_standin(self) -> None:
        discard_tree(self.paths.standin)

    # -- other clones ----------------------------------------------------------------------------

    @contextmanager
    def working_clones(self, source: Version | Clones, purpose: str) -> Iterator[Clones]:
        """Clones for a short use (looking at files, a rehearsal); gone afterwards."""
        directory = self.paths.work / purpose
        told = {"version": source.stamp} if isinstance(source, Version) else source.record
        discard_tree(directory)
        directory.mkdir(parents=True)
        try:
            yield Clones(directory, _clone_disks(_disks_of(source), directory), dict(told))
        finally:
            discard_tree(directory)

    def sweep(self) -> None:
        """Remove what a crash left: half-removed and half-made directories."""
        for parent in (self.paths.root, self.paths.versions, self.paths.prepared, self.paths.work):
            if parent.exists():
                sweep_discarded(parent)
        for name in ("incoming.new", "standin.new"):
            discard_tree(self.paths.root / name)
        drop_hopeless(self.paths)
        for left in self.paths.reshaped.iterdir() if self.paths.reshaped.exists() else ():
            if not (left / layout.RESHAPED).exists():
                discard_tree(left)
        # An appliance that still has such a clone open keeps its content until it ends.
        for left in self.paths.work.iterdir() if self.paths.work.exists() else ():
            discard_tree(left)


class Pool:
    """The directory of all primaries; ``sparing``: it can't share blocks. ``protect``: sealed
    versions carry the immutable flag. ``image``: the file in which the pool lies, if it does."""

    def __init__(
        self,
        root: Path,
        sparing: bool = False,
        protect: bool = False,
        image: Path | None = None,
    ) -> None:
        self.root = root
        self.room = Room(root, image)
        self._sparing = sparing
        self.protected = protect

    def primary(self, uuid: str) -> PrimaryStore:
        paths = layout.PrimaryPaths.of(self.root, uuid)
        if not paths.root.is_dir():
            raise NotfallError(
                "unknown-primary", "The pool does not know this primary.", status=404
            )
        return PrimaryStore(paths, self._sparing, self.protected)

    def add_primary(self, uuid: str, name: str) -> PrimaryStore:
        paths = layout.PrimaryPaths.of(self.root, uuid)
        paths.make()
        store = PrimaryStore(paths, self._sparing, self.protected)
        store.describe(name)
        return store

    def remove_primary(self, uuid: str) -> None:
        discard_tree(layout.PrimaryPaths.of(self.root, uuid).root)

    def primaries(self) -> list[tuple[str, str]]:
        """(uuid, name) of all primaries in the pool: what a lost catalogue is rebuilt from."""
        found = []
        for record in sorted(self.root.glob(f"*/{layout.PRIMARY}")):
            body = read_json(record)
            found.append((str(body["uuid"]), str(body["name"])))
        return found

    def free(self) -> tuple[int, int]:
        """Free and whole size of the pool's filesystem, in bytes."""
        return self.room.free()

    def true_free(self) -> tuple[int, int]:
        """The same, when nothing is set aside any more (``host/set_aside.py``); machines that run
        may have to wait for a moment."""
        give_back(self.root)
        return self.free()

    def sweep(self) -> None:
        sweep_discarded(self.root)
        for uuid, _ in self.primaries():
            self.primary(uuid).sweep()
            self.primary(uuid).protect()


def _disks_of(source: Version | Clones) -> Sequence[Path]:
    if isinstance(source, Clones):
        return source.disks
    return [source.raw(disk.index) for disk in source.manifest.disks]


def _clone_disks(disks: Sequence[Path], directory: Path) -> tuple[Path, ...]:
    for disk in disks:
        clone_file(disk, directory / disk.name)
    return tuple(directory / disk.name for disk in disks)


def _read_clones(directory: Path, seal: str) -> Clones | None:
    if not (directory / seal).exists():
        return None
    disks = sorted(directory.glob("disk*.raw"), key=lambda path: int(path.stem[4:]))
    return Clones(directory, tuple(disks), read_json(directory / seal))
