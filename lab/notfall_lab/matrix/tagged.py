"""Whether an address answers in a VLAN: one ARP request with the tag, and the answer to it.

This machine's kernel may not know VLANs; a packet socket on the switch does without.
"""

from __future__ import annotations

import socket
import struct
import time

from notfallserver.server.host.namespace import in_namespace

_PACKET_AUXDATA = 8
_SOL_PACKET = 263
_ETH_P_ALL = 3
_SENDER = "10.99.5.1"


def answers_tagged(namespace: str, interface: str, address: str, tag: int, patience: float) -> bool:
    """Ask once a second in ``namespace`` until somebody says that the address is his."""
    with open(f"/run/netns/{namespace}", "rb") as place:
        port = in_namespace(place.fileno(), lambda: _open(interface))
    with port:
        mac = port.getsockname()[4]
        until = time.monotonic() + patience
        asked = 0.0
        while time.monotonic() < until:
            if time.monotonic() - asked > 1:
                port.send(_request(mac, address, tag))
                asked = time.monotonic()
            try:
                data, extra, _, _ = port.recvmsg(2048, 256)
            except TimeoutError:
                continue
            if _is_answer(data, extra, address, tag):
                return True
    return False


def _open(interface: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    port.bind((interface, 0))
    port.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    port.settimeout(0.5)
    return port


def _request(mac: bytes, address: str, tag: int) -> bytes:
    head = b"\xff" * 6 + mac + struct.pack(">HHH", 0x8100, tag, 0x0806)
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1)
    return (
        head + body + mac + socket.inet_aton(_SENDER) + bytes(6) + socket.inet_aton(address)
    ).ljust(64, b"\0")


def _is_answer(data: bytes, extra: list[tuple[int, int, bytes]], address: str, tag: int) -> bool:
    told = 0
    for level, kind, content in extra:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA) and len(content) >= 18:
            told = struct.unpack_from("<H", content, 16)[0] & 0xFFF
    if data[12:14] == b"\x81\x00":  # not taken out by the kernel
        told = struct.unpack_from(">H", data, 14)[0] & 0xFFF
        data = data[:12] + data[16:]
    answer = data[12:14] == b"\x08\x06" and data[20:22] == b"\x00\x02"
    return answer and told == tag and data[28:32] == socket.inet_aton(address)
