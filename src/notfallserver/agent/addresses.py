"""Under which addresses a server is found: that of its invitation, and those that it told since.

``addresses.json`` beside the server's certificate: the invitation's address (``url``), so that what
was told by another enrolment counts no more; the others (``told``), best first; and the one that
answered last (``last``), which is tried first. A server is known by its CA and not by its address,
so each of them may be tried without risk. Without the file there is only the invitation's.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Callable, List, Tuple
from urllib.parse import urlsplit

from notfallserver.agent.files import write_whole

log = logging.getLogger("notfall-agent")

FILE = "addresses.json"
MOST = 16
_LONGEST = 300

_writing = threading.Lock()


@dataclass(frozen=True)
class Addresses:
    """URLs; ``last`` is empty while the invitation's leads to the server."""

    url: str
    told: Tuple[str, ...] = ()
    last: str = ""

    @property
    def ordered(self) -> Tuple[str, ...]:
        """All of them, each once, as they are to be tried."""
        known = (self.url, *self.told)
        first = (self.last,) if self.last in known else ()
        return tuple(dict.fromkeys((*first, *known)))


def recall(directory: Path, url: str) -> Addresses:
    """What is known of the server at ``url``, whose files are in ``directory``."""
    try:
        told = json.loads((directory / FILE).read_text(encoding="utf-8"))
        if told["url"] != url:
            return Addresses(url)
        return Addresses(url, usable(told["told"]), str(told["last"]))
    except FileNotFoundError:
        return Addresses(url)
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.warning("%s cannot be used (%s)", directory / FILE, error)
        return Addresses(url)


def remember(directory: Path, url: str, told: object) -> None:
    """Keep what the server told; nothing is forgotten because it did not tell.

    Is the invitation's address its own, that is tried first again: it may be the better way. Else
    whoever answers there is not the one that took its place.
    """
    if found := usable(told):
        own = url.rstrip("/") in found
        _change(
            directory, url, lambda known: replace(known, told=found, last="" if own else known.last)
        )


def answered(directory: Path, url: str, by: str) -> None:
    """The server was found at ``by``."""
    _change(directory, url, lambda known: replace(known, last="" if by == url else by))


def usable(told: object) -> Tuple[str, ...]:
    """Those of a list that are addresses of a server."""
    found: List[str] = []
    for one in told if isinstance(told, (list, tuple)) else ():
        if isinstance(one, str) and len(one) <= _LONGEST and _is_address(one):
            found.append(one.rstrip("/"))
    return tuple(dict.fromkeys(found))[:MOST]


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _change(directory: Path, url: str, change: Callable[[Addresses], Addresses]) -> None:
    with _writing:
        known = recall(directory, url)
        now = change(known)
        if now == known:
            return
        try:
            text = json.dumps(asdict(now), indent=1) + "\n"
            write_whole(directory / FILE, text.encode())
        except OSError as error:
            log.warning("%s cannot be written (%s)", directory / FILE, error)
