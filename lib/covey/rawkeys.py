"""Proof by raw public keys: each end knows the other's (RFC 7670), and there is no CA.

    GSA_AUTH     HDR, SK{IDi, [CERT], IDr, AUTH, IDg, ...}  -->
                                                     <--  HDR, SK{IDr, [CERT], AUTH, ...}

CERT holds a SubjectPublicKeyInfo (encoding 15). Nobody believes it: the key server's own
key is pinned, and what is signed by another is nobody's. Loaded where covey.json names that key.
"""

from covey import ike
from covey.digital import GENUINE, Signer, signed_by, verify
from covey.drops import DROP_IKE_AUTH, FormatError
from covey.port import random_bytes

_RAW_PUBLIC_KEY = b"\x0f"  # certificate encoding, RFC 7670 section 3


class RawKey(Signer):
    """spki: our public key in DER, None where nobody told it. point: of the key server's key."""

    def __init__(self, key, spki, point, random=random_bytes):
        super().__init__(key, random)
        self._spki = spki
        self._point = point

    def prove(self, *covered):
        """Job: the payloads that prove us; see Signer.sign."""
        auth = yield from self.sign(*covered)
        certs = [(ike.CERT, _RAW_PUBLIC_KEY + self._spki)] if self._spki else []
        return certs + [auth]

    def judge(self, payloads, proof, *covered):
        """Job: GENUINE. FormatError: this is not the key server. See digital.signed_by."""
        digest, signature = signed_by(proof, *covered)
        yield
        is_genuine = yield from verify(self._point, digest, signature)
        if not is_genuine:
            raise FormatError(DROP_IKE_AUTH)
        return GENUINE
