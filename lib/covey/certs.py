"""Proof by certificates (RFC 4945), for which digital.py signs.

    GSA_AUTH     HDR, SK{IDi, CERT+, [CERTREQ], IDr, AUTH, IDg, ...}  -->
                                                     <--  HDR, SK{IDr, CERT+, AUTH, ...}

The server's certificate comes from the pinned CA, or from one intermediate CA below it, and names
the idr of covey.json. Loaded where covey.json names certificates.
"""

from covey import ike, x509
from covey.digital import GENUINE, Signer, signed_by, verify
from covey.drops import DROP_IKE_AUTH, DROP_IKE_CERT, FormatError
from covey.octets import equal
from covey.port import const, random_bytes, sha1, sha256, utc

_X509_SIGNATURE = const(4)  # certificate encoding, RFC 7296 section 3.6
_MOST_CERTS = const(3)  # of one message: leaf, intermediate, and the CA itself where it is sent


class Credentials(Signer):
    """Our key and certificates, and the pinned CA.

    chain: our certificates in DER, our own first. anchor: the CA's.
    """

    id_type = ike.ID_FQDN

    def __init__(self, key, chain, anchor, random=random_bytes, utc=utc):
        super().__init__(key, random)
        self._chain = chain
        self._anchor = x509.parse(anchor)
        self._utc = utc
        self._known = None  # SHA-256 of the chain whose signatures have verified last

    def prove(self, *covered):
        """Job: the payloads that prove us, CERT to AUTH; see Signer.sign."""
        auth = yield from self.sign(*covered)
        payloads = [(ike.CERT, bytes((_X509_SIGNATURE,)) + data) for data in self._chain]
        if sha1 is not None:
            wanted = sha1(self._anchor.spki).digest()
            payloads.append((ike.CERTREQ, bytes((_X509_SIGNATURE,)) + wanted))
        return payloads + [auth]

    def judge(self, payloads, proof, sk_p, message, nonce, idr):
        """Job: GENUINE, or a word for why this is not the key server. FormatError likewise.

        proof: (method, data) of its AUTH; idr: body of its IDr, whose identity was asked for.
        """
        digest, signature = signed_by(proof, sk_p, message, nonce, idr)
        yield
        chain = yield from self._chain_of(payloads)
        problem = self._worth(chain, ike.parse_id(idr)[1])
        if problem is not None:
            return problem
        yield
        is_genuine = yield from verify(chain[0].point, digest, signature)
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
                is_genuine = yield from verify(issuer.point, digest, chain[i].signature)
                if not is_genuine:
                    return "certificate_signature"
            self._known = together
        return GENUINE

    def _chain_of(self, payloads):
        """Job: the certificates of a message, the first one's owner being who signs."""
        found = []
        bodies = ike.every(payloads, ike.CERT)
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
