"""A page in a real browser, and what every page must stand: no errors, readable by everybody."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, expect, sync_playwright

from notfall_lab.patience import PATIENCE_S

expect.set_options(timeout=PATIENCE_S * 1000)  # not how fast a page is, but that it comes to it

AXE = Path(__file__).parents[2] / "build" / "browser" / "axe.min.js"
CHROMIUM = "/usr/bin/chromium"
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


# Without details of what is in order: that takes twice as long.
VIOLATIONS = """async rules =>
    (await axe.run({runOnly: rules, resultTypes: ["violations"]})).violations"""

STICKS_OUT = """() => {
    if (document.documentElement.scrollWidth <= 390) return [];
    const wide = [...document.body.querySelectorAll("*")]
        .filter(one => one.getBoundingClientRect().right > 390)
        .map(one => one.outerHTML.slice(0, 120));
    return wide.length ? wide : ["the page"];
}"""
"""What is wider than a phone's screen, where anything is."""


@dataclass
class Seen:
    """A page in a browser, and what went wrong in it."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def log_in(self, password: str, name: str = "admin", to: str = "/") -> None:
        """``to`` is where that leads: on the first start to the set-up."""
        self.page.goto(self.url + "/login")
        self.page.fill("input[name=name]", name)
        self.page.fill("input[name=password]", password)
        self.page.click("main button")
        expect(self.page).to_have_url(self.url + to)

    def check(self) -> None:
        """Nothing sticks out on a phone, nothing keeps anybody from reading it."""
        self.page.wait_for_load_state()  # a click returns before the new page has its style sheet
        self.page.set_viewport_size({"width": 390, "height": 844})
        assert self.page.evaluate(STICKS_OUT) == []
        self.page.set_viewport_size({"width": 1280, "height": 800})
        self.page.evaluate(AXE.read_text())  # not as a script: the page's policy would forbid it
        told = self.page.evaluate(VIOLATIONS, RULES)
        found = [f"{one['id']}: {one['help']}: {one['nodes'][0]['html']}" for one in told]
        assert found == []

    def keep(self, name: str) -> None:
        """Screenshots as artefacts, where a directory for them is named."""
        if pictures := os.environ.get("NOTFALL_PICTURES"):
            for width in (1280, 390):
                self.page.set_viewport_size({"width": width, "height": 844})
                self.page.screenshot(path=f"{pictures}/{name}-{width}.png", full_page=True)
            self.page.set_viewport_size({"width": 1280, "height": 800})


@contextmanager
def browser(url: str, spoken: str = "de", inside: Sequence[str] = ()) -> Iterator[Seen]:
    """``inside`` is the command line that runs what follows it on a machine of the lab."""
    with TemporaryDirectory(prefix="nf-browser-") as directory, sync_playwright() as play:
        program = Path(directory, "browser")
        program.write_text(f'#!/bin/sh\nexec {shlex.join([*inside, CHROMIUM])} "$@"\n')
        program.chmod(0o755)
        opened = play.chromium.launch(executable_path=program, args=list(QUIET))
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
