"""What a rehearsed copy tells of its system, held against the original."""

from __future__ import annotations

from pathlib import Path

import pytest

from notfallserver.server.cycle.rehearsal import hear as hearing
from notfallserver.server.cycle.rehearsal.hear import Heard, hear, weigh
from notfallserver.wire.facts import Machine, read_machine
from notfallserver.wire.report import SystemReport

LONG = "dev-disk-by\\x2duuid-" + "a" * 90 + ".swap"
ORIGINAL = Machine(
    "shop", systemd="degraded", failed_units=["old.service", LONG], logins=["getty@tty1.service"]
)
DARK = Machine("shop", systemd="running")
SILENT = Machine("shop")
"""An earlier agent's."""
BOOTING = Machine("shop", systemd="starting")


def test_what_failed_in_the_copy_alone_is_told_from_what_never_worked() -> None:
    report = SystemReport("degraded", ("old.service", LONG[:80], "new.service"), True)
    heard = weigh(report, ORIGINAL, False)
    assert heard.failed_before == ("old.service", LONG[:80])
    assert (heard.login, heard.login_before) == (True, True)
    for one in (SILENT, BOOTING):  # a machine that was starting had not failed yet
        assert weigh(report, one, False).failed_before is None
        assert weigh(report, one, False).login_before is None


@pytest.mark.parametrize(
    ("report", "machine", "prompt", "login"),
    [
        (SystemReport("running", (), False), ORIGINAL, False, (False, True)),
        (SystemReport("running", (), False), DARK, False, (False, False)),
        (SystemReport("starting", (), False), ORIGINAL, False, (None, True)),
        (SystemReport("starting", (), True), ORIGINAL, False, (True, True)),
        (None, SILENT, True, (True, None)),
        (None, ORIGINAL, False, (None, True)),
    ],
)
def test_a_login_screen_is_missed_only_where_there_should_be_one(
    report: SystemReport | None, machine: Machine, prompt: bool, login: tuple[object, object]
) -> None:
    heard = weigh(report, machine, prompt)
    assert (heard.login, heard.login_before) == login


def test_it_is_listened_until_the_system_has_started(tmp_path: Path) -> None:
    console, told = tmp_path / "console.log", iter(["starting", "starting", "running"])

    def pause() -> None:
        console.write_text(SystemReport(next(told), (), True).line())

    heard = hear(console, ORIGINAL, pause)
    assert heard == Heard("running", (), (), True, True) and not list(told)


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("Debian GNU/Linux 12 shop ttyS0\r\n\r\nshop login: ", True),
        ("shop login: [   12.345678] random: crng init done\r\n", True),
        ("[    1.0] systemd[1]: Starting the login: service of it\r\n", None),
        ("login: ", None),
        ("", None),
    ],
)
def test_without_an_agent_a_prompt_on_the_console_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, login: bool | None
) -> None:
    monkeypatch.setattr(hearing, "FIRST_REPORT_S", -1)
    monkeypatch.setattr(hearing, "KNOWN_TO_TELL_S", -1)
    console = tmp_path / "console.log"
    console.write_bytes(text.encode())
    assert hear(console, SILENT, lambda: None) == Heard(login=login)
    assert hear(tmp_path / "absent", DARK, lambda: None) == Heard(login_before=False)


def test_the_facts_carry_it_and_an_earlier_agent_tells_nothing() -> None:
    assert read_machine(ORIGINAL.to_json()) == ORIGINAL
    told = SILENT.to_json()
    for name in ("systemd", "failed_units", "logins"):
        del told[name]
    assert read_machine(told) == SILENT
