"""How a person commands the emergency server in a cycle: by the command line, or in other ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from notfall_lab.world import CommandRefused, World

COPY_S = 1200.0


class Hands(Protocol):
    """Each returns when it is done; results are those of the jobs."""

    def add(self, name: str, paste: Callable[[str], object]) -> None:
        """Add a primary: ``paste`` does with the line what a person does with it there."""

    def replicate(self, name: str) -> dict[str, Any]: ...

    def try_to_activate(self, name: str) -> str:
        """Why the stand-in was not started; empty when it was."""

    def activate(self, name: str) -> dict[str, Any]: ...

    def medium(self, name: str) -> Path:
        """The rescue medium's image."""

    def recover(self, name: str, code: str) -> None:
        """Returns when the target is ready for the switch-back."""

    def switch_back(self, name: str) -> dict[str, Any]: ...


class CommandLine:
    """``notfall`` on the emergency server."""

    def __init__(self, world: World) -> None:
        self._world = world

    def add(self, name: str, paste: Callable[[str], object]) -> None:
        paste(self._world.notfall("primary", "invite", name)["line"])

    def replicate(self, name: str) -> dict[str, Any]:
        return self._result("replicate", name, "--follow", timeout=COPY_S)

    def try_to_activate(self, name: str) -> str:
        try:
            self._world.notfall("activate", name, timeout=120)
        except CommandRefused as error:
            return error.code
        return ""

    def activate(self, name: str) -> dict[str, Any]:
        return self._result("activate", name, timeout=COPY_S)

    def medium(self, name: str) -> Path:
        return Path(self._result("rescue", "build", timeout=COPY_S)["iso"])

    def recover(self, name: str, code: str) -> None:
        self._world.notfall("recover", name, "--to", code, "--yes", timeout=120)
        self._world.wait_ready(name, COPY_S)

    def switch_back(self, name: str) -> dict[str, Any]:
        return self._result("switch-back", name, timeout=2 * COPY_S)

    def _result(self, *line: str, timeout: float) -> dict[str, Any]:
        result: dict[str, Any] = self._world.notfall(*line, timeout=timeout)["result"]
        return result
