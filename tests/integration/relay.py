"""A slow line: passes TCP on to the server at a limited rate, and counts what the agent sends."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType

CHUNK = 1 << 16


class Relay:
    """Context manager. ``rate`` in bytes a second for all connections together, 0 = no limit."""

    def __init__(self, port: int, rate: int = 0) -> None:
        self.rate = rate
        self.sent = 0  # bytes from the agents to the server, TLS and all
        self._port = port
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Relay:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            ends = [self._listener, *self._open]
        for one in ends:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                agent, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(agent,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, agent: socket.socket) -> None:
        with (
            agent,
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port)) as server,
        ):
            with self._lock:
                self._open |= {agent, server}
            back = threading.Thread(target=self._pass_on, args=(server, agent))
            back.start()
            self._pass_on(agent, server, counted=True)
            back.join()
            with self._lock:
                self._open -= {agent, server}

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool = False) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                if counted:
                    self._wait(len(chunk))
                sink.sendall(chunk)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _wait(self, length: int) -> None:
        with self._lock:
            self.sent += length
            if not self.rate:
                return
            begin = max(self._free_at, time.monotonic())
            self._free_at = begin + length / self.rate
            pause = begin - time.monotonic()
        if pause > 0:
            time.sleep(pause)
