"""A server without web and hypervisor that holds versions, and what carries them away."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from notfallserver.server.cycle.boot_disks import BootDisks
from notfallserver.server.cycle.exports import Exports
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.tape_restore import TapeRestore
from notfallserver.server.cycle.tapes import Tapes
from notfallserver.server.pool.incoming import utc_now
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Manifest, Version
from notfallserver.server.records import open_catalogue
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.server.settings import Settings
from notfallserver.wire.blocks import BLOCK, block_length, hash_block
from notfallserver.wire.facts import Disk, Machine, Nic
from notfallserver.wire.frames import PLAIN, write_blocks

SIZES = (400 * BLOCK + 4096, 80 * BLOCK)
"""The first disk's last block is short."""
MAC = "52:54:00:00:00:07"


class Scene:
    """One primary with two disks and one version of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.to = directory / "to"
        self.to.mkdir()
        self.catalogue = open_catalogue(directory)
        self.pool = Pool(directory / "pool")
        self.settings = Settings(
            data_dir=directory / "data",
            pool_path=directory / "pool",
            libvirt_uri="test:///default",
            accelerator="tcg",
        )
        (directory / "data").mkdir()
        row = self.catalogue.primaries.add_agentless(str(uuid4()), "shop", 15, "ada")
        self.uuid = row.uuid
        self.store = self.pool.add_primary(row.uuid, "shop")
        self.version = self.add_version({0: [0, 1, 2, 90, 91, 300, 400], 1: [3, 79]})
        self.start()

    def start(self) -> None:
        """The server, or the next one after it."""
        self.runner = JobRunner(self.catalogue.jobs, self.catalogue.journal)
        self.means: Any = SimpleNamespace(
            catalogue=self.catalogue,
            pool=self.pool,
            settings=self.settings,
            present=lambda: self.settings,
            hypervisor=None,
            place=SimpleNamespace(reflink=False),
        )
        work: Any = SimpleNamespace(appliances=nullcontext(), medium=lambda ctx: None)
        means: Any = self.means
        self.exports = Exports(means, self.runner, work).register()
        self.boot_disks = BootDisks(means, self.runner, work).register()
        self.tapes = Tapes(means, self.runner).register()
        self.restores = TapeRestore(means, self.runner, self.tapes).register()

    @property
    def row(self) -> Primary:
        return self.catalogue.primaries.find(self.uuid)

    def add_version(self, used: dict[int, list[int]], seed: int = 0, **told: Any) -> Version:
        return add_version(self.store, used, seed, **told)

    def pins(self) -> dict[str, Any]:
        return dict(self.store.pins.all())

    def end_of(self, job: Job, seconds: float = 60) -> Job:
        job = self.runner.wait(job.id, seconds)
        assert job.finished, job
        return job

    def close(self) -> None:
        self.runner.stop()
        self.catalogue.close()


def content(disk: int, number: int, seed: int = 0) -> bytes:
    length = block_length(number, SIZES[disk])
    return random.Random(disk * 100003 + number * 1009 + seed).randbytes(length)


def add_version(
    store: PrimaryStore,
    used: dict[int, list[int]],
    seed: int = 0,
    of: Callable[[int, int, int], bytes] = content,
    **told: Any,
) -> Version:
    """Blocks by disk; ``told`` goes into the machine."""
    disks = [Disk("sda", SIZES[0], driver="ahci"), Disk("sdb", SIZES[1], driver="ahci")]
    nics = [Nic("enp1s0", MAC, "e1000e", ["198.51.100.7/24"])]
    machine = replace(
        Machine("shop", "Debian GNU/Linux 12", cpus=2, memory=1 << 30, disks=disks, nics=nics),
        **told,
    )
    incoming = store.open_incoming("run", machine.disks)
    with incoming:
        for disk, numbers in used.items():
            for at in range(0, len(numbers), 32):
                blocks = {n: of(disk, n, seed) for n in numbers[at : at + 32]}
                entries = [(number, hash_block(data)) for number, data in blocks.items()]
                incoming.receive(write_blocks(disk, entries, b"".join(blocks.values()), PLAIN))
    return incoming.seal(
        Manifest(
            primary=store.uuid,
            name="shop",
            stamp=store.fresh_stamp(),
            kind="import",
            consistency="crash",
            base=incoming.base,
            machine=machine,
            disks=(),
            started_at=utc_now(),
            sealed_at=utc_now(),
        )
    )
