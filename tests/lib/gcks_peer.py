"""A key server for tests on both interpreters: one IKE SA after the other, and what it says.

Formats and cryptography are those of lib; roles, Message IDs and keys are worked out here anew.
Whether the octets are those of the RFCs is shown elsewhere, by peers that share nothing.
"""

import struct

from covey import gsa, ike, ikefrag, kd, keywrap, x25519
from covey.gcm import GCMContext
from covey.job import finish
from story import KWK, STORY

SPI_R = bytes((0xE0, 1, 2, 3, 4, 5, 6, 7))
DELETE_IKE = (ike.DELETE, b"\1\0\0\0")
FRAGMENTS = (ike.NOTIFY, b"\0\0\x40\x2e")


def notify(type, data=b"", protocol=0, spi=b""):
    return ike.NOTIFY, ike.emit_notify(ike.Notify(protocol, spi, type, data))


def proposal(spi, bits=256, kwa=ike.KW_5649_256, num=1, method=ike.CURVE25519, more=()):
    transforms = [
        ike.Transform(ike.ENCR, ike.ENCR_AES_GCM_16, bits),
        ike.Transform(ike.PRF, ike.PRF_HMAC_SHA2_256),
        ike.Transform(ike.KE_METHOD, method),
        ike.Transform(ike.KWA, kwa),
    ]
    return ike.Proposal(num, ike.IKE, spi, transforms + list(more))


def nonce_of(letter):
    return letter * 32


class SA:
    """The server's end of an IKE SA. is_initiator: whether it is the server who rekeyed."""

    def __init__(self, spi_i, spi_r, keys, kwa, is_initiator=False, next_id=0):
        self.spi_i, self.spi_r = spi_i, spi_r
        self.sk_d = bytes(keys.sk_d)
        self.kwk = ike.default_kwk(keys.sk_d, kwa)
        self.is_initiator = is_initiator
        self.next_id = next_id  # of our requests
        ours, theirs = keys.sk_er, keys.sk_ei
        if is_initiator:
            ours, theirs = theirs, ours
        self._sealing, self.opening = GCMContext(ours), GCMContext(theirs)
        self._iv = 0

    def _next_iv(self):
        self._iv += 1
        return struct.pack(">Q", self._iv)

    def seal(self, exchange, flags, message_id, payloads, most_len=None):
        """→ datagrams; one octet string where most_len is None."""
        if self.is_initiator:
            flags |= ike.FLAG_I
        head = self.spi_i, self.spi_r, exchange, flags, message_id
        found = ikefrag.seal(self._sealing, *head, payloads, self._next_iv, most_len)
        found = [bytes(data) for data in found]
        return found if most_len else found[0]

    def request(self, exchange, payloads, most_len=None):
        self.next_id += 1
        return self.seal(exchange, 0, self.next_id - 1, payloads, most_len)

    def answer(self, request, payloads, most_len=None):
        header = ike.parse_header(request)
        return self.seal(header.exchange, ike.FLAG_R, header.message_id, payloads, most_len)

    def open(self, *datagrams):
        """What the member says → (Header, payloads as (kind, body))."""
        parts = ikefrag.Reassembly()
        for data in datagrams:
            header = ike.parse_header(data)
            assert (header.spi_i, header.spi_r) == (self.spi_i, self.spi_r)
            assert (header.flags & ike.FLAG_I != 0) != self.is_initiator
            opened = parts.open(self.opening, data)
        payloads = opened.clear + ike.parse_chain(opened.first, opened.inner)
        return header, [(p.kind, p.body) for p in payloads]


