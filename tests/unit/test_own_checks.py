"""A server's own checks: what can be wished for, and what a copy's answers come to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from notfallserver.server.cycle.rehearsal import ask
from notfallserver.server.cycle.rehearsal.ask import Asked, ask_all, failed_error
from notfallserver.server.cycle.rehearsal.checks import (
    CHECKS,
    MOST,
    Kind,
    OwnCheck,
    describe,
    read_checks_of,
)
from notfallserver.server.host.hidden_network import HiddenNetwork
from notfallserver.server.host.run import Finished, run
from notfallserver.wire.errors import NotfallError

PAGE = "http://shop.example:{}/login?a=b"


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        (OwnCheck(Kind.TCP, port=5432, url="http://x/"), "port 5432"),
        (OwnCheck(Kind.HTTP, url=" https://shop.example/a?b=c ", port=9), None),
        (OwnCheck(Kind.HTTP, url="http://[fd77::20]:81"), "http://[fd77::20]:81"),
        (OwnCheck(Kind.SCRIPT, script="script/sql"), "script/sql"),
    ],
)
def test_what_belongs_to_a_check_is_kept(wish: OwnCheck, name: str | None) -> None:
    (one,) = describe([wish, wish])
    assert one.name == (name or "https://shop.example/a?b=c")
    assert (one.port == 0) is (wish.kind is not Kind.TCP)
    assert read_checks_of({CHECKS: [one.to_json()]}) == (one,)


@pytest.mark.parametrize(
    "wish",
    [
        *(OwnCheck(Kind.TCP), OwnCheck(Kind.TCP, port=65536), OwnCheck(Kind.SCRIPT)),
        *(OwnCheck(Kind.SCRIPT, script=one) for one in ("../x", "script/", "a/b", "-x", "a b")),
        *(
            OwnCheck(Kind.HTTP, url=one)
            for one in (
                *("", "shop", "ftp://shop/", "http://", "http://a:b/", "http://shop:99999/"),
                *("http://shop/\r\nX: y", "http://me:pw@shop/", "http://shöp/", "http://shop/a b"),
                "http://" + "x" * 500,
            )
        ),
        OwnCheck(Kind.HTTP, url="http://shop/", status=99),
        OwnCheck(Kind.HTTP, url="http://shop/", contains="a\nb"),
        OwnCheck(Kind.TCP, port=1, within_s=0),
        OwnCheck(Kind.TCP, port=1, within_s=601),
    ],
)
def test_what_makes_no_sense_is_refused(wish: OwnCheck) -> None:
    with pytest.raises(NotfallError) as refused:
        describe([wish])
    assert refused.value.code == "bad-check" and refused.value.remedy


def test_there_are_not_too_many() -> None:
    many = [OwnCheck(Kind.TCP, port=port) for port in range(1, MOST + 2)]
    assert len(describe(many[:MOST])) == MOST
    with pytest.raises(NotfallError):
        describe(many)


class Here:
    """The machine is this one."""

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        return socket.create_connection(address, timeout)

    def command(
        self, arguments: Sequence[str | Path], timeout: float, environment: Mapping[str, str]
    ) -> Finished:
        return run(arguments, timeout=timeout, environment=environment)


Talk = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Talk], int]]:
    """Has each connection to a port talked to."""
    open_ones: list[socket.socket] = []

    def begin(talk: Talk) -> int:
        door = socket.create_server(("127.0.0.1", 0))
        open_ones.append(door)

        def work() -> None:
            while True:
                try:
                    line, _ = door.accept()
                except OSError:
                    return
                with line:
                    talk(line)

        threading.Thread(target=work, daemon=True).start()
        return int(door.getsockname()[1])

    yield begin
    for one in open_ones:
        one.shutdown(socket.SHUT_RDWR)
        one.close()


def asked(tmp_path: Path, *addresses: str) -> Asked:
    here = cast(HiddenNetwork, Here())
    return Asked(here, "shop", addresses or ("127.0.0.1",), tmp_path)


def made(check: OwnCheck, where: Asked) -> tuple[bool, str]:
    (one,) = ask_all([replace(check, within_s=1)], where, time.sleep)
    assert one.name == check.name
    return one.passed, one.told


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "ANSWERS_WITHIN_S", 0.5)
    monkeypatch.setattr(ask, "AGAIN_S", 0.5)


def answering(told: bytes, heard: list[bytes] | None = None) -> Talk:
    def talk(line: socket.socket) -> None:
        got = line.recv(4096)
        if heard is not None:
            heard.append(got)
        line.sendall(told)

    return talk


def test_a_port_takes_connections_or_not(tmp_path: Path, serve: Callable[[Talk], int]) -> None:
    port = serve(lambda line: None)
    check = OwnCheck(Kind.TCP, port=port)
    assert made(check, asked(tmp_path)) == (True, "")
    # One of its addresses is enough.
    assert made(check, asked(tmp_path, "127.0.0.2", "127.0.0.1"))[0]
    with socket.create_server(("127.0.0.1", 0)) as door:
        closed = int(door.getsockname()[1])
    passed, why = made(OwnCheck(Kind.TCP, port=closed), asked(tmp_path))
    assert not passed and "refused" in why


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nWillkomm\r\n4\r\nen <\r\n0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("told", "status", "why"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nWillkommen", 200, ""),
        (CHUNKED, 200, ""),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, "does not contain"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nWillkommen", 404, ""),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\nWillkommen", 200, "502 instead of 200"),
        (b"HTTP/1.1 200 OK\r\n\r\nAuf Wiedersehen", 200, "does not contain 'Willkommen'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nWillkommen", 200, ""),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", 200, "SSH-2.0"),
        (b"", 200, "127.0.0.1"),
    ],
)
def test_a_page_answers_as_it_should_or_it_is_said_what_came(
    tmp_path: Path, serve: Callable[[Talk], int], told: bytes, status: int, why: str
) -> None:
    heard: list[bytes] = []
    url = PAGE.format(serve(answering(told, heard)))
    check = OwnCheck(Kind.HTTP, url=url, status=status, contains="Willkommen")
    passed, said = made(check, asked(tmp_path))
    assert passed is (why == "") and why in said
    first = heard[0].decode()
    assert first.startswith("GET /login?a=b HTTP/1.1\r\nHost: shop.example:")


def test_a_copy_that_drips_or_floods_holds_nothing_up(
    tmp_path: Path, serve: Callable[[Talk], int]
) -> None:
    def drip(line: socket.socket) -> None:
        line.recv(4096)
        try:
            for _ in range(100):
                line.sendall(b"H")
                time.sleep(0.05)
        except OSError:
            pass

    def flood(line: socket.socket) -> None:
        line.recv(4096)
        try:
            line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                line.sendall(bytes(65536))
        except OSError:
            pass

    for talk, passes in ((drip, False), (flood, True)):
        began = time.monotonic()
        url = PAGE.format(serve(talk))
        assert made(OwnCheck(Kind.HTTP, url=url), asked(tmp_path))[0] is passes
        assert time.monotonic() - began < 5


def test_a_script_knows_the_copy_and_says_what_is_wrong(tmp_path: Path) -> None:
    def script(text: str) -> OwnCheck:
        program = tmp_path / "one"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        return OwnCheck(Kind.SCRIPT, script="one")

    where = asked(tmp_path, "127.0.0.1", "::1")
    told = 'test "$ADDRESS $NAME $ADDRESSES" = "127.0.0.1 shop 127.0.0.1 ::1"'
    assert made(script(told), where) == (True, "")
    assert made(script("echo no such table >&2; exit 3"), where) == (False, "no such table")
    passed, why = made(OwnCheck(Kind.SCRIPT, script="absent"), where)
    assert not passed and "there is no program" in why


def test_a_check_that_passes_later_passes(tmp_path: Path) -> None:
    program = tmp_path / "slow"
    program.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/there ] || {{ touch {tmp_path}/there; false; }}\n"
    )
    program.chmod(0o755)
    assert made(OwnCheck(Kind.SCRIPT, script="slow"), asked(tmp_path)) == (True, "")


def test_an_ended_rehearsal_does_not_wait_for_a_script(tmp_path: Path) -> None:
    class Ended(BaseException):
        pass

    def end(seconds: float) -> None:
        raise Ended

    program = tmp_path / "endless"
    program.write_text("#!/bin/sh\nexec sleep 5\n")
    program.chmod(0o755)
    began = time.monotonic()
    with pytest.raises(Ended):
        ask_all([OwnCheck(Kind.SCRIPT, script="endless")], asked(tmp_path), end)
    assert time.monotonic() - began < 2


def test_the_error_names_the_checks(tmp_path: Path) -> None:
    (one,) = ask_all(
        [OwnCheck(Kind.SCRIPT, script="absent", within_s=1)], asked(tmp_path), time.sleep
    )
    assert "script/absent: there is no program" in failed_error([one]).cause
