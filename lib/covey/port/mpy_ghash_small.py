"""What mpy_ghash does, in loops: less code, 1,400 instructions a block, right wherever viper is.

The unrolled kernel reckons with registers of 32 bits, and is too long for the jumps of ARMv6-M.
"""

import micropython
from micropython import const

# The state of a key and the workspace are as mpy_gcm says.
_STATE = const(2048)
_WORK = const(1)
_KIND = const(4)
_AAD = const(528)
_TAIL = const(656)
_LENGTHS = const(672)
_SCRATCH = const(688)
_TEXT = const(176)  # these three in words
_TEXT_LEN = const(178)
_AAD_LEN = const(179)
_KEYSTREAM = const(752)


@micropython.viper
def finish(task: uint) -> int:
    """See mpy_ghash: the tag of the key at task * 4 is written (+ 0) or compared (+ 1)."""
    op = int(task & 3)
    state = task - uint(op) << 2
    s = ptr32(state + _STATE)
    work = uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK])
    return int(_tag(work >> 2, state >> 2, op, int(_lay_out(work >> 2, s[_KIND]))))


@micropython.viper
def _lay_out(work: uint, kind: int) -> int:
    """Put AAD and lengths where GHASH takes them from. Returns the blocks of AAD."""
    work = work << 2
    w = ptr32(work)
    text = uint(w[_TEXT + 1]) << 16 << 16 | uint(w[_TEXT])
    n = w[_TEXT_LEN]
    aad_len = w[_AAD_LEN]
    a = ptr8(text - 8 - uint(aad_len))
    if kind:  # all is AAD (RFC 4543 section 3.3), the IV in its place
        aad_len += 8
        first = aad_len + n
        second = 0
    else:
        first = aad_len
        second = n
    b = ptr8(work + _LENGTHS)
    b[6] = first >> 5
    b[7] = first << 3
    b[14] = second >> 5
    b[15] = second << 3
    b = ptr8(work + _AAD)
    i = 0
    while i < aad_len:
        b[i] = a[i]
        i += 1
    while i & 15:
        b[i] = 0
        i += 1
    return i >> 4


@micropython.viper
def _tag(work: uint, tables: uint, op: int, aad_blocks: int) -> int:
    """Write the tag, or compare it."""
    work = work << 2
    w = ptr32(work)
    text = uint(w[_TEXT + 1]) << 16 << 16 | uint(w[_TEXT])
    n = w[_TEXT_LEN]
    z = ptr8(work + _SCRATCH)
    i = 0
    while i < 16:
        z[i] = 0
        i += 1
    _ghash(work >> 2, tables, work + _AAD >> 2, aad_blocks)
    block = ptr8(work + _TAIL)
    t = ptr8(text)
    if not int(text) & 3:
        _ghash(work >> 2, tables, text >> 2, n >> 4)
        t = ptr8(text + uint(n & -16))
        n = n & 15
    # The rest block by block through one that is aligned and padded with zeros
    while n > 0:
        i = 0
        while i < 16:
            block[i] = t[i] if i < n else 0
            i += 1
        _ghash(work >> 2, tables, work + _TAIL >> 2, 1)
        t = ptr8(uint(t) + 16)
        n -= 16
    _ghash(work >> 2, tables, work + _LENGTHS >> 2, 1)

    k = ptr8(work + _KEYSTREAM)
    t = ptr8(text + uint(w[_TEXT_LEN]))
    i = 0
    if not ptr32(k)[0] | ptr32(k)[1] | ptr32(k)[2] | ptr32(k)[3]:
        return 0
    if not op:
        while i < 16:
            t[i] = z[i] ^ k[i]
            i += 1
        return 1
    differ = 0  # always all sixteen octets: no time tells where the first difference is
    while i < 16:
        differ |= z[i] ^ k[i] ^ t[i]
        i += 1
    return int(differ == 0)


@micropython.viper
def _ghash(work: uint, tables: uint, data: uint, blocks: int):
    """Take these blocks into the GHASH in the scratch. Addresses are given divided by 4."""
    t = tables << 2
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
            f = ptr32((x2 >> s & 240) + t)
            g = ptr32((x2 << 4 >> s & 240) + t)
            h = ptr32((x3 >> s & 240) + t)
            i = ptr32((x3 << 4 >> s & 240) + t)
            out = reduce[z[3] >> 24 & 255]
            v = z[3] << 8 ^ (z[2] >> 24 & 255) ^ a[3] ^ b[67] ^ c[131] ^ e[195]
            z[3] = v ^ f[259] ^ g[323] ^ h[387] ^ i[451]
            v = z[2] << 8 ^ (z[1] >> 24 & 255) ^ a[2] ^ b[66] ^ c[130] ^ e[194]
            z[2] = v ^ f[258] ^ g[322] ^ h[386] ^ i[450]
            v = z[1] << 8 ^ (z[0] >> 24 & 255) ^ a[1] ^ b[65] ^ c[129] ^ e[193]
            z[1] = v ^ f[257] ^ g[321] ^ h[385] ^ i[449]
            v = z[0] << 8 ^ out ^ a[0] ^ b[64] ^ c[128] ^ e[192]
            z[0] = v ^ f[256] ^ g[320] ^ h[384] ^ i[448]
        d = ptr32(uint(d) + 16)
        blocks -= 1
