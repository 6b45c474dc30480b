"""The pages in a real browser, in both languages; and the German complete."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from hand_agent import HandAgent, Serving
from page_scene import LONG, Scene, every_place
from playwright.sync_api import Page, expect, sync_playwright
from server_process import MACHINE, ServerProcess, running, token_of

from notfallserver.server.web import language
from notfallserver.server.web.words import findings, history, problems, situation
from notfallserver.wire.blocks import BLOCK

AXE = Path(__file__).parents[2] / "build" / "browser" / "axe.min.js"
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SCREENS = (
    *("/", "/p/shop", "/p/erp", f"/p/{LONG}", "/p/nobody"),
    *("/p/shop/emergency", "/p/files/emergency", f"/p/{LONG}/emergency"),
    *("/p/shop/recovery", "/p/files/recovery", "/p/mail/recovery"),
    *("/add", "/journal", "/journal?primary=shop", "/jobs", "/server", "/nowhere"),
)


@dataclass
class Seen:
    """A page in a browser, and what went wrong in it."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def log_in(self, password: str) -> None:
        self.page.goto(self.url + "/login")
        self.page.fill("input[name=password]", password)
        self.page.click("main button")
        expect(self.page).to_have_url(self.url + "/")

    def check(self) -> None:
        """Nothing sticks out on a phone, nothing keeps anybody from reading it."""
        self.page.set_viewport_size({"width": 390, "height": 844})
        assert self.page.evaluate("document.documentElement.scrollWidth") <= 390
        self.page.set_viewport_size({"width": 1280, "height": 800})
        self.page.evaluate(AXE.read_text())  # not as a script: the page's policy would forbid it
        told = self.page.evaluate("rules => axe.run({runOnly: rules})", RULES)
        found = [
            f"{one['id']}: {one['help']}: {one['nodes'][0]['html']}" for one in told["violations"]
        ]
        assert found == []

    def keep(self, name: str) -> None:
        """Screenshots as artefacts, where a directory for them is named."""
        if pictures := os.environ.get("NOTFALL_PICTURES"):
            for width in (1280, 390):
                self.page.set_viewport_size({"width": width, "height": 844})
                self.page.screenshot(path=f"{pictures}/{name}-{width}.png", full_page=True)
            self.page.set_viewport_size({"width": 1280, "height": 800})


@contextmanager
def browser(url: str, spoken: str = "de") -> Iterator[Seen]:
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path="/usr/bin/chromium", args=list(QUIET))
        context = opened.new_context(ignore_https_errors=True, locale=spoken)
        seen = Seen(context.new_page(), url)
        page = seen.page
        page.on(
            "console",
            lambda told: seen.problems.append(told.text) if told.type == "error" else None,
        )
        page.on("pageerror", lambda error: seen.problems.append(str(error)))
        page.on("request", lambda asked: seen.hosts.add(asked.url.split("/")[2]))
        yield seen
        opened.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with every_place(tmp_path_factory.mktemp("scene")) as made:
        yield made


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_every_screen_can_be_read_by_everybody(scene: Scene, spoken: str) -> None:
    with browser(scene.server.url, spoken) as seen:
        seen.page.goto(seen.url + "/login")
        seen.keep(f"{spoken}-login")
        seen.check()
        seen.log_in(scene.server.password)
        for path in SCREENS:
            seen.page.goto(seen.url + path)
            assert seen.page.locator("html").get_attribute("lang") == spoken
            expect(seen.page.locator(".asking")).to_have_count(0, timeout=15000)
            seen.keep(spoken + re.sub(r"[^a-z]+", "-", path).rstrip("-"))
            seen.check()
        assert seen.hosts == {seen.url.split("/")[2]}
        refused = [one for one in seen.problems if "404" not in one]  # of what is not there
        assert refused == []


def test_the_worst_comes_first_and_says_what_to_do(scene: Scene) -> None:
    with browser(scene.server.url, "en") as seen:
        seen.log_in(scene.server.password)
        names = seen.page.locator(".tiles h2").all_inner_texts()
        assert names[0] == "erp" and names[-1] == "mail"  # which is only busy
        tile = seen.page.locator(".tiles article").first
        expect(tile.locator(".title")).to_have_text(situation.SILENT)
        tile.get_by_role("link", name="Start the stand-in").click()
        expect(seen.page).to_have_url(f"{seen.url}/p/erp/emergency")


def test_the_language_can_be_changed_and_stays(scene: Scene) -> None:
    with browser(scene.server.url, "de") as seen:
        seen.log_in(scene.server.password)
        seen.page.goto(seen.url + "/p/shop")
        seen.page.click("text=English")
        expect(seen.page).to_have_url(f"{seen.url}/p/shop")
        expect(seen.page.locator("#copy-now")).to_have_text("Copy now")
        seen.page.goto(seen.url)
        expect(seen.page.locator("html")).to_have_attribute("lang", "en")


