"""One set of snapshots of several volumes at one point in time: VSS, as a backup program uses it.

``IVssBackupComponents`` is called by the places of its methods in the table. The order, the places
and the structures are those of vsbackup.h, vss.h and vswriter.h; tests call a table of their own
and so show that *this* order is kept, that every failure lets go, and that arguments and structures
are passed as declared. **Not shown by any test here, for want of a real Windows:** that the places
are right, that Windows answers so, that writers freeze within their time, and that a snapshot of
all volumes is one point in time. Wine answers E_NOTIMPL to everything.

One thread does all of it, after :func:`native_vss.begin` was its first COM call.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List, Sequence, Tuple

from notfallserver.agent.windows.com import ComError, Guid, Interface, out, text_at, wide

# Places of the methods of IVssBackupComponents ...
INITIALIZE = 5
SET_STATE = 6
GATHER_METADATA = 9
FREE_METADATA = 12
PREPARE = 14
ABORT = 15
GATHER_STATUS = 16
STATUS_COUNT = 17
FREE_STATUS = 18
GET_STATUS = 19
COMPLETE = 27
SET_CONTEXT = 35
START_SET = 36
ADD_TO_SET = 37
DO_SET = 38
GET_PROPERTIES = 42
# ... and of IVssAsync
CANCEL = 3
WAIT = 4
QUERY = 5

WITH_WRITERS = 0x00
"""VSS_CTX_BACKUP: snapshots that go with the object that made them."""
WITHOUT_WRITERS = 0x10
"""VSS_CTX_FILE_SHARE_BACKUP: the same, and no writer is asked."""
COPY = 5
"""VSS_BT_COPY: no program takes it for its own backup, so no logs are cut."""

PENDING, FINISHED, CANCELLED = 0x00042309, 0x0004230A, 0x0004230B
BUSY = 0x80042316  # another snapshot set is being made
NOT_SUPPORTED = 0x8004230C  # no provider takes this volume: FAT, exFAT
NO_SPACE = 0x8004231F
TOO_MANY = 0x80042317
NOT_ALLOWED = 0x80070005
FLUSH_TIMEOUT, HOLD_TIMEOUT = 0x80042313, 0x80042314
TIMED_OUT = 0x80004004
"""E_ABORT; also what we say when Windows does not come to an end."""

_FAILED_FROM = 6
"""VSS_WRITER_STATE: from VSS_WS_FAILED_AT_IDENTIFY on a writer has failed."""
_SLICE_MS = 500
_NULL = Guid()
_EPOCH = datetime(1601, 1, 1, tzinfo=timezone.utc)

LIMITS_S: Dict[str, float] = {
    "GatherWriterMetadata": 300,
    "PrepareForBackup": 300,
    "GatherWriterStatus": 300,
    "DoSnapshotSet": 600,
    "BackupComplete": 300,
}
"""Windows bounds the frozen moment itself (60 s); these only end what hangs."""


class Properties(ctypes.Structure):
    """VSS_SNAPSHOT_PROP; texts by their addresses."""

    _fields_ = [
        ("snapshot", Guid),
        ("set", Guid),
        ("count", ctypes.c_int32),
        ("device", ctypes.c_void_p),
        ("volume", ctypes.c_void_p),
        ("machine", ctypes.c_void_p),
        ("service", ctypes.c_void_p),
        ("exposed_name", ctypes.c_void_p),
        ("exposed_path", ctypes.c_void_p),
        ("provider", Guid),
        ("attributes", ctypes.c_int32),
        ("made_at", ctypes.c_int64),  # FILETIME
        ("state", ctypes.c_uint32),
    ]


@dataclass(frozen=True)
class Freeing:
    """What gives memory back that VSS has given."""

    properties: Callable[[Any], None]  # VssFreeSnapshotPropertiesInternal
    text: Callable[[int], None]  # SysFreeString


@dataclass(frozen=True)
class Writer:
    """How a program that VSS asks to stand still did; ``failure`` is its HRESULT."""

    name: str
    state: int
    failure: int

    @property
    def good(self) -> bool:
        return self.state < _FAILED_FROM and not self.failure & 0x80000000


@dataclass(frozen=True)
class Snapshot:
    volume: str
    device: str
    r"""``\\?\GLOBALROOT\Device\HarddiskVolumeShadowCopyN``"""


class SnapshotSet:
    """Made by :meth:`take`; its snapshots are there until :meth:`close`.

    ``components`` is a new IVssBackupComponents, released here. ``check`` is called while Windows
    is waited for, and may raise.
    """

    def __init__(
        self,
        components: Interface,
        freeing: Freeing,
        check: Callable[[], None],
        context: int = WITH_WRITERS,
    ) -> None:
        self._components = components
        self._freeing = freeing
        self._check = check
        self._context = context
        self._begun = False  # from here on writers must hear how it ends
        self.snapshots: List[Snapshot] = []
        self.left_out: List[str] = []
        """Volumes that nothing can make a snapshot of."""
        self.writers: List[Writer] = []
        self.frozen_at = ""
        self.milliseconds = 0.0
        """That making it took: programs stood still for less."""

    def take(self, volumes: Sequence[str]) -> None:
        r"""Of volumes by names such as ``\\?\Volume{…}\``; a failure is a :class:`ComError`."""
        call = self._components.call
        asks = self._context == WITH_WRITERS
        call("InitializeForBackup", INITIALIZE, (ctypes.c_void_p, None))
        call("SetContext", SET_CONTEXT, (ctypes.c_int32, self._context))
        call(
            "SetBackupState",
            SET_STATE,
            (ctypes.c_bool, False),  # whole volumes, not single components
            (ctypes.c_bool, True),  # with what the system needs to boot
            (ctypes.c_int32, COPY),
            (ctypes.c_bool, False),
        )
        if asks:
            self._asynchronously("GatherWriterMetadata", GATHER_METADATA)
            call("FreeWriterMetadata", FREE_METADATA)
        number = Guid()
        call("StartSnapshotSet", START_SET, out(number))
        self._begun = True
        added = [(one, identity) for one in volumes for identity in self._add(one)]
        if not added:
            raise ComError("AddToSnapshotSet", NOT_SUPPORTED)
        if asks:
            self._asynchronously("PrepareForBackup", PREPARE)
            self._ask_writers()
        began = time.monotonic()
        self._asynchronously("DoSnapshotSet", DO_SET)
        self.milliseconds = (time.monotonic() - began) * 1000
        if asks:
            self._ask_writers()
        for volume, identity in added:
            self.snapshots.append(Snapshot(volume, self._device(identity)))

    def _add(self, volume: str) -> List[Guid]:
        """The snapshot's number; none where nothing can make one."""
        identity, name = Guid(), wide(volume)
        try:
            self._components.call(
                "AddToSnapshotSet",
                ADD_TO_SET,
                (ctypes.c_void_p, ctypes.addressof(name)),
                (Guid, _NULL),
                out(identity),
            )
        except ComError as error:
            if error.number != NOT_SUPPORTED:
                raise
            self.left_out.append(volume)
            return []
        return [identity]

    def _device(self, identity: Guid) -> str:
        told = Properties()
        self._components.call("GetSnapshotProperties", GET_PROPERTIES, (Guid, identity), out(told))
        try:
            made_at = _EPOCH + timedelta(microseconds=told.made_at // 10)
            self.frozen_at = made_at.isoformat(timespec="milliseconds")
            return text_at(told.device or 0)
        finally:
            self._freeing.properties(told)

    # -- writers ---------------------------------------------------------------------------------

    def _ask_writers(self) -> None:
        """How each does now; who has failed once stays so."""
        self._asynchronously("GatherWriterStatus", GATHER_STATUS)
        count = ctypes.c_uint32()
        self._components.call("GetWriterStatusCount", STATUS_COUNT, out(count))
        found = [self._writer(number) for number in range(min(count.value, 1000))]
        self._components.try_call(FREE_STATUS)
        failed = {one.name: one for one in self.writers if not one.good}
        self.writers = [failed.get(one.name, one) for one in found]

    def _writer(self, number: int) -> Writer:
        instance, kind, name = Guid(), Guid(), ctypes.c_void_p()
        state, failure = ctypes.c_int32(), ctypes.c_uint32()
        self._components.call(
            "GetWriterStatus",
            GET_STATUS,
            (ctypes.c_uint32, number),
            out(instance),
            out(kind),
            out(name),
            out(state),
            out(failure),
        )
        text = text_at(name.value or 0)
        if name.value:
            self._freeing.text(name.value)
        return Writer(text, state.value, failure.value)

    # -- waiting ---------------------------------------------------------------------------------

    def _asynchronously(self, what: str, slot: int) -> None:
        """Begin something, and wait until it is done."""
        pointer = ctypes.c_void_p()
        self._components.call(what, slot, out(pointer))
        task = Interface(pointer.value or 0)
        if not task.address:
            return
        try:
            self._wait(what, task)
        finally:
            task.release()

    def _wait(self, what: str, task: Interface) -> None:
        until = time.monotonic() + LIMITS_S[what]
        try:
            while True:
                task.call(what, WAIT, (ctypes.c_uint32, _SLICE_MS))
                result = ctypes.c_uint32()
                task.call(what, QUERY, out(result), (ctypes.c_void_p, None))
                if result.value & 0x80000000:
                    raise ComError(what, result.value)
                if result.value != PENDING:
                    break
                self._check()
                if time.monotonic() > until:
                    raise ComError(what, TIMED_OUT)
        except BaseException:
            task.try_call(CANCEL)
            raise
        if result.value == CANCELLED:
            raise ComError(what, TIMED_OUT)

    # -- end -------------------------------------------------------------------------------------

    def complete(self) -> List[Writer]:
        """Everything was read: writers hear that it succeeded. Returns those that fail by then."""
        if self._context == WITH_WRITERS and self._begun:
            self._asynchronously("BackupComplete", COMPLETE)
            self._ask_writers()
        self._begun = False
        return [one for one in self.writers if not one.good]

    def close(self) -> None:
        """Let go of the snapshots; if it did not come to :meth:`complete`, writers hear that."""
        if self._begun:
            self._begun = False
            self._components.try_call(ABORT)
        self.snapshots = []
        self._components.release()


def described(error: ComError) -> Tuple[str, str]:
    """Cause and remedy for a person."""
    cause = f"Windows made no snapshot ({error})."
    if error.number == NO_SPACE:
        return cause, "Make room on the volumes, or allow more shadow storage (vssadmin)."
    if error.number == TOO_MANY:
        return cause, "Delete old shadow copies (vssadmin delete shadows)."
    if error.number == NOT_ALLOWED:
        return cause, "Run the agent as its service, or as administrator."
    if error.number == BUSY:
        return cause, "Another backup is being made; replicate at another time than it."
    if error.number in (FLUSH_TIMEOUT, HOLD_TIMEOUT):
        return cause, "The disks are too busy for it; replicate at a quieter time."
    return cause, "See the event log (sources VSS, volsnap) and 'vssadmin list writers'."
