"""Versions on tapes, files and pipes: written, lost in parts, read back, also by GNU tar alone."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from carry_scene import SIZES, Scene
from tape_double import Cartridge, Library

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.cycle import tapes
from notfallserver.server.cycle.tape_restore import Wish as Restore
from notfallserver.server.cycle.tapes import Wish
from notfallserver.server.media import places
from notfallserver.server.media.age import new_key
from notfallserver.server.media.drive import RECORD
from notfallserver.server.media.places import Kind
from notfallserver.server.media.restore import Choice
from notfallserver.server.pool.version import check_version, read_version
from notfallserver.server.records.jobs import Job
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
SPAN = 16
"""Blocks of a segment: 1 MiB, as names of segments tell MiB."""
VOLUME = 5 << 20


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(tapes, "ASK_S", 0.05)
    made = Scene(tmp_path)
    made.version = made.add_version({0: [*range(60), *range(200, 240, 2), 400], 1: [3, 79]}, seed=1)
    yield made
    made.close()


@pytest.fixture
def library(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library(scene.directory / "nst0")
    kind_of = places.kind_of
    monkeypatch.setattr(places, "open_drive", made.open)
    monkeypatch.setattr(
        places, "kind_of", lambda path: Kind.TAPE if path == made.path else kind_of(path)
    )
    return made


def begin(scene: Scene, to: Path, **wish: Any) -> Job:
    versions = ((scene.uuid, scene.version.stamp),)
    return scene.tapes.begin(Wish(to, versions, **{"span": SPAN, "label": "eve", **wish}), "ada")


def done(scene: Scene, job: Job) -> dict[str, Any]:
    job = scene.end_of(job)
    assert job.state == "done", job.error
    return job.result


def waits(scene: Scene, job: Job) -> dict[str, Any]:
    """What the job asks of a person."""
    until = time.monotonic() + PATIENCE_S
    while not (told := scene.catalogue.jobs.find(job.id)).notes.get("waiting"):
        assert not told.finished, told.error
        assert time.monotonic() < until
        time.sleep(0.02)
    waiting: dict[str, Any] = told.notes["waiting"]
    return waiting


def restore(scene: Scene, source: Path, name: str = "back", **wish: Any) -> Job:
    to = scene.directory / name
    to.mkdir(exist_ok=True)
    chosen = Choice(wish.pop("primary", ""), wish.pop("stamp", ""), wish.pop("disk", -1))
    return scene.restores.begin(Restore(source, chosen, to, **wish), "ada")


def same(scene: Scene, folder: Path) -> None:
    made = read_version(folder)
    assert check_version(made) == []
    assert made.manifest == scene.version.manifest
    for disk in (0, 1):
        assert made.raw(disk).read_bytes() == scene.version.raw(disk).read_bytes()


def folder(scene: Scene, name: str = "back") -> Path:
    (found,) = (scene.directory / name).glob("*/*")
    return found


def shell(line: str, cwd: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


TO_RAW = """
cd shop-*/*/
for disk in disk*/; do
  for part in "$disk"*M; do
    place=$(basename "$part" M)
    dd if="$part" of="${disk%/}.raw" bs=1M seek=$((10#$place)) conv=notrunc,sparse status=none
  done
done
"""
"""As in docs/on-disk.md."""


def test_files_of_a_size_are_media_and_gnu_tar_alone_gives_the_disks_back(scene: Scene) -> None:
    result = done(scene, begin(scene, scene.to, volume=VOLUME))
    media = sorted(scene.to.iterdir())
    assert [one.name for one in media] == ["eve-001.tar", "eve-002.tar"]
    assert all(one.stat().st_size <= VOLUME for one in media)
    assert result["media"] == 2 and scene.pins() == {}
    out = scene.directory / "out"
    out.mkdir()
    for one in media:
        shell(f"tar -xf {one} --warning=no-unknown-keyword", out)
    shell(TO_RAW, out)
    for disk, size in enumerate(SIZES):
        (raw,) = out.glob(f"shop-*/*/disk{disk}.raw")
        os.truncate(raw, size)
        assert raw.read_bytes() == scene.version.raw(disk).read_bytes()
    done(scene, restore(scene, scene.to))
    same(scene, folder(scene))
    (known,) = scene.tapes.sets()
    assert known["complete"] and [one["number"] for one in known["media"]] == [1, 2]
    with pytest.raises(NotfallError) as caught:
        scene.tapes.begin(Wish(media[0], ((scene.uuid, ""),)), "ada")
    assert caught.value.code == "export-exists"


def test_tapes_are_changed_by_hand_and_each_is_an_archive_of_its_own(
    scene: Scene, library: Library
) -> None:
    first, second, valuable = (Cartridge(4 << 20) for _ in range(3))
    library.inside = None
    job = begin(scene, library.path)
    assert waits(scene, job)["code"] == "tape-empty-drive"
    library.inside = first
    scene.tapes.go_on(job.id, {}, "ada")
    until = time.monotonic() + PATIENCE_S
    while waits(scene, job)["code"] != "tape-next":
        assert time.monotonic() < until
    assert waits(scene, job)["medium"] == 2
    library.inside = first  # whoever forgets to change it loses nothing
    scene.tapes.go_on(job.id, {}, "ada")
    while waits(scene, job)["code"] != "tape-holds-set":
        assert time.monotonic() < until
    library.inside = valuable
    valuable.records = [b"\1" * RECORD, None]
    scene.tapes.go_on(job.id, {}, "ada")
    while waits(scene, job)["code"] != "tape-foreign":
        assert time.monotonic() < until
    assert valuable.written == 0
    library.inside = second
    scene.tapes.go_on(job.id, {}, "ada")
    assert done(scene, job)["media"] == 2
    out = scene.directory / "out"
    out.mkdir()
    for number, tape in enumerate((first, second)):
        assert tape.used <= tape.capacity + 2 * RECORD and tape.records[-1] is None
        (out / f"{number}.tar").write_bytes(tape.content())
        shell(f"tar -b512 -xf {number}.tar --warning=no-unknown-keyword; rm {number}.tar", out)
    # the other way round, from the tapes alone
    for path in (scene.directory / "data/tape").iterdir():
        path.unlink()
    library.inside = second
    back = restore(scene, library.path)
    assert waits(scene, back)["media"] == [1]
    library.inside = first
    scene.restores.tapes.go_on(back.id, {}, "ada")
    done(scene, back)
    same(scene, folder(scene))


def test_a_tape_that_cannot_go_back_ends_torn_and_nothing_is_lost(
    scene: Scene, library: Library
) -> None:
    first, second = Cartridge(4 << 20, goes_back=False), Cartridge()
    library.inside = first
    job = begin(scene, library.path)
    assert waits(scene, job)["code"] == "tape-next"
    library.inside = second
    scene.tapes.go_on(job.id, {}, "ada")
    done(scene, job)
    back = restore(scene, library.path)
    waits(scene, back)
    library.inside = first
    scene.tapes.go_on(back.id, {}, "ada")
    done(scene, back)
    same(scene, folder(scene))


def test_damage_costs_only_the_blocks_that_it_hit(scene: Scene, library: Library) -> None:
    tape = library.inside = Cartridge()
    done(scene, begin(scene, library.path))
    content = tape.content()
    block = scene.version.raw(0).read_bytes()[20 * BLOCK : 21 * BLOCK]
    at = content.index(block)
    record = bytearray(tape.records[at // RECORD] or b"")
    record[at % RECORD + 5] ^= 1
    tape.records[at // RECORD] = bytes(record)
    job = scene.end_of(restore(scene, library.path, partial=True))
    assert job.error is not None and job.error["code"] == "tape-incomplete"
    place = folder(scene)
    assert place.name.endswith("-incomplete")
    (told,) = json.loads((place / "missing.json").read_text())
    assert (told["disk"], told["blocks"]) == (0, [[20, 1]])
    raw = bytearray(scene.version.raw(0).read_bytes())
    raw[20 * BLOCK : 21 * BLOCK] = bytes(BLOCK)
    assert (place / "disk0.raw").read_bytes() == raw
    # a record that can't be read, with a header in it
    header = content.index(b"PaxHeaders/000000003M")
    tape.bad = {header // RECORD}
    job = scene.end_of(restore(scene, library.path, "again", partial=True))
    assert job.error is not None and job.error["code"] == "tape-incomplete"
    (told,) = json.loads((folder(scene, "again") / "missing.json").read_text())
    lost = {n for first, count in told["blocks"] for n in range(first, first + count)}
    assert set(range(48, 60)) <= lost <= {20, *range(44, 60), *range(200, 208)}
    # the label and the contents, too: another medium would be needed to begin with
    tape.bad = {0}
    job = scene.end_of(restore(scene, library.path, "third", partial=True))
    assert job.error is not None and job.error["code"] == "tape-not-ours"


def test_one_disk_comes_back_from_a_pipe(scene: Scene) -> None:
    pipe, other = scene.directory / "pipe", scene.directory / "other"
    os.mkfifo(pipe)
    os.mkfifo(other)
    copied = scene.directory / "copied.tar"
    job = begin(scene, pipe)
    with copied.open("wb") as out:
        subprocess.run(["cat", str(pipe)], stdout=out, check=True, timeout=60)
    done(scene, job)
    feeder = subprocess.Popen(["cp", str(copied), str(other)], stderr=subprocess.DEVNULL)
    try:
        done(scene, restore(scene, other, disk=1))
    finally:
        feeder.wait(PATIENCE_S)
    place = folder(scene)
    assert (place / "disk1.raw").read_bytes() == scene.version.raw(1).read_bytes()
    assert not (place / "disk0.raw").exists()


def test_what_is_encrypted_is_opened_by_age_and_tar_or_by_nobody(scene: Scene) -> None:
    secret, public = new_key()
    key = scene.directory / "key"
    key.write_text(secret + "\n")
    done(scene, begin(scene, scene.to, recipients=(public,)))
    (medium,) = scene.to.iterdir()
    content = medium.read_bytes()
    assert b"shop" not in content
    assert scene.version.raw(0).read_bytes()[BLOCK : BLOCK + 64] not in content
    out = scene.directory / "out"
    out.mkdir()
    line = f"tar -xf {medium} --warning=no-unknown-keyword; for one in segment-*.tar.age; do "
    line += f"age -d -i {key} $one | tar -x --warning=no-unknown-keyword; done"
    shell(line, out)
    shell(TO_RAW, out)
    (raw,) = out.glob("shop-*/*/disk1.raw")
    assert raw.read_bytes() == scene.version.raw(1).read_bytes()
    job = scene.end_of(restore(scene, medium))
    assert job.error is not None and job.error["code"] == "tape-encrypted"
    wrong = scene.directory / "wrong"
    wrong.write_text(new_key()[0] + "\n")
    job = scene.end_of(restore(scene, medium, identity=wrong))
    assert job.error is not None and job.error["code"] == "tape-wrong-key"
    done(scene, restore(scene, medium, "opened", identity=key))
    same(scene, folder(scene, "opened"))
    (told,) = scene.restores.look(medium, None)
    assert told["encrypted"] and told["contents"] is None
    (told,) = scene.restores.look(medium, key)
    assert told["contents"]["versions"][0]["name"] == "shop"


def test_a_killed_server_begins_the_medium_anew(scene: Scene, library: Library) -> None:
    first, second = Cartridge(4 << 20), Cartridge()
    library.inside = first
    job = begin(scene, library.path)
    waits(scene, job)
    scene.runner.stop()
    assert list(scene.pins()) == [scene.version.stamp]
    # as after a kill in the middle of the second one
    scene.catalogue.jobs.note(job.id, {"waiting": None})
    second.records = list(first.records[:5])
    library.inside = second
    scene.start()
    (again,) = scene.runner.resume_unfinished()
    assert waits(scene, again)["code"] == "tape-next"
    scene.tapes.go_on(again.id, {}, "ada")
    time.sleep(0.5)
    assert waits(scene, again)["code"] == "tape-holds-set"  # it is a copy of the first
    second.records = []
    scene.tapes.go_on(again.id, {}, "ada")
    assert done(scene, again)["media"] == 2
    assert scene.pins() == {}


def test_a_version_comes_back_into_the_pool(scene: Scene) -> None:
    done(scene, begin(scene, scene.to))
    newer = scene.add_version({0: [7], 1: [7]}, seed=3)
    scene.catalogue.primaries.new_version(scene.uuid, newer.stamp)
    old = scene.version
    scene.store.remove_version(old.stamp)
    (medium,) = scene.to.iterdir()
    job = scene.restores.begin(Restore(medium, Choice()), "ada")
    done(scene, job)
    again = scene.store.version(old.stamp)
    assert again.manifest == old.manifest and check_version(again) == []
    assert scene.row.newest_version == newer.stamp
    scene.store.remove_version(newer.stamp)
    job = scene.end_of(scene.restores.begin(Restore(medium, Choice()), "ada"))
    assert job.error is not None and job.error["code"] == "tape-not-older"


def test_a_tape_with_a_name_and_no_set_is_free(scene: Scene, library: Library) -> None:
    tape = library.inside = Cartridge()
    scene.tapes.label_tape(library.path, "A-004", "")
    (told,) = scene.restores.look(library.path, None)
    assert (told["label"], told["set"]) == ("A-004", "")
    done(scene, begin(scene, library.path))
    with pytest.raises(NotfallError) as caught:
        scene.tapes.label_tape(library.path, "A-005", "")
    assert caught.value.code == "tape-holds-set"
    scene.tapes.label_tape(library.path, "A-005", "eve")
    assert tape.used == RECORD


Change = Callable[[Cartridge], None]


@pytest.mark.parametrize("bad", [0, 3])
def test_a_tape_that_reads_back_otherwise_is_not_taken_for_written(
    scene: Scene, library: Library, bad: int
) -> None:
    worn = library.inside = Cartridge(bad={bad})
    job = begin(scene, library.path, overwrite="unreadable")
    assert waits(scene, job)["code"] == "tape-differs"
    assert scene.tapes.sets() == [] and worn.written
    library.inside = Cartridge()
    scene.tapes.go_on(job.id, {}, "ada")
    done(scene, job)
