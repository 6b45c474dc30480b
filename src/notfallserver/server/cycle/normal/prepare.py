"""The prepared image: an adapted clone of a version, ready to start.

The clone is opened only inside the appliance; this module hands over files and takes an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from notfallserver.server.cycle.driver_store import DriverStore, drivers_dir
from notfallserver.server.cycle.standin import describe_standin, hardware_of
from notfallserver.server.pool.store import Clones, PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.rescue_medium import Medium
from notfallserver.server.settings import Settings
from notfallserver.server.vm.appliance import run_appliance
from notfallserver.server.vm.hypervisor import Hypervisor
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

APPLIANCE_LIMIT_S = 900.0


def prepare_image(
    settings: Settings,
    hypervisor: Hypervisor,
    medium: Medium,
    store: PrimaryStore,
    version: Version,
    progress: Callable[[str], None],
    check: Callable[[], None],
    wanted: Collection[str] = (),
) -> Clones:
    """Adapt a clone of ``version`` to the stand-in's hardware; the same version is done once.

    Images of the versions ``wanted`` are left alone.
    """
    if (done := store.prepared(version.stamp)) is not None:
        return done
    machine = version.manifest.machine
    with store.preparing(version) as clones:
        spec = describe_standin(settings, store.uuid, machine, clones.disks)
        progress("adapting in the appliance")
        job = {"hardware": hardware_of(spec, machine)}
        told = adapt_clones(settings, hypervisor, medium, clones, machine, job, check)
        store.seal_prepared(clones, told, wanted)
    prepared = store.prepared(version.stamp)
    if prepared is None:
        raise NotfallError("not-prepared", "The prepared image is not there.", status=500)
    return prepared


def adapt_clones(
    settings: Settings,
    hypervisor: Hypervisor,
    medium: Medium,
    clones: Clones,
    machine: Machine,
    job: dict[str, Any],
    check: Callable[[], None],
) -> dict[str, Any]:
    """Have the appliance adapt an image of ``machine``, or only plan it; returns what it tells.

    ``job``: ``hardware``, and ``plan`` where nothing shall be changed.
    """
    answer = run_appliance(
        hypervisor,
        medium,
        clones.disks,
        {"task": "adapt", "machine": machine.to_json(), **job},
        timeout=APPLIANCE_LIMIT_S,
        accelerator=Accelerator(settings.accelerator),
        check=check,
        sectors=[one.sector for one in machine.disks],
        drivers=DriverStore(drivers_dir(settings)).parcel_for(machine, job["hardware"]),
    )
    if not answer.get("ok"):
        told = answer.get("error")
        raise NotfallError.from_json(told if isinstance(told, dict) else {}, 500)
    return {
        "changes": answer.get("changes", []),
        "warnings": answer.get("warnings", []),
        "system": answer.get("system", ""),
        "boots_by": answer.get("boots_by", []),
        "clock": answer.get("clock", ""),
    }
