"""What a rehearsed copy tells of itself: a line on its serial console, its only way out.

A kernel writes there as well and may cut a line in two, so it carries a checksum and is told again
and again; whoever reads takes the last one that is whole.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

MARK = "notfall-system"
MOST_UNITS = 8
TEXT_LIMIT = 80
_LINE = re.compile(MARK + r" (\{[^\r\n]{0,1500}\}) ([0-9a-f]{8})")
_PLAIN = re.compile(r"[\w.@:\\-]{1,80}")


@dataclass(frozen=True)
class SystemReport:
    """``system`` is what systemd calls its state (running, degraded, starting ...), ``failed`` the
    units that did not start, ``login``: somebody could log in at the screen or a console."""

    system: str
    failed: Tuple[str, ...] = ()
    login: bool = False

    def line(self) -> str:
        body: Dict[str, Any] = {"system": self.system[:TEXT_LIMIT], "login": self.login}
        body["failed"] = [told_name(one) for one in self.failed[:MOST_UNITS]]
        text = json.dumps(body, sort_keys=True)
        return f"{MARK} {text} {_checksum(text)}"


def told_name(unit: str) -> str:
    """A unit's name as the line has it."""
    return unit[:TEXT_LIMIT]


def last_report(text: str) -> Optional[SystemReport]:
    """The last whole line; everything in it comes from a machine that nobody trusts."""
    for body, checksum in reversed(_LINE.findall(text)):
        if _checksum(body) != checksum:
            continue
        try:
            told = json.loads(body)
            system, failed = told["system"], told["failed"]
        except (ValueError, KeyError, TypeError):
            continue
        units: List[str] = failed if isinstance(failed, list) else []
        if isinstance(system, str) and _PLAIN.fullmatch(system):
            named = [one for one in units if isinstance(one, str) and _PLAIN.fullmatch(one)]
            return SystemReport(system, tuple(named[:MOST_UNITS]), told.get("login") is True)
    return None


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
