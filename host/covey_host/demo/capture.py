"""What the attacker heard on the wire, and the secrets that it was given for the worst cases."""

import time
from collections import deque
from typing import NamedTuple

from covey.gcm import GCMContext

from ..gcks.epoch import Epoch, decode_state

_MARKER = bytes(4)
_KEPT = 1000  # packets of each sender under each SPI
_SETTLED_S = 0.5  # after this long every member has taken, or lost, what it was sent
_LOW_BITS = 6  # of a Sender-ID: the incarnation; the layout that the CLI makes is 10 | 6


class Packet(NamedTuple):
    at_s: float
    data: bytes

    @property
    def sender(self) -> int:
        return sender_of(self.data)


class Capture:
    """Genuine datagrams, by SPI and Sender-ID."""

    def __init__(self):
        self.rekeys: list[bytes] = []  # different ones, with marker
        self.current: Epoch | None = None  # of the secrets: the worst case of a bad member
        self.retired: list[Epoch] = []  # whose keys a removed member still has
        self._packets: dict[bytes, dict[int, deque[Packet]]] = {}

    def note(self, datagram: bytes) -> None:
        if datagram[:4] == _MARKER:
            if datagram not in self.rekeys:
                self.rekeys.append(datagram)
        elif len(datagram) >= 36:
            of_spi = self._packets.setdefault(datagram[:4], {})
            of_sender = of_spi.setdefault(sender_of(datagram), deque(maxlen=_KEPT))
            of_sender.append(Packet(time.monotonic(), datagram))

    def learn(self, current: str, retired: list[str]) -> None:
        """Groups' states as the key server's store holds them, in hexadecimal."""
        self.current = decode_state(bytes.fromhex(current))[0]
        self.retired = [decode_state(bytes.fromhex(state))[0] for state in retired]

    @property
    def spi(self) -> bytes:
        """The newest one that was sent under."""
        return next(reversed(self._packets))

    def old_spis(self) -> list[bytes]:
        return list(self._packets)[:-1]

    def senders(self) -> list[int]:
        """The Sender-IDs under the newest SPI."""
        return sorted(self._packets[self.spi])

    def settled(self, sender: int, spi: bytes | None = None) -> list[Packet]:
        """What a sender sent under an SPI (the newest) and every member has dealt with."""
        latest = time.monotonic() - _SETTLED_S
        return [p for p in self._packets[spi or self.spi].get(sender, ()) if p.at_s < latest]

    def old(self, spi: bytes) -> list[Packet]:
        return [p for packets in self._packets[spi].values() for p in packets]

    def is_known_index(self, sender: int) -> bool:
        return sender >> _LOW_BITS in {one >> _LOW_BITS for one in self.senders()}


def sender_of(data: bytes) -> int:
    """The Sender-ID, 16 bits on top of the IV."""
    return data[8] << 8 | data[9]


def is_older(incarnation: int, than: int) -> bool:
    """Serial arithmetic over Sender-IDs of one index (RFC 1982)."""
    ahead = incarnation - than & (1 << _LOW_BITS) - 1
    return ahead >= 1 << (_LOW_BITS - 1)


def context_of(epoch: Epoch) -> GCMContext:
    return GCMContext(epoch.tek_keymat)
