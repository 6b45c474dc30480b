"""The house: everything the web needs, built in ``main.py`` in one visible place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notfallserver.server.authority import Authority
from notfallserver.server.cycle.actions import Conductor
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.health.watch import HealthWatch
from notfallserver.server.metrics.meter import Meter
from notfallserver.server.records import Catalogue
from notfallserver.server.report.reports import Reports
from notfallserver.server.settings import Settings
from notfallserver.server.tell.teller import Teller


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
    health: HealthWatch
    teller: Teller[Any]
    reports: Reports
    meter: Meter

    def present(self) -> Settings:
        """The settings as they hold now; ``settings`` are those of the file."""
        return self.settings.changed(self.catalogue.preferences.all())
