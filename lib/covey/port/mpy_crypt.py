"""The kernel of AES-GCM around any GHASH. Made by tools/gen_ghash.py: change it there.

ghash(work, key, data, blocks): z = (z ^ block) * H for each block; z lies in the workspace, from
_SCRATCH on. All three are addresses / 4, key's that of what the kernel's fill() has made.
"""

import micropython
from micropython import const

__all__ = ("crypt",)

# The state of a key, the workspace, and what crypt() does are as mpy_gcm says.
_SALT = const(0)
_WORK = const(1)
_LIMIT = const(3)
_KIND = const(4)
_MOST_AAD = const(5)
_TABLES = const(32)

_AAD = const(528)
_LENGTHS = const(672)
_SCRATCH = const(688)
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
    ghash, encrypt, cipher, views, view, where = parts
    s = ptr32(int(where) << 2)
    if (
        uint(s[_LIMIT]) <= uint(text_len)
        or uint(s[_MOST_AAD]) < uint(aad_len)
        or (aad_len ^ 8) & s[_KIND]
    ):
        views[0](0)
    work = uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK])
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
        z = ptr32(work + _SCRATCH)
        z[0] = 0
        z[1] = 0
        z[2] = 0
        z[3] = 0
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
            z[2] = int(iv_0)  # the IV doesn't count: it meets itself
            z[3] = int(iv_1)
            a = d
            text = (tag - d & -16) + d
            stop = text
        end = work + _LENGTHS
        key = uint(s) + _TABLES >> 2
        while True:
            if a < stop:
                ghash(work >> 2, key, a >> 2, int(stop - a) >> 4)
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
        z0 = uint(z[0]) ^ uint(ptr32(k)[0])
        z1 = uint(z[1]) ^ uint(ptr32(k)[1])
        z2 = uint(z[2]) ^ uint(ptr32(k)[2])
        z3 = uint(z[3]) ^ uint(ptr32(k)[3])
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
