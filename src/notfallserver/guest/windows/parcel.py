"""Drivers on their way to where an image is adapted: their folders as one bounded tar.

It comes from the emergency server, from where a person put files of others, so names are looked at
before anything is written.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import IO, Sequence

from notfallserver.guest.windows.supplied import Package
from notfallserver.wire.errors import NotfallError

PARCEL_LIMIT = 64 << 20
"""Bytes of all files in one."""
READ_LIMIT = PARCEL_LIMIT + (8 << 20)
"""With the tar's own headers."""


def pack_parcel(packages: Sequence[Package]) -> bytes:
    """Storage first; what does not fit any more is left out. Empty where there is nothing."""
    if not packages:
        return b""
    ordered = sorted(packages, key=lambda one: not one.description.is_storage)
    packed, used = io.BytesIO(), 0
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, one in enumerate(ordered):
            if used + one.size > PARCEL_LIMIT:
                continue
            used += one.size
            base = f"{number}/{one.path.rpartition('/')[0]}".rstrip("/")
            for file in one.files:
                content = (Path(one.folder) / file).read_bytes()
                entry = tarfile.TarInfo(f"{base}/{file}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def unpack_parcel(raw: IO[bytes], folder: Path) -> None:
    """``folder`` is empty."""
    used = 0
    try:
        with tarfile.open(fileobj=raw, mode="r|") as tar:
            for entry in tar:
                parts = entry.name.split("/")
                used += entry.size
                plain = all(one not in ("", ".", "..") and "\0" not in one for one in parts)
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is None or not plain or used > PARCEL_LIMIT:
                    raise _broken(f"'{entry.name[:100]}' is not expected in it")
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError) as error:
        raise _broken(str(error)) from None


def _broken(why: str) -> NotfallError:
    return NotfallError(
        "drivers-broken",
        f"The drivers from the emergency server can't be unpacked: {why}.",
        "Look at 'notfall drivers list', remove what is wrong there, and try again.",
    )
