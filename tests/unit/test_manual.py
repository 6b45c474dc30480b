"""The manual: the same in both languages, and everything that it names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

from notfallserver.server.cli.main import app
from notfallserver.server.web import page
from notfallserver.server.web.language import LANGUAGES

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "docs" / "user"
COMMANDS = get_command(app)
CHAPTERS = sorted(MANUAL.glob("*/*.md"))
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
ADDRESS = re.compile(r"/[a-z][a-z./-]*")
MOST = 3_000_000
"""So many bytes all pictures may have."""


def files(spoken: str, kind: str) -> set[str]:
    place = MANUAL / spoken
    return {str(one.relative_to(place)) for one in place.rglob(f"*.{kind}")}


def spans(text: str) -> list[str]:
    """What is in a code span or an indented block."""
    blocks = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return SPAN.findall(text) + blocks


def test_both_languages_have_the_same_chapters_and_pictures() -> None:
    first, *others = LANGUAGES
    assert len(files(first, "md")) > 10 and len(files(first, "png")) > 10
    for other in others:
        for kind in ("md", "png"):
            assert files(other, kind) == files(first, kind)
    numbers = sorted(int(one[:2]) for one in files(first, "md") if one[0].isdigit())
    assert numbers == list(range(1, len(numbers) + 1))
    assert sum(one.stat().st_size for one in MANUAL.rglob("*.png")) < MOST


@pytest.mark.parametrize("spoken", LANGUAGES)
def test_every_picture_is_used_and_every_chapter_is_in_the_contents(spoken: str) -> None:
    place = MANUAL / spoken
    named = {
        target for one in place.glob("*.md") for target in LINK.findall(one.read_text("utf-8"))
    }
    assert files(spoken, "png") <= named
    contents = set(LINK.findall((place / "README.md").read_text("utf-8")))
    assert files(spoken, "md") - {"README.md"} <= contents


@pytest.mark.parametrize("chapter", [*CHAPTERS, ROOT / "README.md"], ids=str)
def test_links_lead_somewhere_and_pictures_are_described(chapter: Path) -> None:
    text = chapter.read_text("utf-8")
    for target in LINK.findall(text):
        assert "://" in target or (chapter.parent / target).exists(), target
    assert all(described.strip() for described, _ in PICTURE.findall(text))


def unknown(text: str) -> Iterator[str]:
    """Commands and options of ``notfall`` that are named but don't exist."""
    for span in spans(text):
        if not span.startswith("notfall "):
            continue
        command = COMMANDS
        words = span.split()[1:]
        while words and (below := getattr(command, "commands", None)) is not None:
            if words[0] not in below:
                break
            command = below[words.pop(0)]
        if hasattr(command, "commands"):
            yield span
            continue
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        for option in re.findall(r"(?<!\S)--[a-z0-9-]+", " ".join(words)):
            if option not in known | {"--help", "--json", "--config"}:
                yield span


@pytest.mark.parametrize("chapter", CHAPTERS, ids=str)
def test_every_command_exists(chapter: Path) -> None:
    assert list(unknown(chapter.read_text("utf-8"))) == []


def test_an_unknown_command_would_be_found() -> None:
    wrong = ["notfall explode shop", "notfall primary", "notfall activate shop --force"]
    told = " ".join(f"`{one}`" for one in [*wrong, "notfall files shop --mount /mnt"])
    assert list(unknown(told)) == wrong


def routes() -> set[str]:
    """Addresses of pages."""
    modules = [one for one in vars(page).values() if isinstance(one, ModuleType)]
    routers = [one.router for one in modules if hasattr(one, "router")]
    return {str(one.path) for router in routers for one in router.routes}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=str)
def test_every_address_of_a_page_exists(chapter: Path) -> None:
    patterns = [re.sub(r"\{[^}]*\}", "[^/]+", one) for one in routes() | {"/health"}]
    for span in SPAN.findall(chapter.read_text("utf-8")):
        if ADDRESS.fullmatch(span) and not span.startswith(("/etc/", "/opt/", "/mnt", "/dev/")):
            assert any(re.fullmatch(one, span) for one in patterns), span
