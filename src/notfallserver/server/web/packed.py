"""Pages are sent packed where the browser can: 200 servers are a fifth of a megabyte of words.

Packing tells an eavesdropper who can also choose part of a page whether the page's secrets are like
that part (BREACH). Here nobody foreign can choose: a request from another site carries no session
(SameSite=Strict). Still only answers to GET are packed, never one that has a secret in it (an
invitation's line is the answer to a POST), and neither what streams nor what is packed already.
"""

from __future__ import annotations

import gzip

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEAST = 1000
"""Shorter answers are not worth it, in bytes."""
LEVEL = 4
KINDS = ("text/html", "text/css", "text/javascript", "application/javascript")


class Packed:
    """Wraps the whole app; agents' and targets' requests pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not _unpacks(scope):
            await self._app(scope, receive, send)
            return
        held: Message | None = None

        async def packing(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _worth(Headers(raw=message["headers"])):
                held = message  # until it is known whether the body comes in one piece
                return
            if held is not None:
                start, held = held, None
                message = _pack(start, message)
                await send(start)
            await send(message)

        await self._app(scope, receive, packing)


def _unpacks(scope: Scope) -> bool:
    return "gzip" in Headers(scope=scope).get("accept-encoding", "")


def _worth(headers: Headers) -> bool:
    kind = headers.get("content-type", "").partition(";")[0]
    length = headers.get("content-length", "")
    whole = length.isdecimal() and int(length) >= LEAST
    return kind in KINDS and whole and "content-encoding" not in headers


def _pack(start: Message, message: Message) -> Message:
    """The body packed and its headers to match; as it is when it comes in pieces."""
    if message["type"] != "http.response.body" or message.get("more_body"):
        return message
    body = gzip.compress(message.get("body", b""), LEVEL)
    headers = MutableHeaders(raw=start["headers"])
    headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(body))
    headers.add_vary_header("Accept-Encoding")
    return {**message, "body": body}
