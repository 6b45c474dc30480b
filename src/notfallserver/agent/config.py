"""The agent's settings: ``/etc/notfall-agent/agent.json`` and the certificates beside it.

``servers.py`` says where those of a second server are.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, List, Optional

from notfallserver.agent.addresses import answered, recall
from notfallserver.agent.applications.settings import (
    ApplicationSettings,
    BadSettings,
    read_settings,
)
from notfallserver.agent.gentle import NICE
from notfallserver.wire.client import Client, Throttle, tls_context
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")


@dataclass(frozen=True)
class Settings:
    """What can be set. Sizes and times are in the unit of the name."""

    url: str
    primary: str = ""
    disks: List[str] = field(default_factory=list)  # empty: all built-in ones
    workers: int = 3
    hot_passes: int = 6
    frozen_mib: int = 32
    freeze_seconds: float = 10.0
    nice: int = NICE
    stop_seconds: float = 300.0
    """What a handover shuts down has so long for it."""
    keep_services: List[str] = field(default_factory=list)
    """Units that it does not shut down, by systemd's names with ``*``: what the line to the server
    needs beyond the usual."""
    applications: ApplicationSettings = field(default_factory=ApplicationSettings)


def _bad(path: Path, why: str) -> NotfallError:
    return NotfallError(
        "bad-settings",
        f"{path} cannot be used: {why}.",
        "Repair it, or run the installation again with a new invitation.",
    )


def load_settings(directory: Path) -> Settings:
    path = directory / "agent.json"
    try:
        read: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad(path, error.strerror or "it cannot be read") from None
    except ValueError:
        raise _bad(path, "it is no JSON") from None
    if not isinstance(read, dict) or not isinstance(read.get("url"), str):
        raise _bad(path, "it names no server")
    known = {one.name for one in fields(Settings)}
    given = {name: value for name, value in read.items() if name in known}
    try:
        given["applications"] = read_settings(given.get("applications", {}))
    except BadSettings as error:
        raise _bad(path, str(error)) from None
    settings = Settings(**given)
    if not isinstance(settings.disks, list) or not all(isinstance(x, str) for x in settings.disks):
        raise _bad(path, "disks is no list of names")
    kept = settings.keep_services
    if not isinstance(kept, list) or not all(isinstance(x, str) for x in kept):
        raise _bad(path, "keep_services is no list of names")
    for name, least, most in (
        ("workers", 1, 16),
        ("hot_passes", 2, 50),
        ("frozen_mib", 2, 4096),
        ("freeze_seconds", 1, 60),
        ("stop_seconds", 10, 3600),
        ("nice", 0, 19),
    ):
        value = getattr(settings, name)
        if not isinstance(value, (int, float)) or not least <= value <= most:
            raise _bad(path, f"{name} must be between {least} and {most}")
        if not name.endswith("_seconds") and not isinstance(value, int):
            raise _bad(path, f"{name} must be a whole number")
    return settings


def settings_text(settings: Settings) -> str:
    return json.dumps(asdict(settings), indent=2) + "\n"


def address_text(settings: Settings) -> str:
    """Only what belongs to the server, for one that is not the first."""
    return json.dumps({"url": settings.url, "primary": settings.primary}, indent=2) + "\n"


def connect(directory: Path, settings: Settings, throttle: Optional[Throttle] = None) -> Client:
    """A client that shows this primary's certificate, and tries all addresses of the server.

    With ``throttle`` it is one for frames, and sends as that allows.
    """
    try:
        context = tls_context(
            (directory / "ca.pem").read_text(),
            str(directory / "cert.pem"),
            str(directory / "key.pem"),
            frames=throttle is not None,
        )
    except OSError as error:
        raise _bad(directory, f"the certificates cannot be read ({error})") from None
    url = settings.url

    def found(by: str) -> None:
        log.warning("%s: the server is found at %s now", url, by)
        answered(directory, url, by)

    return Client(
        url, context, throttle=throttle, urls=lambda: recall(directory, url).ordered, found=found
    )


def pinned(directory: Path, settings: Settings) -> Settings:
    """The same with the server's present address instead of its name: whoever tells addresses here
    may be shut down in a handover."""
    client = connect(directory, settings)
    try:
        return replace(settings, url=client.present_url())
    finally:
        client.close()
