"""Passwords: which are good enough, how they are kept, and readable ones made by the server.

Kept as argon2id hashes. What counts is length: rules about digits and signs only lead to passwords
that are forgotten.
"""

from __future__ import annotations

import base64
import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from notfallserver.wire.errors import NotfallError

SHORTEST = 12
FEWEST_DIFFERENT = 5
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""None that is taken for another when it is read from paper."""


def nobodys_hash(hasher: PasswordHasher) -> str:
    """What no password fits, though trying one takes as long as with a real hash; at no cost."""
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    salt, made = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (hasher.salt_len, hasher.hash_len)
    )
    return f"$argon2id$v=19${cost}${salt}${made}"


_hasher = PasswordHasher()
_DUMMY = nobodys_hash(_hasher)
_hashing = threading.BoundedSemaphore(2)
"""A hash takes 64 MiB: many logins at once must not take the server's memory."""


def readable(groups: int) -> str:
    """Groups of four random letters; each group has nearly 20 bits."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(groups))


def make_password() -> str:
    """A first password that can be told on the telephone; 79 bits."""
    return readable(4)


def require_same(password: str, again: str) -> None:
    """Refuse what was typed otherwise the second time."""
    if password != again:
        raise NotfallError("passwords-differ", "The two new passwords differ.", "Type them again.")


def require_good(password: str, name: str) -> None:
    """Refuse what is guessed at once."""
    if len(password) < SHORTEST:
        raise NotfallError(
            "password-short",
            f"The password has fewer than {SHORTEST} characters.",
            "Take a longer one, such as four words in a row.",
        )
    simple = password.casefold().replace(name.casefold(), "")
    if len(set(simple)) < FEWEST_DIFFERENT:
        raise NotfallError(
            "password-simple",
            "The password is the name, or repeats a few characters.",
            "Take another one, such as four words in a row.",
        )


def hash_password(password: str) -> str:
    with _hashing:
        return _hasher.hash(_same(password))


def fits(password: str, hashed: str) -> bool:
    """Whether this is the password; takes just as long where there is none ("")."""
    with _hashing:
        try:
            _hasher.verify(hashed or _DUMMY, _same(password))
        except (VerificationError, InvalidHashError):
            return False
    return bool(hashed)


def _same(password: str) -> str:
    """An umlaut is the same on every keyboard, in one character or in two."""
    return unicodedata.normalize("NFKC", password)
