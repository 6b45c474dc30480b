"""Files of a copy, from a real filesystem through the real appliance, by page and API."""

from __future__ import annotations

import io
import os
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from files_scene import HUGE, LETTER, MANY, OPEN_S, FilesScene, files_scene
from playwright.sync_api import expect

from notfall_lab.browser import browser
from notfall_lab.patience import PATIENCE_S
from notfallserver.server.cycle.browse.shelf import MOST_OPEN
from notfallserver.server.vm.libvirt import LibvirtHypervisor
from notfallserver.server.web import language

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(1500),
]


@pytest.fixture(scope="module")
def scene() -> Iterator[FilesScene]:
    with files_scene() as made:
        yield made


def events(scene: FilesScene, event: str) -> list[dict[str, object]]:
    with scene.server.root() as root:
        rows = root.get("/api/v1/journal?primary=shop&limit=200").json()
    return [one for one in rows if one["event"] == event]


def test_a_copy_is_opened_looked_through_and_a_file_saved(scene: FilesScene) -> None:
    with scene.server.root() as root:  # another test may have left it open
        root.delete(scene.path())
    with browser(scene.server.url, "en") as seen:
        seen.log_in(scene.server.password)
        page = seen.page
        page.goto(seen.url + "/p/shop")
        page.click(f"#files-{scene.stamps[0].replace('.', chr(92) + '.')}")
        expect(page.locator(".busy .title")).to_have_text("The copy is being opened")
        seen.keep("en-opening")
        volumes = page.locator(".volumes a")
        expect(volumes).to_have_count(2, timeout=OPEN_S * 1000)
        assert [one.strip() for one in volumes.all_inner_texts()] == ["/", "/srv"]
        page.get_by_role("link", name="/srv").click()
        with page.expect_download() as saving:
            page.get_by_role("link", name="Download letter.bin").click()
        assert saving.value.suggested_filename == "letter.bin"
        assert Path(saving.value.path()).read_bytes() == LETTER
        page.goto(seen.url + "/journal")
        expect(page.locator("tbody")).to_contain_text("Files were taken out of a copy")
        expect(page.locator("tbody")).to_contain_text("letter.bin")
        assert seen.problems == [] and seen.hosts == {seen.url.split("/")[2]}


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_every_screen_can_be_read_by_everybody(scene: FilesScene, spoken: str) -> None:
    root = scene.volume("/")
    base = f"/p/shop/files/{scene.stamps[0]}"
    screens = {
        "volumes": base,
        "top": f"{base}/folder?volume={root}",
        "odd": f"{base}/folder?volume={root}&path=/odd",
        "links": f"{base}/folder?volume={root}&path=/etc",
        "many": f"{base}/folder?volume={root}&path=/many&first=200",
        "found": f"{base}/folder?volume={root}&contains=invoice&below=true",
        "nothing": f"{base}/folder?volume={root}&contains=nothing",
        "closed": f"/p/shop/files/{scene.stamps[1]}",
        "lost": f"{base}/folder?volume={root}&path=/not/there",
        "shop": "/p/shop",
    }
    with browser(scene.server.url, spoken) as seen:
        seen.log_in(scene.server.password)
        for name, path in screens.items():
            seen.page.goto(seen.url + path)
            seen.keep(f"{spoken}-files-{name}")
            seen.check()
        assert [one for one in seen.problems if "404" not in one] == []


