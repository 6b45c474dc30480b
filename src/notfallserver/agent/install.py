"""Installing the agent on a primary, and removing it. Doing it twice is the same as once.

What can fail without leaving a trace comes before the enrolment (``enrolment.py``).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence

import notfallserver
from notfallserver import VERSION
from notfallserver.agent import commands
from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.enrolment import Invited, enrol, require_second, take_away
from notfallserver.agent.fence.apart import read_apart
from notfallserver.agent.fence.own import remember
from notfallserver.agent.fence.units import BOOT, remove_units, write_units
from notfallserver.agent.files import write_whole
from notfallserver.agent.place import Place
from notfallserver.agent.role import DIRECTORY
from notfallserver.agent.servers import Server, known_servers
from notfallserver.wire.errors import NotfallError

PROGRAM = Path("/opt/notfall-agent/agent.pyz")
UNIT = "notfall-agent.service"
UNIT_FILE = Path("/etc/systemd/system") / UNIT

_SYSTEMD_S = 180
"""systemd may be busy: on an emulated guest beside others a reload took longer than 30 s."""

# No RuntimeDirectory=: what lies in /run/notfall-agent must outlive the service.
_UNIT_TEXT = """\
[Unit]
Description=Notfallserver agent
After=local-fs.target network.target

[Service]
ExecStart={python} -B {program} run --config {directory}
ExecStopPost={python} -B {program} thaw --config {directory}
Restart=always
RestartSec=5
KillMode=mixed
TimeoutStopSec=60
OOMScoreAdjust=-900
LimitMEMLOCK=infinity

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Wish:
    """What the person asked for."""

    server: str
    token: str
    ca: Path
    disks: Sequence[str] = ()
    service: bool = True
    directory: Path = DIRECTORY
    program: Path = PROGRAM


def install(wish: Wish) -> str:
    """Enrol and install; returns the primary's identity."""
    _require_root()
    if wish.service:
        _require_systemd()
    try:
        ca_pem = wish.ca.read_text()
    except OSError as error:
        raise NotfallError(
            "no-ca",
            f"{wish.ca} cannot be read ({error.strerror}).",
            "Use the line as it was given.",
        ) from None
    invited = Invited(wish.server, wish.token, ca_pem)
    server = enrol(
        wish.directory,
        invited,
        lambda disks: machine_facts(protected_disks(disks)),
        wish.disks,
    )
    shared = len(known_servers(wish.directory)) > 1
    if not (shared and version_of(wish.program) > _numbers(VERSION)):
        _copy_program(wish.program)
    if wish.service:
        _start_service(wish)
    return server.settings().primary


def _require_root() -> None:
    if os.geteuid():
        raise NotfallError("not-root", "This needs root.", "Run the same line with sudo.")


def _require_systemd() -> None:
    if not Path("/run/systemd/system").is_dir():
        raise NotfallError(
            "no-systemd",
            "This machine does not run systemd, which starts the agent.",
            f"Install with --no-service and have '{PROGRAM} run' started at boot.",
        )


def _copy_program(target: Path) -> None:
    """Put this very program where the service finds it."""
    root = Path(notfallserver.__file__).parent.parent
    if not zipfile.is_zipfile(root):
        raise NotfallError(
            "not-packed",
            "The agent runs from its source and can't copy itself.",
            "Install from the file agent.pyz that the server gives.",
        )
    if root.resolve() == target.resolve():
        return
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_whole(target, root.read_bytes(), 0o755)


def version_of(program: Path) -> List[int]:
    """The version of an installed agent in numbers; none if there is no agent.

    A server that joins brings its own program, and may be older than the one that is there.
    """
    try:
        with zipfile.ZipFile(program) as package:
            text = package.read("notfallserver/__init__.py").decode()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return []
    found = re.search(r'^VERSION = "([0-9.]+)"', text, re.MULTILINE)
    return _numbers(found[1]) if found else []


def _numbers(version: str) -> List[int]:
    return [int(one) for one in re.findall("[0-9]+", version)]


def unit_text(python: str, program: Path, directory: Path) -> str:
    return _UNIT_TEXT.format(python=python, program=program, directory=directory)


def _start_service(wish: Wish) -> None:
    text = unit_text(sys.executable, wish.program, wish.directory)
    write_whole(UNIT_FILE, text.encode(), 0o644)
    write_units(wish.program, wish.directory)
    remember(wish.directory)
    # The fence is not started: this machine is on the network, and would find itself.
    for line in (["daemon-reload"], ["enable", UNIT, BOOT], ["restart", UNIT]):
        commands.run(["systemctl", *line], timeout=_SYSTEMD_S)


def remove(name: str, directory: Path = DIRECTORY) -> None:
    """Replicate to that server no more. If it was the first one, the second takes its place.

    Killed in between it is done again by the same command.
    """
    _require_root()
    server = require_second(directory, name, "agent.pyz uninstall")
    second = known_servers(directory)[1]
    service = UNIT_FILE.exists()
    if service:
        commands.run(["systemctl", "stop", UNIT], timeout=_SYSTEMD_S)
    remove_traces(_place(server))
    if server != second:
        remove_traces(_place(second))  # it is named by its directory, which goes
    take_away(directory, server)
    if service:
        commands.run(["systemctl", "start", UNIT], timeout=_SYSTEMD_S)


def _place(server: Server) -> Place:
    return Place(server.directory, server.machine)


def uninstall(directory: Path = DIRECTORY, program: Path = PROGRAM) -> None:
    """Stop and remove everything that :func:`install` put there, and the write tracker."""
    _require_root()
    if read_apart() is not None:
        raise NotfallError(
            "kept-off",
            "This machine is kept off the network, because its stand-in works.",
            "First: agent.pyz unfence",
        )
    if UNIT_FILE.exists():
        commands.run(["systemctl", "disable", "--now", UNIT], timeout=60)
        UNIT_FILE.unlink()
        remove_units()
        commands.run(["systemctl", "daemon-reload"])
    for server in known_servers(directory):
        remove_traces(_place(server))
    for one in (program.parent, directory):
        shutil.rmtree(one, ignore_errors=True)
