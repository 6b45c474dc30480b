"""The whole cycle, step by step: protect, lose, replace, bring back, prove.

Used by ``make demo`` and by the end-to-end tests. Each step is a function of a :class:`Play`; they
are called in order, and tests may leave steps out or do something else between two of them. Every
promise is a check of the timeline.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from notfall_lab.guestshell import GuestShell
from notfall_lab.hands import COPY_S, CommandLine, Hands
from notfall_lab.image import make_image
from notfall_lab.machine import HardDisk, Hardware, Machine
from notfall_lab.orders import OrderClient
from notfall_lab.patience import BOOT_S, PATIENCE_S
from notfall_lab.recipe_guest import Recipe
from notfall_lab.timeline import Timeline
from notfall_lab.world import World, fetch_packages
from notfallserver.server.host.run import run

GIB = 1 << 30


@dataclass(frozen=True)
class TargetSpec:
    """The new machine: other disks, larger, another card with another address."""

    bus: str = "sata"  # or nvme: a recovery to it stood still once, see docs/architecture.md
    sizes: tuple[int, ...] = (4 * GIB, 3 * GIB)
    nic: str = "e1000e"
    mac: str = "52:54:00:99:00:01"
    memory: int = 1536
    foreign: bool = False  # whether a further disk, with somebody's data, is in it


@dataclass
class Play:
    """One primary's story; what a step found out and later steps need."""

    world: World
    recipe: Recipe
    timeline: Timeline
    target_spec: TargetSpec = field(default_factory=TargetSpec)
    primary: Machine | None = None
    target: Machine | None = None
    customer: OrderClient | None = None
    first_sent: int = 0
    covered_until: float = 0.0  # orders acknowledged before this moment are in the newest version
    timed: bool = False  # whether promises about time are checked: not in tests
    iso: Path | None = None
    foreign: Path | None = None
    foreign_hash: str = ""
    code: str = ""
    by: Hands | None = None
    """Who commands the server; None: the command line."""

    @property
    def hands(self) -> Hands:
        return self.by or CommandLine(self.world)

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def shell(self) -> GuestShell:
        return self.world.shell(self.recipe)

    @property
    def orders(self) -> OrderClient:
        if self.customer is None:
            self.customer = self.world.orders(self.recipe)
        return self.customer

    @property
    def on_stage(self) -> Machine:
        """The physical machine that carries the primary now."""
        machine = self.target or self.primary
        if machine is None:
            raise RuntimeError("no machine was started")
        return machine


# -- normal operation ----------------------------------------------------------------------------


def start_server(play: Play) -> None:
    with play.timeline.step("the rescue medium's packages (kept in the cache)"):
        fetch_packages()
    with play.timeline.step("set up and start the emergency server") as step:
        made = play.world.set_up_server()
        play.timeline.check("the pool can reflink", made["reflink"])
        play.world.start_server()
        step.detail = ", ".join(made["urls"])


def start_primary(play: Play) -> None:
    """A machine that was there long before any emergency server."""
    with play.timeline.step(f"build the image of '{play.name}' (kept in the cache)"):
        image = make_image(play.recipe)
    with play.timeline.step(f"'{play.name}' boots from its own disks"):
        folder = play.world.directory / f"m-{play.name}"
        hardware = Hardware(
            name=play.name,
            disks=tuple(HardDisk(one) for one in image.copy_to(folder)),
            mac=play.recipe.mac,
            firmware=play.recipe.firmware,
            uuid="8e1f0c52-6b5c-4b0a-9d7e-0000000000" + f"{play.recipe.host:02x}",
            serial=f"LAB-{play.name}",
        )
        play.primary = play.world.keep(Machine(hardware, folder, play.world.lan))
        play.primary.power_on()
        play.orders.wait_healthy(BOOT_S)
    play.orders.start()
    play.orders.wait_more(20, PATIENCE_S)


def enrol(play: Play) -> None:
    with play.timeline.step("enrol: paste one line on the primary"):
        play.hands.add(play.name, lambda line: play.shell.run(line, timeout=180))


