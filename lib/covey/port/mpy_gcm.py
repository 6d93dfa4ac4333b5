"""AES-GCM on MicroPython: blocks from cryptolib, all else in viper; seal and open take no heap.

The state of a key, in octets:
    0   salt
    4   address of the workspace, low and high word
    12  most octets of text, and one more; 0 once wiped
    16  whether it is for integrity alone
    32  what GHASH needs of the key: tables, or with set_constant_time() numbers to multiply by

The workspace, in octets; one for all keys, so that a key takes 2.5 KB:
    0    reduction: what an octet moved out at the end of a field element adds at its front
    512  0xF0F0F0F0; whether the tag is to be compared, not written
    528  AAD, padded with zeros
    656  the rest of the text, padded with zeros; then the block of lengths
    688  a block of misaligned text; the tag
    704  address of the text (low, high), length of text, length of AAD
    720  offsets of table rows; or factors and products of mpy_ghash_ct
    864  counter blocks, encrypted in place to keystream; a longer text is taken in pieces

Which table rows are read depends on secrets: where memory is cached, time can tell about them,
and then there is set_constant_time(). One GHASH serves all keys: it is loaded with the first.
Words are read as the octets lie in memory, so only little-endian boards will do.
"""

import sys
from struct import pack_into

import micropython
from cryptolib import aes
from micropython import const

from covey.port.mpy_path import place

_SALT = const(0)
_WORK = const(1)
_LIMIT = const(3)
_KIND = const(4)
_TABLES = const(32)

_HALVES = const(512)
_AAD = const(528)
_COMPARES = const(129)  # in words, down to _AAD_LEN
_TEXT = const(176)
_TEXT_LEN = const(178)
_AAD_LEN = const(179)
_KEYSTREAM = const(864)

_SPARE = const(4)
_MOST_AAD = const(112)
_MOST_TEXT = const(4032)
_DATAGRAM = const(1536)
_AT_ONCE = const(18)  # blocks of keystream
_WIDE = const(256)  # the first block number of two octets: it begins a piece

# What crypt() does; _FROM + n: decrypts from octet n on, a multiple of 16.
_SEAL = const(0)
_OPEN = const(1)
_VERIFY = const(2)
_FROM = const(32)

_ECB = const(1)
_EIO = const(5)

if sys.byteorder != "little":
    raise ImportError("AES-GCM here is for little-endian boards")

_most = _DATAGRAM
_ghash = None  # the module chosen; loaded with the first key
# States of keys that have gone, for those to come: pieces of 2 KB are hard to find in a heap that
# has been in use for a week.
_spare = [None] * _SPARE
_spares = 0
_work = None
_views = None  # [n]: n blocks of keystream. [0]: refuse, [-1]: _work


