"""Image files of other programs become versions: real images by the real tools, the real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
from agent_receiver import command, loop_device
from server_process import ServerProcess, running

from notfall_lab.patience import PATIENCE_S
from notfallserver.guest.look import look_inside
from notfallserver.server.pool.version import Version, check_version

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
SIZE = 24 * MIB
KINDS = {
    "raw": ("raw", ""),
    "qcow2": ("qcow2", ""),
    "packed.qcow2": ("qcow2", "-c"),
    "dynamic.vhd": ("vpc", "-osubformat=dynamic,force_size"),
    "fixed.vhd": ("vpc", "-osubformat=fixed,force_size"),
    "vhdx": ("vhdx", ""),
    "vmdk": ("vmdk", ""),
    "stream.vmdk": ("vmdk", "-osubformat=streamOptimized"),
    "split.vmdk": ("vmdk", "-osubformat=twoGbMaxExtentSparse"),
    "flat.vmdk": ("vmdk", "-osubformat=monolithicFlat"),
}


def make_disk(path: Path, size: int = SIZE, *options: str) -> Path:
    """A raw disk with one partition, an ext4 in it, and content in its middle."""
    with path.open("wb") as stream:
        stream.truncate(size)
    subprocess.run(
        ["sfdisk", "-q", str(path)], input="label: dos\n2048,,83,*\n", text=True, check=True
    )
    where = ["-E", f"offset={MIB}", str(path), f"{(size - MIB) >> 10}k"]
    command("mkfs.ext4", "-q", "-F", *options, *where)
    with path.open("r+b") as stream:
        stream.seek(size // 2)
        stream.write(os.urandom(3 * MIB + 4096))
    return path


def convert(raw: Path, name: str) -> Path:
    """The same disk in another format; ``name`` is one of KINDS."""
    kind, option = KINDS[name]
    made = raw.parent / f"disk.{name}"
    options = [option] if option else []
    command("qemu-img", "convert", "-O", kind, *options, str(raw), str(made))
    return made


@dataclass
class Scene:
    server: ServerProcess
    name: str

    def ask(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        with self.server.root() as root:
            return root.post(f"/api/v1{path}", json=body)

    def begin(self, *files: Path, **more: Any) -> httpx.Response:
        return self.ask("/imports", {"name": self.name, "files": [str(f) for f in files], **more})

    def imported(self, *files: Path, **more: Any) -> dict[str, Any]:
        answer = self.begin(*files, **more)
        assert answer.status_code == 202, answer.text
        row = self.server.await_job(answer.json()["id"])
        assert row["state"] == "done", row
        result: dict[str, Any] = row["result"]
        return result

    def failed(self, *files: Path, **more: Any) -> str:
        """The error's code, of the request or of its job."""
        answer = self.begin(*files, **more)
        if answer.status_code != 202:
            return str(answer.json()["code"])
        row = self.server.await_job(answer.json()["id"])
        assert row["state"] == "failed", row
        return str(row["error"]["code"])

    def show(self) -> dict[str, Any]:
        with self.server.root() as root:
            row: dict[str, Any] = root.get(f"/api/v1/primaries/{self.name}").json()
            return row

    def jobs(self) -> list[dict[str, Any]]:
        with self.server.root() as root:
            rows: list[dict[str, Any]] = root.get(
                "/api/v1/jobs", params={"primary": self.name}
            ).json()
            return rows

    def newest(self) -> Version:
        newest = self.server.pool.primary(self.show()["uuid"]).newest()
        assert newest is not None
        return newest


@pytest.fixture(scope="module")
def importing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(ServerProcess(tmp_path_factory.mktemp("importing"))) as server:
        yield server


@pytest.fixture
def scene(importing: ServerProcess) -> Scene:
    return Scene(importing, f"shop-{token_hex(3)}")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_disk(tmp_path / "disk.img")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_each_format_is_the_disk_bit_by_bit(scene: Scene, raw: Path, kind: str) -> None:
    image = convert(raw, kind)
    result = scene.imported(image)
    version = scene.newest()
    assert check_version(version) == []
    content, disk = raw.read_bytes(), version.raw(0).read_bytes()
    # Without force_size a VHD may be a little longer than what it was made of.
    assert disk[:SIZE] == content
    assert not any(disk[SIZE:])
    manifest = version.manifest
    assert (manifest.kind, manifest.consistency) == ("import", "crash")
    assert result["firmware"] == manifest.machine.firmware == "bios"
    (partition,) = manifest.machine.disks[0].partitions
    assert (partition.number, partition.start, partition.filesystem) == (1, MIB, "ext4")
    assert len(manifest.machine.nics) == 1
    assert version.bytes_used < SIZE // 2
    shown = scene.show()
    assert (shown["state"], shown["agentless"], shown["last_seen"]) == ("normal", True, None)


