"""What a rehearsal's evidence comes to, and that it outlives catalogue and rubbish."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from notfallserver.server.cycle.rehearsal.filesystems import damaged_error, read_checks, told_lost
from notfallserver.server.pool.layout import MANIFEST, PrimaryPaths
from notfallserver.server.pool.proof import (
    Evidence,
    Grade,
    ProofRecord,
    ServiceCheck,
    Standing,
    VolumeCheck,
    VolumeState,
    grade,
    standing,
)
from notfallserver.wire.facts import Disk, Machine, Partition

SOUND = VolumeCheck("disk0-part1", "ext4", VolumeState.CLEAN)
SWAP = VolumeCheck("disk0-part2", "swap", VolumeState.SKIPPED, "swap holds nothing that lasts")
HURT = VolumeCheck("disk0-part3-data", "xfs", VolumeState.DAMAGED, "bad magic")
UP = ServiceCheck("shop", True)
DOWN = ServiceCheck("shop", False, "404")
ONE, TWO = "20261126T080000.000Z", "20261126T110000.000Z"


@pytest.mark.parametrize(
    ("evidence", "reached", "stands"),
    [
        (Evidence(), Grade.PREPARED, Standing.UNPROVEN),
        (Evidence(volumes=(SOUND, SWAP)), Grade.CHECKED, Standing.UNPROVEN),
        (Evidence(volumes=(SWAP,)), Grade.PREPARED, Standing.UNPROVEN),
        (Evidence(volumes=(SOUND, HURT)), Grade.PREPARED, Standing.REFUTED),
        # It starts: the damage is in the original as well, and older copies would cost data.
        (
            Evidence(volumes=(HURT,), started=True, ports=(80,)),
            Grade.PREPARED,
            Standing.UNPROVEN,
        ),
        (Evidence(volumes=(SOUND,), started=False), Grade.CHECKED, Standing.REFUTED),
        (Evidence(started=True), Grade.STARTED, Standing.PROVEN),
        (Evidence(volumes=(SOUND,), started=True), Grade.STARTED, Standing.PROVEN),
        (Evidence(started=True, ports=(80,)), Grade.SERVING, Standing.PROVEN),
        (Evidence(started=True, checks=(UP,)), Grade.SERVING, Standing.PROVEN),
        (
            Evidence(started=True, ports=(22,), silent=(80,)),
            Grade.STARTED,
            Standing.UNPROVEN,
        ),
        (Evidence(started=True, ports=(80,), checks=(DOWN,)), Grade.STARTED, Standing.UNPROVEN),
        (Evidence(started=True, ports=(80,), compared=9), Grade.EQUAL, Standing.PROVEN),
        (
            Evidence(started=True, ports=(80,), compared=9, differing=("/a",)),
            Grade.SERVING,
            Standing.UNPROVEN,
        ),
        (Evidence(started=True, login=True), Grade.LOGIN, Standing.PROVEN),
        (Evidence(started=True, login=True, ports=(80,)), Grade.SERVING, Standing.PROVEN),
        (
            Evidence(started=True, login=False, login_before=True, ports=(80,)),
            Grade.STARTED,
            Standing.UNPROVEN,
        ),
        # The original has none itself, or it is not known of it.
        (
            Evidence(started=True, login=False, login_before=False, ports=(80,)),
            Grade.SERVING,
            Standing.PROVEN,
        ),
        (Evidence(started=True, login=False, ports=(80,)), Grade.SERVING, Standing.PROVEN),
        # What lacks other machines fails no step.
        (
            Evidence(started=True, ports=(80,), failed_units=("a", "b"), failed_before=("a",)),
            Grade.SERVING,
            Standing.PROVEN,
        ),
        # What never ran has no silent services.
        (Evidence(started=False, silent=(80,)), Grade.PREPARED, Standing.REFUTED),
    ],
)
def test_the_grade_is_the_last_step_before_the_first_failure(
    evidence: Evidence, reached: Grade, stands: Standing
) -> None:
    assert grade(evidence, prepared=True) is reached
    assert standing(evidence) is stands
    assert Evidence.from_json(json.loads(json.dumps(evidence.to_json()))) == evidence


def test_without_evidence_it_is_prepared_or_nothing() -> None:
    assert grade(None, prepared=True) is Grade.PREPARED
    assert grade(None, prepared=False) is Grade.NONE
    assert standing(None) is Standing.UNPROVEN
    order = list(Grade)
    assert order[-4:] == [Grade.STARTED, Grade.LOGIN, Grade.SERVING, Grade.EQUAL]
    assert all(
        later.reaches(one) and not one.reaches(later)
        for one, later in zip(order, order[1:], strict=False)
    )


@pytest.fixture
def paths(tmp_path: Path) -> PrimaryPaths:
    paths = PrimaryPaths(tmp_path / "primary")
    paths.make()
    for stamp in (ONE, TWO):
        (paths.versions / stamp).mkdir()
        (paths.versions / stamp / MANIFEST).write_text("{}")
    return paths


def test_it_is_kept_beside_the_versions_as_long_as_those(paths: PrimaryPaths) -> None:
    record = ProofRecord(paths)
    assert record.all() == {}
    first = Evidence("r1", "2026-11-26T09:00:00+00:00", (SOUND,), started=True, ports=(80,))
    record.keep(ONE, first)
    record.keep(TWO, Evidence("r2", started=False))
    assert ProofRecord(paths).of(ONE) == first
    (paths.versions / TWO / MANIFEST).unlink()
    again = Evidence("r3", started=True, checks=(DOWN,))
    record.keep(ONE, again)
    assert record.all() == {ONE: again}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"format": 1}', '{"format": 1, "versions": {"x": 1}}'),
        '{"format": 1, "versions": {"x": {"volumes": [{"state": "unheard of"}]}}}',
        '{"format": 2, "versions": {}}',
    ],
)
def test_a_broken_record_is_as_good_as_none(paths: PrimaryPaths, text: str) -> None:
    paths.proofs.write_text(text)
    record = ProofRecord(paths)
    assert record.all() == {}
    record.keep(ONE, Evidence("r", started=True))
    assert list(record.all()) == [ONE]


def test_what_a_later_server_knows_beside_is_left_out() -> None:
    told = {**Evidence("r", volumes=(SWAP,)).to_json(), "weight": 3}
    assert Evidence.from_json(told) == Evidence("r", volumes=(SWAP,))


def test_what_an_earlier_server_kept_reads_well() -> None:
    told = Evidence("r", started=True, failed_units=("a.service",), login=False).to_json()
    del told["failed_before"], told["login_before"]
    old = Evidence.from_json(told)
    assert (old.failed_before, old.login_before) == (None, None)
    assert old.newly_failed == () and not old.lacks_login
    assert grade(old, prepared=True) is Grade.STARTED and standing(old) is Standing.PROVEN
    (first, second) = (replace(old, failed_before=one) for one in ((), ("a.service",)))
    assert (first.newly_failed, second.newly_failed) == (("a.service",), ())


def test_an_answer_from_beside_a_hostile_image_is_checked() -> None:
    good = {"volume": "disk0-part1", "filesystem": "ext4", "state": "clean", "told": "a\x1bb"}
    bad: list[object] = [
        *("text", None, {}, {**good, "state": "fine"}, {**good, "volume": 3}),
        {**good, "told": ["x"]},
    ]
    (one,) = read_checks([*bad, good])
    assert one == VolumeCheck("disk0-part1", "ext4", VolumeState.CLEAN, "a b")
    assert read_checks("nonsense") == read_checks(None) == ()
    assert len(read_checks([good] * 1000)) == 256
    assert len(read_checks([{**good, "told": "x" * 10000}])[0].told) == 400


def test_a_file_system_of_which_nothing_is_left_is_damaged() -> None:
    kinds = [Partition(1, 0, 1, filesystem="ext4"), Partition(2, 1, 1), Partition(3, 2, 1)]
    whole = Disk("vdb", 1, partitions=[Partition(0, 0, 1, filesystem="xfs")])
    machine = Machine("shop", disks=[Disk("vda", 1, partitions=kinds), whole])
    names = ("disk0-part1", "disk0-part2", "disk0-part9", "disk1")
    bare = tuple(
        VolumeCheck(one, "", VolumeState.SKIPPED, "nothing that is known") for one in names
    )
    first, *unused, last = told_lost(bare, machine)
    assert (first.filesystem, first.state) == ("ext4", VolumeState.DAMAGED)
    assert (last.filesystem, last.state) == ("xfs", VolumeState.DAMAGED)
    assert tuple(unused) == bare[1:3]
    assert told_lost((SOUND, SWAP), machine) == (SOUND, SWAP)


def test_the_error_names_the_volume() -> None:
    told = damaged_error((HURT,))
    assert "disk0-part3-data (xfs): bad magic" in told.cause
