"""The agent's commands.

Each imports what it needs when it is called: ``guard-boot`` runs at every start of the machine
before its network comes up, and most of its time would be the import of all the others.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import List, Optional

from notfallserver import VERSION
from notfallserver.agent.role import DIRECTORY
from notfallserver.agent.stop import Stop, Stopped
from notfallserver.wire.errors import NotfallError

_SEED_DONE = """The seed is in {}. On the emergency server: notfall seed import DIR
It holds everything on this machine's disks and is NOT encrypted: take an encrypted (LUKS) disk,
keep it locked away, and erase it after the import. Do not restart this machine before the import,
or the next replication has to read all disks again."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="notfall-agent", description="Replicates this machine to its emergency server."
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("install", help="enrol this machine and start the service")
    one.add_argument("--server", required=True, metavar="URL")
    one.add_argument("--token", required=True)
    one.add_argument("--ca", required=True, type=Path, metavar="FILE")
    one.add_argument("--disk", action="append", default=[], metavar="/dev/X")
    one.add_argument("--no-service", action="store_true", help="only enrol and copy the files")
    for name, text in (
        ("run", "the service: wait for orders"),
        ("replicate", "one replication now; tells the result as JSON"),
        ("seed", "a first copy onto a removable disk, to be imported by the server"),
        ("facts", "what the server is told of this machine, as JSON"),
        ("thaw", "thaw what an agent that was killed left frozen"),
        ("applications", "which applications a replication makes stand still"),
        ("guard-boot", "before the network comes up: keep off it if a stand-in works here"),
        ("stay-off", "the service that keeps this machine off the network"),
        ("unfence", "give the network back to a machine that keeps off it"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("--config", type=Path, default=DIRECTORY, metavar="DIR")
        if name == "seed":
            one.add_argument("--to", required=True, type=Path, metavar="DIR")
        if name in ("replicate", "seed"):
            one.add_argument("--server", default="", metavar="NAME", help="of two: for which")
        if name == "unfence":
            one.add_argument("--force", action="store_true", help="though its stand-in works")
        if name == "applications":
            held = one
    held.add_argument("--try", action="store_true", help="hold them for a moment, without a freeze")
    one = commands.add_parser("servers", help="to which servers this machine is replicated")
    one.add_argument("--config", type=Path, default=DIRECTORY, metavar="DIR")
    one = commands.add_parser("remove", help="replicate to one of two servers no more")
    one.add_argument("--server", required=True, metavar="NAME")
    commands.add_parser("uninstall", help="remove the agent from this machine")
    one = commands.add_parser("watchdog")  # for the agent itself
    one.add_argument("rest", nargs="+")
    return parser


def main(arguments: Optional[List[str]] = None) -> int:
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        return _carry_out(given)
    except NotfallError as error:
        print(f"{error.cause}\n{error.remedy}".strip(), file=sys.stderr)
        return 1
    except Stopped:
        return 130


def _carry_out(given: argparse.Namespace) -> int:
    """Returns the exit code."""
    if given.command == "guard-boot":
        from notfallserver.agent.fence.boot import guard_boot

        guard_boot(given.config)
    elif given.command == "watchdog":
        from notfallserver.agent.freeze import watchdog

        watchdog.main(given.rest)
    elif given.command in ("stay-off", "unfence"):
        _keep_off(given)
    elif given.command in ("install", "servers", "remove", "uninstall"):
        _manage(given)
    elif given.command == "run":
        from notfallserver.agent.service import Service

        stop = Stop()
        stop.listen()
        Service(given.config, stop).serve()
    elif given.command in ("replicate", "seed"):
        _replicate(given)
    elif given.command == "facts":
        _tell_facts(given.config)
    elif given.command == "thaw":
        _thaw(given.config)
    else:
        from notfallserver.agent import config
        from notfallserver.agent.applications.show import show_applications
        from notfallserver.agent.place import Place

        settings = config.load_settings(given.config)
        return show_applications(settings, Place(given.config).directory, vars(given)["try"])
    return 0


def _keep_off(given: argparse.Namespace) -> None:
    from notfallserver.agent.fence.watch import stay_off, unfence

    if given.command == "unfence":
        print(unfence(given.config, given.force))
        return
    stop = Stop()
    stop.listen()
    stay_off(given.config, stop)


def _manage(given: argparse.Namespace) -> None:
    from notfallserver.agent.install import Wish, install, remove, uninstall
    from notfallserver.agent.servers import known_servers

    if given.command == "install":
        wish = Wish(given.server, given.token, given.ca, given.disk, not given.no_service)
        print(f"This machine is enrolled as {install(wish)}.")
    elif given.command == "servers":
        for server in known_servers(given.config):
            print(f"{server.name}  {server.settings().url}")
    elif given.command == "remove":
        remove(given.server)
    else:
        uninstall()


def _replicate(given: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from notfallserver.agent.applications.leftovers import Notes, thaw_applications
    from notfallserver.agent.duty import Duty
    from notfallserver.agent.freeze.linux import thaw_leftovers
    from notfallserver.agent.gentle import settle_down
    from notfallserver.agent.place import Place
    from notfallserver.agent.servers import server_called
    from notfallserver.agent.work.here import host

    stop = Stop()
    stop.listen()
    server = server_called(given.config, given.server)
    settings = server.settings()
    duty = Duty(server, settings, stop, host(given.config, stop).work(server, settings))
    own = Place(given.config)
    settle_down(settings.nice)
    try:
        thaw_leftovers(own.note)
        thaw_applications(Notes(own.common))
        if given.command == "replicate":
            print(json.dumps(asdict(duty.replicate())))
            return
        outcome, directory = duty.seed(given.to)
        print(json.dumps({**asdict(outcome), "seed": str(directory)}))
        print(_SEED_DONE.format(directory), file=sys.stderr)
    finally:
        duty.leave_off(False, False, 0)


def _tell_facts(directory: Path) -> None:
    import json

    from notfallserver.agent import config
    from notfallserver.agent.disks.linux import machine_facts, protected_disks

    has_settings = (directory / "agent.json").exists()
    disks = config.load_settings(directory).disks if has_settings else []
    print(json.dumps(machine_facts(protected_disks(disks)).to_json(), indent=2))


def _thaw(directory: Path) -> None:
    from notfallserver.agent.applications.leftovers import Notes, thaw_applications
    from notfallserver.agent.freeze.linux import thaw_leftovers
    from notfallserver.agent.place import Place
    from notfallserver.agent.work.linux import go_on_after_handover

    own = Place(directory)
    for place in thaw_leftovers(own.note):
        print(f"{place} was frozen.")
    for line in thaw_applications(Notes(own.common)):
        print(f"{line}.")
    if done := go_on_after_handover(own):
        print(f"It was {done}.")


if __name__ == "__main__":
    sys.exit(main())
