"""The facts that tell how the emergency server itself is. Each is looked at on its own: what can't
be told is None, and keeps nothing else from being told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import disk_usage
from typing import TypeVar

from notfallserver.server.authority import Authority
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.outage.witness import all_gateways
from notfallserver.server.cycle.retention.removal import is_stuck
from notfallserver.server.cycle.standin import memory_limit
from notfallserver.server.health.clock import clock_synchronised
from notfallserver.server.health.filling import time_until_full
from notfallserver.server.offload.place import Standing, stands
from notfallserver.server.offload.places import Places
from notfallserver.server.records.space import Sample
from notfallserver.server.rescue_medium import find_medium
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """Sizes in bytes; ``full_in`` is None while it can't be foreseen.

    ``disk_free`` and ``disk_size`` are of the disk with the server's own data; a pool in a file
    there may still grow by ``pool_grows``.
    ``accelerators`` is None when the hypervisor does not answer. ``largest`` is the memory of the
    largest primary, ``memory`` what a stand-in can get here. ``mute`` are the receivers to whom
    nothing has got through for an hour. Below ``make_room`` percent versions go before their time;
    ``stuck``: none may go any more. ``offloads``: each place for off-loads and how it stands; of
    those ``unkept`` nobody has said that the key lies in a safe place.
    """

    pool_size: int | None
    pool_free: int | None
    disk_free: int | None
    disk_size: int | None
    pool_grows: int
    full_in: timedelta | None
    clock_right: bool | None
    server_certificate_until: datetime | None
    authority_until: datetime | None
    accelerator: str
    accelerators: tuple[str, ...] | None
    bridge: str
    bridge_there: bool
    medium: bool | None
    medium_in_work: bool
    largest: int
    largest_name: str
    memory: int
    witnesses: int | None
    receivers: int
    mute: tuple[str, ...]
    make_room: int = 0
    stuck: bool = False
    offloads: tuple[tuple[str, Standing], ...] = ()
    unkept: tuple[str, ...] = ()


MUTE_AFTER = timedelta(hours=1)


def collect(means: Means, authority: Authority) -> Facts:
    """Look at everything; takes a moment, and as long as libvirt when that hangs."""
    now = datetime.now(UTC)
    catalogue, settings = means.catalogue, means.present()
    space = _ask("pool", means.pool.free)
    if space:
        catalogue.space.note(Sample(now, size=space[1], free=space[0]))
    disk = _ask("disk", lambda: disk_usage(settings.data_dir))
    below = _ask("disk below the pool", means.pool.room.below)
    expiry = _ask("certificates", authority.expiry)
    info = _ask("hypervisor", means.hypervisor.info)
    gateways = _ask("gateways", all_gateways)
    medium = _ask("rescue medium", lambda: find_medium(means.rescue_dir))
    machines = [(one.machine.memory, one.name) for one in catalogue.primaries.all() if one.machine]
    largest, name = max(machines, default=(0, ""))
    receivers = catalogue.receivers.all()
    witnesses = len(set(settings.guard.witnesses) | set(gateways or ()))
    places = _ask("off-loads", lambda: _places(Places(settings.data_dir)))
    return Facts(
        pool_size=space[1] if space else None,
        pool_free=space[0] if space else None,
        disk_free=disk.free if disk else None,
        disk_size=disk.total if disk else None,
        pool_grows=below.grows if below else 0,
        full_in=time_until_full(catalogue.space.samples(), space[1], space[0], now)
        if space
        else None,
        clock_right=_ask("clock", clock_synchronised),
        server_certificate_until=expiry[0] if expiry else None,
        authority_until=expiry[1] if expiry else None,
        accelerator=settings.accelerator,
        accelerators=tuple(info.accelerators) if info else None,
        bridge=settings.lan_bridge,
        bridge_there=Path("/sys/class/net", settings.lan_bridge, "bridge").is_dir(),
        medium=medium is not None,
        medium_in_work=bool(catalogue.jobs.unfinished(kind="rescue_build")),
        largest=largest,
        largest_name=name,
        memory=memory_limit(settings),
        witnesses=witnesses if gateways is not None or witnesses else None,
        receivers=len(receivers),
        make_room=settings.make_room_percent,
        stuck=bool(_ask("room", lambda: is_stuck(means))),
        mute=tuple(
            one.name
            for one in receivers
            if one.failing_since and now - one.failing_since > MUTE_AFTER
        ),
        offloads=places[0] if places else (),
        unkept=places[1] if places else (),
    )


def _places(places: Places) -> tuple[tuple[tuple[str, Standing], ...], tuple[str, ...]]:
    known, now = places.all(), datetime.now().astimezone()
    return (
        tuple(
            (one.name, stands(one, places.media(one), places.made_at(one), now)) for one in known
        ),
        tuple(one.name for one in known if not places.key_kept(one)),
    )


def _ask(what: str, look: Callable[[], T]) -> T | None:
    try:
        return look()
    except (NotfallError, OSError, ValueError) as error:
        log.debug("%s: %s", what, error)
        return None
