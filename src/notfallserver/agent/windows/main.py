"""The agent's commands on Windows; the packed program calls :func:`main`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import winreg
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import List, Optional, Tuple

from notfallserver import VERSION
from notfallserver.agent.disks.windows import machine_facts, see_disks
from notfallserver.agent.duty import Duty
from notfallserver.agent.enrolment import require_second, take_away
from notfallserver.agent.servers import known_servers, server_called
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop, Stopped
from notfallserver.agent.windows.asking import Asking
from notfallserver.agent.windows.boot import boot_id
from notfallserver.agent.windows.enrol import KEY, enrol, read_invitation
from notfallserver.agent.windows.examine import examine
from notfallserver.agent.windows.invitations import LOOK_AGAIN_S, Invitation, Watch
from notfallserver.agent.windows.standoff import Standoff
from notfallserver.wire.errors import NotfallError

assert sys.platform == "win32"  # noqa: S101  (tells type checkers, too)

from notfallserver.agent.windows import native_vss, place  # noqa: E402
from notfallserver.agent.windows.events import EventLog  # noqa: E402
from notfallserver.agent.windows.here import host  # noqa: E402
from notfallserver.agent.windows.manager import is_installed, is_running, stopped  # noqa: E402
from notfallserver.agent.windows.native import Native  # noqa: E402
from notfallserver.agent.windows.service import WindowsService  # noqa: E402

log = logging.getLogger("notfall-agent")

_SEED_DONE = """The seed is in {}. On the emergency server: notfall seed import DIR
It holds everything on this machine's disks and is NOT encrypted: keep that disk locked away, and
erase it after the import. The agent's service can be started again: net start NotfallAgent"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="notfall-agent", description="Replicates this machine to its emergency server."
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--config", type=Path, default=place.directory(), metavar="DIR")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("service", help="for the service manager")
    commands.add_parser("run", help="what the service does, in this window")
    commands.add_parser("facts", help="what the server is told of this machine, as JSON")
    commands.add_parser("examine", help="all that Windows answers, as JSON, for the makers of this")
    for name, text in (
        ("replicate", "one replication now; tells the result as JSON"),
        ("seed", "a first copy onto a removable disk, to be imported by the server"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("--server", default="", metavar="NAME", help="of two: for which")
    one.add_argument("--to", required=True, type=Path, metavar="DIR")
    commands.add_parser("forget", help="remove the configuration (the package, when it is removed)")
    one = commands.add_parser("unfence", help="back on the network, where it is kept off")
    one.add_argument("--force", action="store_true", help="though its stand-in works")
    one = commands.add_parser("enrol", help="use an invitation, also that of a second server")
    one.add_argument("--server", required=True, metavar="URL")
    one.add_argument("--token", required=True, metavar="TOKEN:FINGERPRINT")
    commands.add_parser("servers", help="to which servers this machine is replicated")
    one = commands.add_parser("remove", help="replicate to one of two servers no more")
    one.add_argument("--server", required=True, metavar="NAME")
    return parser


def main(arguments: Optional[List[str]] = None) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "service":  # it has no window to print in
        log.setLevel(logging.INFO)
        log.addHandler(EventLog())
        log.propagate = False
    else:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        _carry_out(given)
    except NotfallError as error:
        print(f"{error.cause}\n{error.remedy}".strip(), file=sys.stderr)
        return 1
    except Stopped:
        return 130
    return 0


def _carry_out(given: argparse.Namespace) -> None:
    if given.command == "service":
        WindowsService(lambda stop: work(given.config, stop)).run()
        return
    if given.command == "forget":
        # Replaced by a newer package, whose service is there by now: the configuration stays.
        if not is_installed():
            if told := _standoff(given.config, Stop()).let_go():
                print(told)
            place.remove_directory(given.config)
        return
    if given.command == "facts":
        system = Native()
        print(json.dumps(machine_facts(system, see_disks(system)).to_json(), indent=2))
    elif given.command == "enrol":
        _enrol(given.config, given.server, given.token)
        if is_running():
            print("The service serves it in a moment.")
    elif given.command == "servers":
        for one in known_servers(given.config):
            print(f"{one.name}  {one.settings().url}")
    elif given.command == "remove":
        _remove(given.config, given.server)
    elif given.command == "unfence":
        with stopped():  # which would switch the cards off again
            print(_standoff(given.config, Stop()).unfence(given.force))
    else:
        _work_by_hand(given)


def _work_by_hand(given: argparse.Namespace) -> None:
    stop = Stop()
    stop.listen()
    if given.command == "run":
        work(given.config, stop)
    elif given.command == "examine":
        print(json.dumps(examine(Native(), native_vss.taker(stop.check, stop.wait)), indent=2))
    else:
        _replicate(given, stop)


def _replicate(given: argparse.Namespace, stop: Stop) -> None:
    if given.command == "seed" and is_running():
        raise NotfallError(
            "agent-running",
            "The agent's service is running, and would replicate beside the seed.",
            "Stop it (net stop NotfallAgent), make the seed, and start it again.",
        )
    server = server_called(given.config, given.server)
    settings = server.settings()
    here = host(given.config, stop)
    here.begin(settings)
    duty = Duty(server, settings, stop, here.work(server, settings))
    if given.command == "replicate":
        print(json.dumps(asdict(duty.replicate())))
        return
    outcome, directory = duty.seed(given.to)
    print(json.dumps({**asdict(outcome), "seed": str(directory)}))
    print(_SEED_DONE.format(directory), file=sys.stderr)


def _standoff(directory: Path, stop: Stop) -> Standoff:
    system = Native()
    return Standoff(directory, system, stop, Asking(directory, lambda: boot_id(system)))


def _remove(directory: Path, name: str) -> None:
    server = require_second(directory, name, "in Settings, Apps, or by msiexec /x")
    with stopped():
        take_away(directory, server)


def work(directory: Path, stop: Stop) -> None:
    """Use an invitation as soon as there is one, and do what the servers ask for."""
    invitation = Invitation(_invitation, partial(_enrol, directory), _forget_token)
    service = _enrolled(directory, stop, invitation)
    Watch(directory, stop, invitation.use, service.enrolled).start()
    service.serve()


def _enrolled(directory: Path, stop: Stop, invitation: Invitation) -> Service:
    """Returns when this machine has a server to work for."""
    while True:
        try:
            invitation.use()
            if (directory / "agent.json").exists():
                return Service(directory, stop, host(directory, stop))
        except NotfallError as error:
            log.error("%s", error)
        except Exception:
            log.exception("serving failed")
        stop.wait(LOOK_AGAIN_S)


# -- the invitation that the package has written down ---------------------------------------------


def _enrol(directory: Path, server: str, token: str) -> None:
    invitation = read_invitation(server, token)
    place.make_directory(directory)
    system = Native()
    found = enrol(
        invitation, directory, lambda disks: machine_facts(system, see_disks(system, disks))
    )
    log.info("%s: this machine is enrolled as %s", found.name, found.settings().primary)


def _invitation() -> Tuple[str, str]:
    system = Native()
    return str(system.setting(KEY, "Server") or ""), str(system.setting(KEY, "Token") or "")


def _forget_token() -> None:
    access = winreg.KEY_SET_VALUE | winreg.KEY_WOW64_64KEY
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, KEY, 0, access) as opened:
        winreg.DeleteValue(opened, "Token")


if __name__ == "__main__":
    sys.exit(main())