class Gcks:
    """From IKE_SA_INIT on; psk as the member's."""

    def __init__(self, psk, nonce=b"r" * 32, secret=bytes([7] * 32), spi_r=SPI_R):
        self.psk = psk
        self.nonce, self.secret, self.spi_r = nonce, secret, spi_r
        self.sa = None

    def answer_init(self, request, more=(FRAGMENTS,)):
        self.request = bytes(request)
        header, payloads = ike.parse_message(request)
        found = {p.kind: p.body for p in payloads if p.kind != ike.NOTIFY}
        public = finish(x25519.multiply(self.secret, x25519.BASE))
        self.nonce_i = found[ike.NONCE]
        answer = [
            (ike.SA, ike.emit_sa([proposal(b"")])),
            (ike.KE, ike.emit_ke(ike.CURVE25519, public)),
            (ike.NONCE, self.nonce),
        ]
        head = header.spi_i, self.spi_r, ike.IKE_SA_INIT, ike.FLAG_R, 0
        self.response = bytes(ike.emit_message(*head, answer + list(more)))
        shared = finish(x25519.multiply(self.secret, ike.parse_ke(found[ike.KE])[1]))
        spis = header.spi_i, self.spi_r
        made = finish(ike.derive(self.nonce_i, self.nonce, shared, *spis, 256))
        keys = self.keys = ike.Keys(*made)
        self.sa = SA(*spis, keys, ike.KW_5649_256)
        return self.response

    def proof(self):
        idr = ike.emit_id(ike.ID_FQDN, b"gcks.example")
        proof = ike.psk_auth(self.psk, self.keys.sk_pr, self.response, self.nonce_i, idr)
        return [(ike.IDr, idr), (ike.AUTH, ike.emit_auth(ike.AUTH_SHARED_KEY, proof))]

    def answer_auth(self, request, granted, most_len=None):
        """request: GSA_AUTH as it came, a list of datagrams."""
        self.sa.open(*request)
        return self.sa.answer(request[0], self.proof() + granted, most_len)

    # Rekeys of the IKE SA

    def begin_rekey(self, sa, letter=b"a", proposals=None, ke=None):
        """Payloads of our CREATE_CHILD_SA; finish_rekey() takes the answer."""
        self.own_nonce, self.own_spi = nonce_of(letter), letter * 8
        public = finish(x25519.multiply(self.secret, x25519.BASE))
        return [
            (ike.SA, ike.emit_sa(proposals or [proposal(self.own_spi)])),
            (ike.NONCE, self.own_nonce),
            (ike.KE, ike.emit_ke(ike.CURVE25519, public) if ke is None else ke),
        ]

    def finish_rekey(self, sa, payloads):
        """The member's answer → the new SA, of which we are the original initiator."""
        spi, bits, kwa, nonce, shared = self._read(payloads)
        spis = self.own_spi, spi
        made = finish(ike.derive(self.own_nonce, nonce, shared, *spis, bits, sa.sk_d))
        return SA(*spis, ike.Keys(*made), kwa, is_initiator=True)

    def answer_rekey(self, sa, payloads, letter=b"b"):
        """The member's CREATE_CHILD_SA → (payloads of the answer, the new SA)."""
        spi, bits, kwa, nonce, shared = self._read(payloads)
        mine = letter * 8
        public = finish(x25519.multiply(self.secret, x25519.BASE))
        answer = [
            (ike.SA, ike.emit_sa([proposal(mine, bits, kwa)])),
            (ike.NONCE, nonce_of(letter)),
            (ike.KE, ike.emit_ke(ike.CURVE25519, public)),
        ]
        made = finish(ike.derive(nonce, nonce_of(letter), shared, spi, mine, bits, sa.sk_d))
        return answer, SA(spi, mine, ike.Keys(*made), kwa)

    def _read(self, payloads):
        found = dict(payloads)
        chosen = ike.parse_sa(found[ike.SA])[0]
        assert len(chosen.spi) == 8 and chosen.protocol == ike.IKE
        method, public = ike.parse_ke(found[ike.KE])
        assert method == ike.CURVE25519
        bits, kwa = chosen.of_kind(ike.ENCR)[0].key_bits, chosen.of_kind(ike.KWA)[0].id
        shared = finish(x25519.multiply(self.secret, public))
        return chosen.spi, bits, kwa, found[ike.NONCE], shared


# A group's policy and keys


def policy(
    kwk,
    spi,
    with_rekey_sa=None,
    sender_id=None,
    atd_s=0,
    dtd_s=2,
    key=b"k",
    epoch=None,
    silence=None,
    report_s=None,
):
    """[GSA, KD] with one ESP SA. with_rekey_sa: the story's, of a registration."""
    bags, policies = [], []
    whole = gsa.parse_gsa(STORY["sender"]["gsa"])
    keys = gsa.parse_kd(STORY["sender"]["kd"])
    for one in whole.policies:
        if one.protocol == ike.ESP:
            one.spi, one.lifetime_s, one.next_spis = spi, None, []
            policies.append(one)
            wrapped = keywrap.wrap(kwk, key * 20)
            bags.append(kd.KeyBag(ike.ESP, spi, [kd.WrappedKey(bytes(4), bytes(4), wrapped)]))
        elif with_rekey_sa:
            policies.append(one)
            for bag in keys.bags:
                if bag.protocol == ike.GIKE_UPDATE:
                    plain = keywrap.unwrap(KWK, bag.keys[0].data)
                    bag.keys[0].data = keywrap.wrap(kwk, plain)
                    bags.append(bag)
    whole.policies = policies
    whole.group_wide.atd_s, whole.group_wide.dtd_s = atd_s, dtd_s
    whole.group_wide.epoch = epoch
    whole.group_wide.silence = silence
    whole.group_wide.report_s = report_s
    member = None
    if with_rekey_sa or sender_id is not None:
        member = kd.MemberBag()
        if with_rekey_sa:
            member.auth_key = keys.member.auth_key
        if sender_id is not None:
            member.sender_ids = [struct.pack(">I", sender_id)]
    return [
        (ike.GSA, bytes(gsa.emit_gsa(whole))),
        (ike.KD, bytes(kd.emit_kd(kd.KD(bags, member)))),
    ]


TRANSPORT = notify(ike.USE_TRANSPORT_MODE)
DELETE_ESP_ALL = (ike.DELETE, b"\3\4\0\1" + bytes(4))
DELETE_UPDATE_ALL = (ike.DELETE, b"\6\x10\0\1" + bytes(16))
