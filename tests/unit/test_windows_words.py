"""What keeps a copy of Windows from being made ready is told in plain words."""

from __future__ import annotations

import re
from pathlib import Path

import notfallserver.guest.windows
from notfallserver.server.web.words.windows import WINDOWS

SHARED = {"bad-image", "no-boot-loader"}
"""Codes that images of Linux have as well."""


def test_every_refusal_of_windows_has_its_words() -> None:
    folder = Path(notfallserver.guest.windows.__file__).parent
    sources = "".join(one.read_text() for one in folder.glob("*.py"))
    raised = set(re.findall(r'NotfallError\(\s*"([a-z-]+)"', sources))
    assert raised - SHARED == set(WINDOWS)
