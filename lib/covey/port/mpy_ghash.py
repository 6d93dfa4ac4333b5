"""The kernel of AES-GCM on 32-bit boards. Made by tools/gen_ghash.py: change it there."""

import micropython
from micropython import const

from covey.port.mpy_tables import KEY_LEN, fill

__all__ = ("KEY_LEN", "crypt", "fill", "others")

others = ()  # functions that crypt() wants in front of its parts

# The state of a key, the workspace, and what crypt() does are as mpy_gcm says.
_SALT = const(0)
_WORK = const(1)
_LIMIT = const(3)
_KIND = const(4)
_MOST_AAD = const(5)
_TABLES = const(32)

_HALVES = const(128)  # in words
_AAD = const(528)
_LENGTHS = const(672)
_SCRATCH = const(688)
_ROWS = const(720)
_KEYSTREAM = const(864)

_AT_ONCE = const(18)

_VERIFY = const(2)
_FROM = const(32)


@micropython.viper
def crypt(k: ptr8, d: uint, aad_len: int, text_len: int, parts, op: int) -> bool:
    """Seal or open what lies in buffer k from d on, or do a part of that: see mpy_gcm. False: the
    tag is wrong, or AES gave zeros, for which sealing raises OSError. As the first two, k and d
    live in registers.
    """
    encrypt, cipher, views, view, where = parts
    s = ptr32(int(where) << 2)
    if (
        uint(s[_LIMIT]) <= uint(text_len)
        or uint(s[_MOST_AAD]) < uint(aad_len)
        or (aad_len ^ 8) & s[_KIND]
    ):
        views[0](0)
    work = uint(s[_WORK])
    d += uint(k) + uint(aad_len)
    tag = d + uint(text_len + 8)
    k = ptr8(d)
    odd = int(d) & 3  # some boards load words from aligned addresses only
    if odd:
        k = ptr8(work + _SCRATCH)
        i = 8
        while i:
            i -= 1
            k[i] = ptr8(d)[i]
    iv_0 = ptr32(k)[0]
    iv_1 = ptr32(k)[1]
    d += 8
    rest = text_len
    if s[_KIND]:
        rest = 0  # nothing to encrypt
    left = rest
    head = 16  # octets of keystream before the text's: the tag's block
    number = 1  # of the next block
    if op:  # the tag first
        left = 0
        if op == _VERIFY:
            rest = 0
        if op >= _FROM:
            head = 0
            number = op >> 4
            d += uint(op - _FROM)
            left = rest - op + _FROM
    while True:
        left += head
        n = left + 15 >> 4
        i = number << 24  # most significant octet first
        if number + n > _AT_ONCE + 1:  # long, or not the first: no further than to a multiple of
            i |= number >> 8 << 16  # 16, so that the other octets of the number stay
            stop = uint(16 - (number & 15))
            if uint(n) > stop:
                n = int(stop)
        number += n
        k = ptr8(work + _KEYSTREAM)
        stop = uint(k) + uint(n << 4)
        while uint(k) < stop:
            ptr32(k)[0] = s[_SALT]
            ptr32(k)[1] = iv_0
            ptr32(k)[2] = iv_1
            ptr32(k)[3] = i
            i += 1 << 24
            k = ptr8(uint(k) + 16)
        if n > 1:  # one block: with the first of a longer view, if there was a longer one
            view = views[n]
        encrypt(cipher, view, view)

        # The guard: no block of the keystream may be zero, or clear text would be on the air.
        stop = work + _KEYSTREAM
        while uint(k) > stop:
            k = ptr8(uint(k) - 16)
            if not ptr32(k)[0]:
                if not ptr32(k)[1] | ptr32(k)[2] | ptr32(k)[3]:
                    if op:
                        return False
                    views[0](1)

        # text ^= keystream
        n <<= 4
        if n > left:
            n = left
        left -= n
        n -= head
        k = ptr8(uint(k) + uint(head))
        if not odd:
            stop = d + uint(n & -16)
            n &= 15
            while d < stop:
                ptr32(d)[0] = ptr32(k)[0] ^ ptr32(d)[0]
                ptr32(d)[1] = ptr32(k)[1] ^ ptr32(d)[1]
                ptr32(d)[2] = ptr32(k)[2] ^ ptr32(d)[2]
                ptr32(d)[3] = ptr32(k)[3] ^ ptr32(d)[3]
                k = ptr8(uint(k) + 16)
                d += 16
        while n:
            ptr8(d)[0] = k[0] ^ ptr8(d)[0]
            k = ptr8(uint(k) + 1)
            d += 1
            n -= 1
        if left:
            head = 0
            continue
        if not head:
            if op:
                return True
            head = 16  # a long text is sealed: the tag's block once more
            number = 1
            continue

        # The lengths in bits, most significant octet first; the others of the block stay zero.
        # Integrity alone: all is AAD (RFC 4543 section 3.3), the IV in its place.
        k = ptr8(work + _LENGTHS)
        d = tag - uint(text_len + 8 + aad_len)
        n = text_len
        i = aad_len
        if s[_KIND]:
            aad_len += 8
            i = aad_len + n
            n = 0
        k[6] = i >> 5
        k[7] = i << 3
        k[14] = n >> 5
        k[15] = n << 3
        z0 = uint(0)
        z1 = uint(0)
        z2 = uint(0)
        z3 = uint(0)
        if odd or aad_len != 8:  # AAD, padded with zeros
            a = work + _AAD
            k = ptr8(a)
            stop = uint(aad_len + 15 & -16) + a
            while uint(k) < stop:
                k[0] = 0
                if aad_len:
                    k[0] = ptr8(d)[0]
                    d += 1
                    aad_len -= 1
                k = ptr8(uint(k) + 1)
            text = tag - uint(text_len)
        else:  # AAD and IV are a whole block, in front of the text's
            z2 = uint(iv_0)  # the IV doesn't count: it meets itself
            z3 = uint(iv_1)
            a = d
            text = (tag - d & -16) + d
            stop = text
        end = work + _LENGTHS
        tables = uint(s) + _TABLES
        q = work + _ROWS
        m = uint(ptr32(work)[_HALVES])
        while True:
            while a < stop:
                k = ptr8(q)
                d = uint(ptr32(a)[0]) ^ z0
                ptr32(k)[0] = d & m
                ptr32(k)[4] = d << 4 & m
                d = uint(ptr32(a)[1]) ^ z1
                ptr32(k)[1] = d & m
                ptr32(k)[5] = d << 4 & m
                d = uint(ptr32(a)[2]) ^ z2
                ptr32(k)[2] = d & m
                ptr32(k)[6] = d << 4 & m
                d = uint(ptr32(a)[3]) ^ z3
                ptr32(k)[3] = d & m
                ptr32(k)[7] = d << 4 & m
                d = uint(k)
                k = ptr8(tables)
                h00 = ptr32(ptr8(d)[0] + int(k))
                l00 = ptr32(ptr8(d)[16] + int(k))
                h01 = ptr32(ptr8(d)[1] + int(k))
                l01 = ptr32(ptr8(d)[17] + int(k))
                h02 = ptr32(ptr8(d)[2] + int(k))
                l02 = ptr32(ptr8(d)[18] + int(k))
                h03 = ptr32(ptr8(d)[3] + int(k))
                l03 = ptr32(ptr8(d)[19] + int(k))
                h10 = ptr32(ptr8(d)[4] + int(k))
                l10 = ptr32(ptr8(d)[20] + int(k))
                h11 = ptr32(ptr8(d)[5] + int(k))
                l11 = ptr32(ptr8(d)[21] + int(k))
                h12 = ptr32(ptr8(d)[6] + int(k))
                l12 = ptr32(ptr8(d)[22] + int(k))
                h13 = ptr32(ptr8(d)[7] + int(k))
                l13 = ptr32(ptr8(d)[23] + int(k))
                k = ptr8(uint(k) + 1024)
                h20 = ptr32(ptr8(d)[8] + int(k))
                l20 = ptr32(ptr8(d)[24] + int(k))
                h21 = ptr32(ptr8(d)[9] + int(k))
                l21 = ptr32(ptr8(d)[25] + int(k))
                h22 = ptr32(ptr8(d)[10] + int(k))
                l22 = ptr32(ptr8(d)[26] + int(k))
                h23 = ptr32(ptr8(d)[11] + int(k))
                l23 = ptr32(ptr8(d)[27] + int(k))
                h30 = ptr32(ptr8(d)[12] + int(k))
                l30 = ptr32(ptr8(d)[28] + int(k))
                h31 = ptr32(ptr8(d)[13] + int(k))
                l31 = ptr32(ptr8(d)[29] + int(k))
                h32 = ptr32(ptr8(d)[14] + int(k))
                l32 = ptr32(ptr8(d)[30] + int(k))
                h33 = ptr32(ptr8(d)[15] + int(k))
                k = ptr8(ptr8(d)[31] + int(k))
                d = uint(h33)
                z3 = (
                    uint(ptr32(d)[131])
                    ^ ptr32(k)[195]
                    ^ h03[3]
                    ^ l03[67]
                    ^ h13[131]
                    ^ l13[195]
                    ^ h23[3]
                    ^ l23[67]
                )
                z2 = (
                    uint(ptr32(d)[130])
                    ^ ptr32(k)[194]
                    ^ h03[2]
                    ^ l03[66]
                    ^ h13[130]
                    ^ l13[194]
                    ^ h23[2]
                    ^ l23[66]
                )
                z1 = (
                    uint(ptr32(d)[129])
                    ^ ptr32(k)[193]
                    ^ h03[1]
                    ^ l03[65]
                    ^ h13[129]
                    ^ l13[193]
                    ^ h23[1]
                    ^ l23[65]
                )
                z0 = (
                    uint(ptr32(d)[128])
                    ^ ptr32(k)[192]
                    ^ h03[0]
                    ^ l03[64]
                    ^ h13[128]
                    ^ l13[192]
                    ^ h23[0]
                    ^ l23[64]
                )
                k = ptr8(l32)
                r = uint(ptr16((z3 >> 23 & 510) + work)[0])
                d = z2 >> 24
                z3 = (
                    (z3 << 8)
                    ^ d
                    ^ h02[3]
                    ^ l02[67]
                    ^ h12[131]
                    ^ l12[195]
                    ^ h22[3]
                    ^ l22[67]
                    ^ h32[131]
                    ^ ptr32(k)[195]
                )
                d = z1 >> 24
                z2 = (
                    (z2 << 8)
                    ^ d
                    ^ h02[2]
                    ^ l02[66]
                    ^ h12[130]
                    ^ l12[194]
                    ^ h22[2]
                    ^ l22[66]
                    ^ h32[130]
                    ^ ptr32(k)[194]
                )
                d = z0 >> 24
                z1 = (
                    (z1 << 8)
                    ^ d
                    ^ h02[1]
                    ^ l02[65]
                    ^ h12[129]
                    ^ l12[193]
                    ^ h22[1]
                    ^ l22[65]
                    ^ h32[129]
                    ^ ptr32(k)[193]
                )
                z0 = (
                    (z0 << 8)
                    ^ r
                    ^ h02[0]
                    ^ l02[64]
                    ^ h12[128]
                    ^ l12[192]
                    ^ h22[0]
                    ^ l22[64]
                    ^ h32[128]
                    ^ ptr32(k)[192]
                )
                k = ptr8(l31)
                r = uint(ptr16((z3 >> 23 & 510) + work)[0])
                d = z2 >> 24
                z3 = (
                    (z3 << 8)
                    ^ d
                    ^ h01[3]
                    ^ l01[67]
                    ^ h11[131]
                    ^ l11[195]
                    ^ h21[3]
                    ^ l21[67]
                    ^ h31[131]
                    ^ ptr32(k)[195]
                )
                d = z1 >> 24
                z2 = (
                    (z2 << 8)
                    ^ d
                    ^ h01[2]
                    ^ l01[66]
                    ^ h11[130]
                    ^ l11[194]
                    ^ h21[2]
                    ^ l21[66]
                    ^ h31[130]
                    ^ ptr32(k)[194]
                )
                d = z0 >> 24
                z1 = (
                    (z1 << 8)
                    ^ d
                    ^ h01[1]
                    ^ l01[65]
                    ^ h11[129]
                    ^ l11[193]
                    ^ h21[1]
                    ^ l21[65]
                    ^ h31[129]
                    ^ ptr32(k)[193]
                )
                z0 = (
                    (z0 << 8)
                    ^ r
                    ^ h01[0]
                    ^ l01[64]
                    ^ h11[128]
                    ^ l11[192]
                    ^ h21[0]
                    ^ l21[64]
                    ^ h31[128]
                    ^ ptr32(k)[192]
                )
                k = ptr8(l30)
                r = uint(ptr16((z3 >> 23 & 510) + work)[0])
                d = z2 >> 24
                z3 = (
                    (z3 << 8)
                    ^ d
                    ^ h00[3]
                    ^ l00[67]
                    ^ h10[131]
                    ^ l10[195]
                    ^ h20[3]
                    ^ l20[67]
                    ^ h30[131]
                    ^ ptr32(k)[195]
                )
                d = z1 >> 24
                z2 = (
                    (z2 << 8)
                    ^ d
                    ^ h00[2]
                    ^ l00[66]
                    ^ h10[130]
                    ^ l10[194]
                    ^ h20[2]
                    ^ l20[66]
                    ^ h30[130]
                    ^ ptr32(k)[194]
                )
                d = z0 >> 24
                z1 = (
                    (z1 << 8)
                    ^ d
                    ^ h00[1]
                    ^ l00[65]
                    ^ h10[129]
                    ^ l10[193]
                    ^ h20[1]
                    ^ l20[65]
                    ^ h30[129]
                    ^ ptr32(k)[193]
                )
                z0 = (
                    (z0 << 8)
                    ^ r
                    ^ h00[0]
                    ^ l00[64]
                    ^ h10[128]
                    ^ l10[192]
                    ^ h20[0]
                    ^ l20[64]
                    ^ h30[128]
                    ^ ptr32(k)[192]
                )
                a += 16
            d = tag - text
            if not int(d):  # the lengths come last
                if stop == end + 16:
                    break
                a = end
                stop = end + 16
            elif int(d >> 4) and not odd:
                a = text
                stop = (d & -16) + text
                text = stop
            else:  # a block that is misaligned, or the rest of the text, padded with zeros
                a = end - 16
                stop = end
                k = ptr8(a)
                if odd:
                    i = 16
                    while i:
                        i -= 1
                        k[i] = ptr8(text)[i]
                else:
                    ptr32(k)[0] = ptr32(text)[0]
                    ptr32(k)[1] = ptr32(text)[1]
                    ptr32(k)[2] = ptr32(text)[2]
                    ptr32(k)[3] = ptr32(text)[3]
                text += 16
                while not int(d >> 4):
                    k[int(d)] = 0
                    text = tag
                    d += 1

        k = ptr8(work + _KEYSTREAM)
        z0 = z0 ^ uint(ptr32(k)[0])
        z1 = z1 ^ uint(ptr32(k)[1])
        z2 = z2 ^ uint(ptr32(k)[2])
        z3 = z3 ^ uint(ptr32(k)[3])
        k = ptr8(tag)
        n = int(tag) & 3  # behind a text of any length
        d = work + _SCRATCH
        i = 16
        while n and i:
            i -= 1
            ptr8(d)[i] = k[i]
        if n:
            k = ptr8(d)
        if op:
            # Always all sixteen octets: no time tells where the first difference is.
            z0 = z0 ^ uint(ptr32(k)[0]) | z1 ^ uint(ptr32(k)[1])
            z0 |= z2 ^ uint(ptr32(k)[2]) | z3 ^ uint(ptr32(k)[3])
            if int(z0):
                return False
            if not rest:
                return True
            d = tag - uint(text_len)
            left = rest
            head = 0
        else:
            ptr32(k)[0] = z0
            ptr32(k)[1] = z1
            ptr32(k)[2] = z2
            ptr32(k)[3] = z3
            i = 16
            while n and i:
                i -= 1
                ptr8(tag)[i] = k[i]
            return True
