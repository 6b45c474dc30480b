"""QEMU's monitor protocol: one JSON object a line, answers and events on one socket."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from notfall_lab.patience import PATIENCE_S


class QmpError(RuntimeError):
    """QEMU refused a command, or is gone."""


def reach(path: Path) -> socket.socket | None:
    """The monitor; None while nobody listens there: its file exists a moment earlier."""
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        made.close()
        return None
    return made


class Qmp:
    """A connection; ``on_reset`` is called, in a thread of its own, when the guest was reset."""

    def __init__(
        self, reached: socket.socket, on_reset: Callable[[Qmp], None] | None = None
    ) -> None:
        self._socket = reached
        self._lines = self._socket.makefile("rb")
        self._lines.readline()  # the greeting
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._on_reset = on_reset
        threading.Thread(target=self._read, daemon=True).start()
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: Any) -> Any:
        with self._lock:
            line = json.dumps({"execute": command, "arguments": arguments})
            try:
                self._socket.sendall(line.encode() + b"\n")
                answer = self._answers.get(timeout=PATIENCE_S)
            except (OSError, queue.Empty) as error:
                raise QmpError(f"{command}: no answer: {error}") from None
        if answer is None:
            raise QmpError(f"{command}: the machine is gone")
        if "error" in answer:
            raise QmpError(f"{command}: {answer['error'].get('desc')}")
        return answer["return"]

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def _read(self) -> None:
        try:
            for line in self._lines:
                message = json.loads(line)
                if "event" not in message:
                    self._answers.put(message)
                elif message["event"] == "RESET" and self._on_reset:
                    threading.Thread(target=self._reset, daemon=True).start()
        except OSError:
            pass
        self._lines.close()
        self._answers.put(None)

    def _reset(self) -> None:
        try:
            if self._on_reset:
                self._on_reset(self)
        except QmpError:
            pass  # switched off meanwhile
