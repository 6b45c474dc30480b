"""The page of all copies: what a person does there arrives, in both languages."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest
from test_versions_go import FEW, Scene, scene

from notfallserver.server.cycle.retention.in_use import Use
from notfallserver.server.cycle.retention.plan import Keep
from notfallserver.server.cycle.retention.rules import NAMES, own_rules
from notfallserver.server.records.people import Role
from notfallserver.server.web.words.retention import KEEPS, RULES, USES

__all__ = ["scene"]


class Browser:
    """Somebody who is logged in."""

    def __init__(self, scene: Scene, name: str = "admin") -> None:
        self._app = scene.dry.app()
        self._url = scene.dry.house.urls[0]
        self._token = scene.catalogue.sessions.open(name, "")

    def __call__(self, method: str, path: str, language: str = "en", **sent: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            headers = {
                "Authorization": f"Bearer {self._token}",
                "Accept-Language": language,
                "Accept": "text/html",
                "Origin": self._url,
            }
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url=self._url, headers=headers, timeout=30
            ) as client:
                return await client.request(method, path, **sent)

        return asyncio.run(ask())


def test_all_reasons_have_words() -> None:
    assert set(KEEPS) == set(Keep) and set(USES) == set(Use)
    assert tuple(key for key, _ in RULES) == NAMES


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("the newest", "would be deleted", "Nothing is changed yet")),
        ("de", ("die neueste", "gelöscht", "Noch ist nichts geändert")),
    ],
)
def test_a_preview_changes_nothing(scene: Scene, language: str, words: tuple[str, ...]) -> None:
    browse = Browser(scene)
    form = {**FEW, "floor_days": 1, "proven": 1}
    shown = browse("POST", "/p/shop/kept/preview", language, data=form)
    assert shown.status_code == 200
    assert all(one in shown.text for one in words)
    assert 'name="daily" type="number" required min="0" max="3660"' in shown.text
    assert re.search(r'name="daily"[^>]*value="3"', shown.text)  # as it was typed
    assert own_rules(scene.row.notes) == {} and len(scene.stamps) == 41


def test_rules_that_are_saved_name_only_what_differs(scene: Scene) -> None:
    browse = Browser(scene)
    present = scene.dry.means.present()
    same = {name: getattr(present, f"keep_{name}") for name in NAMES}
    saved = browse("POST", "/p/shop/kept/rules", data={**same, "daily": 5})
    assert saved.status_code == 303 and saved.headers["location"].endswith("?saved=true")
    assert own_rules(scene.row.notes) == {"daily": 5}
    wrong = browse("POST", "/p/shop/kept/rules", "de", data={**same, "proven": 0})
    assert wrong.status_code == 422 and "ergeben keinen Sinn" in wrong.text
    assert own_rules(scene.row.notes) == {"daily": 5}


def test_pins_and_deletions_by_clicks(scene: Scene) -> None:
    scene.catalogue.people.add("bert", "four words in a row", Role.ADMINISTRATOR, "root")
    scene.catalogue.people.add("olga", "four words in a row", Role.OPERATOR, "root")
    admin, bert, olga = (Browser(scene, name) for name in ("admin", "bert", "olga"))
    one, two = scene.stamps[5], scene.stamps[6]
    assert olga("POST", f"/p/shop/kept/{one}/pin", data={"reason": ""}).status_code == 422
    assert olga("POST", f"/p/shop/kept/{one}/pin", data={"reason": "audit"}).status_code == 303
    assert "pinned by olga: audit" in admin("GET", "/p/shop/kept").text
    assert "angeheftet" in admin("GET", "/p/shop", "de").text
    assert olga("POST", f"/p/shop/kept/{one}/unpin", data={"key": "hand"}).status_code == 403
    assert olga("POST", f"/p/shop/kept/{two}/delete").status_code == 403
    assert "Delete it, after" not in olga("GET", "/p/shop/kept").text
    refused = admin("POST", f"/p/shop/kept/{one}/delete", "de")
    assert refused.status_code == 409 and "Diese Kopie muss bleiben" in refused.text
    assert admin("POST", f"/p/shop/kept/{two}/delete", data={"reason": "x"}).status_code == 303
    mine, others = (browse("GET", "/p/shop/kept").text for browse in (admin, bert))
    assert "another administrator than admin" in mine and "/confirm" not in mine
    assert f"/p/shop/kept/{two}/confirm" in others
    assert bert("POST", f"/p/shop/kept/{two}/confirm").status_code == 303
    assert "ordered by admin" in admin("GET", "/p/shop/kept").text
    assert "wird am" in admin("GET", "/p/shop", "de").text
    assert bert("POST", f"/p/shop/kept/{two}/undelete").status_code == 303
    assert not scene.keeper.view(scene.row).deletions
    assert admin("POST", f"/p/shop/kept/{one}/unpin", data={"key": "hand"}).status_code == 303
    assert scene.store.pins.all() == {}
