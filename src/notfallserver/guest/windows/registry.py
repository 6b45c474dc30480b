"""Values of the registry and where they lie; what a plan changes there. Pure.

A key is a path within its hive, with backslashes; case does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Tuple, Union

TEXT, EXPANDED, BINARY, NUMBER, TEXTS = 1, 2, 3, 4, 7

SYSTEM, SOFTWARE = "SYSTEM", "SOFTWARE"
"""The hives by their file names."""


@dataclass(frozen=True)
class Value:
    """``kind`` as Windows counts them; wrong or torn data reads as nothing."""

    kind: int
    data: bytes

    def number(self) -> int:
        """-1 where it is none."""
        if self.kind != NUMBER or len(self.data) != 4:
            return -1
        return int.from_bytes(self.data, "little")

    def text(self) -> str:
        if self.kind not in (TEXT, EXPANDED):
            return ""
        return self.data.decode("utf-16-le", "replace").split("\0")[0]

    def texts(self) -> Tuple[str, ...]:
        """Of a list; a plain text is a list of one, as Windows reads it."""
        if self.kind == TEXTS:
            parts = self.data.decode("utf-16-le", "replace").split("\0")
            return tuple(one for one in parts if one)
        return (self.text(),) if self.text() else ()


def number(value: int) -> Value:
    return Value(NUMBER, value.to_bytes(4, "little"))


def text(value: str, kind: int = TEXT) -> Value:
    return Value(kind, (value + "\0").encode("utf-16-le"))


def texts(values: Iterable[str]) -> Value:
    return Value(TEXTS, ("".join(f"{one}\0" for one in values) + "\0").encode("utf-16-le"))


@dataclass(frozen=True)
class SetValue:
    """Makes the key where it is absent."""

    hive: str
    key: str
    name: str
    value: Value
    change: str


@dataclass(frozen=True)
class DeleteValue:
    hive: str
    key: str
    name: str
    change: str


@dataclass(frozen=True)
class DeleteKey:
    """With all that is below it."""

    hive: str
    key: str
    change: str


RegistryStep = Union[SetValue, DeleteValue, DeleteKey]
