"""AES-GCM on MicroPython: blocks from cryptolib, all else in viper; seal and open take no heap.

The state of a key, in octets:
    0     tables for GHASH: 4 teeth x (high, low half of an octet) x 16 rows x 4 words
    2048  salt
    2052  address of the workspace, low and high word
    2060  most octets of text, and one more; 0 once wiped
    2064  whether it is for integrity alone

The workspace, in octets; one for all keys, so that a key takes 2.6 KB:
    0    reduction: what an octet moved out at the end of a field element adds at its front
    512  0xF0F0F0F0
    528  AAD, padded with zeros
    656  the rest of the text, padded with zeros; then the block of lengths
    688  a block of misaligned text; the tag
    704  address of the text (low, high), length of text, length of AAD
    720  offsets of table rows
    752  counter blocks, encrypted in place to keystream

Which table rows are read depends on secrets: where memory is cached, time can tell about them.
Words are read as the octets lie in memory, so only little-endian boards will do.
"""

import sys

import micropython
from cryptolib import aes
from micropython import const

if sys.maxsize >> 31 or sys.implementation._mpy >> 10 & 15 == 4:  # 64 bits; ARMv6-M
    from covey.port.mpy_ghash_small import finish
else:
    from covey.port.mpy_ghash import finish

_STATE = const(2048)  # behind the tables, in words:
_SALT = const(0)
_WORK = const(1)
_LIMIT = const(3)
_KIND = const(4)
_STATE_LEN = const(2068)

_HALVES = const(512)
_AAD = const(528)
_TEXT = const(176)  # these three in words
_TEXT_LEN = const(178)
_AAD_LEN = const(179)
_KEYSTREAM = const(752)

_MOST_AAD = const(112)
_MOST_TEXT = const(4032)  # the block counter stays below 256
_EXACT = const(40)  # longer keystreams are made in steps of 8 blocks: fewer views to keep

_ECB = const(1)
_EIO = const(5)

if sys.byteorder != "little":
    raise ImportError("AES-GCM here is for little-endian boards")

_most = 1536
_work = None
_views = None  # [n]: n blocks of keystream; from _EXACT on in steps of 8. [0]: _refuse


class GCMContext:
    """See covey.gcm. Not re-entrant: all contexts share one workspace."""

    integrity_only = 0

    def __init__(self, keymat):
        if len(keymat) not in (20, 36):
            raise ValueError("keymat is an AES key of 16 or 32 octets and 4 octets of salt")
        if _work is None:
            _make_workspace()
        cipher = aes(keymat[:-4], _ECB)
        h = bytearray(16)
        cipher.encrypt(h, h)
        self._state = state = bytearray(_STATE_LEN)
        state[_STATE : _STATE + 4] = keymat[-4:]
        if not _fill_tables(state, h):
            _refuse(1)
        place = _place(state, _work, _most + 1, self.integrity_only)
        # What seal() and open() need, to be had in one look; with the state to keep it alive.
        self._parts = finish, aes.encrypt, cipher, _views, _views[1], state, place

    @micropython.viper
    def seal(self, buf: ptr8, off: int, aad_len: int, text_len: int):
        finish, encrypt, cipher, views, first, _, place = self._parts
        task = int(place)
        buf = ptr8(uint(buf) + uint(off) + uint(aad_len))
        s = ptr32((task << 2) + _STATE)
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
        s = ptr32((task << 2) + _STATE)
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

    def wipe(self):
        """Zeros over tables, salt and keystream. The key itself dies inside cryptolib's object."""
        _zero(self._state, 0, len(self._state))
        _zero(_work, _AAD, len(_work))
        self._parts = None


class GMACContext(GCMContext):
    """See covey.gcm."""

    integrity_only = 1


@micropython.viper
def _zero(buf: ptr8, start: int, end: int):
    while start < end:
        buf[start] = 0
        start += 1


def _refuse(hardware):
    if hardware:
        raise OSError(_EIO)  # AES gave zeros
    raise ValueError("longer than the buffers made for it")


