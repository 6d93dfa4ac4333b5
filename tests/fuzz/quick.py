"""Nobody waits for curve arithmetic: `cryptography` does it in place of lib/'s big integers.

A signature also counts as good where its digest was approved: of who has the key server's key.
"""

import os
import random
from contextlib import ExitStack, contextmanager
from unittest import mock

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

import foreign_gm
import ike_peer
from covey import p256, x25519

approved: set[bytes] = set()  # digests; quickly() empties it


def _multiply(scalar, u):
    """x25519.multiply"""
    yield
    if len(u) != 32:
        return None
    try:
        private = X25519PrivateKey.from_private_bytes(bytes(scalar))
        if bytes(u) == x25519.BASE:
            return bytearray(private.public_key().public_bytes_raw())
        return bytearray(private.exchange(X25519PublicKey.from_public_bytes(bytes(u))))
    except ValueError:
        return None


class _Verifier(p256.Verifier):
    """Of one key."""

    def __init__(self, point):
        super().__init__(point)
        self._key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes(point))

    def prepare(self):
        yield

    def verify(self, digest, r, s):
        yield
        if bytes(digest) in approved:
            return True
        how = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        try:
            self._key.verify(utils.encode_dss_signature(r, s), bytes(digest), how)
        except (InvalidSignature, ValueError):
            return False
        return True


class _Private:
    """In place of X25519PrivateKey."""

    @staticmethod
    def generate():
        return X25519PrivateKey.from_private_bytes(os.urandom(32))


@contextmanager
def quickly():
    """And foreign_gm draws the same numbers each time."""
    approved.clear()
    with ExitStack() as stack:
        for place, name, other in (
            (x25519, "multiply", _multiply),
            (p256, "Verifier", _Verifier),
            (os, "urandom", random.Random(2).randbytes),
            (foreign_gm, "X25519PrivateKey", _Private),
            (ike_peer, "X25519PrivateKey", _Private),
        ):
            stack.enter_context(mock.patch.object(place, name, other))
        yield
