"""Somebody on a group's wire who is no member: hears all, and sends what attacks.py makes."""

import asyncio
import random
import socket
from collections import Counter

from covey import port

from .attacks import KINDS, Shot
from .capture import Capture

_PAUSE_S = 0.001  # between two shots: no socket's buffer is to overflow
_MOST_OCTETS = 65536


class Intruder:
    """carrier, application: (group, UDP port). ConfigError where the group can't be joined."""

    def __init__(self, carrier: tuple, application: tuple, interface: str, seed: int):
        self.capture = Capture()
        self._random = random.Random(seed)
        self._carrier, self._application = carrier, application
        self._ear = port.group_socket(*carrier, interface, 1)
        self._buf = bytearray(_MOST_OCTETS)
        self._mouth = multicast_sender(interface)
        self.own_port = self._mouth.getsockname()[1]

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._ear, self._listen)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._ear)
        port.close(self._ear)
        self._mouth.close()

    async def attack(self, kind: str) -> dict:
        """expect: [reason, Sender-ID under a live SPI or null, how many] of each sort."""
        shots = KINDS[kind].make(self.capture, self._random)
        for shot in shots:
            self._shoot(shot)
            await asyncio.sleep(_PAUSE_S)
        sorts = Counter((shot.reason, shot.sender) for shot in shots)
        expect = [[reason, sender, n] for (reason, sender), n in sorts.items()]
        return {"kind": kind, "sent": len(shots), "expect": expect}

    def _shoot(self, shot: Shot) -> None:
        to = self._application if shot.to_application else self._carrier
        self._mouth.sendto(shot.data, to)

    def _listen(self) -> None:
        while True:
            n, source = port.recv_from(self._ear, self._buf)
            if n < 0:
                return
            if source[1] != self.own_port:
                self.capture.note(bytes(self._buf[:n]))


def multicast_sender(interface: str) -> socket.socket:
    """No router passes on what it sends: its TTL is 1, as it is unless somebody sets it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((interface, 0))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    return sock