def _make_workspace():
    global _work, _views
    slots = _slot(_most // 16 + 2)
    blocks = [
        slot if slot <= _EXACT else _EXACT + (slot - _EXACT) * 8 for slot in range(slots + 1)
    ]
    _work = bytearray(_KEYSTREAM + 16 * blocks[-1])
    _fill_constants(_work)
    keystream = memoryview(_work)[_KEYSTREAM:]
    _views = [_refuse] + [keystream[: 16 * n] for n in blocks[1:]]


def _slot(n):
    """Where _views holds n blocks or a few more."""
    return n if n <= _EXACT else _EXACT + (n - _EXACT + 7 >> 3)


@micropython.viper
def _place(state: ptr32, work: ptr32, limit: uint, kind: int) -> uint:
    """Note where the workspace is, and the rest.

    Returns the address of the state / 4, which is always a small int.
    """
    s = ptr32(uint(state) + _STATE)
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


@micropython.viper
def _fill_tables(t: ptr32, h: ptr8) -> int:
    """Row n of a table: n * H * x^(32 * tooth), for the low half of an octet * x^4 more.

    h is zero afterwards. Returns 0 if it was before: AES gave nothing.
    """
    e1 = 225
    e1 = e1 << 24  # as a constant it would be no small int
    v0 = uint(h[0] << 24 | h[1] << 16 | h[2] << 8 | h[3])
    v1 = uint(h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7])
    v2 = uint(h[8] << 24 | h[9] << 16 | h[10] << 8 | h[11])
    v3 = uint(h[12] << 24 | h[13] << 16 | h[14] << 8 | h[15])
    if not int(v0 | v1 | v2 | v3):
        return 0
    i = 0
    while i < 16:
        h[i] = 0
        i += 1
    tooth = uint(t)
    end = tooth + 2048
    while tooth != end:
        # H * x^(32 * tooth) and its next seven multiples by x go into rows 8, 4, 2 and 1.
        bit = 0
        while bit < 8:
            p = ptr8(tooth + uint((bit >> 2) * 256 + (128 >> (bit & 3))))
            p[0] = v0 >> 24
            p[1] = v0 >> 16
            p[2] = v0 >> 8
            p[3] = v0
            p[4] = v1 >> 24
            p[5] = v1 >> 16
            p[6] = v1 >> 8
            p[7] = v1
            p[8] = v2 >> 24
            p[9] = v2 >> 16
            p[10] = v2 >> 8
            p[11] = v2
            p[12] = v3 >> 24
            p[13] = v3 >> 16
            p[14] = v3 >> 8
            p[15] = v3
            out = int(v3) & 1
            v3 = v3 >> 1 | (v2 & 1) << 31
            v2 = v2 >> 1 | (v1 & 1) << 31
            v1 = v1 >> 1 | (v0 & 1) << 31
            v0 = v0 >> 1
            if out:
                v0 ^= uint(e1)
            bit += 1
        while bit < 32:  # on to the next tooth, octet by octet
            out = int(v3) & 255
            v3 = v3 >> 8 | (v2 & 255) << 24
            v2 = v2 >> 8 | (v1 & 255) << 24
            v1 = v1 >> 8 | (v0 & 255) << 24
            v0 = v0 >> 8 ^ uint((out << 8 ^ out << 7 ^ out << 6 ^ out << 1) << 16)
            bit += 8
        tooth += 512
    # The other rows are sums of these.
    table = uint(t)
    while table != end:
        top = uint(32)
        while top != uint(256):
            a = table + top
            b = table + 16
            c = a + 16
            while b != a:
                ptr32(c)[0] = ptr32(a)[0] ^ ptr32(b)[0]
                ptr32(c)[1] = ptr32(a)[1] ^ ptr32(b)[1]
                ptr32(c)[2] = ptr32(a)[2] ^ ptr32(b)[2]
                ptr32(c)[3] = ptr32(a)[3] ^ ptr32(b)[3]
                b += 16
                c += 16
            top += top
        table += 256
    return 1
