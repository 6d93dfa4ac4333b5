"""AES-CMAC on MicroPython (RFC 4493): by cryptolib's CBC, mostly in one call, without heap.

A cipher object goes on where it stopped: what it chains into the next block is the last one that
it gave. So that is taken out of a message's first block again, and one object serves for ever.

The state of a key, in words: what the cipher chains in, then K1, then K2; the key behind them.
"""

import micropython
from cryptolib import aes
from micropython import const

_CBC = const(2)
_CHAIN = const(0)
_KEY = const(48)  # octets
_TEXT = const(24)
_AT_ONCE = const(16)  # blocks

_EIO = const(5)

_work = None  # the blocks of a message, encrypted in place
_views = None  # [n]: n of them


class CMACContext:
    """See covey.cmac. Not re-entrant: all contexts share one workspace."""

    def __init__(self, key):
        global _work, _views
        if len(key) != 16:
            raise ValueError("the key of a CMAC has 16 octets")
        if _work is None:
            _work = bytearray(16 * _AT_ONCE)
            _views = [memoryview(_work)[: 16 * n] for n in range(_AT_ONCE + 1)]
        self._state = bytearray(_KEY + 16)
        self._state[_KEY:] = key
        self._begin()

    def _begin(self):
        state = self._state
        cipher = aes(memoryview(state)[_KEY:], _CBC, bytes(16))
        first = memoryview(state)[:16]
        for i in range(16):
            first[i] = 0
        cipher.encrypt(first, first)
        state[16:32] = _doubled(state[:16])
        state[32:48] = _doubled(state[16:32])
        self._parts = state, _work, _views, cipher, aes.encrypt

    @micropython.native
    def sign(self, buf, n, epoch, at, tag_len):
        if not _mac(self._parts, buf, n, epoch, at, tag_len):
            self._begin()
            raise OSError(_EIO)

    @micropython.native
    def verify(self, buf, n, epoch, at, tag_len):
        found = _mac(self._parts, buf, n, epoch, at, -tag_len)
        if not found:
            self._begin()
        return found > 0

    def wipe(self):
        """Zeros over all but what dies inside cryptolib's object. Of no use afterwards."""
        for octets in (self._state, _work):
            for i in range(len(octets)):
                octets[i] = 0
        self._parts = None


def _doubled(block):
    number = int.from_bytes(block, "big") << 1
    if number >> 128:
        number = number & (1 << 128) - 1 ^ 0x87
    return number.to_bytes(16, "big")


@micropython.viper
def _mac(parts, buf: ptr8, n: int, epoch: ptr8, at: int, tag_len: int) -> int:
    """Puts the tag there, or if tag_len is negative compares it with what is there, in time that
    tells nothing: 1, -1 where it differs, 0 where the hardware gave zeros.
    """
    state, work, views, cipher, encrypt = parts
    s = ptr32(state)
    w = ptr32(work)
    p = ptr32(buf)
    w[0] = p[0] ^ s[_CHAIN]
    w[1] = p[1] ^ s[_CHAIN + 1]
    w[2] = (p[2] & 0xFFFF | p[4] & -0x10000) ^ s[_CHAIN + 2]
    w[3] = ptr32(epoch)[0] ^ s[_CHAIN + 3]
    w = ptr32(uint(w) + 16)
    p = ptr32(uint(p) + _TEXT)
    blocks = 1
    while n >= 16:
        if blocks == _AT_ONCE:
            encrypt(cipher, views[_AT_ONCE], views[_AT_ONCE])
            blocks = 0
            w = ptr32(work)
        w[0] = p[0]
        w[1] = p[1]
        w[2] = p[2]
        w[3] = p[3]
        w = ptr32(uint(w) + 16)
        p = ptr32(uint(p) + 16)
        blocks += 1
        n -= 16
    k = ptr32(uint(s) + 16)
    if n:
        k = ptr32(uint(s) + 32)
        if blocks == _AT_ONCE:
            encrypt(cipher, views[_AT_ONCE], views[_AT_ONCE])
            blocks = 0
            w = ptr32(work)
        w[0] = 0
        w[1] = 0
        w[2] = 0
        w[3] = 0
        q = ptr8(w)
        i = 0
        while i < n:
            q[i] = ptr8(p)[i]
            i += 1
        q[i] = 0x80
        w = ptr32(uint(w) + 16)
        blocks += 1
    w = ptr32(uint(w) - 16)
    w[0] = w[0] ^ k[0]
    w[1] = w[1] ^ k[1]
    w[2] = w[2] ^ k[2]
    w[3] = w[3] ^ k[3]
    view = views[blocks]
    encrypt(cipher, view, view)
    s[_CHAIN] = w[0]
    s[_CHAIN + 1] = w[1]
    s[_CHAIN + 2] = w[2]
    s[_CHAIN + 3] = w[3]
    if not w[0] | w[1] | w[2] | w[3]:
        return 0
    q = ptr8(w)
    buf = ptr8(uint(buf) + uint(at))
    i = 0
    if tag_len > 0:
        while i < tag_len:
            buf[i] = q[i]
            i += 1
        return 1
    differs = 0
    while i < 0 - tag_len:
        differs |= buf[i] ^ q[i]
        i += 1
    return 1 if differs == 0 else -1
