"""The target's secret and the pairing code made from it."""

from __future__ import annotations

import base64
import hashlib
import secrets


def new_secret() -> str:
    """64 hex digits; they live in memory only."""
    return secrets.token_hex(32)


def pairing_code(secret: str) -> str:
    """What a person types on the server to say: this machine, and no other."""
    digest = hashlib.sha256(b"code" + secret.encode()).digest()
    return base64.b32encode(digest).decode()[:8]
