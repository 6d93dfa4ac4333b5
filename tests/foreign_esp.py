"""ESP in UDP to a multicast group as scapy makes and opens it: other senders and receivers."""

import itertools
import logging
import os
import select
import socket
import time

logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of what a machine has no use for

from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.layers.ipsec import ESP, SecurityAssociation  # noqa: E402
from scapy.packet import Raw  # noqa: E402

from processes import PATIENCE_S  # noqa: E402

LOOPBACK = "127.0.0.1"
AES_GCM, AES_GMAC = "AES-GCM", "AES-NULL-GMAC"  # as scapy calls them


_numbers = itertools.count()


def free_group():
    """A multicast address of this process's own, dotted."""
    return f"239.192.{os.getpid() % 250 + 2}.{next(_numbers) % 250 + 2}"


def association(tek):
    """tek: has .spi (octets) and .keymat (AES key and salt), and .cipher if that is another."""
    spi, cipher = int.from_bytes(tek.spi), getattr(tek, "cipher", AES_GCM)
    return SecurityAssociation(ESP, spi=spi, crypt_algo=cipher, crypt_key=tek.keymat)


class Air:
    """A group's address and the carrier's port, on loopback."""

    def __init__(self, group, port):
        self.group, self.port = group, port
        self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._in.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._in.bind((group, port))
        membership = socket.inet_aton(group) + socket.inet_aton(LOOPBACK)
        self._in.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        self.out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.out.bind((LOOPBACK, 0))
        interface = socket.inet_aton(LOOPBACK)
        self.out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        self._seq = {}  # SPI → number used last

    def close(self):
        self._in.close()
        self.out.close()

    def send(self, tek, payload, *, port=None, seq=None, iv=None):
        """One packet by scapy, IV drawn by it where none is given; its octets."""
        seq = self._seq[tek.spi] = seq or self._seq.get(tek.spi, 0) + 1
        octets = self.seal(tek, payload, port=port, seq=seq, iv=iv)
        self.raw(octets)
        return octets

    def seal(self, tek, payload, *, port=None, seq, iv):
        """The same, not sent."""
        plain = IP(src=LOOPBACK, dst=self.group) / UDP(sport=2222, dport=port or tek.port)
        sealed = association(tek).encrypt(plain / Raw(payload), seq_num=seq, iv=iv)
        return bytes(sealed[IP].payload)

    def raw(self, octets, port=None):
        self.out.sendto(octets, (self.group, port or self.port))

    def receive(self, timeout_s):
        """The next datagram, or None."""
        return self._in.recv(2048) if select.select([self._in], [], [], timeout_s)[0] else None

    def open(self, tek, octets):
        """(IV, port, payload) of an ESP packet under this key."""
        return self._open(tek, octets)[1:]

    def hear(self, teks, timeout_s=PATIENCE_S):
        """The next packet under one of these: (tek, IV, port, payload). Others are passed over."""
        end = time.monotonic() + timeout_s
        while True:
            left = end - time.monotonic()
            assert left > 0, "no packet came"
            octets = self.receive(left) or b""
            for tek in teks:
                if octets[:4] == tek.spi:
                    return self._open(tek, octets)

    def _open(self, tek, octets):
        ip = IP(src=LOOPBACK, dst=self.group, proto=50) / ESP(octets)
        plain = association(tek).decrypt(IP(bytes(ip)))
        return tek, octets[8:16], plain[UDP].dport, bytes(plain[UDP].payload)