class GCMContext:
    """See covey.gcm. Not re-entrant: all contexts share one workspace."""

    integrity_only = 0
    most_text = None  # else how long a text may be, whatever set_most_text() said

    def __init__(self, keymat):
        if len(keymat) not in (20, 36):
            raise ValueError("keymat is an AES key of 16 or 32 octets and 4 octets of salt")
        if _work is None:
            _make_workspace()
        cipher = aes(memoryview(keymat)[:-4], _ECB)  # a slice would be a copy that nobody wipes
        h = bytearray(16)
        cipher.encrypt(h, h)
        self._state = state = _new_state()
        state[:4] = keymat[-4:]
        limit = 1 + (_most if self.most_text is None else self.most_text)
        pack_into("<QII", state, 4, place(_work) << 2, limit, self.integrity_only)
        where = place(state)
        if not _ghash.fill(where, h):
            _zero(state, 0, len(state) >> 2)
            _spare_state(state)
            refuse(1)
        # What there is to be called, and what that needs: to be had without a global.
        self._parts = crypt, (_ghash.finish, aes.encrypt, cipher, _views, _views[1], where)

    @micropython.viper
    def seal(self, buf, off, aad_len, text_len):
        crypt, parts = self._parts
        crypt(buf, off, aad_len, text_len, parts, _SEAL)

    @micropython.viper
    def open(self, buf, off, aad_len, text_len):
        crypt, parts = self._parts
        return crypt(buf, off, aad_len, text_len, parts, _OPEN)

    @staticmethod
    def set_most_text(n):
        """The longest text for all contexts, 0 to 4032 octets; to be set before the first."""
        global _most
        if _work is not None or not 0 <= n <= _MOST_TEXT:
            raise ValueError("the longest text is 0 to 4032 octets, set before the first key")
        _most = n

    @staticmethod
    def set_constant_time():
        """For all contexts, to be set before the first, and before reserve(): no address and no
        branch depends on a secret in GHASH. A block takes five times as long, and a key a third of
        the memory.

        ImportError on ARMv6-M, whose jumps are too short.
        """
        global _ghash
        if _ghash is not None:
            raise ValueError("constant time is to be set before the first key")
        from covey.port import mpy_ghash_ct as _ghash

    @staticmethod
    def reserve(count, text_len=None):
        """Memory for so many keys beside those that are there, made now. text_len: given, where
        texts are to come: their workspace too, and none of a datagram's is too long.
        """
        global _most
        _load()
        if text_len is not None and _work is None:
            _most = max(_most, _DATAGRAM)
            _make_workspace()
        if count > len(_spare):
            _spare.extend([None] * (count - len(_spare)))
        states = [_new_state() for _ in range(count)]
        for state in states:
            _spare_state(state)

    def wipe(self):
        """Zeros over tables, salt and keystream. The key itself dies inside cryptolib's object."""
        state = self._state
        if state is not None:
            _zero(state, 0, len(state) >> 2)
            work = self._parts[1][3][-1]
            _zero(work, _AAD >> 2, len(work) >> 2)
            self._parts = self._state = None
            _spare_state(state)


class GMACContext(GCMContext):
    """See covey.gcm."""

    integrity_only = 1
    most_text = _MOST_TEXT


