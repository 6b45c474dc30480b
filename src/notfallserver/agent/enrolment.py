"""Using an invitation, and what is written down of it; taking one of two servers away. Files only.

Everything that can fail without leaving a trace comes first; the token is spent only when the
machine can take the agent. An invitation of another server than the one that is known makes that
one the second (``servers.py``). Doing it twice is the same as once.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from notfallserver.agent import config
from notfallserver.agent.config import Settings
from notfallserver.agent.files import write_whole
from notfallserver.agent.servers import Server, known_servers, place_of_enrolment, server_called
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

PEM_FILES = {"ca": "ca.pem", "certificate": "cert.pem", "key": "key.pem"}


@dataclass(frozen=True)
class Invited:
    """By whom: its address and CA, and the token that it takes once."""

    url: str
    token: str
    ca_pem: str


def enrol(
    directory: Path, by: Invited, facts: Callable[[List[str]], Machine], disks: Sequence[str] = ()
) -> Server:
    """``directory`` is the machine's; ``facts`` tells of the machine with these disks protected.

    Other ``disks`` than before hold for both servers.
    """
    server = place_of_enrolment(directory, by.url, by.ca_pem)
    old = Settings(by.url)
    if (directory / "agent.json").exists():
        old = config.load_settings(directory)
    machine = replace(old, disks=list(disks) or old.disks)
    client = Client(by.url, tls_context(by.ca_pem))
    try:
        body = {"token": by.token, "machine": facts(machine.disks).to_json()}
        answer = _checked(client.call("POST", "/agent/v1/enrol", body))
    finally:
        client.close()
    settings = replace(machine, url=answer["url"] or by.url, primary=answer["primary"])
    server.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, file in PEM_FILES.items():
        write_whole(server.directory / file, answer[name].encode())
    if server.directory == directory:
        write_whole(directory / "agent.json", config.settings_text(settings).encode())
    else:
        if machine != old:
            write_whole(directory / "agent.json", config.settings_text(machine).encode())
        write_whole(server.directory / "agent.json", config.address_text(settings).encode())
    return server


def _checked(answer: Dict[str, Any]) -> Dict[str, str]:
    for name in ("primary", "url", *PEM_FILES):
        if not isinstance(answer.get(name), str):
            raise NotfallError(
                "bad-answer", "The server's answer is not understood.", "Update the server."
            )
    return answer


def require_second(directory: Path, name: str, uninstall: str) -> Server:
    """The server called so, if it is not the only one."""
    server = server_called(directory, name)
    if len(known_servers(directory)) == 1:
        raise NotfallError(
            "last-server",
            f"{name} is the only server of this machine.",
            f"To remove the agent: {uninstall}",
        )
    return server


def take_away(directory: Path, server: Server) -> None:
    """Forget one of two. If it was the first one, the second takes its place.

    Nobody works with either. Killed in between it is done again by the same call.
    """
    first, second = known_servers(directory)
    if server == first:
        settings = config.settings_text(second.settings()).encode()
        for one in PEM_FILES.values():
            write_whole(directory / one, (second.directory / one).read_bytes())
        write_whole(directory / "agent.json", settings)
    (second.directory / "agent.json").unlink()
    shutil.rmtree(second.directory)
