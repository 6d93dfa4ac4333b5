"""Multicast between CPython and MicroPython on this host, and what only CPython can look at."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from covey import port
from covey.port import cpy
from test_micropython import interpreter, without

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
LENGTHS = [3, 0, 5, 64, 65, 1400, 1, 0, 0, 7]

# Says the length of each datagram as a line of JSON, and sends what it has of it back.
PEER = """
import json
from covey import port

group, number, answers, count = {group!r}, {number}, {answers}, {count}
sock = port.group_socket(group, number, "127.0.0.1", 1)
back = port.resolve(group, answers)
buf = bytearray(64)
print("ready")
while count:
    n = port.recv(sock, buf)
    if n < 0:
        continue
    count -= 1
    print(json.dumps([n, "".join("%02x" % octet for octet in buf[: min(n, 8)])]))
    port.send(sock, memoryview(buf)[: min(n, 64)], back)
"""


def command(arch):
    if arch == "cpython":
        return [sys.executable]
    wrapper, reason = interpreter(arch)
    if wrapper is None:
        without(arch, reason)
    return [str(wrapper)]


@pytest.fixture
def numbers():
    """Two ports that nobody uses."""
    with socket.socket(type=socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
        a.bind((LOOPBACK, 0))
        b.bind((LOOPBACK, 0))
        return a.getsockname()[1], b.getsockname()[1]


@pytest.fixture
def peer(request, numbers):
    """A process in the group, waiting for LENGTHS."""
    there, back = numbers
    code = PEER.format(group="239.192.83.9", number=there, answers=back, count=len(LENGTHS))
    env = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "MICROPYPATH": str(ROOT / "lib")}
    process = subprocess.Popen(
        [*command(request.param), "-c", code], env=env, text=True, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def received(sock, buf):
    for _ in range(500_000):
        n = port.recv(sock, buf)
        if n >= 0:
            return n
    raise AssertionError("nothing came")


@pytest.mark.parametrize("peer", ["cpython", "x86", "x64"], indirect=True)
def test_a_group_of_two_interpreters(peer, numbers):
    """All are sent before any is answered: queued datagrams must stay apart, empty ones too."""
    there, back = numbers
    sock = port.group_socket("239.192.83.9", back, LOOPBACK, 1)
    to_peer = port.resolve("239.192.83.9", there)
    for n in LENGTHS:
        assert port.send(sock, bytes([n & 255]) * n, to_peer) is None
    heard = [json.loads(peer.stdout.readline()) for _ in LENGTHS]
    assert [n for n, _ in heard] == [min(n, 65) for n in LENGTHS]
    assert all(
        octets == f"{n:02x}" * min(n, 8)
        for (_, octets), n in zip(heard, LENGTHS, strict=True)
        if n < 65
    )
    buf = bytearray(2000)
    assert [received(sock, buf) for _ in LENGTHS] == [min(n, 64) for n in LENGTHS]
    assert peer.wait(10) == 0
    port.close(sock)


# How the socket is set, which MicroPython can't ask


def option(sock, name):
    return sock.getsockopt(socket.IPPROTO_IP, getattr(socket, name))


def test_options():
    sock = port.group_socket("239.192.83.9", 28411, LOOPBACK, 7, False)
    assert option(sock, "IP_MULTICAST_TTL") == 7
    assert option(sock, "IP_MULTICAST_LOOP") == 0
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4) == b"\x7f\0\0\1"
    assert not sock.getblocking()
    port.close(sock)
    sock = port.group_socket("239.192.83.9", 28411, LOOPBACK, 1)
    assert option(sock, "IP_MULTICAST_LOOP") == 1
    usual = socket.socket(type=socket.SOCK_DGRAM)
    buffers = [s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for s in (sock, usual)]
    assert buffers[0] >= buffers[1]
    usual.close()
    port.close(sock)


def test_where_another_socket_must_send(monkeypatch):
    """As on macOS."""
    monkeypatch.setattr(cpy, "_SENDS_APART", True)
    a = port.group_socket("239.192.83.9", 28412, LOOPBACK, 3)
    b = port.group_socket("239.192.83.9", 28412, LOOPBACK, 3)
    sender = cpy._senders[a]
    assert sender is not a and option(sender, "IP_MULTICAST_TTL") == 3
    buf = bytearray(10)
    assert port.send(a, b"hello", port.resolve("239.192.83.9", 28412)) is None
    assert received(b, buf) == received(a, buf) == 5
    port.close(a)
    port.close(b)
    assert sender.fileno() == -1 and not cpy._senders


def test_no_route(monkeypatch):
    class NoRoute(socket.socket):
        def setsockopt(self, level, name, *value):
            if level == socket.IPPROTO_IP and name == socket.IP_ADD_MEMBERSHIP:
                raise OSError(19, "No such device")
            return super().setsockopt(level, name, *value)

    monkeypatch.setattr(cpy.socket, "socket", NoRoute)
    with pytest.raises(cpy.ConfigError, match="no multicast route to 239.192.83.9"):
        port.group_socket("239.192.83.9", 28413, None, 1)


def test_an_error_is_read_away():
    """What ICMP reports of an earlier datagram is no datagram, and no end of the world."""
    sock = port.udp_socket(LOOPBACK, 0)
    with socket.socket(type=socket.SOCK_DGRAM) as closed:
        closed.bind((LOOPBACK, 0))
        gone = closed.getsockname()
    sock.connect(gone)
    sock.send(b"x")
    buf = bytearray(10)
    assert [port.recv(sock, buf) for _ in range(1000)] == [-2] + [-1] * 999
    port.close(sock)
    with pytest.raises(OSError):
        port.recv(sock, buf)