@micropython.viper
def crypt(k: ptr8, d: uint, aad_len: int, text_len: int, parts, op: int) -> bool:
    """Seal or open what lies in buffer k from d on, or do a part of that: see above. False: the
    tag is wrong, or AES gave zeros, for which sealing raises OSError. As the first two, k and d
    lie in registers: keystream and text.
    """
    finish, encrypt, cipher, views, view, where = parts
    s = ptr32(int(where) << 2)
    if uint(s[_LIMIT]) <= uint(text_len) or uint(aad_len) > uint(_MOST_AAD):
        views[0](0)
    work = uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK])
    salt = s[_SALT]
    d += uint(k) + uint(aad_len)
    k = ptr8(d)
    if d & 3:  # some boards load words from aligned addresses only
        iv_0 = 0
        iv_1 = 0
        i = 8
        while i:
            i -= 1
            iv_1 = iv_1 << 8 | iv_0 >> 24 & 255
            iv_0 = iv_0 << 8 | k[i]
    else:
        iv_0 = ptr32(k)[0]
        iv_1 = ptr32(k)[1]
    d += 8
    k = ptr8(work)
    ptr32(k)[_TEXT] = d
    ptr32(k)[_TEXT + 1] = d >> 16 >> 16
    ptr32(k)[_TEXT_LEN] = text_len
    ptr32(k)[_AAD_LEN] = aad_len
    ptr32(k)[_COMPARES] = op
    work += _KEYSTREAM
    if s[_KIND]:
        if aad_len & 15 != 8 or aad_len == _MOST_AAD - 8:
            views[0](0)
        text_len = 0  # nothing to encrypt
    head = 16  # octets of keystream before the text's: the tag's block
    number = 1  # of the next block
    if op:
        head = 0
        number = 2
        if op >= _FROM:
            number = op >> 4
            d += uint(op - _FROM)
            text_len -= op - _FROM
        else:
            k = ptr8(work)
            ptr32(k)[0] = salt
            ptr32(k)[1] = iv_0
            ptr32(k)[2] = iv_1
            ptr32(k)[3] = 1 << 24  # most significant octet first
            encrypt(cipher, view, view)
            if not finish(where):
                return False
            if op == _VERIFY:
                return True
        if not text_len:
            return True
    text_len += head
    while True:
        n = text_len + 15 >> 4
        i = number << 24
        after = number + n
        if after > _AT_ONCE + 1:  # a piece that is long, or not the first
            if n > _AT_ONCE:
                n = _AT_ONCE
            if number < _WIDE:
                if number + n > _WIDE:
                    n = _WIDE - number
            i |= number >> 8 << 16
            after = number + n
        k = ptr8(work)
        stop = work + uint(n << 4)
        while uint(k) < stop:
            ptr32(k)[0] = salt
            ptr32(k)[1] = iv_0
            ptr32(k)[2] = iv_1
            ptr32(k)[3] = i
            i += 1 << 24
            k = ptr8(uint(k) + 16)
        view = views[n]
        encrypt(cipher, view, view)

        # The guard: no block of the keystream may be zero, or clear text would be on the air.
        while uint(k) > work:
            k = ptr8(uint(k) - 16)
            if not ptr32(k)[0]:
                if not ptr32(k)[1] | ptr32(k)[2] | ptr32(k)[3]:
                    if op:
                        return False
                    views[0](1)

        # text ^= keystream
        n = n << 4
        if n > text_len:
            n = text_len
        text_len -= n
        n -= head
        k = ptr8(uint(k) + uint(head))
        if not d & 3:
            stop = d + uint(n & -16)
            n = n & 15
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
        if not text_len:
            if op:
                return True
            if head:
                if not finish(where):
                    views[0](1)
                return True
            text_len = 16  # the tag's block once more
            after = 1
            head = 16
        else:
            head = 0
        number = after


@micropython.viper
def _zero(words: ptr32, start: int, end: int):
    while start < end:
        words[start] = 0
        start += 1


def _new_state():
    global _spares
    if not _spares:
        return bytearray(_TABLES + _ghash.KEY_LEN)
    _spares -= 1
    state = _spare[_spares]
    _spare[_spares] = None
    return state


def _spare_state(state):
    """Keep it, wiped; what is beyond the list's room is left to the collector. Takes no heap."""
    global _spares
    if _spares < len(_spare) and len(state) == _TABLES + _ghash.KEY_LEN:
        _spare[_spares] = state
        _spares += 1


def refuse(hardware):
    if hardware:
        raise OSError(_EIO)  # AES gave zeros
    raise ValueError("longer than the buffers made for it")


def _make_workspace():
    global _work, _views
    _load()
    _work = bytearray(_KEYSTREAM + 16 * _AT_ONCE)
    for i in range(4):
        _work[_HALVES + i] = 0xF0
    for i in range(256):
        # x^128 = 1 + x + x^2 + x^7 (NIST SP 800-38D section 6.3), for each octet moved out
        v = i << 8 ^ i << 7 ^ i << 6 ^ i << 1
        _work[2 * i] = v >> 8
        _work[2 * i + 1] = v & 255
    keystream = memoryview(_work)[_KEYSTREAM:]
    _views = [refuse] + [keystream[: 16 * (n + 1)] for n in range(_AT_ONCE)] + [_work]


def _load():
    """The kernel, once. An image in constant time has one only, and its name in these places."""
    global _ghash
    if _ghash is not None:
        return
    if sys.maxsize >> 31 or sys.implementation._mpy >> 10 & 15 == 4:  # 64 bits; ARMv6-M
        from covey.port import mpy_ghash_small as _ghash
    else:
        from covey.port import mpy_ghash as _ghash
