"""The power of a stand-in that is at work."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.cycle.power_order import Order
from notfallserver.server.records.people import Role
from notfallserver.server.vm.hypervisor import MachineState
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person, require_role
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["power"])


class PowerRequest(BaseModel):
    """``confirmed``: to switch off at once loses what was not written yet, and must be meant.

    ``overrule_reason`` switches on against the guard's advice, and is journalled.
    """

    model_config = ConfigDict(extra="forbid")

    order: Order
    confirmed: bool = False
    overrule_reason: str = Field(default="", max_length=1000)


class PowerAnswer(BaseModel):
    """How the stand-in is; after an order that its guest must obey, still as before."""

    machine: MachineState


@router.get("/primaries/{name}/power")
def show_power(request: Request, name: Name, who: Person) -> PowerAnswer:
    """Whether the stand-in is on."""
    house = house_of(request)
    uuid = house.catalogue.primaries.find(name).uuid
    return PowerAnswer(machine=house.conductor.machine(uuid))


@router.post("/primaries/{name}/power")
def switch_power(request: Request, name: Name, body: PowerRequest, who: Operator) -> PowerAnswer:
    """Shut down, restart, switch off or start the stand-in; before a start the guard is asked."""
    reason = body.overrule_reason.strip()
    if reason:
        require_role(request, Role.ADMINISTRATOR)
    if body.order is Order.SWITCH_OFF and not body.confirmed:
        raise NotfallError(
            "not-confirmed",
            "Switching off at once loses what was not written yet, and is not confirmed.",
            "Shut it down instead, or confirm it.",
            status=409,
        )
    house = house_of(request)
    uuid = house.catalogue.primaries.find(name).uuid
    return PowerAnswer(machine=house.conductor.power(uuid, body.order, who, reason))
