"""AES-GCM on MicroPython: blocks from cryptolib, all else in viper; seal and open take no heap.

The state of a key, in octets:
    0   salt
    4   address of the workspace, low and high word
    12  most octets of text, and one more; 0 once wiped
    16  whether it is for integrity alone
    32  what GHASH needs of the key: tables, or with set_constant_time() numbers to multiply by

The workspace, in octets; one for all keys, so that a key takes 2.5 KB:
    0    reduction: what an octet moved out at the end of a field element adds at its front
    512  0xF0F0F0F0
    528  AAD, padded with zeros
    656  the rest of the text, padded with zeros; then the block of lengths
    688  a block of misaligned text; the tag
    704  address of the text (low, high), length of text, length of AAD
    720  offsets of table rows; or factors and products of mpy_ghash_ct
    864  counter blocks, encrypted in place to keystream

Which table rows are read depends on secrets: where memory is cached, time can tell about them,
and then there is set_constant_time(). One GHASH serves all keys: it is loaded with the first.
Words are read as the octets lie in memory, so only little-endian boards will do.
"""

import sys

import micropython
from cryptolib import aes
from micropython import const

_SALT = const(0)
_WORK = const(1)
_LIMIT = const(3)
_KIND = const(4)
_TABLES = const(32)

_HALVES = const(512)
_AAD = const(528)
_TEXT = const(176)  # these three in words
_TEXT_LEN = const(178)
_AAD_LEN = const(179)
_KEYSTREAM = const(864)

_SPARE = const(4)
_MOST_AAD = const(112)
_MOST_TEXT = const(4032)  # the block counter stays below 256
_EXACT = const(40)  # longer keystreams are made in steps of 8 blocks: fewer views to keep

_ECB = const(1)
_EIO = const(5)

if sys.byteorder != "little":
    raise ImportError("AES-GCM here is for little-endian boards")

_most = 1536
_ghash = None  # the module chosen; loaded with the first key
# States of keys that have gone, for those to come: pieces of 2 KB are hard to find in a heap that
# has been in use for a week.
_spare = [None] * _SPARE
_spares = 0
_work = None
_views = None  # [n]: n blocks of keystream; from _EXACT on in steps of 8. [0]: refuse, [-1]: _work


