"""The hypervisor interface over libvirt.

One connection, opened when first needed and again when libvirtd was restarted meanwhile; libvirt's
own connection object may be used by several threads. Machines live in QEMU processes of their own
and don't notice that libvirtd is away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any, TypeVar
from xml.etree import ElementTree as ET

import libvirt

from notfallserver.server.vm.describe import domain_xml
from notfallserver.server.vm.hypervisor import LIVE, HypervisorInfo, MachineState
from notfallserver.server.vm.spec import Accelerator, VmSpec
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

T = TypeVar("T")

SYSTEM = "qemu:///system"

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: MachineState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: MachineState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: MachineState.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: MachineState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: MachineState.ENDING,
    libvirt.VIR_DOMAIN_SHUTOFF: MachineState.OFF,
    libvirt.VIR_DOMAIN_CRASHED: MachineState.CRASHED,
}
_MEANT = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED,
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED,
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED,
}
"""Why a machine is off when somebody wanted it; libvirt does not know any more after a restart."""
_NO_PASSWORD = libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH
_POLL_S = 0.1


class LibvirtHypervisor:
    """Machines of one libvirtd, named by its URI."""

    def __init__(self, uri: str = SYSTEM) -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._connection: Any = None
        # libvirt prints every error to stderr by itself; ours are raised and logged once.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # -- the life of a machine ------------------------------------------------------------------

    def define(self, spec: VmSpec) -> None:
        def act(connection: Any) -> None:
            # Validated: what libvirt doesn't know it would otherwise ignore in silence.
            connection.defineXMLFlags(domain_xml(spec), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

        self._call(act, spec.name, "machine-define")

    def start(self, name: str, paused: bool = False) -> None:
        def act(connection: Any) -> None:
            domain = connection.lookupByName(name)
            if not domain.isActive():
                domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)

        self._call(act, name, "machine-start")

    def run_transient(self, spec: VmSpec) -> None:
        # AUTODESTROY is not used: a restart of the server must find what it started.
        flags = libvirt.VIR_DOMAIN_START_VALIDATE
        self._call(lambda it: it.createXML(domain_xml(spec), flags), spec.name, "machine-start")

    def state(self, name: str) -> MachineState:
        def act(connection: Any) -> MachineState:
            return _STATES.get(connection.lookupByName(name).state()[0], MachineState.RUNNING)

        try:
            return self._call(act, name)
        except NotfallError as error:
            if error.code == "no-such-machine":
                return MachineState.ABSENT
            raise

    def fell_over(self, name: str) -> bool:
        state, reason = self._call(lambda it: it.lookupByName(name).state(), name)
        return state == libvirt.VIR_DOMAIN_SHUTOFF and reason not in _MEANT

    def held(self, name: str) -> bool:
        stopped = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]
        return bool(self._call(lambda it: it.lookupByName(name).state(), name) == stopped)

    def ended_in_order(self, name: str) -> bool:
        ended = [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN]
        return bool(self._call(lambda it: it.lookupByName(name).state(), name) == ended)

    def wait_off(self, name: str, timeout: float) -> bool:
        until = time.monotonic() + timeout
        while self.state(name) in LIVE:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
        return True

    def shutdown(self, name: str) -> None:
        self._when_live(
            name, lambda domain: domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        )

    def restart(self, name: str) -> None:
        self._when_live(
            name, lambda domain: domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
        )

    def kill(self, name: str) -> None:
        self._when_live(name, lambda domain: domain.destroy())

    def pause(self, name: str) -> None:
        self._call(lambda it: _suspend(it.lookupByName(name)), name)

    def resume(self, name: str) -> None:
        self._call(lambda it: _resume(it.lookupByName(name)), name)

    def reset(self, name: str) -> None:
        self._call(lambda it: it.lookupByName(name).reset(), name)

    def undefine(self, name: str) -> None:
        self.kill(name)

        def act(connection: Any) -> None:
            domain = connection.lookupByName(name)
            if domain.isPersistent():
                domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                )

        try:
            self._call(act, name)
        except NotfallError as error:
            if error.code != "no-such-machine":
                raise

    def screenshot(self, name: str, path: Path) -> None:
        def act(connection: Any) -> tuple[str, bytes]:
            stream = connection.newStream()
            kind = connection.lookupByName(name).screenshot(stream, 0)
            parts: list[bytes] = []
            stream.recvAll(lambda _stream, data, _opaque: parts.append(data), None)
            stream.finish()
            return kind, b"".join(parts)

        kind, picture = self._call(act, name)
        if kind != "image/png":  # QEMU older than 7.1 knows only PPM, which browsers don't show
            raise NotfallError(
                "no-picture",
                f"This host's QEMU delivers pictures as {kind}.",
                "Update QEMU to 7.1 or newer.",
                status=500,
            )
        path.write_bytes(picture)

    def console(self, name: str) -> socket:
        def act(connection: Any) -> socket | None:
            domain = connection.lookupByName(name)
            try:
                return socket(fileno=domain.openGraphicsFD(0, _NO_PASSWORD))
            except libvirt.libvirtError:
                if domain.isActive():
                    raise
                return None

        opened = self._call(act, name)
        if opened is None:
            raise NotfallError(
                "machine-off", f"The virtual machine '{name}' is off.", retry=True, status=409
            )
        return opened

    # -- the host --------------------------------------------------------------------------------

    def info(self) -> HypervisorInfo:
        def act(connection: Any) -> HypervisorInfo:
            capabilities = ET.fromstring(connection.getCapabilities())  # noqa: S314 -- libvirtd's own
            types = {
                one.get("type") for one in capabilities.findall("guest/arch[@name='x86_64']/domain")
            }
            memory = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
            return HypervisorInfo(
                libvirt=_version(connection.getLibVersion()),
                qemu=_version(connection.getVersion()),
                accelerators=tuple(
                    accelerator
                    for accelerator, word in ((Accelerator.KVM, "kvm"), (Accelerator.TCG, "qemu"))
                    if word in types
                ),
                cpus=int(connection.getInfo()[2]),
                memory=int(memory["total"]) << 10,
            )

        return self._call(act)

    # -- connection and errors -------------------------------------------------------------------

    def _when_live(self, name: str, act: Callable[[Any], Any]) -> None:
        """Act on a machine that runs; one that is off or absent needs nothing."""

        def guarded(connection: Any) -> None:
            domain = connection.lookupByName(name)
            if not domain.isActive():
                return
            try:
                act(domain)
            except libvirt.libvirtError:
                if domain.isActive():  # it didn't end by itself in this very moment
                    raise

        try:
            self._call(guarded, name)
        except NotfallError as error:
            if error.code != "no-such-machine":
                raise

    def _call(self, act: Callable[[Any], T], name: str = "", code: str = "hypervisor") -> T:
        """Run ``act`` with a connection; once more when the connection turns out to be dead.

        Repeating is safe because every ``act`` here looks first at how things are.
        """
        connection = self._connect()
        try:
            return act(connection)
        except libvirt.libvirtError as error:
            if _alive(connection):
                raise _told(error, name, code) from None
            log.info("the connection to libvirtd broke (%s), opening it again", error)
        with self._lock:
            if self._connection is connection:
                self._connection = None
        try:
            return act(self._connect())
        except libvirt.libvirtError as error:
            raise _told(error, name, code) from None

    def _connect(self) -> Any:
        with self._lock:
            if self._connection is None:
                try:
                    self._connection = libvirt.open(self._uri)
                except libvirt.libvirtError as error:
                    raise NotfallError(
                        "hypervisor-unreachable",
                        f"libvirt at {self._uri} cannot be reached ({error}).",
                        "Start it with 'systemctl start libvirtd' and look at 'systemctl status "
                        "libvirtd'; the server needs to be root or in the group libvirt.",
                        retry=True,
                        status=503,
                    ) from None
            return self._connection


def _alive(connection: Any) -> bool:
    """Whether libvirtd still answers on it; isAlive alone doesn't notice without an event loop."""
    try:
        connection.getLibVersion()
    except libvirt.libvirtError:
        return False
    return True


def _suspend(domain: Any) -> None:
    if domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
        domain.suspend()


def _resume(domain: Any) -> None:
    if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _told(error: Any, name: str, code: str) -> NotfallError:
    """libvirt's error as one that a person can act on."""
    if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
        return NotfallError("no-such-machine", f"There is no virtual machine '{name}'.", status=404)
    what = {
        "machine-start": f"The virtual machine '{name}' does not start",
        "machine-define": f"libvirt refuses the virtual machine '{name}'",
    }.get(code, f"libvirt failed with '{name}'" if name else "libvirt failed")
    return NotfallError(
        code,
        f"{what}: {error.get_error_message() or error}.",
        "Details are in /var/log/libvirt/qemu and in 'journalctl -u libvirtd'.",
        status=500,
    )
