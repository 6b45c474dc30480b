"""The disks of a machine at the rescue medium become a version: the rescue system's own program,
the server's door and job, without a network between them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from notfall_lab.patience import PATIENCE_S
from notfallserver.rescue import work as rescue_work
from notfallserver.rescue.secret import new_secret, pairing_code
from notfallserver.rescue.work import Work
from notfallserver.server.cycle.doors import TargetDoor
from notfallserver.server.cycle.imports import Imports
from notfallserver.server.cycle.normal.runs import Runs
from notfallserver.server.cycle.recovery.desk import Desk
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.target_imports import TargetImports, TargetOrder, chosen_disks
from notfallserver.server.foreign.machine import Wish
from notfallserver.server.pool.known import KnownContent
from notfallserver.server.pool.store import Pool
from notfallserver.server.pool.version import Version, check_version
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.jobs import Job
from notfallserver.server.web.api.imports import ImportRequest
from notfallserver.server.web.targets import targets_router
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Nic, Partition
from notfallserver.wire.frames import PLAIN, write_blocks, write_offer

SIZE = 300 * BLOCK + 4096  # the last block is short
UUID = "7d1f7c1e-0b1a-4a5e-9d3f-00000000000b"


class Line:
    """A client whose server is called directly."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def send(self, method: str, path: str, frame: bytes, limit: int) -> bytes:
        what, _, run = path.removeprefix("/target/v1/").partition("?run=")
        self._scene.asked += 1
        if self._scene.slow.is_set():
            time.sleep(0.02)
        if what == "offer":
            return self._scene.door.offer(self._scene.secret, run, frame)
        self._scene.sent += len(frame)
        self._scene.door.blocks(self._scene.secret, run, frame)
        return b""

    def close(self) -> None:
        pass


class Scene:
    """A server without hypervisor, and a machine at the rescue medium with two disks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "pool").mkdir()
        self.catalogue: Catalogue = open_catalogue(directory)
        self.secret = new_secret()
        self.code = pairing_code(self.secret)
        self.asked = self.sent = 0
        self.slow, self.over = threading.Event(), threading.Event()
        self.start()
        names = [str(directory / name).lstrip("/") for name in ("a", "b")]
        for name in names:
            Path("/", name).write_bytes(
                os.urandom(100 * BLOCK) + bytes(150 * BLOCK) + os.urandom(50 * BLOCK + 4096)
            )
        self.machine = Machine(
            "notfall-rescue",
            firmware="uefi",
            smbios_uuid="7d1f7c1e-0b1a-4a5e-9d3f-00000000000a",
            cpus=8,
            memory=16 << 30,
            disks=[
                Disk("sda", SIZE, serial="S1", driver="ahci", table="gpt", partitions=[ESP]),
                Disk("sdb", SIZE, serial="S2", driver="nvme", table="dos"),
                Disk("sdc", SIZE, serial="S3"),
            ],
            nics=[Nic("enp1s0", "52:54:00:00:00:01", "e1000e", ["198.51.100.99/24"])],
        )
        self.files = dict(zip(("sda", "sdb"), names, strict=True))
        self.work = Work(lambda: Line(self), lambda: self.machine, lambda: None)  # type: ignore[arg-type,return-value]
        self.thread = threading.Thread(target=self._target)
        self.thread.start()

    def start(self) -> None:
        """The server, or the next one after it."""
        pool = Pool(self.directory / "pool")
        self.runs, self.desk = Runs(pool, KnownContent(pool, False)), Desk()
        self.pool = pool
        self.runner = JobRunner(self.catalogue.jobs, self.catalogue.journal)
        self.means: Any = SimpleNamespace(
            catalogue=self.catalogue,
            pool=pool,
            runs=self.runs,
            desk=self.desk,
            present=lambda: SimpleNamespace(capture_minutes=15),
            settings=SimpleNamespace(accelerator="kvm"),
        )
        work: Any = SimpleNamespace(
            medium=_no_medium,
            appliances=nullcontext(),
            arrived=lambda ctx, version: {"version": version.stamp},
        )
        means: Any = self.means
        imports = Imports(means, self.runner, work)
        self.imports = TargetImports(means, self.runner, imports)
        self.imports.register()
        for kind in ("capture", "recover"):
            self.runner.register(kind, lambda ctx: None)
        self.door = TargetDoor(means)

    def _target(self) -> None:
        """What the rescue system's program does all the time."""
        self.door.register(self.secret, {"machine": self.machine.to_json(), "code": self.code})
        while not self.over.is_set():
            body = {"report": self.work.report()}
            target = self.catalogue.targets.by_secret(self.secret)
            self.work.take(self.desk.poll(target.id, body["report"], 0.05))
            time.sleep(0.01)

    def content(self, name: str) -> bytes:
        return Path("/", self.files[name]).read_bytes()

    def begin(self, *disks: str, **wish: Any) -> Job:
        return self.imports.begin(TargetOrder("shop", self.code, disks, Wish(**wish)), "ada")

    def end_of(self, job: Job) -> Job:
        job = self.runner.wait(job.id, 30)
        assert job.finished, job
        return job

    def newest(self) -> Version:
        row = self.catalogue.primaries.find("shop")
        newest = self.pool.primary(row.uuid).newest()
        assert newest is not None
        return newest

    def close(self) -> None:
        self.over.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.runner.stop()
        self.runs.close()
        self.catalogue.close()


