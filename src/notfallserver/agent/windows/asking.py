"""Asking the servers whether this machine's stand-in works, by its own addresses and without any.

``near.json`` has the link-local addresses under which each server is found, by its URL; the server
tells them with the answer to a first poll. Link-local addresses need a segment: its index.
"""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from notfallserver import VERSION
from notfallserver.agent.addresses import recall
from notfallserver.agent.files import write_whole
from notfallserver.agent.role import recovery, role
from notfallserver.agent.servers import known_servers
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

NEAR = "near.json"
_MOST = 8
_CALL_S = 5.0
_NEAR_S = 2.0
"""A link-local address is on the same segment, or not there."""
_IN_ALL_S = 15.0
"""After so long no further address is tried: cards must be looked at again."""
_BYE_S = 2.0
_POLL_S = 15.0
"""A server that has no order holds the answer for 5 s."""


# -- where the servers are -------------------------------------------------------------------------


def remember_near(directory: Path, url: str, near: Sequence[str]) -> None:
    """Nothing is forgotten because a server did not tell."""
    if not url or not near:
        return
    known = recall_near(directory)
    told = tuple(near[:_MOST])
    if known.get(url) == told:
        return
    text = json.dumps({**known, url: told}, indent=1, sort_keys=True) + "\n"
    try:
        write_whole(directory / NEAR, text.encode())
    except OSError as error:
        log.warning("%s cannot be written (%s)", directory / NEAR, error)


def recall_near(directory: Path) -> Dict[str, Tuple[str, ...]]:
    """Empty where nothing was kept, or it is damaged."""
    try:
        told = json.loads((directory / NEAR).read_text(encoding="utf-8"))
        return {str(url): tuple(str(one) for one in found) for url, found in told.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be used (%s)", directory / NEAR, error)
        return {}


def all_near(directory: Path) -> List[str]:
    """Those of all servers that this machine is replicated to now."""
    known = recall_near(directory)
    found: List[str] = []
    for server in _servers(directory):
        found += [one for one in known.get(server.url, ()) if one not in found]
    return found


# -- asking ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Address:
    """``files``: where its certificates are."""

    url: str
    files: Path


def _servers(directory: Path) -> List[_Address]:
    found = []
    for server in known_servers(directory):
        try:
            found.append(_Address(server.settings().url, server.directory))
        except NotfallError as error:
            log.warning("%s", error)
    return found


class Asking:
    """Of one agent; ``boot_id`` is what the server knows this start of the machine by."""

    def __init__(self, directory: Path, boot_id: Callable[[], str]) -> None:
        self._directory = directory
        self._boot_id = boot_id
        self._turn = 0  # with which of several addresses it begins, while none leads anywhere

    def by_own_addresses(self, indexes: Sequence[int]) -> Optional[bool]:
        """Whether a server orders this machine, as it is on the network, to stay off; None where
        none can be reached. ``indexes``: of segments on which a server is looked for as well."""
        body = {
            "boot_id": self._boot_id(),
            "role": role(self._directory),
            "recovery": recovery(self._directory),
            "agent": VERSION,
            "busy": True,  # no order that would be lost
            "can": [],
        }

        def ask(server: _Address) -> Optional[bool]:
            urls = [*recall(server.files, server.url).ordered, *self._nearby(server, indexes)]
            answer = _call(server, urls, "/agent/v1/poll", body, _POLL_S)
            return None if answer is None else answer.get("order") == "stay-off"

        told = [one for one in self._each(ask) if one is not None]
        return any(told) if told else None

    def without(self, index: int, because: str) -> Optional[bool]:
        """Tell on this segment that this machine keeps off, and ask whether it must go on.

        False only if all servers say so: each knows of its own stand-in only. None where that is
        open.
        """

        def ask(server: _Address) -> Optional[bool]:
            urls = self._nearby(server, [index])
            answer = _call(server, urls, "/agent/v1/kept-off", self._kept_off(because), _CALL_S)
            return None if answer is None else answer.get("stay") is not False

        told = self._each(ask)
        if any(one is True for one in told):
            return True
        return False if told and None not in told else None

    def say_goodbye(self, because: str) -> None:
        """Tell by its own addresses that this machine leaves the network now, where it will have
        no other way to tell."""

        def tell(server: _Address) -> Optional[bool]:
            urls = recall(server.files, server.url).ordered[:1]
            _call(server, urls, "/agent/v1/kept-off", self._kept_off(because), _BYE_S)
            return None

        self._each(tell)

    def _kept_off(self, because: str) -> Dict[str, object]:
        return {
            "boot_id": self._boot_id(),
            "recovery": recovery(self._directory),
            "because": because,
        }

    def _nearby(self, server: _Address, indexes: Sequence[int]) -> List[str]:
        port = urlsplit(server.url).port or 443
        near = recall_near(self._directory).get(server.url, ())
        found = [f"https://[{one}%{index}]:{port}" for index in indexes for one in near]
        turn = self._turn % len(found) if found else 0
        return found[turn:] + found[:turn]

    def _each(self, ask: Callable[[_Address], Optional[bool]]) -> List[Optional[bool]]:
        """All at once: one that is away must not delay what the other one says."""
        servers = _servers(self._directory)
        if not servers:
            return []
        with ThreadPoolExecutor(len(servers)) as threads:
            told = list(threads.map(ask, servers))
        self._turn += None in told
        return told


def _call(
    server: _Address, urls: Sequence[str], path: str, body: Mapping[str, object], seconds: float
) -> Optional[Mapping[str, object]]:
    """The first answer; None if none of the addresses leads to the server."""
    try:
        context = tls_context(
            (server.files / "ca.pem").read_text(),
            str(server.files / "cert.pem"),
            str(server.files / "key.pem"),
        )
    except OSError as error:
        log.warning("the certificates in %s cannot be read (%s)", server.files, error)
        return None
    until = time.monotonic() + _IN_ALL_S
    for url in urls:
        client = Client(url, context, timeout=_NEAR_S if "%" in url else _CALL_S)
        try:
            return client.call("POST", path, body, seconds)
        except NotfallError as error:
            log.debug("%s: %s", url, error)
        finally:
            client.close()
        if time.monotonic() > until:
            break
    return None
