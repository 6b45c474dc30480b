"""Packages of the lab's Debian guests: one tar made by mmdebstrap, shared by all variants.

A generic Debian 12 with its generic kernel, so that it has drivers for hardware it has never seen.
Left out are only things no guest of the lab can need and that would cost minutes of emulated
copying: manuals, translations, drivers of graphics, sound, radio and television, PostgreSQL's JIT.
"""

from __future__ import annotations

import os
from pathlib import Path

from notfall_lab.cache import cached, key_of
from notfallserver.server.host.run import run
from notfallserver.server.rescue_medium import PATIENT

SUITE = "bookworm"
PACKAGES = (
    *("systemd-sysv", "udev", "dbus", "kmod", "procps", "ifupdown", "iproute2", "iputils-ping"),
    *("curl", "ca-certificates", "linux-image-amd64", "initramfs-tools", "lz4", "grub-pc-bin"),
    *("grub-efi-amd64-bin", "grub2-common", "efibootmgr", "e2fsprogs", "dosfstools", "fdisk"),
    *("python3", "python3-psycopg2", "python3-zstandard", "postgresql-15"),
)
_DRIVERS = ("gpu", "media", "infiniband", "net/wireless", "staging", "isdn", "iio", "comedi")
EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/doc/*",
    "/usr/lib/x86_64-linux-gnu/libLLVM*",
    "/usr/lib/llvm-14/*",
    "/usr/lib/x86_64-linux-gnu/libz3.so*",
    "/usr/lib/postgresql/15/lib/bitcode/*",
    "/usr/lib/grub/x86_64-efi/monolithic/*",
    "/lib/modules/*/kernel/sound/*",
    *(f"/lib/modules/*/kernel/drivers/{one}/*" for one in _DRIVERS),
)
# The initrd is made when the guest is assembled; making one here as well would be wasted.
_NO_INITRD = "mkdir -p $1/etc/initramfs-tools && echo update_initramfs=no"
NO_INITRD_HOOK = f"{_NO_INITRD} > $1/etc/initramfs-tools/update-initramfs.conf"


def base_tar() -> Path:
    """The path of the tar, made when it is not in the cache (a minute and a half)."""
    key = key_of(SUITE, *PACKAGES, *EXCLUDED, NO_INITRD_HOOK)
    return cached("base", key, _build) / "base.tar"


def _build(directory: Path) -> None:
    run(
        [
            "mmdebstrap",
            "--variant=minbase",
            PATIENT,
            f"--include={','.join(PACKAGES)}",
            '--aptopt=Apt::Install-Recommends "false"',
            *(f"--dpkgopt=path-exclude={one}" for one in EXCLUDED),
            "--dpkgopt=force-confold",  # the hook's file is one that a package brings too
            f"--essential-hook={NO_INITRD_HOOK}",
            SUITE,
            directory / "base.tar",
        ],
        timeout=1800,
        environment={"TMPDIR": os.environ.get("TMPDIR", "/tmp")},
    )
