"""A server with a primary in each place of its life cycle, for looking at its pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hand_agent import HandAgent
from server_process import ServerProcess, running

LONG = "new-machine-with-a-very-long-name-in-the-branch-office-far-away"


@dataclass(frozen=True)
class Scene:
    """``shop`` is protected, ``erp`` is down, ``files`` has a stand-in at work, ``mail`` is being
    brought back and ready to switch, ``LONG`` was never heard of."""

    server: ServerProcess
    uuids: dict[str, str]


@contextmanager
def every_place(directory: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        server = stack.enter_context(running(ServerProcess(directory)))
        uuids = {LONG: server.enrol(LONG)["primary"]}
        for name in ("shop", "erp", "files", "mail"):
            agent = HandAgent(server, name)
            stack.callback(agent.close)
            agent.poll()
            agent.replicate()
            # Were the original heard again, the outage would be over at once.
            agent.poll("stand-in" if name == "erp" else "primary")
            uuids[name] = agent.uuid
        for name in ("files", "mail"):
            server.put_in_emergency(uuids[name])
        closeness = {"ready": True, "round": 3, "written": 1 << 20, "rate": 5e7}
        closeness["predicted_downtime_s"] = 94
        with server.catalogue() as catalogue:
            move, note = catalogue.primaries.move, catalogue.primaries.note
            move(uuids["erp"], "normal", "outage", "outage_seen", "server", "no heartbeat")
            recovery = {"id": "r", "target": "t", "disks": {}, "closeness": closeness}
            note(uuids["mail"], recovery=recovery)
            move(uuids["mail"], "emergency", "recovering", "recover", "admin")
        yield Scene(server, uuids)
