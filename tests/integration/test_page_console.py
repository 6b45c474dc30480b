"""The screen of a stand-in in a real browser, with a real machine: seen, typed to, switched."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hand_agent import HandAgent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect
from server_process import ServerProcess, running
from sqlalchemy import update
from typing_guest import DISK, TypingGuest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_socket
from websockets.typing import Origin, Subprotocol

from notfall_lab.browser import Seen, browser
from notfall_lab.own_lab import own_lab
from notfall_lab.patience import PATIENCE_S, until
from notfallserver.server.records.people import Role
from notfallserver.server.records.tables import people
from notfallserver.server.vm import MachineState
from notfallserver.server.web import language
from notfallserver.server.web.console import MOST, End
from notfallserver.server.web.people import COOKIE
from notfallserver.server.web.socket_protocol import MESSAGE_LIMIT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PASSWORD = "secret secret"
HELLO = b"RFB 003.008\n"


class Place:
    """A server, its primary in emergency operation, and the stand-in."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        lab = own_lab("console", directory / "lab", net=204)
        settings = {"libvirt_uri": lab.uri}
        made = ServerProcess(directory, settings)
        self.server = stack.enter_context(running(made))
        with self.server.catalogue() as catalogue:
            for role in (Role.VIEWER, Role.OPERATOR):
                catalogue.people.add(role, PASSWORD, role, "root")
        self.agent = agent = HandAgent(self.server, "shop", DISK)
        stack.callback(agent.close)
        agent.protect()
        other = HandAgent(self.server, "calm")
        stack.callback(other.close)
        other.protect()
        self.server.put_in_emergency(agent.uuid)
        stack.enter_context(lab)
        self.guest = TypingGuest(self.server, agent, lab)
        stack.callback(self.guest.hypervisor.close)

    def on(self) -> None:
        """The guest has booted anew."""
        self.guest.hypervisor.kill(self.guest.name)
        told = len(self.guest.told())
        self.guest.hypervisor.start(self.guest.name)
        until(lambda: self.guest.told()[told:] == "B")

    def session(self, name: str = "admin") -> str:
        """The cookie of somebody who logs in."""
        with self.server.client() as client:
            word = self.server.password if name == "admin" else PASSWORD
            client.post("/login", data={"name": name, "password": word})
            return client.cookies[COOKIE]

    def line(self, cookie: str, name: str = "shop", **changed: Any) -> ClientConnection:
        """The WebSocket of the console as a browser opens it, apart from what is ``changed``."""
        path = changed.pop("path", f"/p/{name}/console/stream")
        context = self.server.context()
        # The tickets of TLS 1.3 come unasked after the handshake: this client's thread may then
        # read while another writes, which OpenSSL does not stand.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        given = {
            "origin": Origin(self.server.url),
            "subprotocols": [Subprotocol("binary")],
            "additional_headers": {"Cookie": f"{COOKIE}={cookie}"},
            "ssl": context,
            "proxy": None,
            **changed,
        }
        line: ClientConnection = open_socket(
            self.server.url.replace("https", "wss") + path, **given
        )
        return line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack, tmp_path_factory.mktemp("console"))


def refused(place: Place, cookie: str, **changed: Any) -> int:
    with pytest.raises(InvalidStatus) as caught:
        place.line(cookie, **changed)
    return caught.value.response.status_code


def ended(line: ClientConnection, seconds: float = 10) -> int:
    """The code with which the server closes."""
    give_up = time.monotonic() + seconds
    with pytest.raises(ConnectionClosed) as caught:
        while time.monotonic() < give_up:
            line.recv(timeout=max(0.1, give_up - time.monotonic()))
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


# -- in the browser --------------------------------------------------------------------------------


def status(seen: Seen, line: str, seconds: float = 20) -> None:
    expect(seen.page.locator(f"[data-line={line}]")).to_be_visible(timeout=seconds * 1000)


def bright(seen: Seen) -> int:
    """How many dots of the picture are not black."""
    found: int = seen.page.evaluate(
        """() => {
            const canvas = document.querySelector("#screen canvas");
            const dots = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let bright = 0;
            for (let at = 0; at < dots.data.length; at += 4)
                if (dots.data[at] + dots.data[at + 1] + dots.data[at + 2] > 60) bright++;
            return bright;
        }"""
    )
    return found


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_the_screen_is_seen_and_can_be_read_by_everybody(place: Place, spoken: str) -> None:
    place.on()
    with browser(place.server.url, spoken) as seen:
        seen.log_in(PASSWORD, Role.OPERATOR)
        for path in ("/p/shop", "/p/shop/emergency"):
            seen.page.goto(seen.url + path)
            seen.keep(f"{spoken}{path.replace('/', '-')}-screen")
            seen.page.click("#open-screen")
            expect(seen.page).to_have_url(seen.url + "/p/shop/console")
        status(seen, "connected")
        until(lambda: bright(seen) > 500)
        seen.keep(f"{spoken}-console")
        seen.check()
        seen.page.click("#hard summary")
        seen.keep(f"{spoken}-console-hard")
        seen.page.goto(seen.url + "/p/calm/console")
        expect(seen.page.locator("#screen")).to_have_count(0)
        seen.check()
        assert seen.problems == []
        assert seen.hosts == {seen.url.split("/")[2]}


