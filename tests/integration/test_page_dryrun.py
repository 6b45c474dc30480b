"""The story of an outage by clicks, from the first sign to the server's return, on the dry run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from notfall_lab.browser import Seen, browser
from notfall_lab.dryrun.house import PASSWORD
from notfall_lab.dryrun.process import DryRun, dry_run
from notfall_lab.patience import PATIENCE_S, until
from notfallserver.server.cycle.choice import Role
from notfallserver.server.cycle.outage.guard import Reason
from notfallserver.server.pool.proof import Evidence, Grade
from notfallserver.server.pool.store import Pool
from notfallserver.server.web import language
from notfallserver.server.web.words import findings, history, proof, situation


def look(seen: Seen, name: str) -> None:
    seen.keep(name)
    seen.check()


def world(seen: Seen, button: str) -> None:
    """What happens outside is a click, too, in a window of its own."""
    with seen.page.context.expect_page() as opened:
        seen.page.evaluate("window.open('/world')")
    opened.value.get_by_role("button", name=button).click()
    opened.value.wait_for_url("**/world")
    opened.value.close()


def code_shown(seen: Seen) -> str:
    """What somebody reads from the new machine's screen."""
    answer = seen.page.request.get(f"{seen.url}/world")
    found = re.findall(r"<code>([A-Z2-7]{8})</code>", answer.text())
    assert found
    return str(found[-1])


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_the_whole_story_by_clicks(tmp_path: Path, spoken: str) -> None:
    speech = language.speech(spoken)
    say = speech.say

    def named(text: str) -> str:
        return say(text) % {"name": "shop"}

    with dry_run(tmp_path) as dry, browser(dry.url, spoken) as seen:
        page = seen.page
        title = page.locator("h1")
        seen.log_in(PASSWORD)
        expect(page.locator(".tiles article")).to_have_count(5)
        look(seen, f"{spoken}-1-calm")

        world(seen, "shop dies")
        tile = page.locator(".tiles article", has_text="shop")
        expect(tile.locator(".title")).to_have_text(say(situation.SILENT))
        expect(page.locator(".tiles article").first).to_contain_text("shop")
        look(seen, f"{spoken}-2-outage")
        tile.get_by_role("link", name=say("Start the stand-in")).click()

        expect(title).to_have_text(named("Is %(name)s really down?"))
        down = say(findings.TITLES[Reason.SILENT])
        expect(page.locator("section.good .title")).to_have_text(down)
        look(seen, f"{spoken}-3-findings")
        with dry.slowly():
            page.get_by_role("button", name=say("Start the stand-in now")).click()
            expect(title).to_have_text(named("The stand-in of %(name)s is starting"))
            assert page.locator("img.screen").evaluate("one => one.decode().then(() => one.width)")
            look(seen, f"{spoken}-4-starting")
        expect(title).to_have_text(named("%(name)s works again"))
        look(seen, f"{spoken}-5-working")
        if spoken == "en":  # somebody is quicker than the page's scripts
            page.route("**/static/**/*.js", lambda asked: asked.fulfill(body=""))
        page.get_by_role("link", name=say("Bring the server back")).click()

        expect(title).to_have_text(named("Bring %(name)s back"))
        world(seen, "boot new-bios from the medium")
        look(seen, f"{spoken}-6-bring-back")
        page.fill("input[name=code]", code_shown(seen))
        page.get_by_role("button", name=say("Show what will happen")).click()
        expect(page.locator("#plan .overwritten").first).to_be_visible()
        assert page.url.endswith("/recovery/plan") == (spoken == "en")
        page.unroute_all()
        look(seen, f"{spoken}-7-plan")
        page.get_by_role("button", name=say("Use all the room")).click()
        expect(page.locator("#plan")).to_contain_text(
            say("The room on the larger disks will be used.")
        )
        page.locator("#plan details summary", has_text=say("Choose the disks yourself")).click()
        page.locator("#choose button").click()
        expect(page.get_by_role("button", name=say("Use all the room"))).to_be_visible()
        look(seen, f"{spoken}-7-plan-again")
        page.get_by_role("button", name=say("Overwrite these disks and begin")).click()

        expect(title).to_have_text(named("%(name)s is being brought back"))
        expect(page.locator("progress").first).to_be_visible()
        look(seen, f"{spoken}-8-copying")
        page.locator("#switch-back").wait_for()
        with dry.slowly():
            page.locator("#switch-back").click()
            expect(title).to_have_text(named("%(name)s is switching back"))
            look(seen, f"{spoken}-9-switching")
        expect(title).to_have_text(named("%(name)s is back on its own machine"))
        expect(page.locator("#trial")).to_be_visible()
        look(seen, f"{spoken}-10-back")
        page.goto(f"{dry.url}/p/shop")
        page.click("#accept")
        expect(page.locator("#trial")).to_have_count(0)
        page.get_by_role("link", name=say("All servers")).last.click()
        expect(tile.locator(".title")).to_have_text(say(situation.PROTECTED))

        page.goto(f"{dry.url}/journal")
        told = page.locator("tbody tr").all_inner_texts()
        story = ["outage_seen", "activate", "standin_up", "recover", "switch_back", "recovered"]
        places = [
            next(at for at, line in enumerate(told) if say(history.EVENTS[event]) in line)
            for event in story
        ]
        assert places == sorted(places, reverse=True)  # the newest is first
        look(seen, f"{spoken}-11-journal")
        assert seen.problems == []
        assert seen.hosts == {seen.url.split("/")[2]}


