"""Proof by digital signatures in place of a pre-shared key (RFC 7427): what all kinds share.

    IKE_SA_INIT  + N(SIGNATURE_HASH_ALGORITHMS), from both
    GSA_AUTH     HDR, SK{IDi, [CERT+], IDr, AUTH, IDg, ...}  -->
                                                     <--  HDR, SK{IDr, [CERT+], AUTH, ...}

Authentication method 14, ecdsa-with-SHA256 on P-256 only, both ways. Whose key is good is for
certs.py (certificates) or rawkeys.py (raw public keys) to say.
"""

import struct

from covey import der, ike, p256
from covey.drops import DROP_CAPACITY, DROP_IKE_AUTH, DROP_IKE_CERT, FormatError, name_of
from covey.handshake import FATAL
from covey.job import tidied
from covey.p256_sign import sign_job
from covey.port import random_bytes, sha256
from covey.prf import prf

GENUINE = "genuine"  # what is judged to come from the key server

_NO_MEMORY = "no_memory"  # as registration.py has it
_SHA2_256 = b"\x00\x02"  # RFC 7427 section 7


class Signer:
    """key: bytearray of 32 octets, config.Config's to wipe."""

    id_type = ike.ID_KEY_ID  # of our IDi

    def __init__(self, key, random=random_bytes):
        self.key = key
        self._random = random

    def announcement(self):
        """N(SIGNATURE_HASH_ALGORITHMS) in IKE_SA_INIT."""
        return ike.notify(ike.SIGNATURE_HASH_ALGORITHMS, _SHA2_256)

    def check_answer(self, payloads):
        """FormatError where an answer to IKE_SA_INIT says nothing of SHA2-256."""
        for known in ike.said(payloads, ike.SIGNATURE_HASH_ALGORITHMS):
            for i in range(0, len(known) - 1, 2):
                if known[i : i + 2] == _SHA2_256:
                    return
        raise FormatError(DROP_IKE_CERT)

    def conclude(self, registration, peer, payloads, nonce_i):
        """Job: judge who answered GSA_AUTH with these payloads, and let the Registration know.

        One is judged after the other; judge() is a subclass's.
        """
        drops = registration.drops
        try:
            proof = ike.parse_auth(ike.only(payloads, ike.AUTH))
            idr = ike.only(payloads, ike.IDr)
            signed = peer.keys[ike.SK_PR], peer.response, nonce_i, idr
            found = yield from self.judge(payloads, proof, *signed)
            if found != GENUINE:
                drops.count(DROP_IKE_CERT)
            elif ike.error_of(payloads) in FATAL:
                found = ike.error_name(ike.error_of(payloads))
                drops.count(DROP_IKE_CERT)
        except FormatError as error:
            found = name_of(drops.count(error.reason))
        except MemoryError:
            drops.count(DROP_CAPACITY)
            registration.lose(peer, _NO_MEMORY)
            raise
        if found != GENUINE:
            return registration.lose(peer, found)
        sa = peer.sa
        registration.keep(peer)
        try:
            registration.take_policy(payloads, sa)
        except FormatError as error:
            drops.count(error.reason)

    def sign(self, sk_p, message, nonce, idi):
        """Job: our AUTH payload (RFC 7296 section 2.15)."""
        digest = _digest(sk_p, message, nonce, idi)
        r, s = yield from tidied(sign_job(self.key, digest, self._random))
        signature = _integer(r) + _integer(s)
        algorithm = der.ECDSA_WITH_SHA256
        proof = bytes((len(algorithm),)) + algorithm
        proof += struct.pack(">BB", 0x30, len(signature)) + signature
        return ike.AUTH, ike.emit_auth(ike.AUTH_DIGITAL_SIGNATURE, proof)


def signed_by(proof, sk_p, message, nonce, id_body):
    """What an AUTH says was signed → (digest, (r, s)). FormatError: no signature of this kind.

    proof: (method, data) of it; id_body: body of the signer's ID payload.
    """
    method, data = proof
    if method != ike.AUTH_DIGITAL_SIGNATURE:
        raise FormatError(DROP_IKE_AUTH)
    algorithm, _, signature = ike.parse_signature_auth(data)
    signature = der.parse_ecdsa(signature)
    if algorithm != der.ECDSA_WITH_SHA256 or signature is None:
        raise FormatError(DROP_IKE_AUTH)
    return _digest(sk_p, message, nonce, id_body), signature


def verify(point, digest, signature):
    """Job: whether the owner of this point has signed the digest."""
    try:
        verifier = p256.Verifier(point)
    except ValueError:
        return False
    is_genuine = yield from tidied(verifier.verify(digest, *signature))
    return is_genuine


def _digest(sk_p, message, nonce, id_body):
    """Of what is signed: RealMessage | the other's nonce | prf(SK_p, ID) (section 2.15)."""
    covered = sha256(message)
    covered.update(nonce)
    covered.update(prf(sk_p, id_body))
    return covered.digest()


def _integer(value):
    """DER INTEGER of a positive number below 2^256."""
    octets = value.to_bytes(33, "big")
    at = 0
    while not octets[at] and not octets[at + 1] & 0x80:
        at += 1
    return struct.pack(">BB", 0x02, 33 - at) + octets[at:]
