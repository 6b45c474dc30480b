"""A stand-in for MongoDB, which Debian does not have: a server with a lock, and its client.

The server is found by its name, its open file and its port as the real one is; it counts what it
wrote and stops while it is locked. The client understands just what the recipe says.
"""

from __future__ import annotations

from pathlib import Path

SERVER = """#!/usr/bin/python3
import socket, sys, threading, time
place, told = sys.argv[1:]
locked = 0
def write():
    with open(place + "/collection.wt", "ab", 0) as data:
        while True:
            if not locked:
                data.write(b"x" * 64)
            time.sleep(0.01)
threading.Thread(target=write, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as server, open(told, "a", 1) as log:
    print("ready", file=log)
    while True:
        peer = server.accept()[0]
        with peer:
            text = peer.recv(9999).decode()
            if "fsyncLock()" in text:
                locked += 1
                print("locked", file=log)
            elif "fsyncUnlock()" in text and locked:
                locked -= 1
                print("unlocked", file=log)
            peer.send(b"ok")
"""

CLIENT = """#!/usr/bin/python3
import socket, sys
given = sys.argv[1:]
assert given[:2] == ["--quiet", "--norc"] and given[-2] == "--eval", given
where = given[given.index("--host") + 1], int(given[given.index("--port") + 1])
with socket.create_connection(where, 5) as server:
    server.send(given[-1].encode())
    sys.exit(0 if server.recv(9) == b"ok" else 1)
"""


def install(directory: Path) -> tuple[Path, Path]:
    """Server and client."""
    found = []
    for name, text in (("mongod", SERVER), ("mongosh", CLIENT)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
        found.append(directory / name)
    return found[0], found[1]