@pytest.mark.parametrize("spoken", ["de"])
def test_a_planned_handover_by_clicks(tmp_path: Path, spoken: str) -> None:
    say = language.speech(spoken).say

    def named(text: str) -> str:
        return say(text) % {"name": "shop"}

    with dry_run(tmp_path) as dry, browser(dry.url, spoken) as seen, api(dry) as client:
        page = seen.page
        title = page.locator("h1")
        seen.log_in(PASSWORD)
        page.goto(f"{dry.url}/p/shop")
        page.click("#to-hand-over")
        expect(title).to_have_text(named("Hand %(name)s over to its stand-in"))
        page.locator("#hand-over").wait_for()
        with dry.slowly():  # once its machine is shut down it can't be broken off
            page.click("#hand-over")
            expect(title).to_have_text(named("%(name)s is being handed over"))
            look(seen, f"{spoken}-hand-over-1-going")
            page.click("#break-off")
            expect(title).to_have_text(named("Hand %(name)s over to its stand-in"))
        state_of(client, "shop", "normal")
        expect(page.locator("#hand-over")).to_be_visible()
        look(seen, f"{spoken}-hand-over-2-ready")
        page.click("#hand-over")
        expect(title).to_have_text(named("%(name)s works on its stand-in"))
        look(seen, f"{spoken}-hand-over-3-done")
        events = [one["event"] for one in client.get("/api/v1/journal?primary=shop").json()]
        story = ["hand_over", "handover_failed", "hand_over", "left", "activate", "standin_up"]
        assert [one for one in reversed(events) if one in story] == story
        # It is off: nobody misses it, and no outage is told.
        assert "outage_seen" not in events
        assert seen.problems == []


@contextmanager
def api(dry: DryRun) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=dry.url, verify=dry.trust) as client:
        client.post("/login", data={"name": "admin", "password": PASSWORD})
        yield client


def state_of(client: httpx.Client, name: str, wanted: str) -> dict[str, object]:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found: dict[str, object] = client.get(f"/api/v1/primaries/{name}").json()
        if found["state"] == wanted:
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def test_what_goes_wrong_in_the_world_goes_wrong_on_the_page(tmp_path: Path) -> None:
    with dry_run(tmp_path) as dry, api(dry) as client:
        uuid = str(client.get("/api/v1/primaries/shop").json()["uuid"])
        # alive: the guard refuses, and says so in the one language that programs have
        refused = client.post("/api/v1/primaries/shop/activate", json={})
        assert refused.status_code == 409 and refused.json()["code"] == "guard-alive"
        # cut off: nobody is taken for dead
        dry.happens("cut")
        dry.happens("die", uuid)
        time.sleep(5)
        assert client.get("/api/v1/primaries/shop").json()["state"] == "normal"
        dry.happens("join")
        state_of(client, "shop", "outage")
        # a stand-in that doesn't start leaves the outage, and the next try works
        dry.happens("let-fail", uuid)
        assert client.post("/api/v1/primaries/shop/activate", json={}).status_code == 202
        state_of(client, "shop", "activating")
        state_of(client, "shop", "outage")
        dry.happens("let-start", uuid)
        assert client.post("/api/v1/primaries/shop/activate", json={}).status_code == 202
        state_of(client, "shop", "emergency")
        # the old machine is switched on beside it
        dry.happens("come-back", uuid)
        until = time.monotonic() + PATIENCE_S
        while not client.get("/api/v1/journal?primary=shop&event=original-returned").json():
            assert time.monotonic() < until
            time.sleep(0.2)
        # and what nobody simulates says so
        answer = client.post("/api/v1/primaries/erp/files", json={"directory": str(tmp_path)})
        assert answer.status_code in (400, 409), answer.text
        assert answer.json()["code"] != "internal"


