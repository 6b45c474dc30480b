"""``notfall`` as a process against a real server process."""

import hashlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hand_agent import HandAgent, Serving
from server_process import ServerProcess, running

from notfall_lab.driver_folder import virtio_win
from notfallserver.server.records.targets import pairing_code
from notfallserver.wire.facts import Disk, Machine, Partition


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(ServerProcess(tmp_path_factory.mktemp("cli"))) as server:
        server.enrol("web")
        yield server


def test_the_lists_are_for_people_and_for_programs(server: ServerProcess) -> None:
    table = server.notfall("primary", "list")
    assert table.returncode == 0 and "web" in table.stdout and "STATE" in table.stdout
    rows = json.loads(server.notfall("primary", "list", "--json").stdout)
    assert "web" in [row["name"] for row in rows]
    assert "198.51.100.1" in server.notfall("primary", "show", "WEB").stdout
    assert "no target" in server.notfall("targets").stdout.lower()
    assert json.loads(server.notfall("--json", "server", "status").stdout)["pool"]["reflink"]
    assert " new" in server.notfall("server", "status").stdout


def test_an_invitation_is_one_line_on_stdout(server: ServerProcess) -> None:
    done = server.notfall("primary", "invite", "db")
    assert done.stdout.count("\n") == 1 and done.stdout.startswith("python3 -c '")
    assert "Paste this line as root on db" in done.stderr


def test_an_error_tells_cause_and_remedy_on_stderr(server: ServerProcess) -> None:
    done = server.notfall("activate", "web")
    assert (done.returncode, done.stdout) == (1, "")
    assert "not possible while the primary is in state 'new'" in done.stderr
    assert "Possible now: 'first_version'" in done.stderr
    told = json.loads(server.notfall("activate", "nobody", "--json").stderr)
    assert told["code"] == "no-such-primary"


