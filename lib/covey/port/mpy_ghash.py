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
_COMPARES = const(129)
_HALVES = const(128)


@micropython.viper
def finish(t: uint) -> bool:
    """The tag: written, or compared. t: the address of the key's state / 4.

    Keystream begins with the tag's block. False: the tag is wrong, or that block is zero (the AES
    hardware failed). Nothing has been written then.
    """
    x = t << 2  # t and x live in registers: the first two that are named
    tables = x + _TABLES
    kind = ptr32(x)[_KIND]
    t = uint(ptr32(x)[_WORK])
    work = t
    aad_len = ptr32(t)[_AAD_LEN]
    n = ptr32(t)[_TEXT_LEN]
    text = uint(ptr32(t)[_TEXT])
    tag = uint(n) + text
    odd = int(text) & 3  # some boards load words from aligned addresses only
    x = text - uint(aad_len + 8)
    z0 = uint(0)
    z1 = uint(0)

    # The lengths in bits, most significant octet first; the others of the block stay zero.
    # Integrity alone: all is AAD (RFC 4543 section 3.3), the IV in its place.
    copies = odd
    i = aad_len
    if kind:
        aad_len += 8
        i = aad_len + n
        n = 0
    elif aad_len != 8:
        copies = 1
    ptr8(t)[_LENGTHS + 6] = i >> 5
    ptr8(t)[_LENGTHS + 7] = i << 3
    ptr8(t)[_LENGTHS + 14] = n >> 5
    ptr8(t)[_LENGTHS + 15] = n << 3
    if copies:  # AAD, padded with zeros
        z2 = uint(0)
        z3 = uint(0)
        t += _AAD
        d = t
        stop = uint(aad_len + 15 & -16) + t
        m = uint(aad_len) + x
        while t != stop:
            ptr8(t)[0] = 0
            if x != m:
                ptr8(t)[0] = ptr8(x)[0]
                x += 1
            t += 1
    else:  # AAD and IV are whole blocks, in front of the text's
        z2 = uint(ptr32(x)[2])  # an IV that doesn't count meets itself
        z3 = uint(ptr32(x)[3])
        if kind:
            z2 = uint(0)
            z3 = uint(0)
        d = x
        text = (tag - x & -16) + x
        stop = text

    q = work + _ROWS
    m = uint(ptr32(work)[_HALVES])
    end = work + _LENGTHS
    while True:
        while d < stop:
            t = q
            x = uint(ptr32(d)[0]) ^ z0
            ptr32(t)[0] = x & m
            ptr32(t)[4] = x << 4 & m
            x = uint(ptr32(d)[1]) ^ z1
            ptr32(t)[1] = x & m
            ptr32(t)[5] = x << 4 & m
            x = uint(ptr32(d)[2]) ^ z2
            ptr32(t)[2] = x & m
            ptr32(t)[6] = x << 4 & m
            x = uint(ptr32(d)[3]) ^ z3
            ptr32(t)[3] = x & m
            ptr32(t)[7] = x << 4 & m
            x = t
            t = tables
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
            r = uint(ptr16((z3 >> 23 & 510) + work)[0])
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
            r = uint(ptr16((z3 >> 23 & 510) + work)[0])
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
            r = uint(ptr16((z3 >> 23 & 510) + work)[0])
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
            d += 16
        x = tag - text
        if not int(x):  # the lengths come last
            if stop == end + 16:
                break
            d = end
            stop = end + 16
        elif int(x >> 4) and not odd:
            d = text
            stop = (x & -16) + text
            text = stop
        else:  # a block that is misaligned, or the rest of the text, padded with zeros
            t = end - 16
            d = t
            stop = end
            if odd:
                i = 0
                while i < 16:
                    ptr8(t)[i] = ptr8(text)[i]
                    i += 1
            else:
                ptr32(t)[0] = ptr32(text)[0]
                ptr32(t)[1] = ptr32(text)[1]
                ptr32(t)[2] = ptr32(text)[2]
                ptr32(t)[3] = ptr32(text)[3]
            text += 16
            while not int(x >> 4):
                ptr8(t + x)[0] = 0
                text = tag
                x += 1

    # The tag
    x = work + _KEYSTREAM
    if not ptr32(x)[0]:
        if not ptr32(x)[1] | ptr32(x)[2] | ptr32(x)[3]:
            return False
    z0 = z0 ^ uint(ptr32(x)[0])
    z1 = z1 ^ uint(ptr32(x)[1])
    z2 = z2 ^ uint(ptr32(x)[2])
    z3 = z3 ^ uint(ptr32(x)[3])
    x = tag
    t = x
    if odd:
        t = work + _SCRATCH
        i = 16
        while i:
            i -= 1
            ptr8(t)[i] = ptr8(x)[i]
    if ptr32(work)[_COMPARES]:
        # Always all sixteen octets: no time tells where the first difference is.
        z0 = z0 ^ uint(ptr32(t)[0])
        z0 |= z1 ^ uint(ptr32(t)[1])
        z0 |= z2 ^ uint(ptr32(t)[2])
        z0 |= z3 ^ uint(ptr32(t)[3])
        return int(z0) == 0
    ptr32(t)[0] = z0
    ptr32(t)[1] = z1
    ptr32(t)[2] = z2
    ptr32(t)[3] = z3
    i = 16
    while odd and i:
        i -= 1
        ptr8(x)[i] = ptr8(t)[i]
    return True
