"""A member with a certificate against a key server that shares no line with it, and with
certificates of OpenSSL's: RFC 7296 section 2.15, RFC 7427, laid out anew.
"""

import hashlib
import json
import struct

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

import registration_peer as peer
from covey import registration
from covey.certs import Credentials
from covey.registration import Registration
from test_certificates import TESTS
from test_registration_peer import KeyServer, config, work

FOUND = json.loads((TESTS / "recorded" / "certificates.json").read_text())
DER = {name: bytes.fromhex(text) for name, text in FOUND["certificates"].items()}
SCALARS = {name: int(text, 16) for name, text in FOUND["keys"].items()}
CERT, CERTREQ, AUTH, IDI, IDR = 37, 38, 39, 35, 36
ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")  # RFC 5758 section 3.2
SHA2_256 = (41, b"\0\0" + struct.pack(">HH", 16431, 2))


class CertServer(KeyServer):
    said = (*KeyServer.said, SHA2_256)
    says = (
        (CERTREQ, b"\4" + bytes(20)),
        (41, b"\0\0" + struct.pack(">HHHHH", 16431, 1, 2, 3, 4)),  # SHA-1 and longer ones, too
    )

    def __init__(self, bits=256, kwa=3, chain=("server",), key="server"):
        super().__init__(bits, kwa)
        self.chain = [DER[name] for name in chain]
        self.key = ec.derive_private_key(SCALARS[key], ec.SECP256R1())

    def check_auth(self, request):
        idi, idr, cert, certreq, auth, *rest = self.open(request, 39, 1)
        assert idi == (IDI, b"\2\0\0\0press-7") and idr == (IDR, b"\2\0\0\0gcks.example")
        assert cert == (CERT, b"\4" + DER["member"])
        ca = x509.load_der_x509_certificate(DER["ca"]).public_key()
        spki = ca.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert certreq == (CERTREQ, b"\4" + hashlib.sha1(spki).digest())
        kind, body = auth
        assert kind == AUTH and body[:17] == b"\x0e\0\0\0\x0c" + ALGORITHM
        octets = self.request + self.nonce + peer.prf(self.sk_pi, idi[1])
        public = x509.load_der_x509_certificate(DER["member"]).public_key()
        public.verify(body[17:], octets, ec.ECDSA(hashes.SHA256()))
        self.check_wishes(rest)

    def proof(self):
        idr = b"\2\0\0\0gcks.example"
        octets = self.answer + self.nonce_i + peer.prf(self.sk_pr, idr)
        signature = self.key.sign(octets, ec.ECDSA(hashes.SHA256()))
        certs = [(CERT, b"\4" + one) for one in self.chain]
        return [(IDR, idr), *certs, (AUTH, b"\x0e\0\0\0\x0c" + ALGORITHM + signature)]

    def answer_auth(self, epoch=1, proof=None):
        return self.seal(39, 1, [*(proof or self.proof()), *self.policy(epoch)])


def member_credentials():
    key = bytearray(SCALARS["member"].to_bytes(32))
    return Credentials(key, [DER["member"]], DER["ca"], utc=lambda: b"20300101000000")


def asked(server):
    """A member of that server, up to its GSA_AUTH."""
    own = config()
    own.credentials = member_credentials()
    gm = Registration(own, 0)
    (request,) = work(gm)
    assert gm.receive(server.answer_init(request), 0) == 0
    (request,) = work(gm)
    server.check_auth(request)
    return gm


@pytest.mark.parametrize("bits, kwa", [(256, 3), (128, 1)])
@pytest.mark.parametrize(
    "chain, key", [(["server"], "server"), (["server_below", "middle"], "server_below")]
)
def test_a_strict_server_with_certificates(bits, kwa, chain, key):
    server = CertServer(bits, kwa, chain, key)
    gm = asked(server)
    assert gm.receive(server.answer_auth(), 0) == 0 and work(gm) == []
    assert gm.state == registration.REGISTERED and gm.kwk == server.kwk
    assert gm.pull(0)
    (request,) = work(gm)
    server.check_wishes(server.open(request, 40, 2))
    assert gm.receive(server.seal(40, 2, server.policy(2)), 0) == 0
    assert gm.state == registration.REGISTERED and gm.drops.as_dict() == {}


def test_a_server_that_proves_itself_by_a_key_is_not_taken():
    server = CertServer()
    gm = asked(server)
    idr = b"\2\0\0\0gcks.example"
    shared = KeyServer._proof(server, server.answer, server.nonce_i, server.sk_pr, idr)
    for proof in (
        [(IDR, idr), (AUTH, shared)],
        [(IDR, idr), *server.proof()[1:2], (AUTH, shared)],
    ):
        gm = asked(server := CertServer())
        gm.receive(server.answer_auth(proof=proof), 0)
        work(gm)
        assert (gm.state, gm.reason) in (
            (registration.FAILED, "ike_auth"),
            (registration.FAILED, "ike_cert"),
        )


CHANGES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 600), st.binary(min_size=1, max_size=4)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(CHANGES)
def test_whoever_has_the_keys_and_not_the_certificate_gets_nowhere(changes):
    """Everything but the genuine octets: refused, without an exception, and nothing half done."""
    server = CertServer()
    gm = asked(server)
    genuine = server.proof()
    proof = []
    for at, (kind, body) in enumerate(genuine):
        body = bytearray(body)
        for which, place, octets in changes:
            if which == at:
                place %= len(body)
                body[place : place + len(octets)] = octets[: len(body) - place]
        proof.append((kind, bytes(body)))
    gm.receive(server.answer_auth(proof=proof), 0)
    assert work(gm) == []
    if proof == genuine:
        assert gm.state == registration.REGISTERED
    else:  # what is reserved is signed, too, but for AUTH's own
        is_reserved = proof[:2] == genuine[:2] and proof[2][1][4:] == genuine[2][1][4:]
        is_reserved = is_reserved and proof[2][1][:1] == genuine[2][1][:1]
        assert gm.state == (registration.REGISTERED if is_reserved else registration.FAILED)
        assert gm.reason or is_reserved
