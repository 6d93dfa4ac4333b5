#!/usr/bin/env python3
"""Writes lib/covey/port/mpy_ghash.py, the unrolled kernel of AES-GCM. A test compares the two.

GHASH is y = (y ^ block) * H in GF(2^128) (NIST SP 800-38D section 6.4). The product is a
López-Dahab comb of four teeth, one to each 32-bit word of y; a tooth has two tables of 16
multiples of H, for the high and the low half of an octet: 4 x 2 x 16 rows of 16 octets a key.
The rows of octet 3 of each word are added up, the sum is multiplied by x^8 (moved on by an octet),
the rows of octet 2 are added, and so on to octet 0.

What viper makes of it decides the shape. Only the first two locals live in registers (t, x). A
row's pointer from the frame and an indexed load take two instructions, XOR two more: one long sum
a word beats every loop. The offsets of rows are made a word at a time and read back as octets,
which spares shifts and masks. Words are little-endian, as the octets lie in memory: nothing is
swapped, and moving on by an octet is `<< 8` and `>> 24`. Counted on rv32imc: 924 instructions a
block, all of the loop in it.
"""

from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "lib/covey/port/mpy_ghash.py"

KERNEL = """\
\"\"\"The kernel of AES-GCM on 32-bit boards. Made by tools/gen_ghash.py: change it there.\"\"\"

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
    \"\"\"The tag: written, or compared. t: the address of the key's state / 4.

    Keystream begins with the tag's block. False: the tag is wrong, or that block is zero (the AES
    hardware failed). Nothing has been written then.
    \"\"\"
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
@BLOCK@
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
"""

WORDS = range(4)
HALVES = "hl"


def pointers():
    """Lines that turn y ^ block into pointers to 32 rows.

    The last pointer stays in the register of t, which nothing else needs until the next block.
    """
    yield "t = q"
    for tooth in WORDS:
        yield f"x = uint(ptr32(d)[{tooth}]) ^ z{tooth}"
        yield f"ptr32(t)[{tooth}] = x & m"
        yield f"ptr32(t)[{tooth + 4}] = x << 4 & m"
    yield "x = t"
    yield "t = tables"
    for octet in range(16):
        for half in HALVES:
            row = f"ptr8(x)[{octet + 16 * HALVES.index(half)}] + int(t)"
            if (octet, half) == (15, "l"):
                yield f"t = uint({row})"
            else:
                yield f"{half}{octet // 4}{octet % 4} = ptr32({row})"


def sums():
    """Lines that add up the rows, octet 3 first, and move the sum on between octets."""
    yield "x = uint(h33)"
    for word in reversed(WORDS):
        terms = [
            "ptr32(x)",
            "ptr32(t)",
            *(f"{half}{tooth}3" for tooth in range(3) for half in HALVES),
        ]
        places = [(3, "h"), (3, "l"), *((tooth, half) for tooth in range(3) for half in HALVES)]
        rows = [
            f"{term}[{index(*place, word)}]" for term, place in zip(terms, places, strict=True)
        ]
        yield f"z{word} = uint({rows[0]}) ^ " + " ^ ".join(rows[1:])
    for octet in (2, 1, 0):
        top = ">> 24"
        yield f"t = uint(l3{octet})"
        yield "r = uint(ptr16((z3 >> 23 & 510) + work)[0])"
        for word in reversed(WORDS):
            rows = [
                f"{'ptr32(t)' if (tooth, half) == (3, 'l') else f'{half}{tooth}{octet}'}"
                f"[{index(tooth, half, word)}]"
                for tooth in WORDS
                for half in HALVES
            ]
            if word:
                yield f"x = z{word - 1} {top}"
            yield f"z{word} = (z{word} << 8) ^ {'x' if word else 'r'} ^ " + " ^ ".join(rows)


def index(tooth, half, word):
    """Where this word of row 0 lies in the state, in words."""
    return (2 * tooth + HALVES.index(half)) * 64 + word


def generate():
    """The text of the file."""
    block = [" " * 12 + line + "\n" for part in (pointers(), sums()) for line in part]
    return KERNEL.replace("@BLOCK@\n", "".join(wrap(line) for line in block))


def wrap(line, width=99):
    """As ruff format breaks a sum that is too long for a line."""
    if len(line) <= width + 1:
        return line
    name, _, terms = line.strip().partition(" = ")
    first, *others = terms.split(" ^ ")
    inner = "".join(f"                ^ {term}\n" for term in others)
    return f"            {name} = (\n                {first}\n{inner}            )\n"


if __name__ == "__main__":
    TARGET.write_text(generate())
