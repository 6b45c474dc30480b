"""What can switch a machine off from afar, as the person who set it up described it. Pure.

``agent`` is the name of one of Debian's fence agents ("ipmilan", "redfish", "apc_snmp" ...) or
"script/NAME" for one of one's own; ``options`` are what that agent needs to know.

Whoever may change settings on the page need not be root of this server. So a script must lie in a
directory of root's, and no option may name a program, a script or a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from notfallserver.wire.errors import NotfallError

FENCE = "fence"
"""The key of a primary's device among its notes."""
MASK = "***"
"""Stands for a secret wherever a device is shown; sent back, the secret stays as it is."""
SCRIPT = "script/"
_AGENT = re.compile(r"(script/[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}|[a-z0-9][a-z0-9_]{0,39})")
_OPTION = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SECRET = re.compile(r"passw|passwd|secret|token|key|community", re.I)
_REFUSED = re.compile(r"action|agent|verbose.*|debug.*|.*_(path|script|file|options)")
"""What the server says itself, what would write secrets into a log, and what names programs."""
MOST_OPTIONS = 40
LONGEST = 1000


@dataclass(frozen=True)
class FenceDevice:
    agent: str
    options: Mapping[str, str]

    @property
    def is_script(self) -> bool:
        return self.agent.startswith(SCRIPT)

    @property
    def place(self) -> str:
        """Where it is, for people: no secret."""
        where = self.options.get("ip", "")
        return f"{self.agent} {where}".strip()

    def masked(self) -> dict[str, str]:
        """The options, without what is secret."""
        return {key: MASK if is_secret(key) else told for key, told in self.options.items()}

    def secrets(self) -> tuple[str, ...]:
        return tuple(told for key, told in self.options.items() if is_secret(key) and told)

    def to_json(self) -> dict[str, Any]:
        return {"agent": self.agent, "options": dict(self.options)}


def is_secret(option: str) -> bool:
    return _SECRET.search(option) is not None


def read_device(notes: Mapping[str, Any]) -> FenceDevice | None:
    """The device in the notes of a primary."""
    kept = notes.get(FENCE)
    if not kept:
        return None
    return FenceDevice(str(kept["agent"]), {str(k): str(v) for k, v in kept["options"].items()})


def describe(agent: str, options: Mapping[str, str], before: FenceDevice | None) -> FenceDevice:
    """A device as somebody described it; secrets that were sent masked are those of ``before``."""
    agent = agent.strip().removeprefix("fence_")
    if not _AGENT.fullmatch(agent):
        raise _bad(f"'{agent[:80]}' is no name of a fence agent, and not script/NAME")
    if len(options) > MOST_OPTIONS:
        raise _bad("There are too many options")
    known = before.options if before and before.agent == agent else {}
    told: dict[str, str] = {}
    for key, given in options.items():
        name = key.strip().replace("-", "_").lower()
        if not _OPTION.fullmatch(name) or _REFUSED.fullmatch(name):
            raise _bad(f"'{key[:80]}' is no option that can be set")
        value = known.get(name, "") if given == MASK and is_secret(name) else given.strip()
        # The agent reads one option a line: a line break would smuggle in another.
        if len(value) > LONGEST or not value.isprintable():
            raise _bad(f"The value of '{name}' can't be used")
        if value:
            told[name] = value
    return FenceDevice(agent, told)


def _bad(why: str) -> NotfallError:
    return NotfallError(
        "bad-fence-device",
        f"{why}.",
        "Name a fence agent such as ipmilan or redfish with ip, username and password, or "
        "script/NAME for one of your own.",
        status=422,
    )
