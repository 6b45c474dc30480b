"""Setting up a server: may be run any number of times, makes only what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.addresses import own_urls, server_names
from notfallserver.server.authority import create_authority
from notfallserver.server.host.files import replace_file
from notfallserver.server.ready_pool import ready_pool
from notfallserver.server.records import open_catalogue
from notfallserver.server.records.passwords import make_password
from notfallserver.server.settings import Settings, load_settings
from notfallserver.wire.errors import NotfallError

ADMINISTRATOR = "admin"


@dataclass(frozen=True)
class SetUp:
    """A server that is ready; ``password`` only where one was made now."""

    settings_file: str
    data_dir: str
    pool: str
    reflink: bool
    urls: tuple[str, ...]
    fingerprint: str
    administrator: str
    password: str | None


def write_settings(
    path: Path, wished: dict[str, str | int | Path], further: Sequence[str] = ()
) -> Settings:
    """Make the settings file of what was wished, and ``further`` lines; one that is there is used
    as it is."""
    if path.exists():
        settings = load_settings(path)
        for key, value in wished.items():
            if getattr(settings, key) != value:
                raise NotfallError(
                    "settings-exist",
                    f"{path} says {key} = {getattr(settings, key)!s}, not {value!s}.",
                    f"Edit {path}, or leave the option out.",
                )
        return settings
    lines = ["# Settings of this emergency server. A key that is not here has its default.", ""]
    for key, value in wished.items():
        plain = str(value).lower() if isinstance(value, int) else _quoted(str(value))
        lines.append(f"{key} = {plain}")
    lines += further
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, ("\n".join(lines) + "\n").encode(), 0o644)
    try:
        return load_settings(path)
    except NotfallError:
        path.unlink()
        raise


def set_up(path: Path, settings: Settings, new_password: bool) -> SetUp:
    """Directories, certificate authority, catalogue, pool, password."""
    # Not 0700: libvirt's QEMU opens the images below as its own user.
    settings.data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    authority = create_authority(settings.data_dir / "ca")
    authority.ensure_server_certificate(server_names(settings))
    place = ready_pool(settings)
    password = None
    catalogue = open_catalogue(settings.data_dir)
    try:
        catalogue.sessions.keep_cli_token(settings.data_dir / "cli-token")
        if new_password or not catalogue.people.has_administrator():
            password = make_password()
            catalogue.people.keep_administrator(ADMINISTRATOR, password, "root")
    finally:
        catalogue.close()
    return SetUp(
        settings_file=str(path),
        data_dir=str(settings.data_dir),
        pool=str(place.directory),
        reflink=place.reflink,
        urls=own_urls(settings),
        fingerprint=authority.fingerprint,
        administrator=ADMINISTRATOR,
        password=password,
    )


def _quoted(text: str) -> str:
    """A TOML basic string."""
    safe = text.replace("\\", "\\\\").replace('"', '\\"')
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in safe):
        raise NotfallError("bad-settings", "A setting holds a control character.")
    return f'"{safe}"'
