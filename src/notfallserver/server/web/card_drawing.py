"""Draws the emergency card. Loaded when somebody wants one: fpdf takes a third of a second."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import segno
from fpdf import FPDF
from fpdf.enums import Align, WrapMode, XPos, YPos

from notfallserver.server.web.card import (
    ALSO,
    CALL,
    FROM_INSIDE,
    MORE,
    NOBODY_YET,
    NONE_YET,
    OPEN,
    PRINTED,
    ROLES,
    SERVERS,
    SHORT_FINGERPRINT,
    STEPS,
    TITLE,
    WHO,
    Card,
)
from notfallserver.server.web.language import Speech
from notfallserver.wire.errors import NotfallError

# It tells of every table of every font that it packs.
logging.getLogger("fontTools").setLevel(logging.WARNING)

FONTS = Path("/usr/share/fonts/truetype/dejavu")
"""Debian's fonts-dejavu-core: Latin, Greek, Cyrillic; what it lacks is shown as "?"."""
_FACES = {"": "DejaVuSans.ttf", "B": "DejaVuSans-Bold.ttf"}
_FONT = "card"
_LEFT, _WIDE, _BOTTOM = 16, 178, 283
_INK, _SOFT, _MAIN = (31, 42, 43), (92, 106, 107), (163, 42, 31)
_ROWS = 5
"""So many people and contacts have room."""


def draw_card(card: Card, speech: Speech, moment: datetime | None = None) -> bytes:
    """The card as PDF, printed at ``moment`` (left out: now)."""
    page = _Page(speech)
    page.head(card.company)
    page.address(card.urls)
    page.steps()
    page.lists(card)
    page.foot(card.fingerprint, moment or datetime.now(UTC))
    return page.finished()


