"""A server whose rehearsals take seconds: its stage is of paper, what is found out on it is real.

``replace`` runs inside the server's process. A copy that is played always starts and tells of its
systemd. Its file systems are checked, and its files compared, by the appliance's own program, but
on loop devices instead of in a machine; adapting only sees whether there is a file system. All else
is the server's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from agent_receiver import loop_device
from server_process import HASTE, ServerProcess

from notfallserver.guest.volumes import opened_volumes
from notfallserver.rescue.appliance import do_check
from notfallserver.server.cycle import duties, proofs, rehearsals
from notfallserver.server.cycle.activation.start import Answer
from notfallserver.server.cycle.normal import prepare
from notfallserver.server.cycle.rehearsal import filesystems
from notfallserver.server.cycle.rehearsal.stage import Stage
from notfallserver.server.vm.spec import VmSpec
from notfallserver.wire.report import SystemReport

TELLS = SystemReport("degraded", ("old.service", "wait-online.service"), True)
HERE = f"import sys; sys.path[:0] = {sys.path!r}; import paper_stage; paper_stage.replace(); "


@dataclass
class PaperStageServer(ServerProcess):
    """The server as a process, with this module at work in it."""

    haste: str = HERE + HASTE


def replace() -> None:
    doors: dict[Any, dict[str, Callable[..., Any]]] = {
        prepare: {"run_appliance": _appliance},
        filesystems: {"run_appliance": _appliance},
        rehearsals: {
            "on_stage": _on_stage,
            "await_answer": _await_answer,
            "refuse_unaskable": lambda *_: None,
        },
    }
    for module, names in doors.items():
        for name, played in names.items():
            assert hasattr(module, name)
            setattr(module, name, played)
    proofs.LOOK, duties.EVERY_S = timedelta(seconds=0.2), 0.2
    duties.RETRY_AFTER = timedelta(seconds=0.5)


def _appliance(
    _hypervisor: object, _rescue: object, disks: Sequence[Path], job: Mapping[str, Any], **_: object
) -> dict[str, Any]:
    with ExitStack() as stack:
        devices = [stack.enter_context(loop_device(one)) for one in disks]
        if job["task"] == "adapt":
            volumes = stack.enter_context(opened_volumes(devices, writable=False))
            error = {"code": "no-system", "cause": "No system was found.", "remedy": ""}
            found = bool(volumes[0].filesystem)
            return {"ok": True} if found else {"ok": False, "error": error}
        return {"ok": True, **do_check(dict(job), devices)}


@contextmanager
def _on_stage(_: object, spec: VmSpec, *__: object) -> Iterator[Stage]:
    (spec.disks[0].path.parent / "console.log").write_text(TELLS.line())
    yield Stage(spec.name, _Nowhere())  # type: ignore[arg-type]


class _Nowhere:
    """A network that nobody is in."""

    def connect(self, *_: object) -> None:
        raise ConnectionRefusedError

    def heard(self) -> list[str]:
        return []


def _await_answer(*_: object) -> Answer:
    return Answer(12.5, [22], [], True, True)
