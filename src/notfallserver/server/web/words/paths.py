"""Paths of a copy's files, which are bytes, in addresses and headers.

They are written as in a URL (``/srv/a%20b``), because what isn't UTF-8 must come back as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from notfallserver.server.cycle.browse.names import shown


@dataclass(frozen=True)
class Crumb:
    """A folder on the way; ``token`` is its path in an address."""

    name: str
    token: str


def token(path: bytes) -> str:
    """A path as it is written in an address, with ``/`` in front."""
    return quote_from_bytes(b"/" + path, safe="/")


def untoken(text: str) -> bytes:
    """The path again."""
    return unquote_to_bytes(text).strip(b"/")


def crumbs(path: bytes) -> list[Crumb]:
    """The folders that lead to ``path``, itself the last."""
    parts = [one for one in path.split(b"/") if one]
    return [Crumb(shown(part), token(b"/".join(parts[: at + 1]))) for at, part in enumerate(parts)]


def attachment(name: str) -> str:
    """The header that makes a browser save the answer under ``name`` (RFC 6266, RFC 5987)."""
    plain = "".join(
        one if (one.isalnum() and one.isascii()) or one in " ._-()" else "_" for one in name
    )
    whole = quote(name.replace("/", "_").replace("\\", "_"), safe="")
    return f"attachment; filename=\"{plain.strip(' .') or 'file'}\"; filename*=UTF-8''{whole}"
