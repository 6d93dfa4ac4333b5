"""Octets in a buffer: integers at an offset, comparison in constant time, wiping."""


def u16(buf, off):
    return buf[off] << 8 | buf[off + 1]


def u32(buf, off):
    """Cold paths only: from 2^30 on the result is a heap object on a 32-bit board."""
    return buf[off] << 24 | buf[off + 1] << 16 | buf[off + 2] << 8 | buf[off + 3]


def equal(a, b):
    """Whether two octet strings are the same, in time that depends on their lengths only."""
    if len(a) != len(b):
        return False
    diff = 0
    for i in range(len(a)):
        diff |= a[i] ^ b[i]
    return diff == 0


def wipe(buf):
    """Overwrite a bytearray with zeros: where a secret dies."""
    for i in range(len(buf)):
        buf[i] = 0
