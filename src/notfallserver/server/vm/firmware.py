"""Finding UEFI firmware on this host through QEMU's firmware descriptors.

The format is docs/interop/firmware.json of QEMU. Files with a lower number come first; a file of
the same name in /etc/qemu/firmware replaces the distribution's. Only flash firmware without secure
boot is taken: an image that was signed for secure boot also starts without it, not the reverse.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from notfallserver.server.vm.spec import Uefi
from notfallserver.wire.errors import NotfallError

DIRECTORIES = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
_UNWANTED = {"secure-boot", "requires-smm", "enrolled-keys"}


def find_uefi(nvram: Path, directories: Sequence[Path] = DIRECTORIES) -> Uefi:
    """The plain 64-bit UEFI firmware of this host; ``nvram`` is the machine's own variable file."""
    for descriptor in _descriptors(directories):
        mapping = descriptor.get("mapping", {})
        if (
            "uefi" in descriptor.get("interface-types", ())
            and mapping.get("device") == "flash"
            and not _UNWANTED & set(descriptor.get("features", ()))
            and any(one.get("architecture") == "x86_64" for one in descriptor.get("targets", ()))
            and mapping.get("executable", {}).get("format") == "raw"
            and "nvram-template" in mapping
        ):
            code = Path(mapping["executable"]["filename"])
            template = Path(mapping["nvram-template"]["filename"])
            if code.exists() and template.exists():
                return Uefi(code, template, nvram)
    raise NotfallError(
        "no-uefi-firmware",
        "This host has no UEFI firmware for virtual machines.",
        "Install the package 'ovmf'.",
        status=500,
    )


def _descriptors(directories: Sequence[Path]) -> Iterator[dict[str, Any]]:
    named: dict[str, Path] = {}
    for directory in directories:
        for path in sorted(directory.glob("*.json")) if directory.is_dir() else ():
            named.setdefault(path.name, path)
    for name in sorted(named):
        try:
            body = json.loads(named[name].read_bytes())
        except (OSError, ValueError):
            continue  # an empty or broken file masks the distribution's one, as QEMU defines it
        if isinstance(body, dict):
            yield body
