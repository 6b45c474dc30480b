"""Puts drivers, or a script, into an initramfs without running anything of the image.

The modules come from the image's own ``/lib/modules`` with all they depend on; the full module
tables go along, so that udev in the initramfs finds the drivers by itself, and Debian's list of
modules to load names them too. It takes a moment where a rebuild takes a minute or more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence, Set, Tuple

from notfallserver.guest.cpio import (
    Entry,
    file_entry,
    folder_entry,
    read_initramfs,
)
from notfallserver.guest.late import ORDER, late_entries
from notfallserver.guest.paths import inside
from notfallserver.guest.replaced import replace_initramfs
from notfallserver.wire.errors import NotfallError

TABLES = "modules."
LOAD_LIST = "conf/modules"  # initramfs-tools


def add_drivers(root: Path, image: Path, version: str, modules: Sequence[str]) -> None:
    """Replace ``image`` by one that carries ``modules``; the old one stays until then."""
    names, listed = _contents(image)
    prefix = next((one for one in names if one.endswith(f"lib/modules/{version}")), "")
    if not prefix:
        raise NotfallError("bad-initramfs", f"{image.name} has no modules of {version}.", "")
    base = inside(root, f"/lib/modules/{version}")
    entries: List[Entry] = []
    folders: Set[str] = set(names)
    for path in _with_dependencies(base / "modules.dep", modules):
        for parent in reversed(Path(path).parents[:-1]):
            folder = f"{prefix}/{parent}"
            if folder not in folders:
                folders.add(folder)
                entries.append(folder_entry(folder))
        if f"{prefix}/{path}" not in names:
            entries.append(file_entry(f"{prefix}/{path}", (base / path).read_bytes()))
    for table in sorted(base.glob(f"{TABLES}*")):
        if table.is_file() and not table.is_symlink():
            entries.append(file_entry(f"{prefix}/{table.name}", table.read_bytes()))
    if LOAD_LIST in names:
        text = listed.decode("utf-8", "replace").rstrip("\n")
        entries.append(file_entry(LOAD_LIST, "\n".join([text, *modules, ""]).encode()))
    replace_initramfs(root, image, entries)


def add_late(root: Path, image: Path, script: str) -> None:
    """Replace ``image`` by one that runs ``script`` in the root when that is mounted."""
    names: Set[str] = set()
    order = ""
    for entry in read_initramfs(image, lambda name: name == ORDER):
        names.add(entry.name)
        if entry.name == ORDER:
            order = entry.data.decode("utf-8", "replace")
    entries = late_entries(names, order, script)
    if not entries:
        raise NotfallError(
            "initramfs-unknown",
            f"The system is encrypted, and {image.name} was made by a tool that is not known: the "
            "system can't be adapted.",
            "Adaptation of encrypted systems knows initramfs-tools and dracut.",
        )
    replace_initramfs(root, image, entries)


def _contents(image: Path) -> Tuple[Set[str], bytes]:
    names: Set[str] = set()
    listed = b""
    for entry in read_initramfs(image, lambda name: name == LOAD_LIST):
        names.add(entry.name)
        if entry.name == LOAD_LIST:
            listed = entry.data
    return names, listed


def _with_dependencies(table: Path, modules: Sequence[str]) -> List[str]:
    needs: Dict[str, List[str]] = {}
    for line in table.read_text(errors="replace").splitlines():
        path, _, rest = line.partition(":")
        name = Path(path).name.partition(".ko")[0].replace("-", "_")
        needs[name] = [path, *rest.split()]
    return list(dict.fromkeys(path for one in modules for path in needs.get(one, [])))
