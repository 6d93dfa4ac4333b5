"""ECDSA verification on P-256 (FIPS 186-5 section 6.4.2, SP 800-186) on big integers.

It handles public values only, so its time may depend on them.

u1 * G + u2 * Q is computed with two combs of five teeth: a scalar's 260 digits stand in five rows
of 52 and are taken a column at a time, each column naming one point of a table. Scalars are made
odd, so that every digit can be written as 1 or -1: sixteen points serve for all columns, with
either sign. Entry i of a point B's table, where a set bit of i means + and a clear one means -:

    2^208 B  ±  2^156 B  ±  2^104 B  ±  2^52 B  ±  B
               (bit 3)     (bit 2)    (bit 1)   (bit 0)
"""

from covey.modinv import inverse
from covey.p256_base import BASE_TABLE
from covey.port import const

_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

_COLUMNS = const(52)
_DIGITS = const(260)
_SPREAD = const(52)  # doublings between a tooth and the next
_TEETH = const(5)
_ENTRY_LEN = const(64)  # x | y


class Verifier:
    """One public key. Its table is made by the first prepare() or verify()."""

    def __init__(self, point):
        """The 65 octets of an uncompressed point. ValueError if it is none on the curve."""
        if len(point) != 65 or point[0] != 4:
            raise ValueError("not an uncompressed P-256 point")
        x = _integer(point, 1)
        y = _integer(point, 33)
        if x >= _P or y >= _P or (y * y - (x * x - 3) * x - _B) % _P:
            raise ValueError("not a point on P-256")
        self._point = (x, y)
        self._table = None

    def prepare(self):
        """Job: make the table of the key, once; it costs more than a verification."""
        if self._table is None:
            self._table = yield from comb_table(self._point[0], self._point[1])
            self._point = None

    def verify(self, digest, r, s):
        """Job: whether (r, s) signs this digest of 32 octets. r and s may be any integers."""
        if len(digest) != 32:
            raise ValueError("a SHA-256 digest has 32 octets")
        if not (0 < r < _N and 0 < s < _N):
            return False
        yield from self.prepare()
        w = yield from inverse(s, _N)
        g_flip, g_bits = _recode(_integer(digest, 0) * w % _N)
        q_flip, q_bits = _recode(r * w % _N)
        x, y, z = 1, 1, 0
        for column in range(_COLUMNS - 1, -1, -1):
            x, y, z = yield from _double(x, y, z)
            ax, ay = _entry(BASE_TABLE, g_bits, g_flip, column)
            x, y, z = yield from _add(x, y, z, ax, ay)
            ax, ay = _entry(self._table, q_bits, q_flip, column)
            x, y, z = yield from _add(x, y, z, ax, ay)
        return z != 0 and _has_abscissa(x, z, r)


def comb_table(x, y):
    """Job: the sixteen points of (x, y)'s table as 1024 octets: x | y of each."""
    z = 1
    teeth = [(x, y, z)]
    while len(teeth) < _TEETH:
        for _ in range(_SPREAD):
            x, y, z = yield from _double(x, y, z)
        teeth.append((x, y, z))
    teeth = yield from _to_affine(teeth)
    # No sum below is infinite or doubles: a nonzero multiple of the point, of less than n, each.
    sums = [(teeth[4][0], teeth[4][1], 1)]
    for bit in range(_TEETH - 1):
        x, y = teeth[bit]
        low, high = [], []
        for px, py, pz in sums:
            low.append((yield from _add(px, py, pz, x, _P - y)))
            high.append((yield from _add(px, py, pz, x, y)))
        sums = low + high
    table = bytearray()
    for x, y in (yield from _to_affine(sums)):
        table.extend(x.to_bytes(32, "big"))
        table.extend(y.to_bytes(32, "big"))
    return table


def _to_affine(points):
    """Job: [(X, Y, Z), ...], none infinite, as [(x, y), ...], with one inversion for all."""
    product = 1
    before = []
    for _, _, z in points:
        before.append(product)
        product = product * z % _P
        yield
    inverted = yield from inverse(product, _P)
    out = []
    for i in range(len(points) - 1, -1, -1):
        x, y, z = points[i]
        zi = inverted * before[i] % _P
        inverted = inverted * z % _P
        zz = zi * zi % _P
        out.append((x * zz % _P, y * zz * zi % _P))
        yield
    out.reverse()
    return out


def _recode(k):
    """(flip, bits): k modulo n as digits of 1 (a set bit) and -1, all to be turned by flip."""
    flip = 0
    if not k & 1:
        k = _N - k  # odd, as n is; zero becomes n itself, whose multiple is infinity
        flip = 31
    return flip, ((k + (1 << _DIGITS) - 1) >> 1).to_bytes(33, "little")


def _entry(table, bits, flip, column):
    """(x, y) of the point that one column of digits names."""
    i = 0
    for at in range(column + _SPREAD * 4, -1, -_SPREAD):
        i = i << 1 | bits[at >> 3] >> (at & 7) & 1
    i ^= flip
    # With the highest digit -1 the whole point is the negative of the one with all digits turned.
    off = (i & 15 if i & 16 else ~i & 15) * _ENTRY_LEN
    y = _integer(table, off + 32)
    return _integer(table, off), y if i & 16 else _P - y


def _integer(buf, off):
    return int.from_bytes(buf[off : off + 32], "big")


def _double(x, y, z):
    """Job: twice a point in Jacobian coordinates (z = 0: infinity), dbl-2001-b."""
    p = _P
    zz = z * z % p
    yy = y * y % p
    z = 2 * y * z % p
    y = x * yy % p
    t = 3 * (x - zz) * (x + zz) % p
    x = (t * t - 8 * y) % p
    y = (t * (4 * y - x) - 8 * yy * yy) % p
    yield
    return x, y, z


def _add(x, y, z, ax, ay):
    """Job: a Jacobian point plus an affine one, in every case: signatures choose their scalars."""
    if not z:
        return ax, ay, 1
    p = _P
    t = z * z % p
    h = (ax * t - x) % p
    t = (ay * (z * t % p) - y) % p
    if not h:  # the same x
        if t:
            return 1, 1, 0
        return (yield from _double(x, y, z))
    yield
    z = z * h % p
    hh = h * h % p
    v = x * hh % p
    h = hh * h % p
    x = (t * t - h - 2 * v) % p
    y = (t * (v - x) - y * h) % p
    yield
    return x, y, z


def _has_abscissa(x, z, r):
    """Whether x / z^2, taken modulo n, is r: without an inversion, and x may exceed n."""
    zz = z * z % _P
    return x == r * zz % _P or (r + _N < _P and x == (r + _N) * zz % _P)
