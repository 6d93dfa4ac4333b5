"""EtherNet/IP written down by hand after the specification's figures, apart from our code.

A target and an originator as far as a class 1 connection needs them: explicit messages on TCP
44818, and the frames that the target multicasts.
"""

import struct
from ipaddress import IPv4Address

OWNER = struct.pack("<HHI", 0x0101, 0x1234, 0xCAFE)  # serial number, vendor, its serial number
_NULL = struct.pack("<HH", 0, 0)


def message(items, command=0x6F, status=0, options=0):
    """SendRRData: header, interface handle 0, timeout, the common packet format."""
    body = struct.pack("<IHH", 0, 10, len(items)) + b"".join(items)
    return struct.pack("<HHIIQI", command, len(body), 7, status, 0x1122, options) + body


def item(kind, data):
    return struct.pack("<HH", kind, len(data)) + data


def sockaddr(address, port=2222):
    """Big-endian, as sockaddr_in is on the wire."""
    return struct.pack(">HH4s8x", 2, port, IPv4Address(address).packed)


def open_request(owner=OWNER):
    """Forward_Open to the connection manager: T→O multicast, 10 ms, class 1, cyclic."""
    path = bytes.fromhex("2006 2401")
    target = bytes.fromhex("2004 2497 2c96 2c64")  # an assembly, its two connection points
    body = struct.pack("<BBII", 10, 5, 0, 0x20000001) + owner
    body += struct.pack("<B3xIHIHB", 1, 10_000, 0x4802, 10_000, 0x2806, 0x01)
    body += struct.pack("<B", len(target) // 2) + target
    return message([_NULL, item(0xB2, b"\x54" + bytes([len(path) // 2]) + path + body)])


def open_reply(connection, address, port=2222, owner=OWNER, interval_us=10_000, more=()):
    body = struct.pack("<II", 0xA0000001, connection) + owner
    body += struct.pack("<IIBx", 10_000, interval_us, 0)
    unconnected = item(0xB2, b"\xd4\0\0\0" + body)
    return message([_NULL, unconnected, item(0x8001, sockaddr(address, port)), *more])


def refusal():
    """Connection failure, with one word of additional status, and what follows it there."""
    return message([_NULL, item(0xB2, b"\xd4\0\x01\x01" + b"\x00\x01" + OWNER + b"\0\0")])


def close_request(owner=OWNER):
    path = bytes.fromhex("2006 2401")
    target = bytes.fromhex("2004 2497 2c96 2c64")
    body = struct.pack("<BB", 10, 5) + owner + struct.pack("<Bx", len(target) // 2) + target
    return message([_NULL, item(0xB2, b"\x4e" + bytes([len(path) // 2]) + path + body)])


def close_reply(owner=OWNER):
    return message([_NULL, item(0xB2, b"\xce\0\0\0" + owner + b"\0\0")])


def frame(connection, number, data):
    """Class 1: sequenced address, connected data."""
    head = struct.pack("<HHHII", 2, 0x8002, 8, connection, number)
    return head + struct.pack("<HHH", 0xB1, 2 + len(data), number & 0xFFFF) + data


def segment(source, destination, number, text, flags=0x18, port=44818, to=50000):
    """An IPv4 packet with a TCP segment; checksums as a network card would still fill them in."""
    tcp = struct.pack(">HHIIBBHHH", port, to, number, 1, 0x50, flags, 8192, 0, 0)
    ip = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        40 + len(text),
        1,
        0x4000,
        64,
        6,
        0,
        IPv4Address(source).packed,
        IPv4Address(destination).packed,
    )
    return ip + tcp + text
