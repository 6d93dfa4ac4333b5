"""What mpy_ghash does, in loops: less code, 1,400 instructions a block, right wherever viper is.

The unrolled kernel reckons with registers of 32 bits, and is too long for the jumps of ARMv6-M.
"""

import micropython
from micropython import const

from covey.port.mpy_crypt import crypt
from covey.port.mpy_tables import KEY_LEN, fill

__all__ = ("KEY_LEN", "crypt", "fill", "others")

_SCRATCH = const(688)


@micropython.viper
def ghash(work: uint, tables: uint, data: uint, blocks: int):
    """See mpy_crypt."""
    t = tables << 2
    u = t + 1024  # an index of 256 or more is compiled wrongly for Xtensa
    reduce = ptr16(work << 2)
    z = ptr32((work << 2) + _SCRATCH)
    d = ptr32(data << 2)
    while blocks:
        x0 = uint(d[0]) ^ uint(z[0])
        x1 = uint(d[1]) ^ uint(z[1])
        x2 = uint(d[2]) ^ uint(z[2])
        x3 = uint(d[3]) ^ uint(z[3])
        z[0] = 0
        z[1] = 0
        z[2] = 0
        z[3] = 0
        s = 32
        while s:
            s -= 8
            a = ptr32((x0 >> s & 240) + t)
            b = ptr32((x0 << 4 >> s & 240) + t)
            c = ptr32((x1 >> s & 240) + t)
            e = ptr32((x1 << 4 >> s & 240) + t)
            f = ptr32((x2 >> s & 240) + u)
            g = ptr32((x2 << 4 >> s & 240) + u)
            h = ptr32((x3 >> s & 240) + u)
            i = ptr32((x3 << 4 >> s & 240) + u)
            out = reduce[z[3] >> 24 & 255]
            v = z[3] << 8 ^ (z[2] >> 24 & 255) ^ a[3] ^ b[67] ^ c[131] ^ e[195]
            z[3] = v ^ f[3] ^ g[67] ^ h[131] ^ i[195]
            v = z[2] << 8 ^ (z[1] >> 24 & 255) ^ a[2] ^ b[66] ^ c[130] ^ e[194]
            z[2] = v ^ f[2] ^ g[66] ^ h[130] ^ i[194]
            v = z[1] << 8 ^ (z[0] >> 24 & 255) ^ a[1] ^ b[65] ^ c[129] ^ e[193]
            z[1] = v ^ f[1] ^ g[65] ^ h[129] ^ i[193]
            v = z[0] << 8 ^ out ^ a[0] ^ b[64] ^ c[128] ^ e[192]
            z[0] = v ^ f[0] ^ g[64] ^ h[128] ^ i[192]
        d = ptr32(uint(d) + 16)
        blocks -= 1


others = (ghash,)