def test_keys_reach_the_guest_and_there_is_a_way_out_by_keyboard(place: Place) -> None:
    place.on()
    with browser(place.server.url, "en") as seen:
        seen.log_in(PASSWORD, Role.OPERATOR)
        seen.page.goto(seen.url + "/p/shop/console")
        status(seen, "connected")
        seen.page.click("#screen canvas")
        keyboard = seen.page.keyboard
        keyboard.type("typed")
        until(lambda: place.guest.told().endswith("Btyped"))
        # Nothing but the guest's screen is behind it: QEMU has no other console to switch to.
        keyboard.press("Control+Alt+Digit2")
        keyboard.type("q")
        until(lambda: place.guest.told().endswith("Btypedq"))
        before = bright(seen)
        keyboard.type("mmmm")
        until(lambda: bright(seen) > before)
        keyboard.press("Control+Alt+Home")
        expect(seen.page.locator("#keys")).to_be_focused()
        keyboard.type("z")
        seen.page.click("#fit")
        expect(seen.page.locator("#fit")).to_have_attribute("aria-pressed", "false")
        seen.page.click("#fit")
        seen.page.click("#whole")
        until(lambda: bool(seen.page.evaluate("document.fullscreenElement?.id === 'screen'")))
        seen.page.evaluate("document.exitFullscreen()")
        keyboard.type("n")  # no key of the way out is still held down
        until(lambda: place.guest.told().endswith("Btypedqmmmmn"))
        seen.page.click("#keys")
        until(lambda: place.guest.told().endswith("nB"))
        assert seen.problems == []


def test_it_is_shut_down_and_stays_off_until_somebody_switches_it_on(place: Place) -> None:
    place.on()
    machine = place.guest.hypervisor.state
    with browser(place.server.url, "en") as seen:
        seen.log_in(place.server.password)
        seen.page.goto(seen.url + "/p/shop/console")
        status(seen, "connected")
        before = len(place.guest.told())
        seen.page.click("#restart")
        expect(seen.page.locator("#told")).to_contain_text("It was told to restart.")
        until(lambda: place.guest.told()[before:] == "B")
        seen.page.click("#shut-down")
        status(seen, "off")
        until(lambda: machine(place.guest.name) is MachineState.OFF)
        seen.keep("en-console-off")
        seen.check()
        time.sleep(5)
        assert machine(place.guest.name) is MachineState.OFF
        place.agent.poll()  # the original is heard: the guard refuses, and a person overrules it
        seen.page.click("#start")
        expect(seen.page.locator("#told .problem")).to_contain_text("not started")
        seen.page.click("#told summary >> nth=-1")
        seen.keep("en-console-refused")
        seen.check()
        seen.page.fill("textarea", "I pulled its plug")
        seen.page.click("#told button")
        status(seen, "connected")
        seen.page.click("#hard summary")
        seen.page.click("#switch-off")
        status(seen, "off")
        seen.page.goto(seen.url + "/p/shop/emergency")
        expect(seen.page.locator("h1")).to_have_text("The stand-in of shop is off")
        seen.keep("en-emergency-off")
        seen.check()
        with place.server.root() as root:
            rows = root.get("/api/v1/journal?primary=shop").json()
        events = [one["event"] for one in reversed(rows)]
        orders = [one for one in events if one.startswith("power-")]
        wanted = ["restart", "shut-down", "start", "switch-off"]
        assert orders == [f"power-{one}" for one in wanted]
        assert {"refused", "overruled", "console-opened"} <= set(events)


def test_the_page_comes_back_after_a_restart_of_the_server(place: Place) -> None:
    place.on()
    with browser(place.server.url, "de") as seen:
        seen.log_in(PASSWORD, Role.OPERATOR)
        seen.page.goto(seen.url + "/p/shop/console")
        status(seen, "connected")
        seconds = place.server.stop()
        status(seen, "lost")
        seen.keep("de-console-lost")
        place.server.start()
        assert seconds < 5
        status(seen, "connected")
        until(lambda: bright(seen) > 500)


# -- who may not -----------------------------------------------------------------------------------