ESP = Partition(1, 1 << 20, 4 << 20, kind="c12a7328-f81f-11d2-ba4b-00a0c93ec93b")


def _no_medium(ctx: Any) -> None:
    raise NotfallError("no-medium", "There is none here.")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path)
    monkeypatch.setattr(rescue_work, "check_disk", lambda disk: None)
    path = property(lambda disk: f"/{made.files[disk.name]}")
    monkeypatch.setattr("notfallserver.rescue.targets.TargetDisk.path", path)
    until = time.monotonic() + PATIENCE_S
    while not made.catalogue.targets.all():
        assert time.monotonic() < until
        time.sleep(0.01)
    yield made
    made.close()


def test_all_disks_that_hold_anything_become_a_version(scene: Scene) -> None:
    job = scene.end_of(scene.begin(addresses=("198.51.100.7/24",)))
    assert job.state == "done", job
    version = scene.newest()
    for index, name in enumerate(("sda", "sdb")):
        assert version.raw(index).read_bytes() == scene.content(name)
    assert check_version(version) == []
    manifest, machine = version.manifest, version.manifest.machine
    assert (manifest.kind, manifest.consistency) == ("import", "crash")
    assert (machine.hostname, machine.firmware, machine.cpus) == ("shop", "uefi", 8)
    assert [(one.serial, one.driver) for one in machine.disks] == [("S1", "ahci"), ("S2", "nvme")]
    (card,) = machine.nics
    assert (card.name, card.mac, card.driver) == ("", "52:54:00:00:00:01", "e1000e")
    assert card.addresses == ["198.51.100.7/24"]  # not what the rescue system has
    target = scene.catalogue.targets.by_code(scene.code)
    assert (target.state, target.recovery) == ("free", "")
    # the next one sends only what has changed
    with Path("/", scene.files["sda"]).open("r+b") as stream:
        stream.seek(5 * BLOCK)
        stream.write(os.urandom(BLOCK))
    scene.sent = 0
    assert scene.end_of(scene.begin("sda", "sdb")).state == "done"
    assert BLOCK < scene.sent < 2 * BLOCK
    assert scene.newest().raw(0).read_bytes() == scene.content("sda")
    assert scene.newest().manifest.machine.addresses() == ["198.51.100.7"]


def test_a_server_that_is_restarted_goes_on_and_believes_no_older_report(scene: Scene) -> None:
    scene.slow.set()
    job = scene.begin("sda")
    until = time.monotonic() + PATIENCE_S
    while scene.sent < 20 * BLOCK:
        assert time.monotonic() < until
        time.sleep(0.001)
    scene.runner.stop()
    scene.runs.close()
    scene.slow.clear()
    before = scene.sent
    scene.start()
    scene.runner.resume_unfinished()
    assert scene.end_of(job).state == "done", scene.runner.wait(job.id, 0)
    version = scene.newest()
    assert version.raw(0).read_bytes() == scene.content("sda") and check_version(version) == []
    assert before > 0


