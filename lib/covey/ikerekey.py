"""CREATE_CHILD_SA that rekeys an IKE SA, in both roles: RFC 7296 sections 1.3.2, 2.8, 2.18.

    initiator  HDR, SK{SA, Ni, KEi}  -->
                                     <--  HDR, SK{SA, Nr, KEr}  responder

The new SA has keys from the old one's SK_d and a fresh X25519 product, and GSK_w changes with
SK_d. Its original initiator is who rekeyed. Both roles are jobs.
"""

import struct

from covey import ike, offer, x25519
from covey.drops import DROP_IKE_KE, FormatError
from covey.exchange import IkeSA
from covey.octets import wipe
from covey.port import const

_SPI_LEN = const(8)
_NONCE_LEN = const(32)
_X25519_LEN = const(32)  # of secrets and public values
_TYPES = ike.ENCR, ike.PRF, ike.INTEG, ike.KE_METHOD, ike.KWA  # of what a proposal may hold


class Refused(Exception):
    """What the peer asks for is answered by a notification; the IKE SA stays."""

    def __init__(self, type, data=b""):
        super().__init__(type)
        self.type = type
        self.data = data


class Made:
    """A new IKE SA, and the lower of the two nonces that made it (section 2.8.1)."""

    def __init__(self, sa, *nonces):
        self.sa = sa
        self.nonce = min(nonces)  # octet by octet; the shorter of two that begin alike is lower


class _Basis:
    """What the new IKE SA takes over from the old one, which may go while we work."""

    def __init__(self, old):
        self._sk_d = bytearray(old.sk_d)
        self._most_len = old.most_len
        self._secret = b""

    def make(self, shared, nonces, spis, bits, kwa, is_initiator):
        """Job → Made; shared is wiped. Ni before Nr, SPIi before SPIr."""
        keys = yield from ike.derive(*nonces, shared, *spis, bits, self._sk_d)
        try:
            yield
            sa = IkeSA(*spis, keys, kwa, is_initiator, 0, self._most_len)
        finally:
            for key in keys:
                wipe(key)
        return Made(sa, *nonces)

    def agree(self, public):
        """Job: the shared secret; FormatError where it is no good (RFC 7748 section 6.1)."""
        shared = yield from x25519.multiply(self._secret, public)
        if shared is None:
            raise FormatError(DROP_IKE_KE)
        return shared

    def wipe(self):
        wipe(self._sk_d)
        wipe(self._secret)


class Opening(_Basis):
    """Our rekey of an IKE SA: ready() is a job, then .payloads; finish(answer) is a job → Made."""

    def __init__(self, old, random):
        super().__init__(old)
        self.payloads = None
        self._spi = bytes(random(_SPI_LEN))
        self._nonce = bytes(random(_NONCE_LEN))
        self._secret = bytearray(random(_X25519_LEN))

    def ready(self):
        public = yield from x25519.multiply(self._secret, x25519.BASE)
        spi = self._spi  # the same as in offer.SAI
        all_of_it = _proposal(2, 1, spi, 256, ike.KW_5649_256)
        all_of_it += _proposal(0, 2, spi, 128, ike.KW_5649_128, ike.KW_5649_256)
        self.payloads = [
            (ike.SA, all_of_it),
            (ike.NONCE, self._nonce),
            (ike.KE, ike.emit_ke(ike.CURVE25519, public)),
        ]

    def finish(self, answer):
        """answer: the payloads of a genuine one without error. FormatError where it is no good."""
        bits, kwa, spi_r = offer.parse_sar(ike.only(answer, ike.SA), _SPI_LEN)
        nonce = ike.check_nonce(ike.only(answer, ike.NONCE))
        method, public = ike.parse_ke(ike.only(answer, ike.KE))
        if method != ike.CURVE25519:
            raise FormatError(DROP_IKE_KE)
        shared = yield from self.agree(public)
        spis = self._spi, spi_r
        made = yield from self.make(shared, (self._nonce, nonce), spis, bits, kwa, True)
        return made


