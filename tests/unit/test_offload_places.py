"""Places of off-loads: what is refused, when what is due, what stays secret."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notfallserver.server.cli.rebuilding import read_source
from notfallserver.server.host.follow import Ended
from notfallserver.server.offload.place import (
    Kind,
    Medium,
    Place,
    Standing,
    check_is_due,
    check_place,
    is_due,
    last_time,
    next_time,
    stands,
)
from notfallserver.server.offload.places import Places, make_key, read_key, ssh_config
from notfallserver.server.offload.restic import _error
from notfallserver.server.offload.vault import address_of
from notfallserver.wire.errors import NotfallError

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
GOOD = Place("", "nas", Kind.DIRECTORY, "/mnt/nas")
S3 = replace(GOOD, kind=Kind.S3, url="https://s3.example.com", path="bucket/office")
KEYS = {"access_key": "a", "secret_key": "b"}


@pytest.mark.parametrize(
    "place",
    [
        replace(GOOD, name=""),
        replace(GOOD, name="../x"),
        replace(GOOD, path="mnt"),
        replace(GOOD, path="/mnt/../etc"),
        replace(GOOD, path="/mnt\n"),
        replace(GOOD, times=("25:00",)),
        replace(GOOD, check_days=-1),
        replace(GOOD, kind=Kind.DISK),
        replace(GOOD, kind=Kind.DISK, disks=("../../sda",)),
        replace(GOOD, kind=Kind.SFTP, host="h", user="-oProxyCommand=x"),
        replace(GOOD, kind=Kind.SFTP, host="a b", user="u"),
        replace(S3, url="https://me:secret@s3.example.com"),
        replace(S3, url="file:///etc"),
        replace(S3, path=""),
        replace(GOOD, kind=Kind.REST, url="example.com"),
    ],
    ids=str,
)
def test_what_can_be_no_place_is_refused(place: Place) -> None:
    with pytest.raises(NotfallError) as refused:
        check_place(place, KEYS)
    assert refused.value.code == "bad-place" and refused.value.remedy


def test_s3_needs_its_keys() -> None:
    check_place(S3, KEYS)
    with pytest.raises(NotfallError):
        check_place(S3, {})


def test_a_key_is_read_as_it_is_typed_from_paper() -> None:
    key = make_key()
    assert len(key) == 47 and make_key() != key
    assert read_key(f" {key.lower().replace('-', ' ')} ") == key
    assert read_key("somebody's own, kept as it is") == "somebody's own, kept as it is"


def test_secrets_are_for_root_alone_and_never_shown(tmp_path: Path) -> None:
    places = Places(tmp_path)
    rest = replace(GOOD, kind=Kind.REST, url="https://backup.example.com/", path="office")
    made, key = places.add(rest, {"user_name": "me", "password": "a/b:c@d", "access_key": ""})
    assert places.find("NAS") == made and places.key(made) == key
    for path in places.folder(made).rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
    assert "a/b" not in f"{made.shown}{made.to_json()}" and key not in str(made.to_json())
    address = address_of(made, Path(), places.secrets(made))
    assert address == "rest:https://me:a%2Fb%3Ac%40d@backup.example.com/office/"
    with pytest.raises(NotfallError) as refused:
        places.add(GOOD, {})
    assert refused.value.code == "place-exists"
    places.remove(made)
    assert places.all() == [] and not any(places.root.iterdir())


def test_what_is_known_of_a_place_may_be_lost(tmp_path: Path) -> None:
    places = Places(tmp_path)
    made, _ = places.add(GOOD, {})
    places.note(made, "", lambda one: replace(one, done_at="2026-11-27T00:00:00+00:00"))
    assert places.medium(made, "").done_at
    (places.folder(made) / "state.json").write_text("torn")
    assert places.medium(made, "") == Medium()
    places.note(made, "", lambda one: replace(one, unclean=True))
    assert places.medium(made, "").unclean


def test_nobodys_own_ssh_settings_count(tmp_path: Path) -> None:
    place = replace(GOOD, kind=Kind.SFTP, host="h.example", user="backup", port=2222)
    told = ssh_config(tmp_path, place)
    assert "StrictHostKeyChecking yes" in told and "BatchMode yes" in told
    assert "GlobalKnownHostsFile /dev/null" in told and "Port 2222" in told


def test_a_place_is_due_at_its_times_and_when_a_disk_comes() -> None:
    times = ("06:00", "21:30")
    assert last_time(times, NOW) == NOW.replace(hour=6)
    assert next_time(times, NOW) == NOW.replace(hour=21, minute=30)
    assert last_time((), NOW) is None and next_time((), NOW) is None
    place = replace(GOOD, times=times)
    assert is_due(place, Medium(), NOW)
    done = Medium(done_at=(NOW - timedelta(hours=1)).isoformat())
    assert not is_due(place, done, NOW)
    failed = Medium(tried_at=(NOW - timedelta(minutes=5)).isoformat())
    assert not is_due(place, failed, NOW) and is_due(place, failed, NOW + timedelta(hours=1))
    assert not is_due(GOOD, Medium(), NOW)
    came = NOW - timedelta(seconds=5)
    assert is_due(GOOD, done, NOW, came)
    assert not is_due(GOOD, Medium(done_at=NOW.isoformat()), NOW, came)


def test_checks_are_due_after_days_and_not_tried_without_end() -> None:
    old = (NOW - timedelta(days=8)).isoformat()
    assert not check_is_due(GOOD, Medium(), NOW)
    known = Medium(made_at=old, done_at=old)
    assert check_is_due(GOOD, known, NOW)
    assert not check_is_due(replace(GOOD, check_days=0), known, NOW)
    assert not check_is_due(GOOD, replace(known, checked_at=NOW.isoformat()), NOW)
    assert not check_is_due(GOOD, replace(known, check_tried_at=NOW.isoformat()), NOW)


def test_how_a_place_stands() -> None:
    made = NOW - timedelta(days=30)
    daily = replace(GOOD, times=("03:00",))
    well = Medium(done_at=(NOW - timedelta(hours=3)).isoformat())
    assert stands(daily, {"": well}, made, NOW) is Standing.WELL
    assert stands(GOOD, {}, made, NOW) is Standing.NEW
    late = Medium(done_at=(NOW - timedelta(days=2)).isoformat())
    assert stands(daily, {"": late}, made, NOW) is Standing.OVERDUE
    assert stands(daily, {}, NOW, NOW) is Standing.NEW
    assert stands(daily, {"": replace(well, problem="x")}, made, NOW) is Standing.FAILED
    damaged = replace(well, problem="x", check_problem="y")
    assert stands(daily, {"": damaged}, made, NOW) is Standing.DAMAGED
    disks = replace(GOOD, kind=Kind.DISK, disks=("a1b2", "c3d4"))
    assert stands(disks, {"a1b2": well}, made, NOW) is Standing.WELL
    old = Medium(done_at=(NOW - timedelta(days=9)).isoformat())
    assert stands(disks, {"a1b2": old}, made, NOW) is Standing.OVERDUE


@pytest.mark.parametrize(
    ("code", "tail", "known"),
    [
        (1, "Fatal: wrong password or no key found", "offload-wrong-key"),
        (1, "Fatal: unable to open config file: stat: no such file", "offload-nothing-there"),
        # Asked while the place is away: a repository must never be taken for missing then.
        (
            1,
            "Fatal: unable to open config file: Head: dial tcp 127.0.0.1:1: connect: connection "
            "refused\nIs there a repository at the following location?",
            "offload-no-way",
        ),
        (1, "unable to create lock in backend: repository is already locked", "offload-locked"),
        (1, "write /x: no space left on device", "offload-full"),
        (-9, "", "offload-broken-off"),
        (1, "something else", "offload-failed"),
    ],
)
def test_what_the_engine_says_has_a_code(code: int, tail: str, known: str) -> None:
    assert _error(Ended(code, tail)).code == known


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("/mnt/disk", Kind.DIRECTORY, "/mnt/disk"),
        ("/mnt/disk/notfall-offload", Kind.DIRECTORY, "/mnt/disk"),
        ("disk:1234-ABCD", Kind.DISK, "1234-ABCD"),
        ("sftp://me@h:2222/backup/office", Kind.SFTP, "sftp://me@h:2222/backup/office"),
        ("s3:https://s3.example.com/bucket/o", Kind.S3, "https://s3.example.com/bucket/o"),
        ("rest:http://h:8000/office", Kind.REST, "http://h:8000/office"),
    ],
)
def test_a_lost_server_is_looked_for_where_it_was_carried(
    text: str, kind: Kind, shown: str
) -> None:
    place = read_source(text, {}, "", None).place
    assert (place.kind, place.shown) == (kind, shown)
    check_place(place, KEYS)
