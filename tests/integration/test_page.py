"""The page in a real browser, and its German complete."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from hand_agent import HandAgent, Serving
from server_process import ServerProcess, running

from notfallserver.server.web import language
from notfallserver.wire.blocks import BLOCK

CHROMIUM = Path("/usr/bin/chromium")
LOOK = f"""
import sys
from playwright.sync_api import expect, sync_playwright

url, pictures, password = sys.argv[1:]
with sync_playwright() as play:
    browser = play.chromium.launch(executable_path="{CHROMIUM}", args=["--no-sandbox"])
    context = browser.new_context(ignore_https_errors=True, locale="de-DE")
    page = context.new_page()
    problems, hosts = [], set()
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("request", lambda r: hosts.add(r.url.split("/")[2]))
    page.goto(url)
    page.fill("input[name=password]", password)
    page.screenshot(path=pictures + "/login.png")
    page.click("button")
    expect(page.locator("#present h1")).to_have_text("Primärsysteme")
    expect(page.locator(".card.new .state")).to_have_text("Wartet auf die erste Replikation")
    page.evaluate("() => fetch('/api/v1/primaries/slow/replicate', {{method: 'POST'}})")
    expect(page.locator(".job .figures")).to_contain_text("MB", timeout=10000)
    page.wait_for_timeout(3000)
    expect(page.locator(".job .figures")).to_contain_text("noch", timeout=10000)
    page.screenshot(path=pictures + "/wide.png")
    page.set_viewport_size({{"width": 390, "height": 800}})
    page.screenshot(path=pictures + "/phone.png")
    narrow = page.evaluate("document.documentElement.scrollWidth")
    assert narrow <= 390, f"scrolls sideways: {{narrow}}"
    assert hosts == {{url.split("/")[2]}}, hosts
    assert problems == [], problems
    page.click("header button")
    expect(page).to_have_url(url + "/login")
    browser.close()
"""


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
def test_the_page_shows_the_present(tmp_path: Path) -> None:
    pictures = Path(os.environ.get("NOTFALL_PICTURES") or tmp_path)
    with ExitStack() as stack:
        server = stack.enter_context(running(ServerProcess(tmp_path)))
        agent = HandAgent(server, "slow", os.urandom(64 * BLOCK))
        stack.callback(agent.close)
        stack.enter_context(Serving(agent, lambda: agent.replicate(0.5, 1)))
        line = [sys.executable, "-c", LOOK, server.url, str(pictures), server.password]
        looked = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
        assert looked.returncode == 0, looked.stderr


def test_every_text_of_the_page_has_its_german() -> None:
    found = {
        message if isinstance(message, str) else message[0]
        for _, _, message, _, _ in extract_from_dir(
            language.HERE / "templates", method_map=[("**.html", "jinja2.ext:babel_extract")]
        )
    }
    for told in (language.STATES, language.KINDS, language.PHASES):
        found |= set(told.values())
    with (language.HERE / "strings" / "de.po").open("rb") as file:
        known = {str(one.id) for one in read_po(file) if one.id and one.string}
    assert found - known == set()


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
