"""Switching off after a handover: one way after the other, none waited for without end."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from notfallserver.agent import commands
from notfallserver.agent.fence import apart, signs
from notfallserver.agent.handover import off
from notfallserver.agent.handover.off import WAYS, Way, leave_network, switch_off
from notfallserver.wire.errors import NotfallError


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """What hangs until the test is over."""
    over = threading.Event()
    yield over
    over.set()


class Power:
    """The machine goes off by one of the ways, or none; writes down which were tried."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    def way(
        self, name: str, act: Callable[[], object] = bool, seconds: float = 0.2, ends: bool = True
    ) -> Way:
        def noted() -> None:
            self.tried.append(name)
            act()

        return Way(name, noted, seconds, ends)

    def fails(self, name: str, error: Exception, seconds: float = 60) -> Way:
        def act() -> None:
            raise error

        return self.way(name, act, seconds)


def go(ways: Sequence[Way]) -> float:
    """How long it took to give up."""
    begun = time.monotonic()
    with pytest.raises(NotfallError) as caught:
        switch_off(ways)
    assert caught.value.code == "not-switched-off"
    return time.monotonic() - begun


def test_who_is_refused_goes_on_at_once_and_who_hangs_is_left_behind(
    hanging: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    power = Power()
    took = go(
        [
            power.fails("kernel", PermissionError(1, "Operation not permitted")),
            power.way("network", ends=False, seconds=60),
            power.way("driver", hanging.wait, 0.2),
            power.fails("systemd", NotfallError("command-failed", "'systemctl' cannot be run.")),
            power.way("promised", seconds=0.3),
        ]
    )
    assert power.tried == ["kernel", "network", "driver", "systemd", "promised"]
    assert 0.5 <= took < 10  # only the one that hangs and the one that promised were waited for
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == 4 and "Operation not permitted" in said[0] and "it hangs" in said[1]
    assert "cannot be run" in said[2] and "promised in 0 s" in said[3]


def test_a_log_that_nobody_reads_any_more_stops_nothing(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal may wait for a frozen disk."""
    monkeypatch.setattr(off, "_SAY_S", 0.1)

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            hanging.wait()

    handler = Stuck()
    logging.getLogger("notfall-agent").addHandler(handler)
    try:
        power = Power()
        assert go([power.fails(name, OSError(1, "no")) for name in ("one", "two", "three")]) < 10
    finally:
        hanging.set()
        logging.getLogger("notfall-agent").removeHandler(handler)
    assert power.tried == ["one", "two", "three"]


def test_what_writes_comes_after_the_network_is_left() -> None:
    """And all that a guard waits for is over long before the server calls it an outage (240 s)."""
    names = [one.name for one in WAYS]
    left = names.index("leaving the network")
    assert names[0] == "the kernel"
    assert all("systemd" not in one for one in names[:left])
    assert sum(one.seconds for one in WAYS[: left + 1]) < 120


def test_systemd_is_asked_without_a_word_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", _noting(asked))
    for way in WAYS:
        if way.name.startswith("systemd"):
            way.act()
    assert asked[0] == ["systemctl", "--force", "--no-wall", "poweroff"]
    assert "--ignore-inhibitors" in asked[1] and "--no-block" in asked[1]


def _noting(asked: list[list[str]]) -> Callable[..., object]:
    class Done:
        returncode, stdout, stderr = 0, "", ""

    def run(line: list[str], **_: object) -> Done:
        asked.append(line)
        return Done()

    return run


def test_it_leaves_the_network_once_and_remembers_its_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[list[str]] = []

    def run(line: list[str]) -> str:
        done.append(line)
        return ""

    monkeypatch.setattr(apart, "ROOT", tmp_path / "run")
    monkeypatch.setattr(apart, "_NET", tmp_path / "net")
    monkeypatch.setattr(signs, "ISSUE", tmp_path / "issue.d/one")
    monkeypatch.setattr(signs, "_CONSOLES", ())
    monkeypatch.setattr(commands, "run", run)
    (tmp_path / "net/eth0").mkdir(parents=True)
    (tmp_path / "net/eth0/address").write_text("52:54:00:00:00:01\n")
    monkeypatch.setattr(off, "all_cards", lambda: ["eth0"])
    leave_network()
    assert ["ip", "link", "set", "dev", "eth0", "netns", apart.SPACE] in done
    # An agent that is started again tries again; the card is away by then.
    monkeypatch.setattr(off, "all_cards", list)
    leave_network()
    told = json.loads((tmp_path / "run/apart.json").read_text())
    assert told["because"] == "left" and told["cards"] == [["eth0", "52:54:00:00:00:01"]]
    assert "switch it off" in (tmp_path / "issue.d/one").read_text()
