"""What is staged for the engine, and what of it comes back: holes cost nothing."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from notfallserver.server.offload import segments
from notfallserver.server.offload.assemble import assemble
from notfallserver.server.offload.bring_back import bring_disk, bring_version
from notfallserver.server.offload.segments import stage_version, told_time
from notfallserver.server.pool.incoming import utc_now
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Manifest, Version, check_version
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine
from notfallserver.wire.frames import ZLIB, write_blocks

BLOCKS = 41
SIZE = 40 * BLOCK + 4096  # the last block is short


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of 4 blocks, folders of 4 stretches: a small disk has several."""
    from notfallserver.server.offload import bring_back

    for module in (segments, bring_back):
        monkeypatch.setattr(module, "STRETCH", 4)
        monkeypatch.setattr(module, "GROUP", 4)


@pytest.fixture
def store(tmp_path: Path) -> PrimaryStore:
    return Pool(tmp_path / "pool").add_primary(str(uuid4()), "shop")


def content(number: int, seed: int = 0) -> bytes:
    length = 4096 if number == 40 else BLOCK
    return random.Random(number * 1000 + seed).randbytes(length)


def make(store: PrimaryStore, blocks: dict[int, bytes], holes: Sequence[int] = ()) -> Version:
    entries = [(number, hash_block(data)) for number, data in sorted(blocks.items())]
    newest = store.newest()
    incoming = store.open_incoming("run", [Disk("vda", SIZE)])
    with incoming:
        body = b"".join(data for _, data in sorted(blocks.items()))
        incoming.receive(write_blocks(0, entries, body, ZLIB))
        if holes:
            incoming.punch(0, [(one, 1) for one in holes])
    return incoming.seal(
        Manifest(
            primary=store.uuid,
            name="shop",
            stamp=store.fresh_stamp(),
            kind="replication",
            consistency="filesystem",
            base=newest.stamp if newest else "",
            machine=Machine("shop", disks=[Disk("vda", SIZE)]),
            disks=(),
            started_at=utc_now(),
            sealed_at=utc_now(),
        )
    )


USED = (0, 1, 2, 17, 20, 40)


@pytest.fixture
def version(store: PrimaryStore) -> Version:
    return make(store, {number: content(number) for number in USED})


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(one.relative_to(folder)): (one.stat().st_size, one.stat().st_mtime_ns)
        for one in sorted(folder.rglob("*"))
        if one.is_file()
    }


def test_only_what_is_used_is_there(version: Version, tmp_path: Path) -> None:
    total = stage_version(version, tmp_path / "staged")
    staged = files(tmp_path / "staged")
    parts = {name: size for name, (size, _) in staged.items() if name.startswith("disk")}
    assert parts == {
        "disk0/00000/index": 16 * 16,
        "disk0/00000/0000": 3 * BLOCK,
        "disk0/00001/index": 16 * 16,
        "disk0/00001/0000": BLOCK,
        "disk0/00001/0001": BLOCK,
        "disk0/00002/index": 9 * 16,
        "disk0/00002/0002": 4096,
    }
    assert total == 5 * BLOCK + 4096


