"""The lane for frames: who is sent there, and what it does when taking a frame fails."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from notfallserver.server.authority import Authority, create_authority
from notfallserver.server.web.lane import Lane, Lanes
from notfallserver.server.web.peer import Peer
from notfallserver.server.web.reception import wants_lane
from notfallserver.wire.client import FRAMES_PROTOCOL, Client, tls_context
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import HEADER, PLAIN, contents_start, write_blocks

UUID = "0d1f6c2e-0000-4000-8000-000000000001"


def hello(context: ssl.SSLContext) -> bytes:
    """What a client with this context sends first."""
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def test_only_a_client_that_names_the_protocol_is_sent_there(tmp_path: Path) -> None:
    pem = create_authority(tmp_path).ca_pem
    assert wants_lane(hello(tls_context(pem, frames=True)))
    assert not wants_lane(hello(tls_context(pem)))
    browser = ssl.create_default_context()
    browser.set_alpn_protocols(["h2", "http/1.1"])
    assert not wants_lane(hello(browser))
    assert not wants_lane(b"GET /notfall HTTP/1.1\r\n" + FRAMES_PROTOCOL.encode())
    assert not wants_lane(b"")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = create_authority(tmp_path / "ca")
    authority.ensure_server_certificate(["127.0.0.1"])
    return authority


@pytest.fixture
def client(authority: Authority, tmp_path: Path) -> Iterator[Client]:
    """Connected to a lane that takes offers (by reversing them) and fails at blocks."""

    def fail(_primary: str, _run: str, _frame: memoryview) -> bytes:
        raise OSError("the disk is broken")

    def turn(primary: str, run: str, frame: memoryview) -> bytes:
        assert (primary, run) == (UUID, "r1")
        return bytes(frame)[::-1]

    def check(peer: Peer) -> None:
        assert peer.primary == UUID

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_certificate, authority.server_key)
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    lanes = Lanes(Lane(context, {"offer": turn, "blocks": fail, "holes": lambda *_: b""}, check))
    port = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = port.accept()
            except OSError:
                return
            lanes.admit(connection)

    threading.Thread(target=accept, daemon=True).start()
    issued = authority.issue_client(UUID)
    for name, text in (("cert.pem", issued.certificate), ("key.pem", issued.key)):
        (tmp_path / name).write_text(text)
    files = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    url = f"https://127.0.0.1:{port.getsockname()[1]}"
    client = Client(url, tls_context(authority.ca_pem, *files, frames=True), timeout=20)
    yield client
    client.close()
    lanes.close()
    port.shutdown(socket.SHUT_RDWR)
    port.close()


def test_frames_follow_each_other_on_one_connection(client: Client) -> None:
    for length in (0, 3, 1 << 20, 7):
        body = bytes(range(256)) * (length // 256 + 1)
        frame = body[:length]
        assert client.send("POST", "/agent/v1/runs/r1/offer", frame) == frame[::-1]
    content = bytes(range(256)) * 512
    frame = write_blocks(0, [(7, bytes(16)), (8, bytes(16))], content, PLAIN)
    assert bytes(frame[contents_start(frame[: HEADER.size]) :]) == content
    assert client.send("POST", "/agent/v1/runs/r1/offer", frame) == frame[::-1]
    assert client.send("POST", "/agent/v1/runs/r1/holes", b"x") == b""


def test_an_unexpected_failure_is_an_answer_and_the_connection_goes_on(client: Client) -> None:
    with pytest.raises(NotfallError) as caught:
        client.send("POST", "/agent/v1/runs/r1/blocks", b"frame")
    assert (caught.value.status, caught.value.code) == (500, "internal")
    assert client.send("POST", "/agent/v1/runs/r1/offer", b"ab") == b"ba"