def test_a_newer_image_shares_what_has_not_changed(scene: Scene, raw: Path) -> None:
    scene.imported(
        convert(raw, "qcow2"),
        memory_mib=1024,
        cpus=3,
        macs=["52-54-00-AA-BB-CC", "52:54:00:aa:bb:cd"],
        addresses=["198.51.100.7/24", "52:54:00:aa:bb:cd=203.0.113.9/24"],
        ports=[22],
        firmware="uefi",  # which the image does not tell
    )
    first = scene.newest()
    with raw.open("r+b") as stream:
        stream.seek(SIZE - 2 * MIB)
        stream.write(os.urandom(MIB))
    result = scene.imported(convert(raw, "vmdk"))
    second = scene.newest()
    assert second.manifest.base == first.stamp
    assert MIB <= result["bytes_changed"] <= MIB + 65536
    assert second.raw(0).read_bytes() == raw.read_bytes()
    assert check_version(first) == check_version(second) == []
    machine = second.manifest.machine  # what was said once holds on
    assert (machine.memory, machine.cpus, machine.ports) == (1024 * MIB, 3, [22])
    assert machine.firmware == "uefi"
    assert [(one.mac, one.addresses) for one in machine.nics] == [
        ("52:54:00:aa:bb:cc", ["198.51.100.7/24"]),
        ("52:54:00:aa:bb:cd", ["203.0.113.9/24"]),
    ]
    # the same file once more, told otherwise
    scene.imported(raw.parent / "disk.vmdk", cpus=1)
    third = scene.newest()
    assert third.manifest.machine.cpus == 1
    assert (third.stamp > second.stamp, third.manifest.bytes_changed) == (True, 0)


def test_the_moment_is_the_files_and_nothing_goes_back_behind_it(scene: Scene, raw: Path) -> None:
    os.utime(raw, (1_700_000_000, 1_700_000_000))
    scene.imported(raw)
    assert scene.newest().stamp == "20231114T221320.000Z"
    os.utime(raw, (1_600_000_000, 1_600_000_000))
    assert scene.failed(raw) == "image-old"
    scene.imported(raw, taken_at="2024-01-01T00:00:00+01:00")
    assert scene.newest().stamp == "20231231T230000.000Z"


