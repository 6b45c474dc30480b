"""Notifications, the health of the server itself, settings: with real receivers and a browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hand_agent import HandAgent
from page_scene import Scene, every_place
from playwright.sync_api import expect
from receiving import PASSWORD, USER, hook, mailbox
from server_process import HASTE, ServerProcess, free_port, running

from notfall_lab.browser import browser
from notfall_lab.patience import until
from notfallserver.server.records.people import Role
from notfallserver.server.web import language

SCREENS = (
    *("/notifications", "/notifications/add?way=mail", "/notifications/add?way=ntfy"),
    *("/notifications/add?way=telegram", "/notifications/add?way=webhook"),
    *("/notifications/add?way=other", "/notifications/RECEIVER", "/server", "/settings"),
    *("/p/shop/settings", "/"),
)
TOKEN = "zeichen-des-zugangs"
LOOK_S = 1.0
SOON = f"""
from datetime import timedelta
from notfallserver.server.tell import teller
teller.EVERY_S, teller.FIRST_WAIT = {LOOK_S}, timedelta(seconds=5)
"""
"""Who did not answer is asked again soon, else after half a minute."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with every_place(tmp_path_factory.mktemp("scene")) as made:
        yield made


def mail_to(port: int, **others: Any) -> dict[str, Any]:
    way = {"kind": "mail", "server": "127.0.0.1", "port": port, "security": "none"}
    way |= {"sender": "notfall@example.com", "to": "chef@example.com"}
    return way | {"user": USER, "password": PASSWORD} | others


def by_hook(port: int) -> dict[str, Any]:
    return {"kind": "webhook", "url": f"http://u:{TOKEN}@127.0.0.1:{port}/{TOKEN}?key={TOKEN}"}


def test_an_outage_is_told_once_to_each_in_his_language_whatever_happens(tmp_path: Path) -> None:
    with ExitStack() as stack:
        box = stack.enter_context(mailbox())
        program = stack.enter_context(hook())
        down = free_port()  # nobody is there yet
        server = stack.enter_context(running(ServerProcess(tmp_path, haste=SOON + HASTE)))
        agent = HandAgent(server, "shop")
        stack.callback(agent.close)
        agent.poll()
        agent.replicate()
        agent.poll("stand-in")  # were the original heard again, the outage would be over at once
        with server.root() as root:
            for name, spoken, kinds, way in (
                ("chef", "de", ["urgent"], mail_to(box.port)),
                ("program", "en", ["urgent", "warning", "good"], by_hook(program.port)),
                ("late", "de", ["urgent"], by_hook(down)),
                ("calm", "de", ["good"], by_hook(program.port)),
            ):
                body = {"name": name, "language": spoken, "kinds": kinds, "way": way}
                assert root.post("/api/v1/notices", json=body).status_code == 201
            assert root.post("/api/v1/notices/chef/test").json() == {"sent": True, "answer": ""}
            assert box.mails[0][0] == "Testnachricht"
            wrong: dict[str, Any] = {"name": "chef", "language": "de", "kinds": ["urgent"]}
            wrong["way"] = mail_to(box.port, password="geraten-und-falsch")
            assert root.post("/api/v1/notices/chef", json=wrong).status_code == 200
            told = root.post("/api/v1/notices/chef/test").json()
            assert not told["sent"] and "535" in told["answer"]
            assert "geraten" not in told["answer"] and len(box.mails) == 1
            wrong["way"] = mail_to(box.port)
            root.post("/api/v1/notices/chef", json=wrong)
            began = datetime.now(UTC)
            with server.catalogue() as catalogue:
                move = catalogue.primaries.move
                move(agent.uuid, "normal", "outage", "outage_seen", "server", "no heartbeat")
            until(lambda: _taken(root, "chef", began) and _taken(root, "program", began))
            until(lambda: _receiver(root, "late")["failing_since"] is not None)
            [(title, text)] = [mail for mail in box.mails if "shop" in mail[0]]
            assert title == "shop: Antwortet nicht"
            assert "Letzte Kopie" in text
            assert f"{server.url}/p/shop" in text
            title = next(one["title"] for one in program.told if "shop" in one["title"])
            assert title == "shop: Does not answer"
            assert f"/{TOKEN}?key={TOKEN}" in program.paths
            answers = root.get("/api/v1/notices").text + root.get("/api/v1/journal").text
        server.kill()
        late = stack.enter_context(hook(down))
        server.start()
        until(lambda: bool(late.told))
        time.sleep(3 * LOOK_S)  # two looks more
        # Of the emergency server's own troubles, which last long enough by now, come others.
        titles = [one["title"] for one in late.told + program.told] + [one[0] for one in box.mails]
        assert sorted(one.split(" (")[0] for one in titles if "shop" in one) == [
            *["shop: Antwortet nicht"] * 2,
            "shop: Does not answer",
        ]
        server.stop()
        for secret in (PASSWORD, TOKEN, "geraten"):
            assert secret not in server.log() + answers


