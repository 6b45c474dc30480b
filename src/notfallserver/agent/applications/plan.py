"""Which applications a run holds, and in which order: own ones, scripts, then what is found.

An application whose data lies wholly outside of the frozen filesystems is no part of the version
and left alone; one whose data lies partly outside can't be whole in it, and is told as such.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence

from notfallserver.agent.applications import find
from notfallserver.agent.applications.application import Application
from notfallserver.agent.applications.command import PATH
from notfallserver.agent.applications.find import Found
from notfallserver.agent.applications.recipes import by_recipe
from notfallserver.agent.applications.settings import ApplicationSettings, Own
from notfallserver.agent.commands import this_program
from notfallserver.agent.disks.mounts import Mount, read_mounts


def plan_applications(
    settings: ApplicationSettings, groups: Sequence[Sequence[Mount]]
) -> List[Application]:
    """What this machine's next run holds; ``groups`` are the filesystems that freeze."""
    devices = {mount.device for group in groups for mount in group}

    def frozen(place: str) -> bool:
        return device_of(place) in devices

    named = any(one.recipe for one in settings.own)
    found = find.find_applications() if settings.auto or named else []
    return put_together(settings, found, scripts(Path(settings.scripts)), frozen)


def put_together(
    settings: ApplicationSettings,
    found: Sequence[Found],
    own_scripts: Sequence[Application],
    frozen: Callable[[str], bool],
) -> List[Application]:
    """In the order in which they are held."""
    here: Dict[str, List[Application]] = {}
    wishes = {one.recipe: one for one in settings.own if one.recipe}
    for one in found:
        wish = wishes.get(one.recipe)
        if wish is None and (not settings.auto or one.recipe in settings.leave_out):
            continue
        outside = [place for place in one.places if not frozen(place)]
        if one.places and len(outside) == len(one.places):
            continue
        limit = settings.limit_seconds
        application = by_recipe(one, wish or Own(), limit, which_of(wish), this_program)
        if outside and not application.obstacle:
            why = f"{outside[0]}, where it keeps data, is not among what is replicated."
            application = replace(application, obstacle=why)
        here.setdefault(one.recipe, []).append(application)
    planned: List[Application] = []
    for own in settings.own:
        if not own.recipe:
            planned.append(_described(own))
        elif own.recipe in here:
            planned += here.pop(own.recipe)
        elif own.required:
            planned.append(Application(own.recipe, required=True, obstacle="It does not run here."))
    planned += own_scripts
    for applications in here.values():
        planned += applications
    return _with_own_names(planned)


def _with_own_names(planned: Sequence[Application]) -> List[Application]:
    """Two instances may stand in the same directory; results are told apart by name."""
    count: Dict[str, int] = {}
    named = []
    for one in planned:
        count[one.name] = count.get(one.name, 0) + 1
        number = count[one.name]
        named.append(replace(one, name=f"{one.name} ({number})") if number > 1 else one)
    return named


def _described(own: Own) -> Application:
    return Application(
        own.name,
        own.prepare,
        own.freeze,
        own.thaw,
        own.hold,
        "",
        own.user,
        own.environment,
        own.prepare_seconds,
        own.freeze_seconds,
        own.thaw_seconds,
        own.required,
    )


def scripts(directory: Path) -> List[Application]:
    """Programs in ``applications.d``, called with ``freeze`` and ``thaw``, ordered by name."""
    try:
        entries = sorted(one for one in directory.iterdir() if not one.name.startswith("."))
    except OSError:
        return []
    found = []
    for entry in entries[:64]:
        application = Application(f"{directory.name}/{entry.name[:60]}")
        why = _not_to_be_run(entry)
        if why:
            application = replace(application, obstacle=why)
        else:
            path = str(entry)
            application = replace(application, freeze=(path, "freeze"), thaw=(path, "thaw"))
        found.append(application)
    return found


def _not_to_be_run(path: Path) -> str:
    """The agent is root: it runs nothing that somebody else may change."""
    try:
        status = path.stat()
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})."
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & stat.S_IXUSR:
        return f"{path} is no executable file."
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} must belong to root, and nobody else may write it (chmod 755)."
    return ""


def which_of(wish: object) -> Callable[[Sequence[str], str], str]:
    """Looks for a client; an environment given for the recipe may name another ``PATH``."""
    given: Mapping[str, str] = wish.environment if isinstance(wish, Own) else {}

    def which(names: Sequence[str], near: str) -> str:
        path = given.get("PATH", PATH)
        for name in names:
            client = shutil.which(name, path=f"{near}:{path}" if near else path)
            if client:
                return client
        return ""

    return which


def device_of(place: str) -> int:
    """The block device below a directory, by the list of mounts (in stat, Btrfs has its own)."""
    try:
        handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        device = os.fstat(handle).st_dev
        with suppress(OSError, ValueError, IndexError):
            told = Path(f"/proc/self/fdinfo/{handle}").read_text().split()
            number = told[told.index("mnt_id:") + 1]
            for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
                if line.startswith(f"{number} "):
                    return read_mounts(line)[0].device
        return device
    finally:
        os.close(handle)
