"""``make demo``: the whole cycle on a real guest, unattended; exit code 0 when every check holds.

``--keep`` leaves server and machines running until Ctrl-C, so that the page can be opened.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

from notfall_lab.cycle import Play, TargetSpec, play_all
from notfall_lab.recipe_guest import BIOS, UEFI
from notfall_lab.relay import relay
from notfall_lab.timeline import Timeline
from notfall_lab.world import PORT, World

RESULT = Path("build/demo/timeline.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the server running")
    parser.add_argument("--firmware", choices=("bios", "uefi"), default="bios")
    parser.add_argument("--target-disks", choices=("nvme", "sata"), default="sata")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    timeline = Timeline("The whole cycle")
    directory = Path(tempfile.mkdtemp(prefix="nf-demo-", dir="/var/tmp"))
    recipe = UEFI if given.firmware == "uefi" else BIOS
    try:
        with World("demo", directory) as world:
            play = Play(world, recipe, timeline, TargetSpec(bus=given.target_disks), timed=True)
            try:
                play_all(play)
            except Exception as error:  # every failure is told in the table, and ends the demo
                timeline.check("the cycle ran to its end", False, f"{error!s:.1500}")
                tell_logs(play)
            failed = timeline.finish(RESULT)
            if given.keep:
                wait_for_person(world)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(failed)


def tell_logs(play: Play) -> None:
    """The ends of the logs, because they are gone afterwards."""
    logs = [play.world.log, *play.world.directory.glob("[mt]-*/console.log")]
    logs += play.world.directory.glob("data/pool/*/standin/console.log")
    for log in logs:
        if log.exists():
            tail = log.read_text(errors="replace")[-3000:]
            play.timeline.console.print(f"--- {log}\n{tail}", markup=False)


def wait_for_person(world: World) -> None:
    password = world.notfall("server", "init", "--new-password")["password"]
    with relay(PORT, world.lan, world.lab.network.address(1), PORT) as port:
        print(f"The page: https://localhost:{port}/  user admin, password {password}")
        print("Everything ends with Ctrl-C (or SIGTERM).", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
