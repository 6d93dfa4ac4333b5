"""GHASH without tables: neither an address nor a branch depends on a secret.

Carry-less multiplication by integers with holes (the method of BearSSL's ctmul32): of every four
bits three are zero, so that the carries of a product fall into holes and are masked away. Only
the low 32 bits of a product are right; the high ones come from the numbers with their bits
reversed. A block is 18 products of 32 bits, after Karatsuba. Where `mul` takes a time that depends
on its operands (Cortex-M3's does not, nor that of RV32 and Xtensa in ESP32), this doesn't hold.

A key: for each of the 18 factors that come from H, its bits 0, 4, 8, ...; 1, 5, 9, ...; and so on.
In the workspace: 18 factors that come from the block, 18 products.
"""

import micropython
from micropython import const

from covey.port.mpy_crypt import crypt

__all__ = ("KEY_LEN", "crypt", "fill", "others")

KEY_LEN = 288

_TABLES = const(32)
_SCRATCH = const(688)
_FACTORS = const(720)
_BITS = const(0x11111111)


@micropython.viper
def fill(state: uint, h: ptr8) -> int:
    """h is zero afterwards. Returns 0 if it was before: AES gave nothing."""
    k = ptr32((state << 2) + _TABLES)
    if not ptr32(h)[0] | ptr32(h)[1] | ptr32(h)[2] | ptr32(h)[3]:
        return 0
    i = 0
    while i < 4:  # the words, most significant octet first; the last comes first
        j = 12 - (i << 2)
        k[i] = h[j] << 24 | h[j + 1] << 16 | h[j + 2] << 8 | h[j + 3]
        i += 1
    _spread(uint(k) >> 2)
    i = 18
    while i:  # from the last on: the factors lie where their parts will
        i -= 1
        x = k[i]
        j = 4
        while j:
            j -= 1
            k[4 * i + j] = x & _BITS << j
    i = 0
    while i < 16:
        h[i] = 0
        i += 1
    return 1


@micropython.viper
def _spread(words: uint):
    """Words 0 to 3 to 18 factors: themselves, sums of Karatsuba; and the same reversed."""
    w = ptr32(words << 2)
    m = (uint(0x15555555) << 2) + 1
    i = 0
    while i < 4:
        x = uint(w[i])
        x = (x & m) << 1 | x >> 1 & m
        x = (x & 0x33333333) << 2 | x >> 2 & 0x33333333
        x = (x & 0x0F0F0F0F) << 4 | x >> 4 & 0x0F0F0F0F
        x = (x & 0x00FF00FF) << 8 | x >> 8 & 0x00FF00FF
        w[i + 9] = x << 16 | x >> 16
        i += 1
    i = 2
    while i:
        w[4] = w[0] ^ w[1]
        w[5] = w[2] ^ w[3]
        w[6] = w[0] ^ w[2]
        w[7] = w[1] ^ w[3]
        w[8] = w[6] ^ w[7]
        w = ptr32(uint(w) + 36)
        i -= 1


