"""People, their accounts and the second factor: in a real browser, and on the command line."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import expect
from server_process import ServerProcess, running

from notfall_lab.browser import Seen, browser
from notfallserver.server.records.people import Role
from notfallserver.server.web import language
from notfallserver.server.web.people import COOKIE

SECRET = "four words in a row"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(ServerProcess(tmp_path_factory.mktemp("people"))) as made:
        yield made


def add(server: ServerProcess, name: str, role: Role) -> None:
    with server.catalogue() as catalogue:
        catalogue.people.add(name, SECRET, role, "root")


def type_login(seen: Seen, name: str, password: str) -> None:
    """The first step, wherever it leads."""
    seen.page.goto(seen.url + "/login")
    seen.page.fill("input[name=name]", name)
    seen.page.fill("input[name=password]", password)
    seen.page.click("main button")


def type_code(seen: Seen, code: str) -> None:
    expect(seen.page).to_have_url(seen.url + "/login/code")
    seen.page.locator("input[name=code]").first.fill(code)
    seen.page.locator("main button").first.click()


def type_paper(seen: Seen, code: str) -> None:
    seen.page.click("main summary")
    seen.page.locator("input[name=code]").last.fill(code)
    seen.page.locator("main button").last.click()


def log_out(seen: Seen) -> None:
    seen.page.click("header .who button")
    expect(seen.page).to_have_url(seen.url + "/login")


def set_up_factor(seen: Seen) -> tuple[pyotp.TOTP, list[str]]:
    """By the text beside the picture; returns what the telephone shows, and the codes for paper."""
    expect(seen.page.locator(".qr svg path").first).to_be_visible()
    seen.page.click("main summary")
    shown = pyotp.TOTP(seen.page.locator("#secret").inner_text().replace(" ", ""))
    seen.page.fill("input[name=code]", shown.now())
    seen.page.get_by_role("button", name=re.compile("Switch it on|Einschalten")).click()
    return shown, seen.page.locator("#codes").inner_text().split()


def next_code(shown: pyotp.TOTP) -> str:
    """Of the next step, which is accepted, because clocks differ; the present one was used."""
    return shown.at(int(time.time()) + 30)


def test_from_the_first_password_to_a_lost_telephone(server: ServerProcess) -> None:
    with browser(server.url, "en") as seen:
        seen.log_in(server.password)
        seen.page.goto(seen.url + "/server")
        seen.page.click("#server-links >> text=People who may use it")
        seen.page.fill("input[name=name]", "clara")
        seen.page.get_by_label("Operator").check()
        seen.page.get_by_role("button", name="Add").click()
        first = seen.page.locator("#password").inner_text()
        assert re.fullmatch(r"([a-z0-9]{4}-){3}[a-z0-9]{4}", first)
        log_out(seen)

        type_login(seen, "clara", first)
        expect(seen.page).to_have_url(seen.url + "/")
        seen.page.click("header .who a")
        seen.page.fill("#password input[name=present]", first)
        seen.page.fill("#password input[name=new]", SECRET)
        seen.page.fill("#password input[name=again]", SECRET + "s")
        seen.page.click("#password button")
        expect(seen.page.locator("#password .problem")).to_contain_text("passwords differ")
        seen.page.fill("#password input[name=present]", first)
        seen.page.fill("#password input[name=new]", SECRET)
        seen.page.fill("#password input[name=again]", SECRET)
        seen.page.click("#password button")
        expect(seen.page.locator(".done")).to_contain_text("The password is changed.")
        seen.page.click("text=Set it up")
        shown, codes = set_up_factor(seen)
        seen.page.click("text=I have them: go on")
        expect(seen.page).to_have_url(seen.url + "/")
        log_out(seen)

        type_login(seen, "clara", SECRET)
        code = next_code(shown)
        type_code(seen, code)
        expect(seen.page).to_have_url(seen.url + "/")
        log_out(seen)
        type_login(seen, "clara", SECRET)
        type_code(seen, code)
        expect(seen.page.locator(".problem")).to_contain_text("Name, password or code is wrong.")
        type_paper(seen, codes[3].upper())
        expect(seen.page).to_have_url(seen.url + "/")
        seen.page.goto(seen.url + "/account")
        expect(seen.page.locator("main")).to_contain_text("9 written codes are left.")
        log_out(seen)
        type_login(seen, "clara", SECRET)
        type_paper(seen, codes[3])
        expect(seen.page.locator(".problem")).to_contain_text("Name, password or code is wrong.")

        seen.log_in(server.password)
        seen.page.goto(seen.url + "/people/clara")
        seen.page.get_by_role("button", name="Switch it off").click()
        expect(seen.page.locator("main")).to_contain_text("No second factor")
        log_out(seen)
        type_login(seen, "clara", SECRET)
        expect(seen.page).to_have_url(seen.url + "/")
        seen.page.goto(seen.url + "/journal")
        rows = [one.split("\n")[-1] for one in seen.page.locator("tbody tr").all_inner_texts()]
        told = " | ".join(rows)
        assert "clara: The second factor was switched off\tadmin" in told
        assert "A written code was used instead of the telephone\tclara" in told
        assert "clara: Somebody was added\tadmin" in told
        refused = [one for one in seen.problems if not re.search("40[01]", one)]  # wrong ones
        assert refused == []
        assert seen.hosts == {seen.url.split("/")[2]}


def test_who_is_removed_is_led_out_of_an_open_page_at_once(server: ServerProcess) -> None:
    add(server, "dora", Role.VIEWER)
    with browser(server.url, "en") as seen:
        seen.log_in(SECRET, "dora")
        with server.client() as admin:
            admin.post("/login", data={"name": "admin", "password": server.password})
            answer = admin.post("/api/v1/people/dora/remove", json={})
            assert answer.status_code == 204, answer.text
        expect(seen.page).to_have_url(seen.url + "/login")


def test_nobody_removes_or_demotes_himself_by_mistake(server: ServerProcess) -> None:
    add(server, "emil", Role.ADMINISTRATOR)
    with browser(server.url, "en") as seen:
        seen.log_in(SECRET, "emil")
        seen.page.goto(seen.url + "/people/emil")
        seen.page.click("#remove summary")
        seen.page.fill("#remove input[name=confirm]", "emi")
        seen.page.click("#remove button")
        expect(seen.page.locator("main .problem")).to_contain_text("Type your name")
        seen.page.get_by_label("Viewer").check()
        seen.page.locator("input[name=confirm]").first.fill("emil")
        seen.page.get_by_role("button", name="Change the role").click()
        expect(seen.page).to_have_url(seen.url + "/login")
        seen.log_in(SECRET, "emil")
        seen.page.goto(seen.url + "/people")
        expect(seen.page.locator("main .problem")).to_contain_text("You may not do this.")
    with server.client() as admin:
        admin.post("/login", data={"name": "admin", "password": server.password})
        for path, body in (("remove", {}), ("role", {"role": "viewer"})):
            told = admin.post(f"/api/v1/people/admin/{path}", json=body).json()
            assert told["code"] == "yourself-not-confirmed"
            told = admin.post(f"/api/v1/people/admin/{path}", json={**body, "confirm": "admin"})
            assert told.json()["code"] == "last-administrator"


def test_other_sessions_can_be_ended(server: ServerProcess) -> None:
    add(server, "finn", Role.VIEWER)
    with browser(server.url, "en") as seen, server.client() as other:
        other.post("/login", data={"name": "finn", "password": SECRET})
        seen.log_in(SECRET, "finn")
        seen.page.goto(seen.url + "/account")
        expect(seen.page.locator("tbody tr")).to_have_count(2)
        seen.page.click("text=End all other sessions")
        expect(seen.page.locator("tbody tr")).to_have_count(1)
        assert other.get("/api/v1/status").status_code == 401
        told = seen.page.context.request.get(seen.url + "/api/v1/account").json()
        assert [one["mine"] for one in told["sessions"]] == [True]


def test_the_account_by_the_api(server: ServerProcess) -> None:
    add(server, "gesa", Role.VIEWER)
    with server.client() as gesa, server.root() as root:
        gesa.post("/login", data={"name": "gesa", "password": SECRET})
        cookies = dict(gesa.cookies)
        base = "/api/v1/account"
        offered = gesa.post(f"{base}/second-factor/offer").json()
        assert offered["address"].startswith("otpauth://totp/Notfallserver:gesa")
        shown = pyotp.parse_uri(offered["address"])
        assert isinstance(shown, pyotp.TOTP) and shown.secret == offered["secret"]
        code = shown.now()
        made = gesa.post(f"{base}/second-factor/on", json={"code": code}).json()
        wrong = gesa.post(f"{base}/recovery-codes", json={"present": "wrong"}).json()
        assert wrong["code"] == "wrong-password"
        again = gesa.post(f"{base}/recovery-codes", json={"present": SECRET}).json()
        assert not set(made["recovery_codes"]) & set(again["recovery_codes"])
        body = {"present": SECRET, "new": "short"}
        assert gesa.post(f"{base}/password", json=body).json()["code"] == "password-short"
        new = {"present": SECRET, "new": SECRET + " more"}
        assert gesa.post(f"{base}/password", json=new).status_code == 204
        off = {"present": SECRET + " more"}
        assert gesa.post(f"{base}/second-factor/off", json=off).status_code == 204
        assert gesa.get(base).json()["second_factor"] is False
        assert gesa.cookies[COOKIE] == cookies[COOKIE]
        assert root.get(base).json()["code"] == "no-account"


def test_where_it_is_a_rule_nothing_else_is_possible_first(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path)) as server, browser(server.url, "en") as seen:
        add(server, "hans", Role.VIEWER)
        seen.log_in(server.password)
        seen.page.goto(seen.url + "/people")
        seen.page.click("text=Require it from everybody")
        expect(seen.page.locator("main .problem")).to_contain_text("Set up yours first")
        seen.page.goto(seen.url + "/account/second-factor")
        set_up_factor(seen)
        seen.page.goto(seen.url + "/people")
        with server.client() as hans:
            hans.post("/login", data={"name": "hans", "password": SECRET})
            assert hans.get("/api/v1/status").status_code == 200
            seen.page.click("text=Require it from everybody")
            expect(seen.page.locator("main")).to_contain_text("Leave it to each person")
            for path in ("/api/v1/status", "/api/v1/account", "/changes"):
                told = hans.get(path, headers={"Accept": "*/*"})
                assert (told.status_code, told.json()["code"]) == (403, "second-factor-needed")
        seen.page.goto(seen.url + "/account")
        expect(seen.page.locator("main")).to_contain_text("can't be switched off")
        log_out(seen)
        type_login(seen, "hans", SECRET)
        expect(seen.page).to_have_url(seen.url + "/account/second-factor")
        for path in ("/", "/p/x", "/journal", "/account"):
            seen.page.goto(seen.url + path)
            expect(seen.page).to_have_url(seen.url + "/account/second-factor")
        expect(seen.page.locator("nav")).to_have_count(0)
        seen.keep("en-second-factor-needed")
        seen.check()
        set_up_factor(seen)
        seen.page.click("text=I have them: go on")
        expect(seen.page).to_have_url(seen.url + "/")


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_every_screen_can_be_read_by_everybody(server: ServerProcess, spoken: str) -> None:
    name = f"ida {spoken}"
    add(server, name, Role.ADMINISTRATOR)

    def look(at: str) -> None:
        assert seen.page.locator("html").get_attribute("lang") == spoken
        seen.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        seen.keep(f"{spoken}-{at}")
        seen.check()

    with browser(server.url, spoken) as seen:
        type_login(seen, name, "wrong")
        look("login-refused")
        type_login(seen, name, SECRET)
        for path in ("/people", f"/people/{name}", "/people/admin", "/account", "/server"):
            seen.page.goto(seen.url + path)
            look(re.sub(r"[^a-z]+", "-", path).strip("-"))
        seen.page.goto(seen.url + "/people")
        seen.page.fill("input[name=name]", f"new {spoken}")
        seen.page.locator("form[action='/people'] button").click()
        expect(seen.page.locator("#password")).to_be_visible()
        look("first-password")
        seen.page.goto(seen.url + "/people")
        seen.page.fill("input[name=name]", "admin")
        seen.page.locator("form[action='/people'] button").click()
        look("people-refused")
        seen.page.goto(seen.url + "/account/second-factor")
        seen.page.fill("input[name=code]", "000000x")
        seen.page.click("main button")
        look("second-factor-refused")
        shown, _ = set_up_factor_open(seen)
        look("recovery-codes")
        seen.page.goto(seen.url + "/account")
        seen.page.click("#off summary")
        seen.page.fill("#off input[name=present]", "wrong")
        seen.page.click("#off button")
        look("account-refused")
        seen.page.goto(seen.url + "/people/" + name)
        look("people-with-second-factor")
        seen.page.goto(seen.url + "/journal")
        look("journal-of-people")
        log_out(seen)
        type_login(seen, name, SECRET)
        look("code")
        type_code(seen, "000000")
        look("code-refused")
        type_code(seen, next_code(shown))
        expect(seen.page).to_have_url(seen.url + "/")
        assert seen.hosts == {seen.url.split("/")[2]}
        refused = [one for one in seen.problems if not re.search("40[019]", one)]
        assert refused == []


def set_up_factor_open(seen: Seen) -> tuple[pyotp.TOTP, list[str]]:
    """As the other one, on a page that was just opened anew."""
    seen.page.goto(seen.url + "/account/second-factor")
    return set_up_factor(seen)


def test_people_on_the_command_line(server: ServerProcess) -> None:
    made = server.notfall("people", "add", "karl", "viewer")
    assert made.returncode == 0, made.stderr
    password = made.stdout.split()[-1]
    wrong = server.notfall("people", "add", "karl", "viewer")
    assert wrong.returncode == 1 and "person-exists" in wrong.stderr
    assert "bad-request" in server.notfall("people", "add", "lena", "boss").stderr
    with server.client() as karl:
        karl.post("/login", data={"name": "karl", "password": password})
        assert karl.get("/api/v1/status").status_code == 200
        offered = karl.post("/api/v1/account/second-factor/offer").json()
        code = pyotp.TOTP(offered["secret"]).now()
        assert karl.post("/api/v1/account/second-factor/on", json={"code": code}).status_code == 200
        assert "operator now" in server.notfall("people", "role", "karl", "operator").stdout
        assert karl.get("/api/v1/status").status_code == 401
        listed = server.notfall("people", "list").stdout
        assert re.search(r"karl +operator +on, 10 written codes left", listed)
        renewed = json.loads(server.notfall("people", "password", "karl", "--json").stdout)
        to = karl.post("/login", data={"name": "karl", "password": renewed["password"]})
        assert to.headers["location"] == "/login/code"
        assert "password alone" in server.notfall("people", "second-factor-off", "karl").stdout
        to = karl.post("/login", data={"name": "karl", "password": renewed["password"]})
        assert to.headers["location"] == "/"
    assert "required" in server.notfall("people", "require-second-factor", "yes").stdout
    assert "Everybody must" in server.notfall("people", "list").stdout
    assert "up to each" in server.notfall("people", "require-second-factor", "no").stdout
    kept = server.notfall("people", "remove", "karl", text="n\n")
    assert kept.returncode == 1 and "not-confirmed" in kept.stderr
    assert server.notfall("people", "remove", "karl", "--yes").returncode == 0
    assert "no-such-person" in server.notfall("people", "role", "karl", "viewer").stderr
    journal = server.notfall("journal").stdout
    for event in ("person-added", "role-changed", "second-factor-off", "person-removed"):
        assert re.search(rf"karl +{event} .*root", journal), event


def test_root_is_the_way_back_for_the_last_administrator(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path)) as server, server.client() as admin:
        admin.post("/login", data={"name": "admin", "password": server.password})
        secret = admin.post("/api/v1/account/second-factor/offer").json()["secret"]
        code = pyotp.TOTP(secret).now()
        admin.post("/api/v1/account/second-factor/on", json={"code": code})
        done = server.notfall("server", "init", "--new-password", "--json")
        password = json.loads(done.stdout)["password"]
        assert password and admin.get("/api/v1/status").status_code == 401
        body = {"name": "admin", "password": password}
        assert admin.post("/login", data=body).headers["location"] == "/login/code"
        assert server.notfall("people", "second-factor-off", "admin").returncode == 0
        assert admin.post("/login", data=body).headers["location"] == "/"
