"""A man in the middle of one registration: passes everything on, and lies first.

Before the key server's first answer of each exchange it slips in errors without protection, with
the right SPIs: RFC 7296 section 2.21 has them believed by nobody.
"""

import asyncio

from covey import ike
from covey.ike import notify

_LIES = {
    ike.IKE_SA_INIT: (ike.NO_PROPOSAL_CHOSEN, ike.INVALID_KE_PAYLOAD),
    ike.GSA_AUTH: (ike.AUTHENTICATION_FAILED,),
}
LIES = sum(len(types) for types in _LIES.values())


class Relay:
    """Listens where a member believes its key server to be. No marker on either side."""

    def __init__(self, listen: tuple[str, int], server: tuple[str, int]):
        self.lies = 0
        self._listen, self._server = listen, server
        self._left = dict(_LIES)
        self._member: tuple[str, int] | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self._from_member), local_addr=self._listen
        )
        self._back, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self._from_server), remote_addr=self._server
        )

    def close(self) -> None:
        self._front.close()
        self._back.close()

    def _from_member(self, data: bytes, address: tuple[str, int]) -> None:
        self._member = address
        self._back.sendto(data)

    def _from_server(self, data: bytes, address: tuple[str, int]) -> None:
        header = ike.parse_header(data)
        for type in self._left.pop(header.exchange, ()):
            head = header.spi_i, header.spi_r, header.exchange, ike.FLAG_R, header.message_id
            self._front.sendto(bytes(ike.emit_message(*head, [notify(type)])), self._member)
            self.lies += 1
        self._front.sendto(data, self._member)


class _Side(asyncio.DatagramProtocol):
    def __init__(self, receive):
        self.datagram_received = receive
