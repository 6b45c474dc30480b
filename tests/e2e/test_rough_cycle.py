"""The cycle of a UEFI machine with everything killed in the worst moment, and continued."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notfall_lab import cycle
from notfall_lab.cycle import Play, TargetSpec
from notfall_lab.hands import COPY_S
from notfall_lab.patience import BOOT_S, PATIENCE_S, until
from notfall_lab.recipe_guest import UEFI
from notfall_lab.timeline import Timeline
from notfall_lab.world import World


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="nf-e2e-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def await_job(play: Play, kind: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the newest job of a kind has come so far; it must not fail before."""
    give_up = time.monotonic() + COPY_S
    while True:
        job = play.world.newest_job(play.name, kind)
        if reached(job):
            return job
        assert job["state"] in ("queued", "running"), job
        assert time.monotonic() < give_up, job
        time.sleep(0.2)


def begin(play: Play, command: str, *options: str) -> subprocess.Popen[bytes]:
    """A command that a person began and that is still running when something is killed."""
    with (play.world.directory / f"{command}.log").open("wb") as log:
        return play.world.lab.popen_in(play.world.line(command, play.name, *options), output=log)


def is_done(job: dict[str, Any]) -> bool:
    return bool(job["state"] == "done")


def kill_and_restart(play: Play, during: str) -> None:
    play.world.kill_server()
    play.timeline.note(f"the server is killed during the {during}", "")
    play.world.start_server()


def replication_survives_the_server(play: Play) -> None:
    play.world.notfall("replicate", play.name)
    await_job(play, "replicate", lambda job: job["progress"]["done"] > 64 << 20)
    kill_and_restart(play, "first replication")
    job = await_job(play, "replicate", is_done)
    sent = int(job["result"]["bytes_sent"])
    play.first_sent = max(sent, 64 << 20)
    play.timeline.check(
        "one version came of it", len(play.world.notfall("versions", play.name)) == 1
    )


def primary_dies_in_a_replication(play: Play) -> None:
    """The unfinished version must not be seen, the last one is started."""
    before = [one["stamp"] for one in play.world.notfall("versions", play.name)]
    play.shell.run("head -c 128M /dev/urandom > /var/big; sync", timeout=300)
    play.world.notfall("replicate", play.name)
    await_job(play, "replicate", lambda job: job["progress"]["done"] > 8 << 20)
    cycle.lose_primary(play)
    after = [one["stamp"] for one in play.world.notfall("versions", play.name)]
    play.timeline.check("the cut replication left no version", after == before)


def activation_survives_the_server(play: Play) -> None:
    play.orders.stop()
    give_up = time.monotonic() + PATIENCE_S
    while play.world.primary(play.name)["state"] != "outage":
        assert time.monotonic() < give_up
        time.sleep(0.5)
    time.sleep(10)  # the guard takes a heartbeat of the last 15 s for a sign of life
    process = begin(play, "activate")
    play.world.wait_state(play.name, "activating", PATIENCE_S)
    kill_and_restart(play, "activation")
    process.wait(timeout=COPY_S)
    play.world.wait_state(play.name, "emergency", COPY_S)
    play.orders.wait_healthy(BOOT_S)
    cycle.rewind_customer(play)
    play.orders.start()
    play.orders.wait_more(10, PATIENCE_S)


def stand_in_survives_a_power_cut(play: Play) -> None:
    """The server's machine loses power: with it the stand-in comes back."""
    play.world.power_cycle()
    play.orders.wait_healthy(BOOT_S)
    state = play.world.primary(play.name)["state"]
    play.timeline.check("after a power cut of the server the stand-in is up", state == "emergency")


def recovery_survives_the_server(play: Play) -> None:
    play.world.notfall("recover", play.name, "--to", play.code, "--yes", timeout=120)
    await_job(play, "recover", lambda job: job["progress"]["done"] > 32 << 20)
    kill_and_restart(play, "recovery")
    play.world.wait_ready(play.name, COPY_S)


def switch_back_is_undone(play: Play) -> None:
    """In the middle of the switch-back somebody changes his mind: the stand-in works on."""
    process = begin(play, "switch-back")
    play.world.wait_state(play.name, "switching_back", PATIENCE_S)
    await_job(play, "switch_back", lambda job: job["progress"]["phase"].startswith("last delta"))
    play.world.notfall("undo", play.name, timeout=600)
    play.world.wait_state(play.name, "emergency", PATIENCE_S)
    process.wait(timeout=COPY_S)
    play.timeline.note("the switch-back is undone", "")
    play.orders.wait_healthy(BOOT_S)
    play.orders.wait_more(10, PATIENCE_S)
    cycle.recover(play)


def switch_back_survives_the_server(play: Play) -> None:
    process = begin(play, "switch-back")
    play.world.wait_state(play.name, "switching_back", PATIENCE_S)
    await_job(play, "switch_back", lambda job: job["progress"]["phase"].startswith("adapting"))
    kill_and_restart(play, "switch-back")
    process.wait(timeout=COPY_S)
    job = await_job(play, "switch_back", is_done)
    play.timeline.note("the switch-back goes on", f"{job['result']['steps']}")
    play.orders.wait_more(20, BOOT_S)


def handover_is_called_back(play: Play) -> None:
    """While it is being shut down somebody changes his mind: it works on as before."""
    play.orders.start()
    play.orders.wait_more(10, PATIENCE_S)
    process = begin(play, "handover", "--yes")
    late = ("shutting down", "frozen", "sending")
    # The guard is asked first.
    until(
        lambda: any(one["kind"] == "hand_over" for one in play.world.jobs(play.name)),
        PATIENCE_S,
        0.5,
    )
    await_job(play, "hand_over", lambda job: job["progress"]["phase"] in late)
    play.world.notfall("undo", play.name, timeout=600)
    process.wait(timeout=COPY_S)
    play.world.wait_state(play.name, "normal", PATIENCE_S)
    play.timeline.note("the handover is called back", "")
    play.orders.wait_healthy(BOOT_S)
    play.orders.wait_more(10, PATIENCE_S)


def back_to_the_stand_in(play: Play) -> None:
    """In the trial period, with what was written since."""
    trial = play.world.primary(play.name)["trial"]
    play.timeline.check("the trial period runs", trial is not None, f"{trial}")
    cycle.hand_over(play, "undo", play.name)


@pytest.mark.long
@pytest.mark.timeout(4500)
def test_a_uefi_machine_comes_back_though_everything_is_killed(directory: Path) -> None:
    timeline = Timeline("UEFI and GPT, virtio to SATA, with kills")
    with World("rough", directory) as world:
        play = Play(world, UEFI, timeline, TargetSpec())
        for act in (
            cycle.start_server,
            cycle.start_primary,
            cycle.enrol,
            replication_survives_the_server,
            cycle.prepare,
            primary_dies_in_a_replication,
            activation_survives_the_server,
            stand_in_survives_a_power_cut,
            cycle.fetch_medium,
            cycle.boot_target,
            recovery_survives_the_server,
            switch_back_is_undone,
            switch_back_survives_the_server,
            cycle.check_recovered,
            cycle.replicate_again,
            handover_is_called_back,
            back_to_the_stand_in,
        ):
            act(play)
    failed = [f"{one.name}: {one.detail}" for one in timeline.checks if not one.ok]
    assert failed == []
