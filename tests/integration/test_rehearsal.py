"""A rehearsal with a real machine: it is found out whether it starts, and nobody hears of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from rehearsal_scene import PORT, Alive, Eavesdropper, Scene, rehearsable

from notfall_lab.cache import base_directory
from notfall_lab.patience import BOOT_S, until
from notfallserver.server.rescue_medium import build_medium
from notfallserver.server.vm import MachineState
from notfallserver.server.vm.hypervisor import LIVE

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(1500),
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with rehearsable(tmp_path_factory.mktemp("reh"), "rehears", 203) as scene:
        yield scene


def events(scene: Scene) -> list[str]:
    return [str(one["event"]) for one in scene.ask("/journal?primary=shop")]


def waits_for_answer(scene: Scene, job: str) -> bool:
    return bool(scene.server.job(job)["progress"]["phase"] == "waiting for the service")


def test_it_starts_and_answers_and_the_lan_hears_nothing(scene: Scene) -> None:
    """The original works on meanwhile, and is copied."""
    with Eavesdropper(scene.lab.network.namespace()) as lan, Alive(scene.agent):
        job = scene.begin()
        row = scene.await_evidence(job)
        assert (row["outcome"], row["ports"], row["silent"]) == ("passed", [PORT], [])
        assert 0 < row["answered_s"] < BOOT_S and row["ended_at"] is None
        assert scene.state() == "rehearsing"
        assert scene.hypervisor.state(scene.rehearsal) is MachineState.RUNNING
        until(lambda: scene.console("work/rehearsal").count("ASKED") >= 3)
        assert "REACHED" not in scene.console("work/rehearsal")
        for address in (scene.guest.address, scene.guest.address6):
            assert scene.serves_in_hiding(address.split("/")[0])
        with scene.server.root() as root:
            assert root.get("/api/v1/primaries/shop/replicate").status_code == 405
            again = root.post("/api/v1/primaries/shop/rehearse", json={})
            assert again.json()["code"] == "not-in-this-state"
        scene.agent.replicate()  # the original's next version
        done = scene.server.notfall("rehearse", "shop", "--end")
        assert done.returncode == 0, done.stderr
        finished = scene.server.await_job(job)
        assert finished["state"] == "done", finished
        until(lambda: scene.state() == "normal")
    assert lan.of(scene.guest.mac) == 0
    assert len(lan.frames) > 0
    scene.nothing_is_left()
    with scene.server.root() as root:
        picture = root.get(f"/api/v1/primaries/shop/rehearsals/{job}/picture")
        assert picture.content.startswith(b"\x89PNG") and len(picture.content) > 500
        shown = root.get("/api/v1/primaries/shop").json()["rehearsed"]
        assert shown["outcome"] == "passed"
        nobody = root.get("/api/v1/primaries/shop/rehearsals/nothing/picture")
        assert nobody.status_code == 404
    assert {"rehearse", "rehearsal_ended"} <= set(events(scene))


def test_unattended_it_ends_by_itself_and_a_success_follows_a_failure(scene: Scene) -> None:
    with Alive(scene.agent):
        job = scene.begin()
        until(lambda: waits_for_answer(scene, job))
        scene.hypervisor.kill(scene.rehearsal)  # as if the guest had crashed
        failed = scene.server.await_job(job)
        assert (failed["state"], failed["error"]["code"]) == ("failed", "stand-in-off")
        assert scene.ask("/primaries/shop")["rehearsed"]["outcome"] == "failed"
        until(lambda: scene.state() == "normal")
        done = scene.server.notfall("rehearse", "shop", "--json", timeout=BOOT_S)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])["result"]
        assert result["outcome"] == "passed" and result["ports"] == [PORT]
        listed = scene.server.notfall("rehearsals", "shop")
        assert "passed" in listed.stdout and str(PORT) in listed.stdout
    until(lambda: scene.state() == "normal")
    scene.nothing_is_left()


def test_a_killed_server_leaves_nothing_of_it(scene: Scene) -> None:
    with Eavesdropper(scene.lab.network.namespace()) as lan, Alive(scene.agent):
        job = scene.begin()
        until(lambda: scene.hypervisor.state(scene.rehearsal) in LIVE)
        scene.kill_server()
        assert scene.hypervisor.state(scene.rehearsal) in LIVE
        scene.server.start()
        row = scene.server.await_job(job)
        assert row["state"] == "cancelled", row
        until(lambda: scene.state() == "normal")
    assert lan.of(scene.guest.mac) == 0
    scene.nothing_is_left()
    one = scene.rehearsals()[0]
    assert (one["id"], one["outcome"]) == (job, "broken-off")
    assert one["error"]["code"] == "rehearsal-restart" and datetime.fromisoformat(one["ended_at"])
    # What an earlier one showed still counts.
    assert scene.ask("/primaries/shop")["rehearsed"]["outcome"] == "passed"


def test_what_is_not_ready_is_refused(scene: Scene) -> None:
    scene.server.enrol("fresh")
    refused = scene.server.notfall("rehearse", "fresh", "--json")
    assert json.loads(refused.stderr)["code"] == "not-in-this-state"
    refused = scene.server.notfall("rehearse", "shop", "--end", "--json")
    assert json.loads(refused.stderr)["code"] == "no-rehearsal"


def test_an_outage_ends_it_and_the_stand_in_takes_over(scene: Scene) -> None:
    """Also the proof that the eavesdropper would have heard it."""
    with Alive(scene.agent):
        job = scene.begin()
        scene.await_evidence(job)
    until(lambda: scene.state() == "outage", 120)
    assert scene.server.await_job(job)["state"] == "done"
    scene.nothing_is_left()

    with Alive(scene.agent):
        job = scene.begin()
        until(lambda: scene.hypervisor.state(scene.rehearsal) in LIVE)
    # The proven copy is offered before the newest, which nobody ever saw start.
    proven, newest = scene.ask("/primaries/shop/offers")
    assert (proven["role"], newest["role"]) == ("proven", "newest")
    assert (proven["taken"], newest["taken"]) == (False, True)
    with Eavesdropper(scene.lab.network.namespace()) as lan:
        overrule = ["--overrule", "I pulled its plug", "--version", proven["stamp"]]
        done = scene.server.notfall("activate", "shop", *overrule, "--no-follow", "--json")
        assert done.returncode == 0, done.stderr
        # Already in the answer to the click the rehearsal is over.
        assert scene.hypervisor.state(scene.rehearsal) is MachineState.ABSENT
        assert scene.server.job(job)["state"] == "cancelled"
        until(lambda: scene.state() == "emergency", BOOT_S)
        until(lambda: "REACHED" in scene.console("standin"))
    assert lan.of(scene.guest.mac) > 0
    assert scene.hypervisor.state(f"standin-{scene.agent.uuid}") is MachineState.RUNNING
    assert "older-version-chosen" in events(scene)
    off = scene.server.notfall("power", "shop", "switch-off", "--yes")
    assert off.returncode == 0, off.stderr
    with scene.server.root() as root:
        answer = root.post("/api/v1/primaries/shop/undo")
        assert answer.status_code == 202, answer.text
    assert scene.server.await_job(answer.json()["id"])["state"] == "done"
    captured, left, before = scene.server.pool.primary(scene.agent.uuid).versions()[:3]
    assert captured.manifest.kind == "capture" and captured.manifest.base == proven["stamp"]
    assert (left.stamp, before.stamp) == (newest["stamp"], proven["stamp"])
    roles = [one["role"] for one in scene.ask("/primaries/shop/offers")]
    assert roles == ["proven", "newest", "original"]


def _add_checks(scene: Scene) -> None:
    """The guest's service says who it is; the script hears it in the hidden network."""
    place = scene.server.data / "checks"
    place.mkdir()
    program = place / "greets"
    program.write_text('#!/bin/bash\n[ "$NAME" = shop ] && exec 3<>/dev/tcp/"$ADDRESS"/80\n')
    program.chmod(0o755)
    for what in (["http://shop.example/", "--contains", "shop works"], ["script/greets"]):
        added = scene.server.notfall("check", "add", "shop", *what)
        assert added.returncode == 0, added.stderr
    assert "Scripts here: greets" in scene.server.notfall("check", "list", "shop").stdout