def test_a_wrong_code_is_told_in_words_and_what_was_typed_stays(scene: Scene) -> None:
    with browser(scene.server.url, "en") as seen:
        seen.log_in(scene.server.password)
        seen.page.goto(seen.url + "/p/files/recovery")
        seen.page.fill("input[name=code]", "ABCD-EFGH")
        seen.page.keyboard.press("Enter")
        expect(seen.page.locator("#plan .problem")).to_contain_text("No machine shows this code.")
        time.sleep(2.5)  # the page looks at the present meanwhile
        expect(seen.page.locator("input[name=code]")).to_have_value("ABCD-EFGH")


def test_a_server_is_added_by_a_line_and_its_page_opens_when_it_appears(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path)) as server, browser(server.url, "en") as seen:
        seen.log_in(server.password)
        expect(seen.page.locator("h1")).to_have_text("No server is protected yet")
        seen.page.click("text=Add a server")
        seen.page.fill("input[name=name]", "no such name")
        seen.page.click("main button")
        expect(seen.page.locator("main .problem")).to_contain_text("can't be the name")
        seen.page.fill("input[name=name]", "shop")
        seen.page.click("main button")
        line = seen.page.locator("#line").inner_text()
        seen.keep("en-line")
        seen.check()
        with server.client() as fresh:
            body = {"token": token_of(line), "machine": MACHINE}
            assert fresh.post("/agent/v1/enrol", json=body).status_code == 200
        expect(seen.page).to_have_url(f"{seen.url}/p/shop", timeout=20000)
        expect(seen.page.locator(".title")).to_have_text(situation.NOT_YET)


def test_a_refused_start_says_why_and_a_person_overrules_with_a_reason(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(running(ServerProcess(tmp_path)))
        agent = HandAgent(server, "shop")
        stack.callback(agent.close)
        agent.poll()
        agent.replicate()
        agent.poll()  # so it lives
        seen = stack.enter_context(browser(server.url, "en"))
        seen.log_in(server.password)
        seen.page.goto(seen.url + "/p/shop")
        seen.page.click("text=This server is down")
        title = seen.page.locator("section.bad .title")
        expect(title).to_have_text("It still shows signs of life", timeout=15000)
        expect(seen.page.get_by_role("button", name="Start the stand-in now")).to_have_count(0)
        seen.page.click("summary")
        seen.page.fill("textarea", "I pulled its plug")
        seen.page.click("text=Start the stand-in all the same")
        # There is no hypervisor here: it ends where it began, and says so.
        problem = seen.page.locator(".problem[role=alert]").last
        expect(problem).to_contain_text("does not answer", timeout=30000)
        expect(seen.page.locator("h1")).to_have_text("Is shop really down?")
        with server.root() as root:
            events = [one["event"] for one in root.get("/api/v1/journal?primary=shop").json()]
        assert {"overruled", "activate", "activation_failed"} <= set(events)


def test_the_first_copy_is_followed_and_a_restart_of_the_server_survived(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(running(ServerProcess(tmp_path)))
        agent = HandAgent(server, "slow", os.urandom(64 * BLOCK))
        stack.callback(agent.close)
        seen = stack.enter_context(browser(server.url, "de"))
        seen.log_in(server.password)
        expect(seen.page.locator(".tiles .title")).to_have_text("Noch nicht geschützt")
        with Serving(agent, lambda: agent.replicate(0.5, 1)):
            with server.root() as root:
                assert root.post("/api/v1/primaries/slow/replicate").status_code == 202
            figures = seen.page.locator(".job .figures")
            expect(figures).to_contain_text("MB", timeout=15000)
            expect(figures).to_contain_text("noch", timeout=15000)
        assert seen.problems == []
        server.stop()
        expect(seen.page.locator("#lost")).to_be_visible(timeout=15000)
        server.start()
        expect(seen.page.locator("#lost")).to_be_hidden(timeout=40000)


def test_every_text_of_the_pages_has_its_german() -> None:
    found = {
        message if isinstance(message, str) else message[0]
        for _, _, message, _, _ in extract_from_dir(
            language.HERE / "templates", method_map=[("**.html", "jinja2.ext:babel_extract")]
        )
    }
    for told in (language.STATES, language.KINDS, language.PHASES, history.EVENTS):
        found |= set(told.values())
    found |= {*situation.TEXTS, *findings.TEXTS, *problems.TEXTS}
    with (language.HERE / "strings" / "de.po").open("rb") as file:
        rows = [one for one in read_po(file) if one.id]
    known = {one.id if isinstance(one.id, str) else one.id[0] for one in rows if one.string}
    assert found - known == set()
    values = re.compile(r"%\(\w+\)s")
    for one in rows:
        if isinstance(one.id, str):
            assert set(values.findall(one.id)) == set(values.findall(str(one.string))), one.id


@pytest.mark.parametrize(
    ("wish", "spoken"),
    [
        ("de-AT,de;q=0.9,en;q=0.1", "de"),
        ("fr,en;q=0.8,de;q=0.2", "en"),
        ("fr", "en"),
        ("", "en"),
        (";q=x,,*", "en"),
    ],
)
def test_the_browser_chooses_the_language(wish: str, spoken: str) -> None:
    assert language.speech_for(wish).language == spoken
