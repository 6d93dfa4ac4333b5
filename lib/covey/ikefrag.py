"""IKE fragmentation: one message in several datagrams (RFC 7383), sealed and put together again.

Each fragment has an ICV of its own, so that a forger can neither add to a message nor spoil it.
Only messages with an Encrypted payload are fragmented, never IKE_SA_INIT. Cold code.
"""

import struct

from covey import iana, ike
from covey.drops import DROP_IKE_FORMAT, DROP_IKE_FRAGMENT, FormatError
from covey.gcm import IV_LEN, TAG_LEN
from covey.job import finish
from covey.octets import u16
from covey.port import const

MOST_FRAGMENTS = 32  # of one message; ike.MOST_LEN bounds their octets
LEAST_LEN = 256  # octets of a datagram below which fragments would hardly carry anything

_HEADER = const(28)
_GENERIC = const(4)
_SKF = const(8)  # the generic header, fragment number, total


# Encrypted Fragment payload SKF, RFC 7383 section 2.5:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+-+-------------+-------------------------------+
# |First kind or 0|0|  RESERVED   |   Payload Length (to the end) |
# +---------------+-+-------------+-------------------------------+
# |     Fragment Number, from 1   |        Total Fragments        |  and all before it: AAD
# +-------------------------------+-------------------------------+
# |                  Initialization Vector (8)                    |
# +---------------------------------------------------------------+
# ~      Part of the inner payloads | Padding | Pad Length        ~  encrypted
# +---------------------------------------------------------------+
# |                 Integrity Checksum Data (16)                  |
# +---------------------------------------------------------------+


def seal(ctx, spi_i, spi_r, exchange, flags, message_id, payloads, iv, most_len=None):
    """A message whose payloads [(kind, body), ...] are encrypted by ctx → its datagrams, a list.

    iv(): eight octets that ctx has never seen. most_len: the longest datagram, from LEAST_LEN on;
    what fits, or None, leaves the message in one piece.
    """
    head = spi_i, spi_r, exchange, flags, message_id
    first, chain = ike.emit_chain(payloads)
    whole_len = _HEADER + _GENERIC + IV_LEN + len(chain) + 1 + TAG_LEN
    if most_len is None or whole_len <= most_len:
        return [ike.seal_message(ctx, *head, payloads, iv())]
    ike.check_emitted(whole_len)
    room = most_len - _HEADER - _SKF - IV_LEN - 1 - TAG_LEN
    total = -(-len(chain) // room)
    return [
        _seal_part(ctx, head, first, number, total, chain, room, iv())
        for number in range(1, total + 1)
    ]


def _seal_part(ctx, head, first, number, total, chain, room, iv8):
    part = chain[(number - 1) * room : number * room]
    body = struct.pack(">HH", number, total) + iv8 + part + bytes(1 + TAG_LEN)
    out = ike.emit_message(*head, [(iana.SKF, body)])
    out[_HEADER] = first if number == 1 else 0
    ctx.seal(out, 0, _HEADER + _SKF, len(part) + 1)
    return out


def number_of(data):
    """The number of the fragment in a datagram; 0 for a whole message. FormatError: neither."""
    header = ike.parse_header(data)
    _, off, kind = finish(ike.walk(header.next_payload, data, _HEADER))
    if kind != iana.SKF:
        return 0
    return _numbers(data, off)[0]


def _numbers(data, off):
    """Fragment number and total at an SKF payload, which must be the last one."""
    if ike.end_of(data, off) != len(data) or len(data) < off + _SKF + IV_LEN + 1 + TAG_LEN:
        raise FormatError(DROP_IKE_FORMAT)
    number, total = u16(data, off + 4), u16(data, off + 6)
    if not 1 <= number <= total:
        raise FormatError(DROP_IKE_FORMAT)
    return number, total


class Reassembly:
    """Puts one message together, at most MOST_FRAGMENTS in ike.MOST_LEN octets.

    Whoever holds it decides which Message IDs are looked at; a genuine fragment of another
    message than the one in work takes its place.
    """

    def __init__(self):
        self.clear()

    @property
    def is_waiting(self):
        """Whether fragments are held."""
        return bool(self._parts)

    def clear(self):
        """Forget what has come so far."""
        self._key = None  # (Message ID, exchange, flags)
        self._total = 0
        self._parts = {}  # fragment number: inner octets
        self._octets = 0
        self.taken = 0  # fragments of the message that was added to last; whole, it is not held
        self._first = None  # (Header, clear payloads, head, kind of the first inner payload)

    def open(self, ctx, data):
        """One datagram → ike.Opened, once its message is whole; None: more is to come.

        FormatError where it is forged, malformed, a duplicate, or too much; what has come so far
        stays. A message in one piece leaves the fragments of another alone.
        """
        return finish(self.open_job(ctx, data))

    def open_job(self, ctx, data):
        """Job: the same in small steps, where ctx is a RareContext."""
        header = ike.parse_header(data)
        clear, off, kind = yield from ike.walk(header.next_payload, data, _HEADER)
        if kind != iana.SKF:
            opened = yield from ike.open_job(ctx, data)
            return opened
        number, total = _numbers(data, off)
        key = header.message_id, header.exchange, header.flags
        is_same = key == self._key
        if total > MOST_FRAGMENTS or clear and number != 1:
            raise FormatError(DROP_IKE_FRAGMENT)
        if is_same and (total < self._total or total == self._total and number in self._parts):
            raise FormatError(DROP_IKE_FRAGMENT)  # section 2.6: split anew since, or a duplicate
        part = yield from ike.open_text_job(ctx, data, off + _SKF)
        if not part:
            raise FormatError(DROP_IKE_FORMAT)
        yield
        if not is_same or total != self._total:
            self.clear()
            self._key = key
            self._total = total
        if self._octets + len(part) > ike.MOST_LEN - _HEADER - _GENERIC - IV_LEN - 1 - TAG_LEN:
            self.clear()
            raise FormatError(DROP_IKE_FRAGMENT)
        self._parts[number] = part
        self._octets += len(part)
        self.taken = len(self._parts)
        if number == 1:
            self._first = header, clear, _head_of_whole(data, clear, off), data[off]
        if len(self._parts) < total:
            return None
        yield
        return self._whole()

    def _whole(self):
        header, clear, head, first = self._first
        inner = bytearray()
        total = self._total
        for number in range(1, total + 1):
            inner += self._parts[number]
        self.clear()
        self.taken = total
        return ike.Opened(header, clear, head, first, inner)


def _head_of_whole(data, clear, off):
    """The head as it was in one piece: SK in place of SKF, RESERVED kept (RFC 9838, 2.4.1.2).

    Its lengths are those of the fragment; ike.rekey_signed_octets puts its own there.
    """
    head = bytearray(data[: off + _GENERIC])
    head[clear[-1].off if clear else 16] = iana.SK
    return head
