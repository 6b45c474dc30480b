"""The stand-in as a machine: its name, its virtual hardware, and what the adaptation must know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from notfallserver.server.settings import Settings
from notfallserver.server.vm.firmware import find_uefi
from notfallserver.server.vm.fit import fit, fitting_memory
from notfallserver.server.vm.spec import Accelerator, VmSpec
from notfallserver.wire.cards import real_cards
from notfallserver.wire.facts import Machine

SPARE_MEMORY = 1 << 30
"""What the server keeps for itself, in bytes."""

LOCALTIME = "localtime"
"""A machine's clock that shows what Windows wants of it, and not UTC."""


def machine_name(primary: str) -> str:
    """The name of a primary's stand-in at the hypervisor."""
    return f"standin-{primary}"


def memory_limit(settings: Settings) -> int:
    """The most memory that a stand-in gets on this host, in bytes."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return settings.standin_memory_mib << 20 or max(512 << 20, whole - SPARE_MEMORY)


def limited(settings: Settings, most_mib: int) -> Settings:
    """Settings by which a stand-in gets at most so much memory as well; 0: as they are."""
    if not most_mib:
        return settings
    limit = min(most_mib, settings.standin_memory_mib or most_mib)
    return settings.model_copy(update={"standin_memory_mib": limit})


def cpu_limit() -> int:
    """How many processors a stand-in gets at most."""
    return os.cpu_count() or 1


def describe_standin(
    settings: Settings, primary: str, machine: Machine, disks: Sequence[Path], clock: str = ""
) -> VmSpec:
    """The stand-in on ``disks``; its NVRAM and console log lie beside them. ``clock``: what the
    adaptation found out, ``localtime`` or else."""
    directory = disks[0].parent
    uefi = find_uefi(directory / "nvram.fd") if machine.firmware == "uefi" else None
    return fit(
        machine,
        disks,
        name=machine_name(primary),
        bridge=settings.lan_bridge,
        accelerator=Accelerator(settings.accelerator),
        uefi=uefi,
        cpu_limit=cpu_limit(),
        memory_limit=memory_limit(settings),
        serial_log=directory / "console.log",
        localtime=clock == LOCALTIME,
    )


def standin_memory(settings: Settings, machine: Machine, most_mib: int = 0) -> int:
    """What the stand-in of ``machine`` takes, in bytes; ``most_mib`` as in :func:`limited`."""
    limit = memory_limit(settings)
    return fitting_memory(machine, min(limit, most_mib << 20) if most_mib else limit)


def hardware_of(spec: VmSpec, machine: Machine) -> dict[str, Any]:
    """The stand-in's hardware in the words of the adaptation (see ``guest``)."""
    names = {nic.mac.lower(): nic.name for nic in real_cards(machine)}
    return {
        "firmware": machine.firmware,
        "role": "stand-in",
        "disks": [{"driver": one.controller.linux_driver} for one in spec.disks],
        "nics": [
            {
                "name": names[one.mac],
                "mac": one.mac,
                "old_mac": one.mac,
                "driver": one.model.linux_driver,
            }
            for one in spec.nics
        ],
    }
