"""``make pictures``: the manual's screenshots, taken while a browser walks through the story.

Of everything that the page says only the stored translation is used, so both languages take the
same way. What stays below :data:`TALLEST` is kept whole, the rest ends there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import FloatRect, Page, expect

from notfall_lab.browser import browser
from notfall_lab.dryrun.house import PASSWORD
from notfall_lab.dryrun.process import DryRun, dry_run
from notfallserver.server.host.run import run
from notfallserver.server.web import language

MANUAL = Path(__file__).parents[3] / "docs" / "user"
WIDTH, TALLEST, MARGIN = 1280, 1100, 24
"""In pixels; the margin is what stays free below the page's content."""
COLOURS = 128
SOON = 30_000
NEW_MACHINE = "new-bios"


@dataclass(frozen=True)
class Album:
    """The pictures of one language."""

    page: Page
    dry: DryRun
    place: Path
    speech: language.Speech

    def say(self, text: str) -> str:
        return self.speech.say(text) % {"name": "shop"}

    def look(self, address: str) -> None:
        self.page.goto(self.dry.url + address)

    def press(self, text: str) -> None:
        self.page.get_by_role("button", name=self.say(text)).click()

    def titled(self, text: str) -> None:
        """Wait until the page is called so."""
        expect(self.page.locator("h1")).to_have_text(self.say(text), timeout=SOON)

    def keep(self, name: str, to: str = "main") -> None:
        """Keep the page from its top to the end of ``to``, a selector."""
        self.page.evaluate("document.activeElement?.blur(); scrollTo(0, 0)")
        while (last := self.page.locator(to).bounding_box()) is None:
            pass  # it was made anew just now; where it is not there at all, this raises
        height = min(TALLEST, int(last["y"] + last["height"]) + MARGIN)
        file = self.place / f"{name}.png"
        clip: FloatRect = {"x": 0, "y": 0, "width": WIDTH, "height": height}
        self.page.screenshot(path=file, full_page=True, clip=clip)
        _in_few_colours(file)

    def keep_only(self, name: str, part: str) -> None:
        """Keep one part of the page."""
        file = self.place / f"{name}.png"
        self.page.locator(part).screenshot(path=file)
        _in_few_colours(file)


def _in_few_colours(file: Path) -> None:
    with Image.open(file) as taken:
        few = taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


def set_up(album: Album) -> None:
    """Quiet days: what an administrator sees."""
    expect(album.page.locator(".tiles article")).to_have_count(5)
    album.keep("home")
    album.look("/p/shop")
    expect(album.page.locator("#readiness .card")).to_be_visible()
    album.keep("server", ".card.top")
    album.keep_only("ready", "#readiness")
    album.look("/setup")
    album.keep("set-up")
    album.press("Put it aside for now")
    album.look("/add")
    album.page.fill("input[name=name]", "accounting")
    album.page.locator("main form button").click()
    expect(album.page.locator("#line")).to_be_visible()
    album.page.evaluate("document.querySelector('#line').textContent = '…'")  # it is a secret
    album.keep("add")
    album.look("/p/shop/rehearsal")
    album.keep("rehearsal")
    album.look("/p/erp/emergency")
    expect(album.page.locator("section.bad .title")).to_be_visible(timeout=SOON)
    album.keep("alive")
    album.look("/people")
    album.page.fill("input[name=name]", "Anna")
    album.press("Add")
    album.look("/people")
    album.keep("people")
    album.look("/notifications/add?way=mail")
    album.keep("notification")
    album.look("/server")
    expect(album.page.locator("#health li").nth(1)).to_be_visible(timeout=SOON)
    album.keep("emergency-server", "#health")
    reports(album)
    album.look("/p/shop/settings")
    album.keep("server-settings")
    album.look("/plan")
    album.keep("start-plan")
    album.look("/p/shop/hand-over")
    expect(album.page.locator("#hand-over")).to_be_visible(timeout=SOON)
    album.keep("hand-over")


def reports(album: Album) -> None:
    """The page, and the first page of the report itself."""
    album.look("/reports")
    album.press("Make the report of this month so far")
    taken = album.page.locator("#reports section a").first
    expect(taken).to_be_visible(timeout=SOON)
    expect(album.page.locator("#making")).to_have_count(0, timeout=SOON)
    album.keep("reports", "#reports")
    with TemporaryDirectory(prefix="notfall-report-") as directory:
        pdf, png = Path(directory, "report.pdf"), album.place / "report"
        address = album.dry.url + str(taken.get_attribute("href"))
        pdf.write_bytes(album.page.request.get(address).body())
        run(["pdftoppm", "-r", "90", "-png", "-singlefile", "-l", "1", pdf, png])
        _in_few_colours(png.with_suffix(".png"))


def outage(album: Album) -> None:
    """The worst day, up to the stand-in that works."""
    album.dry.happens("die", _uuid(album, "shop"))
    album.look("/")
    tile = album.page.locator(".tiles article", has_text="shop")
    go = tile.get_by_role("link", name=album.say("Start the stand-in"))
    expect(go).to_be_visible(timeout=SOON)
    album.keep("outage")
    go.click()
    expect(album.page.locator("section.good .title")).to_be_visible(timeout=SOON)
    album.keep("down")
    album.press("Start the stand-in now")
    album.titled("%(name)s works again")
    album.keep("working")


def way_back(album: Album) -> None:
    """From the rescue medium to the server's return."""
    album.page.get_by_role("link", name=album.say("Bring the server back")).click()
    album.titled("Bring %(name)s back")
    album.keep("bring-back")
    album.dry.happens("boot", NEW_MACHINE)
    album.page.fill("input[name=code]", _code(album))
    album.press("Show what will happen")
    expect(album.page.locator("#plan .overwritten").first).to_be_visible(timeout=SOON)
    album.keep("plan")
    album.press("Overwrite these disks and begin")
    expect(album.page.locator("#switch-back")).to_be_visible(timeout=SOON)
    album.keep("switch-back")
    album.page.locator("#switch-back").click()
    album.titled("%(name)s is back on its own machine")
    album.keep("back")


def several(album: Album) -> None:
    """Two burn at once."""
    for name in ("shop", "erp"):
        album.dry.happens("die", _uuid(album, name))
        tile = album.page.locator(".tiles article", has_text=name)
        album.look("/")
        expect(tile.get_by_role("link", name=album.say("Start the stand-in"))).to_be_visible(
            timeout=SOON
        )
    album.look("/plan/start")
    expect(album.page.locator("#start-these")).to_be_visible(timeout=SOON)
    album.keep("several")


def _uuid(album: Album, name: str) -> str:
    answer = album.page.request.get(f"{album.dry.url}/api/v1/primaries/{name}")
    return str(answer.json()["uuid"])


def _code(album: Album) -> str:
    """What the new machine's screen shows."""
    world = album.page.request.get(f"{album.dry.url}/world").text()
    return str(re.findall(r"<code>([A-Z2-7]{8})</code>", world)[-1])


def main() -> None:
    for spoken in language.LANGUAGES:
        place = MANUAL / spoken / "pictures"
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("*.png"):
            old.unlink()
        with (
            TemporaryDirectory(prefix="notfall-pictures-") as directory,
            dry_run(Path(directory)) as dry,
            browser(dry.url, spoken) as seen,
        ):
            seen.page.set_viewport_size({"width": WIDTH, "height": 400})
            seen.log_in(PASSWORD)
            album = Album(seen.page, dry, place, language.speech(spoken))
            for part in (set_up, outage, way_back, several):
                part(album)
        size = sum(one.stat().st_size for one in place.glob("*.png"))
        print(f"{place}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
