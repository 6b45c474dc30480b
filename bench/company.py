"""A company of 200 servers with years of records, for measuring its pages; filled in seconds.

``python -m bench.company DIRECTORY PORT PASSWORD`` serves it until it is told to end. The house is
the dry run's (:mod:`notfall_lab.dryrun`); journal and jobs are written straight into the catalogue.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from notfall_lab.dryrun.house import SERVERS, DryHouse, dry_house
from notfallserver.server.cycle.state import State
from notfallserver.server.records.catalogue import FILE
from notfallserver.server.web.serve import serve
from notfallserver.server.web.words.history import EVENTS

PRIMARIES, ENTRIES, JOBS = 200, 100_000, 10_000
COPIES = (1, 2, 3, 6, 12)
"""Ages of a server's copies, in quarters of an hour."""
MINUTES = 7
"""Between two entries of the journal."""
UNWELL = {
    State.OUTAGE: 3,
    State.EMERGENCY: 3,
    State.RECOVERING: 2,
    State.ACTIVATING: 1,
}
KINDS = ("replicate", "prepare", "scrub", "capture")


def fill(dry: DryHouse, database: Path) -> None:
    machines = list(SERVERS.values())
    uuids = [
        dry.add(f"server-{number:03}", machines[number % len(machines)], COPIES)
        for number in range(PRIMARIES)
    ]
    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO journal (at, 'primary', event, who, why, from_state, to_state, details) "
            "VALUES (?, ?, ?, ?, '', '', '', ?)",
            _entries(uuids),
        )
        connection.executemany(
            "INSERT INTO jobs (id, kind, 'primary', state, who, created_at, started_at, "
            "finished_at, progress, parameters, notes, result, error, cancel_requested) "
            "VALUES (?, ?, ?, ?, 'schedule', ?, ?, ?, '{}', '{}', '{}', '{}', ?, 0)",
            _jobs(uuids),
        )
        moment = _at(0)
        connection.execute("UPDATE primaries SET last_seen = ?, agent_role = 'primary'", (moment,))
        unwell = iter(uuids)
        for state, count in UNWELL.items():
            for _ in range(count):
                connection.execute(
                    "UPDATE primaries SET state = ? WHERE uuid = ?", (str(state), next(unwell))
                )
    connection.close()


def _entries(uuids: list[str]) -> Iterator[tuple[str, str, str, str, str]]:
    """The oldest first; every tenth is something else than a copy."""
    rare = sorted(EVENTS)
    for number in range(ENTRIES):
        event = "version" if number % 10 else rare[number // 10 % len(rare)]
        moment = timedelta(minutes=MINUTES * (ENTRIES - number))
        stamp = f"{datetime.now(timezone.utc) - moment:%Y%m%dT%H%M%S}.000Z"
        details = {"version": stamp, "kind": "replication"}
        who = "admin" if number % 50 == 0 else "server"
        uuid = uuids[number * 7 % len(uuids)]
        yield _at(moment.total_seconds()), uuid, event, who, json.dumps(details)


def _jobs(uuids: list[str]) -> Iterator[tuple[str, str, str, str, str, str, str, str | None]]:
    """Every hundredth failed; the last few hours' failures are not made good yet."""
    error = {"code": "agent-silent", "cause": "It is silent.", "remedy": "", "retry": True}
    for number in range(JOBS):
        moment = _at(60.0 * MINUTES * (JOBS - number))
        failed = number % 100 == 99
        yield (
            f"{number:016x}",
            KINDS[number // len(uuids) % len(KINDS)],
            uuids[number % len(uuids)],
            "failed" if failed else "done",
            moment,
            moment,
            moment,
            json.dumps(error) if failed else None,
        )


def _at(seconds_ago: float) -> str:
    moment = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    return moment.isoformat(timespec="microseconds")


def main() -> None:
    directory, port, password = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with dry_house(directory, port, password=password) as dry:
        fill(dry, directory / FILE)
        serve(dry.app(), dry.house, {}, lambda: print("ready", flush=True))


if __name__ == "__main__":
    main()
