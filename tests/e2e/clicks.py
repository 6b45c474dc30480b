"""A person in the office who has nothing but the page: the hands of a cycle in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, expect

from notfall_lab.browser import Seen, browser
from notfall_lab.hands import COPY_S
from notfall_lab.world import PORT, World
from notfallserver.server.web.language import speech

OWN_PASSWORD = "four plain words here"
GERMAN = speech("de").say
QUICK_MS, LONG_MS = 120_000, COPY_S * 1000
LIFE_SIGN_S = 20
"""The guard takes a heartbeat of the last 15 s for a sign of life."""


class Clicks:
    """Each act begins at home, as on the worst day of the year."""

    def __init__(self, world: World, seen: Seen) -> None:
        self._world = world
        self._seen = seen
        self._page = seen.page
        self._page.set_default_timeout(QUICK_MS)

    def add(self, name: str, paste: Callable[[str], object]) -> None:
        """The first start of the server: it leads through its set-up to the first primary."""
        self._page.locator("header a.brand").click()
        for field in ("password", "again"):
            self._page.fill(f"#own-password input[name={field}]", OWN_PASSWORD)
        self._page.locator("#own-password button").click()
        expect(self._page.locator("#step-password")).to_have_class("card good")
        self._keep("set-up")
        self._page.locator("#step-server h2 a").click()
        self._page.locator("#step-server #add").click()
        self._page.fill("input[name=name]", name)
        self._button("Next").click()
        line = self._page.locator("#line").text_content()
        assert line is not None
        self._keep("add")
        paste(line)
        expect(self._page).to_have_url(re.compile("/add/follow"), timeout=QUICK_MS)
        self._keep("arrived")

    def replicate(self, name: str) -> dict[str, Any]:
        self._open(name)
        before = {job["id"] for job in self._world.jobs(name)}
        self._page.locator("#copy-now").click()
        until = time.monotonic() + COPY_S
        while True:
            for job in self._world.jobs(name):
                if job["kind"] == "replicate" and job["id"] not in before and job["finished_at"]:
                    assert job["state"] == "done", job
                    self._keep("copied")
                    result: dict[str, Any] = job["result"]
                    return result
            assert time.monotonic() < until
            self._page.wait_for_timeout(1000)

    def try_to_activate(self, name: str) -> str:
        self._open(name)
        self._page.locator("#down").click()
        told = self._page.locator(".card.bad .title")
        expect(told).to_be_visible(timeout=QUICK_MS)
        expect(self._button("Start the stand-in now")).to_have_count(0)
        self._keep("refused")
        return told.inner_text()

    def activate(self, name: str) -> dict[str, Any]:
        self._home()
        self._tile(name).get_by_role("link", name=GERMAN("Start the stand-in")).click()
        start = self._button("Start the stand-in now")
        again = self._button("Look again")
        until = time.monotonic() + LIFE_SIGN_S + QUICK_MS / 1000
        expect(start.or_(again)).to_be_visible(timeout=QUICK_MS)
        while not start.is_visible():
            assert time.monotonic() < until, self._page.locator("main").inner_text()
            self._page.wait_for_timeout(3000)
            again.click()
            expect(self._page.locator(".asking")).to_have_count(0)
            expect(start.or_(again)).to_be_visible(timeout=QUICK_MS)
        self._keep("dead")
        start.click()
        expect(self._page.locator("img.screen")).to_be_visible(timeout=QUICK_MS)
        self._keep("starting")
        self._heading("%(name)s works again", name, LONG_MS)
        self._keep("works")
        return self._world.wait_done(name, "activate", QUICK_MS / 1000)

    def medium(self, name: str) -> Path:
        self._home()
        self._tile(name).get_by_role("link", name=GERMAN("Bring the server back")).click()
        link = self._link("Download the rescue medium")
        with self._page.expect_download(timeout=LONG_MS) as coming:
            link.click()
        path = self._world.directory / coming.value.suggested_filename
        coming.value.save_as(path)
        return path

    def recover(self, name: str, code: str) -> None:
        self._home()
        self._tile(name).get_by_role("link", name=GERMAN("Bring the server back")).click()
        self._page.fill("input[name=code]", code)
        self._button("Show what will happen").click()
        expect(self._page.locator(".overwritten").first).to_be_visible(timeout=QUICK_MS)
        self._keep("plan")
        self._button("Overwrite these disks and begin").click()
        self._heading("%(name)s is being brought back", name, QUICK_MS)
        expect(self._page.locator("#switch-back")).to_be_visible(timeout=LONG_MS)
        self._keep("ready")

    def switch_back(self, name: str) -> dict[str, Any]:
        self._home()
        self._tile(name).get_by_role("link", name=GERMAN("See how far it is")).click()
        self._page.locator("#switch-back").click()
        self._heading("%(name)s is switching back", name, QUICK_MS)
        self._keep("switching")
        self._heading("%(name)s is back on its own machine", name, 2 * LONG_MS)
        self._keep("back")
        return self._world.wait_done(name, "switch_back", QUICK_MS / 1000)

    # -- ways on the page ------------------------------------------------------------------------

    def _home(self) -> None:
        self._page.locator("header a.brand").click()
        expect(self._page).to_have_url(f"{self._seen.url}/")

    def _open(self, name: str) -> None:
        self._home()
        self._tile(name).get_by_role("link", name=name, exact=True).click()
        expect(self._page.locator("h1")).to_have_text(name)

    def _tile(self, name: str) -> Locator:
        return self._page.locator(".tiles article").filter(
            has=self._page.get_by_role("link", name=name, exact=True)
        )

    def _link(self, text: str) -> Locator:
        return self._page.get_by_role("link", name=GERMAN(text))

    def _button(self, text: str) -> Locator:
        return self._page.get_by_role("button", name=GERMAN(text), exact=True)

    def _heading(self, text: str, name: str, within_ms: float) -> None:
        told = GERMAN(text) % {"name": name}
        expect(self._page.locator("h1")).to_have_text(told, timeout=within_ms)

    def _keep(self, step: str) -> None:
        self._seen.keep(f"cycle-{step}")


@contextmanager
def clicking(world: World) -> Iterator[Clicks]:
    """Logged in from the customer's machine; afterwards nothing may have gone wrong in the page."""
    customer = ["nsenter", f"--net=/run/netns/{world.customer}", "--"]
    address = f"{world.lab.network.address(1)}:{PORT}"
    with browser(f"https://{address}", inside=customer) as seen:
        seen.log_in(world.password, to="/setup")
        yield Clicks(world, seen)
        assert seen.problems == []
        assert seen.hosts == {address}
