"""A copy whose proof fails is mended from its living original: by the real server and agent.

Of the stage only the machine is played (``paper_stage``). A file system of the original lies on a
loop device, so that what is read of it can be made wrong behind its back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from agent_process import AgentProcess
from agent_receiver import command, loop_device, mounted, partition
from paper_stage import PaperStageServer
from server_process import running
from source_machine import MIB, NEW_EXT4
from test_scrub import damage_device

from notfall_lab.patience import until
from notfallserver.wire.blocks import BLOCK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ALTERED = """
from notfallserver.agent import sample
from notfallserver.agent.disks import linux
from notfallserver.agent.systemd import Seen
sample.AT_REST_S = 0  # the files of a test are never a day old
sample.ADAPTED = ()  # and its disks are mounted below /tmp
linux.look = lambda: Seen("degraded", ("old.service",), ("getty@tty1.service",))
"""
KIB = 1024
INODES = 4 * KIB
"""Blocks of the inode table: 16 inodes."""


@dataclass
class Scene:
    server: PaperStageServer
    name: str
    uuid: str
    image: Path
    system: Path

    def ask(self, path: str) -> Any:
        with self.server.root() as root:
            answer = root.get(f"/api/v1/primaries/{self.name}{path}")
            assert answer.status_code == 200, answer.text
            return answer.json()

    def replicate(self) -> None:
        with self.server.root() as root:
            job = root.post(f"/api/v1/primaries/{self.name}/replicate").json()["id"]
        row = self.server.await_job(job)
        assert row["state"] == "done", row

    def rehearse_every(self, days: int) -> None:
        done = self.server.notfall("server", "settings", "--set", f"rehearsal_days={days}")
        assert done.returncode == 0, done.stderr

    def rehearse_by_itself(self, times: int) -> list[dict[str, Any]]:
        """Until so many rehearsals are over, the oldest first."""
        self.rehearse_every(1)

        def over() -> bool:
            rows = self.ask("/rehearsals")
            return len(rows) >= times and all(one["ended_at"] for one in rows)

        until(over)
        return list(reversed(self.ask("/rehearsals")))

    def steps(self) -> list[str]:
        with self.server.root() as root:
            rows = root.get(f"/api/v1/journal?primary={self.name}").json()
        told = [str(one["event"]) for one in reversed(rows)]
        return [one.removeprefix("proof-") for one in told if one.startswith("proof-")]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperStageServer]:
    settings = {"standin_memory_mib": 64}
    server = PaperStageServer(tmp_path_factory.mktemp("stage"), settings)
    with running(server):
        yield server


@pytest.fixture
def scene(stage: PaperStageServer, tmp_path: Path) -> Iterator[Scene]:
    image, place = tmp_path / "disk.img", tmp_path / "system"
    partition(image, 66 * MIB, "label: dos\nsize=64M, type=83, bootable\n")
    with ExitStack() as stack:
        device = stack.enter_context(loop_device(image))
        command("mkfs.ext4", *NEW_EXT4, "-b", KIB, f"{device}p1")
        stack.enter_context(mounted(f"{device}p1", place))
        for number in range(20):  # what a sample is taken of
            (place / f"order{number}").write_bytes(os.urandom(5000))
        agent = AgentProcess(stage, f"shop{token_hex(4)}", [device])
        stack.callback(agent.stop)
        agent.start(ALTERED)
        scene = Scene(stage, agent.name, agent.uuid, image, place)
        stack.callback(scene.rehearse_every, 0)
        yield scene


def inodes_of(scene: Scene) -> int:
    """Where on the disk the inodes of some files lie, in bytes; by now they do."""
    for option in ("-f", "-u"):  # else they might be in the journal as well, and come back
        command("fsfreeze", option, scene.system)
    device = command("findmnt", "-n", "-o", "SOURCE", scene.system)
    told = command("debugfs", "-R", "imap order5", device)
    found = re.search(r"located at block (\d+)", told)
    assert found is not None, told
    return MIB + int(found[1]) * KIB


def swap_bytes(image: Path, at: int, content: bytes) -> bytes:
    """Put ``content`` there, and return what was there."""
    with image.open("r+b") as stream:
        stream.seek(at)
        before = stream.read(len(content))
        stream.seek(at)
        stream.write(content)
        os.fsync(stream.fileno())
    return before


def failed_for_damage(rows: list[dict[str, Any]]) -> bool:
    codes = {one["error"]["code"] if one["error"] else "" for one in rows}
    states = [[one["state"] for one in row["evidence"]["volumes"]] for row in rows]
    return codes == {"rehearsal-filesystem-damaged"} and all(one == ["damaged"] for one in states)


def is_proven(scene: Scene, row: dict[str, Any]) -> None:
    """All steps of the proof, in the evidence and in what is offered."""
    assert row["outcome"] == "passed", row
    told = row["evidence"]
    assert told["started"] and (told["start_s"], told["ports"]) == (12.5, [22])
    assert [one["state"] for one in told["volumes"]] == ["clean"], told
    assert told["compared"] >= 5 and told["differing"] == []
    assert (told["system"], told["login"], told["login_before"]) == ("degraded", True, True)
    assert told["failed_before"] == ["old.service"]
    assert told["newly_failed"] == ["wait-online.service"]
    (newest, *older) = scene.ask("/versions")
    assert (newest["stamp"], newest["grade"]) == (row["version"], "equal")
    offer = scene.ask("/offers")[0]
    assert (offer["stamp"], offer["role"], offer["taken"]) == (newest["stamp"], "proven", True)
    listed = scene.server.notfall("rehearsals", scene.name).stdout
    assert "FILES" in listed and "equal" in listed
    assert "passed (equal)" in scene.server.notfall("versions", scene.name).stdout
    assert all(one["grade"] == "prepared" for one in older), older


def test_what_was_read_wrong_is_read_again(scene: Scene) -> None:
    """The copy holds what nobody ever had: neither another adaptation nor a check of the pool
    can help, but the deep run does."""
    at = inodes_of(scene)
    before = swap_bytes(scene.image, at, bytes(INODES))
    scene.replicate()
    assert swap_bytes(scene.image, at, before) == bytes(INODES)
    *failed, last = scene.rehearse_by_itself(3)
    assert failed_for_damage(failed) and len(failed) == 2
    assert len({one["version"] for one in failed}) == 1 and last["version"] > failed[0]["version"]
    assert scene.steps() == ["adapt", "check", "deep"]
    is_proven(scene, last)
    assert scene.ask("")["deep"]["unexplained"] > 0


def test_what_rots_until_it_cannot_even_be_made_ready_is_fetched_anew(scene: Scene) -> None:
    """Its superblock rots in the pool, so that nothing shows what was there. The index is right:
    the deep run alone would not hear of it."""
    scene.replicate()
    until(lambda: scene.ask("/versions")[0]["prepared"])
    (version,) = scene.server.pool.primary(scene.uuid).versions()
    number, offset = divmod(MIB + 1024, BLOCK)
    damage_device(scene.server.data / "pool.img", version.raw(0), number, offset, bytes(1024))
    failed, last = scene.rehearse_by_itself(2)
    assert failed_for_damage([failed])
    assert scene.steps() == ["adapt", "check", "deep"]
    is_proven(scene, last)


def test_what_is_damaged_in_the_original_is_left_to_people(scene: Scene) -> None:
    at = inodes_of(scene)
    before = swap_bytes(scene.image, at, bytes(INODES))
    scene.replicate()
    rows = scene.rehearse_by_itself(3)
    assert failed_for_damage(rows)
    assert scene.steps() == ["adapt", "check", "deep"]
    rehearsed = scene.ask("")["rehearsed"]
    assert (rehearsed["id"], rehearsed["outcome"]) == (rows[-1]["id"], "failed")
    # Nothing more is tried by itself; and it starts, so it is no reason to go back to an older one.
    with pytest.raises(AssertionError, match="did not happen"):
        until(lambda: len(scene.ask("/rehearsals")) > 3 or len(scene.steps()) > 3, 3)
    (offer,) = scene.ask("/offers")
    assert (offer["standing"], offer["failed_step"], offer["taken"]) == (
        "unproven",
        "checked",
        True,
    )
    swap_bytes(scene.image, at, before)
