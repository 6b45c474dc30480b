"""Durable files: what is written here is on the disk when the call returns.

One helper for replacing a file, so that write order is decided in one place: temporary file in the
same directory, fsync, rename, fsync of the directory. A reader sees the old or the new content.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from notfallserver.server.host.immutable import release_tree, set_immutable
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)


def sync_path(path: Path) -> None:
    """fsync a file or a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put ``content`` at ``path``, durably and at once."""
    unfinished = path.with_name(f".{path.name}.new")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb", closefd=False) as stream:
            stream.write(content)
        os.fchmod(handle, mode)
        os.fsync(handle)
    finally:
        os.close(handle)
    unfinished.replace(path)
    sync_path(path.parent)


def replace_json(path: Path, content: Any, mode: int = 0o600) -> None:
    replace_file(path, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n", mode)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of ours; a broken one is an error that names the file."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise NotfallError(
            "broken-file",
            f"The file {path} cannot be read: {error}.",
            "Bring it back from a copy, or remove what it describes.",
            status=500,
        ) from None
    if not isinstance(content, dict):
        raise NotfallError("broken-file", f"The file {path} holds no object.", status=500)
    return content


def rename_durably(old: Path, new: Path) -> None:
    """Rename within one filesystem; on the disk when the call returns."""
    old.rename(new)
    sync_path(new.parent)
    if old.parent != new.parent:
        sync_path(old.parent)


def discard_tree(path: Path) -> None:
    """Remove a directory with all it holds; the name goes first, so a half removal is not seen.

    The name ends in ``.discarded``; :func:`sweep_discarded` removes what a crash left. What is
    protected by the immutable flag goes as well.
    """
    if (doomed := doom_tree(path)) is not None:
        delete_tree(doomed)


def doom_tree(path: Path) -> Path | None:
    """The first half of :func:`discard_tree`, which is at once; None where nothing is there."""
    if not path.exists():
        return None
    doomed = path.with_name(f"{path.name}.{os.urandom(4).hex()}.discarded")
    set_immutable(path, False)
    path.rename(doomed)
    return doomed


def delete_tree(doomed: Path) -> None:
    """Remove a directory for good, protected or not."""
    try:
        shutil.rmtree(doomed)
    except PermissionError:
        release_tree(doomed)
        shutil.rmtree(doomed)


def sweep_discarded(parent: Path) -> None:
    for doomed in parent.glob("*.discarded"):
        try:
            delete_tree(doomed)
        except OSError as error:
            log.warning("%s can't be removed: %s", doomed, error)
