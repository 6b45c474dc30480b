"""The settings of one emergency server: one TOML file, checked as a whole when it is read.

Every key has a default that suits a fresh Debian machine with a bridge ``br0``. A key nobody knows
is an error, because a misspelt setting that is silently ignored shows itself in the emergency.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import tomllib
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from notfallserver.wire.errors import NotfallError

DEFAULT_PATH = Path("/etc/notfallserver/notfall.toml")


class GuardSettings(BaseModel):
    """``[guard]``: how the server finds out whether it is itself cut off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    witnesses: tuple[str, ...] = ()
    """Addresses that normally answer ping, beside the gateway: a switch, another site."""
    ignored_networks: tuple[str, ...] = ()
    """Networks in which a primary serves nobody, such as one for storage: the guard does not ask
    its addresses there, and so need not be able to."""

    @field_validator("witnesses")
    @classmethod
    def are_addresses(cls, witnesses: tuple[str, ...]) -> tuple[str, ...]:
        """Names are refused: in an outage nobody may be there to tell what they mean."""
        return tuple(str(ip_address(one)) for one in witnesses)

    @field_validator("ignored_networks")
    @classmethod
    def are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_network(one)) for one in networks)


CHANGEABLE = (
    "witnesses",
    "further_urls",
    "schedule_minutes",
    "capture_minutes",
    "scrub_days",
    "scrub_mib_s",
    "rehearsal_days",
    "rehearse_each_copy",
    "trial_hours",
    "heartbeat_timeout_s",
    "keep_all_hours",
    "keep_hourly",
    "keep_daily",
    "keep_weekly",
    "keep_monthly",
    "keep_yearly",
    "keep_proven",
    "keep_floor_days",
    "make_room_percent",
    "deletion_hours",
)
"""What may be changed while the server runs, because it is asked for anew each time."""


class Settings(BaseSettings):
    """All settings; sizes and times carry their unit in the name."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    data_dir: Path = Path("/var/lib/notfallserver")
    pool_path: Path = Path("/var/lib/notfallserver/pool")
    pool_image_gib: int = Field(default=100, ge=1, le=1 << 20)
    """Size of the sparse XFS image that is made where ``pool_path`` can't reflink."""
    company: str = Field(default="", max_length=60)
    """Whose servers these are, for reports; empty: as it is written on the emergency card."""
    listen_host: str = Field(default="::", min_length=1, max_length=255)
    """``::`` listens on every address, IPv4 and IPv6."""
    listen_port: int = Field(default=8443, ge=1, le=65535)
    urls: tuple[str, ...] = ()
    """Addresses that agents use, as ``https://HOST:PORT``; empty: made of this host's addresses."""
    further_urls: tuple[str, ...] = Field(default=(), max_length=8)
    """Where agents look for this server as well: addresses of a machine that is to replace it."""
    lan_bridge: str = Field(default="br0", pattern=r"^[A-Za-z0-9._-]{1,15}$")
    accelerator: Literal["kvm", "tcg"] = "kvm"
    libvirt_uri: str = Field(default="qemu:///system", min_length=1)
    standin_memory_mib: int = Field(default=0, ge=0, le=1 << 24)
    """A stand-in gets at most this much memory; 0: as much as its primary has."""
    heartbeat_timeout_s: int = Field(default=60, ge=10, le=86400)
    schedule_minutes: int = Field(default=60, ge=0, le=525600)
    """Minutes between replications of a new primary; 0: only on request."""
    capture_minutes: int = Field(default=15, ge=0, le=525600)
    """Minutes between captures of a stand-in; 0: only on request."""
    scrub_days: int = Field(default=7, ge=0, le=3650)
    """All versions are read and checked this often, in days; 0: only on request."""
    scrub_mib_s: int = Field(default=100, ge=0, le=1 << 20)
    """So fast versions are read for that, in MiB a second; 0: as fast as the disks can."""
    rehearsal_days: int = Field(default=7, ge=0, le=3650)
    """Every copy is rehearsed this often, in days; 0: only on request."""
    rehearse_each_copy: int = Field(default=0, ge=0, le=1)
    """1: every new copy is rehearsed as well, where memory and processors are free and nothing else
    is under way."""
    rehearsal_minutes: int = Field(default=30, ge=1, le=1440)
    """A rehearsal ends by itself after so many minutes."""
    trial_hours: int = Field(default=24, ge=0, le=24 * 90)
    """So long after a switch-back one click leads back to the stand-in; 0: not at all."""
    keep_all_hours: int = Field(default=24, ge=0, le=24 * 366)
    """Every version of so many hours before the newest stays."""
    keep_hourly: int = Field(default=48, ge=0, le=24 * 366)
    """Of so many hours in which there are versions, the last one of each stays; below likewise."""
    keep_daily: int = Field(default=14, ge=0, le=3660)
    keep_weekly: int = Field(default=8, ge=0, le=1000)
    keep_monthly: int = Field(default=12, ge=0, le=600)
    keep_yearly: int = Field(default=3, ge=0, le=100)
    keep_proven: int = Field(default=2, ge=1, le=100)
    """So many versions that are proven to start stay, however old they are."""
    keep_floor_days: int = Field(default=7, ge=1, le=100)
    """Of so many days the last version of each stays even when the pool is nearly full."""
    make_room_percent: int = Field(default=5, ge=0, le=50)
    """When less of the pool is free, versions go before their time; 0: never."""
    deletion_hours: int = Field(default=72, ge=1, le=24 * 90)
    """So long a version that somebody deletes can still be had back."""
    protect_versions: bool = True
    """Versions get the immutable flag where the pool's filesystem has it."""
    share_blocks: bool = True
    """A primary's content that another primary's version holds already is not sent."""
    rescue_cache: Path | None = None
    """Where the slow part of the rescue medium is kept; default: in ``data_dir``."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    guard: GuardSettings = GuardSettings()

    @field_validator("urls", "further_urls")
    @classmethod
    def are_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_server_url(one) for one in urls)

    def changed(self, wishes: Mapping[str, Any]) -> Settings:
        """These settings with some of :data:`CHANGEABLE` in place of the file's; checked as a
        whole."""
        unknown = set(wishes) - set(CHANGEABLE)
        if unknown:
            raise NotfallError(
                "bad-settings",
                f"Not to be changed while the server runs: {', '.join(sorted(unknown))}.",
                "Change it in the settings file and restart the server.",
                status=422,
            )
        if not wishes:
            return self
        guard = {"witnesses": wishes["witnesses"]} if "witnesses" in wishes else {}
        plain = {key: value for key, value in wishes.items() if key != "witnesses"}
        try:
            known = self.model_dump()
            return Settings(**{**known, **plain, "guard": {**known["guard"], **guard}})
        except ValidationError as error:
            raise NotfallError("bad-settings", _explain(error), status=422) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file alone decides: a variable in somebody's environment must not change a server."""
        return (init_settings,)


