"""The catalogue: all records of one server, opened together."""

from __future__ import annotations

from pathlib import Path

from notfallserver.server.records.database import Database
from notfallserver.server.records.events import EventBus
from notfallserver.server.records.invites import Invites
from notfallserver.server.records.jobs import Jobs
from notfallserver.server.records.journal import Journal
from notfallserver.server.records.metrics_token import MetricsToken
from notfallserver.server.records.notes import Notes
from notfallserver.server.records.outbox import Outbox
from notfallserver.server.records.people import People
from notfallserver.server.records.preferences import Preferences
from notfallserver.server.records.primaries import Primaries
from notfallserver.server.records.receivers import Receivers
from notfallserver.server.records.rehearsals import Rehearsals
from notfallserver.server.records.rules import Rules
from notfallserver.server.records.second_factor import SecondFactor
from notfallserver.server.records.sessions import Sessions
from notfallserver.server.records.space import Space
from notfallserver.server.records.start_plan import StartPlan
from notfallserver.server.records.targets import Targets

FILE = "catalogue.db"


class Catalogue:
    """Opened by :func:`open_catalogue`; close it at the end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.primaries = Primaries(database)
        self.jobs = Jobs(database)
        self.journal = Journal(database)
        self.invites = Invites(database)
        self.targets = Targets(database)
        self.people = People(database)
        self.sessions = Sessions(database)
        self.second_factor = SecondFactor(database)
        self.rules = Rules(database)
        self.rehearsals = Rehearsals(database)
        self.start_plan = StartPlan(database)
        self.notes = Notes(database)
        self.metrics_token = MetricsToken(database)
        self.receivers = Receivers(database)
        self.outbox = Outbox(database)
        self.space = Space(database)
        self.preferences = Preferences(database)

    @property
    def events(self) -> EventBus:
        return self._database.events

    def close(self) -> None:
        self._database.close()


def open_catalogue(data_dir: Path) -> Catalogue:
    """Open (and make or bring up to date) the catalogue in ``data_dir``."""
    return Catalogue(Database(data_dir / FILE))
