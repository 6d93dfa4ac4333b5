"""Octets from one buffer to another, and whether they are the same, in viper. No heap."""

import micropython


@micropython.viper
def copy(out: ptr8, at: int, octets: ptr8, off: int, n: int):
    out = ptr8(uint(out) + uint(at))
    octets = ptr8(uint(octets) + uint(off))
    i = 0
    while i < n:
        out[i] = octets[i]
        i += 1


@micropython.viper
def is_same(a: ptr8, b: ptr8, n: int) -> bool:
    i = 0
    while i < n:
        if a[i] != b[i]:
            return False
        i += 1
    return True