def test_folders_and_links_lead_where_they_say(scene: FilesScene) -> None:
    root = scene.volume("/")
    with browser(scene.server.url, "en") as seen:
        seen.log_in(scene.server.password)
        page = seen.page
        page.goto(f"{seen.url}/p/shop/files/{scene.stamps[0]}/folder?volume={root}")
        rows = page.locator(".files tbody tr td:first-child")
        expect(rows.filter(has_text=".hidden")).to_have_count(0)
        page.check("text=hidden files too")
        page.get_by_role("button", name="Show").click()
        expect(rows.filter(has_text=".hidden")).to_have_count(1)
        page.get_by_role("link", name="etc", exact=True).click()
        expect(page.locator("h1")).to_have_text("etc")
        page.get_by_role("link", name="name", exact=True).click()  # leads to /etc/hostname
        expect(rows).to_have_count(1)
        expect(rows).to_have_text("hostname")
        page.go_back()
        page.get_by_role("link", name="passwd", exact=True).click()  # leads out of the volume
        expect(page.locator("main")).to_contain_text("This is not in the copy.")
        page.goto(f"{seen.url}/p/shop/files/{scene.stamps[0]}/folder?volume={root}&path=/many")
        expect(rows.first).to_have_text("file 0")
        expect(rows.nth(10)).to_have_text("file 10")
        for first in (200, 400):
            page.get_by_role("link", name="Further").click()
            expect(rows.first).to_have_text(f"file {first}")
        expect(rows.last).to_have_text(f"file {MANY - 1}")
        page.get_by_label("Name contains").fill("INVOICE")
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text("Nothing here has such a name.")
        page.locator(".crumbs a").first.click()
        page.get_by_label("Name contains").fill("invoice")
        page.check("text=also in the folders below")
        page.keyboard.press("Enter")
        expect(rows).to_have_text("/deep/er/down/Invoice 2026.pdf")
        page.goto(f"{seen.url}/p/shop/files/{scene.stamps[0]}/folder?volume={root}&path=/odd")
        with page.expect_download() as saving:
            page.get_by_role("link", name="Download caf\\xe9").click()
        assert Path(saving.value.path()).read_bytes() == b"caf\xe9"
        assert page.locator("main b").count() == 0
        with page.expect_download() as saving:
            page.click("#zip")
        with zipfile.ZipFile(saving.value.path()) as archive:
            assert archive.read("two_lines") == b"two\nlines"


def test_a_program_gets_parts_and_whole_folders(scene: FilesScene) -> None:
    content = {"volume": scene.volume("/srv"), "path": "/letter.bin"}
    with scene.server.root() as root:
        whole = root.get(scene.path() + "/content", params=content)
        assert whole.content == LETTER
        head = whole.headers
        assert head["content-type"] == "application/octet-stream"
        assert head["content-security-policy"].startswith("sandbox;")
        assert head["x-content-type-options"] == "nosniff"
        assert head["content-disposition"].startswith('attachment; filename="letter.bin"')
        asked = {"Range": "bytes=3000000-", "If-Range": head["etag"]}
        part = root.get(scene.path() + "/content", params=content, headers=asked)
        assert (part.status_code, part.content) == (206, LETTER[3_000_000:])
        asked["If-Range"] = '"another"'
        again = root.get(scene.path() + "/content", params=content, headers=asked)
        assert (again.status_code, len(again.content)) == (200, len(LETTER))
        beyond = {"Range": f"bytes={len(LETTER)}-"}
        refused = root.get(scene.path() + "/content", params=content, headers=beyond)
        assert (refused.status_code, refused.json()["code"]) == (416, "no-such-part")
        top = {"volume": scene.volume("/"), "form": "tar", "path": "/odd"}
        packed = root.get(scene.path() + "/archive", params=top).content
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert os.fsdecode(b"caf\xe9") in archive.getnames()
    copied = [str(one["why"]) for one in events(scene, "files-copied") if one["who"] == "root"]
    assert len([one for one in copied if "letter.bin" in one]) == 2  # not for what went on


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/odd/memory", "no-file"),
        ("/odd/pipe", "no-file"),
        ("/odd", "no-file"),
        ("/etc/passwd", "no-such-file"),
        ("/../../etc/shadow", "no-such-file"),
        ("/etc/%2e%2e/%2e%2e/proc/version", "no-such-file"),
    ],
)
def test_what_is_no_file_of_the_volume_is_refused(scene: FilesScene, path: str, code: str) -> None:
    asked = {"volume": scene.volume("/"), "path": path}
    with scene.server.root() as root:
        answer = root.get(scene.path() + "/content", params=asked)
        assert answer.json()["code"] == code
        asked["volume"] = ".."
        assert root.get(scene.path() + "/content", params=asked).status_code == 404