def _taken(root: Any, name: str, since: datetime) -> bool:
    """Whether this receiver took something, and the server has noted it: it may be killed now."""
    at = _receiver(root, name)["sent_at"]
    return at is not None and datetime.fromisoformat(at) > since


def _receiver(root: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one for one in root.get("/api/v1/notices").json() if one["name"] == name
    )
    return found


def test_the_other_sides_refusal_is_told_in_its_words(scene: Scene) -> None:
    with hook() as program, scene.server.root() as root:
        program.status = 503
        body = {"name": "refusing", "way": by_hook(program.port)}
        assert root.post("/api/v1/notices", json=body).status_code == 201
        told = root.post("/api/v1/notices/refusing/test").json()
        assert not told["sent"] and "closed for today" in told["answer"]
        assert TOKEN not in json.dumps(told)
        assert root.post("/api/v1/notices/refusing/remove").status_code == 204
        for way in ({"kind": "other", "url": "nosuchservice://x"}, {"kind": "mail"}, None):
            refused = root.post("/api/v1/notices", json={"name": "x", "way": way})
            assert refused.status_code == 422 and refused.json()["code"] == "bad-address"


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_every_screen_can_be_read_by_everybody(scene: Scene, spoken: str) -> None:
    with hook() as program, browser(scene.server.url, spoken) as seen:
        with scene.server.root() as root:
            for name, port in (("Anna", program.port), ("Büro", free_port())):
                body = {"name": f"{name} {spoken}", "summary": "weekly", "way": by_hook(port)}
                made = root.post("/api/v1/notices", json=body).json()
                root.post(f"/api/v1/notices/{made['id']}/test")
        seen.log_in(scene.server.password)
        for path in SCREENS:
            seen.page.goto(seen.url + path.replace("RECEIVER", made["id"]))
            assert seen.page.locator("html").get_attribute("lang") == spoken
            seen.keep(f"{spoken}-notices{re.sub(r'[^a-zA-Z]+', '-', path)}")
            seen.check()
        assert seen.hosts == {seen.url.split("/")[2]}
        assert seen.problems == []


