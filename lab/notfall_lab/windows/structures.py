"""The structures of winioctl.h, ntddstor.h and iptypes.h, declared as their headers declare them.

The compiler's rules for 64-bit Windows are ctypes' own here, so a wrong offset in a parser shows.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import uuid
from ctypes import Structure, Union
from ctypes import c_int32 as LONG
from ctypes import c_int64 as LARGE
from ctypes import c_uint8 as BYTE
from ctypes import c_uint16 as WORD
from ctypes import c_uint32 as DWORD
from ctypes import c_uint64 as QWORD
from typing import Any, List, Sequence, Tuple

UNUSED = "00000000-0000-0000-0000-000000000000"


class Guid(Structure):
    _fields_ = [("a", DWORD), ("b", WORD), ("c", WORD), ("d", BYTE * 8)]


def guid(text: str) -> Guid:
    return Guid.from_buffer_copy(uuid.UUID(text).bytes_le)


class OfMbr(Structure):
    _fields_ = [
        ("kind", BYTE),
        ("boot", BYTE),
        ("recognised", BYTE),
        ("hidden", DWORD),
        ("identity", Guid),
    ]


class OfGpt(Structure):
    _fields_ = [("kind", Guid), ("identity", Guid), ("attributes", QWORD), ("name", WORD * 36)]


class OfPartition(Union):
    _fields_ = [("mbr", OfMbr), ("gpt", OfGpt)]


class PartitionInformation(Structure):
    _fields_ = [
        ("style", DWORD),
        ("start", LARGE),
        ("length", LARGE),
        ("number", DWORD),
        ("rewrite", BYTE),
        ("service", BYTE),
        ("of", OfPartition),
    ]


class MbrDisk(Structure):
    _fields_ = [("signature", DWORD), ("checksum", DWORD)]


class GptDisk(Structure):
    _fields_ = [("identity", Guid), ("first", LARGE), ("length", LARGE), ("most", DWORD)]


class OfDisk(Union):
    _fields_ = [("mbr", MbrDisk), ("gpt", GptDisk)]


class DriveLayout(Structure):
    _fields_ = [("style", DWORD), ("count", DWORD), ("of", OfDisk)]


def mbr_layout(signature: int, entries: Sequence[Tuple[int, int, int]]) -> bytes:
    """Entries are (kind, start, length), in fours as Windows tells them."""
    head = DriveLayout(0, len(entries))
    head.of.mbr.signature = signature
    body = b""
    for at, (kind, start, length) in enumerate(entries):
        one = PartitionInformation(0, start, length, at + 1 if kind else 0)
        one.of.mbr.kind = kind
        body += bytes(one)
    return bytes(head) + body


def gpt_layout(identity: str, entries: Sequence[Tuple[str, str, int, int, str]]) -> bytes:
    """Entries are (kind, own GUID, start, length, name)."""
    head = DriveLayout(1, len(entries))
    head.of.gpt.identity = guid(identity)
    body = b""
    for at, (kind, own, start, length, name) in enumerate(entries):
        one = PartitionInformation(1, start, length, at + 1)
        one.of.gpt.kind, one.of.gpt.identity = guid(kind), guid(own)
        for place, letter in enumerate(name):
            one.of.gpt.name[place] = ord(letter)
        body += bytes(one)
    return bytes(head) + body


class GeometryEx(Structure):
    _fields_ = [
        ("cylinders", LARGE),
        ("media", DWORD),
        ("tracks", DWORD),
        ("sectors", DWORD),
        ("sector", DWORD),
        ("size", LARGE),
        ("data", BYTE * 1),
    ]


class DiskPerformance(Structure):
    _fields_ = [
        ("bytes_read", LARGE),
        ("bytes_written", LARGE),
        ("read_time", LARGE),
        ("write_time", LARGE),
        ("idle", LARGE),
        ("reads", DWORD),
        ("writes", DWORD),
        ("queued", DWORD),
        ("splits", DWORD),
        ("query", LARGE),
        ("device", DWORD),
        ("manager", WORD * 8),
    ]


class StorageDescriptor(Structure):
    _fields_ = [
        ("version", DWORD),
        ("size", DWORD),
        ("kind", BYTE),
        ("modifier", BYTE),
        ("removable", BYTE),
        ("queueing", BYTE),
        ("vendor", DWORD),
        ("product", DWORD),
        ("revision", DWORD),
        ("serial", DWORD),
        ("bus", DWORD),
        ("length", DWORD),
        ("raw", BYTE * 1),
    ]


def descriptor(vendor: str, product: str, serial: str, bus: int, removable: bool = False) -> bytes:
    head = StorageDescriptor(40, 0, 0, 0, int(removable), 1, bus=bus)
    start = StorageDescriptor.raw.offset
    body = b""
    for name, text in (("vendor", vendor), ("product", product), ("serial", serial)):
        if text:
            setattr(head, name, start + len(body))
            body += text.encode() + b"\0"
    head.size = start + len(body)
    return bytes(head)[:start] + body


class DiskExtent(Structure):
    _fields_ = [("disk", DWORD), ("start", LARGE), ("length", LARGE)]


class DiskExtents(Structure):
    _fields_ = [("count", DWORD), ("extents", DiskExtent * 1)]


def disk_extents(extents: Sequence[Tuple[int, int, int]]) -> bytes:
    at = DiskExtents.extents.offset
    head = bytes(DiskExtents(len(extents)))[:at]
    return head + b"".join(bytes(DiskExtent(*one)) for one in extents)


class VolumeBitmap(Structure):
    _fields_ = [("first", LARGE), ("clusters", LARGE), ("bits", BYTE * 1)]


def volume_bitmap(first: int, clusters: int, bits: bytes) -> bytes:
    return bytes(VolumeBitmap(first, clusters))[: VolumeBitmap.bits.offset] + bits


class NtfsVolumeData(Structure):
    _fields_ = [
        ("serial", QWORD),
        ("sectors", LARGE),
        ("clusters", LARGE),
        ("free", LARGE),
        ("reserved", LARGE),
        ("sector", DWORD),
        ("cluster", DWORD),
        ("record", DWORD),
        ("clusters_per_record", DWORD),
        ("valid", LARGE),
        ("table", LARGE),
        ("mirror", LARGE),
        ("zone_start", LARGE),
        ("zone_end", LARGE),
    ]


class ScsiAddress(Structure):
    _fields_ = [("length", DWORD), ("port", BYTE), ("path", BYTE), ("target", BYTE), ("lun", BYTE)]


# -- network -------------------------------------------------------------------------------------


class SocketAddress(Structure):
    _fields_ = [("address", QWORD), ("length", LONG)]


class Unicast(Structure):
    _fields_ = [
        ("length", DWORD),
        ("flags", DWORD),
        ("next", QWORD),
        ("address", SocketAddress),
        ("prefix_origin", DWORD),
        ("suffix_origin", DWORD),
        ("state", DWORD),
        ("valid", DWORD),
        ("preferred", DWORD),
        ("lease", DWORD),
        ("prefix", BYTE),
    ]


class Gateway(Structure):
    _fields_ = [("length", DWORD), ("reserved", DWORD), ("next", QWORD), ("address", SocketAddress)]


class AdapterAddresses(Structure):
    _fields_ = [
        ("length", DWORD),
        ("index", DWORD),
        ("next", QWORD),
        ("name", QWORD),
        ("unicast", QWORD),
        ("anycast", QWORD),
        ("multicast", QWORD),
        ("dns_server", QWORD),
        ("dns_suffix", QWORD),
        ("description", QWORD),
        ("friendly", QWORD),
        ("mac", BYTE * 8),
        ("mac_length", DWORD),
        ("flags", DWORD),
        ("mtu", DWORD),
        ("kind", DWORD),
        ("status", DWORD),
        ("index6", DWORD),
        ("zones", DWORD * 16),
        ("prefixes", QWORD),
        ("transmit", QWORD),
        ("receive", QWORD),
        ("wins", QWORD),
        ("gateway", QWORD),
        ("metric4", DWORD),
        ("metric6", DWORD),
        ("luid", QWORD),
        ("dhcp4", SocketAddress),
        ("compartment", DWORD),
        ("network", Guid),
        ("connection", DWORD),
        ("tunnel", DWORD),
        ("dhcp6", SocketAddress),
        ("duid", BYTE * 130),
        ("duid_length", DWORD),
        ("iaid", DWORD),
        ("suffixes", QWORD),
    ]


class Memory:
    """Bytes that lie at ``base``, with pointers into themselves."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.content = bytearray()

    def put(self, content: bytes) -> int:
        """The pointer to it."""
        self.content += bytes(-len(self.content) % 8)
        at = self.base + len(self.content)
        self.content += content
        return at

    def change(self, pointer: int, one: Structure) -> None:
        at = pointer - self.base
        self.content[at : at + ctypes.sizeof(one)] = bytes(one)


