"""What targets may not do: wrong codes, unfit disks, others' data; and nothing changes."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hand_agent import HandAgent
from rescue_target import SIZE, Target, recover, refusal, state_of
from server_process import ServerProcess

from notfall_lab.driver_folder import rst
from notfallserver.guest.windows.devices import pci_ids
from notfallserver.guest.windows.packages import Windows
from notfallserver.guest.windows.supplied import supplied_drivers
from notfallserver.rescue.supply import DriverSupply
from notfallserver.server.cycle.driver_store import DriverStore
from notfallserver.wire.blocks import BLOCK, HASH
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk
from notfallserver.wire.frames import read_blocks, write_offer, write_want

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

TEN = Windows((10, 0), 19045, "amd64")
VMD = pci_ids(0x8086, 0x9A0B, 0x0B0E1028, 0, 0x010400)


@pytest.fixture
def server(machineless: ServerProcess) -> ServerProcess:
    return machineless


@pytest.fixture
def agent(in_emergency: HandAgent) -> HandAgent:
    return in_emergency


def test_only_a_target_with_its_own_code_registers(
    server: ServerProcess, boot: Callable[..., Target]
) -> None:
    target = boot(Disk("sda", SIZE))
    with pytest.raises(NotfallError) as caught:
        target.poll()
    assert (caught.value.status, caught.value.code) == (401, "no-such-target")
    for code in ("ABCDEFGH", "x" * 5000):
        with pytest.raises(NotfallError) as caught:
            target.register(code)
        assert (caught.value.status, caught.value.code) == (400, "bad-code")
    assert target.register() == target.register()
    with server.root() as root:
        shown = root.get("/api/v1/targets").text
    assert target.code not in shown and target.secret not in shown
    stranger = boot(Disk("sda", SIZE))
    stranger.client = Client(server.url, tls_context(server.ca), bearer="z" * 64)
    with pytest.raises(NotfallError) as caught:
        stranger.register()
    assert (caught.value.status, caught.value.code) == (401, "bad-secret")


def test_what_does_not_fit_is_refused_before_any_order(
    server: ServerProcess, agent: HandAgent, boot: Callable[..., Target]
) -> None:
    small = boot(Disk("sda", SIZE - BLOCK, serial="S1"))
    uefi = boot(Disk("sda", SIZE), firmware="uefi")
    for target, code in ((small, "target-disk-too-small"), (uefi, "firmware-differs")):
        target.register()
        for option in ((), ("--disk", "vda=sda"), ("--yes",)):
            told = refusal(server, "recover", agent.name, "--to", target.code, *option)
            assert told["code"] == code and told["remedy"]
        assert target.poll() == {"order": "none"}
    told = refusal(server, "recover", agent.name, "--to", "ABCDEFGH", "--yes")
    assert told["code"] == "no-such-target"
    assert state_of(server, agent) == "emergency"


def test_a_target_reads_nothing_before_it_is_paired(
    server: ServerProcess, agent: HandAgent, boot: Callable[..., Target]
) -> None:
    stamp = server.pool.primary(agent.uuid).need_newest().stamp
    target = boot(Disk("sda", SIZE))
    for status, code in ((401, "no-such-target"), (403, "not-paired")):
        reads: list[Callable[[], bytes]] = [
            lambda: target.index(stamp),
            lambda: target.want(stamp, write_want(0, [0])),
        ]
        for read in reads:
            with pytest.raises(NotfallError) as caught:
                read()
            assert (caught.value.status, caught.value.code) == (status, code)
        target.register()


def test_a_paired_target_reads_versions_of_its_primary_only(
    server: ServerProcess, agent: HandAgent, boot: Callable[..., Target], tmp_path: Path
) -> None:
    """And drivers for the Windows in it, where a person has put some there."""
    other = HandAgent(server, f"q{secrets.token_hex(4)}")
    foreign = other.protect()
    target = boot(Disk("sda", SIZE, serial="S1"))
    target.register()
    job = recover(server, agent, target)
    try:
        order = target.poll()
        assert order["order"] == "pull" and not order["final"]
        assert order["disks"] == [{"index": 0, "serial": "S1", "name": "sda", "size": SIZE}]
        stamp = order["version"]
        index = target.index(stamp)
        last = len(index) // HASH - 1
        frame = read_blocks(target.want(stamp, write_want(0, [last])), last, SIZE % BLOCK)
        assert bytes(frame.payload) == agent.disk[last * BLOCK :]
        refused: list[tuple[Callable[[], bytes], str]] = [
            (lambda: target.index(foreign), "unknown-version"),
            (lambda: target.index("../../x"), "bad-version"),
            (lambda: target.index(stamp, 7), "unknown-disk"),
            (lambda: target.want(stamp, write_want(0, [last + 1])), "bad-frame"),
            (lambda: target.want(stamp, write_want(0, [0])), "bad-frame"),  # a hole
            (lambda: target.want(stamp, write_want(0, [last] * 65)), "bad-frame"),
            (lambda: target.want(stamp, write_want(0, [last])[:-1]), "bad-frame"),
            (lambda: target.want(stamp, write_offer(0, [(0, bytes(16))])), "bad-frame"),
            (lambda: target.want(stamp, write_want(9, [0])), "unknown-disk"),
            (lambda: target.want(stamp, b""), "bad-frame"),
        ]
        for number, (read, code) in enumerate(refused):
            with pytest.raises(NotfallError) as caught:
                read()
            assert (number, caught.value.code) == (number, code)
            assert 400 <= caught.value.status < 500
        supply = DriverSupply(target.connect, tmp_path / "drivers", threading.Event())
        assert supply.fetch(TEN, VMD) is None
        DriverStore(server.data / "drivers/windows").add(rst(tmp_path / "rst"))
        folder = supply.fetch(TEN, VMD)
        assert folder is not None
        (chosen,) = supplied_drivers(folder, TEN, VMD)
        assert chosen.package.name == "iastorvd"
        second = boot(Disk("sda", SIZE))
        second.register()
        with pytest.raises(NotfallError) as caught:
            DriverSupply(second.connect, tmp_path, threading.Event()).fetch(TEN, VMD)
        assert caught.value.code == "not-paired"
        told = refusal(server, "recover", other.name, "--to", target.code, "--yes")
        assert told["code"] == "not-in-this-state"
        with pytest.raises(NotfallError) as caught:
            second.index(stamp)
        assert caught.value.code == "not-paired"
    finally:
        with server.root() as root:
            root.post(f"/api/v1/jobs/{job}/cancel")
    assert server.await_job(job)["state"] == "cancelled"
    assert target.poll()["order"] == "release"
    with pytest.raises(NotfallError) as caught:
        target.index(stamp)
    assert caught.value.code == "not-paired"
    assert state_of(server, agent) == "emergency"
    other.close()
