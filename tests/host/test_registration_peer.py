"""A member against a key server that shares no line with it: struct and `cryptography` only."""

import hashlib
import os
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

import registration_peer as peer
from covey import registration
from covey.config import Config
from covey.drops import names
from covey.nat import Path
from covey.registration import Registration

# RFC 7296 sections 3.1 to 3.4 and 3.9; RFC 9838 section 8 for the key wrap (type 13). By hand.
IKE_SA_INIT = """
    c0c1c2c3c4c5c6c7 0000000000000000       SPIs
    21 20 22 08 00000000 0000010c           SA first, version 2.0, 34, I; Message ID 0; 268 octets
    22 00 0064                              SA, then KE: 100 octets
      02 00 002c 01 01 00 04                proposal 1, more: 44 octets, IKE, no SPI, 4 transforms
        03 00 000c 01 00 0014 800e 0100     ENCR 20 AES-GCM-16, Key Length 256
        03 00 0008 02 00 0005               PRF 5 HMAC-SHA2-256
        03 00 0008 04 00 001f               KE 31 Curve25519
        00 00 0008 0d 00 0003               KWA 3 KW_5649_256, the last
      00 00 0034 02 01 00 05                proposal 2, the last: 52 octets, 5 transforms
        03 00 000c 01 00 0014 800e 0080     ENCR 20, Key Length 128
        03 00 0008 02 00 0005
        03 00 0008 04 00 001f
        03 00 0008 0d 00 0001               KWA 1 KW_5649_128
        00 00 0008 0d 00 0003               KWA 3
    28 00 0028 001f 0000                    KE, then nonce: 40 octets, method 31
      8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a
    29 00 0024                              nonce, then N: 36 octets
      202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f
    29 00 001c 00 00 4004                   NAT_DETECTION_SOURCE_IP: SHA-1 of SPIs, 192.0.2.7:50000
      SOURCE
    29 00 001c 00 00 4005                   NAT_DETECTION_DESTINATION_IP: of 192.0.2.1:4500
      DESTINATION
    00 00 0008 00 00 402e                   IKEV2_FRAGMENTATION_SUPPORTED, the last
"""
PLACES = {"SOURCE": "c0000207 c350", "DESTINATION": "c0000201 1194"}
for place in PLACES:
    seen = bytes.fromhex("c0c1c2c3c4c5c6c7 0000000000000000" + PLACES[place])
    IKE_SA_INIT = IKE_SA_INIT.replace(" " + place, " " + hashlib.sha1(seen).hexdigest())


def by_hand(text):
    """The hexadecimal fields of each line; three blanks begin a comment."""
    lines = [line.strip().partition("   ")[0] for line in text.strip().splitlines()]
    return bytes.fromhex("".join(lines))


def config(**changes):
    fields = {
        "version": 1,
        "group": "line1",
        "idi": "press-7",
        "idr": "gcks.example",
        "servers": [{"host": "192.0.2.1"}],
        "sender": True,
    }
    return Config({**fields, **changes}, psk=peer.PSK)


def work(registration, now_ms=0):
    """Let it work → what it sends."""
    sent = []
    while registration.step(now_ms) == 0:
        while out := registration.take_outgoing():
            sent.append(bytes(out[0]))
    return sent


def fixed():
    """The randomness of the record."""
    numbers = [peer.SPI_I, peer.NONCE_I, peer.SECRET_I]
    return lambda n: numbers.pop(0) if numbers else os.urandom(n)


def recorded_registration():
    path = Path(*peer.HERE, *peer.THERE, True)
    return Registration(config(), 0, fixed(), path=path)


def test_our_ike_sa_init_is_what_the_rfc_says():
    assert work(recorded_registration()) == [by_hand(IKE_SA_INIT)]
    assert peer.init_request() == by_hand(IKE_SA_INIT)


def test_the_record_is_what_its_generator_makes():
    assert peer.RECORDED.read_text() == peer.text(), "run tests/host/registration_peer.py"


# A strict key server


def read_chain(kind, octets):
    """→ [(kind, body)]; everything reserved must be zero, every length exact."""
    found = []
    while kind:
        following, reserved, length = struct.unpack_from(">BBH", octets)
        assert reserved == 0 and 4 <= length <= len(octets)
        found.append((kind, octets[4:length]))
        kind, octets = following, octets[length:]
    assert octets == b""
    return found


