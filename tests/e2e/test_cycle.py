"""The whole cycle on a real guest, by the page alone, and what holds for its versions.

``make demo`` plays the same cycle by the command line.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from clicks import clicking

from notfall_lab import attacked, cycle
from notfall_lab.cycle import Play, TargetSpec
from notfall_lab.proofs import boots_bare, check_filesystems
from notfall_lab.recipe_guest import BIOS
from notfall_lab.timeline import Timeline
from notfall_lab.world import World

MEANWHILE = {
    cycle.start_primary: (attacked.bring_documents,),
    cycle.prepare: (attacked.encrypt,),
    cycle.activate: (attacked.check_documents,),
    cycle.check_recovered: (attacked.check_documents,),
    cycle.replicate_again: (attacked.clear,),
}
"""The server was broken into before it died: the stand-in is started from what was before."""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: sockets lie below it."""
    path = Path(tempfile.mkdtemp(prefix="nf-e2e-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def see_what_vanished(play: Play) -> None:
    """Else that no order is missing would prove nothing."""
    shell = play.shell
    shell.run("cd / && su postgres -c \"psql shop -c 'DELETE FROM orders WHERE number = 5'\"")
    shell.run("sed -i '$d' /var/lib/shop/journal")
    verdict = play.orders.verify()
    seen = verdict.missing == [5] and len(verdict.unjournalled) == 1
    play.timeline.check("an order that vanished is seen", seen, f"{verdict}")


@pytest.mark.timeout(3600)
def test_a_bios_machine_is_copied_dies_is_replaced_and_comes_back(directory: Path) -> None:
    timeline = Timeline("BIOS, virtio to SATA, by the page")
    with World("cycle", directory) as world, ExitStack() as stack:
        play = Play(world, BIOS, timeline, TargetSpec(foreign=True))
        cycle.start_server(play)
        play.by = stack.enter_context(clicking(world))
        for act in cycle.CYCLE[1:]:
            act(play)
            for further in MEANWHILE.get(act, ()):
                further(play)
        for name, ok, detail in check_filesystems(world, play.name):
            timeline.check(name, ok, detail)
        timeline.check("a version boots with bare QEMU", boots_bare(world, play.name))
        see_what_vanished(play)
        play.on_stage.cut_power()
    failed = [f"{one.name}: {one.detail}" for one in timeline.checks if not one.ok]
    assert failed == []