def test_equal_content_has_the_equal_time_and_other_content_another(
    store: PrimaryStore, version: Version, tmp_path: Path
) -> None:
    """By that the engine tells what it need not read: a wrong one would lose a change."""
    stage_version(version, tmp_path / "one")
    changed = make(store, {17: content(17, 1)})
    stage_version(changed, tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    differing = {name for name in one if name.startswith("disk") and one[name] != two[name]}
    assert differing == {"disk0/00001/index", "disk0/00001/0000"}
    assert one["disk0/00001/0000"][0] == two["disk0/00001/0000"][0]  # by its time alone
    stage_version(version, tmp_path / "again")
    assert files(tmp_path / "again") == one
    times = {told_time(number.to_bytes(4, "big")) for number in range(5000)}
    assert len(times) == 5000 and max(times) < (1 << 31) * 10**9


def test_ten_lines_of_python_put_it_together(version: Version, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    stage_version(version, staged)
    assemble(staged, 0, tmp_path / "disk.raw")
    assert (tmp_path / "disk.raw").read_bytes() == version.raw(0).read_bytes()
    source = Path(segments.__file__).with_name("assemble.py").read_bytes()
    assert (staged / "assemble.py").read_bytes() == source


class Engine:
    """Brings paths of a staged version as the real one would, and remembers which."""

    def __init__(self, staged: Path) -> None:
        self.staged = staged
        self.segments: list[str] = []

    def fetch(self, paths: Sequence[str], target: Path, total: int) -> None:
        for one in self.staged.rglob("*"):
            path = f"/{one.relative_to(self.staged)}"
            wanted = any(
                path == name or path.startswith(f"{name}/") or one.name == name for name in paths
            )
            if one.is_file() and wanted:
                (target / path[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(one, target / path[1:])
                if one.name not in ("index", "manifest.json", "offload.json"):
                    self.segments.append(path)


def nothing(phase: str, done: int, total: int) -> None:
    assert done <= total


def test_a_lost_version_comes_back_with_what_differs_alone(
    store: PrimaryStore, version: Version, tmp_path: Path
) -> None:
    stage_version(version, tmp_path / "staged")
    raw = version.raw(0).read_bytes()
    make(store, {17: content(17, 1), 30: content(30)}, holes=[20])
    store.remove_version(version.stamp)
    engine = Engine(tmp_path / "staged")
    back = bring_version(store, store.uuid, version.stamp, engine.fetch, nothing)
    assert back.manifest == version.manifest
    assert check_version(back) == [] and back.raw(0).read_bytes() == raw
    assert sorted(engine.segments) == ["/disk0/00001/0000", "/disk0/00001/0001"]
    assert list(store.paths.work.iterdir()) == []
    again = Engine(tmp_path / "none")
    assert bring_version(store, store.uuid, version.stamp, again.fetch, nothing) == back


def test_into_an_empty_pool_all_of_it_comes(version: Version, tmp_path: Path) -> None:
    stage_version(version, tmp_path / "staged")
    other = Pool(tmp_path / "other").add_primary(version.manifest.primary, "shop")
    engine = Engine(tmp_path / "staged")
    back = bring_version(other, other.uuid, version.stamp, engine.fetch, nothing)
    assert check_version(back) == [] and len(engine.segments) == 4
    bring_disk(
        tmp_path / "work",
        other.uuid,
        version.stamp,
        0,
        tmp_path / "disk.raw",
        engine.fetch,
        nothing,
    )
    assert (tmp_path / "disk.raw").read_bytes() == version.raw(0).read_bytes()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "what", ["0000", "index", "manifest.json", "offload.json", "short", "gone"]
)
def test_nothing_wrong_gets_in(version: Version, tmp_path: Path, what: str) -> None:
    staged = tmp_path / "staged"
    stage_version(version, staged)
    segment = staged / "disk0" / "00000" / "0000"
    if what == "short":
        segment.write_bytes(segment.read_bytes()[:-1])
    elif what == "gone":
        segment.unlink()
    elif what.endswith(".json"):
        text = (staged / what).read_text()
        (staged / what).write_text(text.replace(version.stamp, "20200101T000000.000Z"))
        if what == "offload.json":
            (staged / what).write_text("{}")
    else:
        flip(staged / "disk0" / "00000" / what)
    other = Pool(tmp_path / "other").add_primary(version.manifest.primary, "shop")
    with pytest.raises(NotfallError) as refused:
        bring_version(other, other.uuid, version.stamp, Engine(staged).fetch, nothing)
    wanted = "unknown-format" if what == "offload.json" else "offload-damaged"
    assert refused.value.code == wanted
    assert other.versions() == [] and list(other.paths.work.iterdir()) == []


def test_a_base_that_is_not_right_is_not_built_on(
    store: PrimaryStore, version: Version, tmp_path: Path
) -> None:
    """Damage of the pool's own version is not taken over: all comes from the place then."""
    stage_version(version, tmp_path / "staged")
    newer = make(store, {30: content(30)})
    store.remove_version(version.stamp)
    with newer.raw(0).open("r+b") as raw:
        raw.write(b"damaged")
    engine = Engine(tmp_path / "staged")
    back = bring_version(store, store.uuid, version.stamp, engine.fetch, nothing)
    assert check_version(back) == []
