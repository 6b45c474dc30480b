"""Replication of real disks (loop devices) into the real pool; needs root."""

from __future__ import annotations

import os
import threading
import time
from itertools import count

import pytest
from agent_receiver import (
    Receiver,
    command,
)
from source_machine import (
    MIB,
    Machine,
    Records,
    check_equal,
    check_version,
    copy_while_frozen,
    no_tracker,
)

from notfallserver.agent.changes import ledger
from notfallserver.agent.disks import md
from notfallserver.agent.moment import FrozenBuffer
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_versions_under_load_are_whole_and_equal_to_the_frozen_disks(
    machine: Machine, receiver: Receiver, agent: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three runs while records are written; the last one against a copy made while frozen."""
    files = {
        f"{name}/file{number}": (place / f"file{number}").read_bytes()
        for name, place in (("main", machine.main), ("data", machine.data))
        for number in range(3, 6)
    }
    with Records(machine) as records:
        time.sleep(0.3)
        outcomes = [agent.replicate()]
        (machine.main / "file0").unlink()
        (machine.efi / "file1").unlink()
        (machine.efi / "new").write_bytes(os.urandom(MIB))
        outcomes.append(agent.replicate())
        copies = copy_while_frozen(machine, monkeypatch)
        outcomes.append(agent.replicate())
    assert [one.read_all for one in outcomes] == [True, False, False]
    assert {one.consistency for one in outcomes} == {"filesystem"}
    counts = check_version(receiver, machine, files)
    assert 0 < counts[0] <= records.count
    assert counts[1] in (counts[0], counts[0] - 1)  # both at one point in time

    check_equal(receiver, copies)


def test_a_second_run_reads_and_sends_only_what_changed(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    first = agent.replicate()
    assert first.read_all
    assert first.bytes_read > 60 * MIB
    quiet = agent.replicate()
    assert not quiet.read_all
    assert quiet.bytes_read < 12 * MIB
    assert quiet.bytes_sent < MIB
    with (machine.main / "file4").open("r+b") as stream:
        stream.seek(MIB)
        stream.write(os.urandom(MIB))
    delta = agent.replicate()
    assert MIB < delta.bytes_sent < 3 * MIB
    assert delta.bytes_read < 16 * MIB
    check_version(receiver, machine, {"main/file4": (machine.main / "file4").read_bytes()})


def test_deleted_files_become_holes(machine: Machine, receiver: Receiver, agent: Service) -> None:
    agent.replicate()
    before = receiver.image(0).stat().st_blocks * 512
    for number in range(6):
        (machine.main / f"file{number}").unlink()
    agent.replicate()
    assert before - receiver.image(0).stat().st_blocks * 512 > 20 * MIB
    check_version(receiver, machine, {"main/file7": (machine.main / "file7").read_bytes()})


def test_without_tracker_what_may_have_changed_is_compared_while_frozen(
    machine: Machine, receiver: Receiver, agent: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "Tracker", no_tracker)
    with Records(machine):
        outcomes = [agent.replicate(), agent.replicate()]
    assert all(one.consistency == "filesystem" for one in outcomes)
    assert [one.read_all for one in outcomes] == [True, False]
    assert outcomes[1].bytes_sent < 20 * MIB
    counts = check_version(receiver, machine, {})
    assert counts[1] in (counts[0], counts[0] - 1)


def test_without_tracker_a_freeze_that_would_last_too_long_is_refused(
    machine: Machine, receiver: Receiver, agent: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "Tracker", no_tracker)
    receiver.settings(machine.disks, freeze_seconds=1)
    slow = FrozenBuffer.compare

    def compare(self: FrozenBuffer, *rest: object) -> None:
        time.sleep(2)  # a slow disk
        slow(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(FrozenBuffer, "compare", compare)
    service = Service(receiver.config, Stop())
    with pytest.raises(NotfallError) as caught:
        service.replicate()
    assert caught.value.code == "not-consistent"
    assert receiver.failures[0]["code"] == "not-consistent"
    assert receiver.store.newest() is None


def test_an_array_that_is_filled_further_while_frozen_makes_it_try_again(
    machine: Machine, receiver: Receiver, agent: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands for md, which this kernel may not have: only what sysfs would say is made up."""
    told = iter([["80"], ["160"], ["160"], ["160"]])
    monkeypatch.setattr(md, "filled_until", lambda: next(told))
    outcome = agent.replicate()
    assert next(told, None) is None  # asked four times: twice in each of two frozen moments
    assert outcome.version == receiver.image().parent.name


def test_an_array_that_is_filled_further_every_time_is_told(
    machine: Machine, receiver: Receiver, agent: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above: only what sysfs would say is made up."""
    told = count()
    monkeypatch.setattr(md, "filled_until", lambda: [str(next(told))])
    with pytest.raises(NotfallError) as caught:
        agent.replicate()
    assert caught.value.code == "not-consistent" and "RAID" in caught.value.cause
    assert receiver.store.newest() is None


def test_cut_connections_are_tried_again(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    def cut() -> None:
        while len(receiver.log) < 10:
            time.sleep(0.01)
        receiver.fail_next = 12

    thread = threading.Thread(target=cut)
    thread.start()
    outcome = agent.replicate()
    thread.join()
    assert receiver.fail_next == 0
    assert outcome.version == receiver.image().parent.name
    check_version(receiver, machine, {"main/file3": (machine.main / "file3").read_bytes()})


def test_a_cancelled_run_ends_and_leaves_no_version(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    def cancel() -> None:
        run = None
        while run is None:
            run = receiver.runs.of_primary(receiver.uuid)
            time.sleep(0.005)
        run.cancelled = True

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(NotfallError) as caught:
        agent.replicate()
    thread.join()
    assert caught.value.code == "cancelled"
    assert receiver.store.newest() is None


def test_another_layout_voids_what_was_tracked(
    machine: Machine, receiver: Receiver, agent: Service
) -> None:
    agent.replicate()
    command("partx", "-d", "--nr", "3", machine.one)
    assert agent.replicate().read_all