def read_proposals(body):
    """→ [(number, protocol, {transform type: [(ID, attributes)]})]"""
    found = []
    more = 2
    while more:
        more, reserved, length, number, protocol, spi_len, count = struct.unpack_from(
            ">BBHBBBB", body
        )
        assert more in (0, 2) and reserved == 0 and spi_len == 0
        inner, body = body[8:length], body[length:]
        types = {}
        last = 3
        for _ in range(count):
            assert last == 3
            last, reserved, size, kind, reserved2, identifier = struct.unpack_from(
                ">BBHBBH", inner
            )
            assert reserved == reserved2 == 0
            types.setdefault(kind, []).append((identifier, inner[8:size]))
            inner = inner[size:]
        assert last == 0 and inner == b""
        found.append((number, protocol, types))
    assert body == b""
    return found


BITS = {128: b"\x80\x0e\x00\x80", 256: b"\x80\x0e\x01\x00"}


class KeyServer:
    """Reads what a member sends, as strictly as it can be read, and answers."""

    said = ((41, b"\0\0\x40\x2e"),)  # in IKE_SA_INIT; no path: no NAT detection
    says = ()  # in its answer

    def __init__(self, bits, kwa, psk=peer.PSK):
        self.bits, self.kwa, self.psk = bits, kwa, psk
        self.secret = X25519PrivateKey.generate()
        self.nonce = os.urandom(16)
        self.spi = os.urandom(8)
        self.message_id = 1

    def answer_init(self, request):
        spi_i, spi_r, first, version, exchange, flags, message_id, length = struct.unpack_from(
            ">8s8sBBBBII", request
        )
        assert spi_i != bytes(8) and spi_r == bytes(8) and length == len(request)
        assert (version, exchange, flags, message_id) == (0x20, 34, 0x08, 0)
        (sa, body), (ke, value), (nonce, self.nonce_i), *said = read_chain(first, request[28:])
        assert (sa, ke, nonce) == (33, 34, 40) and len(self.nonce_i) == 32
        assert tuple(said) == self.said
        number = self._choose(read_proposals(body))
        assert value[:4] == b"\0\x1f\0\0" and len(value) == 36
        self.spi_i, self.request = spi_i, request
        public = self.secret.public_key().public_bytes_raw()
        payloads = [
            (33, peer.choice(number, self.bits, self.kwa)),
            (34, b"\0\x1f\0\0" + public),
            (40, self.nonce),
            *self.says,
        ]
        self.answer = peer.clear(self.spi, 34, 0x20, 0, payloads, spi_i=spi_i)
        self._derive(self.secret.exchange(X25519PublicKey.from_public_bytes(value[4:])))
        return self.answer

    def _choose(self, proposals):
        """The first proposal that holds what this server wants; all of it must hang together."""
        for number, protocol, types in proposals:
            assert protocol == 1 and sorted(types) == [1, 2, 4, 13]
            for _, attributes in types[2] + types[4] + types[13]:
                assert attributes == b""
            if (20, BITS[self.bits]) in types[1] and (self.kwa, b"") in types[13]:
                assert (5, b"") in types[2] and (31, b"") in types[4]
                return number
        raise AssertionError("NO_PROPOSAL_CHOSEN")

    def _derive(self, shared):
        nonces = self.nonce_i + self.nonce
        seed = peer.prf(nonces, shared)
        n = self.bits // 8 + 4
        stream = peer.prf_plus(seed, nonces + self.spi_i + self.spi, 96 + 2 * n)
        cuts = [0, 32, 32 + n, 32 + 2 * n, 64 + 2 * n, 96 + 2 * n]
        keys = [stream[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
        self.sk_d, self.sk_ei, self.sk_er, self.sk_pi, self.sk_pr = keys
        self.kwk = peer.prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", {1: 16, 3: 32}[self.kwa])

    def open(self, data, exchange, message_id, flags=0x08):
        head = struct.pack(
            ">8s8sBBBBII", self.spi_i, self.spi, 46, 0x20, exchange, flags, message_id, len(data)
        )
        assert data[:28] == head
        first, reserved, length = struct.unpack_from(">BBH", data, 28)
        assert reserved == 0 and length == len(data) - 28
        key, salt = self.sk_ei[:-4], self.sk_ei[-4:]
        text = AESGCM(key).decrypt(salt + data[32:40], data[40:], data[:32])
        return read_chain(first, text[: -1 - text[-1]])

    def seal(self, exchange, message_id, payloads, flags=0x20):
        first, inner = peer.chain(payloads)
        inner += bytes(7) + b"\7"  # padding of an odd length is a sender's right
        size = 4 + 8 + len(inner) + 16
        head = struct.pack(
            ">8s8sBBBBII", self.spi_i, self.spi, 46, 0x20, exchange, flags, message_id, 28 + size
        )
        head += struct.pack(">BBH", first, 0, size)
        iv = os.urandom(8)
        key, salt = self.sk_er[:-4], self.sk_er[-4:]
        return head + iv + AESGCM(key).encrypt(salt + iv, inner, head)

    def _proof(self, message, nonce, sk_p, identity):
        padded = peer.prf(self.psk, b"Key Pad for IKEv2")
        return b"\2\0\0\0" + peer.prf(padded, message + nonce + peer.prf(sk_p, identity))

    def check_auth(self, request):
        idi, idr, auth, *rest = self.open(request, 39, 1)
        assert idi == (35, b"\x0b\0\0\0press-7")
        assert idr == (36, b"\2\0\0\0gcks.example")
        assert auth == (39, self._proof(self.request, self.nonce, self.sk_pi, idi[1]))
        self.check_wishes(rest)

    def check_wishes(self, payloads):
        idg, sag, sender = payloads
        assert idg == (50, b"\x0b\0\0\0line1") and sag[0] == 33
        assert sender == (41, b"\0\0" + struct.pack(">HI", 16429, 1))
        rekey, data = read_proposals(sag[1])
        ciphers = [(20, BITS[256]), (20, BITS[128])]
        algorithm = b"\0\x12\0\x0c\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
        assert rekey == (1, 6, {1: ciphers, 13: [(3, b""), (1, b"")], 14: [(2, algorithm)]})
        integrity_only = [(21, BITS[256]), (21, BITS[128])]
        assert data[:2] == (1, 3) and data[2][1] == ciphers + integrity_only
        assert sorted(data[2][5]) == [(0, b""), (2, b"")] and sorted(data[2]) == [1, 5]

    def answer_auth(self, epoch=1):
        idr = b"\2\0\0\0gcks.example"
        proof = self._proof(self.answer, self.nonce_i, self.sk_pr, idr)
        return self.seal(39, 1, [(36, idr), (39, proof), *self.policy(epoch)])

    def policy(self, epoch):
        return [(51, peer.gsa(epoch)), (52, peer.kd(self.kwk, epoch)), peer.notify(16391)]


@pytest.mark.parametrize("bits, kwa", [(256, 3), (128, 1), (128, 3)])
def test_a_strict_server_and_true_randomness(bits, kwa):
    server = KeyServer(bits, kwa)
    gm = Registration(config(), 0)
    (request,) = work(gm)
    assert gm.receive(server.answer_init(request), 0) == 0
    (request,) = work(gm)
    server.check_auth(request)
    assert gm.receive(server.answer_auth(), 0) == 0
    assert gm.state == registration.REGISTERED and gm.kwk == server.kwk and gm.kwa == kwa

    assert gm.pull(0)
    (request,) = work(gm)
    server.check_wishes(server.open(request, 40, 2))
    assert gm.receive(server.seal(40, 2, server.policy(2)), 0) == 0
    assert gm.state == registration.REGISTERED

    for message_id in (0, 1):
        assert gm.receive(server.seal(37, message_id, [], flags=0), 0) == 0
        (answer,) = work(gm)
        assert server.open(answer, 37, message_id, flags=0x28) == []

    assert gm.leave(0)
    (request,) = work(gm)
    assert server.open(request, 40, 3) == [(50, b"\x0b\0\0\0line1"), (41, b"\0\0\0\x31")]
    assert gm.receive(server.seal(40, 3, []), 0) == 0
    assert gm.state == registration.LEFT
    assert gm.receive(server.seal(37, 2, [(42, b"\1\0\0\0")], flags=0), 0) == 0
    (answer,) = work(gm)
    assert server.open(answer, 37, 2, flags=0x28) == []
    assert (gm.state, gm.reason) == (registration.CLOSED, "deleted")


def test_a_member_with_another_psk_proves_nothing_and_believes_nothing():
    server = KeyServer(256, 3, psk=b"another pre-shared key")
    gm = Registration(config(), 0)
    gm.receive(server.answer_init(*work(gm)), 0)
    with pytest.raises(AssertionError):
        server.check_auth(*work(gm))
    assert names()[gm.receive(server.answer_auth(), 0)] == "ike_auth"
    assert (gm.state, gm.reason) == (registration.FAILED, "ike_auth")


# Whatever comes in, in whatever state

GENUINE = peer.Session()
STATES = {
    registration.INIT: [],
    registration.AUTH: ["init_answer"],
    registration.REGISTERED: ["init_answer", "auth_answer"],
}
WHOLE = peer.whole("", GENUINE)
SEALED = {
    registration.INIT: WHOLE["init_answer"],
    registration.AUTH: WHOLE["auth_answer"],
    registration.REGISTERED: GENUINE.server_says(peer.INFORMATIONAL, peer.FROM_R, 0, []),
}


def brought_to(state):
    gm = recorded_registration()
    work(gm)
    for name in STATES[state]:
        assert gm.receive(WHOLE[name], 0) == 0
        work(gm)
    assert gm.state == state
    return gm


def altered(data, changes):
    data = bytearray(data)
    for at, octets in changes:
        at %= len(data)
        data[at : at + len(octets)] = octets
    struct.pack_into(">I", data, 24, len(data)) if len(data) >= 28 else None
    return bytes(data)


CHANGES = st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=8)), max_size=3)


