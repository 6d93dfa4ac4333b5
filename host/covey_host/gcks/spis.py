"""Our SPIs where the key server has workers: each says which process has its IKE SA.

    SPI = owner (1) | random (5) | HMAC-SHA-256(secret, the six before), 2 octets of it

So a datagram finds its IKE SA whichever process the system has given it to: after a change from
port 500 to 4500, or of the port that a NAT has chosen. The last two octets are no protection, the
IKE SA's own keys are that: they keep what somebody has made up, 65535 of 65536 times, from being
carried to a process that then has to look for it. Until the SPIs of one owner begin to meet there
are a million of them.
"""

import hmac

from .epoch import Random

KEEPER = 0  # the process that has the store and all IKE SAs of members; workers from 1 on
SECRET_LEN = 32
_RANDOM_LEN = 5
_BODY_LEN = 1 + _RANDOM_LEN
_LEN = 8


class Spis:
    """owner: whose those are that make() makes."""

    def __init__(self, secret: bytes, owner: int, random: Random):
        self.owner = owner
        self._secret = secret
        self._random = random

    def make(self) -> bytes:
        body = bytes([self.owner]) + self._random(_RANDOM_LEN)
        return body + self._tag(body)

    def owner_of(self, spi: bytes) -> int | None:
        """Whose it is; None: nobody's here."""
        body = spi[:_BODY_LEN]
        return body[0] if hmac.compare_digest(spi[_BODY_LEN:], self._tag(body)) else None

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, body, "sha256")[: _LEN - _BODY_LEN]
