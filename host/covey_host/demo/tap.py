"""A witness on the wire: joins the group and writes down every nonce that genuine packets use.

A (key, nonce) pair is a (SPI, IV) pair, since each SPI belongs to one key with one salt. The
attacker's packets are told apart by the UDP port that they come from. Of GSA_REKEY messages a
repeat that is identical to the bit is no second use (RFC 9838 section 2.4.1.3).
"""

import asyncio
from collections import Counter
from hashlib import sha256

from covey import ike, port

from .recorder import Recorder

_MARKER = bytes(4)
_IKE_IV = 32  # in a message: behind the IKE header (28) and SK's generic header (4)
_ESP_LEAST = 36
_MOST_OCTETS = 65536


class Book:
    """What has passed, and whether any nonce came twice under one key."""

    def __init__(self):
        self.packets: Counter[tuple[str, int]] = Counter()  # (SPI, Sender-ID) → packets
        self.rekeys = 0  # different GSA_REKEY messages
        self.rekey_repeats = 0
        self.strange = 0  # genuine senders sent something else
        self.repeated: list[str] = []  # "SPI IV" of nonces used twice
        self._packet_nonces: dict[bytes, set[bytes]] = {}  # SPI → IVs
        self._rekey_nonces: dict[tuple[bytes, bytes], bytes] = {}  # (SPI, IV) → digest

    def note(self, datagram: bytes) -> None:
        """One genuine datagram of the carrier's port."""
        message = datagram[4:]
        if len(datagram) < _ESP_LEAST:
            self.strange += 1
        elif datagram[:4] != _MARKER:
            self._note_packet(datagram[:4], datagram[8:16])
        elif len(message) >= _IKE_IV + 8 and message[18] == ike.GSA_REKEY:
            self._note_rekey(message)
        else:
            self.strange += 1

    def spis(self) -> list[str]:
        """Those that were sent under, in the order in which they appeared."""
        return list(dict.fromkeys(spi for spi, _ in self.packets))

    def under(self, spis: list[str]) -> int:
        """Packets under any of these SPIs."""
        return sum(n for (spi, _), n in self.packets.items() if spi in spis)

    def senders_under(self, spi: str) -> int:
        """How many senders have gone over to this SPI."""
        return sum(1 for one, _ in self.packets if one == spi)

    def _note_packet(self, spi: bytes, iv: bytes) -> None:
        self.packets[spi.hex(), iv[0] << 8 | iv[1]] += 1
        seen = self._packet_nonces.setdefault(spi, set())
        if iv in seen:
            self.repeated.append(f"{spi.hex()} {iv.hex()}")
        seen.add(iv)

    def _note_rekey(self, message: bytes) -> None:
        use = message[:16], message[_IKE_IV : _IKE_IV + 8]
        digest = sha256(message).digest()
        known = self._rekey_nonces.get(use)
        if known is None:
            self._rekey_nonces[use] = digest
            self.rekeys += 1
        elif known == digest:
            self.rekey_repeats += 1
        else:
            self.repeated.append(f"{use[0].hex()} {use[1].hex()}")


class Tap:
    """Feeds a Book from the group's port; ConfigError where it can't be joined."""

    def __init__(self, group: str, number: int, interface: str):
        self.book = Book()
        self.forged_from: int | None = None  # UDP port of the attacker
        self.forged = 0
        self.recorder: Recorder | None = None
        self._carrier = group, number
        self._sock = port.group_socket(group, number, interface, 1)
        self._buf = bytearray(_MOST_OCTETS)

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        port.close(self._sock)

    def summary(self) -> dict:
        book = self.book
        return {
            "packets": sum(book.packets.values()),
            "keys": len(book.spis()),
            "rekeys": book.rekeys,
            "rekey_repeats": book.rekey_repeats,
            "forged": self.forged,
        }

    def _readable(self) -> None:
        while True:
            n, source = port.recv_from(self._sock, self._buf)
            if n < 0:
                return
            if self.recorder:
                self.recorder.note(bytes(self._buf[:n]), source, self._carrier)
            if source[1] == self.forged_from:
                self.forged += 1
            else:
                self.book.note(bytes(self._buf[:n]))
