"""Of packets whose proof comes later (covey.waiting), in viper. No heap.

A head is the first 12 octets of a packet: SPI, number, Sender-ID (2), and two that don't matter.
"""

import micropython
from micropython import const

_HEAD = const(12)
_REFUSED = const(3)


@micropython.viper
def copy(out: ptr8, at: int, octets: ptr8, off: int, n: int):
    out = ptr8(uint(out) + uint(at))
    octets = ptr8(uint(octets) + uint(off))
    i = 0
    if int(uint(out) | uint(octets)) & 3 == 0:
        words = n >> 2
        p = ptr32(octets)
        q = ptr32(out)
        while i < words:
            q[i] = p[i]
            i += 1
        i <<= 2
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


@micropython.viper
def number_at(buf: ptr8, at: int) -> int:
    buf = ptr8(uint(buf) + uint(at))
    return (buf[0] & 0x7F) << 24 | buf[1] << 16 | buf[2] << 8 | buf[3]


@micropython.viper
def scan(states: ptr8, heads: ptr32, n: int, rx: ptr32) -> int:
    found = 0
    free = ptr32(0)
    number = rx[1]
    i = 0
    while i < n:
        state = states[i]
        if state == 0:
            found = found & 0x10000 | i + 1
            free = heads
        elif state != _REFUSED:
            if heads[1] == number:
                if heads[0] == rx[0]:
                    if (heads[2] ^ rx[2]) & 0xFFFF == 0:
                        found |= 0x10000
        heads = ptr32(uint(heads) + _HEAD)
        i += 1
    if int(uint(free)):
        free[0] = rx[0]
        free[1] = number
        free[2] = rx[2]
    return found


@micropython.viper
def first_told(states: ptr8, n: int, after: int) -> int:
    i = n
    while i:
        after += 1
        if after >= n:
            after = 0
        if states[after] > 1:
            return after
        i -= 1
    return -1
