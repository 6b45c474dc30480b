"""Whether an NTFS volume can be written to, and what is done before that.

ntfs-3g throws the volume's journal away when it mounts a volume that was not unmounted. What the
journal holds is written first, as Windows would do it.
"""

from __future__ import annotations

from typing import List

from notfallserver.guest.plan import Warning
from notfallserver.guest.shell import run
from notfallserver.wire.errors import NotfallError

SOUND, HIBERNATED, UNCLEAN = 0, 14, 15
JOURNAL_LIMIT_S = 900


def ready_volume(device: str) -> List[Warning]:
    """Make it fit to be mounted writable, or refuse."""
    told = _probe(device)
    if told == HIBERNATED:
        raise NotfallError(
            "windows-hibernated",
            "Windows was not shut down but asleep (hibernation or fast start-up) when the copy was "
            "taken: in this state it starts on its own hardware only.",
            "On the primary run 'powercfg /h off' as administrator, restart it, and replicate "
            "again.",
        )
    if told == SOUND:
        return []
    # its exit code tells little: it is the same for nothing to do and nothing that can be done
    run(["ntfsrecover", device], ok=range(256), timeout=JOURNAL_LIMIT_S)
    told = _probe(device)
    if told == SOUND:
        return []
    if told != UNCLEAN:
        raise NotfallError(
            "windows-volume-damaged",
            f"The Windows drive in the image can't be written to (ntfs-3g.probe says {told}).",
            "Run 'chkdsk /f' on that drive of the primary, and replicate again.",
        )
    text = "The Windows drive was in use when the copy was taken, and its journal is not readable."
    return [Warning("windows-unclean", f"{text} Windows may check the drive when it starts.")]


def _probe(device: str) -> int:
    return run(["ntfs-3g.probe", "--readwrite", device], ok=range(256)).exit_code
