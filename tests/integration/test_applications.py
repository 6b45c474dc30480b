"""Versions of a machine whose databases are written to; real databases, real disks; needs root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from agent_receiver import Receiver, command, packed_agent
from databases import (
    NOBODY,
    Database,
    Host,
    Mariadb,
    Postgres,
    Redis,
    Writer,
    as_nobody,
    copied,
    own,
)
from mongod_double import install

from notfall_lab.patience import PATIENCE_S, until_soon
from notfallserver.agent.applications.settings import ApplicationSettings, Own, read_settings
from notfallserver.agent.commands import this_program
from notfallserver.agent.freeze.linux import Freezer
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def host() -> Iterator[Host]:
    with ExitStack() as cleanup:
        yield Host(cleanup)


def started(cleanup: ExitStack, database: Database) -> Database:
    cleanup.callback(database.stop)
    database.start()
    return database


def check_whole(database: Database, writer: Writer, frozen_at: str) -> None:
    """All that was acknowledged before the freeze is there, in all places alike, nothing else."""
    moment = datetime.fromisoformat(frozen_at).timestamp()
    acknowledged = writer.before(moment - 0.002)
    assert acknowledged > 10
    for numbers in database.numbers():
        assert numbers == list(range(1, len(numbers) + 1))
        assert acknowledged <= len(numbers) <= writer.before(moment + 5) + 1


def test_databases_written_to_are_whole_in_the_version(host: Host, receiver: Receiver) -> None:
    """Their tables lie on two disks that freeze together; the second run reads only changes."""
    receiver.settings(host.disks)
    with ExitStack() as cleanup:
        databases: list[Database] = [
            Postgres(host.data(0, "pg"), host.root / "pg.run"),
            Mariadb(host.data(1, "my"), host.root / "my.run"),
            Redis(host.data(0, "redis"), host.root / "redis.run"),
            Redis(host.data(1, "append"), host.root / "append.run", append=True),
        ]
        for one in databases:
            one.create()
            started(cleanup, one)
            one.table()
        service = Service(receiver.config, Stop())
        cleanup.callback(service.close)
        writers = [cleanup.enter_context(Writer(one)) for one in databases]
        outcomes = [service.replicate(), service.replicate()]
    assert [one.consistency for one in outcomes] == ["application"] * 2, outcomes
    assert not outcomes[1].read_all
    newest = receiver.store.need_newest()
    assert newest.manifest.consistency == "application"
    held = {one.name: one for one in newest.manifest.applications}
    assert sorted(held) == sorted(f"{one.name} {one.place}" for one in databases)
    assert not any(one.error for one in held.values())
    assert {name.split()[0] for name, one in held.items() if one.held_ms} == {"mariadb", "redis"}

    with ExitStack() as cleanup:
        places = [cleanup.enter_context(copied(receiver.image(at), host.root)) for at in (0, 1)]
        for before, writer in zip(databases, writers, strict=True):
            place = places[host.places.index(before.place.parent)] / before.place.name
            again = type(before)(place, Path(f"{before.sockets}.again"))
            if isinstance(again, Redis):
                again.append = before.sockets.name.startswith("append")
            else:
                (place / "postmaster.pid").unlink(missing_ok=True)
            started(cleanup, again)
            check_whole(again, writer, receiver.seals[-1]["frozen_at"])


def test_redis_writers_wait_unless_its_snapshot_is_too_large(host: Host) -> None:
    """A large snapshot is made beforehand, while all go on writing."""
    redis = Redis(host.data(0, "redis"), host.root / "redis.run")
    snapshot = redis.place / "dump.rdb"
    client = ["redis-cli", "-s", str(redis.sockets / "redis.sock")]

    def module(what: str) -> subprocess.Popen[bytes]:
        line = this_program("applications.redis", [what, str(NOBODY.pw_uid), "20", *client])
        return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with ExitStack() as cleanup:
        started(cleanup, redis)
        for stands_still in (True, False):
            assert module("prepare").communicate(timeout=PATIENCE_S)[0] == b""
            assert snapshot.exists() != stands_still
            with Writer(redis) as writer, module("hold") as holder:
                assert holder.stdout is not None
                assert holder.stdout.readline() == b"held\n"
                before = len(writer.acknowledged)
                time.sleep(0.3)
                assert (len(writer.acknowledged) <= before + 1) == stands_still
                holder.communicate(timeout=PATIENCE_S)
                assert holder.returncode == 0
                writer.goes_on(before)
            command(*client, "FLUSHALL")
            snapshot.unlink()
            command(*client, "-x", "SET", "large", input=os.urandom(9 << 20).hex())


def shell(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text)


@pytest.mark.parametrize("keeper_too", [False, True], ids=["agent", "with its keeper"])
def test_applications_work_on_when_the_agent_is_killed(
    host: Host, receiver: Receiver, tmp_path: Path, keeper_too: bool
) -> None:
    """Killed while one is held and the next about to be; the keeper lets go, or the next start."""
    slow = Own(
        "slow",
        freeze=shell(f"echo freeze >> {tmp_path}/log; sleep 60"),
        thaw=shell(f"echo thaw >> {tmp_path}/log"),
        freeze_seconds=60,
    )
    settings = ApplicationSettings(own=(Own(recipe="mariadb"), slow), limit_seconds=60)
    receiver.settings(host.disks, applications=settings)
    program = packed_agent(tmp_path / "agent.pyz")
    log = tmp_path / "log"
    log.touch()
    with ExitStack() as cleanup:
        database = Mariadb(host.data(1, "my"), host.root / "my.run")
        database.create()
        started(cleanup, database)
        database.table()
        writer = cleanup.enter_context(Writer(database))
        line = [sys.executable, program, "replicate", "--config", receiver.config]
        thaw = [sys.executable, program, "thaw", "--config", receiver.config]
        agent = subprocess.Popen([str(one) for one in line], stderr=subprocess.DEVNULL)
        cleanup.callback(agent.kill)
        until_soon(log.read_text, 60)
        before = len(writer.acknowledged)
        time.sleep(0.5)
        assert len(writer.acknowledged) <= before + 1  # it stands still
        if keeper_too:
            told = command("pgrep", "-P", agent.pid, "-f", "applications.keeper")
            agent.send_signal(signal.SIGSTOP)  # it must not thaw what its keeper left
            os.kill(int(told), signal.SIGKILL)
        agent.kill()
        agent.wait()
        writer.goes_on(before)
        if keeper_too:
            assert log.read_text() == "freeze\n"
            assert "slow was still held and is thawed" in command(*thaw)
        until_soon(lambda: log.read_text() == "freeze\nthaw\n", 5)
        assert command(*thaw) == ""


IN_THE_FROZEN_MOMENT = """
import sys, time
from pathlib import Path
from notfallserver.agent.moment import FrozenBuffer
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop

