"""What a copy tells of its system on its serial console, whatever else is written there."""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

import pytest

from notfallserver.agent import commands
from notfallserver.agent.report import tell_system
from notfallserver.agent.systemd import Seen, look
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.report import SystemReport, last_report

UP = SystemReport("running", (), True)
TORN = SystemReport("degraded", ("shop.service", "dev-disk-by\\x2duuid.swap"))


def test_the_last_whole_line_counts() -> None:
    for one in (UP, TORN, SystemReport("starting")):
        assert last_report(one.line()) == one
    cut = TORN.line()[:30] + "[   12.3] a kernel's message\r\n" + TORN.line()[30:]
    noise = f"login: \r\n{UP.line()}\r\n[    9.1] usb 1-1: new\r\n{cut}\r\n"
    assert last_report(noise) == UP
    assert last_report(noise + TORN.line()) == TORN
    assert last_report("") is None and last_report(cut) is None


def checksummed(body: str) -> str:
    return f"notfall-system {body} {crc32(body.encode()):08x}"


@pytest.mark.parametrize(
    "body",
    [
        *("{}", "{x}", '{"system": 3, "failed": []}', '{"system": "<b>", "failed": []}'),
        *('{"system": "", "failed": []}', '{"system": "running"}'),
    ],
)
def test_nonsense_tells_nothing(body: str) -> None:
    assert last_report(checksummed(body)) is None


def test_strange_units_are_left_out() -> None:
    odd = checksummed('{"system": "degraded", "failed": ["a.service", "<b>", 3], "login": 1}')
    assert last_report(odd) == SystemReport("degraded", ("a.service",), False)
    many = SystemReport("degraded", tuple(f"unit{number}.service" for number in range(50)))
    found = last_report(many.line())
    assert found is not None and len(found.failed) == 8


def test_the_agent_tells_until_the_system_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = tmp_path / "console"
    os.mkfifo(console)
    reader = os.open(console, os.O_RDONLY | os.O_NONBLOCK)
    states = iter(["starting", "degraded"])

    def run(arguments: list[str], timeout: float = 30) -> str:
        line = " ".join(arguments)
        if "is-system-running" in line:
            return next(states) + "\n"
        if "--failed" in line:
            return "shop.service loaded failed failed The shop\n"
        if "getty@*.service" in line:
            return "getty@tty1.service loaded active running Getty on tty1\n"
        return "inactive\n"

    monkeypatch.setattr(commands, "run", run)
    assert not tell_system(console)
    assert tell_system(console)
    told = last_report(os.read(reader, 4096).decode())
    assert told == SystemReport("degraded", ("shop.service",), True)
    os.close(reader)


def test_no_console_and_no_systemd_are_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tell_system(tmp_path / "absent")

    def fail(arguments: list[str], timeout: float = 30) -> str:
        raise NotfallError("command-failed", "no systemctl")

    monkeypatch.setattr(commands, "run", fail)
    assert tell_system(tmp_path / "absent") and look() is None


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        (("running", "", "active", ""), Seen("running", (), ("display-manager.service",))),
        (("running", "", "inactive", ""), Seen("running")),
        (("offline", "", "", ""), None),
        (("", "", "", ""), None),
    ],
)
def test_a_desktop_counts_as_a_login_screen_and_a_container_has_no_systemd(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[str, ...], seen: Seen | None
) -> None:
    def run(arguments: list[str], timeout: float = 30) -> str:
        line = " ".join(arguments)
        words = ("is-system-running", "--state=running", "is-active", "--failed")
        return next(told for word, told in zip(words, answers, strict=True) if word in line)

    monkeypatch.setattr(commands, "run", run)
    assert look() == seen
