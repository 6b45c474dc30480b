"""Looks at what this emergency server stands on, and whether a primary could be replaced on it
today. Nothing is changed."""

from __future__ import annotations

from shutil import disk_usage

from notfallserver import VERSION
from notfallserver.server.cycle.agentless import is_agentless
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.normal import readiness
from notfallserver.server.cycle.outage.legs import counting, groups_of, map_groups, read_legs
from notfallserver.server.cycle.outage.probe import ask, lives
from notfallserver.server.cycle.outage.sounding import unheard
from notfallserver.server.cycle.outage.witness import all_gateways, default_gateways
from notfallserver.server.cycle.plans.room import capacity_of_all, read_memory
from notfallserver.server.cycle.standin import cpu_limit, memory_limit
from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.cycle.surroundings import Surroundings
from notfallserver.server.cycle.views import forecast_of
from notfallserver.server.host.memory import free_memory
from notfallserver.server.host.network import find_manager, read_links
from notfallserver.server.pool.proof import Standing, standing
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.primaries import Primary
from notfallserver.server.rescue_medium import find_medium
from notfallserver.server.vm.firmware import find_uefi
from notfallserver.server.vm.hypervisor import HypervisorInfo
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.errors import NotfallError


def look_around(means: Means, asking: bool = True) -> Surroundings:
    """``asking``: gateways and witnesses are asked too, which takes a second if one is silent."""
    settings = means.present()
    image = means.place.image
    free, size = means.pool.free()
    gateways = tuple(default_gateways())
    asked = (*gateways, *settings.guard.witnesses) if asking else ()
    heard = ask(asked)
    return Surroundings(
        pool=str(means.place.directory),
        image=str(image or ""),
        size=size,
        room=min(free, disk_usage(image.parent).free) if image else free,
        reflink=means.place.reflink,
        bridge=settings.lan_bridge,
        links=read_links(),
        manager=find_manager(),
        gateways=gateways,
        witnesses=settings.guard.witnesses,
        answering=tuple(
            one for one in asked if lives([told for told in heard if told.address == one])
        ),
        hypervisor=_hypervisor(means),
        accelerator=Accelerator(settings.accelerator),
        cpus=cpu_limit(),
        memory=memory_limit(settings),
        medium=find_medium(means.rescue_dir) is not None,
    )


def readiness_of(means: Means, row: Primary) -> tuple[readiness.Finding, ...]:
    """What stands in the way of replacing this primary; nothing while a stand-in works."""
    if row.state in WITH_STANDIN or row.state == State.OUTAGE:
        return ()
    around, settings = look_around(means, asking=False), means.present()
    others = any(one.machine for one in means.catalogue.primaries.all() if one.uuid != row.uuid)
    return readiness.find(
        _facts(means, row),
        readiness.Host(
            cpus=around.cpus,
            memory=memory_limit(means.for_standin(row.uuid)),
            free=around.room,
            reflink=around.reflink,
            bridge=around.bridge,
            bridged=around.bridged,
            hypervisor=around.hypervisor is not None,
            accelerated=around.accelerated,
            uefi=_has_uefi(means),
            witnesses=bool(all_gateways() or around.witnesses or others),
            idle_memory=free_memory(),
            rehearses=bool(settings.rehearsal_days or settings.rehearse_each_copy),
        ),
    )


def _facts(means: Means, row: Primary) -> readiness.Facts:
    store = means.pool.primary(row.uuid) if row.newest_version else None
    versions = store.versions(most=readiness.LOOK_BACK * 4) if store else []
    best = store.best() if store else None
    prepared = store.prepared(best.stamp) if store and best else None
    proofs = store.proofs.all() if store else {}
    forecast = forecast_of(means, row)
    failed = {
        job.kind: (str(job.error.get("code", "")), str(job.error.get("cause", "")))
        for job in reversed(means.catalogue.jobs.unmended(row.uuid))
        if job.error
    }
    return readiness.Facts(
        machine=row.machine,
        heard=row.last_seen is not None,
        agentless=is_agentless(row),
        agent=row.agent_version,
        program=VERSION,
        schedule_minutes=row.schedule_minutes,
        copies=tuple(one.manifest for one in versions if one.manifest.kind != "capture"),
        used=best.bytes_used if best else 0,
        prepared=prepared is not None,
        warnings=_warnings(store),
        failed=failed,
        evidence=proofs.get(best.stamp) if best else None,
        proven=any(standing(one) is Standing.PROVEN for one in proofs.values()),
        outlook=forecast.outlook if forecast else None,
        unheard=_unheard(means, row),
        crowd=_crowd(means, row),
    )


def _crowd(means: Means, row: Primary) -> readiness.Crowd | None:
    """If it is this one that finds no room when all start together."""
    capacity = capacity_of_all(means, read_memory)
    if not capacity.missing_memory or row.uuid not in {one.primary for one in capacity.rest}:
        return None
    count = len(capacity.fits) + len(capacity.rest)
    return readiness.Crowd(len(capacity.fits), count, capacity.missing_memory)


def _unheard(means: Means, row: Primary) -> tuple[str, ...]:
    settings = means.settings
    if row.machine is None:
        return ()
    groups = counting(groups_of(row.machine), settings.guard.ignored_networks)
    where = map_groups(groups, read_legs(), settings.lan_bridge)
    asked = {one for group in groups for one in group}
    return tuple(one for one in unheard(row.machine, where, row.notes) if one in asked)


def _warnings(store: PrimaryStore | None) -> tuple[tuple[str, str], ...]:
    """Of the image that would start; it may be of an older version than the newest."""
    prepared = store.newest_prepared() if store else None
    told = prepared.record.get("warnings", []) if prepared else []
    return tuple((str(one.get("code", "")), str(one.get("text", ""))) for one in told)


def _hypervisor(means: Means) -> HypervisorInfo | None:
    try:
        return means.hypervisor.info()
    except NotfallError:
        return None


def _has_uefi(means: Means) -> bool:
    try:
        find_uefi(means.settings.data_dir / "nvram.fd")
    except NotfallError:
        return False
    return True