def read(*_):
    Path(sys.argv[2]).write_text("frozen")
    time.sleep(60)

FrozenBuffer.read = read
Service(Path(sys.argv[1]), Stop()).replicate()
"""


def test_databases_work_on_when_the_agent_is_killed_in_the_frozen_moment(
    host: Host, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.settings(host.disks)
    told = tmp_path / "told"
    with ExitStack() as cleanup:
        writers = []
        for database in (
            Postgres(host.data(0, "pg"), host.root / "pg.run"),
            Redis(host.data(1, "redis"), host.root / "redis.run"),
        ):
            database.create()
            started(cleanup, database)
            database.table()
            writers.append(cleanup.enter_context(Writer(database)))
        line = [sys.executable, "-c", IN_THE_FROZEN_MOMENT, receiver.config, told]
        agent = subprocess.Popen([str(one) for one in line])
        cleanup.callback(agent.kill)
        until_soon(told.exists, 60)
        time.sleep(0.5)
        before = [len(one.acknowledged) for one in writers]
        time.sleep(0.5)
        assert [len(one.acknowledged) for one in writers] == before
        agent.kill()
        agent.wait()
        for writer, count in zip(writers, before, strict=True):
            writer.goes_on(count)


def replicated(
    host: Host, receiver: Receiver, *given: dict[str, Any], limit: float = 30, **others: Any
) -> Outcome:
    """One run with these applications."""
    settings = read_settings({"auto": False, "limit_seconds": limit, "own": list(given)})
    receiver.settings(host.disks, applications=settings, **others)
    service = Service(receiver.config, Stop())
    try:
        return service.replicate()
    finally:
        service.close()


HOLDER = {"name": "holder", "hold": ["/bin/sh", "-c", "echo held; cat > /dev/null"]}


def test_applications_that_fail_do_not_prevent_a_version(
    host: Host, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    pair = {"freeze": ["/bin/true"], "thaw": shell(f"echo thaw >> {log}")}
    pair = {name: list(words) for name, words in pair.items()}
    fine = replicated(host, receiver, HOLDER, {**pair, "name": "pair"})
    assert fine.consistency == "application"
    assert [one.error for one in fine.applications] == ["", ""]
    assert all(one.held_ms >= fine.freeze_ms for one in fine.applications)

    hangs = {**pair, "name": "hangs", "freeze": ["/bin/sleep", "99"], "freeze_seconds": 1}
    outcome = replicated(host, receiver, HOLDER, hangs)
    assert outcome.consistency == "filesystem"
    assert [one.error[:28] for one in outcome.applications] == ["", "sleep was not ready after 1 "]
    manifest = receiver.store.need_newest().manifest
    assert manifest.consistency == "filesystem"
    assert manifest.applications[1].error == outcome.applications[1].error
    assert log.read_text().count("thaw") == 2

    with pytest.raises(NotfallError) as caught:
        replicated(host, receiver, HOLDER, {**hangs, "required": True})
    assert caught.value.code == receiver.failures[0]["code"] == "application-not-held"
    assert receiver.store.need_newest().manifest == manifest

    written = host.places[0] / "written"
    floods = {**pair, "name": "floods"}
    floods["freeze"] = list(shell(f"head -c 40M /dev/urandom > {written}; sync {written}"))
    outcome = replicated(host, receiver, floods, frozen_mib=2)
    assert outcome.consistency == "filesystem"
    assert "Too much was written" in outcome.applications[0].error

    freeze = Freezer._freeze

    def freeze_slowly(self: Freezer, *rest: Any) -> None:
        time.sleep(1)
        freeze(self, *rest)

    monkeypatch.setattr(Freezer, "_freeze", freeze_slowly)
    outcome = replicated(host, receiver, HOLDER, limit=1)
    assert outcome.consistency == "filesystem"
    assert outcome.applications[0].error.startswith("It was let go after 1 s")


def test_mongodb_is_locked_for_the_freeze(host: Host, receiver: Receiver) -> None:
    """By a double: the real one is not in Debian."""
    server, client = install(own(host.root / "mongo"))
    log = client.parent / "log"
    path = f"{client.parent}:/usr/bin:/bin"
    receiver.settings(
        host.disks,
        applications=ApplicationSettings(own=(Own(recipe="mongodb", environment={"PATH": path}),)),
    )
    data = host.data(0, "mongo")
    double = as_nobody(server, data, log, out=subprocess.DEVNULL)
    service = Service(receiver.config, Stop())
    try:
        until_soon(lambda: log.exists() and log.read_text() and (data / "collection.wt").exists())
        outcome = service.replicate()
        size = (data / "collection.wt").stat().st_size
        until_soon(lambda: (data / "collection.wt").stat().st_size > size)
    finally:
        service.close()
        double.kill()
        double.wait()
    assert outcome.consistency == "application"
    assert [one.name for one in outcome.applications] == ["mongodb /"]
    assert log.read_text() == "ready\nlocked\nunlocked\n"


def test_the_administrator_sees_and_tries_what_is_held(
    host: Host, receiver: Receiver, tmp_path: Path
) -> None:
    broken = {"name": "broken", "freeze": ["/bin/false"], "thaw": ["/bin/true"]}
    settings = read_settings({"auto": False, "own": [HOLDER, broken]})
    receiver.settings(host.disks, applications=settings)
    program = packed_agent(tmp_path / "agent.pyz")

    def ask(*options: str) -> tuple[int, list[str]]:
        line = [sys.executable, program, "applications", "--config", receiver.config, *options]
        done = subprocess.run(
            [str(one) for one in line], capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout.splitlines()

    assert ask() == (0, ["holder: is held by /bin/sh", "broken: stands still"])
    code, lines = ask("--try")
    assert code == 1
    assert lines[0].startswith("holder: stood still for 0.")
    assert lines[1] == "broken: false failed with 1."
    assert json.loads((receiver.config / "agent.json").read_text())["applications"]["own"]
