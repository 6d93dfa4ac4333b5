"""The kernel of AES-GCM on 32-bit boards. Made by tools/gen_ghash.py: change it there."""

import micropython
from micropython import const

from covey.port.mpy_tables import KEY_LEN, fill

__all__ = ("KEY_LEN", "fill", "finish")

# The state of a key and the workspace are as mpy_gcm says.
_TABLES = const(32)
_WORK = const(1)
_KIND = const(4)
_AAD = const(528)
_TAIL = const(656)
_LENGTHS = const(672)
_SCRATCH = const(688)
_ROWS = const(720)
_KEYSTREAM = const(864)
_TEXT = const(176)  # in words, down to _HALVES
_TEXT_LEN = const(178)
_AAD_LEN = const(179)
_HALVES = const(128)


@micropython.viper
def finish(t: uint) -> int:
    """The tag: written, or compared. t: the address of the key's state / 4, plus 1 to compare.

    Keystream begins with the tag's block. 0: the tag is wrong, or that block is zero (the AES
    hardware failed). Nothing has been written then.
    """
    x = t & 3
    t = t - x << 2
    tables = t + _TABLES
    op = int(x)
    kind = ptr32(t)[_KIND]
    t = uint(ptr32(t)[_WORK])
    work = t
    aad_len = ptr32(t)[_AAD_LEN]
    n = ptr32(t)[_TEXT_LEN]
    text = uint(ptr32(t)[_TEXT])
    full = uint(n & -16) + text  # the end of the text's whole blocks
    tag = uint(n) + text
    odd = int(text) & 3  # some boards load words from aligned addresses only

    # The lengths in bits, most significant octet first; the others of the block stay zero. AAD is
    # padded with zeros. Integrity alone: all is AAD (RFC 4543 section 3.3), the IV in its place.
    m = text - 8
    x = m - uint(aad_len)
    i = aad_len
    j = n
    if kind:
        aad_len += 8
        i = aad_len + n
        j = 0
        m = text
    ptr8(t)[_LENGTHS + 6] = i >> 5
    ptr8(t)[_LENGTHS + 7] = i << 3
    ptr8(t)[_LENGTHS + 14] = j >> 5
    ptr8(t)[_LENGTHS + 15] = j << 3
    t += uint(_AAD + (aad_len & -16))
    ptr32(t)[0] = 0
    ptr32(t)[1] = 0
    ptr32(t)[2] = 0
    ptr32(t)[3] = 0
    t = work + _AAD
    if odd | int(x) & 3:
        while x != m:
            ptr8(t)[0] = ptr8(x)[0]
            x += 1
            t += 1
    else:
        while x != m:
            ptr32(t)[0] = ptr32(x)[0]
            x += 4
            t += 4
    t = work

    # What GHASH takes last: the rest of the text, padded with zeros, and the lengths
    end = t + _LENGTHS
    if full != tag:
        x = t + _TAIL
        end = x
        ptr32(x)[0] = 0
        ptr32(x)[1] = 0
        ptr32(x)[2] = 0
        ptr32(x)[3] = 0
        t = full
        if not odd:
            m = tag - uint(n & 3)
            while t != m:
                ptr32(x)[0] = ptr32(t)[0]
                x += 4
                t += 4
        while t != tag:
            ptr8(x)[0] = ptr8(t)[0]
            x += 1
            t += 1
        t = work

    reduce = ptr16(t)
    d = t + _AAD
    stop = uint(aad_len + 15 & -16) + d
    q = t + _ROWS
    m = uint(ptr32(t)[_HALVES])
    z0 = uint(0)
    z1 = uint(0)
    z2 = uint(0)
    z3 = uint(0)
    t = tables
    while True:
        if d == stop:  # on to the text, then to what comes last
            if text != full:
                if odd:
                    d = work + _SCRATCH
                    i = 0
                    while i < 16:
                        ptr8(d)[i] = ptr8(text)[i]
                        i += 1
                    text += 16
                    stop = d + 16
                else:
                    d = text
                    stop = full
                    text = full
            elif int(end):
                d = end
                stop = work + (_LENGTHS + 16)
                end = uint(0)
            else:
                break
        x = uint(ptr32(d)[0]) ^ z0
        ptr32(q)[0] = x & m
        ptr32(q)[4] = x << 4 & m
        x = uint(ptr32(d)[1]) ^ z1
        ptr32(q)[1] = x & m
        ptr32(q)[5] = x << 4 & m
        x = uint(ptr32(d)[2]) ^ z2
        ptr32(q)[2] = x & m
        ptr32(q)[6] = x << 4 & m
        x = uint(ptr32(d)[3]) ^ z3
        ptr32(q)[3] = x & m
        ptr32(q)[7] = x << 4 & m
        x = q
        h00 = ptr32(ptr8(x)[0] + int(t))
        l00 = ptr32(ptr8(x)[16] + int(t))
        h01 = ptr32(ptr8(x)[1] + int(t))
        l01 = ptr32(ptr8(x)[17] + int(t))
        h02 = ptr32(ptr8(x)[2] + int(t))
        l02 = ptr32(ptr8(x)[18] + int(t))
        h03 = ptr32(ptr8(x)[3] + int(t))
        l03 = ptr32(ptr8(x)[19] + int(t))
        h10 = ptr32(ptr8(x)[4] + int(t))
        l10 = ptr32(ptr8(x)[20] + int(t))
        h11 = ptr32(ptr8(x)[5] + int(t))
        l11 = ptr32(ptr8(x)[21] + int(t))
        h12 = ptr32(ptr8(x)[6] + int(t))
        l12 = ptr32(ptr8(x)[22] + int(t))
        h13 = ptr32(ptr8(x)[7] + int(t))
        l13 = ptr32(ptr8(x)[23] + int(t))
        h20 = ptr32(ptr8(x)[8] + int(t))
        l20 = ptr32(ptr8(x)[24] + int(t))
        h21 = ptr32(ptr8(x)[9] + int(t))
        l21 = ptr32(ptr8(x)[25] + int(t))
        h22 = ptr32(ptr8(x)[10] + int(t))
        l22 = ptr32(ptr8(x)[26] + int(t))
        h23 = ptr32(ptr8(x)[11] + int(t))
        l23 = ptr32(ptr8(x)[27] + int(t))
        h30 = ptr32(ptr8(x)[12] + int(t))
        l30 = ptr32(ptr8(x)[28] + int(t))
        h31 = ptr32(ptr8(x)[13] + int(t))
        l31 = ptr32(ptr8(x)[29] + int(t))
        h32 = ptr32(ptr8(x)[14] + int(t))
        l32 = ptr32(ptr8(x)[30] + int(t))
        h33 = ptr32(ptr8(x)[15] + int(t))
        t = uint(ptr8(x)[31] + int(t))
        x = uint(h33)
        z3 = (
            uint(ptr32(x)[387])
            ^ ptr32(t)[451]
            ^ h03[3]
            ^ l03[67]
            ^ h13[131]
            ^ l13[195]
            ^ h23[259]
            ^ l23[323]
        )
        z2 = (
            uint(ptr32(x)[386])
            ^ ptr32(t)[450]
            ^ h03[2]
            ^ l03[66]
            ^ h13[130]
            ^ l13[194]
            ^ h23[258]
            ^ l23[322]
        )
        z1 = (
            uint(ptr32(x)[385])
            ^ ptr32(t)[449]
            ^ h03[1]
            ^ l03[65]
            ^ h13[129]
            ^ l13[193]
            ^ h23[257]
            ^ l23[321]
        )
        z0 = (
            uint(ptr32(x)[384])
            ^ ptr32(t)[448]
            ^ h03[0]
            ^ l03[64]
            ^ h13[128]
            ^ l13[192]
            ^ h23[256]
            ^ l23[320]
        )
        t = uint(l32)
        r = uint(reduce[z3 >> 24])
        x = z2 >> 24
        z3 = (
            (z3 << 8)
            ^ x
            ^ h02[3]
            ^ l02[67]
            ^ h12[131]
            ^ l12[195]
            ^ h22[259]
            ^ l22[323]
            ^ h32[387]
            ^ ptr32(t)[451]
        )
        x = z1 >> 24
        z2 = (
            (z2 << 8)
            ^ x
            ^ h02[2]
            ^ l02[66]
            ^ h12[130]
            ^ l12[194]
            ^ h22[258]
            ^ l22[322]
            ^ h32[386]
            ^ ptr32(t)[450]
        )
        x = z0 >> 24
        z1 = (
            (z1 << 8)
            ^ x
            ^ h02[1]
            ^ l02[65]
            ^ h12[129]
            ^ l12[193]
            ^ h22[257]
            ^ l22[321]
            ^ h32[385]
            ^ ptr32(t)[449]
        )
        z0 = (
            (z0 << 8)
            ^ r
            ^ h02[0]
            ^ l02[64]
            ^ h12[128]
            ^ l12[192]
            ^ h22[256]
            ^ l22[320]
            ^ h32[384]
            ^ ptr32(t)[448]
        )
        t = uint(l31)
        r = uint(reduce[z3 >> 24])
        x = z2 >> 24
        z3 = (
            (z3 << 8)
            ^ x
            ^ h01[3]
            ^ l01[67]
            ^ h11[131]
            ^ l11[195]
            ^ h21[259]
            ^ l21[323]
            ^ h31[387]
            ^ ptr32(t)[451]
        )
        x = z1 >> 24
        z2 = (
            (z2 << 8)
            ^ x
            ^ h01[2]
            ^ l01[66]
            ^ h11[130]
            ^ l11[194]
            ^ h21[258]
            ^ l21[322]
            ^ h31[386]
            ^ ptr32(t)[450]
        )
        x = z0 >> 24
        z1 = (
            (z1 << 8)
            ^ x
            ^ h01[1]
            ^ l01[65]
            ^ h11[129]
            ^ l11[193]
            ^ h21[257]
            ^ l21[321]
            ^ h31[385]
            ^ ptr32(t)[449]
        )
        z0 = (
            (z0 << 8)
            ^ r
            ^ h01[0]
            ^ l01[64]
            ^ h11[128]
            ^ l11[192]
            ^ h21[256]
            ^ l21[320]
            ^ h31[384]
            ^ ptr32(t)[448]
        )
        t = uint(l30)
        r = uint(reduce[z3 >> 24])
        x = z2 >> 24
        z3 = (
            (z3 << 8)
            ^ x
            ^ h00[3]
            ^ l00[67]
            ^ h10[131]
            ^ l10[195]
            ^ h20[259]
            ^ l20[323]
            ^ h30[387]
            ^ ptr32(t)[451]
        )
        x = z1 >> 24
        z2 = (
            (z2 << 8)
            ^ x
            ^ h00[2]
            ^ l00[66]
            ^ h10[130]
            ^ l10[194]
            ^ h20[258]
            ^ l20[322]
            ^ h30[386]
            ^ ptr32(t)[450]
        )
        x = z0 >> 24
        z1 = (
            (z1 << 8)
            ^ x
            ^ h00[1]
            ^ l00[65]
            ^ h10[129]
            ^ l10[193]
            ^ h20[257]
            ^ l20[321]
            ^ h30[385]
            ^ ptr32(t)[449]
        )
        z0 = (
            (z0 << 8)
            ^ r
            ^ h00[0]
            ^ l00[64]
            ^ h10[128]
            ^ l10[192]
            ^ h20[256]
            ^ l20[320]
            ^ h30[384]
            ^ ptr32(t)[448]
        )
        t = tables
        d += 16

    # The tag
    x = work + _KEYSTREAM
    t = work + _SCRATCH
    ptr32(t)[0] = z0 ^ uint(ptr32(x)[0])
    ptr32(t)[1] = z1 ^ uint(ptr32(x)[1])
    ptr32(t)[2] = z2 ^ uint(ptr32(x)[2])
    ptr32(t)[3] = z3 ^ uint(ptr32(x)[3])
    if not ptr32(x)[0]:
        if not ptr32(x)[1] | ptr32(x)[2] | ptr32(x)[3]:
            return 0
    if not op:
        x = tag
        if int(tag) & 3:
            i = 0
            while i < 16:
                ptr8(x)[i] = ptr8(t)[i]
                i += 1
        else:
            ptr32(x)[0] = ptr32(t)[0]
            ptr32(x)[1] = ptr32(t)[1]
            ptr32(x)[2] = ptr32(t)[2]
            ptr32(x)[3] = ptr32(t)[3]
        return 1
    x = tag
    differ = 0  # always all sixteen octets: no time tells where the first difference is
    if int(tag) & 3:
        i = 0
        while i < 16:
            differ |= ptr8(t)[i] ^ ptr8(x)[i]
            i += 1
    else:
        differ = ptr32(t)[0] ^ ptr32(x)[0]
        differ |= ptr32(t)[1] ^ ptr32(x)[1]
        differ |= ptr32(t)[2] ^ ptr32(x)[2]
        differ |= ptr32(t)[3] ^ ptr32(x)[3]
    return int(differ == 0)