def socket_address(memory: Memory, text: str) -> SocketAddress:
    if ":" in text:
        packed = struct.pack("<HHL", 23, 0, 0) + socket.inet_pton(socket.AF_INET6, text) + bytes(4)
    else:
        packed = struct.pack("<HH", 2, 0) + socket.inet_pton(socket.AF_INET, text) + bytes(8)
    return SocketAddress(memory.put(packed), len(packed))


def adapters(base: int, described: Sequence[dict[str, Any]]) -> bytes:
    """Keys: guid, name, description, mac, kind, addresses [(text, prefix, origin)], gateways; with
    status (1: up) and index, if it matters."""
    memory = Memory(base)
    places: List[Tuple[int, AdapterAddresses]] = []
    for _ in described:
        one = AdapterAddresses(ctypes.sizeof(AdapterAddresses))
        places.append((memory.put(bytes(one)), one))
    for at, (told, (pointer, one)) in enumerate(zip(described, places)):
        one.next = places[at + 1][0] if at + 1 < len(places) else 0
        one.name = memory.put(told["guid"].encode() + b"\0")
        one.friendly = memory.put(told["name"].encode("utf-16-le") + b"\0\0")
        one.description = memory.put(told["description"].encode("utf-16-le") + b"\0\0")
        mac = bytes.fromhex(told["mac"].replace(":", ""))
        one.mac[: len(mac)] = mac
        one.mac_length, one.kind = len(mac), told["kind"]
        one.status, one.index6 = told.get("status", 1), told.get("index", 0)
        after = 0
        for text, prefix, origin in reversed(told["addresses"]):
            found = Unicast(ctypes.sizeof(Unicast), next=after, prefix_origin=origin, prefix=prefix)
            found.address = socket_address(memory, text)
            after = memory.put(bytes(found))
        one.unicast, after = after, 0
        for text in reversed(told["gateways"]):
            gate = Gateway(ctypes.sizeof(Gateway), next=after)
            gate.address = socket_address(memory, text)
            after = memory.put(bytes(gate))
        one.gateway = after
        memory.change(pointer, one)
    return bytes(memory.content)


