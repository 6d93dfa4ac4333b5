"""PRF_HMAC_SHA2_256 (RFC 2104, RFC 4868) and the prf+ that stretches it (RFC 7296 section 2.13).

Written out plainly: MicroPython has no hmac module and its hashes have no copy(). The key is
padded as an integer, a sixth of what a loop over 64 octets takes there; what passes through
integers cannot be wiped, which docs/threat-model.md counts in.
"""

from covey.job import finish
from covey.port import const, sha256

PRF_LEN = 32  # octets of output, and the preferred key length

_BLOCK_LEN = const(64)  # octets that SHA-256 works on at a time
_INNER = int.from_bytes(b"\x36" * 64, "little")
_OUTER = int.from_bytes(b"\x5c" * 64, "little")


def prf(key, *chunks):
    """HMAC-SHA-256 of the chunks, one after the other, under a key of any length: 32 octets."""
    if len(key) > _BLOCK_LEN:
        key = sha256(key).digest()
    padded = int.from_bytes(key, "little")
    for pad in (_INNER, _OUTER):
        digest = sha256((padded ^ pad).to_bytes(_BLOCK_LEN, "little"))
        for chunk in chunks:
            digest.update(chunk)
        chunks = (digest.digest(),)  # of which the outer one is made
    return chunks[0]


def prf_plus(key, seed, n):
    """n octets of T1 | T2 | …, where T1 = prf(key, seed | 1), T2 = prf(key, T1 | seed | 2), …

    The caller owns the bytearray and wipes it. ValueError beyond 255 blocks, where RFC 7296 ends.
    """
    out = bytearray(n)
    finish(fill(out, key, seed))
    return out


def fill(out, key, seed):
    """Job, a step for each block: as much of prf+ as there is room for."""
    block = b""
    for off in range(0, len(out), PRF_LEN):
        yield
        block = prf(key, block, seed, bytes((off // PRF_LEN + 1,)))  # 256 is no octet
        out[off : off + PRF_LEN] = block[: len(out) - off]
