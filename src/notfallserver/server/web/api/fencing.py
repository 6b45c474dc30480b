"""What can switch an original off from afar: name it, ask it, forget it. No secret comes out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.fence.device import FenceDevice
from notfallserver.server.fence.order import FencePower
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["fencing"])
Told = Annotated[str, Field(max_length=1000)]


class FenceRequest(BaseModel):
    """``agent``: a fence agent such as ipmilan or redfish, or script/NAME; ``options``: what it
    needs, such as ip, username, password. A secret sent as "***" stays as it is."""

    model_config = ConfigDict(extra="forbid")

    agent: str = Field(min_length=1, max_length=80)
    options: dict[str, Told] = Field(default={}, max_length=40)


class FenceAnswer(BaseModel):
    """Secrets are masked."""

    agent: str
    options: dict[str, str]

    @classmethod
    def of(cls, device: FenceDevice) -> FenceAnswer:
        return cls(agent=device.agent, options=device.masked())


class FenceStatusAnswer(BaseModel):
    """Whether the original is on, as its device says."""

    power: FencePower


@router.get("/primaries/{name}/fence")
def show_fence(request: Request, name: Name, who: Administrator) -> FenceAnswer:
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    return FenceAnswer.of(house.conductor.fencing.need(row))


@router.post("/primaries/{name}/fence")
def set_fence(request: Request, name: Name, body: FenceRequest, who: Administrator) -> FenceAnswer:
    """Nothing is asked of the device yet."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    return FenceAnswer.of(house.conductor.fencing.set(row, body.agent, body.options, who))


@router.post("/primaries/{name}/fence/test")
def test_fence(request: Request, name: Name, who: Operator) -> FenceStatusAnswer:
    """Ask the device whether the original is on; changes nothing, takes some seconds."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    return FenceStatusAnswer(power=house.conductor.fencing.status(row))


@router.post("/primaries/{name}/fence/forget", status_code=204)
def forget_fence(request: Request, name: Name, who: Administrator) -> Response:
    house = house_of(request)
    house.conductor.fencing.forget(house.catalogue.primaries.find(name), who)
    return Response(status_code=204)


def fence_of(request: Request, name: str) -> FenceAnswer | None:
    """As it stands; None where none is known."""
    try:
        return show_fence(request, name, "")
    except NotfallError as error:
        if error.code != "no-fence-device":
            raise
        return None