@pytest.mark.parametrize(
    "arguments",
    [
        ("activat", "web"),
        ("files", "web"),
        ("recover", "web"),
        ("recover", "web", "--to", "X", "--disk", "sda"),
        ("switch-back", "web", "--at", "noon"),
        ("primary", "schedule", "web"),
        ("primary", "schedule", "web", "--minutes", "-1"),
    ],
)
def test_wrong_usage_ends_with_2(server: ServerProcess, arguments: tuple[str, ...]) -> None:
    done = server.notfall(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Usage:" in done.stderr


def test_a_job_is_followed_with_its_result(server: ServerProcess) -> None:
    agent = HandAgent(server, "db2")
    with Serving(agent):
        done = server.notfall("replicate", "db2", "--follow")
        assert done.returncode == 0, done.stderr
        lines = server.notfall("replicate", "db2", "--follow", "--json").stdout.splitlines()
    agent.close()
    newest, older = server.pool.primary(agent.uuid).versions()
    assert "replicate: done" in done.stdout and f"version: {older.stamp}" in done.stdout
    last = json.loads(lines[-1])
    assert (last["state"], last["result"]["version"]) == ("done", newest.stamp)
    listed = server.notfall("versions", "db2").stdout
    assert newest.stamp in listed and older.stamp in listed
    assert "replicate" in server.notfall("jobs").stdout


def test_versions_tell_which_applications_stood_still(server: ServerProcess) -> None:
    agent = HandAgent(server, "apps")
    for error in ("", "It does not answer."):
        agent.begin()
        agent.send_disk()
        redis = {"name": "redis /r", "held_ms": 0, "error": error}
        held = [{"name": "mariadb /m", "held_ms": 1234.5, "error": ""}, redis]
        stamp = agent.seal(consistency="filesystem" if error else "application", applications=held)
    agent.close()
    told = server.notfall("versions", "apps").stdout
    newest, older, reason = told.splitlines()[1:]
    assert stamp in newest and "filesystem" in newest
    assert "mariadb /m (1.2 s), not redis /r" in newest
    assert "application" in older and "redis /r (0.0 s)" in older
    assert reason == "redis /r did not stand still in the newest version: It does not answer."
    rows = json.loads(server.notfall("versions", "apps", "--json").stdout)
    assert rows[0]["applications"] == held


def test_a_cancelled_job_is_an_error_for_who_follows(server: ServerProcess) -> None:
    server.enrol("slow")
    job = json.loads(server.notfall("replicate", "slow", "--json").stdout)["id"]
    done = server.notfall("jobs", "--cancel", job, "--follow", job)
    assert done.returncode == 1 and "was cancelled" in done.stderr
    assert "job-cancelled" in server.notfall("journal", "slow").stdout


def test_the_schedule_is_set(server: ServerProcess) -> None:
    done = server.notfall("primary", "schedule", "web", "--minutes", "0", "--capture-minutes", "5")
    assert "on request only" in done.stdout and "every 5 min" in done.stdout


def test_a_recovery_shows_what_will_be_lost_and_waits_for_a_yes(server: ServerProcess) -> None:
    agent = HandAgent(server, "lost")
    agent.protect()
    agent.close()
    server.put_in_emergency(agent.uuid)
    secret = hashlib.sha256(b"cli").hexdigest()
    old = Partition(1, 1 << 20, 1 << 30, filesystem="ext4", label="old")
    disks = [
        Disk("nvme0n1", 2 << 30, serial="S1", model="Fast", partitions=[old]),
        Disk("sdb", 2 << 30, partitions=[old]),
    ]
    with server.catalogue() as catalogue:
        catalogue.targets.register(secret, Machine("t", disks=disks), pairing_code(secret))
    line = ("recover", "lost", "--to", pairing_code(secret))
    unclear = server.notfall(*line)
    assert unclear.returncode == 1 and "disks-not-clear" in unclear.stderr
    named = (*line, "--disk", "vda=/dev/nvme0n1")
    asked = server.notfall(*named)
    assert asked.returncode == 1 and "not-confirmed" in asked.stderr
    for part in ("nvme0n1", "Fast S1", "ext4 old", "Not touched: sdb"):
        assert part in asked.stdout
    jobs = json.loads(server.notfall("jobs", "--primary", "lost", "--json").stdout)
    assert "recover" not in {one["kind"] for one in jobs}
    done = server.notfall(*named, "--yes", "--follow")  # no libvirt here: it fails, and says why
    assert done.returncode == 1 and "hypervisor-unreachable" in done.stderr, done.stderr
    assert "recovery_failed" in server.notfall("journal", "lost").stdout


def test_removing_needs_the_name(server: ServerProcess) -> None:
    server.enrol("gone")
    refused = server.notfall("primary", "remove", "gone", text="wrong\n")
    assert refused.returncode == 1 and "not-confirmed" in refused.stderr
    assert server.notfall("primary", "remove", "gone", text="gone\n").returncode == 0
    assert server.notfall("primary", "show", "gone").returncode == 1


def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    never = ServerProcess(tmp_path)
    done = never.notfall("primary", "list")
    assert done.returncode == 1 and "notfall server init" in done.stderr
    with running(never):
        pass
    done = never.notfall("primary", "list")
    assert done.returncode == 1 and "server-unreachable" in done.stderr


def test_setting_up_makes_what_is_missing_and_nothing_twice(tmp_path: Path) -> None:
    machine = ServerProcess(tmp_path)
    data = tmp_path / "server"
    pool = data / "pool"
    pool.mkdir(parents=True)
    (pool / "there-already").touch()  # so that no image is made and mounted
    line = ("server", "init", "--data-dir", str(data), "--listen-port", str(machine.port), "--json")
    first = machine.notfall(*line)
    assert first.returncode == 0, first.stderr
    made = json.loads(first.stdout)
    assert len(made["password"]) == 19 and made["pool"] == str(pool)
    for path, mode in ((data / "ca", 0o700), (data / "cli-token", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    second = json.loads(machine.notfall(*line).stdout)
    assert second["password"] is None and second["fingerprint"] == made["fingerprint"]
    other = machine.notfall("server", "init", "--lan-bridge", "br9")
    assert other.returncode == 1 and "settings-exist" in other.stderr
    renewed = json.loads(machine.notfall("server", "init", "--new-password", "--json").stdout)
    assert renewed["password"] and renewed["password"] != made["password"]


def test_a_wrong_option_leaves_no_settings_file(tmp_path: Path) -> None:
    machine = ServerProcess(tmp_path)
    done = machine.notfall("server", "init", "--accelerator", "xen")
    assert done.returncode == 1 and "'kvm' or 'tcg'" in done.stderr
    assert not machine.settings_file.exists()


def test_drivers_for_windows_come_and_go(server: ServerProcess, tmp_path: Path) -> None:
    told = server.notfall("drivers", "list")
    assert "no drivers in" in told.stdout
    assert "Drivers for Windows servers" not in page(server)
    folder = virtio_win(tmp_path / "virtio")
    (folder / "broken.inf").write_text("nothing")
    added = server.notfall("drivers", "add", str(folder))
    assert added.returncode == 0 and "viostor/w10/amd64/viostor.inf" in added.stdout
    assert "no use: broken.inf" in added.stdout
    listed = json.loads(server.notfall("drivers", "list", "--json").stdout)
    assert len(listed["drivers"]) == 6 and listed["refused"] == []
    assert listed["drivers"][0]["systems"]
    assert "6 drivers" in page(server)
    refused = server.notfall("drivers", "add", str(tmp_path / "nowhere"))
    assert refused.returncode == 1 and "no folder or file" in refused.stderr
    assert server.notfall("drivers", "remove", "virtio").returncode == 0
    assert json.loads(server.notfall("drivers", "list", "--json").stdout)["drivers"] == []
    assert server.notfall("drivers", "remove", "virtio").returncode == 1
    with server.root() as root:
        events = [one["event"] for one in root.get("/api/v1/journal").json()]
    assert {"drivers-added", "drivers-removed"} <= set(events)


def page(server: ServerProcess) -> str:
    with server.root() as root:
        return str(root.get("/server").text)