def replicate_first(play: Play) -> None:
    with play.timeline.step("first replication: everything") as step:
        result = replicate(play)
        play.first_sent = int(result["bytes_sent"])
        step.size = play.first_sent
        step.detail = _run_detail(result)


def replicate(play: Play) -> dict[str, Any]:
    play.covered_until = time.time()
    return play.hands.replicate(play.name)


def _run_detail(result: dict[str, Any]) -> str:
    parts = [f"read {int(str(result['bytes_read'])) >> 20} MiB", f"passes {result['passes']}"]
    parts += [f"frozen {result['freeze_ms']} ms", str(result["consistency"])]
    return ", ".join(parts)


def replicate_under_load(play: Play) -> None:
    before = len(play.orders.acknowledged())
    since = time.time()
    with play.timeline.step("second replication while orders are written") as step:
        result = replicate(play)
        sent = int(result["bytes_sent"])
        step.size = sent
        step.detail = _run_detail(result)
    placed = len(play.orders.acknowledged()) - before
    pause = play.orders.longest_outage(since)
    play.timeline.check("orders went on meanwhile", placed > 0, f"{placed}, pause {pause:.1f} s")
    play.timeline.check(
        "the second run sends only what changed",
        sent < play.first_sent / 3,
        f"{sent} of {play.first_sent} bytes",
    )
    consistency = result["consistency"]
    at_once = consistency in ("filesystem", "application")
    play.timeline.check("all filesystems at one point", at_once, consistency)
    play.timeline.check("the database stood still", consistency == "application", consistency)


def replicate_after_restart(play: Play) -> None:
    """The agent is started anew, as in an update: what was written meanwhile is still known."""
    play.shell.run("systemctl restart notfall-agent", timeout=120)
    with play.timeline.step("third replication, after a restart of the agent") as step:
        result = replicate(play)
        step.size = int(result["bytes_sent"])
        step.detail = _run_detail(result)
    play.timeline.check("it reads only what was written", result["read_all"] is False)


def prepare(play: Play) -> None:
    with play.timeline.step("adapt the newest version in the appliance"):
        play.world.wait_prepared(play.name, COPY_S)


def refuse_while_alive(play: Play) -> None:
    """The guard: a living primary must not get a double."""
    with play.timeline.step("try to activate while the primary lives"):
        why = play.hands.try_to_activate(play.name)
    play.timeline.check("the guard refuses", bool(why), why or "it was started")


# -- outage and emergency operation --------------------------------------------------------------


def lose_primary(play: Play) -> None:
    play.on_stage.cut_power()
    count = len(play.orders.acknowledged())
    play.timeline.note(f"power of '{play.name}' is cut", f"{count} orders acknowledged")
    with play.timeline.step("the server notices the outage"):
        play.world.wait_state(play.name, "outage", PATIENCE_S)


def rewind_customer(play: Play) -> None:
    """What came after the newest version died with the primary's disks: the customer, who has it
    on paper, places it again. Nothing older may be missing, and nothing in between."""
    verdict = play.orders.verify()
    given = play.orders.acknowledged()
    tail = given[len(given) - len(verdict.missing) :]
    late = all(at > play.covered_until for _, at in tail)
    play.timeline.check(
        "the stand-in lacks only orders that came after its version",
        late and verdict.missing == [number for number, _ in tail] and not verdict.unjournalled,
        f"{len(tail)} to be placed again, {len(given) - len(tail)} there",
    )
    play.orders.rewind_to(len(given) - len(tail))


def activate(play: Play) -> None:
    """From the click to orders being taken by the stand-in."""
    play.orders.stop()
    with play.timeline.step("activate the stand-in, until it serves") as step:
        result = play.hands.activate(play.name)
        play.orders.wait_healthy(BOOT_S)
        own = float(result["own_s"])
        step.detail = f"own part {own:.2f} s, the rest is its boot"
    play.timeline.figures["activation_own_s"] = own
    if play.timed:
        play.timeline.check("own part of the activation is at most 3 s", own <= 3, f"{own:.2f} s")
    state = play.world.primary(play.name)["state"]
    play.timeline.check("state is 'emergency'", state == "emergency", state)
    rewind_customer(play)
    play.orders.start()
    with play.timeline.step("orders go to the stand-in"):
        play.orders.wait_more(20, PATIENCE_S)
    role = play.shell.run("cat /etc/notfall-agent/role").out.strip()
    play.timeline.check("the stand-in knows that it is one", role == "stand-in", role)


