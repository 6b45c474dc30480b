"""Reading request bodies of machines: bounded before they are parsed."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import FRAME_LIMIT

OBJECT_LIMIT = 4 << 20


async def read_body(request: Request, limit: int = FRAME_LIMIT) -> bytes:
    """The whole body; a longer one is refused without being read to its end."""
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > limit:
            raise NotfallError("too-long", "The message is too long.", status=413)
        if part:
            parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_object(request: Request) -> dict[str, Any]:
    """A JSON object; anything else is refused."""
    try:
        body = json.loads(await read_body(request, OBJECT_LIMIT) or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise NotfallError("bad-json", "The message is no JSON object.", "Update both sides.")
    return body
