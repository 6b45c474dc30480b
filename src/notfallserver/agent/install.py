"""Installing the agent on a primary, and removing it. Doing it twice is the same as once.

Everything that can fail without leaving a trace comes first; the token is spent only when the
machine can take the agent. Files with secrets are created with mode 0600.
"""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Sequence

import notfallserver
from notfallserver.agent import commands, config
from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.config import Settings
from notfallserver.agent.disks.linux import machine_facts, protected_disks
from notfallserver.agent.place import Place
from notfallserver.wire.client import Client, tls_context
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
    directory: Path = config.DIRECTORY
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
    disks = protected_disks(wish.disks)
    client = Client(wish.server, tls_context(ca_pem))
    body = {"token": wish.token, "machine": machine_facts(disks).to_json()}
    answer = _checked(client.call("POST", "/agent/v1/enrol", body))
    client.close()
    settings = Settings(answer["url"] or wish.server, answer["primary"], list(wish.disks))
    if (wish.directory / "agent.json").exists():
        old = config.load_settings(wish.directory)
        settings = replace(
            old, url=settings.url, primary=settings.primary, disks=list(wish.disks) or old.disks
        )
    wish.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in (
        ("ca.pem", answer["ca"]),
        ("cert.pem", answer["certificate"]),
        ("key.pem", answer["key"]),
        ("agent.json", config.settings_text(settings)),
    ):
        _write(wish.directory / name, text.encode())
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


def _start_service(wish: Wish) -> None:
    text = _UNIT_TEXT.format(python=sys.executable, program=wish.program, directory=wish.directory)
    _write(UNIT_FILE, text.encode(), 0o644)
    for line in (["daemon-reload"], ["enable", UNIT], ["restart", UNIT]):
        commands.run(["systemctl", *line], timeout=_SYSTEMD_S)


def uninstall(directory: Path = config.DIRECTORY, program: Path = PROGRAM) -> None:
    """Stop and remove everything that :func:`install` put there, and the write tracker."""
    _require_root()
    if UNIT_FILE.exists():
        commands.run(["systemctl", "disable", "--now", UNIT], timeout=60)
        UNIT_FILE.unlink()
        commands.run(["systemctl", "daemon-reload"])
    remove_traces(Place(directory))
    for one in (program.parent, directory):
        shutil.rmtree(one, ignore_errors=True)
