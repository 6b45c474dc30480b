"""Reads INF files, by which makers describe their drivers to Windows. Pure and tolerant.

Makers write them by hand: in UTF-16 or in an old code page, with any case, with spaces anywhere,
with sections in several pieces. What can't be understood is left out; only what is no INF at all is
:class:`ValueError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Tuple

MOST = 4 << 20
"""Bytes; the largest of makers have less than one tenth of it."""
_TOKEN = re.compile(r"%([^%]*)%")
_STRINGS = ("strings", "strings.0409", "strings.0009")
"""Of the languages English, if there are only ones with a language."""


@dataclass(frozen=True)
class Line:
    """``key`` = ``values``; of a line without a key, and of one with it, ``fields`` are all of its
    parts between commas."""

    key: str
    values: Tuple[str, ...]
    fields: Tuple[str, ...]


@dataclass(frozen=True)
class Inf:
    """Sections by name in lower case; texts in place of their names between per cent signs."""

    sections: Mapping[str, Tuple[Line, ...]]

    def lines(self, section: str) -> Tuple[Line, ...]:
        return self.sections.get(section.lower(), ())

    def has(self, section: str) -> bool:
        return section.lower() in self.sections

    def value(self, section: str, key: str) -> str:
        """The first value of the first such line; empty where there is none."""
        return next((one for one in self.all_values(section, key)), "")

    def all_values(self, section: str, key: str) -> Tuple[str, ...]:
        """Of all such lines."""
        found: List[str] = []
        for line in self.lines(section):
            if line.key.lower() == key.lower():
                found += line.values
        return tuple(found)


def read_inf(raw: bytes) -> Inf:
    """:class:`ValueError` for what is no INF."""
    if len(raw) > MOST:
        raise ValueError("it is larger than any driver's description")
    split: Dict[str, List[str]] = {}
    here = ""
    for text in _logical_lines(decode(raw)):
        if text.startswith("["):
            here = text[1:].partition("]")[0].strip().lower()
            split.setdefault(here, [])
        elif here:
            split[here].append(text)
    if "version" not in split:
        raise ValueError("it has no section [Version]")
    texts = _texts(split)
    return Inf(
        {
            name: tuple(_line(one, texts) for one in lines)
            for name, lines in split.items()
            if not name.startswith("strings")
        }
    )


def decode(raw: bytes) -> str:
    """By its mark, by its zeros, or as Windows' western code page."""
    for mark, name in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if raw.startswith(mark):
            return raw[2:].decode(name, "replace")
    if raw.startswith(b"\xef\xbb\xbf"):
        return raw[3:].decode("utf-8", "replace")
    if raw[1:2] == b"\0":
        return raw.decode("utf-16-le", "replace")
    return raw.decode("cp1252", "replace")


def _logical_lines(text: str) -> Iterator[str]:
    """Without remarks and empty ones; a backslash at the end goes on in the next one."""
    begun = ""
    for raw in text.splitlines():
        line = begun + _without_remark(raw).strip()
        begun = ""
        if line.endswith("\\") and not line.startswith("["):
            begun = line[:-1]
            continue
        if line:
            yield line
    if begun.strip():
        yield begun.strip()


def _without_remark(line: str) -> str:
    quoted = False
    for at, one in enumerate(line):
        if one == '"':
            quoted = not quoted
        elif one == ";" and not quoted:
            return line[:at]
    return line


def _texts(split: Mapping[str, List[str]]) -> Dict[str, str]:
    names = [one for one in reversed(_STRINGS) if one in split]
    names = names or sorted(one for one in split if one.startswith("strings"))[:1]
    found: Dict[str, str] = {}
    for name in names:
        for text in split[name]:
            key, value = _parted(text)
            if key:
                found[_plain(key).lower()] = _plain(value)
    return found


def _line(text: str, texts: Mapping[str, str]) -> Line:
    def told(part: str) -> str:
        return _replaced(_plain(part), texts)

    key, rest = _parted(text)
    values = tuple(told(one) for one in _fields(rest)) if key else ()
    return Line(told(key), values, tuple(told(one) for one in _fields(text)))


def _parted(text: str) -> Tuple[str, str]:
    """Key and the rest behind the first equals sign that is not within quotes."""
    quoted = False
    for at, one in enumerate(text):
        if one == '"':
            quoted = not quoted
        elif one == "=" and not quoted:
            return text[:at].strip(), text[at + 1 :].strip()
    return "", text


def _fields(text: str) -> List[str]:
    """What stands between commas that are not within quotes."""
    found, quoted, begin = [], False, 0
    for at, one in enumerate(text):
        if one == '"':
            quoted = not quoted
        elif one == "," and not quoted:
            found.append(text[begin:at])
            begin = at + 1
    return [*found, text[begin:]]


def _plain(text: str) -> str:
    """Without the quotes; two of them within quotes are one."""
    text = text.strip()
    if len(text) >= 2 and text.startswith('"') and text.endswith('"'):
        return text[1:-1].replace('""', '"')
    return text.replace('"', "")


def _replaced(text: str, texts: Mapping[str, str]) -> str:
    """A name that has no text stays as it is: %12% is a folder of Windows."""
    return _TOKEN.sub(
        lambda found: "%" if not found[1] else texts.get(found[1].strip().lower(), found[0]), text
    )
