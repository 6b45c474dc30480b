"""LVM's metadata text: nested sections, values and lists, as ``vgcfgbackup`` writes it. Pure."""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, Union

Value = Union[int, str, List[Union[int, str]], "Section"]
Section = Dict[str, Value]

_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | (?P<text>"(?:[^"\\]|\\.)*") | (?P<mark>[{}=\[\],])
    | (?P<number>-?\d+(?:\.\d+)?)(?![\w.+-]) | (?P<name>[A-Za-z0-9_.+@/-]+)""",
    re.VERBOSE,
)
_DEEPEST = 8


def parse(text: str) -> Section:
    """The whole text as nested dictionaries; :class:`ValueError` where it breaks the rules."""
    tokens = _tokens(text)
    found = _section(tokens, 0)
    if next(tokens, None) is not None:
        raise ValueError("a bracket closes what was never opened")
    return found


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"nothing known begins at {text[at : at + 20]!r}")
        at = match.end()
        if match.lastgroup:
            yield match[0]


def _section(tokens: Iterator[str], depth: int) -> Section:
    if depth > _DEEPEST:
        raise ValueError("sections are nested too deeply")
    found: Section = {}
    for name in tokens:
        if name == "}":
            if not depth:
                break
            return found
        mark = next(tokens, "")
        if mark == "{":
            found[name] = _section(tokens, depth + 1)
        elif mark == "=":
            found[name] = _value(tokens)
        else:
            raise ValueError(f"{name} is neither a section nor a value")
    else:
        if not depth:
            return found
    raise ValueError("brackets don't match")


def _value(tokens: Iterator[str]) -> Value:
    first = next(tokens, "")
    if first != "[":
        return _scalar(first)
    items: List[Union[int, str]] = []
    for word in tokens:
        if word == "]":
            return items
        if word != ",":
            items.append(_scalar(word))
    raise ValueError("a list does not end")


def _scalar(word: str) -> Union[int, str]:
    if word.startswith('"'):
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if re.fullmatch(r"-?\d+\.\d+", word):
        return word  # nothing that is read here has a point
    raise ValueError(f"{word!r} is no value")
