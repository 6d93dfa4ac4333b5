"""A member with all of IKEv2, written from RFC 7296, 7383 and 9838 alone: either end of an IKE SA,
fragments, new keys for the IKE SA, inband rekeys. Nothing of lib/covey.

It talks to a gcks_site.Site. What the server sends without being asked waits until served().
"""

import hashlib
import os
import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from foreign_gm import (
    CREATE_CHILD_SA,
    DELETE,
    GSA,
    GSA_AUTH,
    GSA_REGISTRATION,
    INFORMATIONAL,
    KD,
    KE,
    KWK_LEN,
    NONCE,
    NOTIFY,
    SA,
    SK,
    USE_TRANSPORT_MODE,
    ForeignGM,
    Keys,
    Policy,
    chain,
    header,
    ike_proposal,
    notification,
    notifies,
    prf,
    prf_plus,
    sa_body,
    transforms_of,
    unchain,
)

SKF, GSA_INBAND_REKEY = 53, 42
NAT_SOURCE, NAT_DESTINATION, COOKIE, FRAGMENTATION = 16388, 16389, 16390, 16430
DELETE_IKE = (DELETE, b"\x01\0\0\0")
OUT = [(DELETE, b"\x03\x04\0\x01" + bytes(4)), (DELETE, b"\x06\x10\0\x01" + bytes(16))]
ANSWER, INITIATOR = 0x20, 0x08


def nat_hash(spi_i, spi_r, host, port):
    packed = bytes(map(int, host.split("."))) + struct.pack(">H", port)
    return hashlib.sha1(spi_i + spi_r + packed).digest()


