"""What people have done to a primary: every route here ends in the conductor."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from fastapi import APIRouter, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from notfallserver.server.records.people import Role
from notfallserver.server.records.primaries import Primary
from notfallserver.server.web.answers import JobAnswer, OfferAnswer, PlanAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, Person, require_role
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["actions"])


class ActivateRequest(BaseModel):
    """``overrule_reason`` starts the stand-in against the guard's advice, and is journalled.

    ``switch_off``: the original is switched off from afar first, whether it lives or not; the guard
    decides afterwards. ``version``: the copy; left out: the one that is marked ``taken`` among the
    offers.
    """

    model_config = ConfigDict(extra="forbid")

    overrule_reason: str = Field(default="", max_length=1000)
    switch_off: bool = False
    version: str | None = Field(default=None, max_length=64)


class ReplicateRequest(BaseModel):
    """``deep``: read all, and tell what had changed without being seen."""

    model_config = ConfigDict(extra="forbid")

    deep: bool = False


class ScrubRequest(BaseModel):
    """``version``: check only this one; left out: all."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = Field(default=None, max_length=64)


class PlanRequest(BaseModel):
    """``disks``: old disk's name -> new disk's name, several may go onto one; left out, the server
    chooses. ``grow``: filesystems become as large as the new disks."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=40)
    disks: dict[str, str] | None = Field(default=None, max_length=256)
    grow: bool = False


class RecoverRequest(PlanRequest):
    """``confirmed`` is the digest of the plan that was shown."""

    confirmed: str = Field(min_length=1, max_length=64)


class SwitchBackRequest(BaseModel):
    """``at``: when, with its zone; left out: now."""

    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime | None = None


class MountRequest(BaseModel):
    """``directory``: an empty directory on the emergency server, absolute."""

    model_config = ConfigDict(extra="forbid")

    directory: str = Field(min_length=1, max_length=4096)
    version: str | None = Field(default=None, max_length=64)


class UnmountRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    directory: str = Field(min_length=1, max_length=4096)


class MountAnswer(BaseModel):
    version: str
    directory: str


@router.post("/primaries/{name}/replicate", status_code=202)
def replicate(
    request: Request, name: Name, who: Operator, body: ReplicateRequest | None = None
) -> JobAnswer:
    primary = _primary(request, name)
    deep = body is not None and body.deep
    job = house_of(request).conductor.replicate(primary.uuid, who, deep)
    return JobAnswer.of(job, primary.name)


@router.post("/primaries/{name}/scrub", status_code=202)
def scrub(request: Request, name: Name, body: ScrubRequest, who: Operator) -> JobAnswer:
    """Check versions against their block index, and repair what can be."""
    primary = _primary(request, name)
    job = house_of(request).conductor.scrub(primary.uuid, who, body.version)
    return JobAnswer.of(job, primary.name)


@router.post("/primaries/{name}/activate", status_code=202)
def activate(request: Request, name: Name, body: ActivateRequest, who: Operator) -> JobAnswer:
    """Only an administrator may overrule the guard."""
    primary = _primary(request, name)
    reason = body.overrule_reason.strip()
    if reason:
        require_role(request, Role.ADMINISTRATOR)
    if reason and body.switch_off:
        raise NotfallError(
            "bad-request",
            "Either the original is switched off, and the guard decides then, or it is overruled.",
            "Leave one of them out.",
        )
    job = house_of(request).conductor.activate(
        primary.uuid, who, reason, body.switch_off, body.version
    )
    return JobAnswer.of(job, primary.name)


@router.get("/primaries/{name}/offers")
def list_offers(request: Request, name: Name, who: Person) -> list[OfferAnswer]:
    """The copies that a stand-in can be started from, the newest proven one first."""
    found = house_of(request).conductor.choice.offers(_primary(request, name))
    return [OfferAnswer.of(one) for one in found]


@router.post("/primaries/{name}/recovery-plan")
def plan_recovery(request: Request, name: Name, body: PlanRequest, who: Operator) -> PlanAnswer:
    """What a recovery would do; changes nothing."""
    primary = _primary(request, name)
    conductor = house_of(request).conductor
    return PlanAnswer.of(conductor.plan_recovery(primary.uuid, body.code, body.disks, body.grow))


@router.post("/primaries/{name}/recover", status_code=202)
def recover(request: Request, name: Name, body: RecoverRequest, who: Operator) -> JobAnswer:
    primary = _primary(request, name)
    conductor = house_of(request).conductor
    job = conductor.recover(primary.uuid, body.code, body.disks, body.confirmed, who, body.grow)
    return JobAnswer.of(job, primary.name)


@router.post("/primaries/{name}/switch-back", status_code=202)
def switch_back(request: Request, name: Name, body: SwitchBackRequest, who: Operator) -> JobAnswer:
    primary = _primary(request, name)
    at: datetime | None = body.at
    return JobAnswer.of(
        house_of(request).conductor.switch_back(primary.uuid, who, at), primary.name
    )


@router.post("/primaries/{name}/undo", status_code=202)
def undo(request: Request, name: Name, who: Operator) -> JobAnswer:
    primary = _primary(request, name)
    return JobAnswer.of(house_of(request).conductor.undo(primary.uuid, who), primary.name)


@router.post("/primaries/{name}/files")
def mount_files(
    request: Request, name: Name, body: MountRequest, who: Administrator
) -> MountAnswer:
    """Show a version's volumes read-only in a directory of the emergency server."""
    primary = _primary(request, name)
    directory = absolute_directory(body.directory)
    stamp = house_of(request).conductor.mount_files(primary.uuid, body.version, directory, who)
    return MountAnswer(version=stamp, directory=str(directory))


@router.post("/files/unmount", status_code=204)
def unmount_files(request: Request, body: UnmountRequest, who: Administrator) -> Response:
    house_of(request).conductor.unmount_files(absolute_directory(body.directory))
    return Response(status_code=204)


@router.post("/rescue/build", status_code=202)
def build_rescue(request: Request, who: Operator) -> JobAnswer:
    return JobAnswer.of(house_of(request).conductor.build_rescue(who))


def _primary(request: Request, name: str) -> Primary:
    return house_of(request).catalogue.primaries.find(name)


def absolute_directory(text: str) -> Path:
    directory = Path(text)
    if "\0" in text or not directory.is_absolute() or ".." in directory.parts:
        raise NotfallError(
            "bad-directory", f"'{text[:200]}' is no directory.", "Give its absolute path."
        )
    return directory
