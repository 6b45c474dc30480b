"""Versions that no rule removes, and why: each pin has a key (who holds it) and a text.

A version may be held for several reasons at once, and is free again when none is left. The record
lies in the pool, so that a rebuilt catalogue knows it, too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from notfallserver.server.host.files import read_json, replace_json
from notfallserver.server.pool import layout
from notfallserver.wire.errors import NotfallError

FORMAT = 1

_writing = threading.Lock()


@dataclass(frozen=True)
class Pin:
    """``why`` is what a person wrote, ``who`` set it, ``at`` when (ISO 8601, UTC)."""

    why: str
    who: str
    at: str

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Pin:
        return cls(str(body["why"]), str(body["who"]), str(body["at"]))


class PinRecord:
    """The record of one primary. Thread-safe."""

    def __init__(self, paths: layout.PrimaryPaths) -> None:
        self._path = paths.pins
        self._versions = paths.versions

    def all(self) -> dict[str, dict[str, Pin]]:
        """By stamp and key. A record that can't be read raises: what it holds must not go."""
        try:
            body = read_json(self._path)
        except FileNotFoundError:
            return {}
        try:
            if body["format"] != FORMAT:
                raise ValueError(body["format"])
            return {
                stamp: {key: Pin.from_json(one) for key, one in pins.items()}
                for stamp, pins in body["versions"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotfallError(
                "pins-unreadable",
                f"{self._path} can't be read, so it is not known which versions must stay.",
                "Nothing is removed until the file is mended. If no version was pinned, delete it.",
                status=500,
            ) from error

    def pin(self, stamp: str, key: str, pin: Pin) -> None:
        """Hold a version, durably; again with the same key replaces the reason."""
        with _writing:
            known = self.all()
            self._write({**known, stamp: {**known.get(stamp, {}), key: pin}})

    def unpin(self, stamp: str, key: str) -> bool:
        """Let go what ``key`` holds; False where it held nothing."""
        with _writing:
            known = self.all()
            found = known.get(stamp, {}).pop(key, None)
            if found is not None:
                self._write(known)
            return found is not None

    @contextmanager
    def held_still(self) -> Iterator[dict[str, dict[str, Pin]]]:
        """All, and nobody pins or unpins inside this block."""
        with _writing:
            yield self.all()

    def _write(self, known: Mapping[str, Mapping[str, Pin]]) -> None:
        there = {
            stamp: {key: asdict(one) for key, one in pins.items()}
            for stamp, pins in known.items()
            if pins and (self._versions / stamp / layout.MANIFEST).exists()
        }
        replace_json(self._path, {"format": FORMAT, "versions": there})
