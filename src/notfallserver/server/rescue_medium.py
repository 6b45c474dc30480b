"""Builds the rescue medium: kernel, initrds, squashfs, hybrid ISO (BIOS and UEFI).

What is slow (Debian packages -> squashfs, about a minute) depends on the recipe only and is cached
under its fingerprint. Per server and program version only small archives are appended to the
initrds and the ISO is written anew, a matter of seconds. ``medium.json`` is written last: a
directory without it, or with another stamp than today's program has, holds no usable medium.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import notfallserver
from notfallserver.guest.cpio import Entry, file_entry, folder_entry, tree_entries, write_archive
from notfallserver.rescue.medium import recipe
from notfallserver.server.host.files import replace_file, sync_path
from notfallserver.server.host.run import run
from notfallserver.wire.errors import NotfallError

Progress = Callable[[str, int, int], None]
"""Called with phase, done, total; phases: packages, squash, initrd, iso."""

PACKAGE_ROOT = Path(notfallserver.__file__).parent
PATIENT = '--aptopt=Acquire::Retries "5"'
"""For mmdebstrap: a mirror that does not answer once is no reason to give up."""


@dataclass(frozen=True)
class Medium:
    """The files of one rescue medium."""

    vmlinuz: Path
    initrd: Path  # complete in itself: for PXE
    appliance_initrd: Path
    squashfs: Path
    iso: Path


def find_medium(out_dir: Path) -> Medium | None:
    """The medium in ``out_dir`` if it is complete and of this program version."""
    try:
        told = json.loads((out_dir / "medium.json").read_text())
    except (OSError, ValueError):
        return None
    medium = medium_in(out_dir)
    complete = all(path.is_file() for path in vars(medium).values())
    return medium if complete and told.get("stamp") == _stamp() else None


def build_medium(
    out_dir: Path,
    server_urls: Sequence[str],
    ca_pem: str,
    cache_dir: Path,
    progress: Progress = lambda phase, done, total: None,
    mirror: str = "",
) -> Medium:
    """Build everything into ``out_dir``; ``mirror`` is a Debian mirror, empty = the default."""
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "medium.json").unlink(missing_ok=True)
    base = keep_packages(cache_dir, mirror, progress)
    medium = medium_in(out_dir)
    progress("initrd", 0, 1)
    program = _program_entries()
    config = json.dumps({"urls": list(server_urls), "ca": ca_pem}).encode()
    for name in (medium.vmlinuz, medium.squashfs):
        _copy(base / name.name, name)
    # Nothing of these is held in memory: together they are larger than all else the server needs.
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".build-") as made:
        work = Path(made)
        appliance = _initrd(work / "appliance", base / "initrd-appliance", program)
        live = _initrd(
            work / "live",
            base / "initrd-live",
            program,
            [file_entry("notfall/server.json", config)],
        )
        squashfs = Entry(recipe.SQUASHFS_NAME, stat.S_IFREG | 0o644, source=medium.squashfs)
        pxe = _initrd(work / "initrd", live, [squashfs])
        progress("iso", 0, 1)
        iso = _write_iso(work, medium, live)
        for finished, name in (
            (appliance, medium.appliance_initrd),
            (pxe, medium.initrd),
            (iso, medium.iso),
        ):
            sync_path(finished)
            finished.replace(name)
    seal_medium(out_dir, server_urls)
    progress("iso", 1, 1)
    return medium


def seal_medium(out_dir: Path, server_urls: Sequence[str]) -> None:
    """From now on the medium in ``out_dir`` counts as complete."""
    record = {"stamp": _stamp(), "urls": list(server_urls)}
    replace_file(out_dir / "medium.json", json.dumps(record).encode())


def medium_in(out_dir: Path) -> Medium:
    return Medium(
        vmlinuz=out_dir / "vmlinuz",
        initrd=out_dir / "initrd",
        appliance_initrd=out_dir / "initrd-appliance",
        squashfs=out_dir / recipe.SQUASHFS_NAME,
        iso=out_dir / "notfall-rescue.iso",
    )


def _stamp() -> str:
    told = sha256(recipe.fingerprint().encode() + (recipe.HERE / "grub.cfg").read_bytes())
    for entry in _program_entries():
        told.update(entry.name.encode() + b"\0" + entry.data)
    return told.hexdigest()


def keep_packages(
    cache_dir: Path,
    mirror: str = "",
    progress: Progress = lambda phase, done, total: None,
) -> Path:
    """The server-independent part, from the cache or built; complete when its name exists.

    Only this needs the network. It is kept in ``cache_dir``, for media that are built later.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    base = cache_dir / f"rescue-{recipe.fingerprint()}"
    with (cache_dir / "rescue.lock").open("w") as lock:
        # one builder at a time, so whatever else lies here is a leftover or another recipe's
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not base.is_dir():
            for stale in cache_dir.glob("rescue-*"):
                shutil.rmtree(stale, ignore_errors=True)
            _build_base(base, cache_dir, mirror, progress)
    return base


