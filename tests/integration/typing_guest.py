"""A machine without an operating system that shows what is typed, and obeys its power button.

A boot sector: 'B' to the serial port at each boot, then every key to the serial port and to the
screen. Keys come through the BIOS, so Ctrl+Alt+Del reboots.
"""

from __future__ import annotations

from pathlib import Path

from hand_agent import HandAgent
from server_process import ServerProcess

from notfall_lab.hypervisor import Lab
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.vm import Accelerator, VmDisk, VmSpec
from notfallserver.server.vm.libvirt import LibvirtHypervisor
from notfallserver.wire.blocks import BLOCK

_SECTOR = bytes.fromhex(
    "31c0 8ed8 8ec0 8ed0 bc007c fb"  # ax, ds, es, ss = 0; sp = 7c00; interrupts on
    "baf803 b042 ee"  # 'B' to the serial port
    "ba0206 b80001 ef"  # the power button shall set its bit (PM1 enable)
    "f4"  # again: wait for an interrupt
    "ba0006 ed f6c401 7407"  # is the bit set (PM1 status)?
    "ba0406 b80020 ef"  # then off (PM1 control: S5)
    "b401 cd16 74e9"  # no key: again
    "b400 cd16 baf803 ee"  # the key to the serial port
    "b40e bb0700 cd10"  # and to the screen
    "ebd8"  # again
).ljust(510, b"\0")
DISK = (_SECTOR + b"\x55\xaa").ljust(16 * BLOCK, b"\0")


class TypingGuest:
    """The stand-in of a primary, defined at the lab's libvirt."""

    def __init__(self, server: ServerProcess, agent: HandAgent, lab: Lab) -> None:
        standin = server.pool.primary(agent.uuid).standin()
        assert standin is not None
        self.name = machine_name(agent.uuid)
        self._log = Path(server.directory, f"{agent.name}.serial")
        self._log.touch()
        self.hypervisor = LibvirtHypervisor(lab.uri)
        self.hypervisor.define(
            VmSpec(
                self.name,
                128 << 20,
                disks=(VmDisk(standin.disks[0], boot=1),),
                accelerator=Accelerator.TCG,
                serial_log=self._log,
                vnc=True,
            )
        )

    def told(self) -> str:
        """All that it wrote to its serial port."""
        return self._log.read_bytes().decode("ascii", "replace")
