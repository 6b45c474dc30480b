"""From what a person fills in to an address of Apprise, and what of it may be shown. Pure.

An address holds secrets. ``shown`` names only what helps to tell receivers apart: the machine that
takes the message, and for mail who gets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Address:
    """``url`` is secret."""

    url: str
    shown: str

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


Security = Literal["starttls", "ssl", "none"]
PORTS: dict[str, int] = {"starttls": 587, "ssl": 465, "none": 25}


@dataclass(frozen=True)
class Mail:
    """By SMTP; ``to`` may name several, with commas; without ``user`` nobody logs in."""

    server: str
    sender: str
    to: str
    security: Security = "starttls"
    port: int = 0
    user: str = ""
    password: str = ""

    def address(self) -> Address:
        if not self.sender.strip() or not self.to.strip():
            raise bad_address("A sender and somebody to send to are needed.")
        host = _host(self.server)
        if not (self.user + self.password).isascii():  # Python's smtplib can't send it
            raise bad_address("User name and password may have no letters beyond ASCII.")
        login = f"{_safe(self.user)}:{_safe(self.password)}@" if self.user else ""
        scheme = "mailto" if self.security == "none" else "mailtos"
        asked = {
            "smtp": self.server.strip(),
            "from": self.sender.strip(),
            "to": ",".join(one.strip() for one in self.to.split(",") if one.strip()),
            "mode": "insecure" if self.security == "none" else self.security,
            "format": "text",
        }
        port = self.port or PORTS[self.security]
        return Address(
            f"{scheme}://{login}{host}:{port}/?{urlencode(asked, quote_via=quote)}",
            f"{asked['to']} ({self.server.strip()})",
        )


@dataclass(frozen=True)
class Webhook:
    """A web address that takes JSON by POST."""

    url: str

    def address(self) -> Address:
        parts = _web(self.url)
        # Apprise takes what has no prefix for its own options.
        asked = urlencode([(f"-{key}", value) for key, value in parse_qsl(parts.query)])
        scheme = "jsons" if parts.scheme == "https" else "json"
        path = f"{parts.path or '/'}{'?' + asked if asked else ''}"
        return Address(f"{scheme}://{parts.netloc}{path}", f"{parts.scheme}://{parts.hostname}/…")


@dataclass(frozen=True)
class Ntfy:
    """A topic of an ntfy server; ``token`` where it asks for one."""

    topic: str
    server: str = "https://ntfy.sh"
    token: str = ""

    def address(self) -> Address:
        parts = _web(self.server)
        if not self.topic.strip():
            raise bad_address("A topic is needed.")
        asked = {"mode": "private"}
        if self.token:
            asked |= {"auth": "token", "token": self.token.strip()}
        scheme = "ntfys" if parts.scheme == "https" else "ntfy"
        return Address(
            f"{scheme}://{parts.netloc}/{_safe(self.topic.strip())}?{urlencode(asked)}",
            f"ntfy: {parts.hostname}",
        )


@dataclass(frozen=True)
class Telegram:
    """A bot's token, and the chat it writes to."""

    token: str
    chat: str

    def address(self) -> Address:
        if not self.token.strip() or not self.chat.strip():
            raise bad_address("The bot's token and a chat are needed.")
        chat = self.chat.strip()
        return Address(f"tgram://{self.token.strip()}/{_safe(chat)}/", f"Telegram: {chat[:3]}…")


@dataclass(frozen=True)
class Other:
    """Any address that Apprise understands."""

    url: str

    def address(self) -> Address:
        scheme, separator, rest = self.url.strip().partition("://")
        if not separator or not scheme or not rest:
            raise bad_address("An address of Apprise begins with the name of a service and ://.")
        return Address(self.url.strip(), f"{scheme[:30]}://…")


def is_mail(url: str) -> bool:
    """Whether messages to this address go by mail."""
    return url.partition("://")[0].lower() in ("mailto", "mailtos")


def bad_address(why: str) -> NotfallError:
    """Says nothing of the address itself."""
    return NotfallError("bad-address", why, "Look at what you have typed.", status=422)


def _web(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise bad_address("This is no web address.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise bad_address("A web address begins with https:// or http:// and names a machine.")
    return parts


def _host(name: str) -> str:
    host = name.strip()
    if not host or any(one in host for one in " /@?#[]"):
        raise bad_address("The mail server's name is needed, such as mail.example.com.")
    return f"[{host}]" if ":" in host else host


def _safe(text: str) -> str:
    return quote(text, safe="")