class _Page:
    """A page that is filled from above; lengths in millimetres."""

    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._pdf = pdf = FPDF(format="A4")
        pdf.set_auto_page_break(False)
        pdf.set_margin(_LEFT)
        pdf.c_margin = 0
        for style, name in _FACES.items():
            if not (FONTS / name).is_file():
                raise NotfallError(
                    "no-font",
                    f"The font {FONTS / name} is missing.",
                    "Install the package fonts-dejavu-core on the emergency server.",
                    status=500,
                )
            pdf.add_font(_FONT, style, FONTS / name)
        pdf.set_title(speech.say(TITLE))
        pdf.set_lang(speech.language)
        pdf.add_page()

    def finished(self) -> bytes:
        return bytes(self._pdf.output())

    def head(self, company: str) -> None:
        self._pdf.set_fill_color(*_MAIN)
        self._pdf.rect(0, 0, 210, 27, style="F")
        self._pdf.set_xy(_LEFT, 7)
        self._line(self._speech.say(TITLE), 25, bold=True, colour=(255, 255, 255))
        if company:
            self._pdf.set_xy(_LEFT, 18.5)
            self._line(company, 12, colour=(255, 255, 255))

    def address(self, urls: Sequence[str]) -> None:
        """The best address large, as a code too, because nobody types well on the worst day."""
        size = 38.0
        self._code(urls[0], 210 - _LEFT - size, 34, size)
        self._pdf.set_xy(_LEFT, 34)
        self._line(self._speech.say(OPEN), 11, colour=_SOFT)
        self._pdf.set_xy(_LEFT, 39)
        self._whole(urls[0], 22, _WIDE - size - 8)
        if others := urls[1:3]:
            self._pdf.set_xy(_LEFT, 51)
            shown = f"{self._speech.say(ALSO)} {', '.join(others)}"
            self._fit(shown, 11, _WIDE - size - 8)
        self._pdf.set_xy(_LEFT, 59)
        self._text(self._speech.say(FROM_INSIDE), 10.5, _WIDE - size - 8, colour=_SOFT)

    def steps(self) -> None:
        y = 79.0
        for number, (title, text) in enumerate(STEPS, 1):
            self._pdf.set_fill_color(*_INK)
            self._pdf.ellipse(_LEFT, y, 10, 10, style="F")
            self._pdf.set_xy(_LEFT, y + 2.4)
            self._style(14, True, (255, 255, 255))
            self._pdf.cell(10, 5.2, str(number), align=Align.C)
            self._pdf.set_xy(_LEFT + 15, y - 0.4)
            self._line(self._speech.say(title), 14.5, bold=True)
            self._pdf.set_xy(_LEFT + 15, y + 6.4)
            self._text(self._speech.say(text), 11.5, _WIDE - 15)
            y = max(y + 13, self._pdf.get_y()) + 4.5
        self._pdf.set_draw_color(*_SOFT)
        self._pdf.line(_LEFT, y, _LEFT + _WIDE, y)
        self._pdf.set_y(y + 5)

    def lists(self, card: Card) -> None:
        say, top, half = self._speech.say, self._pdf.get_y(), (_WIDE - 10) / 2
        contacts = [(one, "") for one in card.contacts[:_ROWS]]
        self._list(say(CALL), contacts or [(say(NOBODY_YET), "")], _LEFT, top, half, 13)
        people = [(name, say(ROLES[role])) for name, role in card.people]
        self._list(say(WHO), self._short(people, _ROWS), _LEFT + half + 10, top, half, 11)
        top = top + 8 + 6.2 * min(_ROWS, max(3, len(contacts), len(people))) + 4
        rows = [(name, ", ".join(addresses[:2])) for name, addresses in card.servers]
        room = max(2, 2 * int((_BOTTOM - 14 - top - 8) / 6.2))
        shown = self._short(rows, room) or [(say(NONE_YET), "")]
        first = (len(shown) + 1) // 2
        self._list(say(SERVERS), shown[:first], _LEFT, top, half, 11)
        self._list("", shown[first:], _LEFT + half + 10, top, half, 11)

    def foot(self, fingerprint: str, moment: datetime) -> None:
        """The beginning of the authority's fingerprint tells two emergency servers apart."""
        code = " ".join(fingerprint[at : at + 4] for at in range(0, 16, 4))
        shown = self._speech.say(SHORT_FINGERPRINT) % {"code": code}
        self._pdf.set_xy(_LEFT, _BOTTOM)
        self._fit(shown, 8.5, _WIDE / 2, colour=_SOFT)
        day = self._speech.moment(moment).rsplit(",", 1)[0]
        self._pdf.set_xy(_LEFT + _WIDE / 2 - 10, _BOTTOM)
        self._style(8.5, False, _SOFT)
        printed = self._speech.say(PRINTED) % {"day": day}
        self._pdf.cell(_WIDE / 2 + 10, 5, printed, align=Align.R)

    # -- pieces ----------------------------------------------------------------------------------

    def _short(self, rows: list[tuple[str, str]], most: int) -> list[tuple[str, str]]:
        if len(rows) <= most:
            return rows
        more = self._speech.say(MORE) % {"count": len(rows) - most + 1}
        return [*rows[: most - 1], (more, "")]

    def _list(
        self, title: str, rows: list[tuple[str, str]], x: float, y: float, wide: float, size: float
    ) -> None:
        self._pdf.set_xy(x, y)
        self._line(title, 11, colour=_MAIN, bold=True)
        for index, (name, more) in enumerate(rows):
            self._pdf.set_xy(x, y + 7 + index * 6.2)
            self._fit(name, size, wide * (0.4 if more else 1), bold=bool(more) or size > 11)
            if more:
                self._pdf.set_xy(x + wide * 0.43, y + 7 + index * 6.2)
                self._fit(more, size - 1, wide * 0.57, colour=_SOFT)

    def _code(self, content: str, x: float, y: float, size: float) -> None:
        """Drawn, not a picture: sharp on every printer. Four modules around it stay white."""
        rows = list(segno.make_qr(content, error="m").matrix)
        one = size / len(rows)
        self._pdf.set_fill_color(0, 0, 0)
        for down, row in enumerate(rows):
            for right, dark in enumerate(row):
                if dark:
                    # A little larger than it is, or printers leave hairlines between.
                    self._pdf.rect(
                        x + right * one, y + down * one, one * 1.02, one * 1.02, style="F"
                    )

    def _style(self, size: float, bold: bool, colour: tuple[int, int, int]) -> None:
        self._pdf.set_font(_FONT, "B" if bold else "", size)
        self._pdf.set_text_color(*colour)

    def _line(
        self, text: str, size: float, bold: bool = False, colour: tuple[int, int, int] = _INK
    ) -> None:
        self._style(size, bold, colour)
        self._pdf.cell(0, size * 0.4, self._drawn(text))

    def _fit(
        self,
        text: str,
        size: float,
        wide: float,
        bold: bool = False,
        colour: tuple[int, int, int] = _INK,
    ) -> None:
        """One line, made smaller until it fits, and cut where it would get too small to read."""
        self._style(size, bold, colour)
        text = self._drawn(text)
        while self._pdf.get_string_width(text) > wide and size > 8:
            size -= 0.5
            self._style(size, bold, colour)
        while self._pdf.get_string_width(text) > wide:
            text = text.rstrip("…")[:-1] + "…"
        self._pdf.cell(wide, 6, text)

    def _whole(self, text: str, size: float, wide: float) -> None:
        """As large as fits into one line, else small in several; nothing is left out."""
        self._style(size, True, _INK)
        while self._pdf.get_string_width(text) > wide and size > 11:
            size -= 0.5
            self._style(size, True, _INK)
        self._pdf.multi_cell(
            wide, 8 if size > 11 else 4.6, text, align=Align.L, wrapmode=WrapMode.CHAR
        )

    def _drawn(self, text: str) -> str:
        """A letter that the font lacks would be left out, as if it were not there."""
        known = self._pdf.current_font.cmap  # type: ignore[union-attr]
        return "".join(one if ord(one) in known else "?" for one in text)

    def _text(
        self, text: str, size: float, wide: float, colour: tuple[int, int, int] = _INK
    ) -> None:
        self._style(size, False, colour)
        self._pdf.multi_cell(
            wide, size * 0.43, text, align=Align.L, new_x=XPos.LEFT, new_y=YPos.NEXT
        )