@pytest.mark.parametrize("state", STATES)
@given(data=st.data())
def test_no_datagram_does_harm(state, data):
    gm = brought_to(state)
    noise = data.draw(
        st.one_of(st.binary(max_size=200), CHANGES.map(lambda c: altered(SEALED[state], c)))
    )
    reason = gm.receive(noise, 0)
    assert reason == 0 or reason in names()
    work(gm)
    if noise == SEALED[state] or state == registration.INIT and reason == 0:
        return  # genuine, or another's answer that will be followed beside the genuine one
    assert reason and gm.state == state
    gm.receive(SEALED[state], 0)
    work(gm)
    assert gm.state == {
        registration.INIT: registration.AUTH,
        registration.AUTH: registration.REGISTERED,
    }.get(state, state)


@given(st.binary(max_size=300), st.sampled_from([peer.IDr, peer.AUTH, peer.GSA, peer.KD, peer.N]))
@example(b"", peer.GSA)
def test_no_genuine_nonsense_does_harm(octets, kind):
    """The server itself sends what does not parse: an end with a name, never an exception."""
    gm = brought_to(registration.AUTH)
    payloads = [p for p in GENUINE.proof() + GENUINE.policy() if p[0] != kind]
    reason = gm.receive(GENUINE.auth_answer([*payloads, (kind, octets)]), 0)
    work(gm)
    assert gm.state in (
        registration.FAILED,
        registration.REFUSED,
        registration.REFUSING,
        registration.REGISTERED,
    )
    if gm.state == registration.REGISTERED:  # whether the keys open is for others to say
        assert reason == 0 and kind in (peer.N, peer.KD)


@given(st.integers(0, 255), st.binary(max_size=60), st.integers(0, 255))
@example(peer.INFORMATIONAL, b"\0\0\0\4", 42)
def test_no_genuine_request_does_harm(exchange, inner, first):
    gm = brought_to(registration.REGISTERED)
    request = GENUINE.server_says(exchange, peer.FROM_R, 0, [(first, b"")], inner=inner)
    if exchange == peer.INIT:
        return  # never in SK
    assert gm.receive(request, 0) == 0
    sent = work(gm)
    if exchange == peer.CHILD and not sent:
        return
    (answer,) = sent
    assert answer[18] == exchange and answer[19] == 0x28
    assert gm.state in (registration.REGISTERED, registration.CLOSED)
    assert gm.receive(request, 0) == 0 and work(gm) == [answer]
