"""Has a message sent, by a process of its own.

Apprise and the services it talks to are foreign: here they can neither hold up the server, nor
write an address into its log, nor take its memory for long.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import notfallserver
from notfallserver.server.host.run import run
from notfallserver.server.records.receivers import Kind
from notfallserver.server.tell.address import Address, bad_address
from notfallserver.server.tell.notice import Message
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

NONE: Mapping[Path, str] = {}
TIMEOUT_S = 45.0
PROGRAM = "notfallserver.server.tell.send"
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
"""The way out of the company's network, where the server's own environment names one."""


@dataclass(frozen=True)
class Outcome:
    """``answer`` is what the other side said to it, without secrets; empty when nothing."""

    sent: bool
    answer: str


def send(url: str, message: Message, kind: Kind, papers: Mapping[Path, str] = NONE) -> Outcome:
    """Send it now, with files and what they are called; returns within :data:`TIMEOUT_S`, whatever
    the other side does."""
    order = {
        "url": url,
        "title": message.title,
        "body": message.body,
        "kind": kind,
        "papers": {str(path): name for path, name in papers.items()},
    }
    try:
        told = _call(order)
    except NotfallError as error:
        log.warning("a notice could not be sent: %s", error.code)
        return Outcome(False, f"no answer within {TIMEOUT_S:.0f} s")
    return Outcome(told["sent"], told["answer"])


def check(address: Address) -> None:
    """Refuse an address that Apprise doesn't understand; nothing is sent."""
    told = _call({"url": address.url, "check": True})
    if not told["known"]:
        why = told["answer"] or "Apprise knows no such service."
        raise bad_address(f"This address is not understood: {why}")


def _call(order: Mapping[str, Any]) -> dict[str, Any]:
    done = run(
        [sys.executable, "-W", "ignore", "-m", PROGRAM],
        text_in=json.dumps(order),
        timeout=TIMEOUT_S,
        environment={"PYTHONPATH": str(Path(notfallserver.__file__).parents[1]), **_proxies()},
    )
    told: dict[str, Any] = json.loads(done.out)
    return told


def _proxies() -> dict[str, str]:
    names = [name for one in PROXIES for name in (one, one.upper())]
    return {name: os.environ[name] for name in names if name in os.environ}