def _build_base(base: Path, cache_dir: Path, mirror: str, progress: Progress) -> None:
    work = Path(tempfile.mkdtemp(dir=cache_dir, prefix=f"{base.name}.part"))
    try:
        progress("packages", 0, 2)
        root = work / "root"
        _install_packages(root, mirror)
        progress("squash", 1, 2)
        result = work / "result"
        result.mkdir()
        kernel = next(root.glob("boot/vmlinuz-*"))
        version = kernel.name.removeprefix("vmlinuz-")
        shutil.copyfile(kernel, result / "vmlinuz")
        for kind, modules in (
            ("live", recipe.LIVE_MODULES),
            ("appliance", recipe.APPLIANCE_MODULES),
        ):
            _write_initrd(result / f"initrd-{kind}", kind, root, version, modules, work)
        squash: list[str | Path] = [
            "mksquashfs",
            root,
            result / recipe.SQUASHFS_NAME,
            "-comp",
            "zstd",
        ]
        run(
            [
                *squash,
                "-Xcompression-level",
                "9",
                "-noappend",
                "-no-progress",
                "-quiet",
                "-e",
                "boot",
            ],
            timeout=900,
        )
        result.rename(base)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress("squash", 2, 2)


def _install_packages(root: Path, mirror: str) -> None:
    hook = recipe.HERE / "customize.sh"
    told = f'sh "{hook}" "$1" {recipe.KERNEL_PACKAGE} {" ".join(recipe.MODULE_EXCLUDES)}'
    excludes = [f"--dpkgopt=path-exclude={one}" for one in recipe.DPKG_EXCLUDES]
    excludes += [f"--dpkgopt=path-include={one}" for one in recipe.DPKG_INCLUDES]
    include = f"--include={','.join(recipe.PACKAGES)}"
    command: list[str | Path] = ["mmdebstrap", "--quiet", "--variant=minbase", PATIENT]
    command += [*excludes, include]
    command += [f"--customize-hook={told}", recipe.SUITE, root]
    run([*command, mirror] if mirror else command, timeout=1800)


def _write_initrd(
    out: Path, kind: str, root: Path, version: str, modules: Sequence[str], work: Path
) -> None:
    """Busybox, our /init and some modules; plain for the tiny one, packed for the live one."""
    tree = work / f"tree-{kind}"
    target = tree / "lib/modules" / version
    source = root / "lib/modules" / version
    for name in _with_dependencies(source / "modules.dep", modules):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copyfile(source / name, target / name)
    run(["depmod", "-b", tree, version])
    (tree / "bin").mkdir()
    shutil.copy2(root / "bin/busybox", tree / "bin/busybox")
    shutil.copyfile(recipe.HERE / f"init-{kind}.sh", tree / "init")
    (tree / "init").chmod(0o755)
    plain = out if kind == "appliance" else work / "initrd.plain"
    with plain.open("wb") as stream:
        write_archive(tree_entries(tree), stream)
    if plain == out:
        return
    run(["zstd", "-q", "-12", "-f", plain, "-o", out])
    # segments are found at multiples of four bytes only
    with out.open("ab") as file:
        file.write(bytes(-out.stat().st_size % 4))


def _with_dependencies(table: Path, modules: Sequence[str]) -> list[str]:
    needs = {}
    for line in table.read_text().splitlines():
        name, _, rest = line.partition(":")
        needs[Path(name).name.partition(".")[0].replace("-", "_")] = [name, *rest.split()]
    wanted = [path for module in modules for path in needs.get(module.replace("-", "_"), [])]
    return list(dict.fromkeys(wanted))


def _program_entries() -> list[Entry]:
    """Our packages below ``/notfall/program``, and the start scripts."""
    entries = [folder_entry(name) for name in ("notfall", "notfall/program")]
    prefix = "notfall/program/notfallserver"
    entries.append(folder_entry(prefix))
    entries.append(file_entry(f"{prefix}/__init__.py", b""))
    for package in recipe.PROGRAM_PACKAGES:
        entries.append(folder_entry(f"{prefix}/{package}"))
        entries += [
            one
            for one in tree_entries(PACKAGE_ROOT / package, f"{prefix}/{package}/")
            if "__pycache__" not in one.name and (one.name.endswith(".py") or not one.data)
        ]
    for name in ("start-live.sh", "start-appliance.sh", "dhcp.sh"):
        entries.append(file_entry(f"notfall/{name}", (recipe.HERE / name).read_bytes(), 0o755))
    return entries


def _initrd(out: Path, begin: Path, *archives: Iterable[Entry]) -> Path:
    """A longer initrd: another one, and behind it what is read after it."""
    shutil.copyfile(begin, out)
    with out.open("ab") as stream:
        for entries in archives:
            write_archive(entries, stream)
    return out


def _write_iso(work: Path, medium: Medium, live: Path) -> Path:
    tree = work / "iso"
    (tree / "boot/grub").mkdir(parents=True)
    shutil.copyfile(recipe.HERE / "grub.cfg", tree / "boot/grub/grub.cfg")
    _copy(live, tree / "initrd")
    _copy(medium.vmlinuz, tree / "vmlinuz")
    _copy(medium.squashfs, tree / recipe.SQUASHFS_NAME)
    iso = work / "rescue.iso"
    run(["grub-mkrescue", "-o", iso, tree, "--", "-volid", recipe.MEDIUM_LABEL], timeout=300)
    if not iso.is_file():
        raise NotfallError(
            "rescue-build",
            "grub-mkrescue wrote no ISO.",
            "Install grub-pc-bin, grub-efi-amd64-bin, mtools and xorriso.",
            status=500,
        )
    return iso


def _copy(source: Path, target: Path) -> None:
    """A hard link where possible: these files are only ever replaced, never changed."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