def test_who_may_only_look_is_refused(scene: FilesScene) -> None:
    with scene.server.catalogue() as catalogue:
        catalogue.people.add("eva", "just-looking-1", "viewer", "test")  # type: ignore[arg-type]
    with browser(scene.server.url, "en") as seen:
        seen.log_in("just-looking-1", "eva")
        seen.page.goto(seen.url + "/p/shop")
        expect(seen.page.locator("[id^=files-]")).to_have_count(0)
        for path in (f"/p/shop/files/{scene.stamps[0]}", scene.path() + "/folder?volume=x"):
            answer = seen.page.goto(seen.url + path)
            assert answer is not None and answer.status == 403


def test_only_so_many_copies_are_open_at_once(scene: FilesScene) -> None:
    with scene.server.root() as root:
        for stamp in scene.stamps:
            root.delete(scene.path(stamp))
        for stamp in scene.stamps[:MOST_OPEN]:
            assert root.post(scene.path(stamp)).status_code == 202
        refused = root.post(scene.path(scene.stamps[MOST_OPEN]))
        assert (refused.status_code, refused.json()["code"]) == (409, "too-many-open")
        with browser(scene.server.url, "de") as seen:
            seen.log_in(scene.server.password)
            seen.page.goto(f"{seen.url}/p/shop/files/{scene.stamps[MOST_OPEN]}")
            expect(seen.page.locator(".warn li")).to_have_count(MOST_OPEN)
            seen.keep("de-files-full")
            seen.check()
        assert root.delete(scene.path()).status_code == 204
        assert root.get(scene.path()).json()["phase"] == "closed"
        folder = f"/p/shop/files/{scene.stamps[0]}/folder?volume=disk0-part1-root"
        answer = root.get(folder, headers={"Accept": "text/html"})
        assert answer.headers["location"] == f"/p/shop/files/{scene.stamps[0]}"
        assert root.post(scene.path(scene.stamps[MOST_OPEN])).status_code == 202
    scene.server.stop()  # while they open
    assert scene.appliances() == [] and not list(scene.clones.glob("browse-*"))
    scene.server.start()


def test_a_dead_appliance_holds_up_nobody_and_breaks_what_it_sent(scene: FilesScene) -> None:
    volume = scene.volume("/srv")
    with scene.server.root() as root:
        asked = {"volume": volume, "path": "/huge"}
        with root.stream("GET", scene.path() + "/content", params=asked) as answer:
            assert answer.headers["content-length"] == str(HUGE)
            pieces = answer.iter_raw()
            next(pieces)
            for name in scene.appliances():
                LibvirtHypervisor(scene.uri).pause(name)
            began = time.monotonic()
            with scene.server.root() as other:
                assert other.get("/api/v1/primaries/shop").status_code == 200
                assert other.get("/p/shop").status_code in (200, 303)
            assert time.monotonic() - began < 5
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in pieces:
                    pass
        until = time.monotonic() + PATIENCE_S
        while root.get(scene.path()).json()["phase"] != "closed":
            assert time.monotonic() < until
            time.sleep(0.5)
    assert "Traceback" not in scene.server.log()


def test_what_a_killed_server_left_goes(scene: FilesScene) -> None:
    scene.opened()
    assert list(scene.clones.glob("browse-*")) and scene.appliances()
    scene.server.kill()
    until = time.monotonic() + PATIENCE_S
    while scene.appliances():
        assert time.monotonic() < until, "the appliance did not hear that nobody is there"
        time.sleep(0.5)
    scene.server.start()
    assert not list(scene.clones.glob("browse-*"))
    with scene.server.root() as root:
        assert root.get(scene.path()).json()["phase"] == "closed"
