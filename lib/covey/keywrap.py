"""AES key wrap with padding, RFC 5649 (over the wrapping of RFC 3394).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                   0xA65959A6 (the check value)                |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           Message Length Indicator (octets of key)            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |              key, then 0 to 7 octets of zero                  |

These octets are enciphered as one: by a single AES block where the key fits in eight octets, else
by six passes of RFC 3394 over the key's eight-octet halves.
"""

from covey.job import finish
from covey.octets import wipe
from covey.port import AESBlock, const

_CHECK = b"\xa6\x59\x59\xa6"
_HALF = const(8)  # RFC 3394's semiblock
_PASSES = const(6)
_MAX_LEN = const(4096)  # of a key: far beyond any, and the step number fits in two octets


def unwrap_job(kek, wrapped, key_len=None):
    """Job: the key as a bytearray, or None where anything at all is wrong with the wrapped octets,
    or it has not so many octets as it should.

    In steps of five AES blocks; a key of 36 octets has thirty.
    """
    n = len(wrapped) // _HALF - 1
    if len(wrapped) % _HALF or not 0 < n <= _MAX_LEN // _HALF:
        return None
    data = bytearray(wrapped)
    try:
        decrypt = AESBlock(kek).decrypt
        yield
        yield from _decipher(decrypt, data, n)
        length = data[6] << 8 | data[7]
        if _is_intact(data, n) and key_len in (None, length):
            return data[8 : 8 + length]
        return None
    finally:
        wipe(data)


def _decipher(decrypt, data, n):
    """Job: undo wrap's AES in place."""
    if n == 1:
        data[:] = decrypt(data)
        return
    view = memoryview(data)
    block = bytearray(2 * _HALF)
    low = memoryview(block)[_HALF:]
    block[0:8] = data[0:8]
    try:
        for t in range(_PASSES * n, 0, -1):
            off = ((t - 1) % n + 1) * _HALF
            half = view[off : off + _HALF]
            block[6] ^= t >> 8
            block[7] ^= t & 0xFF
            low[:] = half
            block[:] = decrypt(block)
            half[:] = low
            if not t % 5:
                yield
        data[0:8] = block[0:8]
    finally:
        wipe(block)


def _is_intact(data, n):
    """RFC 5649 section 3: check value, length in range, zero padding; no early way out."""
    diff = data[4] | data[5]
    for i in range(4):
        diff |= data[i] ^ _CHECK[i]
    pad = n * _HALF - (data[6] << 8 | data[7])  # 0 to 7 if the length is right
    diff |= pad & ~7
    pad &= 7
    for i in range(1, _HALF):
        diff |= data[-i] & -(i <= pad)  # all ones while the i-th octet from the end is padding
    return diff == 0


# ---- The key server's half, which boards are built without


def wrap(kek, key):
    """The key of 1 to 4096 octets wrapped under kek (16, 24 or 32 octets), as a bytearray.

    ValueError for other lengths of key: that is our own mistake.
    """
    if not 0 < len(key) <= _MAX_LEN:
        raise ValueError("a key to be wrapped has 1 to 4096 octets")
    aes = AESBlock(kek)
    n = (len(key) + _HALF - 1) // _HALF
    data = bytearray((n + 1) * _HALF)
    data[0:4] = _CHECK
    data[6] = len(key) >> 8
    data[7] = len(key) & 0xFF
    data[8 : 8 + len(key)] = key
    if n == 1:
        data[:] = aes.encrypt(data)
        return data
    block = bytearray(2 * _HALF)
    block[0:8] = data[0:8]
    for t in range(1, _PASSES * n + 1):
        off = ((t - 1) % n + 1) * _HALF
        block[8:16] = data[off : off + 8]
        block[:] = aes.encrypt(block)
        data[off : off + 8] = block[8:16]
        block[6] ^= t >> 8
        block[7] ^= t & 0xFF
    data[0:8] = block[0:8]
    return data


def unwrap(kek, wrapped):
    """unwrap_job, at once."""
    return finish(unwrap_job(kek, wrapped))