def test_several_disks_and_a_chain_of_snapshots_that_lies_together(
    scene: Scene, raw: Path, tmp_path: Path
) -> None:
    base = convert(raw, "qcow2")
    top = tmp_path / "top.qcow2"
    command("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.name, "-F", "qcow2", str(top))
    command("qemu-io", "-c", f"write -P 7 {SIZE - MIB} {MIB}", str(top))
    other = make_disk(tmp_path / "data.img", 8 * MIB + 512)
    assert scene.failed(base, other) == "image-superseded"
    scene.imported(top, other)
    version = scene.newest()
    content = raw.read_bytes()[: SIZE - MIB] + bytes([7]) * MIB
    assert version.raw(0).read_bytes() == content
    assert version.raw(1).read_bytes() == other.read_bytes()
    assert [one.name for one in version.manifest.machine.disks] == ["sda", "sdb"]


def test_an_image_can_not_make_the_server_read_other_files(
    scene: Scene, raw: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    hidden = make_disk(secret / "hidden.img")
    (tmp_path / "link.img").symlink_to(hidden)
    for backing in (str(hidden), "secret/hidden.img", "link.img", "../etc/passwd", "/etc/shadow"):
        image = tmp_path / "evil.qcow2"
        create = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "raw"]
        command(*create, str(image), str(SIZE))
        assert scene.failed(image) in ("image-elsewhere", "image-incomplete"), backing
    image.unlink()
    data = tmp_path / "apart.qcow2"
    command(
        *(
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            f"data_file={secret}/d,data_file_raw=on",
        ),
        *(str(data), str(SIZE)),
    )
    assert scene.failed(data) == "image-elsewhere"
    data.unlink()
    flat = convert(raw, "flat.vmdk")
    text = flat.read_text().replace('"disk.flat-flat.vmdk"', f'"{hidden}"')
    flat.write_text(text.rstrip("\0"))
    assert scene.failed(flat) == "image-elsewhere"
    assert scene.failed(secret) == "image-missing"
    assert scene.failed(Path("/dev/zero")) == "image-missing"
    with pytest.raises(AssertionError, match="no-such-primary"):
        raise AssertionError(scene.show()["code"])  # nothing was made of all that


def test_images_that_are_cut_short_locked_or_in_use_are_refused(
    scene: Scene, raw: Path, tmp_path: Path
) -> None:
    for kind, code in (
        ("qcow2", "image-damaged"),
        ("vmdk", "image-damaged"),
        ("vhdx", "image-damaged"),
        ("dynamic.vhd", "image-cut-short"),
        ("flat.vmdk", "image-cut-short"),
        ("raw", "image-cut-short"),
    ):
        image = convert(raw, kind)
        cut = tmp_path / "disk.flat-flat.vmdk" if kind == "flat.vmdk" else image
        os.truncate(cut, cut.stat().st_size * 2 // 3 // 65536 * 65536)
        assert scene.failed(image) == code, kind
        cut.unlink()
        image.unlink(missing_ok=True)
    empty = tmp_path / "empty.img"
    with empty.open("wb") as stream:
        stream.truncate(MIB)
    assert scene.failed(empty) == "image-empty"
    locked = tmp_path / "locked.qcow2"
    key = ["--object", "secret,id=s,data=abc"]
    create = ["qemu-img", "create", "-q", "-f", "qcow2", *key]
    command(*create, "-o", "encrypt.format=aes,encrypt.key-secret=s", str(locked), "1M")
    assert scene.failed(locked) == "image-encrypted"
    used = convert(raw, "qcow2")
    with subprocess.Popen(
        ["qemu-io", str(used)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as other:
        time.sleep(0.5)
        assert scene.failed(used) == "image-in-use"
        other.communicate(b"quit\n")
    shutil.copy(used, tmp_path / "theirs.qcow2")
    os.chown(tmp_path / "theirs.qcow2", 65534, 65534)
    (tmp_path / "theirs.qcow2").chmod(0o600)  # as libvirt leaves images of machines
    scene.imported(tmp_path / "theirs.qcow2")


def test_a_full_pool_ends_an_import_and_leaves_it_no_fuller(scene: Scene, raw: Path) -> None:
    scene.imported(raw)
    before = scene.newest()
    with raw.open("r+b") as stream:
        for _ in range(SIZE // MIB):
            stream.write(os.urandom(MIB))
        stream.seek(0)
        stream.write(before.raw(0).read_bytes()[:MIB])
    pool = scene.server.data / "pool"
    ballast = pool / "ballast"
    try:
        for step in (64 * MIB, MIB):
            free = scene.server.pool.free()[0]
            command("fallocate", "-l", str(max(step, free - 4 * step)), f"{ballast}{step}")
        assert scene.failed(raw) == "pool-full"
        assert not scene.server.pool.primary(before.manifest.primary).paths.incoming.exists()
        assert scene.newest().stamp == before.stamp
    finally:
        for one in pool.glob("ballast*"):
            one.unlink()
    scene.imported(raw)
    assert scene.newest().raw(0).read_bytes() == raw.read_bytes()


def test_only_what_has_no_agent_takes_images_and_it_takes_no_orders(
    scene: Scene, raw: Path, importing: ServerProcess
) -> None:
    scene.imported(raw)
    answer = scene.ask(f"/primaries/{scene.name}/replicate")
    assert (answer.status_code, answer.json()["code"]) == (409, "no-agent")
    answer = scene.ask(f"/primaries/{scene.name}/schedule", {"schedule_minutes": 60})
    assert (answer.status_code, answer.json()["code"]) == (409, "no-agent")
    importing.enrol(f"has-{scene.name}")
    assert Scene(importing, f"has-{scene.name}").failed(raw) == "has-agent"


def test_without_an_address_a_person_decides_and_says_when_it_works_again(
    scene: Scene, raw: Path
) -> None:
    done = scene.server.notfall("import", scene.name, str(raw), "--cpus", "3", "--follow")
    assert done.returncode == 0, done.stderr
    assert "firmware: bios" in done.stdout
    place = f"/primaries/{scene.name}"
    refused = scene.ask(f"{place}/activate", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "guard-cannot-tell")
    begun = scene.ask(f"{place}/activate", {"overrule_reason": "I have pulled its plug."})
    assert begun.status_code == 202, begun.text
    scene.server.await_job(begun.json()["id"])  # there is no hypervisor here
    assert scene.show()["state"] == "outage"
    undone = scene.ask(f"{place}/undo")
    assert undone.status_code == 202, undone.text
    assert scene.server.await_job(undone.json()["id"])["state"] == "done"
    assert scene.show()["state"] == "normal"
    listed = scene.server.notfall("primary", "list")
    assert "no agent" in listed.stdout


def test_the_page_takes_what_is_typed_and_tells_what_is_wrong(scene: Scene, raw: Path) -> None:
    typed = {"name": scene.name, "files": f"{raw}\n", "memory_gib": "1,5", "cpus": "", "macs": ""}
    typed["addresses"] = "198.51.100.7/24"
    with scene.server.client(headers={"Accept": "text/html"}) as page:
        page.post("/login", data={"name": "admin", "password": scene.server.password})
        page.headers["Accept-Language"] = "de"
        assert "/add/import" in page.get("/add").text
        wrong = page.post("/add/import", data=typed | {"files": "/nowhere.img"})
        assert wrong.status_code == 404
        assert "auf dem Notfallserver nicht" in wrong.text and "/nowhere.img" in wrong.text
        assert page.post("/add/import", data=typed | {"cpus": "many"}).status_code == 400
        begun = page.post("/add/import", data=typed)
        assert begun.headers["Location"] == f"/add/follow?name={scene.name}"
        (job,) = (one for one in scene.jobs() if one["kind"] == "image_import")
        assert scene.server.await_job(job["id"])["state"] == "done"
        assert page.get(f"/add/follow?name={scene.name}").status_code == 200
        shown = page.get(f"/p/{scene.name}").text
        assert "eingelesenes Image" in shown and f"/add/import?name={scene.name}" in shown
    machine = scene.newest().manifest.machine
    assert (machine.memory, machine.addresses()) == (1536 * MIB, ["198.51.100.7"])


def test_an_image_tells_of_what_machine_it_is(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in ("usr", "boot", "etc/network", "etc/systemd/network"):
        (tree / folder).mkdir(parents=True)
    texts = {
        "etc/fstab": "/dev/vda1 / ext4 defaults 0 1\n",
        "etc/hostname": "shop\n",
        "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "etc/network/interfaces": "iface ens3 inet static\n address 198.51.100.7/24\n",
        "etc/systemd/network/1.link": "[Match]\nMACAddress=52:54:00:0a:0b:0c\n[Link]\nName=ens3\n",
        "boot/vmlinuz-6.1.0-1-amd64": "",
    }
    for name, text in texts.items():
        (tree / name).write_text(text)
    uuid = "0a0b0c0d-0000-4000-8000-000000000001"
    disk = make_disk(tmp_path / "disk.img", SIZE, "-U", uuid, "-L", "root", "-d", str(tree))
    before = disk.read_bytes()
    with loop_device(disk) as device:
        told = look_inside([device])
    assert disk.read_bytes() == before
    assert told["volumes"] == [
        {
            "disk": 0,
            "partition": 1,
            "filesystem": "ext4",
            "uuid": uuid,
            "label": "root",
            "mountpoint": "/",
        }
    ]
    assert {key: told[key] for key in ("hostname", "system", "kernel", "disks")} == {
        "hostname": "shop",
        "system": "Debian GNU/Linux 12 (bookworm)",
        "kernel": "6.1.0-1-amd64",
        "disks": "vd",
    }
    (card,) = told["nics"]
    assert card == {
        "name": "ens3",
        "mac": "52:54:00:0a:0b:0c",
        "addresses": ["198.51.100.7/24"],
    }


def test_a_killed_server_goes_on_and_a_cancelled_import_leaves_nothing(
    scene: Scene, tmp_path: Path
) -> None:
    server = scene.server
    big = make_disk(tmp_path / "big.img", 256 * MIB)
    with big.open("r+b") as stream:
        stream.seek(128 * MIB)
        for _ in range(96):
            stream.write(os.urandom(MIB))
    job = scene.begin(big).json()["id"]
    incoming = server.pool.primary(scene.show()["uuid"]).paths.incoming
    _await_bytes(incoming / "disk0.raw", 16 * MIB)
    server.kill()
    server.start()
    row = server.await_job(job)
    assert row["state"] == "done", row
    version = scene.newest()
    assert check_version(version) == []
    command("cmp", str(version.raw(0)), str(big))
    assert row["result"]["bytes_changed"] < version.bytes_used  # the rest was there already
    with big.open("r+b") as stream:
        stream.seek(64 * MIB)
        stream.write(os.urandom(MIB))
    with server.root() as root:
        job = scene.begin(big).json()["id"]
        _await_bytes(incoming / "disk0.raw", MIB)
        assert root.post(f"/api/v1/jobs/{job}/cancel").status_code < 300
    assert server.await_job(job)["state"] == "cancelled"
    assert not incoming.exists()
    assert scene.newest().stamp == version.stamp


def _await_bytes(image: Path, count: int) -> None:
    """Until so much of an unfinished image is on the disk."""
    until = time.monotonic() + PATIENCE_S
    while not image.exists() or image.stat().st_blocks * 512 < count:
        assert time.monotonic() < until
        time.sleep(0.002)
