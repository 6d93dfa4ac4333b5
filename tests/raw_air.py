"""A group's address as IP protocol 50, on loopback: raw sockets that are not ours, and scapy."""

import select
import socket
import struct

from foreign_esp import IP, LOOPBACK, UDP, Air, Raw, association
from nonces import TOS

ESP = 50
HEADER = 20


def checksum(octets):
    """RFC 1071."""
    total = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class RawAir(Air):
    """Whole IP packets out, whole IP packets in; rekeys go out by UDP as in Air."""

    def __init__(self, group, port):
        super().__init__(group, port)
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, ESP)
        self._raw.bind((group, 0))
        membership = socket.inet_aton(group) + socket.inet_aton(LOOPBACK)
        self._raw.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        interface = socket.inet_aton(LOOPBACK)
        self._out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)

    def close(self):
        self._raw.close()
        self._out.close()
        super().close()

    def send(self, tek, payload, *, port=None, seq=None, iv=None):
        """One packet, made whole by scapy: IP header and all; its ESP."""
        seq = self._seq[tek.spi] = seq or self._seq.get(tek.spi, 0) + 1
        plain = IP(src=LOOPBACK, dst=self.group, tos=TOS, ttl=1) / UDP(
            sport=2222, dport=port or tek.port
        )
        sealed = association(tek).encrypt(plain / Raw(payload), seq_num=seq, iv=iv)
        self._out.sendto(bytes(sealed), (self.group, 0))
        return bytes(sealed)[HEADER:]

    def inject(self, esp, *, options=b"", flags=0, identity=1, protocol=ESP, to=None):
        """ESP behind a header of our own. The kernel fills in the length and the checksum."""
        to = to or self.group
        ihl = 5 + len(options) // 4
        head = struct.pack(">BBHHHBBH", 0x40 | ihl, TOS, 0, identity, flags, 1, protocol, 0)
        head += socket.inet_aton(LOOPBACK) + socket.inet_aton(to) + options
        self._out.sendto(head + esp, (to, 0))

    def receive(self, timeout_s):
        """ESP of the next packet, or None. Its header is what RFC 791 says."""
        if not select.select([self._raw], [], [], timeout_s)[0]:
            return None
        packet = self._raw.recv(4096)
        assert packet[0] == 0x45 and packet[9] == ESP and checksum(packet[:HEADER]) == 0
        assert int.from_bytes(packet[2:4]) == len(packet)
        assert packet[16:20] == socket.inet_aton(self.group)
        return packet[HEADER:]
