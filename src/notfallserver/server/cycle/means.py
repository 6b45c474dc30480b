"""What the phases work with; built once in ``main.py``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from notfallserver.server.cycle.driver_store import DriverStore, drivers_dir
from notfallserver.server.cycle.normal.orders import Orders
from notfallserver.server.cycle.normal.runs import Runs
from notfallserver.server.cycle.recovery.desk import Desk
from notfallserver.server.cycle.standin import limited
from notfallserver.server.pool.setup import PoolPlace
from notfallserver.server.pool.store import Pool
from notfallserver.server.records import Catalogue
from notfallserver.server.settings import Settings
from notfallserver.server.vm.hypervisor import Hypervisor


@dataclass(frozen=True)
class Means:
    """``ca_pem`` and ``urls`` go onto the rescue medium, best address first."""

    settings: Settings
    catalogue: Catalogue
    pool: Pool
    place: PoolPlace
    hypervisor: Hypervisor
    runs: Runs
    orders: Orders
    desk: Desk
    ca_pem: str
    urls: tuple[str, ...]

    def present(self) -> Settings:
        """The settings as they hold now: what was changed meanwhile goes before the file."""
        return self.settings.changed(self.catalogue.preferences.all())

    def for_standin(self, primary: str) -> Settings:
        """The settings by which this primary's stand-in is made: it may get less memory."""
        return limited(self.settings, self.catalogue.start_plan.of(primary).memory_mib)

    @property
    def rescue_dir(self) -> Path:
        return self.settings.data_dir / "rescue"

    @property
    def drivers(self) -> DriverStore:
        return DriverStore(drivers_dir(self.settings))
