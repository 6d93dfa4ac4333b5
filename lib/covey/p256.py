"""ECDSA verification on P-256 (FIPS 186-5 section 6.4.2, SP 800-186) on big integers.

It handles public values only, so its time may depend on them. Signing, which walks the same way,
hands over shares of its secret that are drawn anew each time: see p256_sign.py.

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

# A file has a number that stands there as such in digits, which are twice as long.
P = pow(2, 256) - pow(2, 224) + pow(2, 192) + pow(2, 96) - 1
_NUMBERS = (
    b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"
    b"\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"
    b"\x5a\xc6\x35\xd8\xaa\x3a\x93\xe7\xb3\xeb\xbd\x55\x76\x98\x86\xbc"
    b"\x65\x1d\x06\xb0\xcc\x53\xb0\xf6\x3b\xce\x3c\x3e\x27\xd2\x60\x4b"
)
N = int.from_bytes(_NUMBERS[:32], "big")
_B = int.from_bytes(_NUMBERS[32:], "big")

_COLUMNS = const(52)
_DIGITS = const(260)
_SPREAD = const(52)  # doublings between a tooth and the next
_TEETH = const(5)
_NUMBER_LEN = const(32)
_ENTRY_LEN = const(64)  # x | y


class Verifier:
    """One public key. Its table is made by the first prepare() or verify()."""

    def __init__(self, point):
        """The 65 octets of an uncompressed point. ValueError if it is none on the curve."""
        found = coordinates(point)
        if found is None:
            raise ValueError
        self._point = found  # None once the table is made
        self._table = bytearray((1 << _TEETH - 1) * _ENTRY_LEN)  # now, before the heap is filled

    def prepare(self):
        """Job: make the table of the key, once; it costs more than a verification."""
        if self._point is not None:
            yield from comb_table(self._point[0], self._point[1], self._table)
            self._point = None

    def verify(self, digest, r, s):
        """Job: whether (r, s) signs this digest of 32 octets. r and s may be any integers."""
        assert len(digest) == _NUMBER_LEN
        if not (0 < r < N and 0 < s < N):
            return False
        yield from self.prepare()
        w = yield from inverse(s, N)
        on_g = recode(_integer(digest, 0) * w % N)
        yield
        on_q = recode(r * w % N)
        yield
        summands = columns(on_g, self._table, on_q)
        x, y, z = yield from walk(1, 1, 0, summands)
        # Whether x / z^2, taken modulo n, is r: without an inversion, and x may exceed n. At
        # infinity x is 1 (see walk).
        zz = z * z % P
        return x == r * zz % P or r + N < P and x == (r + N) * zz % P


def coordinates(point):
    """(x, y) of an uncompressed point's 65 octets; None if it is none on the curve."""
    if len(point) != 65 or point[0] != 4:
        return None
    x = _integer(point, 1)
    y = _integer(point, 33)
    if x >= P or y >= P or (y * y - (x * x - 3) * x - _B) % P:
        return None
    return x, y


def columns(on_g, table, on_q):
    """What walk() does for all columns, the highest first: double, add a point of each table.
    on_g, on_q: what recode() says.
    """
    halves = ((BASE_TABLE, on_g), (table, on_q))
    for column in range(_COLUMNS - 1, -1, -1):
        yield None
        for points, (flip, bits) in halves:
            i = 0
            for at in range(column + _SPREAD * 4, -1, -_SPREAD):
                i = i << 1 | bits[at >> 3] >> (at & 7) & 1
            i ^= flip
            # With the highest digit -1 the whole point is the negative of the one with all
            # digits turned.
            at = (i & 15 if i & 16 else ~i & 15) * _ENTRY_LEN
            y = _integer(points, at + 32)
            yield _integer(points, at), y if i & 16 else P - y