def capture_on_schedule(play: Play) -> None:
    """The stand-in is itself protected; it hardly notices."""
    play.world.notfall("primary", "schedule", play.name, "--capture-minutes", "1")
    with play.timeline.step("the stand-in is captured on schedule") as step:
        result = play.world.wait_done(play.name, "capture", 180)
        pause = float(result["pause_ms"])
        step.size = int(result["bytes_changed"])
        step.detail = f"it stood still for {pause:.0f} ms"
    play.timeline.figures["capture_pause_ms"] = pause
    if play.timed:
        play.timeline.check("the pause is below 1 s", pause < 1000, f"{pause:.0f} ms")


# -- recovery ------------------------------------------------------------------------------------


def fetch_medium(play: Play) -> None:
    with play.timeline.step("the rescue medium") as step:
        play.iso = play.hands.medium(play.name)
        step.size = play.iso.stat().st_size


def boot_target(play: Play) -> None:
    """A new, empty machine boots the medium and shows its pairing code."""
    spec = play.target_spec
    if play.iso is None:
        raise RuntimeError("fetch the medium first")
    folder = play.world.directory / f"t-{play.name}"
    folder.mkdir(exist_ok=True)
    disks = []
    for number, size in enumerate(spec.sizes):
        path = folder / f"disk{number}.raw"
        with path.open("xb") as stream:
            stream.truncate(size)
        disks.append(HardDisk(path, spec.bus, f"NEW-{number}"))
    if spec.foreign:
        disks.append(_foreign_disk(play, folder / "foreign.raw"))
    hardware = Hardware(
        name="newbox",
        disks=tuple(disks),
        mac=spec.mac,
        firmware=play.recipe.firmware,
        nic=spec.nic,
        nic_slot=5,
        memory=spec.memory,
    )
    play.target = play.world.keep(Machine(hardware, folder, play.world.lan))
    with play.timeline.step(f"a new machine ({spec.bus}, {spec.nic}) boots the medium") as step:
        play.target.power_on(cd=play.iso)
        play.code = play.target.wait_console(r"Pairing code:\s+([A-Z2-7]{8})", BOOT_S).group(1)
        until = time.monotonic() + BOOT_S
        while not play.world.ask("/targets"):
            if time.monotonic() > until:
                raise TimeoutError(f"no target appears; console:\n{play.target.output()[-2000:]}")
            time.sleep(1)
        step.detail = f"pairing code {play.code}"


def _foreign_disk(play: Play, path: Path) -> HardDisk:
    """A disk that nobody names: a partition table and content that must stay."""
    with path.open("xb") as stream:
        stream.truncate(GIB)
        stream.seek(1 << 20)
        stream.write(os.urandom(16 << 20))
    run(["sfdisk", "--quiet", path], text_in="label: dos\nstart=1MiB, type=83\n")
    play.foreign = path
    play.foreign_hash = _hash(path)
    return HardDisk(path, "sata", "FOREIGN")


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def recover(play: Play) -> None:
    """Copy the working stand-in to the target until it is close behind."""
    before = len(play.orders.acknowledged())
    with play.timeline.step("recover to the new machine while the stand-in works") as step:
        play.hands.recover(play.name, play.code)
        step.detail = f"{len(play.orders.acknowledged()) - before} orders meanwhile"
    placed = len(play.orders.acknowledged()) - before
    play.timeline.check("orders went on during the recovery", placed > 20, f"{placed}")


def switch_back(play: Play) -> None:
    since = time.time()
    with play.timeline.step("switch back: stop, last delta, adapt, reboot, boot") as step:
        result = play.hands.switch_back(play.name)
        step.size = int(result["written"])
        play.timeline.figures["switch_back_own_s"] = float(result["own_s"])
        step.detail = f"own part {result['own_s']} s of {result['downtime_s']} s; {result['steps']}"
    with play.timeline.step("orders go to the recovered primary"):
        play.orders.wait_more(20, BOOT_S)
    play.timeline.note("orders were not taken for", f"{play.orders.longest_outage(since):.1f} s")


