"""What this machine is, as the adaptation wrote it beside the agent's settings.

Apart from ``config``, because the fence asks it at each start of the machine (``fence/boot.py``),
before there is a network, and has no time to load what reads settings and calls servers.
"""

from __future__ import annotations

from pathlib import Path

DIRECTORY = Path("/etc/notfall-agent")


def role(directory: Path) -> str:
    """``primary``, ``stand-in`` ..."""
    try:
        return (directory / "role").read_text().strip() or "primary"
    except OSError:
        return "primary"


def recovery(directory: Path) -> str:
    """Which recovery made this machine; empty on the original."""
    try:
        return (directory / "recovery").read_text().strip()
    except OSError:
        return ""