@micropython.viper
def ghash(x: uint, t: uint, a: uint, blocks: int):
    """See mpy_crypt: workspace, key, data. x and t lie in registers, all else in the frame."""
    work = (x << 2) + _FACTORS
    key = t << 2
    data = a << 2
    m1 = (uint(0x15555555) << 2) + 1
    m2 = uint(0x33333333)
    m4 = uint(0x0F0F0F0F)
    k0 = uint(_BITS)
    k1 = k0 << 1
    k2 = k0 << 2
    k3 = k0 << 3
    t = work - (_FACTORS - _SCRATCH)
    a = work + 32  # where a block's result will lie
    while a != work + 16:
        a -= 4
        ptr8(a)[0] = ptr8(t)[3]
        ptr8(a)[1] = ptr8(t)[2]
        ptr8(a)[2] = ptr8(t)[1]
        ptr8(a)[3] = ptr8(t)[0]
        t += 4
    while blocks:
        # Words 0 to 3: y ^ block, the last first; words 9 to 12 the same, bits reversed.
        t = work
        a = data + 16
        while a != data:
            a -= 8
            ptr8(t)[0] = ptr8(a)[7]
            ptr8(t)[1] = ptr8(a)[6]
            ptr8(t)[2] = ptr8(a)[5]
            ptr8(t)[3] = ptr8(a)[4]
            x = uint(ptr32(t)[0]) ^ uint(ptr32(t)[4])
            ptr32(t)[0] = x
            x = (x & m1) << 1 | x >> 1 & m1
            x = (x & m2) << 2 | x >> 2 & m2
            x = (x & m4) << 4 | x >> 4 & m4
            ptr8(t)[36] = x >> 24
            ptr8(t)[37] = x >> 16
            ptr8(t)[38] = x >> 8
            ptr8(t)[39] = x
            ptr8(t)[4] = ptr8(a)[3]
            ptr8(t)[5] = ptr8(a)[2]
            ptr8(t)[6] = ptr8(a)[1]
            ptr8(t)[7] = ptr8(a)[0]
            x = uint(ptr32(t)[1]) ^ uint(ptr32(t)[5])
            ptr32(t)[1] = x
            x = (x & m1) << 1 | x >> 1 & m1
            x = (x & m2) << 2 | x >> 2 & m2
            x = (x & m4) << 4 | x >> 4 & m4
            ptr8(t)[40] = x >> 24
            ptr8(t)[41] = x >> 16
            ptr8(t)[42] = x >> 8
            ptr8(t)[43] = x
            t += 8
        t = work
        while True:  # sums, as Karatsuba would have them
            x = uint(ptr32(t)[0]) ^ uint(ptr32(t)[1])
            ptr32(t)[4] = x
            ptr32(t)[5] = ptr32(t)[2] ^ ptr32(t)[3]
            ptr32(t)[6] = ptr32(t)[0] ^ ptr32(t)[2]
            ptr32(t)[7] = ptr32(t)[1] ^ ptr32(t)[3]
            ptr32(t)[8] = x ^ uint(ptr32(t)[5])
            t += 36
            if t != work + 36:
                break

        end = t
        a = work
        t = key
        while a != end:  # products
            x = uint(ptr32(a)[0])
            x0 = x & k0
            x1 = x & k1
            x2 = x & k2
            x3 = x & k3
            x = x0 * uint(ptr32(t)[0])
            x ^= x1 * uint(ptr32(t)[3])
            x ^= x2 * uint(ptr32(t)[2])
            x ^= x3 * uint(ptr32(t)[1])
            r = x & k0
            x = x0 * uint(ptr32(t)[1])
            x ^= x1 * uint(ptr32(t)[0])
            x ^= x2 * uint(ptr32(t)[3])
            x ^= x3 * uint(ptr32(t)[2])
            r |= x & k1
            x = x0 * uint(ptr32(t)[2])
            x ^= x1 * uint(ptr32(t)[1])
            x ^= x2 * uint(ptr32(t)[0])
            x ^= x3 * uint(ptr32(t)[3])
            r |= x & k2
            x = x0 * uint(ptr32(t)[3])
            x ^= x1 * uint(ptr32(t)[2])
            x ^= x2 * uint(ptr32(t)[1])
            x ^= x3 * uint(ptr32(t)[0])
            ptr32(a)[18] = x & k3 | r
            x = uint(ptr32(a)[1])
            x0 = x & k0
            x1 = x & k1
            x2 = x & k2
            x3 = x & k3
            x = x0 * uint(ptr32(t)[4])
            x ^= x1 * uint(ptr32(t)[7])
            x ^= x2 * uint(ptr32(t)[6])
            x ^= x3 * uint(ptr32(t)[5])
            r = x & k0
            x = x0 * uint(ptr32(t)[5])
            x ^= x1 * uint(ptr32(t)[4])
            x ^= x2 * uint(ptr32(t)[7])
            x ^= x3 * uint(ptr32(t)[6])
            r |= x & k1
            x = x0 * uint(ptr32(t)[6])
            x ^= x1 * uint(ptr32(t)[5])
            x ^= x2 * uint(ptr32(t)[4])
            x ^= x3 * uint(ptr32(t)[7])
            r |= x & k2
            x = x0 * uint(ptr32(t)[7])
            x ^= x1 * uint(ptr32(t)[6])
            x ^= x2 * uint(ptr32(t)[5])
            x ^= x3 * uint(ptr32(t)[4])
            ptr32(a)[19] = x & k3 | r
            x = uint(ptr32(a)[2])
            x0 = x & k0
            x1 = x & k1
            x2 = x & k2
            x3 = x & k3
            x = x0 * uint(ptr32(t)[8])
            x ^= x1 * uint(ptr32(t)[11])
            x ^= x2 * uint(ptr32(t)[10])
            x ^= x3 * uint(ptr32(t)[9])
            r = x & k0
            x = x0 * uint(ptr32(t)[9])
            x ^= x1 * uint(ptr32(t)[8])
            x ^= x2 * uint(ptr32(t)[11])
            x ^= x3 * uint(ptr32(t)[10])
            r |= x & k1
            x = x0 * uint(ptr32(t)[10])
            x ^= x1 * uint(ptr32(t)[9])
            x ^= x2 * uint(ptr32(t)[8])
            x ^= x3 * uint(ptr32(t)[11])
            r |= x & k2
            x = x0 * uint(ptr32(t)[11])
            x ^= x1 * uint(ptr32(t)[10])
            x ^= x2 * uint(ptr32(t)[9])
            x ^= x3 * uint(ptr32(t)[8])
            ptr32(a)[20] = x & k3 | r
            a += 12
            t += 48

        # Products 0 to 8 (from word 18 on) are low halves, 9 to 17 high ones, reversed.
        t = work
        ptr32(t)[22] = ptr32(t)[22] ^ ptr32(t)[18] ^ ptr32(t)[19]
        ptr32(t)[23] = ptr32(t)[23] ^ ptr32(t)[20] ^ ptr32(t)[21]
        x = uint(ptr32(t)[27]) ^ uint(ptr32(t)[28])
        ptr32(t)[3] = x ^ uint(ptr32(t)[29]) ^ uint(ptr32(t)[33])
        x ^= uint(ptr32(t)[31])
        ptr32(t)[2] = x
        ptr32(t)[4] = (
            x
            ^ uint(ptr32(t)[32])
            ^ uint(ptr32(t)[29])
            ^ uint(ptr32(t)[30])
            ^ uint(ptr32(t)[35])
            ^ uint(ptr32(t)[33])
            ^ uint(ptr32(t)[34])
        )
        x = uint(ptr32(t)[29]) ^ uint(ptr32(t)[30])
        ptr32(t)[5] = x ^ uint(ptr32(t)[28]) ^ uint(ptr32(t)[34])
        ptr32(t)[6] = x ^ uint(ptr32(t)[32])
        ptr32(t)[7] = ptr32(t)[30]
        ptr32(t)[1] = ptr32(t)[27]
        a = t + 28
        while t != a:  # turn them round
            t += 4
            x = uint(ptr32(t)[0])
            x = (x & m1) << 1 | x >> 1 & m1
            x = (x & m2) << 2 | x >> 2 & m2
            x = (x & m4) << 4 | x >> 4 & m4
            ptr8(t)[0] = x >> 24
            ptr8(t)[1] = x >> 16
            ptr8(t)[2] = x >> 8
            ptr8(t)[3] = x
        # The sum times x, since bits are counted from the other end: of the high halves by
        # themselves, for their lowest bit is the highest of the low ones.
        t = work
        ptr32(t)[0] = ptr32(t)[18] << 1
        ptr32(t)[1] = ptr32(t)[22] << 1 ^ ptr32(t)[1]
        x = uint(ptr32(t)[19]) ^ uint(ptr32(t)[20])
        ptr32(t)[2] = (x ^ uint(ptr32(t)[18]) ^ uint(ptr32(t)[24])) << 1 ^ uint(ptr32(t)[2])
        ptr32(t)[4] = (x ^ uint(ptr32(t)[21]) ^ uint(ptr32(t)[25])) << 1 ^ uint(ptr32(t)[4])
        x = uint(ptr32(t)[22]) ^ uint(ptr32(t)[23])
        x ^= uint(ptr32(t)[24]) ^ uint(ptr32(t)[25]) ^ uint(ptr32(t)[26])
        ptr32(t)[3] = x << 1 ^ uint(ptr32(t)[3])
        ptr32(t)[5] = ptr32(t)[23] << 1 ^ ptr32(t)[5]
        ptr32(t)[6] = ptr32(t)[21] << 1 ^ ptr32(t)[6]
        # modulo x^128 + x^7 + x^2 + x + 1
        x = uint(ptr32(t)[0])
        ptr32(t)[4] = uint(ptr32(t)[4]) ^ x ^ x >> 1 ^ x >> 2 ^ x >> 7
        ptr32(t)[3] = uint(ptr32(t)[3]) ^ x << 31 ^ x << 30 ^ x << 25
        x = uint(ptr32(t)[1])
        ptr32(t)[5] = uint(ptr32(t)[5]) ^ x ^ x >> 1 ^ x >> 2 ^ x >> 7
        ptr32(t)[4] = uint(ptr32(t)[4]) ^ x << 31 ^ x << 30 ^ x << 25
        x = uint(ptr32(t)[2])
        ptr32(t)[6] = uint(ptr32(t)[6]) ^ x ^ x >> 1 ^ x >> 2 ^ x >> 7
        ptr32(t)[5] = uint(ptr32(t)[5]) ^ x << 31 ^ x << 30 ^ x << 25
        x = uint(ptr32(t)[3])
        ptr32(t)[7] = uint(ptr32(t)[7]) ^ x ^ x >> 1 ^ x >> 2 ^ x >> 7
        ptr32(t)[6] = uint(ptr32(t)[6]) ^ x << 31 ^ x << 30 ^ x << 25
        data += 16
        blocks -= 1
    t = work - (_FACTORS - _SCRATCH)
    a = work + 32
    while a != work + 16:
        a -= 4
        ptr8(t)[0] = ptr8(a)[3]
        ptr8(t)[1] = ptr8(a)[2]
        ptr8(t)[2] = ptr8(a)[1]
        ptr8(t)[3] = ptr8(a)[0]
        t += 4


others = (ghash,)
