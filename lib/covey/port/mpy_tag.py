"""AES-GCM's tag in loops, around any ghash(): what mpy_ghash has unrolled.

    ghash(work, key, data, blocks)    take these blocks into the GHASH in the scratch

Addresses are given divided by 4. key: where fill() has put what ghash() needs.
"""

import micropython
from micropython import const

# The state of a key and the workspace are as mpy_gcm says.
_TABLES = const(32)
_WORK = const(1)
_KIND = const(4)
_AAD = const(528)
_TAIL = const(656)
_LENGTHS = const(672)
_SCRATCH = const(688)
_TEXT = const(176)  # these three in words
_TEXT_LEN = const(178)
_AAD_LEN = const(179)
_COMPARES = const(129)
_KEYSTREAM = const(864)


@micropython.viper
def tag(task: uint, ghash) -> int:
    """See mpy_ghash: the tag of the key at task * 4."""
    s = ptr32(task << 2)
    work = uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK])
    key = uint(s) + _TABLES >> 2
    blocks = int(_lay_out(work >> 2, s[_KIND]))
    w = ptr32(work)
    z = ptr8(work + _SCRATCH)
    i = 0
    while i < 16:
        z[i] = 0
        i += 1
    ghash(work >> 2, key, work + _AAD >> 2, blocks)
    text = uint(w[_TEXT + 1]) << 16 << 16 | uint(w[_TEXT])
    n = w[_TEXT_LEN]
    block = ptr8(work + _TAIL)
    t = ptr8(text)
    if not int(text) & 3:
        if n >> 4:
            ghash(work >> 2, key, text >> 2, n >> 4)
        t = ptr8(text + uint(n & -16))
        n = n & 15
    # The rest block by block through one that is aligned and padded with zeros
    while n > 0:
        i = 0
        while i < 16:
            block[i] = t[i] if i < n else 0
            i += 1
        ghash(work >> 2, key, work + _TAIL >> 2, 1)
        t = ptr8(uint(t) + 16)
        n -= 16
    ghash(work >> 2, key, work + _LENGTHS >> 2, 1)

    k = ptr8(work + _KEYSTREAM)
    t = ptr8(text + uint(w[_TEXT_LEN]))
    i = 0
    if not ptr32(k)[0] | ptr32(k)[1] | ptr32(k)[2] | ptr32(k)[3]:
        return 0
    if not w[_COMPARES]:
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