def test_on_schedule_a_server_with_an_address_by_dhcp_gets_it_in_hiding_too(
    tmp_path: Path,
) -> None:
    """Its network is as at home, but for those who are there; and it all ends by itself."""
    with (
        rehearsable(tmp_path, "lease", 209, leased=True) as scene,
        Eavesdropper(scene.lab.network.namespace()) as lan,
        Alive(scene.agent),
    ):
        until(lambda: scene.state() == "normal")
        assert scene.rehearsals() == []
        cache = base_directory() / "rescue"
        build_medium(scene.server.data / "rescue", ["https://127.0.0.1:1"], "", cache)
        _add_checks(scene)
        done = scene.server.notfall("server", "settings", "--set", "rehearsal_days=1")
        assert done.returncode == 0, done.stderr
        until(lambda: "LEASED" in scene.console("work/rehearsal"), BOOT_S)
        until(lambda: bool(scene.rehearsals()) and bool(scene.rehearsals()[0]["ended_at"]), BOOT_S)
        (row,) = scene.rehearsals()
        assert (row["outcome"], row["ports"], row["who"]) == ("passed", [PORT], "schedule")
        (checked,) = row["evidence"]["volumes"]
        assert (checked["filesystem"], checked["state"]) == ("vfat", "clean"), checked
        told = row["evidence"]
        assert (told["system"], told["failed_units"], told["login"]) == ("running", [], True)
        checks = {one["name"]: one["passed"] for one in row["evidence"]["checks"]}
        assert checks == dict.fromkeys(("http://shop.example/", "script/greets"), True), row
        version = scene.ask("/primaries/shop/versions")[0]
        assert (version["proof"], version["grade"]) == ("passed", "serving")
        assert version["evidence"]["rehearsal"] == row["id"]
        assert "passed" in scene.server.notfall("versions", "shop").stdout
        until(lambda: scene.state() == "normal")
        assert lan.of(scene.guest.mac) == 0
        scene.nothing_is_left()
        assert scene.server.process is not None
        children = Path(f"/proc/{scene.server.process.pid}/task").glob("*/children")
        assert not any(
            "dnsmasq" in Path(f"/proc/{one}/comm").read_text()
            for told in children
            for one in told.read_text().split()
        )
