"""The data path's kernels on MicroPython: what covey.path says, in viper. None takes heap.

A link is the address of what it leads to, in two words, low and high; 0 of nothing. Kernels are
handed the address of a path's words / 4, which is always a small int. Words are read as the
octets lie in memory: little-endian boards only, and mpy_gcm refuses the others.

Only the first two locals of a kernel live in registers, and each other use of one costs two octets
more: so w and n serve on when what they were handed for is done.
"""

from array import array
from struct import pack_into

import micropython
from micropython import const

# As covey.path has them.
_DUE = const(0)
_RX = const(1)
_RX_LEN = const(3)
_TX = const(4)
_PAYLOAD_MAX = const(6)
_USED = const(7)
_OUT = const(8)
_BIT = const(9)
_SA = const(10)
_WINDOW = const(12)
_NEWEST_OF = const(14)
_ROW = const(15)
_SENDER = const(16)
_NAMED = const(17)
_FROM = const(18)
_PAYLOAD_LEN = const(19)
_OPENED = const(20)
_WANTS = const(21)
_BITS_OF = const(23)
_LOW_BITS_OF = const(24)
_RECORDS = const(25)

_SPI = const(0)
_IV_HEAD = const(1)
_PORTS = const(2)
_NEXT_SEQ = const(3)
_SOURCE_LO = const(4)
_SOURCE_HI = const(5)
_PORT_LO = const(6)
_PORT_HI = const(7)
_OWN = const(8)
_IS_OWN = const(9)
_TABLE_OF = const(10)
_EVERYBODY = const(2)

_BITS = const(0)
_LOW_BITS = const(1)
_SLOTS = const(2)
_WINDOWS = const(3)
_INDEX = const(0)
_INCARNATION = const(1)
_NEWEST = const(2)
_RING = const(3)
_ROWS = const(16)

_LEAST = const(36)
_TEXT = const(16)
_UDP_LEN = const(8)
_PAYLOAD = const(24)
_UDP = const(17)
_DUMMY = const(59)

_LAST_SEQ = const(0x3FFFFFFE)
_REKEY_SEQ = const(0x30000000)
_MASK = const(0x3FFFFFFF)
_HALF = const(0x20000000)

STEP_IS_DUE = -101
_STEP_IS_DUE = const(-101)

# As covey.drops has them.
_DROP_LENGTH = const(-3)
_DROP_UNKNOWN_SPI = const(-4)
_DROP_OWN = const(-6)
_DROP_STALE_SENDER = const(-7)
_DROP_SENDER_TABLE_FULL = const(-8)
_DROP_REPLAY = const(-9)
_DROP_PADDING = const(-11)
_DROP_DUMMY = const(-12)
_DROP_NEXT_HEADER = const(-13)
_DROP_INNER_LENGTH = const(-14)
_DROP_SELECTOR = const(-15)
_DROP_NO_SA = const(-60)
_DROP_OVERSIZE = const(-62)
_DROP_EXHAUSTED = const(-63)


def words(count):
    return array("I", [0] * count)


@micropython.viper
def place(words: ptr32) -> uint:
    return uint(words) >> 2


def word_of(octets, off=0):
    return octets[off] | octets[off + 1] << 8 | octets[off + 2] << 16 | octets[off + 3] << 24


def link(words, at, other):
    where = place(other)  # a small int on a board, as is each number here: no heap is taken
    pack_into("<HHI", words, 4 * at, (where & 0x3FFF) << 2, where >> 14 & 0xFFFF, where >> 30)


def unlink(words, at):
    words[at] = 0
    words[at + 1] = 0


