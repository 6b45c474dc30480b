"""Without a tracker: what files prove to be unchanged is not read again; needs root."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest
from agent_receiver import Receiver
from holes import new_file
from source_machine import MIB, copy_while_frozen, no_tracker
from two_filesystems import QUIET_MIB, TwoFilesystems, differing, ready

from notfallserver.agent.changes import boots, ledger
from notfallserver.agent.changes.rule import Rule
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.linux import protected_disks
from notfallserver.agent.disks.mounts import current_mounts
from notfallserver.agent.disks.runs import total
from notfallserver.agent.disks.used import Census, used_runs
from notfallserver.agent.inodes import filesystems
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop
from notfallserver.wire.blocks import BLOCK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

QUIET = 2 * QUIET_MIB * MIB


@pytest.fixture
def blind(
    two: TwoFilesystems, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """An agent on a kernel that offers no tracker."""
    monkeypatch.setattr(ledger, "Tracker", no_tracker)
    monkeypatch.setattr(filesystems, "BOOT", two.places)
    receiver.settings(two.disks)
    two.fill()
    service = Service(receiver.config, Stop())
    yield service
    service.close()


def used_bytes(two: TwoFilesystems) -> int:
    disks = [DirectDisk(one) for one in protected_disks(two.disks)]
    census = Census(disks, current_mounts())
    used = used_runs([one.disk for one in disks], census.free_space())
    census.close()
    for one in disks:
        one.close()
    return sum(total(runs) for runs in used) * BLOCK


def before_the_freeze(monkeypatch: pytest.MonkeyPatch, changes: list[Callable[[], object]]) -> None:
    """All of these happen after the hot pass of the next run."""
    settle = Rule.settle

    def change(self: Rule) -> None:
        while changes:
            changes.pop()()
        settle(self)

    monkeypatch.setattr(Rule, "settle", change)


def test_what_changed_between_two_runs_is_read_and_little_else(
    two: TwoFilesystems, receiver: Receiver, blind: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = copy_while_frozen(two, monkeypatch)
    changes = ready(two)
    time.sleep(2.1)
    first = blind.replicate()
    assert first.read_all
    # All of it in the hot pass; what may have changed once before the freeze, to see how long
    # that takes, and once in it.
    assert first.bytes_read < 3 * used_bytes(two) - 2 * QUIET + 20 * MIB
    for change in changes:
        change()
    time.sleep(2.1)  # or what was just changed is read again while frozen
    second = blind.replicate()
    assert not second.read_all
    assert second.bytes_read < first.bytes_read - QUIET * 3 // 4
    assert differing(receiver, two, copies) == []
    time.sleep(2.1)
    third = blind.replicate()
    assert third.bytes_read < 3 * (used_bytes(two) - QUIET) + 20 * MIB
    assert third.bytes_sent < 20 * MIB
    assert differing(receiver, two, copies) == []


def test_what_changed_during_the_hot_pass_is_in_the_version(
    two: TwoFilesystems, receiver: Receiver, blind: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = copy_while_frozen(two, monkeypatch)
    receiver.settings(two.disks, frozen_mib=128)
    blind = Service(receiver.config, Stop())
    before_the_freeze(monkeypatch, ready(two))
    assert blind.replicate().consistency == "filesystem"
    assert differing(receiver, two, copies) == []
    blind.close()


@pytest.mark.parametrize("unlike", ["clock", "nfs"])
def test_nothing_is_proven_where_times_cannot_be_trusted(
    two: TwoFilesystems, blind: Service, monkeypatch: pytest.MonkeyPatch, unlike: str
) -> None:
    time.sleep(2.1)
    first = blind.replicate()
    if unlike == "nfs":
        monkeypatch.setattr(boots, "serves_files", lambda: True)
    else:
        offset = boots.clock_offset
        monkeypatch.setattr(boots, "clock_offset", lambda: offset() - 60)
    assert blind.replicate().bytes_read > first.bytes_read - QUIET // 2


def test_a_run_that_failed_leaves_what_was_known(
    two: TwoFilesystems, receiver: Receiver, blind: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = copy_while_frozen(two, monkeypatch)
    time.sleep(2.1)
    first = blind.replicate()
    new_file(two.places[0] / "quiet0", 8 * MIB)

    def cut() -> None:
        raise OSError("cut")

    before_the_freeze(monkeypatch, [cut])
    with pytest.raises(Exception, match="cut"):
        blind.replicate()
    again = blind.replicate()
    assert not again.read_all
    assert again.bytes_read < first.bytes_read - QUIET * 3 // 4
    assert differing(receiver, two, copies) == []
