"""The fence's two units of systemd.

The first, which a stand-in skips at once, asks before anything sets up the network;
``network-pre.target`` is what all of them wait for. The second stays while the machine is off the
network; it is never enabled, only started.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Dict

from notfallserver.agent import commands
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

_FOLDER = Path("/etc/systemd/system")
BOOT = "notfall-agent-fence.service"
WATCH = "notfall-agent-apart.service"
SYSTEMD_S = 180

_BOOT_TEXT = """\
[Unit]
Description=Notfallserver: does a stand-in work in this machine's place?
DefaultDependencies=no
After=local-fs.target systemd-udevd.service systemd-udev-trigger.service
Before=network-pre.target networking.service systemd-networkd.service NetworkManager.service
Before=shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecCondition=/bin/sh -c '! grep -qs stand-in {directory}/role'
ExecStart={python} -B -S {program} guard-boot --config {directory}
TimeoutStartSec={limit}

[Install]
WantedBy=multi-user.target
"""
_LIMIT_S = 45
"""For all of it, should a command hang. An emulated machine needs much of it to start Python."""

_WATCH_TEXT = """\
[Unit]
Description=Notfallserver: keeps this machine off the network while its stand-in works
After=local-fs.target

[Service]
ExecStart={python} -B {program} stay-off --config {directory}
Restart=on-failure
RestartSec=5
"""


def texts(program: Path, directory: Path, python: str = sys.executable) -> Dict[str, str]:
    values = {"python": python, "program": program, "directory": directory}
    return {
        BOOT: _BOOT_TEXT.format(**values, limit=_LIMIT_S),
        WATCH: _WATCH_TEXT.format(**values),
    }


def write_units(program: Path, directory: Path) -> None:
    """Before systemd is told to read its files anew."""
    for name, text in texts(program, directory).items():
        (_FOLDER / name).write_text(text)


def remove_units() -> None:
    """Before systemd is told to read its files anew."""
    if (_FOLDER / BOOT).exists():
        commands.run(["systemctl", "disable", BOOT], timeout=SYSTEMD_S)
    for name in (BOOT, WATCH):
        (_FOLDER / name).unlink(missing_ok=True)


def can_watch() -> bool:
    """Without systemd nothing would keep the cards, and nobody give them back."""
    return (_FOLDER / WATCH).exists() and Path("/run/systemd/system").is_dir()


def start_watch() -> None:
    try:
        commands.run(["systemctl", "start", "--no-block", WATCH], timeout=SYSTEMD_S)
    except NotfallError as error:
        log.error("%s", error)


def stop_watch() -> None:
    commands.run(["systemctl", "stop", WATCH], timeout=SYSTEMD_S)


def restart_network() -> None:
    """ifupdown looks at its cards only when it starts; everything else sees them come."""
    try:
        commands.run(["systemctl", "is-enabled", "--quiet", "networking.service"])
        commands.run(["systemctl", "restart", "networking.service"], timeout=SYSTEMD_S)
    except NotfallError as error:
        log.info("%s", error)