class IkeSA:
    """Keys and Message IDs of one IKE SA; is_initiator: whether we are the original initiator."""

    def __init__(self, spi_i, spi_r, keys, bits, kwa, is_initiator):
        self.spi_i, self.spi_r, self.is_initiator = spi_i, spi_r, is_initiator
        n = bits // 8 + 4
        self.bits, self.kwa = bits, kwa
        self.sk_d, sk_ei, sk_er = keys[:32], keys[32 : 32 + n], keys[32 + n : 32 + 2 * n]
        self.ours, self.theirs = (sk_ei, sk_er) if is_initiator else (sk_er, sk_ei)
        self.gsk_w = prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", KWK_LEN[kwa])
        self.next_id = 0  # of our next request
        self.awaited = 0  # Message ID of the server's next request
        self.cached = None
        self.parts = {}

    def flags(self, of_us):
        return INITIATOR if of_us == self.is_initiator else 0

    def seal(self, exchange, payloads, message_id, flags=0, room=None):
        """Datagrams: one, or several with at most `room` octets of payloads in each."""
        flags |= self.flags(True)
        first, inner = chain(payloads)
        if room is None or len(inner) <= room:
            return [self._seal(SK, first, exchange, flags, message_id, inner)]
        pieces = [inner[at : at + room] for at in range(0, len(inner), room)]
        return [
            self._seal(
                SKF,
                0 if number else first,
                exchange,
                flags,
                message_id,
                piece,
                struct.pack(">HH", number + 1, len(pieces)),
            )
            for number, piece in enumerate(pieces)
        ]

    def _seal(self, kind, first, exchange, flags, message_id, inner, fragment=b""):
        text = inner + b"\0"
        total = 28 + 4 + len(fragment) + 8 + len(text) + 16
        aad = header(self.spi_i, self.spi_r, kind, exchange, flags, message_id, total)
        aad += struct.pack(">BBH", first, 0, total - 28) + fragment
        iv = os.urandom(8)
        return aad + iv + AESGCM(self.ours[:-4]).encrypt(self.ours[-4:] + iv, text, aad)

    def open(self, data):
        """→ (exchange, flags, message_id, payloads), once all fragments are here; else None."""
        kind, version, exchange, flags, message_id, length = struct.unpack_from(
            ">BBBBII", data, 16
        )
        assert (data[:16], version, length) == (self.spi_i + self.spi_r, 0x20, len(data))
        assert kind in (SK, SKF) and flags & INITIATOR == self.flags(False)
        at = 32 if kind == SK else 36
        first, zero, sk_len = struct.unpack_from(">BBH", data, 28)
        assert zero == 0 and sk_len == len(data) - 28
        text = AESGCM(self.theirs[:-4]).decrypt(
            self.theirs[-4:] + data[at : at + 8], data[at + 8 :], data[:at]
        )
        inner = text[: -1 - text[-1]]
        if kind == SKF:
            number, total = struct.unpack_from(">HH", data, 32)
            assert 1 <= number <= total and (first == 0 or number == 1)
            self.parts[number] = first, inner
            if len(self.parts) < total:
                return None
            inner = b"".join(self.parts[n][1] for n in range(1, total + 1))
            first = self.parts[1][0]
            self.parts = {}
        return exchange, flags, message_id, unchain(first, inner)

    def successor(self, nonces, shared, spi_i, spi_r, chosen, is_initiator):
        """RFC 7296 section 2.18; chosen: transforms of the proposal."""
        kwa = next(id for kind, id, _ in chosen if kind == 13)
        bits = next(dict(found)[14] for kind, _, found in chosen if kind == 1)
        seed = prf(self.sk_d, shared + nonces)
        keys = prf_plus(seed, nonces + spi_i + spi_r, 96 + 2 * (bits // 8 + 4))
        return IkeSA(spi_i, spi_r, keys, bits, kwa, is_initiator)


def proposal_with_spi(spi, kwas=(1,), bits=(128,)):
    body = bytearray(ike_proposal(1, bits, kwas))
    body[2] = len(spi)
    return bytes(body[:4]) + spi + bytes(body[4:])


class Asked:
    """Our request for new keys of an IKE SA, until it is answered."""

    def __init__(self):
        self.spi, self.nonce = os.urandom(8), os.urandom(32)
        self.private = X25519PrivateKey.generate()

    def payloads(self, kwas=(1,), method=31, bits=(128,)):
        public = self.private.public_key().public_bytes_raw()
        return [
            (SA, sa_body([proposal_with_spi(self.spi, kwas, bits)])),
            (NONCE, self.nonce),
            (KE, struct.pack(">HH", method, 0) + public),
        ]


class Peer:
    """One member on a Site: its IKE SA, what it holds of its group."""

    def __init__(
        self, site, name="press-7", *, wants=None, group=b"line1", room=None, kwa=1, **at
    ):
        self.site, self.name, self.room = site, name, room
        self.address = at.get("address", name)
        self.gm = ForeignGM(name.encode(), b"k" * 32, group, wants=wants, kwa=kwa)
        self.gm.bits = at.get("bits", 128)
        self.inbox = []
        self.sa = None
        self.former = []  # IKE SAs that had a successor, and those of lost races
        self.teks = {}  # SPI → keymat
        self.order = []  # SPIs as they came
        self.wide = {}
        self.is_out = False

    # The first exchanges

    def connect(self, extra=(), first=(), asked=()):
        """IKE_SA_INIT, with a cookie if one is asked for → notifications of the answer."""
        gm = self.gm
        extra = [*extra, *asked]
        if self.room:
            extra.append(notification(FRAGMENTATION))
        answer = self._clear(gm.sa_init(extra=extra, first=first))
        payloads = gm.clear(answer)
        if notifies(payloads) == [COOKIE]:
            cookie = payloads[0][1][4:]
            answer = self._clear(gm.sa_init(extra=extra, first=[notification(COOKIE, cookie)]))
            payloads = gm.clear(answer)
        found = {struct.unpack_from(">H", b, 2)[0]: b[4:] for k, b in payloads if k == NOTIFY}
        assert [k for k, _ in payloads[:3]] == [SA, KE, NONCE]
        gm.init_response, gm.spi_r = answer, answer[8:16]
        by_kind = {kind: (id, dict(a)) for kind, id, a in transforms_of(payloads[0][1][8:])[0]}
        gm.bits, gm.kwa = by_kind[1][1][14], by_kind[13][0]
        gm.nonce_r = payloads[2][1]
        shared = gm.private.exchange(X25519PublicKey.from_public_bytes(payloads[1][1][4:]))
        gm._derive(shared)
        nonces, n = gm.nonce_i + gm.nonce_r, gm.bits // 8 + 4
        seed = nonces + gm.spi_i + gm.spi_r
        keys = prf_plus(prf(nonces, shared), seed, 96 + 2 * n)
        self.sa = IkeSA(gm.spi_i, gm.spi_r, keys, gm.bits, gm.kwa, True)
        self.sa.next_id = 1
        return found

    def _clear(self, data):
        self._send([data])
        [answer] = [d for d in self.inbox if d[:8] == data[:8]]
        self.inbox.remove(answer)
        return answer

    def authenticate(self, **group):
        payloads = self.gm.auth_payloads() + self.gm.group_payloads(**group)
        return self.gm.check_identity(self.ask(GSA_AUTH, payloads))

    def join(self, **group):
        if self.sa is None:
            self.connect()
        self.take(self.authenticate(**group))
        return self

    def pull(self, **group):
        self.take(self.ask(GSA_REGISTRATION, self.gm.group_payloads(**group)))
        return self

    # Messages

    def _send(self, datagrams):
        for data in datagrams:
            self.site.send(self.site.server.receive(data, self.address, self.site.now))
        self.collect()

    def collect(self):
        """What has come for us."""
        mine = [o for o in self.site.unasked if o.address == self.address]
        self.site.unasked = [o for o in self.site.unasked if o.address != self.address]
        self.inbox += [o.data for o in mine]

    def sealed(self, exchange, payloads, sa=None):
        """A new request: its datagrams."""
        sa = sa or self.sa
        sa.next_id += 1
        return sa.seal(exchange, payloads, sa.next_id - 1, room=self.room)

    def ask(self, exchange, payloads, sa=None):
        """A request → payloads of its answer; None without one."""
        sa = sa or self.sa
        return self.post(self.sealed(exchange, payloads, sa), exchange, sa)

    def post(self, datagrams, exchange, sa=None):
        """Datagrams of one request → payloads of the answer to it."""
        sa = sa or self.sa
        self._send(datagrams)
        message_id = struct.unpack_from(">I", datagrams[0], 20)[0]
        found, rest = None, []
        for data in self.inbox:
            is_ours = data[:16] == sa.spi_i + sa.spi_r and data[19] & ANSWER
            if is_ours and data[20:24] == struct.pack(">I", message_id):
                opened = sa.open(data)
                if opened:
                    assert found is None and opened[:3] == (
                        exchange,
                        ANSWER | sa.flags(False),
                        message_id,
                    )
                    found = opened[3]
            else:
                rest.append(data)
        self.inbox = rest
        return found

    def requests(self, sa=None):
        """New requests of the server over an IKE SA → [(exchange, message_id, payloads)]."""
        sa = sa or self.sa
        self.collect()
        found, rest = [], []
        for data in self.inbox:
            if data[:16] != sa.spi_i + sa.spi_r or data[19] & ANSWER:
                rest.append(data)
                continue
            opened = sa.open(data)
            if opened and opened[2] == sa.awaited:
                found.append((opened[0], opened[2], opened[3]))
                sa.awaited += 1
        self.inbox = rest
        return found

    def answer(self, exchange, message_id, payloads=(), sa=None):
        sa = sa or self.sa
        sa.cached = sa.seal(exchange, list(payloads), message_id, ANSWER, self.room)
        self._send(sa.cached)

    def served(self, payloads=(), sa=None):
        """The server's one request, taken and answered → (exchange, payloads)."""
        sa = sa or self.sa
        [(exchange, message_id, asked)] = self.requests(sa)
        if exchange == GSA_INBAND_REKEY and not payloads:
            self.take_inband(asked, sa)
        self.answer(exchange, message_id, payloads, sa)
        return exchange, asked

    # The group

    @property
    def tek(self):
        """The newest (SPI, keymat), or None."""
        return (self.order[-1], self.teks[self.order[-1]]) if self.order else None

    def take(self, payloads):
        """A registration: everything before it is replaced."""
        assert [k for k, _ in payloads] == [GSA, KD, NOTIFY], payloads
        assert notifies(payloads) == [USE_TRANSPORT_MODE]
        self.teks, self.order, self.is_out = {}, [], False
        self._install(payloads, self.sa)

    def take_inband(self, payloads, sa):
        if payloads == OUT:
            self.teks, self.order, self.is_out = {}, [], True
            return
        kinds = [k for k, _ in payloads]
        assert kinds in ([GSA, KD], [GSA, KD, DELETE]), kinds
        self._install(payloads, sa)
        assert 3 not in self.policy.wide and not self.keys.sender_ids
        if kinds[-1] == DELETE:
            body = payloads[2][1]
            protocol, size, count = struct.unpack_from(">BBH", body)
            assert (protocol, size) == (3, 4) and len(body) == 4 + 4 * count
            for at in range(4, len(body), 4):
                spi = body[at : at + 4]
                assert spi != self.order[-1]
                self.teks.pop(spi, None)
            self.order = [spi for spi in self.order if spi in self.teks]

    def _install(self, payloads, sa):
        self.policy, self.keys = Policy(payloads[0][1]), Keys(payloads[1][1], sa.gsk_w)
        spi = self.policy.sas[3]["spi"]
        self.teks[spi] = self.keys.keymat[spi]
        self.order = [s for s in self.order if s != spi] + [spi]

    # New keys for the IKE SA

    def rekey_ike(self, **how):
        """We ask, and delete the old one."""
        asked = Asked()
        old = self.sa
        new = self.concluded(asked, self.ask(CREATE_CHILD_SA, asked.payloads(**how)), old)
        self.former.append(old)
        self.sa = new
        assert self.ask(INFORMATIONAL, [DELETE_IKE], old) == []
        return self

    def concluded(self, asked, payloads, old):
        """The new IKE SA from the answer."""
        found = dict(payloads)
        assert set(found) == {SA, NONCE, KE}
        offer = found[SA]
        assert offer[5] == 1 and offer[6] == 8 and len(found[NONCE]) >= 16
        spi_r, chosen = offer[8:16], transforms_of(offer[16:])[0]
        by_kind = {k: i for k, i, _ in chosen}
        assert by_kind[1] == 20 and by_kind[2] == 5 and by_kind[4] == 31
        assert found[KE][:4] == b"\0\x1f\0\0"
        shared = asked.private.exchange(X25519PublicKey.from_public_bytes(found[KE][4:]))
        nonces = asked.nonce + found[NONCE]
        new = old.successor(nonces, shared, asked.spi, spi_r, chosen, True)
        new.lowest = min(asked.nonce, found[NONCE])
        return new

    def accept_rekey(self, payloads, old=None):
        """The server's request → (the new IKE SA, what to answer)."""
        old = old or self.sa
        found = dict(payloads)
        assert set(found) == {SA, NONCE, KE}
        offer = found[SA]
        assert struct.unpack_from(">BBH", offer) == (0, 0, len(offer))
        assert offer[4:7] == b"\x01\x01\x08"
        spi_i, spi_r, nonce = offer[8:16], os.urandom(8), os.urandom(32)
        kinds = transforms_of(offer[16:])[0]
        assert len(kinds) == offer[7] and sorted(k for k, _, _ in kinds) == [1, 2, 4, 13]
        private = X25519PrivateKey.generate()
        shared = private.exchange(X25519PublicKey.from_public_bytes(found[KE][4:]))
        new = old.successor(found[NONCE] + nonce, shared, spi_i, spi_r, kinds, False)
        new.lowest = min(found[NONCE], nonce)
        body = offer[:8] + spi_r + offer[16:]
        public = private.public_key().public_bytes_raw()
        answer = [(KE, b"\0\x1f\0\0" + public), (NONCE, nonce), (SA, body)]  # any order
        return new, answer
