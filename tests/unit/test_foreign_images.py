"""What image files say of themselves, and which files belong to them: headers made by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from notfallserver.server.foreign.chain import find_image, option_tree
from notfallserver.server.foreign.formats import Described, Extent, Format, describe
from notfallserver.wire.errors import NotfallError


def told(content: bytes) -> Described:
    return describe(len(content), lambda at, length: content[at : at + length] if at >= 0 else b"")


def code(content: bytes) -> str:
    with pytest.raises(NotfallError) as caught:
        told(content)
    return caught.value.code


def qcow2(
    version: int = 3,
    backing: bytes = b"",
    crypt: int = 0,
    features: int = 0,
    data: bytes = b"",
) -> bytes:
    head = bytearray(1024)
    head[:4] = b"QFI\xfb"
    head[4:8] = version.to_bytes(4, "big")
    if backing:
        head[8:16] = (512).to_bytes(8, "big")
        head[16:20] = len(backing).to_bytes(4, "big")
        head[512 : 512 + len(backing)] = backing
    head[32:36] = crypt.to_bytes(4, "big")
    head[72:80] = features.to_bytes(8, "big")
    head[100:104] = (104).to_bytes(4, "big")
    if data:
        extension = (0x44415441).to_bytes(4, "big") + len(data).to_bytes(4, "big") + data
        head[104:128] = (0x6803F857).to_bytes(4, "big") + (16).to_bytes(4, "big") + bytes(16)
        head[128 : 128 + len(extension)] = extension
    return bytes(head)


def footer(kind: int, size: int, creator: bytes = b"win ") -> bytes:
    one = bytearray(512)
    one[:8] = b"conectix"
    one[28:32] = creator
    one[48:56] = size.to_bytes(8, "big")
    one[60:64] = kind.to_bytes(4, "big")
    one[64:68] = (~sum(one) & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(one)


def vmdk(kind: str = "monolithicFlat", parent: str = "ffffffff", more: str = "") -> bytes:
    lines = ("# Disk DescriptorFile", "CID=1", f"parentCID={parent}", f'createType="{kind}"', more)
    return "\n".join((*lines, "")).encode()


def test_a_format_is_told_by_content_alone() -> None:
    assert told(qcow2()) == Described(Format.QCOW2)
    assert told(qcow2(2)) == Described(Format.QCOW2)
    assert told(bytes(1024)) == Described(Format.RAW, 1024)
    assert told(bytes(4096) + footer(2, 4096)) == Described(Format.RAW, 4096)
    dynamic = footer(3, 1 << 30)
    assert told(dynamic + bytes(1024) + dynamic) == Described(Format.VHD, 1 << 30)
    # Virtual PC itself counts by its geometry
    vpc = footer(3, 1 << 30, b"vpc ")
    assert told(vpc + bytes(1024) + vpc) == Described(Format.VHD, 0)
    assert told(vmdk(more='RW 8 FLAT "a b.vmdk" 2')).extents == (Extent("a b.vmdk", 5120),)
    assert told(vmdk("vmfsSparse", more='RW 8 VMFSSPARSE "x"')).extents == (Extent("x", 0),)
    # what only looks like a footer is content
    assert told(bytes(512) + b"conectix" + bytes(504)) == Described(Format.RAW, 1024)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x1f\x8b" + bytes(600), "image-packed"),
        (bytes(257) + b"ustar" + bytes(762), "image-packed"),
        (b"", "image-format-unknown"),
        (b"%PDF-1.7 of a length that no disk has", "image-format-unknown"),
        (bytes(64) + b"\x7f\x10\xda\xbe" + bytes(956), "image-format-unknown"),
        (qcow2(1), "image-format-unknown"),
        (qcow2(crypt=2), "image-encrypted"),
        (qcow2(features=2), "image-damaged"),
        (qcow2(features=1), "image-not-closed"),
        (qcow2(features=4), "image-damaged"),
        (bytes(4096) + footer(4, 4096), "image-is-difference"),
        (bytes(4096) + footer(2, 8192), "image-cut-short"),
        (footer(4, 4096) + bytes(1024), "image-is-difference"),
        (footer(3, 4096) + bytes(1024), "image-cut-short"),
        (b"KDMV" + bytes(1020), "image-is-part"),
        (b"COWD" + bytes(1020), "image-is-part"),
        (vmdk("fullDevice", more='RW 8 FLAT "/dev/sda" 0'), "image-format-unknown"),
        (vmdk(more='RW 8 VMFSRDM "x"'), "image-format-unknown"),
        (vmdk(more='RW ² FLAT "x" 0'), "image-damaged"),
        (vmdk(more='RW 8 FLAT "x" ' + "9" * 5000), "image-damaged"),
        (vmdk(parent="12345678"), "image-damaged"),
        (vmdk(more="encryption.keySafe = x"), "image-encrypted"),
        (b"vhdxfile" + bytes(1 << 20), "image-damaged"),
    ],
)
def test_what_can_not_be_read_is_refused(content: bytes, expected: str) -> None:
    assert code(content) == expected


def test_names_of_other_files_are_found() -> None:
    assert told(qcow2(backing=b"base.img")).backing == "base.img"
    assert told(qcow2(features=4, data=b"content")).data == "content"
    hint = vmdk(parent="12345678", more='parentFileNameHint="base.vmdk"')
    assert told(hint).backing == "base.vmdk"


def vhdx(log: bytes = bytes(16), flags: int = 0) -> bytes:
    one = bytearray(3 << 20)
    one[:8] = b"vhdxfile"
    for at, number in ((64 << 10, 7), (128 << 10, 9)):
        one[at : at + 4] = b"head"
        one[at + 8 : at + 16] = number.to_bytes(8, "little")
    one[(128 << 10) + 48 : (128 << 10) + 64] = log
    table, place = 192 << 10, 2 << 20
    one[table : table + 4] = b"regi"
    one[table + 8 : table + 12] = (1).to_bytes(4, "little")
    one[table + 16 : table + 32] = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
    one[table + 32 : table + 40] = place.to_bytes(8, "little")
    one[place : place + 8] = b"metadata"
    one[place + 10 : place + 12] = (1).to_bytes(2, "little")
    one[place + 32 : place + 48] = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
    one[place + 48 : place + 52] = (65536).to_bytes(4, "little")
    one[place + 65540 : place + 65544] = flags.to_bytes(4, "little")
    return bytes(one)


def test_a_vhdx_tells_whether_it_is_whole() -> None:
    assert told(vhdx()) == Described(Format.VHDX)
    assert code(vhdx(flags=2)) == "image-is-difference"
    assert code(vhdx(log=b"x" * 16)) == "image-not-closed"


@given(
    some.sampled_from((qcow2(backing=b"b"), vhdx()[: 200 << 10], vmdk(more='RW 8 FLAT "x" 0'))),
    some.lists(some.tuples(some.integers(0, 1023), some.integers(0, 255)), max_size=40),
)
def test_damage_is_refused_or_understood_and_never_more(
    content: bytes, damage: list[tuple[int, int]]
) -> None:
    body = bytearray(content)
    for at, value in damage:
        body[at % len(body)] = value
    try:
        found = told(bytes(body))
    except NotfallError:
        return
    assert found.format in Format


# -- which files ---------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(NotfallError) as caught:
        find_image(path)
    return caught.value.code


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/etc/passwd", "image-elsewhere"),
        ("../outside.img", "image-elsewhere"),
        ("link.img", "image-elsewhere"),
        ("sub/inner.img", "image-elsewhere"),
        ("json:{}", "image-elsewhere"),
        ("nbd://elsewhere:10809/x", "image-elsewhere"),
        ("C:\\VMs\\base.vmdk", "image-elsewhere"),
        ("gone.img", "image-incomplete"),
        ("directory", "image-missing"),
        ("top.qcow2", "image-elsewhere"),
    ],
)
def test_only_what_lies_beside_belongs_to_it(tmp_path: Path, name: str, expected: str) -> None:
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    (images / "directory").mkdir()
    for one in (tmp_path / "outside.img", images / "sub/inner.img"):
        one.write_bytes(bytes(1024))
    (images / "link.img").symlink_to(tmp_path / "outside.img")
    top = images / "top.qcow2"
    top.write_bytes(qcow2(backing=name.encode()))
    assert refused(top) == expected


def test_a_chain_is_described_whole_so_that_nothing_is_guessed(tmp_path: Path) -> None:
    base, middle, top = (tmp_path / one for one in ("base.img", "middle.qcow2", "top.qcow2"))
    base.write_bytes(bytes(2048))
    middle.write_bytes(qcow2(backing=str(base).encode()))
    top.write_bytes(qcow2(backing=b"middle.qcow2"))
    layer = find_image(top)
    assert [path for path, _ in layer.files()] == [top, middle, base]
    tree = option_tree(layer, Path("/images"))
    bottom = {"driver": "file", "filename": "/images/base.img"}
    assert tree["backing"] == {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": "/images/middle.qcow2"},
        "backing": {"driver": "raw", "file": bottom, "size": 2048},
    }
    assert refused(middle) == refused(base) == "image-superseded"
    layer.require_unchanged()
    os.utime(base, ns=(1, 1))
    with pytest.raises(NotfallError, match="written to"):
        layer.require_unchanged()


def test_parts_must_be_whole_and_are_no_disk_by_themselves(tmp_path: Path) -> None:
    disk, part = tmp_path / "disk.vmdk", tmp_path / "disk-flat.vmdk"
    disk.write_bytes(vmdk(more='RW 8 FLAT "disk-flat.vmdk" 0'))
    part.write_bytes(bytes(4096))
    assert [path for path, _ in find_image(disk).files()] == [disk, part]
    assert refused(part) == "image-is-part"
    part.write_bytes(bytes(2048))
    assert refused(disk) == "image-cut-short"


def test_a_checkpoint_of_hyper_v_beside_it_is_newer(tmp_path: Path) -> None:
    disk = tmp_path / "Shop.vhd"
    disk.write_bytes(bytes(4096) + footer(2, 4096))
    find_image(disk)
    (tmp_path / "Other_1234.avhdx").write_bytes(b"")
    find_image(disk)
    (tmp_path / "shop_1234.avhdx").write_bytes(b"")
    assert refused(disk) == "image-superseded"
