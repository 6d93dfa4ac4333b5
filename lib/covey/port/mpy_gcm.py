"""AES-GCM on MicroPython: blocks from cryptolib, all else in viper; seal and open take no heap.

The state of a key, in octets:
    0   salt
    4   address of the workspace, low and high word
    12  most octets of text, and one more; 0 once wiped
    16  for integrity alone 15, of which bits AAD has but 8; most octets of AAD
    32  what GHASH needs of the key: tables, or with set_constant_time() numbers to multiply by

The workspace, in octets; one for all keys, so that a key takes 2.5 KB:
    0    reduction: what an octet moved out at the end of a field element adds at its front
    512  0xF0F0F0F0
    528  AAD, padded with zeros
    656  the rest of the text, padded with zeros; then the block of lengths
    688  an IV or a tag that is misaligned; the sum, for a GHASH that is called
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

_TABLES = const(32)

_HALVES = const(512)
_AAD = const(528)
_KEYSTREAM = const(864)

_SPARE = const(4)
_MOST_AAD = const(112)  # with an IV behind it where that is of the AAD
_MOST_TEXT = const(4032)
_DATAGRAM = const(1536)
_AT_ONCE = const(18)  # blocks of keystream

# What a kernel's crypt() does; 2: compares the tag alone; 32 + n: decrypts from octet n on, a
# multiple of 16.
_SEAL = const(0)
_OPEN = const(1)

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
        aad = (15, _MOST_AAD - 9) if self.integrity_only else (0, _MOST_AAD)
        pack_into("<QIII", state, 4, place(_work) << 2, limit, *aad)
        where = place(state)
        if not _ghash.fill(where, h):
            _zero(state, 0, len(state) >> 2)
            _spare_state(state)
            refuse(1)
        # What there is to be called, and what that needs: to be had without a global.
        parts = aes.encrypt, cipher, _views, _views[1], where
        self._parts = _ghash.crypt, _ghash.others + parts

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
            work = self._parts[1][-3][-1]
            _zero(work, _AAD >> 2, len(work) >> 2)
            self._parts = self._state = None
            _spare_state(state)


class GMACContext(GCMContext):
    """See covey.gcm."""

    integrity_only = 1
    most_text = _MOST_TEXT


@micropython.viper
def _zero(words: ptr32, start: int, end: int):
    words = ptr32(uint(words) + uint(start << 2))
    while start < end:
        words[0] = 0
        words = ptr32(uint(words) + 4)
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
