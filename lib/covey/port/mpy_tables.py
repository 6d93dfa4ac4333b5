"""Tables for GHASH, once a key: 4 teeth x (high, low half of an octet) x 16 rows x 4 words."""

import micropython
from micropython import const

_TABLES = const(32)  # where they begin in the state of a key

KEY_LEN = 2048


@micropython.viper
def fill(x: uint, h: ptr8) -> int:
    """Fill the tables of the key whose state lies at x * 4.

    Row n of a table: n * H * x^(32 * tooth), for the low half of an octet * x^4 more.

    h is zero afterwards. Returns 0 if it was before: AES gave nothing.
    """
    if not ptr32(h)[0] | ptr32(h)[1] | ptr32(h)[2] | ptr32(h)[3]:
        return 0
    table = (x << 2) + _TABLES
    lowest = 0x01010101  # of each octet; octets lie in words from the least significant on
    others = lowest * 127
    left = 8
    while left:
        left -= 1
        # H * x^(32 * tooth), its next three multiples by x, or the four behind: rows 8, 4, 2, 1.
        n = 4
        while n:
            n -= 1
            p = ptr32(table + uint(16 << n))
            c = uint(0)
            i = 0
            while i < 4:
                x = uint(ptr32(h)[i])
                p[i] = x
                ptr32(h)[i] = x >> 1 & others | (x & lowest) << 15 | c
                c = x >> 17 & 128
                i += 1
            if c:
                h[0] ^= 0xE1
        if not left & 1:
            n = 3
        while n:  # on to the next tooth, octet by octet
            n -= 1
            c = uint(0)
            i = 0
            while i < 4:
                x = uint(ptr32(h)[i])
                ptr32(h)[i] = x << 8 | c
                c = x >> 24 & 255
                i += 1
            x = c << 8 ^ c << 7 ^ c << 6 ^ c << 1
            h[0] ^= x >> 8
            h[1] ^= x
        # The other rows are sums of these: 3 of 2 and 1, 5 to 7 of 4 and those, 9 to 15 likewise.
        top = uint(32)
        while int(top) < 256:
            a = table + top
            x = a + 16
            while x < a + top:
                ptr32(x)[0] = ptr32(x - top)[0] ^ ptr32((x & 12) + a)[0]
                x += 4
            top += top
        table += 256
    ptr32(h)[0] = 0
    ptr32(h)[1] = 0
    ptr32(h)[2] = 0
    ptr32(h)[3] = 0
    return 1