@pytest.mark.parametrize("spoken", ["de"])
def test_the_proven_copy_is_offered_before_the_newest(tmp_path: Path, spoken: str) -> None:
    say = language.speech(spoken).say
    with dry_run(tmp_path) as dry, browser(dry.url, spoken) as seen, api(dry) as client:
        uuid = str(client.get("/api/v1/primaries/shop").json()["uuid"])
        newest, older = client.get("/api/v1/primaries/shop/versions").json()[:2]
        (pool,) = tmp_path.glob("*/pool")
        at = older["taken_at"]
        proofs = Pool(pool).primary(uuid).proofs
        proofs.keep(older["stamp"], Evidence("r", at, started=True, ports=(80,)))
        proofs.keep(newest["stamp"], Evidence())
        dry.happens("die", uuid)
        state_of(client, "shop", "outage")
        seen.log_in(PASSWORD)
        page = seen.page
        page.goto(f"{dry.url}/p/shop/emergency")
        first, second = (page.locator("section.good ~ form label.choice").nth(at) for at in (0, 1))
        expect(first).to_contain_text(say(proof.OFFERS[Role.PROVEN]))
        expect(first).to_contain_text(say(proof.GRADES[Grade.SERVING]))
        expect(second).to_contain_text(say(proof.UNTRIED))
        expect(second.locator("input")).to_be_checked()
        look(seen, f"{spoken}-offers")
        first.click()
        page.get_by_role("button", name=say("Start the stand-in now")).click()
        state_of(client, "shop", "emergency")
        ask = "/api/v1/jobs?primary=shop&kind=activate"
        until(lambda: client.get(ask).json()[0]["finished_at"])
        job = client.get(ask).json()[0]
        assert job["result"]["version"] == older["stamp"] != newest["stamp"]
        assert seen.problems == []


def test_a_full_pool_fails_the_next_copy(tmp_path: Path) -> None:
    with dry_run(tmp_path) as dry, api(dry) as client:
        dry.happens("fill", "1.0")
        job = client.post("/api/v1/primaries/erp/replicate", json={}).json()["id"]
        until = time.monotonic() + PATIENCE_S
        while (found := client.get(f"/api/v1/jobs/{job}").json())["state"] != "failed":
            assert time.monotonic() < until, found
            time.sleep(0.1)
        assert found["error"]["code"] == "pool-full"
        assert client.get("/api/v1/status").json()["pool"]["free"] == 0


@pytest.mark.parametrize("spoken", ["en"])
def test_many_servers_are_grouped_and_found(tmp_path: Path, spoken: str) -> None:
    say = language.speech(spoken).say
    with dry_run(tmp_path, more=20) as dry, browser(dry.url, spoken) as seen, api(dry) as client:
        dry.happens("die", str(client.get("/api/v1/primaries/erp").json()["uuid"]))
        seen.log_in(PASSWORD)
        page = seen.page
        worst = page.locator(".tiles article", has_text="erp")
        expect(worst.locator(".title")).to_have_text(say(situation.SILENT))
        expect(page.locator(".brief a", has_text="branch-07")).to_be_visible()
        look(seen, f"{spoken}-many")
        page.get_by_label(say("Find a server")).fill("branch-1")
        expect(page.locator(".brief li")).to_have_count(10)
        expect(worst).to_have_count(0)
        time.sleep(2.5)  # the page looks at the present meanwhile, and still searches
        expect(page.locator(".brief li")).to_have_count(10)
        look(seen, f"{spoken}-found")
        assert seen.problems == []


def test_the_journal_is_filtered_and_saved(tmp_path: Path) -> None:
    with dry_run(tmp_path) as dry, browser(dry.url, "de") as seen, api(dry) as client:
        shop = str(client.get("/api/v1/primaries/shop").json()["uuid"])
        reason = {"overrule_reason": "=I pulled its plug"}
        assert client.post("/api/v1/primaries/shop/activate", json=reason).status_code == 202
        seen.log_in(PASSWORD)
        page = seen.page
        page.goto(f"{dry.url}/journal")
        rows = page.locator("tbody tr")
        for field, chosen in (("primary", shop), ("event", "overruled"), ("by", "admin")):
            page.locator(f"select[name={field}]").select_option(chosen)
        page.get_by_role("button", name="Zeigen").click()
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("=I pulled its plug")  # as it was typed
        look(seen, "de-journal-filtered")
        with page.expect_download() as saved:
            page.click("#export")
        lines = Path(saved.value.path()).read_text("utf-8-sig").splitlines()
        assert len(lines) == 2 and lines[0].startswith("Wann;Server;")
        assert ";'=I pulled its plug;admin;overruled;" in lines[1]
        page.fill("input[name=until]", "2020-01-01")
        page.get_by_role("button", name="Zeigen").click()
        expect(page.locator("main")).to_contain_text("Dazu gibt es nichts.")
