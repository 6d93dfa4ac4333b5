"""The foreign group member with a certificate (RFC 7427, RFC 4945): nothing of lib/ or host/."""

import hashlib
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from foreign_gm import (
    AUTH,
    ECDSA_WITH_SHA256,
    FQDN,
    GSA_AUTH,
    IDI,
    IDR,
    KEY_ID,
    ForeignGM,
    identity,
    notification,
    prf,
)

CERT, CERTREQ = 37, 38
SIGNATURE_HASH_ALGORITHMS = 16431
HASHES = notification(SIGNATURE_HASH_ALGORITHMS, b"\0\3\0\2")  # SHA2-384, SHA2-256
DN = 9


def body_of_auth(key, octets):
    """RFC 7427 section 3, in an AUTH payload of method 14."""
    signature = key.sign(octets, ec.ECDSA(hashes.SHA256()))
    head = struct.pack(">BBHB", 14, 0, 0, len(ECDSA_WITH_SHA256))
    return head + ECDSA_WITH_SHA256 + signature


class CertGM(ForeignGM):
    """key: a private key; chain: its certificate, and what goes with it, in DER; ca: likewise."""

    more_kinds = frozenset({CERTREQ})

    def __init__(self, key, chain, ca, name=b"press-7", **more):
        super().__init__(name, **more)
        self.key, self.chain = key, chain
        self.ca = x509.load_der_x509_certificate(ca)
        self.idi = identity(FQDN, name)

    def sa_init(self, **offer):
        return super().sa_init(**{"extra": [HASHES], **offer})

    def take_sa_init(self, data):
        super().take_sa_init(data)
        answered = self.clear(data)
        requests = [body for kind, body in answered if kind == CERTREQ]
        spki = self.ca.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert requests == [b"\4" + hashlib.sha1(spki).digest(), b"\x0f"]
        assert notification(SIGNATURE_HASH_ALGORITHMS, b"\0\2") in answered

    def auth_payloads(self, **_):
        octets = self.init_request + self.nonce_r + prf(self.sk_pi, self.idi)
        certs = [(CERT, b"\4" + one) for one in self.chain]
        return [(IDI, self.idi), *certs, (AUTH, body_of_auth(self.key, octets))]

    def check_identity(self, payloads, site=b"gcks.example"):
        (k1, idr), (k2, cert), (k3, auth) = payloads[:3]
        assert (k1, k2, k3) == (IDR, CERT, AUTH) and idr == identity(FQDN, site)
        assert cert[:1] == b"\4"
        shown = x509.load_der_x509_certificate(cert[1:])
        shown.verify_directly_issued_by(self.ca)
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert site.decode() in names.get_values_for_type(x509.DNSName)
        assert auth[:4] == b"\x0e\0\0\0" and auth[4] == len(ECDSA_WITH_SHA256)
        assert auth[5:17] == ECDSA_WITH_SHA256
        octets = self.init_response + self.nonce_i + prf(self.sk_pr, idr)
        shown.public_key().verify(auth[17:], octets, ec.ECDSA(hashes.SHA256()))
        return payloads[3:]

    def answer(self, data):
        """To GSA_AUTH, as it stands."""
        return self.open(data, GSA_AUTH)


def spki_of(public):
    return public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


class RawGM(ForeignGM):
    """Raw public keys (RFC 7670). key: its own, private; pinned: the key server's, in DER."""

    more_kinds = frozenset({CERTREQ})
    shows = True  # its key, in CERT

    def __init__(self, key, pinned, name=b"press-7", **more):
        super().__init__(name, **more)
        self.key, self.pinned = key, pinned
        self.idi = identity(KEY_ID, name)

    def sa_init(self, **offer):
        return super().sa_init(**{"extra": [HASHES], **offer})

    def take_sa_init(self, data):
        super().take_sa_init(data)
        answered = self.clear(data)
        assert (CERTREQ, b"\x0f") in answered, "encoding 15, and no authority"
        assert notification(SIGNATURE_HASH_ALGORITHMS, b"\0\2") in answered

    def auth_payloads(self, **_):
        octets = self.init_request + self.nonce_r + prf(self.sk_pi, self.idi)
        certs = [(CERT, b"\x0f" + spki_of(self.key.public_key()))] if self.shows else []
        return [(IDI, self.idi), *certs, (AUTH, body_of_auth(self.key, octets))]

    def check_identity(self, payloads, site=b"gcks.example"):
        (k1, idr), (k2, cert), (k3, auth) = payloads[:3]
        assert (k1, k2, k3) == (IDR, CERT, AUTH) and idr == identity(FQDN, site)
        assert cert == b"\x0f" + self.pinned
        assert auth[:5] == b"\x0e\0\0\0\x0c" and auth[5:17] == ECDSA_WITH_SHA256
        octets = self.init_response + self.nonce_i + prf(self.sk_pr, idr)
        public = serialization.load_der_public_key(self.pinned)
        public.verify(auth[17:], octets, ec.ECDSA(hashes.SHA256()))
        return payloads[3:]
