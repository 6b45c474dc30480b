"""Several servers down at once, by clicks on the dry run: look, confirm, watch them come back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect
from test_page_dryrun import api, look, state_of

from notfall_lab.browser import browser
from notfall_lab.dryrun.house import PASSWORD
from notfall_lab.dryrun.process import dry_run
from notfall_lab.patience import until
from notfallserver.server.cycle.outage.guard import Reason
from notfallserver.server.cycle.plans.run import Outcome
from notfallserver.server.web import language
from notfallserver.server.web.words import findings, starting


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_three_servers_burn_and_come_back_in_the_plans_order(tmp_path: Path, spoken: str) -> None:
    say = language.speech(spoken).say
    with dry_run(tmp_path) as dry, browser(dry.url, spoken) as seen, api(dry) as client:
        page, title = seen.page, seen.page.locator("h1")
        uuids = {
            name: client.get(f"/api/v1/primaries/{name}").json()["uuid"]
            for name in ("erp", "files", "mail", "shop")
        }
        seen.log_in(PASSWORD)
        if spoken == "en":  # somebody is quicker than the page's scripts
            page.route("**/static/**/*.js", lambda asked: asked.fulfill(body=""))
        page.locator("#start-plan").click()
        expect(title).to_have_text(say("Start plan"))
        places = page.locator(".plan h2")
        expect(places).to_have_text(["archive", "erp", "files", "mail", "shop"])
        expect(page.locator("#capacity")).to_contain_text(say(starting.ALL_FIT))
        look(seen, f"{spoken}-plan-1-order")

        # the shop is what the others need
        for order in (
            ["archive", "erp", "files", "shop", "mail"],
            ["archive", "erp", "shop", "files", "mail"],
            ["archive", "shop", "erp", "files", "mail"],
            ["shop", "archive", "erp", "files", "mail"],
        ):
            page.locator(f"#up-{uuids['shop']}").click()
            expect(places).to_have_text(order)
        expect(page.locator(f"#up-{uuids['shop']}")).to_be_disabled()
        page.locator(f"#down-{uuids['erp']}").click()
        expect(places).to_have_text(["shop", "archive", "files", "erp", "mail"])
        page.unroute_all()
        page.locator(".plan li", has_text="mail").get_by_role(
            "link", name=say("When and how %(name)s starts") % {"name": "mail"}
        ).click()
        look(seen, f"{spoken}-plan-2-place")
        page.select_option("select[name=begins]", "together")
        page.fill("input[name=memory_mib]", "512")
        page.locator("#save").click()
        expect(page.locator("#place-5")).to_contain_text(say(starting.TOGETHER))

        for name in ("shop", "erp", "mail"):
            dry.happens("die", uuids[name])
        page.goto(dry.url)
        for name in ("shop", "erp", "mail"):
            state_of(client, name, "outage")
        button = page.locator("#several a")
        expect(button).to_have_text(say("Several servers are down: start them together"))
        look(seen, f"{spoken}-plan-3-home")
        button.click()
        expect(page.locator("#candidates section")).to_have_count(3)
        for one in page.locator("#candidates section.good").all():
            expect(one).to_contain_text(say(findings.TITLES[Reason.SILENT]))
        expect(page.locator("#candidates input:checked")).to_have_count(3)
        look(seen, f"{spoken}-plan-4-findings")
        if spoken == "en":  # a page of its own, for whoever has no scripts
            page.get_by_role("link", name=say("Look again")).click()
            expect(title).to_have_text(say("What the network says"))
            expect(page.locator("#candidates input:checked")).to_have_count(3)
            look(seen, f"{spoken}-plan-4-again")
        stands = page.locator("#stands li")
        with dry.slowly():
            page.locator("#start-these").click()
            expect(title).to_have_text(say("The servers are being started"))
            first = say(starting.OUTCOMES[Outcome.STARTING])
            expect(stands.nth(0)).to_contain_text(first)
            expect(stands.nth(1)).to_contain_text(say(starting.OUTCOMES[starting.WAITING]))
            look(seen, f"{spoken}-plan-5-starting")
        expect(title).to_have_text(say("No server is down"))
        works = say(starting.OUTCOMES[Outcome.WORKS])
        expect(stands).to_have_text([f"{one} {works}" for one in ("shop", "erp", "mail")])
        look(seen, f"{spoken}-plan-6-back")
        started = {name: client.get(f"/api/v1/journal?primary={name}").json() for name in uuids}
        moments = [
            next(one["at"] for one in started[name] if one["event"] == "activate")
            for name in ("shop", "erp")
        ]
        assert moments == sorted(moments)
        assert not any(one["event"] == "activate" for one in started["files"])
        assert seen.problems == []


def test_too_little_memory_and_one_that_is_alive_are_told(tmp_path: Path) -> None:
    with dry_run(tmp_path) as dry, api(dry) as client:
        names = ("erp", "files", "shop")
        for name in names:
            uuid = client.get(f"/api/v1/primaries/{name}").json()["uuid"]
            dry.happens("die", uuid)
        for name in names:
            state_of(client, name, "outage")
        dry.happens("memory", "2")  # of which the server needs one
        told = client.post("/api/v1/start-plan/check").json()
        fits = {one["name"]: one["fits"] for one in told["candidates"]}
        assert fits == {"erp": True, "files": False, "shop": False}
        assert told["capacity"]["fits"] == ["erp"] and told["capacity"]["missing_memory"] > 1 << 30
        assert {one["verdict"]["reason"] for one in told["candidates"]} == {"silent"}
        body = {"memory_mib": 256}
        answer = client.post("/api/v1/start-plan/places/files", json=body).json()
        assert [one["memory"] for one in answer["entries"] if one["name"] == "files"] == [256 << 20]
        wrong = client.post("/api/v1/start-plan/places/files", json={"limit_s": 1})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "bad-start-plan")
        refused = client.post("/api/v1/start-plan/start", json={"primaries": []})
        assert refused.json()["code"] == "nothing-to-start"
        asked = {"primaries": ["mail", "erp", "shop"]}
        job = client.post("/api/v1/start-plan/start", json=asked).json()
        again = client.post("/api/v1/start-plan/start", json=asked)
        assert (again.status_code, again.json()["code"]) == (409, "start-plan-runs")
        state_of(client, "erp", "emergency")
        until(lambda: client.get(f"/api/v1/jobs/{job['id']}").json()["finished_at"])
        run = client.get("/api/v1/start-plan").json()["run"]
        outcomes = {one["name"]: one["outcome"] for one in run["stands"]}
        assert outcomes == {"erp": "works", "mail": "no-room", "shop": "no-room"}
        assert "memory" in run["stands"][1]["error"]["cause"]
        dry.happens("memory", "16")
        job = client.post("/api/v1/start-plan/start", json={"primaries": ["mail"]}).json()
        until(lambda: client.get(f"/api/v1/jobs/{job['id']}").json()["finished_at"])
        (only,) = client.get("/api/v1/start-plan").json()["run"]["stands"]
        assert (only["outcome"], only["error"]["code"]) == ("alive", "guard-alive")
        assert client.get("/api/v1/primaries/mail").json()["state"] == "normal"
