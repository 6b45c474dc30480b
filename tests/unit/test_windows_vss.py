"""The order in which VSS is called, and what becomes of each failure; no Windows is asked."""

from __future__ import annotations

import ctypes
from typing import Any, List

import pytest

from notfall_lab.windows.vss import METHODS, Vss
from notfallserver.agent.applications.application import consistency
from notfallserver.agent.windows import snapshots, vss
from notfallserver.agent.windows.com import ComError
from notfallserver.agent.windows.snapshots import take_snapshots
from notfallserver.agent.windows.vss import SnapshotSet
from notfallserver.wire.errors import NotfallError

VOLUMES = ["\\\\?\\Volume{c}\\", "\\\\?\\Volume{d-ü}\\"]
WHOLE = [
    "InitializeForBackup",
    "SetContext",
    "SetBackupState",
    "GatherWriterMetadata",
    "GatherWriterMetadata.Release",
    "FreeWriterMetadata",
    "StartSnapshotSet",
    "AddToSnapshotSet",
    "AddToSnapshotSet",
    "PrepareForBackup",
    "PrepareForBackup.Release",
    "GatherWriterStatus",
    "GatherWriterStatus.Release",
    "GetWriterStatusCount",
    "GetWriterStatus",
    "FreeWriterStatus",
    "DoSnapshotSet",
    "DoSnapshotSet.Release",
    "GatherWriterStatus",
    "GatherWriterStatus.Release",
    "GetWriterStatusCount",
    "GetWriterStatus",
    "FreeWriterStatus",
    "GetSnapshotProperties",
    "GetSnapshotProperties",
]


def new_set(windows: Vss, context: int = vss.WITH_WRITERS) -> SnapshotSet:
    return SnapshotSet(windows.components(), windows.freeing(), lambda: None, context)


def test_the_places_are_those_of_the_header() -> None:
    places = {
        "InitializeForBackup": vss.INITIALIZE,
        "SetBackupState": vss.SET_STATE,
        "GatherWriterMetadata": vss.GATHER_METADATA,
        "FreeWriterMetadata": vss.FREE_METADATA,
        "PrepareForBackup": vss.PREPARE,
        "AbortBackup": vss.ABORT,
        "GatherWriterStatus": vss.GATHER_STATUS,
        "GetWriterStatusCount": vss.STATUS_COUNT,
        "FreeWriterStatus": vss.FREE_STATUS,
        "GetWriterStatus": vss.GET_STATUS,
        "BackupComplete": vss.COMPLETE,
        "SetContext": vss.SET_CONTEXT,
        "StartSnapshotSet": vss.START_SET,
        "AddToSnapshotSet": vss.ADD_TO_SET,
        "DoSnapshotSet": vss.DO_SET,
        "GetSnapshotProperties": vss.GET_PROPERTIES,
    }
    assert {name: METHODS.index(name) for name in places} == places
    assert ctypes.sizeof(vss.Properties) == 128


def test_one_set_with_writers() -> None:
    windows = Vss()
    one = new_set(windows)
    one.take(VOLUMES)

    assert windows.names == WHOLE
    called = {entry[0]: entry[1:] for entry in windows.log}
    assert called["SetContext"] == (0,)
    assert called["SetBackupState"] == (False, True, 5, False)
    assert [(each.volume, each.device[-2:]) for each in one.snapshots] == [
        (VOLUMES[0], "y7"),
        (VOLUMES[1], "y8"),
    ]
    assert one.frozen_at == "2024-01-17T21:20:00.000+00:00"
    assert (windows.freed_texts, windows.freed_properties) == (2, 2)
    assert 0 < one.milliseconds < 5000
    assert [(each.name, each.good) for each in one.writers] == [("NTDS", True)]

    assert one.complete() == []
    one.close()
    assert windows.names[len(WHOLE) :][:2] == ["BackupComplete", "BackupComplete.Release"]
    assert windows.released == 1
    assert "AbortBackup" not in windows.names


def test_a_set_that_was_not_read_to_the_end_is_aborted() -> None:
    windows = Vss()
    one = new_set(windows)
    one.take(VOLUMES)
    one.close()
    assert windows.names[-2:] == ["AbortBackup", "Release"]
    assert "BackupComplete" not in windows.names


def test_without_writers_none_is_asked() -> None:
    windows = Vss()
    one = new_set(windows, vss.WITHOUT_WRITERS)
    one.take(VOLUMES)
    one.complete()
    one.close()
    assert [name for name in windows.names if "Writer" in name or "Prepare" in name] == []
    assert "BackupComplete" not in windows.names
    assert len([name for name in windows.names if name == "GetSnapshotProperties"]) == 2


def test_volumes_that_no_provider_takes_are_left_out() -> None:
    windows = Vss()
    windows.unsupported = [VOLUMES[0]]
    one = new_set(windows)
    one.take(VOLUMES)
    assert one.left_out == [VOLUMES[0]]
    assert [each.volume for each in one.snapshots] == [VOLUMES[1]]