def smbios(strings: Sequence[str], identity: str, version: Tuple[int, int] = (2, 8)) -> bytes:
    """A table with a BIOS structure first, then the system's (vendor, product, version, serial)."""
    texts = b"".join(one.encode() + b"\0" for one in strings) + b"\0"
    bios = bytes([0, 24, 0, 0]) + bytes(20) + b"SeaBIOS\0\0"
    packed = uuid.UUID(identity)
    own = packed.bytes_le if version >= (2, 6) else packed.bytes
    system = bytes([1, 27, 0, 1, 1, 2, 3, 4]) + own + bytes([6, 0, 0]) + texts
    table = bios + system + bytes([127, 4, 0, 2, 0, 0])
    return bytes([0, *version, 0]) + struct.pack("<L", len(table)) + table


def listeners(addresses: Sequence[Tuple[str, int]]) -> bytes:
    """MIB_TCPTABLE_OWNER_PID."""
    rows = b"".join(
        struct.pack("<L", 2)
        + socket.inet_aton(text)
        + struct.pack(">HH", port, 0)
        + bytes(8)
        + b"PID\0"
        for text, port in addresses
    )
    return struct.pack("<L", len(addresses)) + rows


def listeners6(addresses: Sequence[Tuple[str, int]]) -> bytes:
    """MIB_TCP6TABLE_OWNER_PID."""
    rows = b""
    for text, port in addresses:
        own = socket.inet_pton(socket.AF_INET6, text)
        rows += own + bytes(4) + struct.pack(">HH", port, 0) + bytes(24) + struct.pack("<LL", 2, 4)
    return struct.pack("<L", len(addresses)) + rows