def test_another_site_a_viewer_and_a_stranger_are_refused(place: Place) -> None:
    place.on()
    operator, viewer = place.session(Role.OPERATOR), place.session(Role.VIEWER)
    for origin in (
        *("https://evil.example", place.server.url.replace("https", "http"), "null"),
        f"{place.server.url}.evil.example",
    ):
        assert refused(place, operator, origin=Origin(origin)) == 403
    assert refused(place, operator, origin=None) == 403
    assert refused(place, viewer) == 403
    assert refused(place, "nobody") == 401
    assert refused(place, operator, name="nowhere") == 404
    assert refused(place, operator, subprotocols=None) == 400
    for path in ("/", "/changes", "/static/style.css", "/api/v1/primaries", "/p/shop/console"):
        assert refused(place, operator, path=path) == 404
    with place.server.client(cookies={COOKIE: viewer}) as client:
        assert client.get("/p/shop/console").status_code == 403
        for path in ("/p/shop/console/power", "/api/v1/primaries/shop/power"):
            assert client.post(path, json={"order": "shut-down"}).status_code == 403
        assert client.get("/api/v1/primaries/shop/power").json() == {"machine": "running"}
    with place.server.client(cookies={COOKIE: operator}) as client:
        order = {"order": "start", "overrule_reason": "I want it"}
        assert client.post("/api/v1/primaries/shop/power", json=order).status_code == 403
        hard = client.post("/api/v1/primaries/shop/power", json={"order": "switch-off"})
        assert hard.json()["code"] == "not-confirmed"
        calm = client.post("/api/v1/primaries/calm/power", json={"order": "start"})
        assert calm.json()["code"] == "not-in-this-state"
    with place.line(operator, name="calm") as line:
        assert ended(line) == End.OFF
    assert "Traceback" not in place.server.log()


def test_the_line_ends_when_the_person_may_no_more(place: Place) -> None:
    place.on()
    cookie = place.session(Role.OPERATOR)
    with place.line(cookie) as line, place.server.client(cookies={COOKIE: cookie}) as client:
        assert line.recv(timeout=PATIENCE_S) == HELLO
        client.post("/logout")
        assert ended(line, 6) == End.NO_LONGER
    with place.line(place.session(Role.OPERATOR)) as line:
        assert line.recv(timeout=PATIENCE_S) == HELLO
        try:
            give_role(place, Role.VIEWER)
            assert ended(line, 6) == End.NO_LONGER
        finally:
            give_role(place, Role.OPERATOR)


def give_role(place: Place, role: Role) -> None:
    with place.server.catalogue() as catalogue, catalogue.people._database.writing() as connection:
        connection.execute(update(people).where(people.c.name == Role.OPERATOR).values(role=role))


# -- limits ----------------------------------------------------------------------------------------


def test_only_a_few_look_at_once_and_it_ends_with_the_machine(place: Place) -> None:
    place.on()
    cookie = place.session(Role.OPERATOR)
    with ExitStack() as stack:
        lines = [stack.enter_context(place.line(cookie)) for _ in range(MOST)]
        assert [one.recv(timeout=PATIENCE_S) for one in lines] == [HELLO] * MOST
        with place.line(cookie) as too_many:
            assert ended(too_many) == End.FULL
        lines.pop().close()
        with place.line(cookie) as again:
            assert again.recv(timeout=PATIENCE_S) == HELLO
        place.guest.hypervisor.kill(place.guest.name)
        assert [ended(one) for one in lines] == [End.OFF] * (MOST - 1)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(messages=st.lists(st.binary(max_size=200), min_size=1, max_size=8), hello=st.booleans())
def test_whatever_is_sent_the_guest_works_on(
    place: Place, messages: list[bytes], hello: bool
) -> None:
    if place.guest.hypervisor.state(place.guest.name) is not MachineState.RUNNING:
        place.on()
    with place.line(fuzzer(place)) as line:
        assert line.recv(timeout=PATIENCE_S) == HELLO
        try:
            for message in [HELLO, b"\1", b"\1"] if hello else []:
                line.send(message)
            for message in messages:
                line.send(message)
        except ConnectionClosed:
            pass  # QEMU had enough of it
    assert place.guest.hypervisor.state(place.guest.name) is MachineState.RUNNING


def fuzzer(place: Place) -> str:
    """One session for all examples."""
    if not hasattr(place, "cookie"):
        place.cookie = place.session(Role.OPERATOR)  # type: ignore[attr-defined]
    return str(place.cookie)  # type: ignore[attr-defined]


def test_text_and_long_messages_end_the_line(place: Place) -> None:
    place.on()
    cookie = place.session(Role.OPERATOR)
    with place.line(cookie) as line:
        line.send("text")
        assert ended(line) == End.TROUBLE
    with place.line(cookie) as line:
        line.send(bytes(MESSAGE_LIMIT + 1))
        assert ended(line) == 1009
    assert "Traceback" not in place.server.log()


def test_a_browser_that_reads_nothing_costs_no_memory(place: Place) -> None:
    """It asks for the whole screen again and again, and never reads what comes."""
    place.on()
    cookie = place.session(Role.OPERATOR)
    before = resident(place.server)
    with place.line(cookie, max_queue=1) as line:
        for message in (HELLO, b"\1", b"\1"):
            line.send(message)
        time.sleep(1)
        try:
            for _ in range(3000):
                line.send(b"\3\0" + bytes(4) + b"\xff\xff\xff\xff")
        except (ConnectionClosed, TimeoutError, ssl.SSLError):
            pass
        time.sleep(1)
        assert resident(place.server) - before < 16 << 20
        with place.line(cookie) as other:
            assert other.recv(timeout=PATIENCE_S) == HELLO
        line.socket.close()
    seconds = place.server.stop()
    place.server.start()
    assert seconds < 8


def resident(server: ServerProcess) -> int:
    """Bytes of memory that the server's process holds."""
    assert server.process is not None
    text = Path(f"/proc/{server.process.pid}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
