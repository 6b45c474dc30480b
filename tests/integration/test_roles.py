"""Viewer, operator, administrator: what each may, on the page and by the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from page_scene import Scene, every_place
from playwright.sync_api import expect

from notfall_lab.browser import browser
from notfallserver.server.records.people import Role

ORDERS = {
    "/api/v1/primaries/shop/replicate": Role.OPERATOR,
    "/api/v1/primaries/shop/schedule": Role.ADMINISTRATOR,
    "/api/v1/invites": Role.ADMINISTRATOR,
    "/api/v1/primaries/shop/remove": Role.ADMINISTRATOR,
    "/p/shop/replicate": Role.OPERATOR,
    "/p/files/emergency/undo": Role.OPERATOR,
    "/add": Role.ADMINISTRATOR,
    "/add/import": Role.ADMINISTRATOR,
    "/api/v1/imports": Role.ADMINISTRATOR,
    "/api/v1/primaries/shop/export": Role.ADMINISTRATOR,
    "/api/v1/primaries/shop/export/disk": Role.ADMINISTRATOR,
    "/p/shop/take-along/disk": Role.ADMINISTRATOR,
    "/api/v1/tape/write": Role.ADMINISTRATOR,
    "/api/v1/tape/restore": Role.ADMINISTRATOR,
    "/api/v1/start-plan/check": Role.OPERATOR,
    "/api/v1/start-plan/order": Role.ADMINISTRATOR,
    "/api/v1/start-plan/places/shop": Role.ADMINISTRATOR,
    "/api/v1/retention/run": Role.ADMINISTRATOR,
    "/api/v1/primaries/shop/retention": Role.ADMINISTRATOR,
    "/api/v1/primaries/shop/versions/x/pin": Role.OPERATOR,
    "/api/v1/primaries/shop/versions/x/unpin": Role.ADMINISTRATOR,
    "/api/v1/primaries/shop/versions/x/delete": Role.ADMINISTRATOR,
    "/api/v1/primaries/shop/versions/x/confirm-deletion": Role.ADMINISTRATOR,
    "/api/v1/primaries/shop/versions/x/undelete": Role.ADMINISTRATOR,
    "/p/shop/kept/rules": Role.ADMINISTRATOR,
    "/p/shop/kept/x/pin": Role.OPERATOR,
    "/p/shop/kept/x/delete": Role.ADMINISTRATOR,
    "/plan/start": Role.OPERATOR,
    "/plan/stop": Role.OPERATOR,
    "/plan/shop/move": Role.ADMINISTRATOR,
    "/p/shop/place": Role.ADMINISTRATOR,
    "/api/v1/reports": Role.OPERATOR,
    "/api/v1/metrics/token": Role.ADMINISTRATOR,
    "/reports/token": Role.ADMINISTRATOR,
    "/reports/token/off": Role.ADMINISTRATOR,
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with every_place(tmp_path_factory.mktemp("scene")) as made:
        with made.server.catalogue() as catalogue:
            for role in (Role.VIEWER, Role.OPERATOR):
                catalogue.people.add(role, "secret secret", role, "root")
        yield made


def test_who_may_less_is_refused(scene: Scene) -> None:
    for role in (Role.VIEWER, Role.OPERATOR):
        with scene.server.client() as client:
            login = client.post("/login", data={"name": role, "password": "secret secret"})
            assert login.status_code == 303
            assert client.get("/api/v1/primaries").status_code == 200
            for path, needed in ORDERS.items():
                answer = client.post(path, json={})
                if role.covers(needed):
                    assert answer.status_code != 403, path
                else:
                    assert answer.status_code == 403, path
                    assert answer.json()["code"] == "not-allowed"


def test_overruling_the_guard_is_for_administrators(scene: Scene) -> None:
    with scene.server.client() as client:
        client.post("/login", data={"name": Role.OPERATOR, "password": "secret secret"})
        for answer in (
            client.post(
                "/api/v1/primaries/erp/activate", json={"overrule_reason": "I saw it burn"}
            ),
            client.post("/p/erp/emergency", data={"reason": "I saw it burn"}),
        ):
            assert answer.json()["code"] == "not-allowed"


def test_a_viewer_sees_no_button_that_would_be_refused(scene: Scene) -> None:
    with browser(scene.server.url, "en") as seen:
        seen.log_in("secret secret", Role.VIEWER)
        expect(seen.page.locator("#add")).to_have_count(0)
        for path in (
            "/p/shop",
            "/p/erp/emergency",
            "/p/files/recovery",
            "/p/mail/recovery",
            "/plan",
            "/reports",
        ):
            seen.page.goto(seen.url + path)
            expect(seen.page.locator("main button")).to_have_count(0)
            seen.check()
        seen.page.goto(seen.url + "/p/erp/emergency")
        expect(seen.page.locator("main")).to_contain_text("Call somebody who may.")
        assert seen.problems == []
