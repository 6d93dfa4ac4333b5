"""X25519, RFC 7748: key agreement on Curve25519 by the Montgomery ladder on big integers.

Integers cannot be wiped and their arithmetic takes time that depends on their values, so a scalar
given to this file must be ephemeral: used for one exchange, then forgotten.
"""

from covey.job import tidied
from covey.modinv import inverse
from covey.octets import wipe
from covey.port import const

BASE = b"\x09" + bytes(31)  # the u coordinate of the base point, section 4.1

_LEN = const(32)
_P = pow(2, 255) - 19  # written so, it takes less room in a file than its digits
_A24 = const(121665)  # (486662 - 2) / 4


def multiply(scalar, u):
    """Job, tidied: the shared secret of a scalar and a peer's u, 32 octets each, as a bytearray.

    None where it is all zeros (section 6.1: u was a point of small order) or u has another length.
    For a public value, u is BASE. The scalar is clamped here; u may be non-canonical (section 5).
    """
    return tidied(_multiply(scalar, u))


def _multiply(scalar, u):
    if len(u) != _LEN:
        return None
    u = bytearray(u)
    u[31] &= 127
    k = bytearray(scalar)
    k[0] &= 248
    k[31] |= 64  # and bit 255 is never looked at
    try:
        x, z = yield from _ladder(k, int.from_bytes(u, "little"))
    finally:
        wipe(k)
    shared = x * (yield from inverse(z, _P)) % _P
    return bytearray(shared.to_bytes(_LEN, "little")) if shared else None


def _ladder(k, x1):
    """Job: (X, Z) of k times the point x1, section 5. Four yields a bit.

    2^256 = 38 modulo p, so a product t is folded as (t & low) + (t >> 256) * 38. Coordinates come
    to a turn with at most 256 bits and a sign; folded once, squares and products of sums have up
    to 262 bits, the results up to 292, and subtracting p times their upper bits ends the turn.

    The turn stands in the loop, not in a function, as MicroPython would take a frame for it from
    the heap and give it back each time: the hole makes each later allocation search for its place.
    """
    p = _P
    low = pow(2, 256) - 1
    x2, z2, x3, z3 = 1, 0, x1, 1
    before = 0
    for i in range(254, -1, -1):
        bit = k[i >> 3] >> (i & 7) & 1
        if bit != before:
            x2, z2, x3, z3 = x3, z3, x2, z2
            before = bit
        a = x2 + z2
        b = x2 - z2
        t = (x3 - z3) * a
        da = (t & low) + (t >> 256) * 38
        t = (x3 + z3) * b
        cb = (t & low) + (t >> 256) * 38
        yield
        t = a * a
        a = (t & low) + (t >> 256) * 38  # RFC 7748's AA
        t = b * b
        b = (t & low) + (t >> 256) * 38  # BB
        yield
        t = a * b
        t = (t & low) + (t >> 256) * 38
        x2 = t - (t >> 255) * p
        b = a - b  # E
        t = b * (a + b * _A24)
        t = (t & low) + (t >> 256) * 38
        z2 = t - (t >> 255) * p
        yield
        t = da + cb
        t *= t
        t = (t & low) + (t >> 256) * 38
        x3 = t - (t >> 255) * p
        t = da - cb
        t *= t
        t = ((t & low) + (t >> 256) * 38) * x1
        t = (t & low) + (t >> 256) * 38
        z3 = t - (t >> 255) * p
        yield
    return x2, z2  # bit 0 of a clamped scalar is 0: nothing is left swapped
