"""Holding applications, with shell commands in their place: order, limits, whoever dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from notfall_lab.patience import PATIENCE_S
from notfallserver.agent import config
from notfallserver.agent.applications import find
from notfallserver.agent.applications.application import (
    Application,
    Applied,
    Hold,
    consistency,
    judge,
)
from notfallserver.agent.applications.find import Found
from notfallserver.agent.applications.hold import Applications
from notfallserver.agent.applications.leftovers import Notes, thaw_applications
from notfallserver.agent.applications.plan import put_together, scripts
from notfallserver.agent.applications.settings import (
    ApplicationSettings,
    BadSettings,
    Own,
    read_settings,
)
from notfallserver.wire.errors import NotfallError


class Bench:
    """Applications that log what is done to them."""

    def __init__(self, root: Path) -> None:
        self.log = root / "log"
        self.log.touch()
        self.state = root / "state"
        self._open: list[Applications] = []

    def script(self, text: str) -> tuple[str, ...]:
        return ("/bin/sh", "-c", f"cd {self.log.parent}; {text}")

    def pair(self, name: str, before: str = "", **others: object) -> Application:
        freeze = self.script(f"{before} echo freeze {name} >> log")
        thaw = self.script(f"echo thaw {name} >> log")
        return Application(name, freeze=freeze, thaw=thaw, **others)  # type: ignore[arg-type]

    def holder(self, name: str, **others: object) -> Application:
        text = f"echo hold {name} >> log; echo held; cat > /dev/null; echo release {name} >> log"
        return Application(name, hold=self.script(text), **others)  # type: ignore[arg-type]

    def applications(self, *planned: Application, limit: float = 20) -> Applications:
        self._open.append(Applications(planned, limit, self.state))
        self._open[-1].prepare(lambda: None)
        return self._open[-1]

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def until(self, line: str, seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while line not in self.lines():
            assert time.monotonic() < end, self.lines()
            time.sleep(0.01)

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def errors(applied: tuple[Applied, ...]) -> dict[str, str]:
    return {one.name: one.error for one in applied}


def test_all_stand_still_in_order_and_are_let_go_in_reverse(bench: Bench) -> None:
    first = bench.pair("a", prepare=bench.script("echo prepare a >> log"))
    applications = bench.applications(first, bench.holder("b"), bench.pair("c"))
    with applications.hold():
        moment = time.monotonic()
        assert bench.lines() == ["prepare a", "freeze a", "hold b", "freeze c"]
        time.sleep(0.05)
    assert bench.lines()[4:] == ["thaw c", "release b", "thaw a"]
    applied = applications.applied(moment)
    assert errors(applied) == {"a": "", "b": "", "c": ""}
    assert all(50 <= one.held_ms < 10000 for one in applied)
    assert not (bench.state / "applications").exists()
    with applications.hold():
        pass
    assert bench.lines().count("thaw a") == 2


def test_what_fails_is_let_go_and_told_and_the_others_are_held(bench: Bench) -> None:
    applications = bench.applications(
        bench.pair("hangs", "sleep 60;", freeze_seconds=0.5),
        bench.pair("refuses", "echo no right >&2; exit 7;"),
        Application("missing", freeze=("/no/such/program",), thaw=("/no/such/program",)),
        Application("ends", hold=bench.script("echo held; exit 0")),
        Application("silent", hold=bench.script("cat"), freeze_seconds=0.5),
        Application("unprepared", ("/bin/false",), ("/bin/true",), ("/bin/true",)),
        Application("obstacle", obstacle="It runs elsewhere."),
        bench.holder("good"),
    )
    with applications.hold():
        moment = time.monotonic()
        assert bench.lines() == ["thaw hangs", "thaw refuses", "hold good"]
    told = errors(applications.applied(moment))
    assert told["hangs"].startswith("sh was not ready after ")
    assert told["refuses"] == "sh failed with 7: no right"
    assert "/no/such/program" in told["missing"]
    assert told["ends"]
    assert told["silent"].startswith("sh was not ready")
    assert told["unprepared"].startswith("false failed with 1")
    assert told["obstacle"] == "It runs elsewhere."
    assert told["good"] == ""
    assert Notes(bench.state).read() == []


def test_what_still_stands_from_an_earlier_run_is_not_held_again(bench: Bench) -> None:
    stuck = Application("stuck", freeze=("/bin/true",), thaw=("/bin/false",))
    Notes(bench.state).write([stuck])
    applications = bench.applications(stuck, bench.pair("b"))
    with applications.hold():
        moment = time.monotonic()
    told = errors(applications.applied(moment))
    assert told == {"stuck": "It could not be thawed after an earlier run.", "b": ""}
    assert Notes(bench.state).read() == [stuck]


def test_a_required_one_that_fails_ends_the_run_and_lets_the_others_go(bench: Bench) -> None:
    needed = bench.pair("needed", "exit 1;", required=True)
    applications = bench.applications(bench.pair("a"), needed, bench.pair("later"))
    with pytest.raises(NotfallError) as caught, applications.hold():
        pytest.fail("must not be reached")
    assert caught.value.code == "application-not-held"
    assert "needed" in caught.value.cause
    assert bench.lines() == ["freeze a", "thaw needed", "thaw a"]


def test_the_limit_lets_go_whatever_the_agent_does(bench: Bench) -> None:
    applications = bench.applications(bench.pair("a"), bench.holder("b"), limit=1)
    with applications.hold():
        early = time.monotonic()
        bench.until("thaw a")
        late = time.monotonic()
    assert 0.8 < late - early < 5
    assert errors(applications.applied(early)) == {"a": "", "b": ""}
    for told in errors(applications.applied(late)).values():
        assert told.startswith("It was let go after 1 s")
    assert bench.lines().count("thaw a") == 1


def test_a_thaw_that_fails_is_told_and_tried_again(bench: Bench) -> None:
    stubborn = Application(
        "stubborn",
        freeze=("/bin/true",),
        thaw=bench.script("echo try >> log; test -e allowed"),
    )
    applications = bench.applications(stubborn, bench.pair("b"))
    with applications.hold():
        moment = time.monotonic()
    assert "could not be thawed" in errors(applications.applied(moment))["stubborn"]
    assert "thaw b" in bench.lines()
    assert [one.name for one in Notes(bench.state).read()] == ["stubborn"]
    (bench.log.parent / "allowed").touch()
    end = time.monotonic() + PATIENCE_S
    while Notes(bench.state).read():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_holder_that_lets_go_by_itself_is_told(bench: Bench) -> None:
    applications = bench.applications(Application("weak", hold=bench.script("echo held; sleep 1")))
    with applications.hold():
        moment = time.monotonic()
        time.sleep(1.5)
    assert "let go by itself" in errors(applications.applied(moment))["weak"]


def test_a_killed_keeper_lets_go_and_the_rest_is_thawed_from_the_note(bench: Bench) -> None:
    applications = bench.applications(bench.pair("a"), bench.holder("b"))
    with applications.hold():
        moment = time.monotonic()
        os.kill(applications.keeper_pid, signal.SIGKILL)
        bench.until("release b")
        assert "thaw a" not in bench.lines()
    assert bench.lines().count("thaw a") == 1
    assert all("is gone" in one for one in errors(applications.applied(moment)).values())
    assert thaw_applications(Notes(bench.state)) == []


def test_what_nobody_thawed_is_thawed_later_but_not_what_somebody_holds(bench: Bench) -> None:
    notes = Notes(bench.state)
    with notes.locked() as mine:
        assert mine
        with notes.locked(0.2) as theirs:
            assert not theirs
        applications = bench.applications(bench.pair("c"))
        notes.write([bench.pair("a"), bench.pair("b")])
        with applications.hold():
            moment = time.monotonic()
    assert errors(applications.applied(moment)) == {
        "c": "Another run on this machine holds applications."
    }
    with applications.hold():
        moment = time.monotonic()
    assert errors(applications.applied(moment)) == {"c": ""}
    assert len(thaw_applications(notes)) == 2
    assert bench.lines() == ["freeze c", "thaw c", "thaw b", "thaw a"]
    assert notes.read() == []


def test_closing_in_the_middle_lets_go_at_once(bench: Bench) -> None:
    applications = bench.applications(bench.holder("a"), bench.pair("slow", "sleep 30;"))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt), applications.hold():
            pytest.fail("must not be reached")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 5
    assert bench.lines() == ["hold a", "thaw slow", "release a"]


def test_giving_up_is_told_unless_one_is_required(bench: Bench) -> None:
    applications = bench.applications(bench.pair("a"))
    applications.give_up("It writes too much.")
    with applications.hold():
        moment = time.monotonic()
    assert errors(applications.applied(moment)) == {"a": "It writes too much."}
    assert bench.lines() == []
    required = bench.applications(bench.pair("b", required=True))
    required.give_up("It writes too much.")
    with required.hold():
        pass
    assert bench.lines() == ["freeze b", "thaw b"]


def test_only_what_stood_still_at_the_freeze_makes_a_version_consistent() -> None:
    held = [Hold("a", 10.0, 12.0, True), Hold("b", 10.0, 12.0, False), Hold("c", error="no")]
    good = judge(held[:2], 11.5, 30)
    assert good == (Applied("a", 2000.0), Applied("b", 0.0))
    assert consistency("filesystem", good) == "application"
    assert consistency("crash", good) == "crash"
    assert consistency("filesystem", ()) == "filesystem"
    assert consistency("filesystem", judge(held, 11.5, 30)) == "filesystem"
    assert consistency("filesystem", judge(held[:2], 12.5, 30)) == "filesystem"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "must be an object"),
        ({"atuo": True}, "no setting atuo"),
        ({"auto": 1}, "auto must be true or false"),
        ({"leave_out": ["oracle"]}, "oracle"),
        ({"limit_seconds": 0}, "limit_seconds must be between 1 and 300"),
        ({"scripts": 5}, "scripts"),
        ({"own": {}}, "must be a list"),
        ({"own": [{"name": "a", "freeze": ["x"]}]}, "both freeze and thaw"),
        ({"own": [{"name": "a", "freeze": "x", "thaw": ["y"]}]}, "must be a list of texts"),
        ({"own": [{"name": "a", "hold": ["x"], "thaw": ["y"]}]}, "either freeze and thaw, or hold"),
        ({"own": [{"name": "a"}]}, "either freeze and thaw, or hold"),
        ({"own": [{"name": "../a", "hold": ["x"]}]}, "needs a name"),
        ({"own": [{"name": "a", "hold": ["x"], "freeze_seconds": True}]}, "freeze_seconds"),
        ({"own": [{"name": "a", "hold": ["x"], "environment": {"A": 1}}]}, "environment"),
        ({"own": [{"name": "a", "hold": ["x"], "required": "yes"}]}, "required"),
        ({"own": [{"recipe": "redis", "hold": ["x"]}]}, "names a recipe"),
        ({"own": [{"recipe": "redis"}, {"recipe": "redis"}]}, "names redis twice"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path: Path, given: object, said: str) -> None:
    with pytest.raises(BadSettings, match=r"^applications") as caught:
        read_settings(given)
    assert said in str(caught.value)


def test_settings_survive_being_written_and_read(tmp_path: Path) -> None:
    own = (
        Own("shop", freeze=("/bin/stop", "now"), thaw=("/bin/go",), user="shop", required=True),
        Own(recipe="mariadb", environment={"MYSQL_PWD": "x"}, freeze_seconds=3),
    )
    given = ApplicationSettings(False, ("redis",), 12, str(tmp_path), own)
    settings = config.Settings("https://x:1", applications=given)
    (tmp_path / "agent.json").write_text(config.settings_text(settings))
    assert config.load_settings(tmp_path) == settings
    (tmp_path / "agent.json").write_text('{"url": "https://x", "applications": {"own": 1}}')
    with pytest.raises(NotfallError) as caught:
        config.load_settings(tmp_path)
    assert caught.value.code == "bad-settings"
    assert "applications.own" in caught.value.cause


def found(recipe: str, directory: str, *places: str, contained: bool = False) -> Found:
    return Found(
        recipe,
        "/usr/sbin/x",
        "0",
        directory,
        (directory, *places),
        (f"/run/{recipe}/.s.PGSQL.5433",),
        (("127.0.0.1", 7),),
        contained,
    )


@pytest.fixture
def clients(tmp_path: Path) -> dict[str, str]:
    """An environment whose programs are only clients of databases."""
    for name in ("psql", "mariadb", "redis-cli", "mongosh"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    return {"PATH": str(tmp_path)}


def planned(settings: ApplicationSettings, *here: Found) -> list[Application]:
    extra = [Application("applications.d/x", freeze=("x",), thaw=("x",))]
    return put_together(settings, here, extra, lambda place: place.startswith("/data"))


def test_own_ones_come_first_and_what_lies_elsewhere_is_left_alone(
    clients: dict[str, str],
) -> None:
    own = (
        Own("shop", hold=("/bin/shop",)),
        Own(recipe="redis", environment=clients, required=True),
        Own(recipe="mongodb", environment=clients),
    )
    plan = planned(
        ApplicationSettings(leave_out=("mariadb",), own=own),
        found("postgresql", "/elsewhere/pg"),
        found("mariadb", "/data/my"),
        found("redis", "/data/r"),
        found("redis", "/data/r"),
    )
    assert [one.name for one in plan] == [
        "shop",
        "redis /data/r",
        "redis /data/r (2)",
        "applications.d/x",
    ]
    assert plan[1].required
    assert not plan[1].obstacle
    assert planned(ApplicationSettings(auto=False), found("redis", "/data/r"))[1:] == []


def test_what_cannot_be_held_says_why(clients: dict[str, str]) -> None:
    own = tuple(Own(recipe=one, environment=clients) for one in ("postgresql", "redis", "mongodb"))
    named = (*own, Own(recipe="mysql", environment={"PATH": "/none"}))
    half, contained, mysql = planned(
        ApplicationSettings(own=named),
        found("postgresql", "/data/pg", "/elsewhere/tablespace"),
        found("redis", "/data/r", contained=True),
        found("mysql", "/data/my"),
    )[:3]
    assert half.obstacle.startswith("/elsewhere/tablespace")
    assert "container" in contained.obstacle
    assert "mysql or mariadb" in mysql.obstacle
    missing = Own(recipe="mongodb", required=True)
    assert planned(ApplicationSettings(own=(missing,)))[0].obstacle == "It does not run here."


def test_the_recipes_lead_to_the_right_commands(clients: dict[str, str]) -> None:
    names = ("postgresql", "mariadb", "redis", "mongodb")
    own = tuple(Own(recipe=one, environment=clients) for one in names)
    plan = planned(ApplicationSettings(own=own), *(found(one, f"/data/{one}") for one in names))
    postgresql, mariadb, redis, mongodb = plan[:4]
    assert "CHECKPOINT" in postgresql.prepare
    assert postgresql.freeze[-8:-4] == ("-h", "/run/postgresql", "-p", "5433")
    assert not postgresql.stands_still
    assert "--socket=/run/mariadb/.s.PGSQL.5433" in mariadb.hold
    assert "--local-infile=0" in mariadb.hold
    assert "--no-defaults" not in mariadb.hold  # a person named it
    assert "BLOCK_COMMIT" in mariadb.say
    assert "prepare" in redis.prepare
    assert mongodb.freeze[-1] != mongodb.thaw[-1]
    assert "fsyncUnlock" in mongodb.thaw[-1]


def test_scripts_that_others_may_change_are_not_run(tmp_path: Path) -> None:
    for name, mode in (("10-good", 0o755), ("20-writable", 0o775), ("30-plain", 0o644)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / ".hidden").touch()
    good, writable, plain = scripts(tmp_path)
    assert good.freeze == (str(tmp_path / "10-good"), "freeze")
    assert good.thaw == (str(tmp_path / "10-good"), "thaw")
    assert "nobody else may write" in writable.obstacle
    assert "no executable" in plain.obstacle
    assert scripts(tmp_path / "none") == []


def fake_process(proc: Path, pid: int, parent: int, comm: str, exe: str) -> Path:
    entry = proc / str(pid)
    (entry / "fd").mkdir(parents=True)
    (entry / "ns").mkdir()
    (entry / "net").mkdir()
    (entry / "comm").write_text(f"{comm}\n")
    (entry / "stat").write_text(f"{pid} ({comm}) S {parent} 1 1\n")
    (entry / "exe").symlink_to(exe)
    (entry / "cwd").symlink_to(f"/data/{comm}")
    (entry / "ns/pid").symlink_to("pid:[1]")
    (entry / "net/unix").write_text(
        "Num RefCount Protocol Flags Type St Inode Path\n"
        "0000: 00000002 00000000 00010000 0001 01 77 /run/my.sock\n"
        "0000: 00000002 00000000 00000000 0001 03 78 /run/other\n"
    )
    head = "  sl  local_address rem_address   st tx_queue tr tm->when retrnsmt uid timeout inode\n"
    line = " 0: {} 00000000:0000 {} 0:0 00:0 0 0 0 {} 1\n"
    table = line.format("0100007F:1F90", "0A", 79) + line.format("00000000:0050", "01", 80)
    (entry / "net/tcp").write_text(head + table)
    (entry / "net/tcp6").write_text(head + line.format("0" * 32 + ":1F91", "0A", 81))
    return entry


def test_running_databases_are_told_by_their_program(tmp_path: Path) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[1]")
    mariadb = fake_process(tmp_path, 10, 1, "mysqld", "/usr/sbin/mariadbd (deleted)")
    for number, target in enumerate(
        ("socket:[77]", "socket:[78]", "socket:[79]", "socket:[81]", "/more/ibdata1", "/x/y.log")
    ):
        (mariadb / "fd" / str(number)).symlink_to(target)
    fake_process(tmp_path, 20, 1, "redis-server", "/usr/bin/redis-check-rdb")
    fake_process(tmp_path, 21, 20, "redis-server", "/usr/bin/redis-check-rdb")
    fake_process(tmp_path, 30, 1, "bash", "/bin/bash")
    (tmp_path / "40").mkdir()  # ended meanwhile
    one, two = find.find_applications(tmp_path)
    assert asdict(one) == {
        "recipe": "mariadb",
        "program": "/usr/sbin/mariadbd",
        "user": str(os.getuid()),
        "directory": "/data/mysqld",
        "places": ("/data/mysqld", "/more"),
        "sockets": ("/run/my.sock",),
        "ports": (("127.0.0.1", 8080), ("::1", 8081)),
        "contained": False,
    }
    assert (two.recipe, two.sockets) == ("redis", ())
