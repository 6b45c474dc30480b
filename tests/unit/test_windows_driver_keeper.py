"""Drivers that the adaptation laid down are installed once, by Windows' own tool."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from notfall_lab.windows.machine import Machine
from notfallserver.agent.windows.drivers import DONE, PACKAGES, DriverKeeper, install_command
from notfallserver.agent.windows.system import Refused

VERSION = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"


def lay(directory: Path, name: str, *files: str) -> Path:
    folder = directory / PACKAGES / name
    folder.mkdir(parents=True)
    for one in files:
        (folder / one).write_text("x")
    return folder


@pytest.fixture
def system() -> Machine:
    made = Machine()
    made.registry[VERSION, "CurrentBuildNumber"] = "17763"
    return made


def test_the_tools_words_are_those_of_its_windows() -> None:
    inf = Path("a.inf")
    assert install_command(14393, inf) == ("/add-driver", "a.inf", "/install")
    for build in (7601, 10586, 0):
        assert install_command(build, inf) == ("-i", "-a", "a.inf")


def test_each_package_is_installed_once(tmp_path: Path, system: Machine) -> None:
    keeper = DriverKeeper(tmp_path, system)
    assert keeper.settle()
    card = lay(tmp_path, "netkvm-0123", "netkvm.INF", "netkvm.sys", "netkvm.cat")
    lay(tmp_path, "viostor-4567.part", "viostor.inf")  # not yet whole
    assert keeper.settle()
    command = ("/add-driver", str(card / "netkvm.INF"), "/install")
    assert system.driver_commands == [command]
    assert keeper.settle()
    assert DriverKeeper(tmp_path, system).settle()
    assert system.driver_commands == [command]
    # other contents have another name
    newer = lay(tmp_path, "netkvm-89ab", "netkvm.inf")
    assert DriverKeeper(tmp_path, system).settle()
    assert system.driver_commands[1:] == [("/add-driver", str(newer / "netkvm.inf"), "/install")]


@pytest.mark.parametrize("code", [0, 259, 3010, 1641])
def test_what_counts_as_installed(tmp_path: Path, system: Machine, code: int) -> None:
    lay(tmp_path, "a-1", "a.inf")
    system.pnputil_answers = code
    assert DriverKeeper(tmp_path, system).settle()
    assert (tmp_path / DONE).read_text() == "a-1\n"


def test_what_fails_is_tried_thrice_and_holds_nothing_up(
    tmp_path: Path, system: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    lay(tmp_path, "a-1", "a.inf")
    lay(tmp_path, "b-1", "b.inf")
    system.pnputil_answers = 0xE000022F  # no catalogue
    keeper = DriverKeeper(tmp_path, system)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert not keeper.settle()
    assert len(system.driver_commands) == 6
    assert "0xe000022f" in caplog.text
    assert not (tmp_path / DONE).exists()
    system.pnputil_answers = 0  # after the next start of the service
    assert DriverKeeper(tmp_path, system).settle()


def test_a_tool_that_is_not_there_is_a_failure(
    tmp_path: Path, system: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: str) -> int:
        raise Refused(2, "pnputil.exe")

    lay(tmp_path, "a-1", "a.inf")
    monkeypatch.setattr(system, "pnputil", refuse)
    assert not DriverKeeper(tmp_path, system).settle()
