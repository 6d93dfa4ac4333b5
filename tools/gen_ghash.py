#!/usr/bin/env python3
"""Writes the kernels of AES-GCM: lib/covey/port/mpy_ghash.py, unrolled, and mpy_looped.py, which
calls a GHASH beside it. A test compares what is there.

GHASH is y = (y ^ block) * H in GF(2^128) (NIST SP 800-38D section 6.4). The product is a
López-Dahab comb of four teeth, one to each 32-bit word of y; a tooth has two tables of 16
multiples of H, for the high and the low half of an octet: 4 x 2 x 16 rows of 16 octets a key.
The rows of octet 3 of each word are added up, the sum is multiplied by x^8 (moved on by an octet),
the rows of octet 2 are added, and so on to octet 0.

What viper makes of it decides the shape. Only the first two locals live in registers (k, d). A
row's pointer from the frame and an indexed load take two instructions, XOR two more: one long sum
a word beats every loop. The offsets of rows are made a word at a time and read back as octets,
which spares shifts and masks. Words are little-endian, as the octets lie in memory: nothing is
swapped, and moving on by an octet is `<< 8` and `>> 24`. Counted on rv32imc: 928 instructions a
block, all of the loop in it. A function of its own for GHASH would cost some 250 a packet, so the
rest stands around it.
"""

from pathlib import Path

PORT = Path(__file__).resolve().parent.parent / "lib/covey/port"

UNROLLED = '''\
"""The kernel of AES-GCM on 32-bit boards. Made by tools/gen_ghash.py: change it there."""

import micropython
from micropython import const

from covey.port.mpy_tables import KEY_LEN, fill

__all__ = ("KEY_LEN", "crypt", "fill", "others")

others = ()  # functions that crypt() wants in front of its parts
'''

LOOPED = '''\
"""The kernel of AES-GCM around any GHASH. Made by tools/gen_ghash.py: change it there.

ghash(work, key, data, blocks): z = (z ^ block) * H for each block; z lies in the workspace, from
_SCRATCH on. All three are addresses / 4, key's that of what the kernel's fill() has made.
"""

import micropython
from micropython import const

__all__ = ("crypt",)
'''

KERNEL = '''
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
    @OTHERS@encrypt, cipher, views, view, where = parts
    s = ptr32(int(where) << 2)
    if (
        uint(s[_LIMIT]) <= uint(text_len)
        or uint(s[_MOST_AAD]) < uint(aad_len)
        or (aad_len ^ 8) & s[_KIND]
    ):
        views[0](0)
    work = @WORK@
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
@CLEAR@
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
            @Z2@ = @IV@(iv_0)  # the IV doesn't count: it meets itself
            @Z3@ = @IV@(iv_1)
            a = d
            text = (tag - d & -16) + d
            stop = text
        end = work + _LENGTHS
@PREPARE@
        while True:
@BLOCKS@
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
@SUM@
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
'''

FAST = {
    "OTHERS": "",
    "WORK": "uint(s[_WORK])",
    "CLEAR": "".join(f"        z{word} = uint(0)\n" for word in range(4)),
    "Z2": "z2",
    "Z3": "z3",
    "IV": "uint",
    "PREPARE": """\
        tables = uint(s) + _TABLES
        q = work + _ROWS
        m = uint(ptr32(work)[_HALVES])
""",
    "SUM": "".join(f"        z{word} = z{word} ^ uint(ptr32(k)[{word}])\n" for word in range(4)),
}
ANY = {
    "OTHERS": "ghash, ",
    "WORK": "uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK])",
    "CLEAR": "        z = ptr32(work + _SCRATCH)\n"
    + "".join(f"        z[{word}] = 0\n" for word in range(4)),
    "Z2": "z[2]",
    "Z3": "z[3]",
    "IV": "int",
    "PREPARE": "        key = uint(s) + _TABLES >> 2\n",
    "BLOCKS": """\
            if a < stop:
                ghash(work >> 2, key, a >> 2, int(stop - a) >> 4)
""",
    "SUM": "".join(
        f"        z{word} = uint(z[{word}]) ^ uint(ptr32(k)[{word}])\n" for word in range(4)
    ),
}