@micropython.viper
def admit(w: uint, n: int, now_ms: int) -> int:
    w <<= 2
    p = ptr8(uint(ptr32(w)[_RX + 1]) << 16 << 16 | uint(ptr32(w)[_RX]))
    spi = ptr32(p)[0]
    if n < _LEAST or n & 3 or n > ptr32(w)[_RX_LEN] or not spi:
        return _DROP_LENGTH
    if not now_ms - ptr32(w)[_DUE] & _HALF:
        return _STEP_IS_DUE
    slot = 0
    q = ptr32(w + 4 * _RECORDS)
    while slot < ptr32(w)[_USED] and q[0] != spi:
        q = ptr32(uint(q) + 12)
        slot += 1
    if slot >= ptr32(w)[_USED]:
        return _DROP_UNKNOWN_SPI
    ptr32(w)[_SA] = q[1]
    ptr32(w)[_SA + 1] = q[2]
    s = ptr32(uint(q[2]) << 16 << 16 | uint(q[1]))
    t = ptr32(uint(s[_TABLE_OF + 1]) << 16 << 16 | uint(s[_TABLE_OF]))

    bits = t[_BITS]
    low_bits = t[_LOW_BITS]
    sender = uint(0)
    if bits:
        sender = uint(p[8] << 24 | p[9] << 16 | p[10] << 8 | p[11]) >> (32 - bits)
    if s[_IS_OWN]:
        if s[_IS_OWN] == _EVERYBODY or uint(s[_OWN]) == sender:
            return _DROP_OWN
    ptr32(w)[_SENDER] = sender
    ptr32(w)[_BITS_OF] = bits
    ptr32(w)[_LOW_BITS_OF] = low_bits

    n = t[_SLOTS]
    if not n:
        ptr32(w)[_WINDOW] = 0
        ptr32(w)[_WINDOW + 1] = 0
        return slot
    index = sender >> low_bits
    last = n - 1
    at = int(index) & last
    while True:
        q = ptr32(uint(t) + uint(at * 28 + 4 * _WINDOWS))
        newest = q[_NEWEST]
        if not newest:
            break
        if uint(q[_INDEX]) == index:
            low = (uint(1) << low_bits) - 1
            newer = sender - uint(q[_INCARNATION]) & low
            if newer > low >> 1:  # serial arithmetic: half the circle lies behind
                return _DROP_STALE_SENDER
            if int(newer):
                newest = 0
            break
        n -= 1
        if not n:
            return _DROP_SENDER_TABLE_FULL
        at = at + 1 & last
    ptr32(w)[_WINDOW] = uint(q)
    ptr32(w)[_WINDOW + 1] = uint(q) >> 16 >> 16
    ptr32(w)[_NEWEST_OF] = newest

    at = p[7]
    n = (p[4] << 21 | p[5] << 13 | p[6] << 5 | at >> 3) + 1
    ptr32(w)[_ROW] = n
    ptr32(w)[_BIT] = at & 7
    if n == 1 and not at:
        return _DROP_REPLAY  # nobody sends number 0
    if n <= newest:
        if newest - n >= _ROWS or ptr8(q)[4 * _RING + (n & _ROWS - 1)] >> (at & 7) & 1:
            return _DROP_REPLAY
    return slot


@micropython.viper
def trim(w: uint, text_len: int) -> int:
    w <<= 2
    p = ptr8((uint(ptr32(w)[_RX + 1]) << 16 << 16 | uint(ptr32(w)[_RX])) + _TEXT)
    text_len -= 2
    q = ptr8(uint(p) + uint(text_len))
    pad_len = q[0]
    next_header = q[1]
    if next_header == _DUMMY:
        return _DROP_DUMMY
    text_len -= pad_len
    if text_len < 0:
        return _DROP_PADDING
    q = ptr8(uint(p) + uint(text_len - 1))
    while pad_len:
        if q[pad_len] != pad_len:
            return _DROP_PADDING
        pad_len -= 1
    if next_header != _UDP:
        return _DROP_NEXT_HEADER
    udp_len = p[4] << 8 | p[5]
    if udp_len < _UDP_LEN or udp_len > text_len:  # below it: TFC padding, RFC 4303 section 2.7
        return _DROP_INNER_LENGTH
    s = ptr32(uint(ptr32(w)[_SA + 1]) << 16 << 16 | uint(ptr32(w)[_SA]))
    source = p[0] << 8 | p[1]
    port = p[2] << 8 | p[3]
    outside = source - s[_SOURCE_LO] | s[_SOURCE_HI] - source
    if (outside | port - s[_PORT_LO] | s[_PORT_HI] - port) < 0:
        return _DROP_SELECTOR
    return udp_len - _UDP_LEN


