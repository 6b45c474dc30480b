"""What Windows' service manager is asked about the agent's service, and told of it.

The service itself says how it wants to be treated, each time it starts: so it also holds after an
upgrade, and whatever the package can express. It starts with Windows and not later, because an
original that comes back must ask early whether its stand-in works.
"""

from __future__ import annotations

import ctypes
import sys
import time
from contextlib import contextmanager
from ctypes import wintypes
from typing import Any, Callable, Iterator, List, Tuple

from notfallserver.wire.errors import NotfallError

assert sys.platform == "win32"  # noqa: S101  (tells type checkers, too)

NAME = "NotfallAgent"
STOPPED, STARTING, STOPPING, RUNNING = 1, 2, 3, 4
_STOP = 1
_CONNECT = 0x0001
_CHANGE, _QUERY_STATUS, _START, _ASK_STOP = 0x0002, 0x0004, 0x0010, 0x0020
_DESCRIPTION, _FAILURES, _FAILURES_ALSO_TOLD, _BEFORE_SHUTDOWN = 1, 2, 4, 7
_RESTART = 1
_NO_SUCH_SERVICE, _NOT_ACTIVE = 1060, 1062
_WITHIN_S = 60.0
DESCRIPTION = "Replicates this machine to its emergency server."
LEAVING_MS = 30000
"""So long it may take to leave, also when Windows goes down."""
RESTART_MS, RESTARTS, FORGOTTEN_S = 60000, 3, 86400
"""Started again after so long, so often; a day without a failure makes it the first again."""


class Status(ctypes.Structure):
    """SERVICE_STATUS"""

    _fields_ = [
        ("kind", wintypes.DWORD),
        ("state", wintypes.DWORD),
        ("accepts", wintypes.DWORD),
        ("exit_code", wintypes.DWORD),
        ("own_exit_code", wintypes.DWORD),
        ("check_point", wintypes.DWORD),
        ("wait_ms", wintypes.DWORD),
    ]


class _Description(ctypes.Structure):
    _fields_ = [("text", wintypes.LPWSTR)]


class _Action(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("after_ms", wintypes.DWORD)]


class _Failures(ctypes.Structure):
    """SERVICE_FAILURE_ACTIONSW; what is null stays."""

    _fields_ = [
        ("forgotten_s", wintypes.DWORD),
        ("message", wintypes.LPWSTR),
        ("command", wintypes.LPWSTR),
        ("count", wintypes.DWORD),
        ("actions", ctypes.POINTER(_Action)),
    ]


class _Flag(ctypes.Structure):
    _fields_ = [("value", wintypes.DWORD)]


_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_advapi32.OpenSCManagerW.restype = wintypes.HANDLE
_advapi32.OpenSCManagerW.argtypes = [wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD]
_advapi32.OpenServiceW.restype = wintypes.HANDLE
_advapi32.OpenServiceW.argtypes = [wintypes.HANDLE, wintypes.LPCWSTR, wintypes.DWORD]
_advapi32.CloseServiceHandle.argtypes = [wintypes.HANDLE]
_advapi32.QueryServiceStatus.argtypes = [wintypes.HANDLE, ctypes.POINTER(Status)]
_advapi32.ControlService.argtypes = [wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(Status)]
_advapi32.ChangeServiceConfig2W.argtypes = [wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p]
_advapi32.StartServiceW.argtypes = [wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p]


def settle() -> List[str]:
    """Say how the service wants to be treated; what Windows refuses of it, in words."""
    actions = (_Action * RESTARTS)(*[_Action(_RESTART, RESTART_MS)] * RESTARTS)
    wishes: List[Tuple[str, int, ctypes.Structure]] = [
        ("its description", _DESCRIPTION, _Description(DESCRIPTION)),
        (
            "to be started again after a failure",
            _FAILURES,
            _Failures(FORGOTTEN_S, None, None, RESTARTS, actions),
        ),
        ("the same when it says itself that it failed", _FAILURES_ALSO_TOLD, _Flag(1)),
        ("time before Windows goes down", _BEFORE_SHUTDOWN, _Flag(LEAVING_MS)),
    ]
    refused = []
    try:
        with opened(_CHANGE | _START) as service:  # who restarts must have the right to start
            for name, level, wish in wishes:
                if not _advapi32.ChangeServiceConfig2W(service, level, ctypes.byref(wish)):
                    refused.append(f"{name} ({ctypes.WinError(ctypes.get_last_error())})")
    except OSError as error:
        refused.append(f"all ({error})")
    return refused


@contextmanager
def opened(access: int) -> Iterator[Any]:
    """The service's handle; :class:`OSError` with Windows' number if it can't be had."""
    manager = _advapi32.OpenSCManagerW(None, None, _CONNECT)
    if not manager:
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        service = _advapi32.OpenServiceW(manager, NAME, access)
        if not service:
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            yield service
        finally:
            _advapi32.CloseServiceHandle(service)
    finally:
        _advapi32.CloseServiceHandle(manager)


def is_installed() -> bool:
    """Whether Windows knows the service, also one that it could not be asked about."""
    try:
        with opened(_QUERY_STATUS):
            return True
    except OSError as error:
        return error.winerror != _NO_SUCH_SERVICE


def is_running() -> bool:
    """Whether it runs or is about to. One that ends is waited for: it was told to a moment ago."""
    try:
        with opened(_QUERY_STATUS) as service:
            return _leaves(service, lambda state: state == STOPPING) != STOPPED
    except OSError:
        return False


def _state(service: Any) -> int:
    status = Status()
    if not _advapi32.QueryServiceStatus(service, ctypes.byref(status)):
        raise ctypes.WinError(ctypes.get_last_error())
    return int(status.state)


def _leaves(service: Any, state_is: Callable[[int], bool]) -> int:
    """The first state that is none of those, or the one in which it stays for too long."""
    until = time.monotonic() + _WITHIN_S
    while state_is(state := _state(service)) and time.monotonic() < until:
        time.sleep(0.2)
    return state


@contextmanager
def stopped() -> Iterator[None]:
    """Within the block the service does not run; afterwards it does if it did."""
    ran = is_running()
    if ran:
        _carry_out(_stop)
    try:
        yield
    finally:
        if ran:
            _carry_out(_start)


def _carry_out(act: Callable[[Any], None]) -> None:
    try:
        with opened(_QUERY_STATUS | _START | _ASK_STOP) as service:
            act(service)
    except OSError as error:
        raise _refused(str(error)) from None


def _start(service: Any) -> None:
    if not _advapi32.StartServiceW(service, 0, None):
        raise ctypes.WinError(ctypes.get_last_error())


def _stop(service: Any) -> None:
    status = Status()
    if not _advapi32.ControlService(service, _STOP, ctypes.byref(status)):
        number = ctypes.get_last_error()
        if number != _NOT_ACTIVE:
            raise ctypes.WinError(number)
    if _leaves(service, lambda state: state != STOPPED) != STOPPED:
        raise _refused("it does not end")


def _refused(why: str) -> NotfallError:
    return NotfallError(
        "service-refused",
        f"The agent's service can't be stopped or started ({why}).",
        "Run this as administrator; else stop it in the list of services, and try again.",
    )
