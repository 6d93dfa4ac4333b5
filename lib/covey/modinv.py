"""The inverse modulo a prime, a little at a time.

Euclid's algorithm takes a tenth of pow(a, p - 2, p), which also could not give way.
"""

from covey.port import const

_STRIDE = const(6)  # quotients between two yields


def inverse(a, p):
    """Job: the b below p with a * b = 1 modulo the prime p; 0 where p divides a.

    Its time depends on a: multiply a by something random first where a is a lasting secret.
    """
    low, high = a % p, p
    b, before = 1, 0
    left = _STRIDE
    while low > 1:
        q = high // low
        low, high = high - q * low, low
        b, before = before - q * b, b
        left -= 1
        if not left:
            left = _STRIDE
            yield
    return b % p if low else 0
