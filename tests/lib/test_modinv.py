"""The inverse modulo a prime: small primes wholly, those of the curves at their edges."""

from covey.job import finish
from covey.modinv import inverse

_P25519 = 2**255 - 19
_P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1


def test_small_primes():
    for p in (2, 3, 5, 7, 101):
        for a in range(-2 * p, 3 * p):
            b = finish(inverse(a, p))
            assert 0 <= b < p
            assert a * b % p == (1 if a % p else 0)


def test_large_primes():
    for p in (_P25519, _P256):
        for a in (
            1,
            2,
            3,
            p - 1,
            p - 2,
            p + 1,
            -1,
            -2,
            p // 2,
            p // 3,
            2**255 - 1,
            7**90,
            -(7**90),
        ):
            b = finish(inverse(a, p))
            assert 0 < b < p
            assert a * b % p == 1
        for a in (0, p, -p, 5 * p):
            assert finish(inverse(a, p)) == 0


def test_it_gives_way():
    assert sum(1 for _ in inverse(7**90, _P256)) >= 8
    # Fibonacci's numbers need the most quotients, all of them small
    a, b = 1, 1
    while b < _P256:
        a, b = b, a + b
    assert sum(1 for _ in inverse(a, _P256)) >= 8