def test_a_cancelled_one_leaves_nothing_and_lets_the_machine_go(scene: Scene) -> None:
    scene.slow.set()
    job = scene.begin("sda")
    while not scene.sent:
        time.sleep(0.001)
    scene.runner.cancel(job.id, "ada")
    assert scene.end_of(job).state == "cancelled"
    row = scene.catalogue.primaries.find("shop")
    assert not scene.pool.primary(row.uuid).paths.incoming.exists()
    assert scene.catalogue.targets.by_code(scene.code).state == "free"
    until = time.monotonic() + PATIENCE_S
    while scene.work.report()["state"] != "idle":
        assert time.monotonic() < until, scene.work.report()
        time.sleep(0.01)


def test_a_machine_gives_only_where_somebody_asked_and_reads_nothing(scene: Scene) -> None:
    with pytest.raises(NotfallError) as caught:
        scene.door.offer(scene.secret, "0" * 16, b"")
    assert (caught.value.code, caught.value.status) == ("not-paired", 403)
    scene.slow.set()
    job = scene.begin("sda")
    while not scene.sent:
        time.sleep(0.001)
    asks: tuple[Callable[[], object], ...] = (
        partial(scene.door.offer, scene.secret, "another", b""),
        partial(scene.door.index, scene.secret, "20261126T101500.000Z", 0),
    )
    for ask in asks:
        with pytest.raises(NotfallError) as caught:
            ask()
        assert caught.value.code == "order-comes"
    with pytest.raises(NotfallError, match=r"already|belongs to another|under way"):
        scene.begin("sda")
    scene.slow.clear()
    assert scene.end_of(job).state == "done"


def test_only_disks_that_are_there_are_taken() -> None:
    found = [Disk("sda", 1 << 30, table="gpt"), Disk("sdb", 1 << 30)]
    assert chosen_disks(found, ()) == found[:1]
    assert [one.name for one in chosen_disks(found, ("sdb", "sda"))] == ["sdb", "sda"]
    for names, code in (
        (("sdz",), "no-such-disk"),
        (("sda", "sda"), "no-such-disk"),
    ):
        with pytest.raises(NotfallError) as caught:
            chosen_disks(found, names)
        assert caught.value.code == code
    with pytest.raises(NotfallError) as caught:
        chosen_disks(found[1:], ())
    assert caught.value.code == "image-empty"


def test_a_request_names_files_or_a_machine() -> None:
    asked = ImportRequest(name="shop", code="ABCD2345", disks=["sda"], memory_mib=2048)
    order = asked.target_order()
    assert (order.code, order.disks, order.wish) == ("ABCD2345", ("sda",), Wish(memory=2 << 30))
    with pytest.raises(NotfallError) as caught:
        ImportRequest(name="shop", code="ABCD2345", files=["/a.img"]).target_order()
    assert caught.value.code == "bad-import"


def test_the_routes_pass_run_and_frame_and_want_a_secret(scene: Scene) -> None:
    app = FastAPI()
    app.include_router(targets_router(scene.door))

    @app.exception_handler(NotfallError)
    async def tell(_: object, error: NotfallError) -> JSONResponse:
        return JSONResponse(error.to_json(), error.status)

    machine = Machine("shop", disks=[Disk("sda", SIZE)]).to_json()
    run = str(scene.runs.begin(UUID, "shop", {"machine": machine})["run"])
    target = scene.catalogue.targets.by_code(scene.code).id
    scene.desk.take_from(target, {"order": "none"}, UUID, run)
    block = os.urandom(BLOCK)
    offer = [(3, hash_block(block))]

    def post(path: str, content: bytes, secret: str = scene.secret) -> httpx.Response:
        async def ask() -> httpx.Response:
            headers = {"Authorization": f"Bearer {secret}"}
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="https://x") as client:
                return await client.post(f"/target/v1/{path}", content=content, headers=headers)

        return asyncio.run(ask())

    wanted = post(f"offer?run={run}", write_offer(0, offer))
    assert (wanted.status_code, wanted.content) == (200, b"\x80")
    frame = write_blocks(0, offer, block, PLAIN)
    assert post(f"blocks?run={run}", frame).status_code == 204
    assert post(f"offer?run={run}", write_offer(0, offer)).content == b"\x00"
    assert post("offer?run=x", b"").json()["code"] == "not-paired"
    assert post("blocks", frame).status_code == 422
    assert post(f"blocks?run={run}", frame, secret="short").status_code == 401
