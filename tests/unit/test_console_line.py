"""The line of a console: both ways, held up by a slow reader, ended from every side; no TLS."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from starlette.concurrency import run_in_threadpool
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_socket

from notfallserver.server.web import console
from notfallserver.server.web.console import PIECE, Consoles, End, carry
from notfallserver.server.web.socket_protocol import MESSAGE_LIMIT, PING_S, SocketProtocol


@dataclass
class Serving:
    """One line at a time; ``guest`` is the machine's end of it."""

    port: int = 0
    guest: socket.socket = field(init=False)
    allowed: bool = True
    ends: list[End] = field(default_factory=list)

    def line(self) -> ClientConnection:
        opened: ClientConnection = open_socket(f"ws://127.0.0.1:{self.port}/", proxy=None)
        return opened

    def await_end(self, seconds: float = 10) -> End:
        until = time.monotonic() + seconds
        while not self.ends:
            assert time.monotonic() < until
            time.sleep(0.02)
        return self.ends.pop()


@pytest.fixture
def serving() -> Iterator[Serving]:
    app, made = FastAPI(), Serving()

    @app.websocket("/")
    async def stream(line: WebSocket) -> None:
        await line.accept()
        ours, made.guest = socket.socketpair()
        made.guest.settimeout(10)
        made.guest.sendall(b"hello")
        end = await carry(line, ours, lambda: run_in_threadpool(lambda: made.allowed))
        made.ends.append(end)
        if end is not End.GONE:
            await line.close(end)

    config = uvicorn.Config(
        app,
        port=0,
        ws=SocketProtocol,
        ws_max_size=MESSAGE_LIMIT,
        ws_ping_interval=PING_S,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    made.port = server.servers[0].sockets[0].getsockname()[1]
    yield made
    server.should_exit = True
    began = time.monotonic()
    thread.join()
    assert time.monotonic() - began < 4
    made.guest.close()


def code_of(line: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            line.recv(timeout=10)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def test_bytes_go_both_ways_unchanged(serving: Serving) -> None:
    with serving.line() as line:
        assert line.recv(timeout=10) == b"hello"
        sent = bytes(range(256)) * 200
        line.send(sent)
        got = b""
        while len(got) < len(sent):
            got += serving.guest.recv(PIECE)
        assert got == sent
        serving.guest.sendall(sent)
        back = b""
        while len(back) < len(sent):
            piece = line.recv(timeout=10)
            assert isinstance(piece, bytes)
            back += piece
        assert back == sent
    assert serving.await_end() is End.GONE


@pytest.mark.parametrize("times", range(5))
def test_text_ends_it_also_in_the_moment_when_the_screen_comes(
    serving: Serving, times: int
) -> None:
    with serving.line() as line:
        line.send("text")
        assert code_of(line) == End.TROUBLE
    assert serving.await_end() is End.TROUBLE


def test_it_ends_with_the_machine_and_with_the_right_to_see_it(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving.line() as line:
        assert line.recv(timeout=10) == b"hello"
        serving.guest.close()
        assert code_of(line) == End.OFF
    monkeypatch.setattr(console, "LOOK_S", 0.1)
    with serving.line() as line:
        assert line.recv(timeout=10) == b"hello"
        serving.allowed = False
        assert code_of(line) == End.NO_LONGER
    assert serving.guest.recv(1) == b""


def test_a_machine_that_reads_nothing_holds_the_browser_up(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "STUCK_S", 1.0)
    with serving.line() as line:
        assert line.recv(timeout=10) == b"hello"
        line.send(bytes(MESSAGE_LIMIT))
        line.send(bytes(MESSAGE_LIMIT))
        try:
            for _ in range(100):
                line.send(bytes(MESSAGE_LIMIT))
        except ConnectionClosed:
            pass
        assert serving.await_end() is End.TROUBLE


def test_a_browser_that_reads_nothing_holds_the_machine_up(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "STUCK_S", 1.0)
    with socket.create_connection(("127.0.0.1", serving.port)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        while b"hello" not in raw.recv(4096):
            pass
        taken = 0
        with pytest.raises(OSError):
            while True:
                taken += serving.guest.send(bytes(PIECE))
        assert taken < 16 << 20
        assert serving.await_end() is End.GONE


def test_only_a_few_at_once_and_a_visit_is_told_once() -> None:
    async def check() -> None:
        consoles = Consoles()
        with consoles.room("a") as first, consoles.room("a"), consoles.room("a"):
            with consoles.room("a") as fourth, consoles.room("a") as fifth:
                assert (first, fourth, fifth) == (True, True, False)
            with consoles.room("a") as again, consoles.room("b") as other:
                assert again and other
        assert consoles.visits("anna", "a") and consoles.visits("bert", "a")
        assert not consoles.visits("anna", "a")

    asyncio.run(check())
