"""Tables for GHASH, once a key: 4 teeth x (high, low half of an octet) x 16 rows x 4 words."""

import micropython
from micropython import const

_TABLES = const(32)  # where they begin in the state of a key

KEY_LEN = 2048


@micropython.viper
def fill(state: uint, h: ptr8) -> int:
    """Fill the tables of the key whose state lies at state * 4.

    Row n of a table: n * H * x^(32 * tooth), for the low half of an octet * x^4 more.

    h is zero afterwards. Returns 0 if it was before: AES gave nothing.
    """
    e1 = 225
    e1 = e1 << 24  # as a constant it would be no small int
    v0 = uint(h[0] << 24 | h[1] << 16 | h[2] << 8 | h[3])
    v1 = uint(h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7])
    v2 = uint(h[8] << 24 | h[9] << 16 | h[10] << 8 | h[11])
    v3 = uint(h[12] << 24 | h[13] << 16 | h[14] << 8 | h[15])
    if not int(v0 | v1 | v2 | v3):
        return 0
    i = 0
    while i < 16:
        h[i] = 0
        i += 1
    tables = (state << 2) + _TABLES
    tooth = tables
    end = tooth + 2048
    while tooth != end:
        # H * x^(32 * tooth) and its next seven multiples by x go into rows 8, 4, 2 and 1.
        bit = 0
        while bit < 8:
            p = ptr8(tooth + uint((bit >> 2) * 256 + (128 >> (bit & 3))))
            p[0] = v0 >> 24
            p[1] = v0 >> 16
            p[2] = v0 >> 8
            p[3] = v0
            p[4] = v1 >> 24
            p[5] = v1 >> 16
            p[6] = v1 >> 8
            p[7] = v1
            p[8] = v2 >> 24
            p[9] = v2 >> 16
            p[10] = v2 >> 8
            p[11] = v2
            p[12] = v3 >> 24
            p[13] = v3 >> 16
            p[14] = v3 >> 8
            p[15] = v3
            out = int(v3) & 1
            v3 = v3 >> 1 | (v2 & 1) << 31
            v2 = v2 >> 1 | (v1 & 1) << 31
            v1 = v1 >> 1 | (v0 & 1) << 31
            v0 = v0 >> 1
            if out:
                v0 ^= uint(e1)
            bit += 1
        while bit < 32:  # on to the next tooth, octet by octet
            out = int(v3) & 255
            v3 = v3 >> 8 | (v2 & 255) << 24
            v2 = v2 >> 8 | (v1 & 255) << 24
            v1 = v1 >> 8 | (v0 & 255) << 24
            v0 = v0 >> 8 ^ uint((out << 8 ^ out << 7 ^ out << 6 ^ out << 1) << 16)
            bit += 8
        tooth += 512
    # The other rows are sums of these.
    table = tables
    while table != end:
        top = uint(32)
        while top != uint(256):
            a = table + top
            b = table + 16
            c = a + 16
            while b != a:
                ptr32(c)[0] = ptr32(a)[0] ^ ptr32(b)[0]
                ptr32(c)[1] = ptr32(a)[1] ^ ptr32(b)[1]
                ptr32(c)[2] = ptr32(a)[2] ^ ptr32(b)[2]
                ptr32(c)[3] = ptr32(a)[3] ^ ptr32(b)[3]
                b += 16
                c += 16
            top += top
        table += 256
    return 1
