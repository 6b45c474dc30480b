"""Installing the agent on a primary, and removing it. Doing it twice is the same as once.

Everything that can fail without leaving a trace comes first; the token is spent only when the
machine can take the agent. Files with secrets are created with mode 0600. An invitation of another
server than the one that is known makes that one the second (``servers.py``).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Sequence

import notfallserver
from notfallserver import VERSION
from notfallserver.agent import commands, config
from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.config import Settings
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.fence.apart import read_apart
from notfallserver.agent.fence.own import remember
from notfallserver.agent.fence.units import BOOT, remove_units, write_units
from notfallserver.agent.role import DIRECTORY
from notfallserver.agent.servers import known_servers, place_of_enrolment, server_called
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError

PROGRAM = Path("/opt/notfall-agent/agent.pyz")
PEM_FILES = {"ca": "ca.pem", "certificate": "cert.pem", "key": "key.pem"}
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
    server = place_of_enrolment(wish.directory, wish.server, ca_pem)
    old = Settings(wish.server)
    if (wish.directory / "agent.json").exists():
        old = config.load_settings(wish.directory)
    machine = replace(old, disks=list(wish.disks) or old.disks)
    client = Client(wish.server, tls_context(ca_pem))
    facts = machine_facts(protected_disks(machine.disks))
    answer = _checked(
        client.call("POST", "/agent/v1/enrol", {"token": wish.token, "machine": facts.to_json()})
    )
    client.close()
    settings = replace(machine, url=answer["url"] or wish.server, primary=answer["primary"])
    server.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("ca", "certificate", "key"):
        _write(server.directory / PEM_FILES[name], answer[name].encode())
    if server.directory == wish.directory:
        _write(wish.directory / "agent.json", config.settings_text(settings).encode())
    else:
        if machine != old:
            _write(wish.directory / "agent.json", config.settings_text(machine).encode())
        _write(server.directory / "agent.json", config.address_text(settings).encode())
    shared = len(known_servers(wish.directory)) > 1
    if not (shared and version_of(wish.program) > _numbers(VERSION)):
        _copy_program(wish.program)
    if wish.service:
        _start_service(wish)
    return settings.primary


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


def _checked(answer: Dict[str, Any]) -> Dict[str, str]:
    for name in ("primary", "certificate", "key", "ca", "url"):
        if not isinstance(answer.get(name), str):
            raise NotfallError(
                "bad-answer", "The server's answer is not understood.", "Update the server."
            )
    return answer


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file whole, or not at all; nobody else can read it at any time."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(handle)
    new.replace(path)


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
    _write(target, root.read_bytes(), 0o755)


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
    _write(UNIT_FILE, text.encode(), 0o644)
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
    server, known = server_called(directory, name), known_servers(directory)
    if len(known) == 1:
        raise NotfallError(
            "last-server",
            f"{name} is the only server of this machine.",
            "To remove the agent: agent.pyz uninstall",
        )
    service = UNIT_FILE.exists()
    if service:
        commands.run(["systemctl", "stop", UNIT], timeout=_SYSTEMD_S)
    remove_traces(server.place)
    first, second = known
    if server == first:
        remove_traces(second.place)  # it is named by its directory, which goes
        settings = config.settings_text(second.settings()).encode()
        for one in PEM_FILES.values():
            _write(directory / one, (second.directory / one).read_bytes())
        _write(directory / "agent.json", settings)
    (second.directory / "agent.json").unlink()
    shutil.rmtree(second.directory)
    if service:
        commands.run(["systemctl", "start", UNIT], timeout=_SYSTEMD_S)


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
        remove_traces(server.place)
    for one in (program.parent, directory):
        shutil.rmtree(one, ignore_errors=True)
