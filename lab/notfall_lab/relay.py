"""A port of this machine that leads into a namespace of the lab, so that a browser can reach it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from notfall_lab.netns import connect


@contextmanager
def relay(port: int, namespace: str, address: str, to_port: int) -> Iterator[int]:
    """Listen on 127.0.0.1 (0: any free port) inside the block; the port."""
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(
        target=_accept, args=(listener, namespace, address, to_port), daemon=True
    )
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)


def _accept(listener: socket.socket, namespace: str, address: str, port: int) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return  # closed
        try:
            far = connect(namespace, address, port, 3600)
        except OSError:
            near.close()
            continue
        threading.Thread(target=_join, args=(near, far), daemon=True).start()


def _join(near: socket.socket, far: socket.socket) -> None:
    """Until both have said all."""
    with near, far:
        back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
        back.start()
        _pass_on(near, far)
        back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while content := source.recv(1 << 16):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, sink):
            with suppress(OSError):  # gone already
                one.shutdown(socket.SHUT_RDWR)
