"""The places of this server, each a directory of its own below ``data_dir/offload`` (0700)::

    <id>/place.json      what was said of it
    <id>/password        of its repositories: whoever has it can read all that lies there
    <id>/secrets.json    keys and passwords of the service
    <id>/state.json      what is known of its media; may be lost
    <id>/ssh/            key, known host and settings for SFTP
    <id>/repository      the repository's address for the engine, which may hold a password
    <id>/cache/  mnt/    the engine's cache; where a removable disk is mounted

Files, and not rows of the catalogue: they go along with every off-load, and a machine that has just
lost its catalogue needs them first.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from notfallserver.server.host.files import discard_tree, read_json, replace_file, replace_json
from notfallserver.server.host.run import run
from notfallserver.server.offload.place import Kind, Medium, Place, check_place
from notfallserver.wire.errors import NotfallError

_LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
"""Nothing that is mistaken for another on paper."""
_writing = threading.Lock()


def make_key() -> str:
    """40 letters in groups: 198 bits."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(8))
    return "-".join(groups)


def read_key(typed: str) -> str:
    """A key as a person types it from paper: case and spaces don't matter; else it stays as is."""
    plain = "".join(typed.upper().split()).replace("-", "")
    if len(plain) == 40 and set(plain) <= set(_LETTERS):
        return "-".join(plain[at : at + 5] for at in range(0, 40, 5))
    return typed.strip()


class Places:
    """All places; nothing is kept in memory, so that each may be asked anywhere. Thread-safe."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "offload"

    def all(self) -> list[Place]:
        found = []
        for path in self.root.glob("*/place.json"):
            if path.parent.suffix != ".discarded":
                found.append(Place.from_json(read_json(path)))
        return sorted(found, key=lambda one: one.name.lower())

    def find(self, name_or_id: str) -> Place:
        for one in self.all():
            if name_or_id.lower() in (one.name.lower(), one.id):
                return one
        raise NotfallError(
            "no-such-place",
            f"Nothing is off-loaded to a place '{name_or_id[:60]}'.",
            "See 'notfall offload place list'.",
            status=404,
        )

    def add(self, place: Place, given: Mapping[str, str], key: str = "") -> tuple[Place, str]:
        """Keep a new place; returns it with its key, made here where none is given."""
        given = {name: value for name, value in given.items() if value}
        check_place(place, given)
        with _writing:
            if any(one.name.lower() == place.name.lower() for one in self.all()):
                raise NotfallError(
                    "place-exists",
                    f"There is a place '{place.name}' already.",
                    "Take another name.",
                    status=409,
                )
            made = replace(place, id=secrets.token_hex(6))
            folder = self.root / made.id
            for one in (self.root, folder):
                one.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = read_key(key) or make_key()
            replace_file(folder / "password", key.encode())
            replace_json(folder / "secrets.json", given)
            if made.kind is Kind.SFTP:
                _make_ssh(folder / "ssh", made)
            state = {"made_at": datetime.now(UTC).isoformat(), "media": {}, "key_kept": False}
            replace_json(folder / "state.json", state)
            replace_json(folder / "place.json", made.to_json())
        return made, key

    def change(self, place: Place) -> None:
        """Other rules for a place; where it is stays."""
        check_place(place, self.secrets(place))
        with _writing:
            replace_json(self.folder(place) / "place.json", place.to_json())

    def remove(self, place: Place) -> None:
        """Forget a place and its key; what lies there stays."""
        with _writing:
            (self.folder(place) / "place.json").unlink(missing_ok=True)
            discard_tree(self.folder(place))

    def folder(self, place: Place) -> Path:
        return self.root / place.id

    def key(self, place: Place) -> str:
        return (self.folder(place) / "password").read_text().strip()

    def secrets(self, place: Place) -> dict[str, str]:
        return {
            key: str(one) for key, one in read_json(self.folder(place) / "secrets.json").items()
        }

    def public_key(self, place: Place) -> str:
        """What the SFTP server must be told; empty for other places."""
        path = self.folder(place) / "ssh" / "key.pub"
        return path.read_text().strip() if path.exists() else ""

    def known_host(self, place: Place) -> str:
        """Fingerprints of the SFTP server's keys that are trusted; empty: none yet."""
        path = self.folder(place) / "ssh" / "known_hosts"
        if not path.exists() or not path.read_text().strip():
            return ""
        return run(["ssh-keygen", "-l", "-f", path], timeout=10).out.strip()

    def trust_host(self, place: Place) -> str:
        """Ask the SFTP server for its keys and trust them from now on; returns fingerprints."""
        line = ["ssh-keyscan", "-T", "10", "-p", str(place.port), "--", place.host]
        found = run(line, timeout=60, ok=(0, 1)).out
        keys = [one for one in found.splitlines() if one and not one.startswith("#")]
        if not keys:
            raise NotfallError(
                "place-away",
                f"{place.host}:{place.port} tells no key: nothing answers there by SSH.",
                "Is the server on, are host and port right?",
                retry=True,
                status=502,
            )
        shown = f"[{place.host}]:{place.port}" if place.port != 22 else place.host
        lines = [f"{shown} {' '.join(one.split()[1:])}" for one in keys]
        path = self.folder(place) / "ssh" / "known_hosts"
        replace_file(path, ("\n".join(lines) + "\n").encode())
        return self.known_host(place)

    # -- what is known of it ---------------------------------------------------------------------

    def state(self, place: Place) -> dict[str, Any]:
        try:
            return read_json(self.folder(place) / "state.json")
        except (FileNotFoundError, NotfallError):
            return {"made_at": datetime.now(UTC).isoformat(), "media": {}, "key_kept": True}

    def made_at(self, place: Place) -> datetime:
        return datetime.fromisoformat(self.state(place)["made_at"])

    def media(self, place: Place) -> dict[str, Medium]:
        return {name: Medium.from_json(one) for name, one in self.state(place)["media"].items()}

    def medium(self, place: Place, disk: str) -> Medium:
        return self.media(place).get(disk, Medium())

    def note(self, place: Place, disk: str, change: Callable[[Medium], Medium]) -> Medium:
        """Change what is known of one medium, durably."""
        with _writing:
            state = self.state(place)
            known = Medium.from_json(state["media"].get(disk, {}))
            state["media"][disk] = asdict(changed := change(known))
            if self.folder(place).exists():
                replace_json(self.folder(place) / "state.json", state)
        return changed

    def key_kept(self, place: Place) -> bool:
        """Whether a person said that the key lies in a safe place."""
        return bool(self.state(place).get("key_kept"))

    def keep_key(self, place: Place) -> None:
        with _writing:
            replace_json(self.folder(place) / "state.json", {**self.state(place), "key_kept": True})


def _make_ssh(folder: Path, place: Place) -> None:
    folder.mkdir(mode=0o700)
    key = folder / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "notfallserver", "-f", key])
    replace_file(folder / "config", ssh_config(folder, place).encode())


def ssh_config(folder: Path, place: Place) -> str:
    """Settings of ssh for this place alone: nobody's own are read, nothing is asked."""
    lines = (
        "Host place",
        f"HostName {place.host}",
        f"Port {place.port}",
        f"User {place.user}",
        f'IdentityFile "{folder}/key"',
        "IdentitiesOnly yes",
        f'UserKnownHostsFile "{folder}/known_hosts"',
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "BatchMode yes",
        "ServerAliveInterval 15",
        "ServerAliveCountMax 4",
        "ConnectTimeout 30",
    )
    return "\n".join(lines) + "\n"
