"""The part ``applications`` of the agent's settings, checked.

``own`` is in the order of holding; entries that name a recipe change how that one is held. What is
found and not named comes last. Letting go is in reverse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Mapping, Tuple

from notfallserver.agent.applications.application import (
    FREEZE_SECONDS,
    PREPARE_SECONDS,
    THAW_SECONDS,
)

RECIPES = ("postgresql", "mariadb", "mysql", "redis", "mongodb")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")
_COMMANDS = ("prepare", "freeze", "thaw", "hold")
_SECONDS = {"prepare_seconds": 3600.0, "freeze_seconds": 300.0, "thaw_seconds": 300.0}
MOST = 64


class BadSettings(ValueError):
    """What is wrong, in words that follow 'cannot be used:'."""


@dataclass(frozen=True)
class Own:
    """One application that a person described, or how a recipe is to be used."""

    name: str = ""
    recipe: str = ""
    prepare: Tuple[str, ...] = ()
    freeze: Tuple[str, ...] = ()
    thaw: Tuple[str, ...] = ()
    hold: Tuple[str, ...] = ()
    user: str = ""
    environment: Dict[str, str] = field(default_factory=dict)
    prepare_seconds: float = PREPARE_SECONDS
    freeze_seconds: float = FREEZE_SECONDS
    thaw_seconds: float = THAW_SECONDS
    required: bool = False


@dataclass(frozen=True)
class ApplicationSettings:
    """``limit_seconds``: after so long everything is let go, whatever the run is doing."""

    auto: bool = True
    leave_out: Tuple[str, ...] = ()
    limit_seconds: float = 30.0
    scripts: str = "/etc/notfall-agent/applications.d"
    own: Tuple[Own, ...] = ()


def read_settings(read: Any) -> ApplicationSettings:
    """Check what was read from JSON. Raises :class:`BadSettings`."""
    known = _known(read, ApplicationSettings, "applications")
    if not isinstance(known.get("auto", True), bool):
        raise BadSettings("applications.auto must be true or false")
    if "leave_out" in known:
        known["leave_out"] = _words(known["leave_out"], "applications.leave_out")
        for one in known["leave_out"]:
            _recipe(one, "applications.leave_out")
    if "limit_seconds" in known:
        _seconds(known["limit_seconds"], 300, "applications.limit_seconds")
    if not isinstance(known.get("scripts", ""), str):
        raise BadSettings("applications.scripts must be a directory's name")
    own = known.get("own", [])
    if not isinstance(own, list) or len(own) > MOST:
        raise BadSettings(f"applications.own must be a list of at most {MOST}")
    known["own"] = tuple(_own(one, f"applications.own[{at}]") for at, one in enumerate(own))
    names = [one.name or one.recipe for one in known["own"]]
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise BadSettings(f"applications.own names {', '.join(twice)} twice")
    return ApplicationSettings(**known)


def _known(read: Any, kind: type, where: str) -> Dict[str, Any]:
    if not isinstance(read, Mapping):
        raise BadSettings(f"{where} must be an object")
    names = {one.name for one in fields(kind)}
    unknown = sorted(str(name) for name in read if name not in names)
    if unknown:  # a misspelt 'thaw' must not go unnoticed
        raise BadSettings(f"{where} has no setting {', '.join(unknown)}")
    return dict(read)


def _own(read: Any, where: str) -> Own:
    known = _known(read, Own, where)
    for name in ("name", "recipe", "user"):
        if not isinstance(known.get(name, ""), str):
            raise BadSettings(f"{where}.{name} must be a text")
    for name in _COMMANDS:
        known[name] = _words(known.get(name, []), f"{where}.{name}")
    for name, most in _SECONDS.items():
        if name in known:
            _seconds(known[name], most, f"{where}.{name}")
    environment = known.get("environment", {})
    if not isinstance(environment, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in environment.items()
    ):
        raise BadSettings(f"{where}.environment must be an object of texts")
    if not isinstance(known.get("required", False), bool):
        raise BadSettings(f"{where}.required must be true or false")
    one = Own(**known)
    if one.recipe:
        _recipe(one.recipe, where)
        if one.name or one.user or any(getattr(one, name) for name in _COMMANDS):
            raise BadSettings(f"{where} names a recipe, so it can't have name, user or commands")
    elif not _NAME.fullmatch(one.name):
        raise BadSettings(f"{where} needs a name of letters and digits, or a recipe")
    elif bool(one.hold) == bool(one.freeze or one.thaw):
        raise BadSettings(f"{where} needs either freeze and thaw, or hold")
    elif not one.hold and not (one.freeze and one.thaw):
        raise BadSettings(f"{where} needs both freeze and thaw")
    return one


def _recipe(name: str, where: str) -> None:
    if name not in RECIPES:
        raise BadSettings(f"{where} names {name}, but there are only {', '.join(RECIPES)}")


def _words(read: Any, where: str) -> Tuple[str, ...]:
    if not isinstance(read, list) or not all(isinstance(x, str) and "\0" not in x for x in read):
        raise BadSettings(f'{where} must be a list of texts, like ["/usr/bin/program", "argument"]')
    words: List[str] = list(read)
    return tuple(words)


def _seconds(read: Any, most: float, where: str) -> None:
    right = isinstance(read, (int, float)) and not isinstance(read, bool) and 1 <= read <= most
    if not right:
        raise BadSettings(f"{where} must be between 1 and {most:g}")
