"""NAT detection (RFC 7296 section 2.23): where each end believes to be, as hashes.

The key server tells what it sees, if it was asked. It draws no conclusion of its own: it follows
a member to the address of its newest authentic message, behind a NAT or not, and never minds
which of its ports a member writes to.
"""

import socket
from typing import Any

from covey import ike

from .parts import Payloads, notify
from .policyvalues import Listen

_NAT_PORT = 4500  # where RFC 7296 section 2.23 has members go that find a NAT
_ASKED = {ike.NAT_DETECTION_SOURCE_IP, ike.NAT_DETECTION_DESTINATION_IP}


def host_of(address: Any) -> str:
    """Who is behind an address, whatever port it uses; an address without parts is all host."""
    return getattr(address, "host", address)


def move(former: Any, address: Any) -> dict[str, str]:
    """From where to where somebody has gone; the ports change with each start of a member."""
    return {"address": str(host_of(address)), "former": str(host_of(former))}


def answer(
    asked: list[ike.Notify], spi_i: bytes, spi_r: bytes, address: Any, listen: tuple[Listen, ...]
) -> Payloads:
    """For the answer to IKE_SA_INIT. Nothing where our own address is not known; nor where a
    member behind a NAT, which goes on at port 4500, would find nobody there."""
    local, local_port = getattr(address, "local", b""), getattr(address, "local_port", 0)
    if not local or not any(n.type in _ASKED for n in asked):
        return []
    here = ("0.0.0.0", socket.inet_ntoa(local))
    ways = [entry.port for entry in listen if entry.marker and entry.host in here]
    if _NAT_PORT not in ways and local_port not in ways:
        return []
    source = ike.nat_detection(spi_i, spi_r, local, local_port)
    if source is None:
        return []  # no SHA-1 in this Python
    peer = ike.nat_detection(spi_i, spi_r, socket.inet_aton(address.host), address.port)
    return [
        notify(ike.NAT_DETECTION_SOURCE_IP, source),
        notify(ike.NAT_DETECTION_DESTINATION_IP, peer),
    ]
