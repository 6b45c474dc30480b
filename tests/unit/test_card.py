"""The emergency card: one page, all that counts is on it, its code leads to the page."""

from __future__ import annotations

import io
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pypdf import PdfReader

from notfallserver.server.records.people import Role
from notfallserver.server.web import card as cards
from notfallserver.server.web.card import Card
from notfallserver.server.web.card_drawing import draw_card
from notfallserver.server.web.language import LANGUAGES, speech

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
CARD = Card(
    company="Müller & Söhne",
    contacts=("Anna Öztürk 0171 234567",),
    urls=("https://192.168.10.5:8443", "https://notfall.firma.lan:8443"),
    fingerprint="ab12cd34ef567890" * 4,
    people=(("admin", Role.ADMINISTRATOR), ("anna", Role.OPERATOR)),
    servers=(("shop", ("192.168.10.20",)), ("erp", ())),
)
CROWDED = Card(
    company="株式会社 " * 9,
    contacts=("李雷 139",) * 9,
    urls=(f"https://{'an-emergency-server.' * 5}example.com:8443",) * 4,
    fingerprint="ab" * 32,
    people=tuple((f"{'person-' * 8}{n}", Role.OPERATOR) for n in range(20)),
    servers=tuple((f"{'machine-' * 7}{n}", ("2001:db8::1", "192.0.2.1")) for n in range(40)),
)


def text_of(content: bytes) -> str:
    reader = PdfReader(io.BytesIO(content))
    assert len(reader.pages) == 1
    width, height = reader.pages[0].mediabox.width, reader.pages[0].mediabox.height
    assert (round(width * 25.4 / 72), round(height * 25.4 / 72)) == (210, 297)
    return " ".join(reader.pages[0].extract_text().split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_that_counts_is_on_one_page(language: str) -> None:
    spoken = speech(language)
    text = text_of(draw_card(CARD, spoken, NOON))
    for one in (cards.TITLE, cards.WHO, cards.CALL, *(part for two in cards.STEPS for part in two)):
        assert spoken.say(one) in text
    for wanted in (
        *("Müller & Söhne", "Anna Öztürk 0171 234567", "shop", "192.168.10.20", "erp"),
        *(CARD.urls[0], CARD.urls[1], "ab12 cd34 ef56 7890", "anna", "2026"),
    ):
        assert wanted in text
    assert spoken.say(cards.ROLES[Role.OPERATOR]) in text


def test_too_much_of_everything_stays_on_the_page() -> None:
    text = text_of(draw_card(CROWDED, speech("en"), NOON))
    assert CROWDED.urls[0] in text.replace(" ", "")  # an address is never cut
    assert "and 16 more" in text and "?? 139" in text
    assert "Printed" in text


def test_nothing_yet() -> None:
    text = text_of(
        draw_card(Card("", (), ("https://10.0.0.1:8443",), "ab" * 32, (), ()), speech("en"))
    )
    assert cards.NOBODY_YET in text and cards.NONE_YET in text


@pytest.mark.parametrize("card", [CARD, CROWDED], ids=["usual", "crowded"])
def test_the_code_leads_to_the_page(card: Card, tmp_path: Path) -> None:
    (tmp_path / "card.pdf").write_bytes(draw_card(card, speech("de"), NOON))
    for line in (
        ["pdftoppm", "-r", "150", "-png", "-singlefile", "card.pdf", "card"],
        ["zbarimg", "-q", "--raw", "-Sdisable", "-Sqrcode.enable", "--nodbus", "card.png"],
    ):
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == card.urls[0]
