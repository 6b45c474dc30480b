"""An alarm by clicks, on the dry run: the tile, the page, which copy is offered, both answers."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect
from test_page_dryrun import api, look, state_of

from notfall_lab.browser import browser
from notfall_lab.dryrun.house import PASSWORD
from notfall_lab.dryrun.process import dry_run
from notfall_lab.patience import until
from notfallserver.server.cycle.choice import Role
from notfallserver.server.pool.measures import Alarm, Reason
from notfallserver.server.pool.store import Pool
from notfallserver.server.web import language
from notfallserver.server.web.words import alarm as words
from notfallserver.server.web.words import proof, situation

REASONS = (
    Reason(
        "renamed",
        {"count": 90, "compared": 96, "extension": "locked", "examples": "/a.txt -> /a.txt.locked"},
    ),
    Reason("turned", {"mib": 4711, "percent": 38.2, "days": 1, "of_changed": 97.0}),
)


def test_an_alarm_is_shown_answered_and_decides_what_is_offered(tmp_path: Path) -> None:
    say = language.speech("de").say
    with dry_run(tmp_path) as dry, browser(dry.url, "de") as seen, api(dry) as client:
        shop = "/api/v1/primaries/shop"
        uuid = str(client.get(shop).json()["uuid"])
        newest, older = client.get(f"{shop}/versions").json()[:2]
        (pool,) = tmp_path.glob("*/pool")
        store = Pool(pool).primary(uuid)
        store.measures.keep_alarm(
            Alarm(newest["stamp"], older["stamp"], REASONS, newest["taken_at"])
        )
        client.post(f"{shop}/replicate", json={})  # after it all is shown as the pool knows it
        until(lambda: all(one["finished_at"] for one in client.get("/api/v1/jobs").json()))
        seen.log_in(PASSWORD)
        page = seen.page
        tile = page.locator("article", has_text="shop").first
        expect(tile.locator(".title")).to_contain_text(say(words.ALARM))
        expect(tile).to_contain_text("90 von 96 beobachteten Dateien")
        expect(tile).to_contain_text("4711 MiB (38 % des Belegten)")
        tile.get_by_role("link", name=say(words.LOOK.text)).click()
        expect(page.locator("#alarm")).to_contain_text("/a.txt -> /a.txt.locked")
        expect(page.locator("#measured tbody tr").first).to_contain_text("vom Alarm markiert")
        look(seen, "de-alarm")
        told = client.get(f"{shop}/alarm").json()
        assert told["standing"]["clean"] == older["stamp"]
        marks = {one["stamp"]: one["suspect"] for one in client.get(f"{shop}/versions").json()}
        assert marks[newest["stamp"]] and not marks[older["stamp"]]
        assert list(store.pins.all()) == [older["stamp"]]  # the job holds it where that was lost

        page.locator("#alarm-confirm").click()
        expect(page.locator(".title").first).to_contain_text(say(words.ATTACK))
        assert client.get(f"{shop}/alarm").json()["standing"]["answer"] == "attack"
        dry.happens("die", uuid)
        state_of(client, "shop", "outage")
        page.goto(f"{dry.url}/p/shop/emergency")
        first, second = (page.locator("section.good ~ form label.choice").nth(at) for at in (0, 1))
        expect(first).to_contain_text(say(proof.OFFERS[Role.CLEAN]))
        expect(first.locator("input")).to_be_checked()
        expect(second).to_contain_text(say(words.MARKED))
        look(seen, "de-alarm-offers")
        dry.happens("come-back", uuid)
        state_of(client, "shop", "normal")
        page.goto(f"{dry.url}/p/shop")
        page.locator("#alarm input[name=why]").fill("Platten neu aufgesetzt")
        page.locator("#alarm-clear").click()
        expect(page.locator(".title").first).to_contain_text(say(situation.PROTECTED))
        assert store.pins.all() == {}
        alarm = client.get(f"{shop}/alarm").json()
        assert alarm["standing"] is None and alarm["alarms"][0]["why"] == "Platten neu aufgesetzt"
        assert seen.problems == []
