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
_STATE = const(0)  # of the parts
_CIPHER = const(3)
_ENCRYPT = const(4)

_EIO = const(5)
_SHORT = (MemoryError, OSError)  # a tuple could not be made just then

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
        state = bytearray(_KEY + 16)
        state[_KEY:] = key
        self.users = 0
        self.mac = _mac
        self.parts = self._parts = [state, _work, _views, None, _zeros]
        is_whole = False
        try:
            _begin(self._parts)
            is_whole = True
        finally:
            if not is_whole:
                _wipe(state)

    @micropython.native
    def sign(self, buf, n, epoch, at, tag_len):
        if not _mac(self._parts, buf, n, epoch, at, tag_len):
            _begin_anew(self._parts)
            raise OSError(_EIO)

    @micropython.native
    def verify(self, buf, n, epoch, at, tag_len):
        found = _mac(self._parts, buf, n, epoch, at, -tag_len)
        if not found:
            _begin_anew(self._parts)
        return found > 0

    def renew(self, key):
        state = self._parts[_STATE]
        for i in range(16):
            state[_KEY + i] = key[i]
        _begin(self._parts)

    def failed(self):
        """mac() has said 0."""
        _begin_anew(self._parts)

    def wipe(self):
        """Zeros over all but what dies inside cryptolib's object. Takes no heap."""
        parts = self._parts
        _stop(parts)
        _wipe(parts[_STATE])
        _wipe(_work)
        parts[_STATE] = _work  # which nobody begins with


def _begin(parts):
    state = parts[_STATE]
    cipher = aes(memoryview(state)[_KEY:], _CBC, bytes(16))
    first = memoryview(state)[:16]
    _wipe(first)
    cipher.encrypt(first, first)
    if not _is_any(state):
        raise OSError(_EIO)
    _double(state, 0)
    _double(state, 16)
    encrypt = aes.encrypt
    parts[_CIPHER] = cipher
    parts[_ENCRYPT] = encrypt


def _begin_anew(parts):
    """AES has failed: nobody knows what it chains in. Takes heap; where there is none, or AES
    fails still, the next call fails too, and tries again.
    """
    _stop(parts)
    if parts[_STATE] is not _work:
        try:
            _begin(parts)
        except _SHORT:
            pass


def _stop(parts):
    """From now on it is as if AES failed."""
    parts[_CIPHER] = None
    parts[_ENCRYPT] = _zeros


@micropython.viper
def _is_any(state: ptr32) -> bool:
    return bool(state[0] | state[1] | state[2] | state[3])


@micropython.viper
def _double(state: ptr8, off: int):
    """The 16 octets at off, doubled in GF(2^128), into those behind them: no copy is left."""
    carry = 0
    i = off + 15
    while i >= off:
        carry |= state[i] << 1
        state[i + 16] = carry & 0xFF
        carry >>= 8
        i -= 1
    state[off + 31] = state[off + 31] ^ carry * 0x87


def _wipe(buf):
    _zero(buf, len(buf))


@micropython.viper
def _zero(buf: ptr8, n: int):
    i = 0
    while i < n:
        buf[i] = 0
        i += 1


def _zeros(cipher, data, out):
    """What a board's AES gives where it fails."""
    _wipe(out)


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
