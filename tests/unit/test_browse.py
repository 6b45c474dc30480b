"""Files of a copy: a hostile tree behind a real SFTP server, and archives of it.

The server is OpenSSH's, as in the appliance, with a directory of this machine in the place of the
volumes. So a path that leads out of the volume would be found: there is something to find. (That a
folder becomes a link between two looks can't be: the appliance mounts its volumes read-only.)
"""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.cycle.browse.archive import LIST, fit_name, tar_pieces, zip_pieces
from notfallserver.server.cycle.browse.names import shown
from notfallserver.server.cycle.browse.sftp import Kind, SftpClient
from notfallserver.server.cycle.browse.shelf import placed
from notfallserver.server.cycle.browse.tree import Order, VolumeTree, Wanted, matcher, natural
from notfallserver.server.vm.appliance import ShownVolume, read_volumes
from notfallserver.server.web.sending import Pieces, asked_part
from notfallserver.server.web.words.paths import attachment, crumbs, token, untoken
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Partition

SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
ODD = (b"caf\xe9", b"line\nbreak", b"<img src=x>", b"100% #1?", "ünï".encode())


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A volume, and a secret beside it."""
    (tmp_path / "secret").write_text("not of this volume")
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


@pytest.fixture
def tree(ground: Path, threads: ThreadPoolExecutor) -> Iterator[VolumeTree]:
    if not SFTP_SERVER.exists():
        pytest.skip("openssh-sftp-server is not installed")
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(
            [str(SFTP_SERVER), "-R"], stdin=theirs.fileno(), stdout=theirs.fileno()
        ) as process,
    ):
        theirs.close()
        with closing(SftpClient(ours)) as client:
            yield VolumeTree(client, os.fsencode(ground), threads)
        process.wait(10)


def names(tree: VolumeTree, path: bytes = b"", **wanted: object) -> list[bytes]:
    listing = tree.folder(path, Wanted(**wanted))  # type: ignore[arg-type]
    return [one.name for one in listing.entries]


def content(tree: VolumeTree, path: bytes) -> bytes:
    file = tree.file(path)
    return b"".join(tree.read(file, 0, file.attributes.size))


def refused(code: str) -> pytest.RaisesExc[NotfallError]:
    return pytest.raises(NotfallError, check=lambda error: error.code == code)


# -- paths stay inside ---------------------------------------------------------------------------


def test_links_are_followed_as_the_image_would(tree: VolumeTree, ground: Path) -> None:
    (ground / "etc").mkdir()
    (ground / "etc/hostname").write_text("shop")
    (ground / "absolute").symlink_to("/etc/hostname")
    (ground / "etc/above").symlink_to("../../../../../etc")
    (ground / "folder").symlink_to("etc")
    for path in (b"absolute", b"etc/above/hostname", b"folder/above/hostname", b"etc/../absolute"):
        assert content(tree, path) == b"shop", path
    assert tree.resolve(b"folder/above").path == b"etc"


def test_nothing_leads_out_of_the_volume(tree: VolumeTree, ground: Path) -> None:
    (ground / "up").symlink_to("../secret")
    (ground / "far").symlink_to(ground.parent / "secret")
    (ground / "dots").symlink_to("../" * 30 + str(ground.parent / "secret").lstrip("/"))
    (ground / "root").symlink_to("/")
    outside = os.fsencode(ground.parent / "secret")
    ways = [b"up", b"far", b"dots", b"../secret", b"root/../../secret", outside]
    ways += [b"root" + outside, b"./.././../secret", b"up/", b"//../secret"]
    for way in ways:
        with refused("no-such-file"):
            tree.file(way)
    assert tree.resolve(b"root").path == b"" and tree.resolve(b"../..").path == b""


def test_circles_and_broken_links_end(tree: VolumeTree, ground: Path) -> None:
    (ground / "a").symlink_to("b")
    (ground / "b").symlink_to("a")
    (ground / "self").symlink_to("self/self")
    (ground / "nowhere").symlink_to("/not/there")
    for path in (b"a", b"self", b"nowhere", b"a" * 5000, b"nul\0", b"a/b"):
        with refused("no-such-file"):
            tree.resolve(path)
    assert sorted(names(tree)) == [b"a", b"b", b"nowhere", b"self"]


def test_devices_and_pipes_are_shown_and_never_opened(tree: VolumeTree, ground: Path) -> None:
    os.mkfifo(ground / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(ground / "socket"))
    (ground / "to-pipe").symlink_to("pipe")
    kinds = {one.name: one.kind for one in tree.folder(b"", Wanted()).entries}
    assert kinds == {b"pipe": Kind.OTHER, b"socket": Kind.OTHER, b"to-pipe": Kind.LINK}
    began = time.monotonic()
    for path in (b"pipe", b"socket", b"to-pipe"):
        with refused("no-file"):
            tree.file(path)
    assert time.monotonic() - began < 5
    with refused("no-folder"):
        tree.top(b"pipe")


def test_odd_names_come_back_as_they_are(tree: VolumeTree, ground: Path) -> None:
    for name in ODD:
        Path(os.fsdecode(os.fsencode(ground) + b"/" + name)).write_bytes(name)
    found = tree.folder(b"", Wanted()).entries
    assert {one.name for one in found} == set(ODD)
    for one in found:
        assert content(tree, untoken(token(one.path))) == one.name
        token(one.path).encode("ascii")
        assert shown(one.name).isprintable()


# -- folders -------------------------------------------------------------------------------------


def test_folders_come_first_and_numbers_count(tree: VolumeTree, ground: Path) -> None:
    for name in ("file10", "file9", "File1", ".hidden", "b"):
        (ground / name).write_text("x" * len(name))
    (ground / "z").mkdir()
    os.utime(ground / "b", (1, 1))
    assert names(tree) == [b"z", b"b", b"File1", b"file9", b"file10"]
    assert b".hidden" in names(tree, hidden=True)
    assert names(tree, order=Order.SIZE)[-1] == b"b"
    assert names(tree, order=Order.CHANGED)[-1] == b"b"
    assert names(tree, first=1, count=2) == [b"b", b"File1"]
    assert names(tree, name="FILE") == [b"File1", b"file9", b"file10"]
    assert names(tree, name="f*e?") == [b"File1", b"file9"]
    listing = tree.folder(b"", Wanted(count=1))
    assert (listing.total, listing.hidden, listing.complete) == (5, 1, True)


def test_a_name_is_found_below_but_links_are_not_gone_through(
    tree: VolumeTree, ground: Path
) -> None:
    (ground / "a/b/c").mkdir(parents=True)
    (ground / "a/b/c/invoice.pdf").touch()
    (ground / "a/.cache").mkdir()
    (ground / "a/.cache/invoice.tmp").touch()
    (ground / "a/b/loop").symlink_to("/a")
    found = tree.folder(b"", Wanted("invoice", below=True)).entries
    assert [one.path for one in found] == [b"a/b/c/invoice.pdf"]
    assert len(names(tree, name="invoice", below=True, hidden=True)) == 2


def test_a_search_ends_where_there_is_too_much(
    tree: VolumeTree, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(30):
        (ground / f"f{at}").touch()
    monkeypatch.setattr("notfallserver.server.cycle.browse.tree.FOUND_LIMIT", 10)
    found = tree.folder(b"", Wanted("f", below=True))
    assert (found.total, found.complete) == (10, False)
    monkeypatch.setattr("notfallserver.server.cycle.browse.tree.SEARCH_S", 0)
    assert not tree.folder(b"", Wanted("none", below=True)).complete


def test_a_part_of_a_file_is_exactly_that(tree: VolumeTree, ground: Path) -> None:
    whole = os.urandom(3_000_001)
    (ground / "file").write_bytes(whole)
    file = tree.file(b"file")
    assert b"".join(tree.read(file, 0, len(whole))) == whole
    assert b"".join(tree.read(file, 2_999_999, 2)) == whole[-2:]
    assert list(tree.read(file, 5, 0)) == []
    with refused("file-unreadable"):
        list(tree.read(file, 0, len(whole) + 1))


# -- archives ------------------------------------------------------------------------------------


def furnish(ground: Path) -> None:
    (ground / "sub/deep").mkdir(parents=True)
    (ground / "sub/deep/file").write_bytes(b"deep" * 100_000)
    (ground / "empty").touch()
    (ground / "link").symlink_to("/sub/deep/file")
    os.mkfifo(ground / "pipe")
    (ground / "a:b").write_text("colon")
    (ground / "a?b").write_text("question")
    (ground / "..\\..\\evil").write_text("backslash")
    Path(os.fsdecode(os.fsencode(ground) + b"/caf\xe9")).write_text("latin")


def test_a_zip_holds_all_that_windows_can_make(tree: VolumeTree, ground: Path) -> None:
    furnish(ground)
    whole = b"".join(zip_pieces(tree, tree.top(b""), str))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        assert archive.read("sub/deep/file") == b"deep" * 100_000
        assert {archive.read("a_b"), archive.read("a_b (2)")} == {b"colon", b"question"}
        assert not [one for one in archive.namelist() if "\\" in one or ".." in one.split("/")]
        told = archive.read(LIST).decode()
        assert archive.getinfo("sub/deep/file").compress_size < 10_000
    assert "link: a link to another place /sub/deep/file" in told
    assert "pipe: a device" in told and "caf\\xe9: is called here caf_" in told


def test_a_tar_holds_names_and_links_as_they_are(tree: VolumeTree, ground: Path) -> None:
    furnish(ground)
    whole = b"".join(tar_pieces(tree, tree.top(b"sub/.."), str))
    with tarfile.open(fileobj=io.BytesIO(whole), errors="surrogateescape") as archive:
        found = {os.fsencode(one.name): one for one in archive}
        assert {b"caf\xe9", b"..\\..\\evil", b"sub/deep"} <= set(found)
        assert found[b"link"].issym() and found[b"link"].linkname == "/sub/deep/file"
        file = archive.extractfile(found[b"sub/deep/file"])
        assert file is not None and file.read() == b"deep" * 100_000
        assert b"pipe" not in found and LIST.encode() in found


def test_a_sparse_file_stays_small_on_the_way(tree: VolumeTree, ground: Path) -> None:
    with (ground / "sparse").open("wb") as file:
        file.truncate(64 << 20)
    assert sum(map(len, zip_pieces(tree, tree.top(b""), str))) < 1 << 20


def test_a_file_that_ends_too_early_breaks_the_archive(tree: VolumeTree, ground: Path) -> None:
    (ground / "file").write_bytes(os.urandom(4 << 20))
    for pack in (zip_pieces, tar_pieces):
        pieces = pack(tree, tree.top(b""), str)
        next(pieces)
        os.truncate(ground / "file", 2 << 20)
        with refused("file-unreadable"):
            list(pieces)
        (ground / "file").write_bytes(os.urandom(4 << 20))


def test_names_fit_for_windows() -> None:
    for name, fit in (
        ("con", "_con"),
        ("a.", "a_"),
        ("nul.txt", "_nul.txt"),
        ("concert", "concert"),
    ):
        assert fit_name(name) == fit


# -- an appliance that does not behave ------------------------------------------------------------


def version_packet() -> bytes:
    return struct.pack(">IBI", 5, 2, 3)


def test_a_silent_appliance_is_given_up_in_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(version_packet())
        client = SftpClient(ours, limit_s=0.5)
        began = time.monotonic()
        with refused("files-lost"):
            client.look(b"/")
        assert time.monotonic() - began < 3
        with refused("files-lost"):  # and whoever comes after it does not wait
            client.look(b"/")
        assert client.broken


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack(">I", 1 << 30),  # far too long
        struct.pack(">IBI", 5, 105, 7),  # to another request
        struct.pack(">IBI", 5, 103, 1),  # of the wrong kind
        struct.pack(">IBII", 9, 105, 1, 1),  # cut off in its middle
        b"",
    ],
)
def test_an_answer_nobody_understands_ends_the_line(answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(version_packet() + answer)
        theirs.shutdown(socket.SHUT_WR)
        client = SftpClient(ours, limit_s=2)
        with refused("files-lost"):
            client.look(b"/")


@pytest.mark.parametrize("name", [b"../../etc/passwd", b"", b"a\0b", b"x" * 256])
def test_a_name_that_is_none_ends_the_line(name: bytes) -> None:
    def text(one: bytes) -> bytes:
        return struct.pack(">I", len(one)) + one

    ours, theirs = socket.socketpair()
    with ours, theirs:
        entry = struct.pack(">I", 1) + text(name) + text(b"") + struct.pack(">I", 0)
        packets = (
            b"\x66" + struct.pack(">I", 1) + text(b"h"),
            b"\x68" + struct.pack(">I", 2) + entry,
        )
        theirs.sendall(version_packet() + b"".join(map(text, packets)))
        client = SftpClient(ours, limit_s=2)
        with refused("files-lost"):
            list(client.entries(b"/"))


def test_what_the_appliance_tells_of_its_volumes_is_checked() -> None:
    good = {"name": "disk0-part1-root", "disk": 0, "partition": 1, "size": 5, "mount": "/"}
    bad = [{**good, "name": "../up"}, {**good, "size": "x"}, {**good, "label": "l" * 5000}, 7, {}]
    assert [one.name for one in read_volumes([good, *bad])] == ["disk0-part1-root"]
    assert read_volumes("nothing") == ()


# -- in addresses and on pages -------------------------------------------------------------------


def test_a_volume_is_named_by_where_the_server_had_it() -> None:
    told = Disk("vda", 1, partitions=[Partition(1, 0, 1, mountpoint="/srv")])
    volumes = (ShownVolume("b", -1, 0, mount="/"), ShownVolume("a", 0, 1), ShownVolume("c", 0, 2))
    found = placed(volumes, Machine("m", disks=[told]))
    assert [(one.name, one.mount) for one in found] == [("b", "/"), ("a", "/srv"), ("c", "")]


def test_what_hides_in_a_name_is_made_visible() -> None:
    assert shown("a\u202egnp.exe".encode()) == "a\\u202egnp.exe"
    assert shown(b"a\nb\xff") == "a\\nb\\xff"
    assert [(one.name, one.token) for one in crumbs(b"a/b c")] == [("a", "/a"), ("b c", "/a/b%20c")]


def test_a_download_has_its_name_in_every_browser() -> None:
    assert attachment('ü"\r\nx.txt') == (
        "attachment; filename=\"____x.txt\"; filename*=UTF-8''%C3%BC%22%0D%0Ax.txt"
    )
    assert "filename*=UTF-8''.._etc" in attachment("../etc")


@pytest.mark.parametrize(
    ("asked", "start", "length", "partial"),
    [
        ("", 0, 100, False),
        ("bytes=0-", 0, 100, True),
        ("bytes=10-19", 10, 10, True),
        ("bytes=90-500", 90, 10, True),
        ("bytes=-30", 70, 30, True),
        ("bytes=-300", 0, 100, True),
        ("bytes=0-1,5-6", 0, 100, False),
        ("lines=1-2", 0, 100, False),
    ],
)
def test_parts_of_a_file(asked: str, start: int, length: int, partial: bool) -> None:
    part = asked_part(asked, 100)
    assert (part.start, part.length, part.partial) == (start, length, partial)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=5-4", "bytes=-0"])
def test_a_part_that_is_not_there(asked: str) -> None:
    with refused("no-such-part"):
        asked_part(asked, 100)


def test_only_so_many_transfers_at_once() -> None:
    def nothing() -> Iterator[bytes]:
        yield b"x"

    taken: list[Pieces] = []
    with refused("too-many-transfers"):
        while len(taken) < 100:
            taken.append(Pieces(one for one in nothing()))
    for one in taken:
        one.put_away()
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            Pieces(one for one in nothing()).put_away()
            break
        except NotfallError:
            time.sleep(0.01)
    else:
        raise AssertionError("they were not given back")


def test_patterns_and_order() -> None:
    assert matcher("[x]*")(b"[x]1") and not matcher("[x]*")(b"x1")
    assert sorted([b"a10", b"A9", b"a"], key=natural) == [b"a", b"A9", b"a10"]
