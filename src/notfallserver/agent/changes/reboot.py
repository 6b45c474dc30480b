"""Knowledge across a reboot: kept when the machine goes down, completed by the rule after it.

Going down (:func:`keep`), while the tracker still runs: fingerprints of all files are written;
then all filesystems are frozen for an instant S, in which the marks are taken; what is marked since
the server's version is written down, and the instant. Coming up (:func:`recall`), when the new
tracker runs: all filesystems are frozen for an instant again, so that inodes on the disk are as
those in memory; inodes are read; and every block counts as written that is not provably as in
the version. That is right because each write since the version was

    before S            it is marked. That fingerprints are older than S does no harm: what was
                        moved or written in between is marked, too, and marked blocks are never
                        skipped. The freeze also wrote out what was in memory only, so that nothing
                        from before S, with an older ctime, reaches the disk later
    S to the new        its file has a ctime after S (see ``unchanged.py``), on the disk since the
    tracker             second freeze, for the machine went down in order (see ``boots.py``)
    since the tracker   it is marked

The same holds, without a reboot, for a tracker that ended with its process (before Linux 5.15).

Left out are the files that are written past the filesystem: swap, and GRUB's environment, which the
boot loader writes before there is a kernel.

Nothing is said about a clock that was set back, about files served by NFS, and about what is not in
regular files of a writable ext4 or XFS: all that is in use is then read.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Iterator, List, Optional, Sequence

from notfallserver.agent.changes import boots
from notfallserver.agent.changes.base import Changes
from notfallserver.agent.changes.kept import Kept, KeptFiles, PrintWriter, shape_of
from notfallserver.agent.changes.survey import Survey
from notfallserver.agent.changes.unchanged import Print
from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.runs import subtract, total, whole
from notfallserver.agent.inodes.base import NotUnderstood
from notfallserver.agent.place import Place, boot_id
from notfallserver.wire.blocks import BLOCK, Run
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")


@dataclass(frozen=True)
class Known:
    """What a version holds, and what may have been written since; per disk."""

    since: str
    held: List[List[Run]]
    written: List[List[Run]]


def keep(
    disks: Sequence[Protected],
    place: Place,
    primary: str,
    since: str,
    held: List[List[Run]],
    changes: Changes,
    down: bool,
) -> bool:
    """Write down what is known of version ``since``; False (and a line in the log) if it can't.

    ``down``: the machine is going down, so the record may count in another boot.
    """
    files = KeptFiles(place.kept)
    try:
        if boots.serves_files():
            raise NotUnderstood("an NFS server runs")
        with ExitStack() as cleanup:
            survey = Survey(disks, place, cleanup)
            stream = cleanup.enter_context(files.begin())
            writer = PrintWriter(stream)
            survey.write_out()
            for one in survey.filesystems:
                writer.add(inode[:2] for inode in one.inodes())
            moment = survey.still(changes)
            if why := changes.broken():
                raise NotUnderstood(why)
            kept = Kept(
                boot_id(),
                down,
                primary,
                shape_of(disks),
                since,
                held,
                changes.pending(),
                int(moment * 10**9),
                boots.clock_offset(),
                [one.identity for one in survey.filesystems],
                writer.counts,
            )
            files.finish(stream, writer.digest, kept)
        return True
    except (OSError, NotUnderstood, NotfallError) as error:
        log.warning("the next run will read all: %s", error)
        files.drop()
        return False


def recall(
    disks: Sequence[Protected], place: Place, primary: str, changes: Changes
) -> Optional[Known]:
    """What a predecessor in an earlier boot knew, completed; ``changes`` must watch already."""
    files = KeptFiles(place.kept)
    kept = files.take()
    try:
        if kept is None or not _counts(kept, disks, primary):
            return None
        with ExitStack() as cleanup:
            survey = Survey(disks, place, cleanup)
            survey.still(changes)
            before = partial(_prints, kept, files)
            skipped = survey.unchanged(survey.free_space(), before, kept.moment_ns)
        left = [subtract(one, other) for one, other in zip(skipped, kept.written)]
        log.info(
            "%d MiB are unchanged since version %s",
            sum(total(runs) for runs in left) * BLOCK >> 20,
            kept.since,
        )
        written = [subtract(whole(one.blocks), runs) for one, runs in zip(disks, left)]
        return Known(kept.since, kept.held, written)
    except (OSError, NotUnderstood, NotfallError) as error:
        log.warning("the next run will read all: %s", error)
        return None
    finally:
        files.drop()


def _counts(kept: Kept, disks: Sequence[Protected], primary: str) -> bool:
    if (kept.primary, kept.shape) != (primary, shape_of(disks)) or boots.serves_files():
        return False
    if time.time_ns() < kept.moment_ns:
        return False
    if kept.boot == boot_id():
        return boots.clock_offset() > kept.offset - 1
    return kept.down and boots.went_down_in_order()


def _prints(kept: Kept, files: KeptFiles, identity: str) -> Optional[Iterator[Print]]:
    if identity not in kept.filesystems:
        return None
    return files.prints(kept, kept.filesystems.index(identity))
