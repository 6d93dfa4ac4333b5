"""An IKE SA and our requests over it, in either role: RFC 7296 sections 2.1 to 2.3, 5282, 7383.

Message IDs, a window of one request, the octets to be sent again, fragments, the keys. Requests of
the peer are answering.py's.
No clock: when to send again is the affair of whoever holds the SA.
"""

import struct

from covey import ike
from covey.drops import (
    DROP_IKE_EXCHANGE,
    DROP_IKE_MESSAGE_ID,
    need,
)
from covey.gcm import RareContext
from covey.job import finish
from covey.octets import wipe
from covey.port import const

_HEADER = const(28)  # of an IKE message
_AROUND = const(28 + 4 + 8 + 1 + 16)  # inner payloads: header, SK, IV, pad length, ICV


class Incoming:
    """Messages of one direction, whole or in fragments. Few come in fragments: the first of them
    loads what puts them together.
    """

    def __init__(self, fragments=True):
        self.taken = 0  # fragments of the message that the last of them was added to
        self._fragments = fragments  # whether there may be any
        self._reassembly = None

    def open_job(self, ctx, data):
        """Job: one datagram → ike.Opened; None: more fragments are to come. FormatError: dropped.

        In small steps; the first fragment loads a module in one of them.
        """
        if self._reassembly is None and self._fragments:
            first = ike.parse_header(data).next_payload
            if (yield from ike.walk(first, data, _HEADER))[2] == ike.SKF:
                yield
                from covey.ikefrag import Reassembly

                self._reassembly = Reassembly()
                yield
        reassembly = self._reassembly
        if reassembly is None:
            opened = yield from ike.open_job(ctx, data)
            return opened
        try:
            opened = yield from reassembly.open_job(ctx, data)
            return opened
        finally:
            self.taken = reassembly.taken


class IkeSA:
    """Our end of an IKE SA that has keys.

    keys: of ike.derive(), copied as far as they are needed; kwa: its KWA transform. is_initiator:
    whether we are the original initiator (of a rekeyed SA: whoever rekeyed). first_id: Message ID
    of our first request, 1 behind IKE_SA_INIT. most_len: of what we send in one piece, 0: any;
    None: the peer doesn't know RFC 7383, so nothing comes in fragments either. iv_space: one of
    its own for each SA that may have the keys of another.
    """

    answers = None  # answering.Answers, once the peer has asked for something

    def __init__(
        self,
        spi_i,
        spi_r,
        keys,
        kwa,
        is_initiator=True,
        first_id=1,
        most_len=None,
        iv_space=0,
    ):
        self.spi_i = spi_i
        self.spi_r = spi_r
        self.kwa = kwa
        self.is_initiator = is_initiator
        self.most_len = most_len
        self.request = None  # ours that waits for its answer, a list of datagrams, and
        self.awaited = 0  # its exchange type
        self.sk_d = bytearray(keys[ike.SK_D])  # makes the keys of the next one, and the KWK
        self._next_id = first_id  # Message ID of our next request
        self._iv_space = 2 * iv_space  # fragments have the next one
        self._iv = 0  # counter: nobody else seals under our key
        self._sealing = RareContext(bytearray(keys[ike.SK_EI if is_initiator else ike.SK_ER]))
        self.opening = RareContext(bytearray(keys[ike.SK_ER if is_initiator else ike.SK_EI]))
        self._responses = Incoming(most_len is not None)
        # What unicast.py notes here
        self.patience = None  # deadline.Patience with .request
        self.asked_ms = 0  # when that was sent first
        self.is_to_delete = False  # by us, as soon as no other request is out
        self.is_deleted = False  # by us: .request says so
        self.goes = None  # Timer that runs once it is replaced

    # Our requests

    def ask(self, exchange, payloads):
        """Seal a request; it stays in .request until open_response takes the answer."""
        assert self.request is None
        self.awaited = exchange
        self.request = self.seal(exchange, 0, self._next_id, payloads)
        self._next_id += 1

    def open_response(self, header, data):
        """The payloads of the answer to .request; None: more fragments are to come.

        FormatError: if .request is None after it, the answer was genuine and no other will come.
        """
        is_ours = self.request is not None and header.message_id == self._next_id - 1
        need(is_ours, DROP_IKE_MESSAGE_ID)
        need(header.exchange == self.awaited, DROP_IKE_EXCHANGE)
        opened = finish(self._responses.open_job(self.opening, data))
        if opened is None:
            return None
        self.request = None
        return opened.clear + finish(ike.parse_chain_job(opened.first, opened.inner))

    def wipe(self):
        """The keys are gone; what was answered last, which is sealed, stays."""
        self.request = None
        self._responses = None
        if self.answers is not None:
            self.answers.wipe()
        if self.opening is not None:
            wipe(self.sk_d)
            self._sealing.wipe()
            self.opening.wipe()
            self._sealing = self.opening = None

    # Octets

    def seal(self, exchange, flags, message_id, payloads):
        if self.is_initiator:
            flags |= ike.FLAG_I
        head = self.spi_i, self.spi_r, exchange, flags, message_id
        # Two answers to IKE_SA_INIT, of which somebody has altered one on its way, can lead to the
        # same keys: once with fragments, once without. Their GSA_AUTHs must not share an IV.
        most_len = self.most_len
        if not most_len or _AROUND + len(ike.emit_chain(payloads)[1]) <= most_len:
            self._iv_space &= ~1
            return [ike.seal_message(self._sealing, *head, payloads, self._next_iv())]
        from covey.ikefrag import seal

        self._iv_space |= 1
        return seal(self._sealing, *head, payloads, self._next_iv, most_len)

    def _next_iv(self):
        self._iv += 1
        return struct.pack(">II", self._iv_space, self._iv)
