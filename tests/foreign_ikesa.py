"""An IKE SA from either of its ends, written from RFC 7296 and RFC 7383: nothing of lib/, host/.

Envelope, fragments, Message IDs and the rekeying of the IKE SA itself. What comes is held to the
RFCs' letter by asserts. `broken` names one rule that this end breaks, for tests of the asserts.
"""

import os
import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from foreign_gm import (
    CREATE_CHILD_SA,
    GSA_AUTH,
    GSA_REGISTRATION,
    INFORMATIONAL,
    KE,
    KWK_LEN,
    NONCE,
    NOTIFY,
    SA,
    SK,
    SKF,
    header,
    key_length,
    prf,
    prf_plus,
    transform,
    transforms_of,
    unchain,
)

IKE_AUTH, GSA_INBAND_REKEY = 35, 42
RESPONSE, INITIATOR = 0x20, 0x08
EXCHANGES = (
    IKE_AUTH,
    CREATE_CHILD_SA,
    INFORMATIONAL,
    GSA_AUTH,
    GSA_REGISTRATION,
    GSA_INBAND_REKEY,
)
HEADER, GENERIC, IV, ICV = 28, 4, 8, 16


class Message:
    """One that has come whole."""

    def __init__(self, exchange, is_response, message_id, payloads, datagrams):
        self.exchange, self.is_response, self.message_id = exchange, is_response, message_id
        self.payloads, self.datagrams = payloads, datagrams

    @property
    def kinds(self):
        return [kind for kind, _ in self.payloads]


