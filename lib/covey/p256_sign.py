"""ECDSA signing on P-256 (FIPS 186-5 section 6.4.1), and keys that are derived from a secret.

The nonce k is that of RFC 6979, with fresh random octets in it (section 3.6): it comes twice
neither where the random generator fails nor where a fault is forced into a second signature of the
same. So a faulty signature tells nobody the key, and none is verified before it is used. Whatever
meets a secret is disguised first, as the time of big integers depends on their values:

    k G    is (k - j) G + j G with a random j, in the two combs that a verification walks: the same
           steps for all k, at entries that say nothing of it, from a point whose Jacobian
           coordinates are random
    1 / k  is b / (b k) with a random b, with which all that it meets is multiplied, too

Integers can't be wiped: docs/threat-model.md counts that in.
"""

from covey.modinv import inverse
from covey.p256 import N, P, columns, recode, walk
from covey.p256_base import BASE_TABLE
from covey.port import const, random_bytes
from covey.prf import prf

_LEN = const(32)
_MORE = const(40)  # octets whose remainder is as good as any number below n


def derived(secret, label):
    """The private key that follows from a secret: prf(secret, label | n), of one octet n from 0
    on, for the first n that makes it one. 32 octets, which the caller wipes.
    """
    n = 0
    while True:
        key = bytearray(prf(secret, label, bytes((n,))))
        if 0 < _integer(key) < N:
            return key
        n += 1


def point_job(key, random=random_bytes):
    """Job: the 65 octets of a private key's public one, an uncompressed point."""
    x, y = yield from _times_base(_integer(key), random)
    return b"\x04" + x.to_bytes(_LEN, "big") + y.to_bytes(_LEN, "big")


def sign_job(key, digest, random=random_bytes):
    """Job: (r, s), which signs this digest of 32 octets. key: 32 octets, above 0 and below n."""
    if len(digest) != _LEN:
        raise ValueError("a SHA-256 digest has 32 octets")
    e = _integer(digest)
    state = yield from _seeded(key, (e % N).to_bytes(_LEN, "big"), random(_LEN))
    while True:
        k = _integer(state[1])
        if 0 < k < N:
            x, _ = yield from _times_base(k, random)
            r = x % N
            b = _below_n(random)
            w = yield from inverse(b * k % N, N)
            d = b * _integer(key) % N
            yield
            s = (b * e + d * r) % N * w % N
            if r and s:
                return r, s
        state = _stirred(state, b"\0")
        state = state[0], prf(*state)
        yield


def _seeded(key, reduced, fresh):
    """Job: steps b to h of RFC 6979 section 3.2 → (K, V), V being the first candidate for k.

    fresh: the k' of section 3.6; RFC 6979's own nonces where it is empty.
    """
    state = bytes(_LEN), b"\x01" * _LEN
    for octet in (b"\0", b"\x01"):
        state = _stirred(state, octet, key, reduced, fresh)
        yield
    return state[0], prf(*state)


def _stirred(state, *what):
    k = prf(state[0], state[1], *what)
    return k, prf(k, state[1])


def _times_base(k, random):
    """Job: (x, y) of k times the base point; 0 < k < n."""
    j = _below_n(random)
    one, other = recode((k - j) % N), recode(j)
    yield
    summands = columns(one, BASE_TABLE, other)
    next(summands)  # to double nothing
    x, y = next(summands)
    z = _below_n(random)
    zz = z * z % P
    x, y, z = yield from walk(x * zz % P, y * z * zz % P, z, summands)
    w = yield from inverse(z, P)
    zz = w * w % P
    yield
    return x * zz % P, y * w * zz % P


def _below_n(random):
    """A random one that is not zero."""
    return _integer(random(_MORE)) % (N - 1) + 1


def _integer(octets):
    return int.from_bytes(octets, "big")
