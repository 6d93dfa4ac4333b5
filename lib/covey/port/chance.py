"""Random octets: the system's generator, hashed with a pool once a seed was stirred in.

With either of the two unknown to others, what comes out is. The pool goes on with each draw and
can't be led back, so that whoever reads it later learns nothing of what was drawn before.
"""

from hashlib import sha256
from os import urandom

_BLOCK = 32
_pool = bytearray(_BLOCK)
_is_stirred = False


def stir(seed):
    """Mix a secret into all that random_bytes() gives from now on. The caller wipes it."""
    global _is_stirred
    _go_on(sha256(b"stir" + _pool + seed + urandom(_BLOCK)))
    _is_stirred = True


def random_bytes(n):
    if not _is_stirred:
        return urandom(n)
    out = b""
    while len(out) < n:
        chance = urandom(_BLOCK)
        out += sha256(b"draw" + _pool + chance).digest()
        _go_on(sha256(b"next" + _pool + chance))
    return out[:n]


def _go_on(digest):
    _pool[:] = digest.digest()
