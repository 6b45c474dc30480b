"""Names of an image's files, which are bytes and may be hostile, as people may see them."""

from __future__ import annotations

import unicodedata

_HIDING = frozenset({"Cc", "Cs", "Zl", "Zp", "Cf"})
_JOINERS = "\u200c\u200d"
"""Of use in some languages, and harmless."""


def shown(name: bytes) -> str:
    """A name or path with nothing in it that hides or turns round what stands beside it."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(_visible(one) for one in text)


def _visible(sign: str) -> str:
    if unicodedata.category(sign) in _HIDING and sign not in _JOINERS:
        return sign.encode("unicode_escape").decode()
    return sign
