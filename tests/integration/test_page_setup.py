"""The first start, a primary's readiness and the emergency card, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hand_agent import HandAgent
from page_scene import Scene, every_place
from playwright.sync_api import expect
from pypdf import PdfReader
from server_process import MACHINE, ServerProcess, running, token_of

from notfall_lab.browser import browser
from notfallserver.server.records.people import Role
from notfallserver.server.web import card as cards
from notfallserver.server.web import language
from notfallserver.server.web.words import readiness, setting_up

OWN = "four plain words here"
STEPS = list(setting_up.TITLES)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with every_place(tmp_path_factory.mktemp("scene")) as made:
        yield made


def seal_prepared(server: ServerProcess, uuid: str) -> None:
    """As the preparation does; a real one needs a machine."""
    store = server.pool.primary(uuid)
    with store.preparing(store.need_newest()) as clones:
        store.seal_prepared(clones, {"changes": [], "warnings": []})
    with server.catalogue() as catalogue:
        catalogue.primaries.note(uuid, told="prepared")  # pages are told


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_every_screen_can_be_read_by_everybody(scene: Scene, spoken: str) -> None:
    with browser(scene.server.url, spoken) as seen:
        seen.log_in(scene.server.password)
        steps = [f"/setup?step={one}" for one in STEPS]
        follow = ["/add/follow?name=shop", f"/add/follow?name={next(iter(scene.uuids))}"]
        for number, path in enumerate(("/p/shop", "/server", "/card", "/setup", *steps, *follow)):
            seen.page.goto(seen.url + path)
            assert seen.page.locator("html").get_attribute("lang") == spoken
            seen.keep(f"setup-{spoken}-{number}")
            seen.check()
        assert seen.hosts == {seen.url.split("/")[2]}
        assert seen.problems == []


def test_the_first_start_leads_from_password_to_protection(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(running(ServerProcess(tmp_path, fresh=True)))
        seen = stack.enter_context(browser(server.url, "en"))
        page = seen.page
        seen.log_in(server.password, to="/setup")
        expect(page).to_have_url(f"{server.url}/setup")
        expect(page.locator("#step-password input")).to_have_count(2)
        page.fill("input[name=password]", OWN)
        page.fill("input[name=again]", "five plain words here")
        page.click("#own-password button")
        expect(page.locator("main .problem")).to_contain_text("The two new passwords differ.")
        page.fill("input[name=password]", OWN)
        page.fill("input[name=again]", OWN)
        page.click("#own-password button")
        expect(page.locator("#step-password")).to_have_class("card good")
        assert server_refuses(server, server.password) and not server_refuses(server, OWN)

        page.goto(server.url + "/setup?step=network")
        expect(page.locator("#step-network")).to_have_class("card bad")
        expect(page.locator("#step-network")).to_contain_text("The bridge br0")
        page.goto(server.url + "/setup?step=server")
        page.click("#step-server #add")
        page.fill("input[name=name]", "shop")
        page.click("main button")
        line = page.locator("#line").inner_text()
        with server.client() as fresh:
            body = {"token": token_of(line), "machine": MACHINE}
            enrolled = fresh.post("/agent/v1/enrol", json=body).json()
        expect(page).to_have_url(f"{server.url}/add/follow?name=shop")
        agent = HandAgent(server, "shop", enrolled=enrolled)
        stack.callback(agent.close)
        agent.poll()
        expect(page.locator("[aria-current=step] .name")).to_have_text("The first copy …")
        page.click("#begin")  # there is no schedule here
        seen.keep("setup-follow-copy")
        seen.check()
        agent.poll()
        agent.replicate()
        # There is no hypervisor here: making it ready does not work, and says so.
        expect(page.locator(".stages .bad .problem")).to_contain_text("does not answer")
        seen.keep("setup-follow-failed")
        seen.check()
        seal_prepared(server, agent.uuid)
        with server.root() as root:  # pages hear of it
            root.post("/api/v1/primaries/shop/schedule", json={"schedule_minutes": 45})
        expect(page.locator("h1")).to_have_text("shop is protected")
        seen.keep("setup-follow-protected")
        seen.check()
        page.click("#rehearse")  # the first proof
        expect(page.locator("h1")).to_have_text("Rehearse the emergency of shop")
        assert [one for one in seen.problems if "422" not in one] == []


def server_refuses(server: ServerProcess, password: str) -> bool:
    with server.client() as client:
        told = client.post("/login", data={"name": "admin", "password": password})
        return told.status_code == 401


def test_it_can_be_put_aside_and_taken_up_again(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path, fresh=True)) as server:
        with server.catalogue() as catalogue:
            catalogue.people.add("anna", OWN, Role.OPERATOR, "root")
        with browser(server.url, "en") as seen:
            seen.log_in(OWN, "anna")  # home: the set-up is not for everybody
            seen.page.goto(seen.url + "/setup")
            expect(seen.page.locator("main .problem")).to_be_visible()
        with browser(server.url, "en") as seen:
            seen.log_in(server.password, to="/setup")
            seen.page.click("text=Put it aside for now")
            expect(seen.page).to_have_url(f"{server.url}/")
            expect(seen.page.locator("h1")).to_have_text("No server is protected yet")
            seen.page.goto(seen.url + "/server")
            seen.page.click("#server-links >> text=Set-up")
            seen.page.click("text=Take the set-up up again")
            expect(seen.page).to_have_url(f"{server.url}/setup")
            server.enrol("shop")
            seen.page.goto(seen.url)  # from now on home shows the servers, and reminds
            expect(seen.page.locator(".hint")).to_contain_text("not finished")
        with server.root() as root:
            told = root.get("/api/v1/setup").json()
            assert told["state"] == "begun"
            assert [one["key"] for one in told["steps"]] == STEPS
            assert root.post("/api/v1/setup", json={"state": "finished"}).status_code == 204
            assert root.post("/api/v1/setup", json={"state": "new"}).status_code == 422
            events = [one["event"] for one in root.get("/api/v1/journal").json()]
        assert events[0] == "set-up-finished" and "set-up-aside" in events
        done = server.notfall("server", "check")
        assert done.returncode == 0 and "systemctl enable --now libvirtd" in done.stdout


def test_a_step_that_is_open_stays_as_it_is_while_nothing_changes(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path, fresh=True)) as server, browser(server.url) as seen:
        seen.log_in(server.password, to="/setup")
        seen.page.fill("input[name=password]", OWN)
        with seen.page.expect_response(lambda told: "/setup/present" in told.url) as told:
            pass
        assert told.value.status == 204
        (server.data / "rescue" / "medium.json").unlink()  # now something has changed
        expect(seen.page.locator("#step-medium")).to_have_class("card warn")
        expect(seen.page.locator("input[name=password]")).to_have_value(OWN)


def test_readiness_is_told_on_the_page_by_the_api_and_the_command_line(scene: Scene) -> None:
    with scene.server.root() as root:
        found = root.get("/api/v1/primaries/shop/readiness").json()
        assert root.get("/api/v1/primaries/files/readiness").json() == []  # its stand-in works
    keys = {one["key"]: one for one in found}
    assert {"no-hypervisor", "no-schedule", "agent-differs", "no-services"} <= keys.keys()
    assert found[0]["severity"] == "blocker"
    assert keys["not-prepared"]["severity"] == "blocker"
    done = scene.server.notfall("primary", "show", "shop")
    assert keys["no-schedule"]["words"] in done.stdout and "BLOCKER" in done.stdout
    assert json.loads(scene.server.notfall("primary", "show", "shop", "--json").stdout)["readiness"]
    with browser(scene.server.url, "en") as seen:
        seen.log_in(scene.server.password)
        seen.page.goto(seen.url + "/p/shop")
        box = seen.page.locator("#readiness")
        expect(box.locator(".title")).to_have_text(readiness.NOT_READY)
        expect(box.locator("li")).to_have_count(len(found))
        expect(box).to_contain_text(keys["no-hypervisor"]["remedy"])
        seen.page.goto(seen.url + "/p/files")
        expect(seen.page.locator("#readiness")).to_have_count(0)


def test_the_card_is_written_on_and_downloaded(scene: Scene, tmp_path: Path) -> None:
    with browser(scene.server.url, "de") as seen:
        seen.log_in(scene.server.password)
        seen.page.goto(seen.url + "/card")
        seen.page.fill("input[name=company]", "Müller & Söhne")
        seen.page.fill("textarea", "Anna Öztürk 0171 234567\nSystemhaus 040 99")
        seen.page.click("main form button")
        expect(seen.page.locator("main [role=status]")).to_be_visible()
        expect(seen.page.locator("textarea")).to_have_value(
            "Anna Öztürk 0171 234567\nSystemhaus 040 99"
        )
        with seen.page.expect_download() as loading:
            seen.page.click("#card-de")
        loading.value.save_as(tmp_path / "card.pdf")
    text = PdfReader(tmp_path / "card.pdf").pages[0].extract_text()
    for wanted in ("Wenn ein Server ausfällt", "Anna Öztürk", "Systemhaus", "Söhne", "shop"):
        assert wanted in text
    assert scene.server.url in text
    done = scene.server.notfall("server", "card", "--to", str(tmp_path / "en.pdf"))
    assert done.returncode == 0, done.stderr
    assert cards.TITLE in PdfReader(tmp_path / "en.pdf").pages[0].extract_text()
    with scene.server.root() as root:
        assert root.get("/api/v1/card").json()["company"] == "Müller & Söhne"
        assert "card-changed" in {one["event"] for one in root.get("/api/v1/journal").json()}
