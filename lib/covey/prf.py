"""PRF_HMAC_SHA2_256 (RFC 2104, RFC 4868) and the prf+ that stretches it (RFC 7296 section 2.13).

Written out plainly: MicroPython has no hmac module and its hashes have no copy().
"""

from covey.octets import wipe
from covey.port import const, sha256

_BLOCK_LEN = const(64)  # octets that SHA-256 works on at a time
_INNER = const(0x36)
_OUTER = const(0x5C)
PRF_LEN = 32  # octets of output, and the preferred key length


def prf(key, *chunks):
    """HMAC-SHA-256 of the chunks, one after the other, under a key of any length: 32 octets."""
    if len(key) > _BLOCK_LEN:
        key = sha256(key).digest()
    pad = bytearray(_BLOCK_LEN)
    pad[: len(key)] = key
    for i in range(_BLOCK_LEN):
        pad[i] ^= _INNER
    inner = sha256(pad)
    for chunk in chunks:
        inner.update(chunk)
    for i in range(_BLOCK_LEN):
        pad[i] ^= _INNER ^ _OUTER
    outer = sha256(pad)
    wipe(pad)
    outer.update(inner.digest())
    return outer.digest()


def prf_plus(key, seed, n):
    """n octets of T1 | T2 | …, where T1 = prf(key, seed | 1), T2 = prf(key, T1 | seed | 2), …

    The caller owns the bytearray and wipes it. ValueError beyond 255 blocks, where RFC 7296 ends.
    """
    if n > 255 * PRF_LEN:
        raise ValueError("prf+ yields no more than 8160 octets")
    out = bytearray(n)
    block = b""
    for off in range(0, n, PRF_LEN):
        block = prf(key, block, seed, bytes((off // PRF_LEN + 1,)))
        part = min(PRF_LEN, n - off)
        out[off : off + part] = block[:part]
    return out