class GCMContext:
    """See covey.gcm. Not re-entrant: all contexts share one workspace."""

    integrity_only = 0

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
        limit = 1 + (_MOST_TEXT if self.integrity_only else _most)
        place = _place(state, _work, limit, self.integrity_only)
        if not _ghash.fill(place, h):
            _zero(state, 0, len(state) >> 2)
            _spare_state(state)
            refuse(1)
        # What seal() and open() need, to be had in one look; with the state to keep it alive.
        self._parts = _ghash.finish, aes.encrypt, cipher, _views, _views[1], state, place

    @micropython.viper
    def seal(self, buf: ptr8, off: int, aad_len: int, text_len: int):
        finish, encrypt, cipher, views, first, _, place = self._parts
        task = int(place)
        buf = ptr8(uint(buf) + uint(off) + uint(aad_len))
        s = ptr32(task << 2)
        if uint(s[_LIMIT]) <= uint(text_len) or uint(aad_len) > uint(_MOST_AAD):
            views[0](0)
        salt = s[_SALT]
        if s[_KIND]:
            if aad_len & 15 != 8 or aad_len == _MOST_AAD - 8:
                views[0](0)
            s = ptr32(uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK]))
            s[_TEXT_LEN] = text_len
            text_len = 0  # nothing to encrypt
        else:
            s = ptr32(uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK]))
            s[_TEXT_LEN] = text_len
        text = uint(buf) + 8
        s[_TEXT] = text
        s[_TEXT + 1] = text >> 16 >> 16
        s[_AAD_LEN] = aad_len
        if int(uint(buf)) & 3:
            iv_0 = buf[0] | buf[1] << 8 | buf[2] << 16 | buf[3] << 24
            iv_1 = buf[4] | buf[5] << 8 | buf[6] << 16 | buf[7] << 24
        else:
            iv_0 = ptr32(buf)[0]
            iv_1 = ptr32(buf)[1]
        buf = ptr8(uint(s) + _KEYSTREAM)
        n = text_len + 31 >> 4  # the tag's block, the text's
        stop = (n << 4) + int(uint(buf))
        off = 0
        while int(uint(buf)) != stop:
            off += 1 << 24  # the block counter, most significant octet first
            ptr32(buf)[0] = salt
            ptr32(buf)[1] = iv_0
            ptr32(buf)[2] = iv_1
            ptr32(buf)[3] = off
            buf = ptr8(uint(buf) + 16)
        view = views[n if n <= _EXACT else _EXACT + (n - (_EXACT - 7) >> 3)]
        encrypt(cipher, view, view)

        # The guard: no block of the keystream may be zero, or clear text would be on the air.
        off = stop
        buf = ptr8(uint(s) + _KEYSTREAM)
        while int(uint(buf)) != off:
            if not ptr32(buf)[0]:
                if not ptr32(buf)[1] | ptr32(buf)[2] | ptr32(buf)[3]:
                    views[0](1)
            buf = ptr8(uint(buf) + 16)
        buf = ptr8(uint(s) + (_KEYSTREAM + 16))

        # text ^= keystream
        off = int(text)
        if not off & 3:  # some boards load words from aligned addresses only
            stop = (text_len & -16) + off
            while off != stop:
                ptr32(off)[0] = ptr32(buf)[0] ^ ptr32(off)[0]
                ptr32(off)[1] = ptr32(buf)[1] ^ ptr32(off)[1]
                ptr32(off)[2] = ptr32(buf)[2] ^ ptr32(off)[2]
                ptr32(off)[3] = ptr32(buf)[3] ^ ptr32(off)[3]
                buf = ptr8(uint(buf) + 16)
                off += 16
            stop += text_len & 12
            while off != stop:
                ptr32(off)[0] = ptr32(buf)[0] ^ ptr32(off)[0]
                buf = ptr8(uint(buf) + 4)
                off += 4
        stop = int(text) + text_len
        while off != stop:
            ptr8(off)[0] = buf[0] ^ ptr8(off)[0]
            buf = ptr8(uint(buf) + 1)
            off += 1
        if not int(finish(task)):
            views[0](1)

    @micropython.viper
    def open(self, buf: ptr8, off: int, aad_len: int, text_len: int) -> bool:
        finish, encrypt, cipher, views, first, _, place = self._parts
        task = int(place)
        buf = ptr8(uint(buf) + uint(off) + uint(aad_len))
        s = ptr32(task << 2)
        if uint(s[_LIMIT]) <= uint(text_len) or uint(aad_len) > uint(_MOST_AAD):
            views[0](0)
        salt = s[_SALT]
        if s[_KIND]:
            if aad_len & 15 != 8 or aad_len == _MOST_AAD - 8:
                views[0](0)
            s = ptr32(uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK]))
            s[_TEXT_LEN] = text_len
            text_len = 0  # nothing to encrypt
        else:
            s = ptr32(uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK]))
            s[_TEXT_LEN] = text_len
        text = uint(buf) + 8
        s[_TEXT] = text
        s[_TEXT + 1] = text >> 16 >> 16
        s[_AAD_LEN] = aad_len
        if int(uint(buf)) & 3:
            iv_0 = buf[0] | buf[1] << 8 | buf[2] << 16 | buf[3] << 24
            iv_1 = buf[4] | buf[5] << 8 | buf[6] << 16 | buf[7] << 24
        else:
            iv_0 = ptr32(buf)[0]
            iv_1 = ptr32(buf)[1]
        buf = ptr8(uint(s) + _KEYSTREAM)
        ptr32(buf)[0] = salt
        ptr32(buf)[1] = iv_0
        ptr32(buf)[2] = iv_1
        ptr32(buf)[3] = 1 << 24
        encrypt(cipher, first, first)
        if not int(finish(task + 1)):
            return False

        n = text_len + 15 >> 4
        if not n:
            return True
        stop = (n << 4) + int(uint(buf))
        off = 1 << 24
        while int(uint(buf)) != stop:
            off += 1 << 24
            ptr32(buf)[0] = salt
            ptr32(buf)[1] = iv_0
            ptr32(buf)[2] = iv_1
            ptr32(buf)[3] = off
            buf = ptr8(uint(buf) + 16)
        view = views[n if n <= _EXACT else _EXACT + (n - (_EXACT - 7) >> 3)]
        encrypt(cipher, view, view)

        # The guard: no block of the keystream may be zero, or clear text would be on the air.
        off = stop
        buf = ptr8(uint(s) + _KEYSTREAM)
        while int(uint(buf)) != off:
            if not ptr32(buf)[0]:
                if not ptr32(buf)[1] | ptr32(buf)[2] | ptr32(buf)[3]:
                    return False
            buf = ptr8(uint(buf) + 16)
        buf = ptr8(uint(s) + _KEYSTREAM)

        # text ^= keystream
        off = int(text)
        if not off & 3:  # some boards load words from aligned addresses only
            stop = (text_len & -16) + off
            while off != stop:
                ptr32(off)[0] = ptr32(buf)[0] ^ ptr32(off)[0]
                ptr32(off)[1] = ptr32(buf)[1] ^ ptr32(off)[1]
                ptr32(off)[2] = ptr32(buf)[2] ^ ptr32(off)[2]
                ptr32(off)[3] = ptr32(buf)[3] ^ ptr32(off)[3]
                buf = ptr8(uint(buf) + 16)
                off += 16
            stop += text_len & 12
            while off != stop:
                ptr32(off)[0] = ptr32(buf)[0] ^ ptr32(off)[0]
                buf = ptr8(uint(buf) + 4)
                off += 4
        stop = int(text) + text_len
        while off != stop:
            ptr8(off)[0] = buf[0] ^ ptr8(off)[0]
            buf = ptr8(uint(buf) + 1)
            off += 1
        return True

    @staticmethod
    def set_most_text(n):
        """The longest text for all contexts, 0 to 4032 octets; to be set before the first."""
        global _most
        if _work is not None or not 0 <= n <= _MOST_TEXT:
            raise ValueError("the longest text is 0 to 4032 octets, set before the first key")
        _most = n

    @staticmethod
    def set_constant_time():
        """For all contexts, to be set before the first: no address and no branch depends on a
        secret in GHASH. A block takes five times as long, and a key a third of the memory.

        ImportError on ARMv6-M, whose jumps are too short.
        """
        global _ghash
        if _work is not None:
            raise ValueError("constant time is to be set before the first key")
        from covey.port import mpy_ghash_ct as _ghash

    @staticmethod
    def reserve(count, text_len=None):
        """Memory for so many keys beside those that are there, made now. text_len: of the longest
        text that open() and seal() will be given.
        """
        global _most, _work
        _load()
        if text_len is not None and (_work is None or text_len > _most):
            _most = text_len
            _work = None  # contexts that are there keep theirs
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
            work = self._parts[3][-1]
            _zero(work, _AAD >> 2, len(work) >> 2)
            self._parts = self._state = None
            _spare_state(state)