def comb_table(x, y, table):
    """Job: the sixteen points of (x, y)'s table, into 1024 octets: x | y of each.

    Coordinates lie there and in `zs` while they wait: an integer that comes of a division keeps
    three times the octets of its value, and there would be ninety of them.
    """
    zs = bytearray((1 << _TEETH - 1) * _NUMBER_LEN)
    z = 1
    _put(table, zs, 0, x, y, z)
    spread = (None,) * _SPREAD
    for tooth in range(1, _TEETH):
        x, y, z = yield from walk(x, y, z, spread)
        _put(table, zs, tooth, x, y, z)
    yield from _to_affine(table, zs, _TEETH)
    teeth = bytes(table[: _TEETH * _ENTRY_LEN])
    # No sum below is infinite or doubles: a nonzero multiple of the point, of less than n, each.
    top = (_TEETH - 1) * _ENTRY_LEN
    _put(table, zs, 0, _integer(teeth, top), _integer(teeth, top + 32), 1)
    for bit in range(_TEETH - 1):
        x = _integer(teeth, bit * _ENTRY_LEN)
        y = _integer(teeth, bit * _ENTRY_LEN + 32)
        for i in range(1 << bit):
            for entry, summand in ((1 << bit | i, (x, y)), (i, (x, P - y))):
                at = i * _ENTRY_LEN
                point = _integer(table, at), _integer(table, at + 32), _integer(zs, at >> 1)
                point = yield from walk(point[0], point[1], point[2], (summand,))
                _put(table, zs, entry, point[0], point[1], point[2])
    yield from _to_affine(table, zs, 1 << _TEETH - 1)


def _put(table, zs, entry, x, y, z):
    at = entry * _ENTRY_LEN
    table[at : at + 32] = x.to_bytes(32, "big")
    table[at + 32 : at + 64] = y.to_bytes(32, "big")
    zs[at >> 1 : (at >> 1) + 32] = z.to_bytes(32, "big")


def _to_affine(table, zs, count):
    """Job: the first `count` points, none infinite, from (X, Y, Z) to (x, y, 1), with one
    inversion for all.
    """
    product = 1
    before = bytearray(count * _NUMBER_LEN)
    for i in range(count):
        at = i * _NUMBER_LEN
        before[at : at + 32] = product.to_bytes(32, "big")
        product = product * _integer(zs, at) % P
        yield
    inverted = yield from inverse(product, P)
    for i in range(count - 1, -1, -1):
        at = i * _NUMBER_LEN
        zi = inverted * _integer(before, at) % P
        inverted = inverted * _integer(zs, at) % P
        zz = zi * zi % P
        at = i * _ENTRY_LEN
        x = _integer(table, at) * zz % P
        y = _integer(table, at + 32) * zz * zi % P
        _put(table, zs, i, x, y, 1)
        yield


def recode(k):
    """(flip, bits): k modulo n as digits of 1 (a set bit) and -1, all to be turned by flip."""
    flip = 31 * (~k & 1)
    k = (N - k, k)[k & 1]  # odd, as n is; zero becomes n itself, whose multiple is infinity
    return flip, ((k >> 1) + pow(2, _DIGITS - 1)).to_bytes(33, "little")


def _integer(buf, off):
    return int.from_bytes(buf[off : off + 32], "big")


def walk(x, y, z, summands):
    """Job: a point in Jacobian coordinates (1, 1, 0: infinity) after every one of the summands.

    A summand is None, which doubles the point (dbl-2001-b), or the (x, y) of a point to be added:
    in every case, as signatures choose their scalars. One job for all of them, as a job for each
    would take much of the heap; products are what costs, so there are three or four to a turn.
    """
    p = P
    for summand in summands:
        if summand is not None and z:
            t = z * z % p
            h = (summand[0] * t - x) % p
            t = z * t % p
            yield
            t = (summand[1] * t - y) % p
            if h:
                z = z * h % p
                hh = h * h % p
                v = x * hh % p
                yield
                h = hh * h % p
                x = (t * t - h - 2 * v) % p
                y = (t * (v - x) - y * h) % p
                yield
                continue
            if t:  # opposites
                x, y, z = 1, 1, 0
                continue  # the same else, to be doubled
        elif summand is not None:
            x, y = summand
            z = 1
            continue
        zz = z * z % p
        yy = y * y % p
        z = 2 * y * z % p
        y = x * yy % p
        yield
        t = 3 * (x - zz) * (x + zz) % p
        x = (t * t - 8 * y) % p
        y = (t * (4 * y - x) - 8 * yy * yy) % p
        yield
    return x, y, z