# -- proof ---------------------------------------------------------------------------------------


def check_recovered(play: Play) -> None:
    check = play.timeline.check
    state = play.world.primary(play.name)["state"]
    check("state is 'normal'", state == "normal", state)
    machine = play.on_stage
    check("it is the new machine that runs", machine.on)
    prefix = {"nvme": "/dev/nvme", "sata": "/dev/sd"}[play.target_spec.bus]
    for place in ("/", "/var/lib/postgresql"):
        source = play.shell.run(f"findmnt -n -o SOURCE {place}").out.strip()
        check(f"{place} is on its own disk", source.startswith(prefix), source)
    if play.foreign is not None:
        check("the foreign disk is as it was", _hash(play.foreign) == play.foreign_hash)
    inserted = [
        one
        for one in machine.qmp.call("query-block")
        if one.get("qdev") == "cd" and "inserted" in one
    ]
    check("no rescue medium is in it", not inserted)
    card = play.shell.run(f"cat /sys/class/net/{play.recipe.nic}/address", check=False).out.strip()
    check("the new card has the old name", card == play.target_spec.mac, f"{card}")
    failed = play.shell.run("systemctl --failed --no-legend --plain").out.strip()
    check("no service has failed in it", not failed, failed)
    role = play.shell.run("cat /etc/notfall-agent/role", check=False).out.strip()
    check("it knows that it is the primary", role == "primary", role)
    domains = play.world.lab.run_in(["virsh", "-q", "list", "--all", "--name"]).stdout.split()
    left = [one for one in domains if one.startswith("standin-")]
    check("there is no stand-in any more", not left, ", ".join(left))
    play.orders.stop()
    verdict = play.orders.verify()
    check(
        "every acknowledged order is there",
        not verdict.missing,
        f"{verdict.acknowledged} acknowledged, missing {verdict.missing[:5]}",
    )
    check("both disks fit together", not verdict.unjournalled, f"{verdict.unjournalled[:5]}")


def replicate_again(play: Play) -> None:
    """The circle is closed: protection goes on where it was."""
    with play.timeline.step("next replication, from the new machine") as step:
        result = replicate(play)
        sent = int(result["bytes_sent"])
        step.size = sent
        step.detail = _run_detail(result)
    play.timeline.check(
        "the next replication is a small delta",
        sent < play.first_sent / 3,
        f"{sent} of {play.first_sent} bytes",
    )


def hand_over(play: Play, *command: str) -> None:
    """A planned handover under load: shut down, last changes, off, stand-in. Nobody places an order
    again, and none is missing."""
    since = time.time()
    original = play.on_stage
    with play.timeline.step("hand over while orders are written") as step:
        result = play.world.notfall(*(command or ("handover", play.name, "--yes")), timeout=COPY_S)
        step.detail = f"nobody could work for {result['result']['downtime_s']} s"
        play.orders.wait_healthy(BOOT_S)
    play.timeline.check("the original has switched itself off", not original.on)
    with play.timeline.step("orders go to the stand-in"):
        play.orders.wait_more(20, PATIENCE_S)
    play.timeline.note("orders were not taken for", f"{play.orders.longest_outage(since):.1f} s")
    role = play.shell.run("cat /etc/notfall-agent/role").out.strip()
    play.timeline.check("the stand-in knows that it is one", role == "stand-in", role)
    play.orders.stop()
    verdict = play.orders.verify()
    play.timeline.check(
        "not one acknowledged order is missing",
        verdict.ok,
        f"{verdict.acknowledged} acknowledged, missing {verdict.missing[:5]}",
    )


CYCLE = (
    start_server,
    start_primary,
    enrol,
    replicate_first,
    replicate_under_load,
    replicate_after_restart,
    prepare,
    refuse_while_alive,
    lose_primary,
    activate,
    capture_on_schedule,
    fetch_medium,
    boot_target,
    recover,
    switch_back,
    check_recovered,
    replicate_again,
)


def play_all(play: Play) -> None:
    """Every step of the cycle, in order."""
    for act in CYCLE:
        act(play)
