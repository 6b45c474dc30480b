"""What the page of tapes lets be clicked: never to give up what another program wrote."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from notfallserver.server.web.language import speech
from notfallserver.wire.errors import NotfallError

OVERWRITE = 'name="overwrite" value="unreadable"'


def shown(code: str, kind: str, administers: bool) -> str:
    job = SimpleNamespace(id="a" * 16, kind=kind)
    waiting = SimpleNamespace(job=job, code=code, medium=2, media=[])
    return speech("en").page(
        "parts/media.html",
        person=SimpleNamespace(administers=administers, operates=True),
        here="/media",
        waiting=[(waiting, NotfallError(code, "The tape can't be used."))],
        under_way=[],
        sets=[],
    )


def test_only_an_administrator_has_a_tape_written_over_that_cant_be_read() -> None:
    assert OVERWRITE in shown("tape-unreadable", "tape_write", True)
    assert "overwrite" not in shown("tape-unreadable", "tape_write", False)
    assert "overwrite" not in shown("tape-unreadable", "tape_restore", True)


@pytest.mark.parametrize("code", ["tape-foreign", "tape-holds-set", "tape-next"])
def test_what_holds_something_is_named_on_the_command_line(code: str) -> None:
    told = shown(code, "tape_write", True)
    assert "overwrite" not in told and "It is inserted: go on" in told