class IkeSa:
    """seed: SKEYSEED. initiator: whether this end asked for it, or for the rekey it came of."""

    def __init__(self, initiator, spi_i, spi_r, seed, nonces, bits, kwa):
        self.initiator, self.spi_i, self.spi_r = initiator, spi_i, spi_r
        self.bits, self.kwa, n = bits, kwa, bits // 8 + 4
        keys = prf_plus(seed, nonces + spi_i + spi_r, 96 + 2 * n)
        self.sk_d, self.sk_ei, self.sk_er = keys[:32], keys[32 : 32 + n], keys[32 + n : 32 + 2 * n]
        self.sk_pi, self.sk_pr = keys[-64:-32], keys[-32:]
        self.kwk = prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", KWK_LEN[kwa])
        self.exchanges = list(EXCHANGES)
        self.own_id = self.peer_id = 0  # of the next request of each
        self.room = None  # inner octets of each fragment that we send; None: whole messages
        self.most = None  # the longest datagram that may come
        self.fragments = False  # were they agreed upon
        self.broken = None
        self.ended = False
        self.lowest = b""  # of the two nonces that made it
        self.parts, self.parts_of = {}, None
        self.taken = set()  # Message IDs of requests that have come
        self.last = (), []  # datagrams of the last request of theirs, and of our answer
        self.asked = []  # datagrams of our last request
        self.answers = {}  # Message ID of ours → datagrams that came as the answer
        self.answered = {}  # Message ID of ours → Message

    @property
    def spi(self):
        """The one that this end chose."""
        return self.spi_i if self.initiator else self.spi_r

    @property
    def own_flags(self):
        return INITIATOR if self.initiator != (self.broken == "flags") else 0

    def keys(self, mine):
        return self.sk_ei if self.initiator == mine else self.sk_er

    # Out

    def emit(self, exchange, payloads, message_id, response=False, room=None):
        """→ datagrams."""
        first, inner = chain(payloads)
        room = self.room if room is None else room
        if room is None or len(inner) <= room:
            return [self.seal(exchange, first, inner, message_id, response)]
        total = -(-len(inner) // room)
        return [
            self.seal_part(exchange, first, inner, message_id, response, number, total, room)
            for number in range(1, total + 1)
        ]

    def seal(self, exchange, first, inner, message_id, response=False, version=0x20):
        pad = os.urandom(1)[0] % 16
        text = inner + os.urandom(pad) + bytes([pad])
        length = GENERIC + IV + len(text) + ICV
        aad = self._head(SK, exchange, message_id, response, length, version)
        return self._sealed(aad + struct.pack(">BBH", first, 0, length), text)

    def seal_part(self, exchange, first, inner, message_id, response, number, total, room):
        """RFC 7383 section 2.5. Each has padding of its own."""
        text = inner[(number - 1) * room : number * room] + bytes(number % 4) + bytes([number % 4])
        length = GENERIC + 4 + IV + len(text) + ICV
        if number > 1 and self.broken != "next payload of a fragment":
            first = 0
        aad = self._head(SKF, exchange, message_id, response, length, 0x20)
        return self._sealed(aad + struct.pack(">BBHHH", first, 0, length, number, total), text)

    def _head(self, kind, exchange, message_id, response, length, version):
        flags = self.own_flags | (RESPONSE if response else 0)
        at = header(
            self.spi_i, self.spi_r, kind, exchange, flags, message_id, HEADER + length, version
        )
        return at

    def _sealed(self, aad, text):
        iv, key = os.urandom(IV), self.keys(mine=self.broken != "keys")
        return aad + iv + AESGCM(key[:-4]).encrypt(key[-4:] + iv, text, aad)

    def request(self, exchange, payloads, room=None):
        """→ (Message ID, datagrams)"""
        message_id, self.own_id = self.own_id, self.own_id + 1
        if self.broken == "message_id":
            message_id += 1
        return message_id, self.emit(exchange, payloads, message_id, room=room)

    # In

    def take(self, data):
        """A datagram → Message; None: a fragment of more."""
        kind, version, exchange, flags, message_id, length = struct.unpack_from(
            ">BBBBII", data, 16
        )
        assert data[:16] == self.spi_i + self.spi_r and version == 0x20
        assert length == len(data) and exchange in self.exchanges
        assert flags & ~RESPONSE == (0 if self.initiator else INITIATOR), "the I flag"
        assert self.most is None or len(data) <= self.most, f"{len(data)} octets"
        response = bool(flags & RESPONSE)
        if response:
            assert message_id < self.own_id, "an answer to nothing"
        if kind == SK:
            first, inner = self._open(data, HEADER + GENERIC)
            return Message(exchange, response, message_id, unchain(first, inner), [data])
        assert kind == SKF and self.fragments, "fragments that nobody agreed upon"
        return self._take_part(data, (exchange, response, message_id))

    def _open(self, data, aad):
        first, zero, length = struct.unpack_from(">BBH", data, HEADER)
        assert zero == 0 and length == len(data) - HEADER
        key = self.keys(mine=False)
        nonce = key[-4:] + data[aad : aad + IV]
        text = AESGCM(key[:-4]).decrypt(nonce, data[aad + IV :], data[:aad])
        assert text[-1] < len(text)
        return first, text[: -1 - text[-1]]

    def _take_part(self, data, of):
        number, total = struct.unpack_from(">HH", data, HEADER + GENERIC)
        assert 1 <= number <= total and total > 1
        first, inner = self._open(data, HEADER + GENERIC + 4)
        assert (first == 0) == (number > 1), "Next Payload of a fragment"
        assert inner, "an empty fragment"
        if (of, total) != self.parts_of:
            self.parts, self.parts_of = {}, (of, total)
        self.parts[number] = first, inner, data
        if len(self.parts) < total:
            return None
        parts = [self.parts[n + 1] for n in range(total)]
        self.parts, self.parts_of = {}, None
        payloads = unchain(parts[0][0], b"".join(inner for _, inner, _ in parts))
        return Message(*of, payloads, [part for _, _, part in parts])


def number_of(data):
    """Of a fragment; 0 for a whole message."""
    return int.from_bytes(data[32:34]) if data[16] == SKF else 0


def chain(payloads):
    """[(kind, body) or (kind, body, flags)] → (first kind, octets)"""
    out = b""
    for i, (_, body, *flags) in enumerate(payloads):
        after = payloads[i + 1][0] if i + 1 < len(payloads) else 0
        flag = (0x80 if flags[0] is True else flags[0]) if flags else 0
        out += struct.pack(">BBH", after, flag, 4 + len(body)) + body
    return (payloads[0][0] if payloads else 0), out


# Rekeying the IKE SA: RFC 7296 sections 1.3.2, 2.18


def offer(spi, choices, number=1):
    """SA with a proposal for each (bits, KWA), SPI in each."""
    out = b""
    for place, (bits, kwa) in enumerate(choices):
        listed = [transform(1, 20, key_length(bits)), transform(2, 5), transform(4, 31)]
        listed += [transform(13, kwa)] if kwa else []
        body = b""
        for i, (_, one) in enumerate(listed):
            body += struct.pack(">BBH", 3 if i + 1 < len(listed) else 0, 0, 4 + len(one)) + one
        more = 2 if place + 1 < len(choices) else 0
        lead = struct.pack(">BBBB", number + place, 1, len(spi), len(listed)) + spi
        out += struct.pack(">BBH", more, 0, 4 + len(lead) + len(body)) + lead + body
    return out


def proposals_with_spi(body):
    """[(number, protocol, SPI, {type: [(ID, Key Length or None)]})], strictly."""
    found = []
    while True:
        more, zero, length, number, protocol, size, count = struct.unpack_from(">BBHBBBB", body)
        assert zero == 0 and more in (0, 2)
        listed, rest = transforms_of(body[8 + size : length])
        assert rest == b"" and len(listed) == count
        kinds = {}
        for kind, id, attributes in listed:
            assert kind != 1 or [at for at, _ in attributes] == [14]
            kinds.setdefault(kind, []).append((id, dict(attributes).get(14)))
        found.append((number, protocol, body[8 : 8 + size], kinds))
        body = body[length:]
        if not more:
            assert body == b""
            return found


class Rekey:
    """One that this end asks for over `old`."""

    def __init__(self, old, choices=((256, 3),), nonce=None, method=31, value=None):
        self.old, self.choices, self.method = old, choices, method
        self.private = X25519PrivateKey.generate()
        self.nonce, self.spi, self.value = nonce or os.urandom(32), os.urandom(8), value

    def payloads(self):
        value = self.value or self.private.public_key().public_bytes_raw()
        ke = struct.pack(">HH", self.method, 0) + value
        return [(SA, offer(self.spi, self.choices)), (NONCE, self.nonce), (KE, ke)]

    def take(self, payloads):
        """The answer → the new IKE SA."""
        bodies = dict(payloads)
        assert {SA, NONCE, KE} <= set(bodies) <= {SA, NONCE, KE, NOTIFY}
        ((number, protocol, spi, kinds),) = proposals_with_spi(bodies[SA])
        assert protocol == 1 and len(spi) == 8 and spi not in (bytes(8), self.old.spi_r)
        assert 1 <= number <= len(self.choices)
        bits, kwa = self.choices[number - 1]
        assert kinds == {1: [(20, bits)], 2: [(5, None)], 4: [(31, None)], 13: [(kwa, None)]}
        assert struct.unpack_from(">HH", bodies[KE]) == (31, 0) and len(bodies[KE]) == 36
        assert 16 <= len(bodies[NONCE]) <= 256
        shared = self.private.exchange(X25519PublicKey.from_public_bytes(bodies[KE][4:]))
        both = self.nonce + bodies[NONCE]
        return _next(
            self.old, True, self.spi, spi, shared, both, bits, kwa, (self.nonce, bodies[NONCE])
        )


def answer_rekey(old, payloads, wanted, nonce=None):
    """wanted: (bits, KWA) → (payloads of the answer, the new IKE SA)."""
    bodies = dict(payloads)
    assert [kind for kind, _ in payloads if kind != NOTIFY] == [SA, NONCE, KE]
    assert struct.unpack_from(">HH", bodies[KE]) == (31, 0) and len(bodies[KE]) == 36
    assert 16 <= len(bodies[NONCE]) <= 256
    nonce, spi = nonce or os.urandom(32), os.urandom(8)
    bits, kwa = wanted
    peer_spis = set()
    chosen = None
    for number, protocol, peer_spi, kinds in proposals_with_spi(bodies[SA]):
        assert protocol == 1 and len(peer_spi) == 8 and peer_spi != bytes(8)
        assert set(kinds) == {1, 2, 4, 13}, "transform types of an IKE SA, with its KWA"
        peer_spis.add(peer_spi)
        if (20, bits) in kinds[1] and (kwa, None) in kinds[13] and chosen is None:
            chosen = number
    assert chosen is not None and len(peer_spis) == 1
    assert peer_spis.isdisjoint({old.spi_i, old.spi_r}), "a new SPI"
    private = X25519PrivateKey.generate()
    shared = private.exchange(X25519PublicKey.from_public_bytes(bodies[KE][4:]))
    ke = struct.pack(">HH", 31, 0) + private.public_key().public_bytes_raw()
    answer = [(SA, offer(spi, [wanted], chosen)), (NONCE, nonce), (KE, ke)]
    both = bodies[NONCE] + nonce
    made = _next(old, False, *peer_spis, spi, shared, both, bits, kwa, (bodies[NONCE], nonce))
    return answer, made


def _next(old, initiator, spi_i, spi_r, shared, both, bits, kwa, nonces):
    """SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr)"""
    seed = prf(both, shared) if old.broken == "SKEYSEED" else prf(old.sk_d, shared + both)
    made = IkeSa(initiator, spi_i, spi_r, seed, both, bits, kwa)
    made.room, made.most, made.fragments = old.room, old.most, old.fragments
    made.lowest = min(nonces)
    if old.broken == "old GSK_w":
        made.kwk = old.kwk
    return made


def first(initiator, spi_i, spi_r, nonce_i, nonce_r, shared, bits, kwa):
    """The IKE SA that comes of IKE_SA_INIT."""
    both = nonce_i + nonce_r
    made = IkeSa(initiator, spi_i, spi_r, prf(both, shared), both, bits, kwa)
    made.own_id, made.peer_id = (1, 0) if initiator else (0, 1)
    return made
