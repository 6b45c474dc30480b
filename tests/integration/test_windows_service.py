"""The service on Windows, but for Windows: one machine, two emergency servers, and their comings
and goings while it works."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from agent_receiver import Receiver
from two_servers import PATIENCE, Door, Hanging, another_receiver

from notfall_lab.patience import until
from notfall_lab.windows.scene import Base, Scene, make_base
from notfallserver.agent import files
from notfallserver.agent.enrolment import require_second, take_away
from notfallserver.agent.files import write_whole
from notfallserver.agent.servers import Server, known_servers
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows.duty import WindowsHost
from notfallserver.agent.windows.invitations import Invitation, Watch
from notfallserver.wire.errors import NotfallError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[tuple[Receiver, Receiver]]:
    with ExitStack() as cleanup:
        yield another_receiver(tmp_path / "a", cleanup), another_receiver(tmp_path / "b", cleanup)


def add(machine: Path, other: Receiver) -> Server:
    """As an enrolment leaves it: the settings last."""
    own = machine / "servers" / "second"
    own.mkdir(parents=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        shutil.copy(other.config / name, own / name)
    (own / "agent.json").write_text(json.dumps({"url": other.url, "primary": other.uuid}))
    return known_servers(machine)[1]


@contextmanager
def serving(scene: Scene, directory: Path) -> Iterator[Service]:
    stop = Stop()
    service = Service(directory, stop, WindowsHost(directory, scene.machine, scene.take, stop))
    thread = threading.Thread(target=service.serve)
    thread.start()
    try:
        yield service
    finally:
        stop.ask()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_each_server_gets_its_version(base: Base, receivers: tuple[Receiver, Receiver]) -> None:
    one, other = receivers
    one.settings([])
    add(one.config, other)
    for receiver in receivers:
        receiver.orders.append("replicate")
    with serving(Scene(base), one.config):
        until(lambda: one.seals and other.seals)
    images = [receiver.image().read_bytes() for receiver in receivers]
    assert images[0] == images[1]


def test_one_that_hangs_holds_nobody_up(base: Base, receivers: tuple[Receiver, Receiver]) -> None:
    one, other = receivers
    one.settings([])
    add(one.config, other)
    hanging = Hanging(Door(one), "blocks")
    try:
        one.orders.append("replicate")
        with serving(Scene(base), one.config):
            until(hanging.hangs.is_set)
            other.orders.append("replicate")
            until(lambda: other.seals)
            assert not one.seals
            hanging.end()
    finally:
        hanging.end()


def test_a_second_server_joins_while_the_first_is_served(
    base: Base, receivers: tuple[Receiver, Receiver]
) -> None:
    one, other = receivers
    one.settings([])
    with serving(Scene(base), one.config) as service:
        until(lambda: one.log)
        other.orders.append("replicate")
        service.enrolled(add(one.config, other))
        until(lambda: other.seals)
        one.orders.append("replicate")
        until(lambda: one.seals)
    with pytest.raises(NotfallError) as caught:
        require_second(one.config, "nobody", "")
    assert caught.value.code == "no-such-server"
    # The first is taken away: the second takes its place.
    take_away(one.config, require_second(one.config, known_servers(one.config)[0].name, ""))
    (left,) = known_servers(one.config)
    assert (left.settings().url, left.settings().primary) == (other.url, other.uuid)
    with pytest.raises(NotfallError) as caught:
        require_second(one.config, left.name, "")
    assert caught.value.code == "last-server"


def test_an_enrolment_that_was_renewed_is_served_anew(
    base: Base, receivers: tuple[Receiver, Receiver]
) -> None:
    one, other = receivers
    one.settings([])
    with serving(Scene(base), one.config) as service:
        until(lambda: one.log)
        for name in ("ca.pem", "cert.pem", "key.pem"):
            shutil.copy(other.config / name, one.config / name)
        settings = {"url": other.url, "primary": other.uuid}
        (one.config / "agent.json").write_text(json.dumps(settings))
        other.orders.append("replicate")
        service.enrolled(known_servers(one.config)[0])
        until(lambda: other.seals)
        polls = len(one.log)
        time.sleep(0.5)
        assert len(one.log) == polls


def test_asked_to_leave_a_run_lets_go_of_its_snapshots(
    base: Base, receivers: tuple[Receiver, Receiver]
) -> None:
    """The second server's, which is another thread than the service's."""
    one, other = receivers
    one.settings([])
    add(one.config, other)
    scene = Scene(base)
    stop = Stop()
    service = Service(one.config, stop, WindowsHost(one.config, scene.machine, scene.take, stop))

    def ask_amid(what: str) -> None:
        if what == "blocks":
            stop.ask()
            time.sleep(2)  # the run looks whether it was asked once a second

    Door(other).before(ask_amid)
    other.orders.append("replicate")
    service.serve()  # returns when both have left
    assert scene.windows.names[-2:] == ["AbortBackup", "Release"]
    assert not any(handle.open for handle in scene.machine.handles)
    assert other.store.newest() is None and other.failures == []


def test_an_invitation_is_used_once_and_tried_again_only_for_what_may_pass(
    caplog: pytest.LogCaptureFixture,
) -> None:
    written = ("https://server", "token")
    tried: list[tuple[str, str]] = []
    errors: list[NotfallError] = []
    now = 0.0

    def enrol(server: str, token: str) -> None:
        tried.append((server, token))
        if errors:
            raise errors[-1]

    def forget() -> None:
        nonlocal written
        written = ("https://server", "")

    invitation = Invitation(lambda: written, enrol, forget, lambda: now)
    errors.append(NotfallError("server-unreachable", "Away.", retry=True))
    for second in (0.0, 15.0, 59.0, 61.0, 75.0, 121.0):
        now = second
        invitation.use()
    assert len(tried) == 3
    assert [one.getMessage() for one in caplog.records] == ["enrolment: Away."]
    written = ("https://another", "token")  # somebody has corrected it
    invitation.use()
    assert tried[3:] == [("https://another", "token")]
    errors.append(NotfallError("bad-token", "Refused."))
    now = 200.0
    for _ in range(3):
        invitation.use()
    assert len(tried) == 5 and not written[1]
    errors.clear()
    written = ("https://server", "token")
    invitation.use()
    invitation.use()
    assert len(tried) == 6


def test_a_file_that_is_read_just_now_is_replaced_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [PermissionError(13, "in use"), PermissionError(13, "in use")]
    replace = Path.replace

    def busy(one: Path, other: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return replace(one, other)

    monkeypatch.setattr(Path, "replace", busy)
    with pytest.raises(PermissionError):
        write_whole(tmp_path / "file", b"1")
    monkeypatch.setattr(files, "on_windows", lambda: True)
    write_whole(tmp_path / "file", b"2")
    assert (tmp_path / "file").read_bytes() == b"2"


def test_who_was_enrolled_meanwhile_is_seen(
    receivers: tuple[Receiver, Receiver], tmp_path: Path
) -> None:
    one, other = receivers
    one.settings([])
    seen: list[Server] = []
    used: list[int] = []
    failing = [True]

    def enrolled(server: Server) -> None:
        if failing.pop() if failing else False:
            raise NotfallError("bad-settings", "Not yet.")
        seen.append(server)

    watch = Watch(one.config, Stop(), lambda: used.append(1), enrolled)
    watch.look()
    assert (seen, used) == ([], [1])
    added = add(one.config, other)
    with pytest.raises(NotfallError):
        watch.look()
    watch.look()
    watch.look()
    assert seen == [added]
    (one.config / "agent.json").write_text((one.config / "agent.json").read_text() + " ")
    watch.look()
    assert seen == [added, known_servers(one.config)[0]]