def heard(words):
    return words[_SENDER]


@micropython.viper
def accept(w: uint, n: int):
    w <<= 2
    sender = uint(ptr32(w)[_SENDER])
    ptr32(w)[_FROM] = sender
    ptr32(w)[_NAMED] = ptr32(w)[_BITS_OF]
    ptr32(w)[_PAYLOAD_LEN] = n
    ptr32(w)[_OPENED] = ptr32(w)[_OPENED] + 1 & _MASK
    q = ptr32(uint(ptr32(w)[_WINDOW + 1]) << 16 << 16 | uint(ptr32(w)[_WINDOW]))
    if int(uint(q)):
        newest = ptr32(w)[_NEWEST_OF]
        if not newest:  # nobody's, or an older incarnation's
            low_bits = ptr32(w)[_LOW_BITS_OF]
            q[_INDEX] = sender >> low_bits
            q[_INCARNATION] = sender & (uint(1) << low_bits) - 1
        n = ptr32(w)[_ROW]
        p = ptr8(uint(q) + 4 * _RING)
        ahead = n - newest
        if ahead > 0:
            q[_NEWEST] = n
            if ahead > _ROWS:
                ahead = _ROWS
            while ahead:  # clear the rows that the window slides onto
                ahead -= 1
                p[n - ahead & _ROWS - 1] = 0
        n &= _ROWS - 1
        p[n] = p[n] | 1 << ptr32(w)[_BIT]


@micropython.viper
def frame(w: uint, n: int, now_ms: int) -> int:
    w <<= 2
    if n < 0 or n > ptr32(w)[_PAYLOAD_MAX]:
        return _DROP_OVERSIZE
    if not now_ms - ptr32(w)[_DUE] & _HALF:
        return _STEP_IS_DUE
    i = ptr32(w)[_OUT]
    if not i:
        return _DROP_NO_SA
    s = ptr32(uint(i << 2) + w)
    s = ptr32(uint(s[2]) << 16 << 16 | uint(s[1]))
    i = s[_NEXT_SEQ]
    if i >= _REKEY_SEQ:
        ptr32(w)[_WANTS] = 1
        if i > _LAST_SEQ:
            return _DROP_EXHAUSTED
    s[_NEXT_SEQ] = i + 1  # before anything can fail: a number is never used twice
    i = i >> 24 | i >> 8 & 0xFF00 | i << 8 & 0xFF0000 | i << 24
    w = uint(ptr32(w)[_TX + 1]) << 16 << 16 | uint(ptr32(w)[_TX])
    ptr32(w)[0] = s[_SPI]
    ptr32(w)[1] = i
    ptr32(w)[2] = s[_IV_HEAD]
    ptr32(w)[3] = i
    ptr32(w)[4] = s[_PORTS]
    ptr32(w)[5] = 0
    i = n + _UDP_LEN
    ptr8(w)[20] = i >> 8
    ptr8(w)[21] = i
    w += uint(n + _PAYLOAD)
    ptr8(w)[0] = 1  # of these, those that padding takes
    ptr8(w)[1] = 2
    ptr8(w)[2] = 3
    n = 2 - n & 3
    ptr8(w)[n] = n
    ptr8(w)[n + 1] = _UDP
    return i + n + 2


@micropython.viper
def find_spi(spis: ptr32, count: int, buf: ptr8, off: int) -> int:
    buf = ptr8(uint(buf) + uint(off))
    spi = 0
    off = 4
    while off:
        off -= 1
        spi = spi << 8 | buf[off]
    spis = ptr32(uint(spis) + uint(count << 2))
    while count > 0:  # spis[count] would shift count itself: mpy-cross 1.26.1 for RV32
        count -= 1
        spis = ptr32(uint(spis) - 4)
        if spis[0] == spi:
            return count
    return -1