STEPS = [name for name in dict.fromkeys(WHOLE) if "." not in name and name[:4] != "Free"]


@pytest.mark.parametrize("step", STEPS)
def test_every_failure_lets_go(step: str) -> None:
    windows = Vss()
    windows.results[step] = 0x80042302  # VSS_E_UNEXPECTED
    one = new_set(windows)
    with pytest.raises(ComError) as caught:
        one.take(VOLUMES)
    one.close()
    assert (caught.value.what, caught.value.number) == (step, 0x80042302)
    assert windows.released == 1
    begun = "StartSnapshotSet" in windows.names and step != "StartSnapshotSet"
    assert ("AbortBackup" in windows.names) == begun
    tasks = [name for name in windows.names if name in vss.LIMITS_S]
    assert len([name for name in windows.names if name.endswith(".Release")]) == len(tasks)


def test_what_hangs_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Vss()
    windows.pending = 1 << 30
    monkeypatch.setitem(vss.LIMITS_S, "GatherWriterMetadata", 0.0)
    with pytest.raises(ComError) as caught:
        new_set(windows).take(VOLUMES)
    assert caught.value.number == vss.TIMED_OUT
    assert windows.names[-2:] == ["GatherWriterMetadata.Cancel", "GatherWriterMetadata.Release"]


def test_asked_to_leave_it_cancels() -> None:
    windows = Vss()
    windows.pending = 1 << 30

    class Leave(BaseException):
        pass

    def check() -> None:
        raise Leave

    one = SnapshotSet(windows.components(), windows.freeing(), check)
    with pytest.raises(Leave):
        one.take(VOLUMES)
    assert "GatherWriterMetadata.Cancel" in windows.names


# -- what is decided -----------------------------------------------------------------------------


def decide(windows: Vss, waited: List[float]) -> Any:
    return take_snapshots(VOLUMES, lambda context: new_set(windows, context), waited.append)


def contexts(windows: Vss) -> List[int]:
    return [one[1] for one in windows.log if one[0] == "SetContext"]


def test_all_writers_good_is_consistent_for_applications() -> None:
    windows = Vss((("NTDS", 5, 0), ("SqlServerWriter", 5, 0)))
    found, applied = decide(windows, [])
    assert [one.name for one in applied] == ["NTDS", "SqlServerWriter"]
    assert consistency("filesystem", applied) == "application"
    found.close()


def test_a_writer_that_failed_is_recorded() -> None:
    windows = Vss((("NTDS", 5, 0), ("SqlServerWriter", 9, 0x800423F4)))
    _, applied = decide(windows, [])
    assert consistency("filesystem", applied) == "filesystem"
    assert applied[1].error == "Its VSS writer failed (state 9, 0x800423f4)."


def test_what_may_pass_is_tried_again() -> None:
    windows = Vss()
    windows.results["StartSnapshotSet"] = vss.BUSY
    waited: List[float] = []

    def make(context: int) -> SnapshotSet:
        if len(waited) == 2:
            windows.results.clear()
        return new_set(windows, context)

    _, applied = take_snapshots(VOLUMES, make, waited.append)
    assert contexts(windows) == [0, 0, 0]
    assert waited == [snapshots.PAUSE_S] * 2
    assert all(one.good for one in applied)


def test_without_writers_if_they_can_not_be_had() -> None:
    windows = Vss()
    windows.results["GatherWriterMetadata"] = 0x80042318  # VSS_E_WRITER_INFRASTRUCTURE
    found, applied = decide(windows, [])
    assert contexts(windows) == [0, 0x10]
    assert len(found.snapshots) == 2
    assert consistency("filesystem", applied) == "filesystem"
    assert "0x80042318" in applied[0].error


@pytest.mark.parametrize(
    ("number", "word"),
    [(vss.NOT_ALLOWED, "administrator"), (vss.NO_SPACE, "room"), (vss.TOO_MANY, "Delete")],
)
def test_what_would_fail_without_writers_too_is_told_at_once(number: int, word: str) -> None:
    windows = Vss()
    windows.results["DoSnapshotSet"] = number
    with pytest.raises(NotfallError) as caught:
        decide(windows, [])
    assert contexts(windows) == [0]
    assert caught.value.code == "no-snapshot"
    assert word in caught.value.remedy
    assert windows.released == 1


def test_no_volume_that_can_be_held() -> None:
    windows = Vss()
    windows.unsupported = VOLUMES
    with pytest.raises(NotfallError) as caught:
        decide(windows, [])
    assert caught.value.code == "no-snapshot"


def test_a_disk_that_stays_busy_ends_without_a_snapshot() -> None:
    windows = Vss()
    windows.results["DoSnapshotSet"] = vss.FLUSH_TIMEOUT
    waited: List[float] = []
    with pytest.raises(NotfallError) as caught:
        decide(windows, waited)
    assert contexts(windows) == [0] * 4 + [0x10] * 4
    assert "quieter" in caught.value.remedy
    assert windows.released == 8
