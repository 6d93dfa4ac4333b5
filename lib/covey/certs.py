"""Proof by certificates: digital signatures in place of a pre-shared key (RFC 7427, RFC 4945).

    IKE_SA_INIT  + N(SIGNATURE_HASH_ALGORITHMS), from both
    GSA_AUTH     HDR, SK{IDi, CERT+, [CERTREQ], IDr, AUTH, IDg, ...}  -->
                                                     <--  HDR, SK{IDr, CERT+, AUTH, ...}

Authentication method 14, ecdsa-with-SHA256 on P-256 only, both ways. The server's certificate
comes from the pinned CA, or from one intermediate CA below it, and names the idr of covey.json.
Loaded where covey.json names certificates.
"""

import struct

from covey import der, ike, p256, x509
from covey.drops import DROP_IKE_AUTH, DROP_IKE_CERT, FormatError
from covey.handshake import GENUINE
from covey.job import tidied
from covey.octets import equal
from covey.p256_sign import sign_job
from covey.payloads import every, notifies, notify
from covey.port import const, random_bytes, sha1, sha256, utc
from covey.prf import prf

_SHA2_256 = b"\x00\x02"  # RFC 7427 section 7
_X509_SIGNATURE = const(4)  # certificate encoding, RFC 7296 section 3.6
_MOST_CERTS = const(3)  # of one message: leaf, intermediate, and the CA itself where it is sent


class Credentials:
    """Our key and certificates, and the pinned CA. The key is config.Config's to wipe.

    key: bytearray of 32 octets. chain: our certificates in DER, our own first. anchor: the CA's.
    """

    def __init__(self, key, chain, anchor, random=random_bytes, utc=utc):
        self.key = key
        self._chain = chain
        self._anchor = x509.parse(anchor)
        self._random = random
        self._utc = utc
        self._known = None  # SHA-256 of the chain whose signatures have verified last

    def announcement(self):
        """N(SIGNATURE_HASH_ALGORITHMS) in IKE_SA_INIT."""
        return notify(ike.SIGNATURE_HASH_ALGORITHMS, _SHA2_256)

    def check_answer(self, payloads):
        """FormatError where an answer to IKE_SA_INIT says nothing of SHA2-256."""
        for n in notifies(payloads):
            if n.type == ike.SIGNATURE_HASH_ALGORITHMS:
                for i in range(0, len(n.data) - 1, 2):
                    if n.data[i : i + 2] == _SHA2_256:
                        return
        raise FormatError(DROP_IKE_CERT)

    def prove(self, sk_p, message, nonce, idi):
        """Job: the payloads that prove us, CERT to AUTH (RFC 7296 section 2.15)."""
        digest = _digest(sk_p, message, nonce, idi)
        r, s = yield from tidied(sign_job(self.key, digest, self._random))
        payloads = [(ike.CERT, bytes((_X509_SIGNATURE,)) + data) for data in self._chain]
        if sha1 is not None:
            wanted = sha1(self._anchor.spki).digest()
            payloads.append((ike.CERTREQ, bytes((_X509_SIGNATURE,)) + wanted))
        signature = _integer(r) + _integer(s)
        algorithm = der.ECDSA_WITH_SHA256
        proof = bytes((len(algorithm),)) + algorithm
        proof += struct.pack(">BB", 0x30, len(signature)) + signature
        return payloads + [(ike.AUTH, ike.emit_auth(ike.AUTH_DIGITAL_SIGNATURE, proof))]

    def judge(self, payloads, proof, sk_p, message, nonce, idr):
        """Job: GENUINE, or a word for why this is not the key server. FormatError likewise.

        proof: (method, data) of its AUTH; idr: body of its IDr, whose identity was asked for.
        """
        method, data = proof
        if method != ike.AUTH_DIGITAL_SIGNATURE:
            raise FormatError(DROP_IKE_AUTH)
        algorithm, _, signature = ike.parse_signature_auth(data)
        signature = der.parse_ecdsa(signature)
        if algorithm != der.ECDSA_WITH_SHA256 or signature is None:
            raise FormatError(DROP_IKE_AUTH)
        digest = _digest(sk_p, message, nonce, idr)
        yield
        chain = yield from self._chain_of(payloads)
        problem = self._worth(chain, ike.parse_id(idr)[1])
        if problem is not None:
            return problem
        yield
        is_genuine = yield from _verify(chain[0].point, digest, signature)
        if not is_genuine:
            raise FormatError(DROP_IKE_AUTH)
        together = sha256()
        for certificate in chain:
            together.update(certificate.data)
        together = together.digest()
        if self._known is None or not equal(self._known, together):
            for i in range(len(chain)):
                issuer = chain[i + 1] if i + 1 < len(chain) else self._anchor
                digest = sha256(chain[i].tbs).digest()
                is_genuine = yield from _verify(issuer.point, digest, chain[i].signature)
                if not is_genuine:
                    return "certificate_signature"
            self._known = together
        return GENUINE

    def _chain_of(self, payloads):
        """Job: the certificates of a message, the first one's owner being who signs."""
        found = []
        bodies = every(payloads, ike.CERT)
        if not 1 <= len(bodies) <= _MOST_CERTS:
            raise FormatError(DROP_IKE_CERT)
        for body in bodies:
            if len(body) < 2 or body[0] != _X509_SIGNATURE:
                raise FormatError(DROP_IKE_CERT)
            if found and body[1:] == self._anchor.data:
                continue
            found.append(x509.parse(body[1:]))
            yield
        if len(found) > 2:
            raise FormatError(DROP_IKE_CERT)
        if len(found) == 2 and found[0].issuer == self._anchor.subject:
            found.pop()  # it needs no other
        return found

    def _worth(self, chain, name):
        """None, or what is wrong with it, signatures aside."""
        for i in range(len(chain)):
            issuer = chain[i + 1] if i + 1 < len(chain) else self._anchor
            if not x509.is_issued(chain[i], issuer, i):
                return "certificate_issuer"
        now = self._utc()
        for certificate in chain + [self._anchor]:
            problem = x509.time_problem(certificate, now)
            if problem is not None:
                return problem
        return x509.server_problem(chain[0], name)


def _digest(sk_p, message, nonce, id_body):
    """Of what is signed: RealMessage | the other's nonce | prf(SK_p, ID) (section 2.15)."""
    covered = sha256(message)
    covered.update(nonce)
    covered.update(prf(sk_p, id_body))
    return covered.digest()


def _verify(point, digest, signature):
    """Job: whether the owner of this point has signed the digest."""
    try:
        verifier = p256.Verifier(point)
    except ValueError:
        return False
    is_genuine = yield from tidied(verifier.verify(digest, *signature))
    return is_genuine


def _integer(value):
    """DER INTEGER of a positive number below 2^256."""
    octets = value.to_bytes(33, "big")
    at = 0
    while not octets[at] and not octets[at + 1] & 0x80:
        at += 1
    return struct.pack(">BB", 0x02, 33 - at) + octets[at:]
