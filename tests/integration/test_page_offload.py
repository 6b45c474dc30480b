"""The page Off-load, by clicks: a place is added, its key shown once, copies go and come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hand_agent import HandAgent
from playwright.sync_api import expect
from server_process import ServerProcess, running

from notfall_lab.browser import browser
from notfall_lab.patience import until
from notfallserver.server.offload.places import Places

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_a_place_is_added_used_and_removed_by_clicks(tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    with running(ServerProcess(tmp_path)) as server, browser(server.url, "en") as seen:
        agent = HandAgent(server, "shop")
        agent.protect()
        page = seen.page
        seen.log_in(server.password)
        page.goto(seen.url + "/server")
        page.click("text=Off-load: copies in a second place")
        expect(page.locator("main")).to_contain_text("Nothing is carried to a second place yet")
        seen.check()
        for kind in ("disk", "sftp", "s3"):
            page.goto(f"{seen.url}/off-load/add?kind={kind}")
            seen.check()
        page.goto(seen.url + "/media")
        page.click("#write summary")
        page.click("#read summary")
        seen.keep("media")
        seen.check()
        page.goto(seen.url + "/off-load")
        page.click("text=A directory on the emergency server")
        page.fill("input[name=name]", "nas")
        page.fill("input[name=path]", "not whole")
        page.fill("input[name=times]", "21:30")
        page.click("text=Add the place")
        expect(page.locator("main .problem")).to_contain_text("missing or wrong")
        page.fill("input[name=path]", str(away))
        page.click("text=Add the place")
        places = Places(server.data)
        key = places.key(places.find("nas"))
        expect(page.locator("#key")).to_have_text(key)
        seen.check()
        page.click("text=It is printed and lies in a safe place")
        expect(page.locator("h1")).to_have_text("nas")
        assert key not in page.content()
        with seen.page.expect_navigation():
            page.click("text=Carry copies there now")
        until(lambda: "Copies lie there" in content(seen.url + "/off-load", page), 60, 1)
        page.click("text=nas")
        expect(page.locator("#held")).to_contain_text("shop")
        seen.check()
        page.fill("input[name=daily]", "14")
        page.check("#servers input")
        page.click("text=Save")
        expect(page.locator("input[name=daily]")).to_have_value("14")
        expect(page.locator("#servers input")).to_be_checked()
        assert places.find("nas").primaries == (agent.uuid,)
        seen.keep("off-load-place")
        assert places.find("nas").keep.daily == 14 and places.find("nas").times == ("21:30",)
        gone = server.pool.primary(agent.uuid)
        stamp = gone.need_newest().stamp
        gone.remove_version(stamp)
        page.click("text=Bring back")
        until(lambda: gone.newest() is not None)
        page.goto(f"{seen.url}/off-load/nas")
        until(lambda: page.reload() and page.locator("#remove").count())
        with server.root() as root:
            until(lambda: not unfinished(root.get("/api/v1/jobs").json()))
        page.click("#remove")
        expect(page.locator("main")).to_contain_text("Nothing is carried to a second place yet")
        assert places.all() == []
        assert [one for one in seen.problems if "422" not in one] == []
        agent.close()


def content(url: str, page: object) -> str:
    page.goto(url)  # type: ignore[attr-defined]
    return str(page.content())  # type: ignore[attr-defined]


def unfinished(jobs: list[dict[str, object]]) -> bool:
    return any(str(one["kind"]).startswith("offload") and not one["finished_at"] for one in jobs)
