"""The servers a machine is replicated to, at most two, and where the configuration of each lies.

    DIRECTORY/                agent.json with the machine's settings and the first server's address,
                              ca.pem, cert.pem, key.pem of the first server; role, recovery
    DIRECTORY/servers/NAME/   agent.json with the second server's address only, and its ca.pem,
                              cert.pem, key.pem

A directory counts as soon as it has an ``agent.json``, which is written last and removed first.
What the adaptation writes for another machine (``role``, ``recovery``) is about the machine, so it
is in the first place for both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import List
from urllib.parse import urlsplit

from notfallserver.agent.config import Settings, load_settings
from notfallserver.wire.errors import NotfallError

MOST = 2


@dataclass(frozen=True)
class Server:
    """One server; ``machine`` is the directory with what belongs to the machine."""

    directory: Path
    machine: Path

    def settings(self) -> Settings:
        """The machine's settings with this server's address; raises ``bad-settings``."""
        own = load_settings(self.directory)
        if self.directory == self.machine:
            return own
        return replace(load_settings(self.machine), url=own.url, primary=own.primary)

    @property
    def name(self) -> str:
        """What a person calls it: its host, with the port where hosts are alike."""
        if self.directory != self.machine:
            return self.directory.name
        return host_of(load_settings(self.directory).url)


def host_of(url: str) -> str:
    """The host of a server's address, as a name that a file can have."""
    return (
        re.sub(r"[^A-Za-z0-9.-]", "-", urlsplit(url).hostname or "server").lstrip(".") or "server"
    )


def known_servers(machine: Path) -> List[Server]:
    """The first one, whether it is there or not, and the second if there is one."""
    found = [Server(machine, machine)]
    others = machine / "servers"
    if others.is_dir():
        found += [
            Server(one, machine)
            for one in sorted(others.iterdir())
            if (one / "agent.json").exists()
        ]
    return found[:MOST]


def server_called(machine: Path, name: str) -> Server:
    """By name; an empty one is the first."""
    known = known_servers(machine)
    for one in known:
        if name in ("", one.name):
            return one
    raise NotfallError(
        "no-such-server",
        f"This machine is not replicated to a server '{name}'.",
        f"It is to: {', '.join(one.name for one in known)}.",
    )


def place_of_enrolment(machine: Path, url: str, ca_pem: str) -> Server:
    """Which of them an invitation from the server at ``url`` with this CA is about.

    The same CA is the same server, wherever it is reached now; the same address with another CA is
    a server that was set up anew. Else it is a second one; a third is refused.
    """
    if not (machine / "agent.json").exists():
        return Server(machine, machine)
    known = known_servers(machine)
    for one in known:
        ca = one.directory / "ca.pem"
        if ca.exists() and ca.read_text().split() == ca_pem.split():
            return one
    for one in known:
        if load_settings(one.directory).url.rstrip("/") == url.rstrip("/"):
            return one
    if len(known) == MOST:
        names = " and ".join(one.name for one in known)
        raise NotfallError(
            "too-many-servers",
            f"This machine is replicated to {names} already; more than {MOST} servers can't be.",
            "Take one away first: agent.pyz remove --server NAME",
        )
    name = host_of(url)
    if name == known[0].name:
        name += f"-{urlsplit(url).port or 443}"
    return Server(machine / "servers" / name, machine)