class GMACContext(GCMContext):
    """See covey.gcm."""

    integrity_only = 1


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
    slots = _slot(_most // 16 + 2)
    blocks = [
        slot if slot <= _EXACT else _EXACT + (slot - _EXACT) * 8 for slot in range(slots + 1)
    ]
    _work = bytearray(_KEYSTREAM + 16 * blocks[-1])
    _fill_constants(_work)
    keystream = memoryview(_work)[_KEYSTREAM:]
    _views = [refuse] + [keystream[: 16 * n] for n in blocks[1:]] + [_work]


def _load():
    """The kernel, once."""
    global _ghash
    if _ghash is not None:
        return
    if sys.maxsize >> 31 or sys.implementation._mpy >> 10 & 15 == 4:  # 64 bits; ARMv6-M
        from covey.port import mpy_ghash_small as _ghash
    else:
        from covey.port import mpy_ghash as _ghash


def _slot(n):
    """Where _views holds n blocks or a few more."""
    return n if n <= _EXACT else _EXACT + (n - _EXACT + 7 >> 3)


@micropython.viper
def _place(state: ptr32, work: ptr32, limit: uint, kind: int) -> uint:
    """Note where the workspace is, and the rest.

    Returns the address of the state / 4, which is always a small int.
    """
    s = ptr32(state)
    s[_WORK] = uint(work)
    s[_WORK + 1] = uint(work) >> 16 >> 16
    s[_LIMIT] = limit
    s[_KIND] = kind
    return uint(state) >> 2


@micropython.viper
def _fill_constants(work: ptr8):
    for i in range(4):
        work[_HALVES + i] = 0xF0
    # x^128 = 1 + x + x^2 + x^7 (NIST SP 800-38D section 6.3), for each octet moved out
    r = ptr16(work)
    i = 0
    while i < 256:
        v = i << 8 ^ i << 7 ^ i << 6 ^ i << 1
        r[i] = v >> 8 | (v & 255) << 8
        i += 1