def test_somebody_is_added_tested_changed_and_removed_by_clicks(scene: Scene) -> None:
    with mailbox() as box, browser(scene.server.url, "en") as seen:
        page = seen.page
        seen.log_in(scene.server.password)
        page.goto(seen.url + "/server")
        page.click("text=Notifications: who is told")
        page.click("text=by e-mail")
        page.fill("input[name=name]", "Karl")
        page.fill("input[name=to]", "karl@example.com")
        page.fill("input[name=sender]", "notfall@example.com")
        page.fill("input[name=server]", "not a machine")
        page.select_option("select[name=security]", "none")
        page.fill("input[name=port]", str(box.port))
        page.fill("input[name=user]", USER)
        page.fill("input[name=password]", PASSWORD)
        page.click("text=Save")
        expect(page.locator("main .problem")).to_contain_text("can't be used to reach anybody")
        expect(page.locator("input[name=to]")).to_have_value("karl@example.com")
        expect(page.locator("input[name=password]")).to_have_value("")
        page.fill("input[name=server]", "127.0.0.1")
        page.fill("input[name=password]", PASSWORD)
        page.click("text=Save")
        expect(page).to_have_url(seen.url + "/notifications")
        card = page.locator("section.card", has=page.get_by_text("Karl", exact=True))
        card.get_by_role("button").click()
        expect(page.locator("[role=status]")).to_contain_text("took the test message")
        seen.keep("en-notices-tested")
        assert [title for title, _ in box.mails] == ["Test message"]
        assert PASSWORD not in page.content()
        card.get_by_role("link").click()
        page.uncheck("input[value=urgent]")
        page.uncheck("input[value=warning]")
        page.click("text=Save")
        expect(page.locator("main .problem")).to_contain_text("nothing would ever be told")
        page.select_option("select[name=summary]", "daily")
        page.select_option("select[name=language]", "de")
        page.click("text=Save")
        expect(card).to_contain_text("a summary every morning · in German")
        card.get_by_role("button").click()
        expect(page.locator("[role=status]")).to_contain_text("took the test message")
        assert box.mails[-1][0] == "Testnachricht"
        card.get_by_role("link").click()
        page.click("#remove")
        expect(page).to_have_url(seen.url + "/notifications")
        expect(page.get_by_text("Karl", exact=True)).to_have_count(0)
        assert [one for one in seen.problems if "422" not in one] == []


def test_the_servers_own_health_is_shown_told_and_monitored(scene: Scene) -> None:
    server = scene.server
    with server.root() as root, server.client() as nobody:
        answer = root.get("/api/v1/health")
        told = {one["key"]: one for one in answer.json()["findings"]}
        assert answer.status_code == 503 and answer.json()["grade"] == "bad"
        assert told["hypervisor"]["case"] == "hypervisor-silent"  # nobody serves it here
        assert told["server-certificate"]["grade"] == "good" == told["medium"]["grade"]
        assert told["space"]["grade"] == "good"
        monitored = nobody.get("/health")
        assert monitored.status_code == 503 and monitored.json() == {"grade": "bad"}
        assert nobody.get("/api/v1/health").status_code == 401
    done = server.notfall("server", "health")
    assert done.returncode == 2
    assert "libvirt" in done.stdout
    with browser(server.url, "en") as seen:
        seen.log_in(server.password)
        seen.page.click("text=The emergency server itself needs a look")
        expect(seen.page.locator("#health .bad").first).to_contain_text("libvirt")


def test_how_often_and_what_it_may_take_is_set_by_clicks(scene: Scene) -> None:
    with browser(scene.server.url, "de") as seen, scene.server.root() as root:
        page = seen.page
        seen.log_in(scene.server.password)
        page.goto(seen.url + "/p/shop")
        page.click("text=Einstellungen:")
        page.select_option("select[name=schedule_minutes]", "15")
        page.select_option("select[name=deep_days]", "30")
        page.click("#save-schedule")
        expect(page.locator("[role=status]")).to_contain_text("Gespeichert")
        page.fill("input[name=rate]", "20")
        page.fill("input[name=read_rate]", "80")
        first = page.locator(".window").first
        first.locator("select").select_option("Mon-Fri")
        first.locator("input[name=begin]").fill("08:00")
        first.locator("input[name=window_rate]").fill("2.5")
        page.click("#save-limits")
        expect(page.locator("#limits .problem")).to_contain_text("braucht Anfang und Ende")
        expect(first.locator("input[name=window_rate]")).to_have_value("2.5")
        first.locator("input[name=end]").fill("18:00")
        page.click("#save-limits")
        expect(page.locator("[role=status]")).to_contain_text("Gespeichert")
        seen.keep("de-notices-limits")
        row = root.get("/api/v1/primaries/shop").json()
        assert (row["schedule_minutes"], row["deep"]["days"]) == (15, 30)
        limits = row["limits"]
        assert (limits["rate"], limits["read_rate"]) == (2_500_000, 80_000_000)
        assert limits["windows"] == ["Mon-Fri 08:00-18:00=2.5Mbit"]
        expect(page.locator("input[name=rate]")).to_have_value("20")
        page.fill("input[name=rate]", "")
        for field in ("begin", "end", "window_rate"):
            first.locator(f"input[name={field}]").fill("")
        page.click("#save-limits")
        expect(page.locator("[role=status]")).to_contain_text("Gespeichert")
        limits = root.get("/api/v1/primaries/shop").json()["limits"]
        assert (limits["rate"], limits["windows"], limits["read_rate"]) == (0, [], 80_000_000)


