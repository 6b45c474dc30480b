"""What every request passes first: length of the body, origin of a change, headers of the answer.

Plain ASGI, because the blocks of a replication pass here too. A browser's request that changes
something is accepted only from our own page: the session cookie is SameSite=Strict, and beyond that
``Origin`` and ``Sec-Fetch-Site`` must be ours. The command line and agents send neither. The one
WebSocket is for our own page only: whoever opens it must tell our ``Origin``, as a browser does.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import FRAME_LIMIT

JSON_LIMIT = 1 << 20
FRAME_PATHS = ("/agent/v1/runs", "/target/v1/")
SOCKET_END = "/console/stream"
SAFE = ("GET", "HEAD", "OPTIONS")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000",
}


class Guard:
    """Wraps the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["type"] == "websocket":
            unwanted = _socket_refusal(scope["path"], headers)
            if unwanted:
                refuse = JSONResponse(unwanted.to_json(), unwanted.status, headers=HEADERS)
                await refuse(scope, receive, send)
            else:
                await self._app(scope, receive, send)
            return
        limit = FRAME_LIMIT if scope["path"].startswith(FRAME_PATHS) else JSON_LIMIT
        refusal = _refusal(scope["method"], headers, limit)
        if refusal:
            answer = JSONResponse(refusal.to_json(), refusal.status, headers=HEADERS)
            await answer(scope, receive, send)
            return
        taken = 0

        async def measured() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(413, _too_long(limit).cause)
            return message

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for key, value in HEADERS.items():
                    answer.setdefault(key, value)
                # Of the page's own files a browser keeps a copy, and asks whether it still holds.
                ours = scope["path"].startswith("/static/")
                answer.setdefault("Cache-Control", "no-cache" if ours else "no-store")
            await send(message)

        await self._app(scope, measured, dressed)


def _refusal(method: str, headers: Headers, limit: int) -> NotfallError | None:
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        return _too_long(limit)
    if method in SAFE:
        return None
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site", "none")
    foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
    return _foreign() if foreign or site not in ("same-origin", "none") else None


def _socket_refusal(path: str, headers: Headers) -> NotfallError | None:
    if not path.endswith(SOCKET_END):
        return NotfallError("not-found", "There is no WebSocket here.", status=404)
    ours = f"https://{headers.get('host', '')}"
    return None if headers.get("origin") == ours else _foreign()


def _foreign() -> NotfallError:
    return NotfallError(
        "foreign-origin",
        "The request comes from another web site.",
        "Use the emergency server's own page.",
        status=403,
    )


def _too_long(limit: int) -> NotfallError:
    return NotfallError(
        "too-long", f"The request is longer than the {limit} bytes allowed here.", status=413
    )