WORDS = range(4)
HALVES = "hl"
REACH = 256  # words: mpy-cross for Xtensa makes loads from further on that read anywhere


def pointers():
    """Lines that turn y ^ block into pointers to 32 rows.

    The last pointer stays in the register of k, which nothing else needs until the next block.
    """
    yield "k = ptr8(q)"
    for tooth in WORDS:
        yield f"d = uint(ptr32(a)[{tooth}]) ^ z{tooth}"
        yield f"ptr32(k)[{tooth}] = d & m"
        yield f"ptr32(k)[{tooth + 4}] = d << 4 & m"
    yield "d = uint(k)"
    yield "k = ptr8(tables)"
    for octet in range(16):
        if octet == 8:
            yield f"k = ptr8(uint(k) + {4 * REACH})"
        for half in HALVES:
            row = f"(ptr8(d)[{octet + 16 * HALVES.index(half)}] + int(k))"
            if (octet, half) == (15, "l"):
                yield f"k = ptr8{row}"
            else:
                yield f"{half}{octet // 4}{octet % 4} = ptr32{row}"


def sums():
    """Lines that add up the rows, octet 3 first, and move the sum on between octets."""
    yield "d = uint(h33)"
    for word in reversed(WORDS):
        terms = [
            "ptr32(d)",
            "ptr32(k)",
            *(f"{half}{tooth}3" for tooth in range(3) for half in HALVES),
        ]
        places = [(3, "h"), (3, "l"), *((tooth, half) for tooth in range(3) for half in HALVES)]
        rows = [
            f"{term}[{index(*place, word)}]" for term, place in zip(terms, places, strict=True)
        ]
        yield f"z{word} = uint({rows[0]}) ^ " + " ^ ".join(rows[1:])
    for octet in (2, 1, 0):
        yield f"k = ptr8(l3{octet})"
        yield "r = uint(ptr16((z3 >> 23 & 510) + work)[0])"
        for word in reversed(WORDS):
            rows = [
                f"{'ptr32(k)' if (tooth, half) == (3, 'l') else f'{half}{tooth}{octet}'}"
                f"[{index(tooth, half, word)}]"
                for tooth in WORDS
                for half in HALVES
            ]
            if word:
                yield f"d = z{word - 1} >> 24"
            yield f"z{word} = (z{word} << 8) ^ {'d' if word else 'r'} ^ " + " ^ ".join(rows)


def index(tooth, half, word):
    """Where this word of row 0 lies behind the first row of its half of the teeth, in words."""
    return ((2 * tooth + HALVES.index(half)) * 64 + word) % REACH


def unrolled():
    """Lines for all blocks from a to stop."""
    yield "            while a < stop:\n"
    for part in (pointers(), sums()):
        for line in part:
            yield wrap(" " * 16 + line + "\n")
    yield "                a += 16\n"


def generate():
    """The texts of the files, by name."""
    return {
        "mpy_ghash.py": UNROLLED + filled(FAST | {"BLOCKS": "".join(unrolled())}, ()),
        "mpy_crypt.py": LOOPED + filled(ANY, ("_HALVES", "_ROWS")),
    }


def filled(parts, unused):
    """The kernel with these parts, without the constants that it doesn't use then."""
    text = KERNEL
    for name, part in parts.items():
        text = text.replace(f"@{name}@" + "\n" * part.endswith("\n"), part)
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(unused)) if unused else text


def wrap(line, width=99):
    """As ruff format breaks a sum that is too long for a line."""
    if len(line) <= width + 1:
        return line
    name, _, terms = line.strip().partition(" = ")
    first, *others = terms.split(" ^ ")
    inner = "".join(f"                    ^ {term}\n" for term in others)
    return f"                {name} = (\n                    {first}\n{inner}                )\n"


if __name__ == "__main__":
    for name, text in generate().items():
        (PORT / name).write_text(text)
