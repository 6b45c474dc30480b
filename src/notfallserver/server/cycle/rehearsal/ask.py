"""Has a server's own checks made, in the network that only its copy is in.

The copy may answer anything, for as long as it likes: what is read is bounded in size and time,
and a certificate proves nothing here, because nobody else can be there.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from notfallserver.server.cycle.rehearsal.checks import Kind, OwnCheck, address_of, port_of
from notfallserver.server.host.hidden_network import HiddenNetwork
from notfallserver.server.host.run import CommandFailed
from notfallserver.server.pool.proof import ServiceCheck
from notfallserver.wire.errors import NotfallError

ANSWERS_WITHIN_S = 10.0
PAGE_LIMIT = 1 << 20
SCRIPT_S = 60.0
"""One try of a script ends after so many seconds."""
AGAIN_S = 2.0
TOLD = 300

Pause = Callable[[float], None]
"""Waits so many seconds; raises when the rehearsal is ended."""


@dataclass(frozen=True)
class Asked:
    """The machine in its network; ``name`` is the host's own, ``scripts`` a directory of root's."""

    network: HiddenNetwork
    name: str
    addresses: Sequence[str]
    scripts: Path


def ask_all(checks: Sequence[OwnCheck], asked: Asked, pause: Pause) -> tuple[ServiceCheck, ...]:
    """Each is tried until it passes or its time is over; all count from the same moment."""
    began = time.monotonic()
    return tuple(_ask(one, asked, began + one.within_s, pause) for one in checks)


def _ask(check: OwnCheck, asked: Asked, until: float, pause: Pause) -> ServiceCheck:
    while True:
        why = _try(check, asked, pause)
        if not why or time.monotonic() >= until:
            return ServiceCheck(check.name, not why, _plain(why))
        pause(AGAIN_S)


def _try(check: OwnCheck, asked: Asked, pause: Pause) -> str:
    """Why it does not pass; empty where it does."""
    if check.kind is Kind.SCRIPT:
        return _script(check, asked, pause)
    why = "it has no address"
    for address in asked.addresses:
        try:
            if check.kind is Kind.TCP:
                asked.network.connect((address, check.port), ANSWERS_WITHIN_S).close()
                return ""
            why = _page(check, asked.network, address)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = f"{address}: {error}"
        if not why:
            return ""
    return why


def _page(check: OwnCheck, network: HiddenNetwork, address: str) -> str:
    url = address_of(check.url)
    until = time.monotonic() + ANSWERS_WITHIN_S
    with network.connect((address, port_of(check.url)), ANSWERS_WITHIN_S) as line:
        if url.scheme == "https":
            with _trusting().wrap_socket(line, server_hostname=url.hostname) as safe:
                told = _exchange(safe, check.url, until)
        else:
            told = _exchange(line, check.url, until)
    answer = http.client.HTTPResponse(_Heard(told))  # type: ignore[arg-type]
    answer.begin()
    if answer.status != check.status:
        return f"the page answers with {answer.status} instead of {check.status}"
    try:
        page = answer.read()
    except http.client.IncompleteRead as error:
        page = error.partial
    if check.contains.encode() not in page:
        return f"the page does not contain '{check.contains}'"
    return ""


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _exchange(line: socket.socket, address: str, until: float) -> bytes:
    url = address_of(address)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    wish = (
        f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nUser-Agent: notfallserver\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    )
    line.sendall(wish.encode())
    told = bytearray()
    while len(told) < PAGE_LIMIT and (left := until - time.monotonic()) > 0:
        line.settimeout(left)
        try:
            piece = line.recv(65536)
        except TimeoutError:
            break
        if not piece:
            break
        told += piece
    return bytes(told)


@dataclass(frozen=True)
class _Heard:
    """What was read, in the place of a socket."""

    told: bytes

    def makefile(self, *_: Any) -> BytesIO:
        return BytesIO(self.told)


def _script(check: OwnCheck, asked: Asked, pause: Pause) -> str:
    program = asked.scripts / check.script
    if not program.is_file() or not os.access(program, os.X_OK):
        return f"there is no program {program}"
    environment = {
        "ADDRESS": asked.addresses[0] if asked.addresses else "",
        "ADDRESSES": " ".join(asked.addresses),
        "NAME": asked.name,
    }
    # In a thread, and not waited for at the end of the rehearsal: its connections are cut then.
    once = ThreadPoolExecutor(max_workers=1)
    try:
        done = once.submit(asked.network.command, [program], SCRIPT_S, environment)
        while True:
            try:
                done.result(0.2)
            except NotYet:
                pause(0.2)
                continue
            return ""
    except CommandFailed as error:
        if error.exit_code is None:
            return f"it did not end within {SCRIPT_S:.0f} s"
        return error.tail or f"it ended with {error.exit_code}"
    except (NotfallError, OSError) as error:
        return str(error)
    finally:
        once.shutdown(wait=False)


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:TOLD]


def failed_error(failed: Sequence[ServiceCheck]) -> NotfallError:
    """Why a rehearsal failed, checks named."""
    named = "; ".join(f"{one.name}: {one.told}" for one in failed)
    return NotfallError(
        "rehearsal-check-failed",
        f"It answers, but not all checks of its services pass. {named}"[:1000],
        "See whether these services depend on other machines: in a rehearsal there are none.",
        status=409,
    )
