"""The house: everything the web needs, built in ``main.py`` in one visible place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.authority import Authority
from notfallserver.server.cycle.actions import Conductor
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.records import Catalogue
from notfallserver.server.settings import Settings


@dataclass(frozen=True)
class House:
    """``agent_package`` is the file served as agent.pyz; ``urls`` what agents use, best first."""

    settings: Settings
    catalogue: Catalogue
    runner: JobRunner
    authority: Authority
    conductor: Conductor
    agent_package: Path
    urls: tuple[str, ...]
