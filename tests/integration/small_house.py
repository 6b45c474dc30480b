"""A real server process with everything but machines: ``python small_house.py SETTINGS``.

Catalogue, jobs, certificates, TLS, app and page are the real ones. The conductor keeps the rules of
its interface but has no pool and no virtual machines: its jobs only wait and tell progress.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from notfallserver.server.agent_package import pack_agent
from notfallserver.server.authority import create_authority
from notfallserver.server.cycle.actions import DiskMove, PoolState, RecoveryPlan, VersionInfo
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.state import Event, State, next_state
from notfallserver.server.host.files import replace_file
from notfallserver.server.house import House
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.jobs import Job
from notfallserver.server.settings import load_settings
from notfallserver.server.web.app import make_app
from notfallserver.server.web.peer import agent_of
from notfallserver.server.web.serve import serve
from notfallserver.wire.errors import NotfallError

MIB = 1 << 20
STAMP = "20260101T100000.000Z"


class SmallConductor:
    def __init__(self, catalogue: Catalogue, runner: JobRunner) -> None:
        self._catalogue = catalogue
        self._runner = runner
        for kind in ("replicate", "activate", "recover", "switch_back", "undo", "rescue_build"):
            runner.register(kind, self._work)

    def _work(self, ctx: JobContext) -> Mapping[str, Any]:
        seconds = float(ctx.parameters.get("seconds", 1))
        steps = int(seconds * 10)
        for step in range(steps + 1):
            ctx.progress("sending", step * MIB, steps * MIB)
            ctx.sleep(0.1)
        if ctx.job.primary and ctx.job.kind == "replicate":
            self._catalogue.primaries.new_version(ctx.job.primary, STAMP)
        return {"version": STAMP}

    def versions(self, primary: str) -> Sequence[VersionInfo]:
        if not self._catalogue.primaries.find(primary).newest_version:
            return []
        taken = datetime(2026, 1, 1, 10, tzinfo=UTC)
        return [VersionInfo(STAMP, taken, "agent", "filesystem", 1 << 30, MIB, 1, True, False)]

    def pool_state(self) -> PoolState:
        return PoolState("/pool", "xfs", True, 1 << 40, 1 << 39)

    def replicate(self, primary: str, who: str) -> Job:
        name = self._catalogue.primaries.find(primary).name
        seconds = 60 if name.startswith("slow") else 1
        return self._runner.submit("replicate", primary, {"seconds": seconds}, who, join=True)

    def activate(self, primary: str, who: str, overrule_reason: str = "") -> Job:
        if not overrule_reason:
            raise NotfallError(
                "sign-of-life",
                "192.0.2.1 answers ping.",
                "Look at the original; overrule with a reason.",
                status=409,
            )
        self._move(primary, Event.ACTIVATE, who, overrule_reason)
        job = self._runner.submit("activate", primary, {}, who)
        self._move(primary, Event.STANDIN_UP, who)
        return job

    def _move(self, primary: str, event: Event, who: str, why: str = "") -> None:
        row = self._catalogue.primaries.find(primary)
        after = next_state(State(row.state), event)
        self._catalogue.primaries.move(primary, row.state, after, event, who, why)

    def plan_recovery(
        self, primary: str, target_code: str, disk_map: Mapping[str, str] | None
    ) -> RecoveryPlan:
        target = self._catalogue.targets.by_code(target_code)
        new = target.machine.disks[0]
        if disk_map and disk_map != {"vda": new.name}:
            raise NotfallError("no-such-disk", "There is no such disk.", "See 'notfall targets'.")
        move = DiskMove("vda", 1 << 30, new.name, new.size, new.serial, new.model, ("ext4 old",))
        return RecoveryPlan(primary, target.id, (move,), ("sdb",), ("It is slow.",))

    def recover(
        self,
        primary: str,
        target_code: str,
        disk_map: Mapping[str, str] | None,
        confirmed: str,
        who: str,
    ) -> Job:
        self.plan_recovery(primary, target_code, disk_map).confirm(confirmed)
        return self._runner.submit("recover", primary, {}, who)

    def switch_back(self, primary: str, who: str, at: datetime | None = None) -> Job:
        when = {"at": at.isoformat()} if at else {}
        return self._runner.submit("switch_back", primary, when, who)

    def undo(self, primary: str, who: str) -> Job:
        return self._runner.submit("undo", primary, {}, who)

    def remove(self, primary: str, who: str) -> None:
        self._catalogue.primaries.remove(primary, who)

    def mount_files(self, primary: str, version: str | None, directory: Path, who: str) -> str:
        if not directory.is_dir():
            raise NotfallError("no-directory", f"{directory} is no directory.", "Make it.")
        return version or STAMP

    def unmount_files(self, directory: Path) -> None:
        raise NotfallError("not-mounted", f"Nothing is mounted at {directory}.", status=404)

    def build_rescue(self, who: str) -> Job:
        return self._runner.submit("rescue_build", None, {}, who, join=True)


agents = APIRouter(prefix="/agent/v1", include_in_schema=False)


@agents.get("/whoami")
def whoami(primary: Annotated[str, Depends(agent_of)]) -> dict[str, str]:
    return {"primary": primary}


def main() -> None:
    settings = load_settings(Path(sys.argv[1]))
    authority = create_authority(settings.data_dir / "ca")
    authority.ensure_server_certificate(["localhost", "127.0.0.1"])
    catalogue = open_catalogue(settings.data_dir)
    catalogue.people.keep_cli_token(settings.data_dir / "cli-token")
    if not catalogue.people.has_administrator():
        catalogue.people.set_password("admin", "a good password", "test")
    replace_file(settings.data_dir / "agent.pyz", pack_agent())
    runner = JobRunner(catalogue.jobs, catalogue.journal)
    house = House(
        settings=settings,
        catalogue=catalogue,
        runner=runner,
        authority=authority,
        conductor=SmallConductor(catalogue, runner),
        agent_package=settings.data_dir / "agent.pyz",
        urls=settings.urls,
    )
    try:
        serve(make_app(house, [agents]), house, runner.resume_unfinished)
    finally:
        runner.stop()
        catalogue.close()


if __name__ == "__main__":
    main()
