"""``make page``: the whole page with a simulated world; ends with Ctrl-C and leaves nothing."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from notfall_lab.dryrun.house import PASSWORD, SERVERS, dry_house


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8443)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--password", default=PASSWORD)
    parser.add_argument("--speed", type=float, default=1, help="so many times faster (1 to 20)")
    parser.add_argument("--more", type=int, default=0, help="so many further servers, all well")
    given = parser.parse_args()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    with (
        TemporaryDirectory(prefix="notfall-page-") as directory,
        dry_house(Path(directory), given.port, given.speed, given.host, given.password) as dry,
    ):
        for name, machine in SERVERS.items():
            dry.add(name, machine)
        for number in range(given.more):
            dry.add(f"branch-{number + 1:02}", "shop")
        dry.add("archive", "shop", ages=())  # its first copy is about to be made
        url = dry.house.urls[0]
        told = (
            f"The page:  {url}/  name admin, password {given.password}\n"
            f"The world: {url}/world (who dies, who comes back)\n"
            "It ends with Ctrl-C."
        )
        dry.run(lambda: print(told, flush=True))


if __name__ == "__main__":
    main()
