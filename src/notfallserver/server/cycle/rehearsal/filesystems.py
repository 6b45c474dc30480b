"""Are the file systems of a copy sound, and do files in it hold what the original's agent told?

Asked of a throwaway clone, inside the appliance.

What the appliance answers was written beside a foreign image, so everything in it is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from notfallserver.guest.check import CHECKERS
from notfallserver.server.pool.proof import VolumeCheck, VolumeState
from notfallserver.server.pool.store import Clones
from notfallserver.server.pool.version import Manifest
from notfallserver.server.rescue_medium import Medium
from notfallserver.server.settings import Settings
from notfallserver.server.vm.appliance import run_appliance
from notfallserver.server.vm.hypervisor import Hypervisor
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

CHECK_LIMIT_S = 4 * 3600.0
"""A full check of many terabytes takes hours; an activation ends it at once."""
MOST_VOLUMES = 256
TEXT = 400


@dataclass(frozen=True)
class Checked:
    """All volumes; how many files were compared, and the paths of those that differ."""

    volumes: tuple[VolumeCheck, ...]
    compared: int
    differing: tuple[str, ...]


def check_filesystems(
    settings: Settings,
    hypervisor: Hypervisor,
    medium: Medium,
    clones: Clones,
    manifest: Manifest,
    check: Callable[[], None],
) -> Checked:
    """All volumes of ``clones``, which are written to: logs are played back first."""
    answer = run_appliance(
        hypervisor,
        medium,
        clones.disks,
        {"task": "check", "sample": [asdict(one) for one in manifest.sample]},
        timeout=CHECK_LIMIT_S,
        accelerator=Accelerator(settings.accelerator),
        check=check,
        sectors=[one.sector for one in manifest.machine.disks],
    )
    if not answer.get("ok"):
        told = answer.get("error")
        raise NotfallError.from_json(told if isinstance(told, dict) else {}, 500)
    paths = {one.path for one in manifest.sample}
    compared, differing = answer.get("compared"), answer.get("differing")
    known = [one for one in differing if one in paths] if isinstance(differing, list) else []
    return Checked(
        told_lost(read_checks(answer.get("checks")), manifest.machine),
        min(compared, len(manifest.sample)) if type(compared) is int and compared > 0 else 0,
        tuple(dict.fromkeys(known)),
    )


def read_checks(told: object) -> tuple[VolumeCheck, ...]:
    """What can't be understood is left out; it proves nothing."""
    found = []
    for one in told[:MOST_VOLUMES] if isinstance(told, list) else ():
        if not isinstance(one, dict):
            continue
        texts = [one.get(key, "") for key in ("volume", "filesystem", "told")]
        if not all(isinstance(text, str) for text in texts) or one.get("state") not in _STATES:
            continue
        volume, filesystem, words = (_plain(text) for text in texts)
        found.append(VolumeCheck(volume, filesystem, VolumeState(one["state"]), words))
    return tuple(found)


def told_lost(checks: tuple[VolumeCheck, ...], machine: Machine) -> tuple[VolumeCheck, ...]:
    """Where the original has a file system and nothing that is known is left of it, that is damage:
    who looks at the copy alone takes it for a partition that nobody uses."""
    had = {
        f"disk{at}-part{part.number}" if part.number else f"disk{at}": part.filesystem
        for at, disk in enumerate(machine.disks)
        for part in disk.partitions
        if part.filesystem in CHECKERS
    }
    return tuple(
        replace(
            one,
            filesystem=had[one.volume],
            state=VolumeState.DAMAGED,
            told="nothing is left by which it could be recognised",
        )
        if not one.filesystem and one.volume in had
        else one
        for one in checks
    )


def damaged_error(damaged: tuple[VolumeCheck, ...]) -> NotfallError:
    """Why a rehearsal failed, volumes named."""
    named = "; ".join(f"{one.volume} ({one.filesystem}): {one.told}" for one in damaged)
    return NotfallError(
        "rehearsal-filesystem-damaged",
        f"A file system of the copy is damaged. {named}"[:1000],
        "Check that file system on the server itself. If it is sound there, have everything read "
        "once: notfall replicate --deep.",
        status=409,
    )


def differing_error(paths: tuple[str, ...]) -> NotfallError:
    """Why a rehearsal failed, files named."""
    return NotfallError(
        "rehearsal-content-differs",
        f"Files of the copy are not as the original's were: {', '.join(paths)}"[:1000],
        "Have everything read once: notfall replicate --deep. Look at the disks and the memory of "
        "both machines.",
        status=409,
    )


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text[:TEXT])


_STATES = frozenset(VolumeState)
