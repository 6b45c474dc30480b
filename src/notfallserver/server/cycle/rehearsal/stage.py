"""The stage of a rehearsal: the machine on clones, in a network without a way out.

The machine is the stand-in in every respect but its name and its cables. What a crashed
predecessor left of the same primary is removed first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from notfallserver.server.cycle.standin import describe_standin
from notfallserver.server.host.hidden_network import (
    CABLES,
    SWITCH,
    HiddenNetwork,
    hidden_network,
)
from notfallserver.server.host.lending import Lease, lending
from notfallserver.server.pool.store import Clones
from notfallserver.server.settings import Settings
from notfallserver.server.vm.hypervisor import Hypervisor
from notfallserver.server.vm.spec import VmSpec
from notfallserver.wire.facts import Machine

CLONES = "rehearsal"
"""What its clones are called in the pool."""
CHECKED = "checked"
"""And those whose file systems are checked."""


@dataclass(frozen=True)
class Stage:
    """A machine that runs: its name at the hypervisor, and the network to ask it in."""

    name: str
    network: HiddenNetwork


def rehearsal_name(primary: str) -> str:
    """The name of a primary's rehearsal at the hypervisor."""
    return f"rehearsal-{primary}"


def describe_rehearsal(settings: Settings, primary: str, machine: Machine, disks: Clones) -> VmSpec:
    """As the stand-in, but with a name and cables of its own."""
    clock = str(disks.record.get("clock", ""))
    spec = describe_standin(settings, primary, machine, disks.disks, clock)
    nics = tuple(
        replace(nic, bridge="", cable=f"{CABLES}{primary[:8]}{number:x}")
        for number, nic in enumerate(spec.nics)
    )
    return replace(
        spec, name=rehearsal_name(primary), title=f"Rehearsal {spec.title}".strip(), nics=nics
    )


@contextmanager
def on_stage(
    hypervisor: Hypervisor, spec: VmSpec, asking: Sequence[str], leases: Sequence[Lease] = ()
) -> Iterator[Stage]:
    """The machine runs inside this block; ``asking`` are our own addresses in its network,
    ``leases`` what it gets there by DHCP."""
    hypervisor.undefine(spec.name)
    with ExitStack() as stack:
        network = stack.enter_context(hidden_network([nic.cable for nic in spec.nics], asking))
        stack.enter_context(lending(network.handle, SWITCH, leases))
        stack.callback(hypervisor.undefine, spec.name)
        hypervisor.define(spec)
        hypervisor.start(spec.name, paused=True)
        network.plug_in()  # before its first instruction: it was never on the host's network
        hypervisor.resume(spec.name)
        yield Stage(spec.name, network)