def _server_url(text: str) -> str:
    """Agents know a server by its certificate, so it is always HTTPS, and nothing but a host."""
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("an address is written https://HOST:PORT")
    if parts.port == 0:  # raises by itself where it is no number
        raise ValueError("a port is a number from 1 to 65535")
    return text.rstrip("/")


def settings_path(given: Path | None = None) -> Path:
    """Where the settings are: as given, else ``$NOTFALL_CONFIG``, else the default path."""
    return given or Path(os.environ.get("NOTFALL_CONFIG") or DEFAULT_PATH)


def load_settings(given: Path | None = None) -> Settings:
    """Read and check the settings; a file that is missing or wrong is a clear error."""
    path = settings_path(given)
    if not path.is_file():
        raise NotfallError(
            "no-settings",
            f"There is no settings file {path}.",
            "Run 'notfall server init', or name the file with --config or NOTFALL_CONFIG.",
        )
    try:
        return Settings(**TomlConfigSettingsSource(Settings, path)())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _bad_settings(path, f"it is no TOML: {error}") from None
    except ValidationError as error:
        raise _bad_settings(path, _explain(error)) from None
    except OSError as error:
        raise _bad_settings(path, f"it cannot be read: {error.strerror}") from None


def _bad_settings(path: Path, why: str) -> NotfallError:
    return NotfallError(
        "bad-settings", f"The settings file {path} is wrong: {why}", f"Edit {path}."
    )


def _explain(error: ValidationError) -> str:
    told = []
    for one in error.errors():
        key = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            model = GuardSettings if key.startswith("guard.") else Settings
            allowed = ", ".join(sorted(model.model_fields))
            told.append(f"key '{key}' is not known; allowed are {allowed}.")
        else:
            told.append(f"key '{key}': {one['msg']} (it is {one['input']!r}).")
    return " ".join(told)
