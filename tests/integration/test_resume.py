"""A first copy that is cut goes on: no block is sent twice but one batch per connection."""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest
from agent_receiver import Receiver
from source_machine import Machine, check_version

from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop, Stopped
from notfallserver.wire.frames import BATCH_BLOCKS, ENTRY, HEADER

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WORKERS = 3


class Witness:
    """Counts how often each block arrives; cuts connections and stops the agent on the way."""

    def __init__(self, receiver: Receiver, stop: Stop) -> None:
        self.arrived: Counter[tuple[int, int]] = Counter()
        self.cut_from, self.stop_from = 150, 300  # blocks
        self.cuts = 0
        self._stop = stop
        self._answer = receiver.answer
        receiver.answer = self.answer  # type: ignore[method-assign]

    def answer(self, path: str, body: bytes) -> bytes:
        if path.endswith("/blocks"):
            _, disk, _, count, _ = HEADER.unpack_from(body)
            entries = ENTRY.iter_unpack(body[HEADER.size : HEADER.size + count * ENTRY.size])
            self.arrived.update((disk, number) for number, _ in entries)
        answer = self._answer(path, body)
        if path.endswith("/blocks"):
            if len(self.arrived) > self.stop_from:
                self._stop._event.set()
                time.sleep(2)  # the agent looks once a second whether it shall leave
            if len(self.arrived) > self.cut_from and self.cuts < WORKERS:
                self.cuts += 1
                raise ConnectionError  # it arrived, but the agent never hears of it
        return answer

    @property
    def twice(self) -> int:
        return self.arrived.total() - len(self.arrived)


def test_a_cut_first_copy_sends_no_block_twice_but_what_was_on_its_way(
    machine: Machine, receiver: Receiver
) -> None:
    receiver.settings(machine.disks, workers=WORKERS)
    stop = Stop()
    witness = Witness(receiver, stop)
    first = Service(receiver.config, stop)
    with pytest.raises(Stopped):
        first.replicate()
    first.close()
    assert receiver.store.newest() is None
    assert witness.cuts == WORKERS  # answers were lost, and the run went on
    assert witness.twice <= WORKERS * BATCH_BLOCKS
    before = len(witness.arrived)
    witness.stop_from = 1 << 30
    again = Service(receiver.config, Stop())
    again.replicate()
    again.close()
    assert before < len(witness.arrived)
    assert witness.twice <= 2 * WORKERS * BATCH_BLOCKS
    check_version(receiver, machine, {"main/file3": (machine.main / "file3").read_bytes()})