def test_a_server_is_removed_only_by_its_name(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path)) as server, browser(server.url, "en") as seen:
        server.enrol("shop")
        page = seen.page
        seen.log_in(server.password)
        page.goto(seen.url + "/p/shop/settings")
        page.locator("details", has=page.locator("input[name=confirm]")).locator("summary").click()
        page.fill("input[name=confirm]", "chop")
        page.click("#remove")
        expect(page.locator("details .problem")).to_contain_text("Nothing was removed")
        page.fill("input[name=confirm]", "shop")
        page.click("#remove")
        expect(page).to_have_url(seen.url + "/")
        expect(page.locator("h1")).to_have_text("No server is protected yet")


def test_settings_are_changed_meanwhile_and_the_file_decides_again(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path)) as server, browser(server.url, "en") as seen:
        page = seen.page
        seen.log_in(server.password)
        page.goto(seen.url + "/settings")
        page.fill("input[name=witnesses]", "router")
        page.click("main button")
        expect(page.locator("main .problem")).to_contain_text("are numbers")
        expect(page.locator("input[name=witnesses]")).to_have_value("router")
        page.fill("input[name=witnesses]", "198.51.100.7, 198.51.100.8")
        page.fill("input[name=schedule_minutes]", "30")
        page.click("main button")
        expect(page.locator("[role=status]")).to_contain_text("Saved")
        seen.keep("en-notices-settings-changed")
        server.enrol("shop")
        with server.root() as root:
            assert root.get("/api/v1/primaries/shop").json()["schedule_minutes"] == 30
            told = root.get("/api/v1/settings").json()
            assert told["changed"] == ["schedule_minutes", "witnesses"]
            assert told["values"]["guard"]["witnesses"] == ["198.51.100.7", "198.51.100.8"]
        server.stop()
        server.start()
        shown = server.notfall("server", "settings")
        assert "198.51.100.7, 198.51.100.8 (changed)" in shown.stdout
        back = server.notfall("server", "settings", "--reset", "witnesses", "--set", "scrub_days=3")
        assert back.returncode == 0, back.stderr
        assert "192.0.2" not in back.stdout
        page.goto(seen.url + "/settings")
        expect(page.locator("input[name=scrub_days]")).to_have_value("3")


def test_the_command_line_adds_tests_and_removes(scene: Scene) -> None:
    server = scene.server
    with hook() as program:
        url = f"json://u:{TOKEN}@127.0.0.1:{program.port}/x"
        added = server.notfall("notice", "add", "script", "--kind", "good", text=f"{url}\n")
        assert added.returncode == 0, added.stderr
        listed = server.notfall("notice", "list")
        assert "script" in listed.stdout and TOKEN not in listed.stdout
        assert server.notfall("notice", "test", "script").returncode == 0
        program.status = 500
        failed = server.notfall("notice", "test", "script")
        assert failed.returncode == 1 and "closed for today" in failed.stderr
        assert server.notfall("notice", "remove", "script").returncode == 0
        assert "script" not in server.notfall("notice", "list").stdout


def test_only_administrators_see_and_change_them(scene: Scene) -> None:
    with scene.server.catalogue() as catalogue:
        catalogue.people.add("olaf", "secret secret", Role.OPERATOR, "root")
    with scene.server.client() as client:
        client.post("/login", data={"name": "olaf", "password": "secret secret"})
        for path in ("/notifications", "/settings", "/p/shop/settings", "/api/v1/notices"):
            assert client.get(path).status_code == 403, path
        for path in ("/notifications/add", "/settings", "/p/shop/settings/limits"):
            assert client.post(path, data={}).status_code == 403, path
        assert client.get("/api/v1/health").status_code == 503
        page = client.get("/server").text
        assert "/notifications" not in page and "/settings" not in page