class Answering(_Basis):
    """The peer's rekey: what it asks for is judged at once, work() is a job → (payloads, Made).

    Refused or FormatError (malformed) where nothing comes of it.
    """

    def __init__(self, old, payloads, random):
        proposals = ike.parse_sa(ike.only(payloads, ike.SA))
        self._peer_nonce = ike.check_nonce(ike.only(payloads, ike.NONCE))
        chosen = _choose(proposals)
        if chosen is None:
            raise Refused(ike.NO_PROPOSAL_CHOSEN)
        self._proposal, self._bits, self._kwa = chosen
        method, self._peer_public = ike.parse_ke(ike.only(payloads, ike.KE))
        if method != ike.CURVE25519:
            raise Refused(ike.INVALID_KE_PAYLOAD, bytes((0, ike.CURVE25519)))
        if len(self._peer_public) != _X25519_LEN:
            raise FormatError(DROP_IKE_KE)
        super().__init__(old)  # only now: it copies a secret
        self._spi = bytes(random(_SPI_LEN))
        self._nonce = bytes(random(_NONCE_LEN))
        self._secret = bytearray(random(_X25519_LEN))

    def work(self):
        public = yield from x25519.multiply(self._secret, x25519.BASE)
        shared = yield from self.agree(self._peer_public)
        proposal = self._proposal
        nonces = self._peer_nonce, self._nonce
        spis = proposal.spi, self._spi
        made = yield from self.make(shared, nonces, spis, self._bits, self._kwa, False)
        payloads = [
            (ike.SA, _proposal(0, proposal.num, self._spi, self._bits, self._kwa)),
            (ike.NONCE, self._nonce),
            (ike.KE, ike.emit_ke(ike.CURVE25519, public)),
        ]
        return payloads, made


def _proposal(more, num, spi, bits, *kwas):
    """Octets of a proposal for an IKE SA (RFC 7296 section 3.3.1). more: 2 where another follows;
    bits: of AES-GCM, whose transform alone has an attribute: its key length.
    """
    out = struct.pack(">BBHBBHHH", 3, 0, 12, ike.ENCR, 0, ike.ENCR_AES_GCM_16, 0x800E, bits)
    others = [(ike.PRF, ike.PRF_HMAC_SHA2_256), (ike.KE_METHOD, ike.CURVE25519)]
    others += [(ike.KWA, kwa) for kwa in kwas]
    left = len(others)
    for kind, id in others:
        left -= 1
        out += struct.pack(">BBHBBH", 3 if left else 0, 0, 8, kind, 0, id)
    head = more, 0, 8 + len(spi) + len(out), num, ike.IKE, len(spi), 1 + len(others)
    return struct.pack(">BBHBBBB", *head) + spi + out


def _choose(proposals):
    """Of a peer that rekeys the IKE SA → (its Proposal that we take, key bits, KWA), or None.

    The first one that holds what we take; of its key wraps the strongest. One with a transform
    type that we don't know, or a key length where there is none, is not taken as a whole.
    """
    for proposal in proposals:
        if proposal.protocol != ike.IKE or not _is_sound(proposal):
            continue
        for bits, kwas in ((256, (ike.KW_5649_256,)), (128, (ike.KW_5649_256, ike.KW_5649_128))):
            for kwa in kwas:
                if offer.has_all(proposal, bits, kwa):
                    return proposal, bits, kwa
    return None


def _is_sound(proposal):
    if len(proposal.spi) != _SPI_LEN or not any(proposal.spi):
        return False
    for t in proposal.transforms:
        if t.kind not in _TYPES:
            return False
        if t.kind == ike.INTEG and (t.id != ike.INTEG_NONE or t.unknown_attribute):
            return False  # NONE may stand beside an AEAD cipher, once
        if not has_valid_key_length(t):
            return False
    return [t.kind for t in proposal.transforms].count(ike.INTEG) < 2


def has_valid_key_length(transform):
    """AES says how long its key is, KWA and all others of ours don't (section 3.3.5).

    Where this is wrong, the whole proposal is to be rejected.
    """
    if transform.kind == ike.ENCR:
        takes_one = transform.id in (ike.ENCR_AES_GCM_16, ike.ENCR_NULL_AUTH_AES_GMAC)
        return transform.key_bits is not None or not takes_one
    return transform.key_bits is None
