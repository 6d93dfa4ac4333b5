"""AES-GCM on MicroPython: blocks from cryptolib, all else in viper; seal and open take no heap.

The state of a key, in octets:
    0     tables for GHASH: 4 teeth x (high, low half of an octet) x 16 rows x 4 words
    2048  salt
    2052  address of the workspace, low and high word
    2060  most octets of text, and one more; 0 once wiped

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
_STATE_LEN = const(2064)

_HALVES = const(512)
_AAD = const(528)
_LENGTHS = const(672)
_TEXT = const(176)  # these three in words
_TEXT_LEN = const(178)
_AAD_LEN = const(179)
_KEYSTREAM = const(752)

_MOST_AAD = const(112)
_MOST_TEXT = const(4032)  # the block counter stays below 256
_EXACT = const(40)  # longer keystreams are made in steps of 8 blocks: fewer views to keep

_SEAL = const(0)
_VERIFY = const(1)
_DECRYPT = const(2)

_ECB = const(1)
_EIO = const(5)

if sys.byteorder != "little":
    raise ImportError("AES-GCM here is for little-endian boards")

_most = 1536
_work = None
_views = None  # [n]: n blocks of keystream; from _EXACT on in steps of 8. [0]: _refuse


class GCMContext:
    """See covey.gcm. Not re-entrant: all contexts share one workspace."""

    def __init__(self, keymat):
        if len(keymat) not in (20, 36):
            raise ValueError("keymat is an AES key of 16 or 32 octets and 4 octets of salt")
        if _work is None:
            _make_workspace()
        cipher = aes(keymat[:-4], _ECB)
        h = bytearray(16)
        cipher.encrypt(h, h)
        state = bytearray(_STATE_LEN)
        state[_STATE : _STATE + 4] = keymat[-4:]
        if not _fill_tables(state, h):
            _refuse(1)
        place = _place(state, _work, _most + 1)
        self._state = state
        # Closures: looking up a method and then its state in self would take 500 instructions.
        self.seal = _bind((finish, aes.encrypt, cipher, _views, state, place | _SEAL))
        self.open = _bind((finish, aes.encrypt, cipher, _views, state, place | _VERIFY))

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
        self.seal = self.open = None


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
def _place(state: ptr32, work: ptr32, limit: uint) -> uint:
    """Note where the workspace is. Returns the address of the state / 4: always a small int."""
    s = ptr32(uint(state) + _STATE)
    s[_WORK] = uint(work)
    s[_WORK + 1] = uint(work) >> 16 >> 16
    s[_LIMIT] = limit
    return uint(state) >> 2


def _bind(parts):
    """seal() or open() of one key. parts: what it needs, with the state to keep it alive."""

    # One free variable and four arguments: with six in all, the call would take heap.
    @micropython.viper
    def run(buf: ptr8, off: int, aad_len: int, text_len: int) -> bool:
        finish, encrypt, cipher, views, _, place_and_operation = parts
        task = int(place_and_operation)
        op = task & 3
        aad = uint(buf) + uint(off)
        iv = uint(aad_len) + aad
        buf = ptr8((task - op << 2) + _STATE)
        if uint(ptr32(buf)[_LIMIT]) <= uint(text_len) or uint(aad_len) > uint(_MOST_AAD):
            views[0](0)
        salt = ptr32(buf)[_SALT]
        work = uint(ptr32(buf)[_WORK + 1]) << 16 << 16 | uint(ptr32(buf)[_WORK])

        buf = ptr8(work)
        ptr32(buf)[_TEXT] = iv + 8
        ptr32(buf)[_TEXT + 1] = iv + 8 >> 16 >> 16
        ptr32(buf)[_TEXT_LEN] = text_len
        ptr32(buf)[_AAD_LEN] = aad_len
        # The lengths in bits, most significant octet first; the others of the block stay zero.
        buf[_LENGTHS + 6] = aad_len >> 5
        buf[_LENGTHS + 7] = aad_len << 3
        buf[_LENGTHS + 14] = text_len >> 5
        buf[_LENGTHS + 15] = text_len << 3

        buf = ptr8(uint(_AAD + (aad_len & -16)) + work)
        ptr32(buf)[0] = 0
        ptr32(buf)[1] = 0
        ptr32(buf)[2] = 0
        ptr32(buf)[3] = 0
        buf = ptr8(work + _AAD)
        if int(iv | aad) & 3:  # some boards load words from aligned addresses only
            while aad != iv:
                buf[0] = ptr8(aad)[0]
                buf = ptr8(uint(buf) + 1)
                aad += 1
            buf = ptr8(iv)
            iv_0 = buf[0] | buf[1] << 8 | buf[2] << 16 | buf[3] << 24
            iv_1 = buf[4] | buf[5] << 8 | buf[6] << 16 | buf[7] << 24
        else:
            while aad != iv:
                ptr32(buf)[0] = ptr32(aad)[0]
                buf = ptr8(uint(buf) + 4)
                aad += 4
            buf = ptr8(iv)
            iv_0 = ptr32(buf)[0]
            iv_1 = ptr32(buf)[1]

        counter = 1 << 24  # as it stands in the last word of the block
        blocks = text_len + 15 >> 4
        n = 1  # the tag's block
        if not op:
            n += blocks
        while True:
            buf = ptr8(work + _KEYSTREAM)
            stop = uint(buf) + uint(n << 4)
            while uint(buf) != stop:
                ptr32(buf)[0] = salt
                ptr32(buf)[1] = iv_0
                ptr32(buf)[2] = iv_1
                ptr32(buf)[3] = counter
                counter += 1 << 24
                buf = ptr8(uint(buf) + 16)
            if n > _EXACT:
                n = _EXACT + (n - (_EXACT - 7) >> 3)
            view = views[n]
            encrypt(cipher, view, view)
            done = int(finish(task))
            if op == _VERIFY:
                if done and blocks:
                    op = _DECRYPT
                    task += _DECRYPT - _VERIFY
                    n = blocks
                    continue
            elif not op and not done:
                views[0](1)
            return done != 0

    return run


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
