"""A place that versions are carried to: what a person says of it, checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from notfallserver.wire.errors import NotfallError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9:._-]{1,253}", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_UUID = re.compile(r"[A-Fa-f0-9-]{4,36}", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,63}(/[A-Za-z0-9._-]+)*/?", re.ASCII)
SECRETS = ("access_key", "secret_key", "user_name", "password")


class Kind(StrEnum):
    DIRECTORY = "directory"
    DISK = "disk"  # removable, one or several in rotation
    SFTP = "sftp"
    S3 = "s3"
    REST = "rest"


@dataclass(frozen=True)
class Keep:
    """How many off-loads are kept of each primary; all 0: nothing is ever removed."""

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    @property
    def rules(self) -> tuple[tuple[str, int], ...]:
        return tuple((name, count) for name, count in asdict(self).items() if count)


@dataclass(frozen=True)
class Place:
    """``path``: the directory; on a disk or by SFTP the folder; bucket (and folder) in S3; what
    follows the address of a REST server. ``url`` is the address of S3 or REST. ``primaries`` are
    UUIDs, none: all. ``times`` (HH:MM, of this machine's clock): when it is off-loaded every day.
    ``disks`` are UUIDs of filesystems. ``check_days``: it is checked so often, 0: by hand."""

    id: str
    name: str
    kind: Kind
    path: str = ""
    url: str = ""
    host: str = ""
    port: int = 22
    user: str = ""
    region: str = ""
    disks: tuple[str, ...] = ()
    primaries: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    every_version: bool = False
    keep: Keep = field(default_factory=Keep)
    append_only: bool = False
    check_days: int = 7

    @property
    def shown(self) -> str:
        """Where it is, without any secret."""
        if self.kind is Kind.DISK:
            return ", ".join(self.disks)
        if self.kind is Kind.SFTP:
            return f"sftp://{self.user}@{self.host}:{self.port}/{self.path.lstrip('/')}"
        if self.kind in (Kind.S3, Kind.REST):
            return f"{self.url.rstrip('/')}/{self.path.lstrip('/')}"
        return self.path

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Place:
        known = dict(body)
        for name in ("disks", "primaries", "times"):
            known[name] = tuple(known.get(name, ()))
        return cls(**{**known, "kind": Kind(known["kind"]), "keep": Keep(**known["keep"])})


def _bad(why: str, remedy: str) -> NotfallError:
    return NotfallError("bad-place", why, remedy, status=422)


def check_place(place: Place, secrets: Mapping[str, str]) -> None:
    """Refuse what can't be a place, before anything is made."""
    if not _NAME.fullmatch(place.name):
        raise _bad(
            f"'{place.name[:60]}' can't be the name of a place.",
            "Use 1 to 40 letters, digits, dots, dashes and underscores.",
        )
    _check_where(place)
    if place.kind is Kind.S3 and not (secrets.get("access_key") and secrets.get("secret_key")):
        raise _bad("An S3 place needs an access key and a secret key.", "Give both.")
    if unknown := set(secrets) - set(SECRETS):
        raise _bad(f"Nobody knows a secret '{min(unknown)}'.", f"There are {', '.join(SECRETS)}.")
    if any(not value.isprintable() or len(value) > 500 for value in secrets.values()):
        raise _bad("A secret holds what can't be typed.", "Copy it anew.")
    for one in place.times:
        if not _TIME.fullmatch(one):
            raise _bad(f"'{one[:20]}' is no time of day.", "Write it as 21:30.")
    if any(not 0 <= count <= 10000 for count in asdict(place.keep).values()):
        raise _bad("So many off-loads can't be kept.", "Take numbers from 0 to 10000.")
    if not 0 <= place.check_days <= 3650:
        raise _bad("So seldom nothing is checked.", "Take 0 to 3650 days.")


def _check_where(place: Place) -> None:
    if not place.path.isprintable() or ".." in place.path.split("/"):
        raise _bad("The path holds what a path can't.", "Write it plainly.")
    if place.kind is Kind.DIRECTORY and not place.path.startswith("/"):
        raise _bad(f"'{place.path[:80]}' is no whole path.", "Begin it with /.")
    if place.kind is Kind.DISK and not (
        place.disks and all(_UUID.fullmatch(one) for one in place.disks)
    ):
        raise _bad(
            "A removable disk is known by the UUID of its filesystem.",
            "Plug it in and look: blkid, or lsblk -f.",
        )
    if place.kind is Kind.SFTP and not (
        _HOST.fullmatch(place.host)
        and _USER.fullmatch(place.user)
        and 0 < place.port < 65536
        and place.path
    ):
        raise _bad("A place by SFTP needs host, user, port and path.", "Give all of them.")
    if place.kind in (Kind.S3, Kind.REST):
        parts = urlsplit(place.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise _bad(
                f"'{place.url[:80]}' is no address of a server.",
                "Write https://HOST or https://HOST:PORT; names and passwords go elsewhere.",
            )
    if place.kind is Kind.S3 and not _BUCKET.fullmatch(place.path):
        raise _bad("An S3 place needs a bucket.", "Write BUCKET or BUCKET/FOLDER.")


@dataclass(frozen=True)
class Medium:
    """What is known of one repository of a place: of each disk in rotation, else the only one.

    Moments are ISO 8601 in UTC, empty: never. ``problem`` is the code of what failed last, with its
    ``told``; empty where all is well. ``unclean``: the engine was broken off while it wrote.
    ``distrusted``: what lies there is not right, so all is read again the next time.
    """

    made_at: str = ""
    tried_at: str = ""
    done_at: str = ""
    problem: str = ""
    told: str = ""
    checked_at: str = ""
    check_tried_at: str = ""
    check_problem: str = ""
    check_part: int = 0
    pruned_at: str = ""
    added: int = 0
    unclean: bool = False
    distrusted: bool = False

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Medium:
        return cls(**{key: body[key] for key in body if key in cls.__dataclass_fields__})


RETRY = timedelta(minutes=30)
"""After a failed off-load the schedule waits so long."""
GRACE = timedelta(hours=6)
"""An off-load is overdue so long after its time."""
ROTATES = timedelta(days=8)
"""One of several disks should have been plugged in within that time."""


def last_time(times: tuple[str, ...], now: datetime) -> datetime | None:
    """The last moment of the schedule before ``now`` (which has a zone); None without one."""
    moments = [
        datetime.combine(now.date() - timedelta(days=back), time.fromisoformat(one), now.tzinfo)
        for one in times
        for back in (0, 1)
    ]
    return max((one for one in moments if one <= now), default=None)


def next_time(times: tuple[str, ...], now: datetime) -> datetime | None:
    """The next moment of the schedule."""
    moments = [
        datetime.combine(now.date() + timedelta(days=on), time.fromisoformat(one), now.tzinfo)
        for one in times
        for on in (0, 1)
    ]
    return min((one for one in moments if one > now), default=None)


def is_due(place: Place, medium: Medium, now: datetime, came_at: datetime | None = None) -> bool:
    """Whether it is to be off-loaded now; ``came_at``: when this disk was plugged in."""
    wanted = last_time(place.times, now)
    if came_at is not None and (wanted is None or came_at > wanted):
        wanted = came_at
    if wanted is None or (medium.done_at and datetime.fromisoformat(medium.done_at) >= wanted):
        return False
    tried = datetime.fromisoformat(medium.tried_at) if medium.tried_at else None
    return tried is None or tried < wanted or now - tried >= RETRY


def check_is_due(place: Place, medium: Medium, now: datetime) -> bool:
    """Whether it is to be checked now; a check that failed to happen is tried after a while."""
    if not place.check_days or not medium.done_at:
        return False
    since = medium.checked_at or medium.made_at
    if not since or now - datetime.fromisoformat(since) < timedelta(days=place.check_days):
        return False
    tried = medium.check_tried_at
    return not tried or now - datetime.fromisoformat(tried) >= 12 * timedelta(hours=1)


class Standing(StrEnum):
    """How a place stands, worst first."""

    FAILED = "failed"
    DAMAGED = "damaged"
    OVERDUE = "overdue"
    NEW = "new"
    WELL = "well"


def stands(place: Place, media: Mapping[str, Medium], made: datetime, now: datetime) -> Standing:
    """Pure: from what is known of the media of a place; ``made``: when it was added."""
    if any(one.check_problem for one in media.values()):
        return Standing.DAMAGED
    if any(one.problem for one in media.values()):
        return Standing.FAILED
    done = max((one.done_at for one in media.values() if one.done_at), default="")
    last = datetime.fromisoformat(done) if done else None
    if place.kind is Kind.DISK:
        if now - (last or made) > ROTATES:
            return Standing.OVERDUE
    else:
        wanted = last_time(place.times, now - GRACE)
        if wanted is not None and wanted > made and (last is None or last < wanted):
            return Standing.OVERDUE
    return Standing.WELL if last else Standing.NEW
