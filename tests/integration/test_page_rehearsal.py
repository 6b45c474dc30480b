"""The pages of a rehearsal in a real browser, with a real machine behind them."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from rehearsal_scene import Alive, Scene, rehearsable

from notfall_lab.browser import Seen, browser
from notfall_lab.patience import BOOT_S, until
from notfallserver.server.cycle.rehearsal.plan import why_silent
from notfallserver.server.records.people import Role
from notfallserver.server.web.language import LANGUAGES

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(1500),
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with rehearsable(tmp_path_factory.mktemp("rep"), "rehpage", 208) as scene:
        yield scene


def look(seen: Seen, name: str) -> None:
    """In both languages; German at the end."""
    for spoken in sorted(LANGUAGES, reverse=True):
        seen.page.context.add_cookies(
            [{"name": "notfall-language", "value": spoken, "url": seen.url, "secure": True}]
        )
        seen.page.reload()
        assert seen.page.locator("html").get_attribute("lang") == spoken
        seen.keep(f"rehearsal-{spoken}-{name}")
        seen.check()
    seen.page.context.add_cookies(
        [{"name": "notfall-language", "value": "de", "url": seen.url, "secure": True}]
    )
    seen.page.reload()


def press(seen: Seen, selector: str, title: str) -> None:
    """Until the page has this title: a click is lost when its part is renewed just then."""
    until_there = expect(seen.page.locator("h1"))
    for _ in range(5):
        seen.page.click(selector)
        try:
            until_there.to_have_text(title)
        except AssertionError:
            continue
        return
    until_there.to_have_text(title)


def as_if_silent(scene: Scene) -> None:
    """The last rehearsal's row as it is when a service does not answer: that takes 15 minutes."""
    error = why_silent([22], [80], ["10.77.204.20"], True).to_json()
    with sqlite3.connect(scene.server.data / "catalogue.db", timeout=20) as file:
        file.execute(
            "UPDATE rehearsals SET outcome = 'failed', error = ?, ports = '[22]', silent = '[80]', "
            "answered_s = NULL WHERE ended_at IS NULL",
            (json.dumps(error),),
        )


def test_somebody_rehearses_and_sees_what_the_worst_day_looks_like(scene: Scene) -> None:
    with Alive(scene.agent), browser(scene.server.url, "de") as seen:
        until(lambda: scene.state() == "normal")
        page = seen.page
        seen.log_in(scene.server.password)
        page.goto(seen.url + "/p/shop")
        page.click("#rehearse")
        expect(page.locator(".rehearsal strong")).to_have_text("Übung")
        look(seen, "1-ask")
        press(seen, "#begin", "Das Ersatzsystem von shop startet")
        expect(page.locator(".rehearsal")).to_be_visible()
        expect(page.locator("img.screen")).to_be_visible()
        seen.keep("rehearsal-de-2-starting")
        expect(page.locator("h1")).to_have_text(
            "shop würde jetzt wieder arbeiten", timeout=BOOT_S * 1000
        )
        look(seen, "3-works")
        page.click("#then summary")
        expect(page.locator("#then li").first).to_be_visible()
        page.goto(seen.url + "/p/shop")
        expect(page.locator(".rehearsal")).to_be_visible()
        look(seen, "4-server-meanwhile")
        press(seen, "text=Zur Übung", "shop würde jetzt wieder arbeiten")
        press(seen, "#end", "Den Notfall von shop üben")
        expect(page.locator("section.good .title")).to_contain_text("gelungen")
        shown = page.locator("section.good img.screen")
        assert shown.evaluate("one => one.naturalWidth") > 100
        look(seen, "5-over")
        page.goto(seen.url + "/p/shop")
        expect(page.locator(".card.good")).to_contain_text("in einer Übung")
        expect(page.locator("table.rehearsals a")).to_have_text("Bild")
        look(seen, "6-server")
        page.goto(seen.url + "/")
        expect(page.locator(".tiles article.good")).to_contain_text("einwandfrei gestartet")
        look(seen, "7-home")
        assert seen.hosts == {seen.url.split("/")[2]}
        assert seen.problems == []


def test_a_copy_that_does_not_answer_is_told_and_stays_told(scene: Scene) -> None:
    with Alive(scene.agent), browser(scene.server.url, "de") as seen:
        job = scene.begin()
        scene.await_evidence(job)
        as_if_silent(scene)
        seen.log_in(scene.server.password)
        seen.page.goto(seen.url + "/p/shop/rehearsal")
        expect(seen.page.locator("h1")).to_have_text(
            "Die Kopie von shop ist nicht richtig gestartet"
        )
        look(seen, "8-fails")
        press(seen, "#end", "Den Notfall von shop üben")
        expect(seen.page.locator("section.warn .title")).to_contain_text("nicht gelungen")
        expect(seen.page.locator("section.warn")).to_contain_text("nicht alle ihre Dienste")
        look(seen, "9-failed")
        assert scene.server.await_job(job)["error"]["code"] == "rehearsal-ports-silent"
        assert seen.problems == []


def test_who_only_looks_sees_it_and_cannot_begin(scene: Scene) -> None:
    with scene.server.catalogue() as catalogue:
        catalogue.people.add("anna", "quiet-days-only", Role.VIEWER, "root")
    with Alive(scene.agent), browser(scene.server.url, "en") as seen:
        until(lambda: scene.state() == "normal")
        seen.log_in("quiet-days-only", "anna")
        seen.page.goto(seen.url + "/p/shop/rehearsal")
        expect(seen.page.locator("h1")).to_have_text("Rehearse the emergency of shop")
        expect(seen.page.locator("#begin")).to_have_count(0)
        seen.check()
