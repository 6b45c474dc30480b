"""Agents find their server at any of its addresses, and no other machine there is taken for it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from notfallserver.agent import config
from notfallserver.agent.addresses import FILE, MOST, answered, recall, remember, usable
from notfallserver.agent.config import Settings, pinned
from notfallserver.server.addresses import as_url
from notfallserver.server.authority import Authority, create_authority
from notfallserver.server.settings import Settings as ServerSettings
from notfallserver.wire.errors import NotfallError

NOWHERE = "https://127.0.0.1:1"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"by": self.connection.getsockname()[1]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that knows another CA breaks off."""


@contextmanager
def serving(authority: Authority) -> Iterator[str]:
    authority.ensure_server_certificate(["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_certificate, authority.server_key)
    with Quiet(("127.0.0.1", 0), Answering) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "ca")


@pytest.fixture
def etc(tmp_path: Path, ours: Authority) -> Path:
    """The agent's directory."""
    directory = tmp_path / "etc"
    directory.mkdir()
    made = ours.issue_client("0d1f6c2e-0000-4000-8000-000000000001")
    for name, text in (
        ("ca.pem", ours.ca_pem),
        ("cert.pem", made.certificate),
        ("key.pem", made.key),
    ):
        (directory / name).write_text(text)
    return directory


def called(etc: Path, url: str) -> int:
    """The port that answers."""
    client = config.connect(etc, Settings(url))
    try:
        return int(client.call("POST", "/", {})["by"])
    finally:
        client.close()


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_it_is_found_where_it_went_and_looked_for_there_first(etc: Path, ours: Authority) -> None:
    with ExitStack() as stack:
        lost = stack.enter_context(ExitStack())
        first = lost.enter_context(serving(ours))
        new = stack.enter_context(serving(ours))
        client = config.connect(etc, Settings(first))
        assert client.call("POST", "/", {})["by"] == port(first)
        remember(etc, first, [first, NOWHERE, new])  # while the line is open
        assert called(etc, first) == port(first)
        assert recall(etc, first).last == ""
        lost.close()
        client.close()  # the line that is cut
        assert client.call("POST", "/", {})["by"] == port(new)
        client.close()
        assert recall(etc, first).ordered == (new, first, NOWHERE)
        assert called(etc, first) == port(new)
        remember(etc, first, [new, NOWHERE])
        assert recall(etc, first).ordered == (new, first, NOWHERE)
        remember(etc, first, [first, new])  # the same machine, at its better address again
        assert recall(etc, first).ordered == (first, new)


def test_another_machine_at_its_address_is_not_taken_for_it(
    etc: Path, ours: Authority, tmp_path: Path
) -> None:
    with serving(create_authority(tmp_path / "other")) as stranger, serving(ours) as new:
        remember(etc, stranger, [new])
        assert called(etc, stranger) == port(new)
        (etc / FILE).unlink()
        with pytest.raises(NotfallError) as caught:
            called(etc, stranger)
        assert caught.value.code == "server-unreachable"


def test_in_a_handover_it_is_reached_by_number_where_it_is(etc: Path, ours: Authority) -> None:
    with serving(ours) as url:
        named = url.replace("127.0.0.1", "localhost")
        remember(etc, NOWHERE, [named])
        settings = pinned(etc, Settings(NOWHERE, "p"))
        assert (settings.url, settings.primary) == (url, "p")
    with pytest.raises(NotfallError) as caught:
        pinned(etc, Settings(NOWHERE))
    assert caught.value.retry and "localhost" in caught.value.cause


def test_what_is_kept_belongs_to_one_invitation_and_damage_costs_no_more_than_itself(
    tmp_path: Path,
) -> None:
    remember(tmp_path, NOWHERE, ["https://a:1", "https://b:2"])
    answered(tmp_path, NOWHERE, "https://b:2")
    assert recall(tmp_path, NOWHERE).ordered == ("https://b:2", NOWHERE, "https://a:1")
    assert recall(tmp_path, "https://another").ordered == ("https://another",)
    remember(tmp_path, NOWHERE, None)  # a server that does not tell
    answered(tmp_path, NOWHERE, NOWHERE)
    assert recall(tmp_path, NOWHERE).ordered == (NOWHERE, "https://a:1", "https://b:2")
    for text in ("", "[]", "{}", '{"url": "https://127.0.0.1:1", "told": 5, "last": []}'):
        (tmp_path / FILE).write_text(text)
        assert recall(tmp_path, NOWHERE).ordered == (NOWHERE,)


def test_a_bare_host_is_enough_for_whoever_types_it() -> None:
    typed = ("10.0.0.9", "spare", "spare:99", "fd00::9", "[fd00::9]", "https://spare", "http://x")
    assert [as_url(one, 8443) for one in typed] == [
        "https://10.0.0.9:8443",
        "https://spare:8443",
        "https://spare:99",
        "https://[fd00::9]:8443",
        "https://[fd00::9]:8443",
        "https://spare",
        "http://x",  # refused with what is wrong
    ]
    with pytest.raises(NotfallError, match="an address is written"):
        ServerSettings().changed({"further_urls": ["http://x"]})


def test_only_addresses_of_a_server_are_kept() -> None:
    bad = [
        "http://a",
        "https://",
        "a:1",
        "https://a:99999",
        "https://[::1",
        5,
        "https://" + "a" * 400,
    ]
    assert usable([*bad, "https://a:1/", "https://a:1", "https://[fd00::1]:8443"]) == (
        "https://a:1",
        "https://[fd00::1]:8443",
    )
    assert len(usable([f"https://a{one}" for one in range(99)])) == MOST
    assert usable("https://a") == usable(None) == ()
