"""The pages in a real browser, in both languages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hand_agent import HandAgent, Serving
from page_scene import LONG, Scene, every_place
from playwright.sync_api import expect
from server_process import MACHINE, ServerProcess, running, token_of

from notfall_lab.browser import browser
from notfall_lab.patience import until
from notfallserver.server.web import language
from notfallserver.server.web.words import situation
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError

SCREENS = (
    *("/", "/p/shop", "/p/erp", f"/p/{LONG}", "/p/nobody"),
    *("/p/shop/emergency", "/p/files/emergency", f"/p/{LONG}/emergency"),
    *("/p/shop/recovery", "/p/files/recovery", "/p/mail/recovery", "/p/shop/kept"),
    *("/add", "/journal", "/journal?primary=shop", "/jobs", "/server", "/nowhere"),
    "/reports",
)


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
            expect(seen.page.locator(".asking")).to_have_count(0)
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
    with browser(scene.server.url, "en") as seen, scene.server.root() as root:
        seen.log_in(scene.server.password)
        seen.page.goto(seen.url + "/p/files/recovery")
        seen.page.fill("input[name=code]", "ABCD-EFGH")
        seen.page.keyboard.press("Enter")
        expect(seen.page.locator("#plan .problem")).to_contain_text("No machine shows this code.")
        # Even where the part around it is made anew, as after a failure.
        seen.page.evaluate("document.getElementById('part').value = 'what was before'")
        root.post("/api/v1/primaries/files/schedule", json={"schedule_minutes": 45})
        expect(seen.page.locator("#part")).to_have_value("begin")
        expect(seen.page.locator("input[name=code]")).to_have_value("ABCD-EFGH")
        expect(seen.page.locator("#plan .problem")).to_contain_text("No machine shows this code.")


def test_a_server_is_added_by_a_line_and_its_first_copy_followed_when_it_appears(
    tmp_path: Path,
) -> None:
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
        expect(seen.page).to_have_url(f"{seen.url}/add/follow?name=shop")
        expect(seen.page.locator("h1")).to_have_text("shop gets its protection")


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
        expect(title).to_have_text("It still shows signs of life")
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
        # It is heard again, so all is as it was; what did not work is told all the same.
        agent.poll()
        with server.root() as root:
            until(lambda: root.get("/api/v1/primaries/shop").json()["state"] == "normal")
        seen.page.reload()
        expect(problem).to_contain_text("does not answer")


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
            expect(figures).to_contain_text("MB")
            expect(figures).to_contain_text("noch")
        assert seen.problems == []
        server.stop()
        expect(seen.page.locator("#lost")).to_be_visible()
        server.start()
        expect(seen.page.locator("#lost")).to_be_hidden()


def test_what_is_being_pressed_is_not_taken_away(scene: Scene) -> None:
    """The part of the page is fetched anew between press and release."""
    with browser(scene.server.url) as seen, scene.server.root() as root:
        seen.log_in(scene.server.password)
        seen.page.goto(seen.url + "/p/shop")
        seen.page.locator("#down").hover()
        seen.page.mouse.down()
        with seen.page.expect_response(lambda told: told.url.endswith("/p/shop/present")) as came:
            done = root.post("/api/v1/primaries/shop/schedule", json={"schedule_minutes": 45})
            assert done.status_code == 200, done.text
        came.value.finished()
        seen.page.wait_for_timeout(300)
        seen.page.mouse.up()
        expect(seen.page).to_have_url(f"{seen.url}/p/shop/emergency")


def test_a_failure_that_comes_after_its_state_is_told(scene: Scene) -> None:
    """The primary is back in its state, and the page shows that, before the job is over."""
    with browser(scene.server.url) as seen, scene.server.root() as root:
        seen.log_in(scene.server.password)
        seen.page.goto(seen.url + "/p/files/recovery")
        expect(seen.page.locator("input[name=code]")).to_be_visible()
        with scene.server.catalogue() as catalogue:
            job, _ = catalogue.jobs.add("recover", scene.uuids["files"], {}, "admin")
            error = NotfallError("target-silent", "The target does not answer.")
            catalogue.jobs.finish(job.id, "failed", error=error)
        root.post("/api/v1/primaries/shop/schedule", json={"schedule_minutes": 50})
        expect(seen.page.locator(".problem[role=alert]").last).to_contain_text(
            "antwortet nicht mehr", timeout=15000
        )
