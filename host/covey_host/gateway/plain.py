"""A UDP datagram as its producer sent it, for the plant: RFC 791, RFC 768.

Consumers may look at who sent a datagram, so it bears the producer's address, not the gateway's.
"""

import struct

from .plan import Flow

_UDP = 17
_HEADERS = struct.Struct(">BBHHHBBH4s4sHHHH")
_LEN = _HEADERS.size  # 28
_UDP_LEN = 8
_DONT_FRAGMENT = 0x4000


class Emitter:
    """Of one flow. The system fills in the header's checksum and identification."""

    def __init__(self, flow: Flow):
        self._flow = flow
        self.to = str(flow.address), 0  # as a raw socket wants it
        self._addresses = flow.producer.packed, flow.address.packed
        self._sum = int.from_bytes(b"".join(self._addresses)) + _UDP + 2 * flow.port

    def datagram(self, payload: bytes) -> bytes:
        flow = self._flow
        n = _UDP_LEN + len(payload)
        padded = payload + b"\0" if len(payload) & 1 else payload
        # The ones' complement sum of 16-bit words is the number that they make, modulo 0xFFFF.
        total = (self._sum + 2 * n + int.from_bytes(padded)) % 0xFFFF
        head = (0x45, flow.dscp << 2, _UDP_LEN + 12 + n, 0, _DONT_FRAGMENT, flow.ttl, _UDP, 0)
        ports = (flow.port, flow.port, n, 0xFFFF - total)
        return _HEADERS.pack(*head, *self._addresses, *ports) + payload
