"""GSA_REKEYs by somebody with the group's keys, without the key server's: sealed well, signed by
nobody, and no two alike."""

from itertools import count

from covey import ikefrag
from covey.gcm import GCMContext
from covey.iana import AUTH, DELETE, FLAG_I, GSA_REKEY

_AUTH = bytes((14, 0, 0, 0, 12)) + bytes.fromhex("300a06082a8648ce3d040302")
_ONE_SPI = bytes((3, 4, 0, 1))  # Delete of ESP: one of four octets, and more of them
_MANY_SPIS = bytes((3, 4, 0, 64))
_LEAST_LEN = 256  # of datagrams with fragments


class ForgedRekeys:
    """spi, gsk_e: of the Rekey SA."""

    def __init__(self, spi, gsk_e):
        self._head = spi[:8], spi[8:], GSA_REKEY, FLAG_I
        self._context = GCMContext(gsk_e)
        self._ivs = count(1 << 63)
        self._numbers = count(1)

    def whole(self, message_id):
        """A message that tells of an end of all data SAs."""
        return self._sealed(message_id, _ONE_SPI + bytes(4), None)

    def fragment(self, message_id):
        """The first of some, of which there are no others."""
        return self._sealed(message_id, _MANY_SPIS + bytes(256), _LEAST_LEN)

    def _sealed(self, message_id, delete, most_len):
        number = next(self._numbers).to_bytes(4)
        pair = b"\x30\x43\x02\x1f" + b"\x11" * 27 + number + b"\x02\x20" + b"\x22" * 32
        payloads = [(DELETE, delete), (AUTH, _AUTH + pair)]
        head = *self._head, message_id
        return bytes(ikefrag.seal(self._context, *head, payloads, self._iv, most_len)[0])

    def _iv(self):
        return next(self._ivs).to_bytes(8)
