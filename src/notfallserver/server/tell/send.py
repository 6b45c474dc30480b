"""The program that sends one message by Apprise, in a process of its own.

It takes a JSON object on standard input (the address is secret, and arguments of a process are
not) and answers with one on standard output. Of what Apprise logs only the other side's answer is
taken over, with every part of the address masked.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import apprise

TYPES = {
    "urgent": apprise.NotifyType.FAILURE,
    "warning": apprise.NotifyType.WARNING,
    "good": apprise.NotifyType.INFO,
}
MOST = 500
"""Characters of the other side's answer that are told."""
HARMLESS = frozenset({"smtp", "from", "to", "mode", "format", "auth"})
_SYSTEM = re.compile(r"\[Errno -?\d+\] ([A-Za-z ]+)")
ANSWERS = ("Response Details:", "Socket Exception:")


class Heard(logging.Handler):
    """Keeps what Apprise says went wrong."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            self.lines.append(line)
        elif line.startswith(ANSWERS):
            self.lines.append(line.partition(":")[2].strip())


def main() -> None:
    logging.lastResort = None  # what libraries log may hold the address
    order = json.load(sys.stdin)
    try:
        told = carry_out(order)
    except Exception as error:  # its text may hold the address as well
        told = {"known": True, "sent": False, "answer": mask(str(error), order["url"])[:MOST]}
    json.dump(told, sys.stdout)


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Check the address of the order, or send its message."""
    heard = Heard()
    log = logging.getLogger("apprise")
    log.addHandler(heard)
    log.setLevel(logging.DEBUG)
    asset = apprise.AppriseAsset(
        app_id="Notfallserver", app_desc="Notfallserver", app_url="", image_url_mask=""
    )
    service = apprise.Apprise.instantiate(order["url"], asset=asset)
    sent = False
    if service is not None and not order.get("check"):
        courier = apprise.Apprise(asset=asset)
        courier.add(service)
        sent = bool(
            courier.notify(
                body=order["body"],
                title=order["title"],
                notify_type=TYPES[order["kind"]],
                body_format=apprise.NotifyFormat.TEXT,
                attach=[address_of(path, name) for path, name in order["papers"].items()],
            )
        )
    answer = mask(shorten("; ".join(dict.fromkeys(heard.lines))), order["url"])[:MOST]
    return {"known": service is not None, "sent": sent, "answer": answer}


def address_of(path: str, name: str) -> str:
    """A file that goes along under this name, as Apprise takes it."""
    return f"file://{quote(path)}?{urlencode({'name': name})}"


def shorten(text: str) -> str:
    """Where nobody answered, only why: the libraries nest it in names of their own."""
    if found := _SYSTEM.search(text):
        return found[1]
    return "it did not answer in time" if "timed out" in text else text


def mask(text: str, url: str) -> str:
    """Take every secret of the address out of a text."""
    for one in sorted(secrets_in(url), key=len, reverse=True):
        text = text.replace(one, "***")
    return text


def secrets_in(url: str) -> set[str]:
    """All of an address that may be secret, as it is written and as it is meant."""
    parts = urlsplit(url)
    login, _, place = parts.netloc.rpartition("@")
    host = place.partition(":")[0]
    found = {*login.split(":"), *parts.path.split("/"), url}
    if "." not in host and not host.startswith("[") and host != "localhost":
        found.add(host)  # where other services have a machine's name, some have a token
        found |= set(place.split(":"))
    found |= {value for key, value in parse_qsl(parts.query) if key not in HARMLESS}
    return {one for part in found for one in (part, unquote(part)) if len(one) > 3}


if __name__ == "__main__":
    main()
