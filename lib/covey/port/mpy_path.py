"""The data path's kernels on MicroPython: what covey.path says, in viper. None takes heap.

A link is the address of what it leads to, in two words, low and high; 0 of nothing. Kernels are
handed the address of a path's words / 4, which is always a small int. Words are read as the
octets lie in memory: little-endian boards only, and mpy_gcm refuses the others.
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
_SA = const(10)
_TABLE = const(12)
_WINDOW = const(14)
_SENDER = const(16)
_NAMED = const(17)
_FROM = const(18)
_PAYLOAD_LEN = const(19)
_OPENED = const(20)
_WANTS = const(21)
_RECORDS = const(23)

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
    pack_into("<Q", words, 4 * at, place(other) << 2)


def unlink(words, at):
    words[at] = 0
    words[at + 1] = 0


@micropython.viper
def admit(place: uint, n: int, now_ms: int) -> int:
    w = ptr32(place << 2)
    if n < _LEAST or n & 3 or n > w[_RX_LEN]:
        return _DROP_LENGTH
    p = ptr8(uint(w[_RX + 1]) << 16 << 16 | uint(w[_RX]))
    spi = ptr32(p)[0]
    if not spi:
        return _DROP_LENGTH
    if now_ms - w[_DUE] & _MASK < _HALF:
        return _STEP_IS_DUE
    slot = 0
    used = w[_USED]
    q = ptr32(uint(w) + (4 * _RECORDS))
    while True:
        if slot == used:
            return _DROP_UNKNOWN_SPI
        if q[0] == spi:
            break
        q = ptr32(uint(q) + 12)
        slot += 1
    w[_SA] = q[1]
    w[_SA + 1] = q[2]
    s = ptr32(uint(q[2]) << 16 << 16 | uint(q[1]))
    w[_TABLE] = s[_TABLE_OF]
    w[_TABLE + 1] = s[_TABLE_OF + 1]
    t = ptr32(uint(s[_TABLE_OF + 1]) << 16 << 16 | uint(s[_TABLE_OF]))

    bits = t[_BITS]
    sender = uint(0)
    if bits:
        sender = uint(p[8] << 24 | p[9] << 16 | p[10] << 8 | p[11]) >> (32 - bits)
    if s[_IS_OWN]:
        if s[_IS_OWN] == _EVERYBODY or uint(s[_OWN]) == sender:
            return _DROP_OWN
    w[_SENDER] = sender

    slots = t[_SLOTS]
    if not slots:
        w[_WINDOW] = 0
        w[_WINDOW + 1] = 0
        return slot
    low_bits = t[_LOW_BITS]
    index = sender >> low_bits
    last = slots - 1
    at = int(index) & last
    while True:
        q = ptr32(uint(t) + uint(at * 28 + 4 * _WINDOWS))
        newest = q[_NEWEST]
        if not newest:
            break
        if uint(q[_INDEX]) == index:
            if low_bits:
                low = (uint(1) << low_bits) - 1
                newer = sender - uint(q[_INCARNATION]) & low
                if int(newer):
                    if newer > low >> 1:  # serial arithmetic: half the circle lies behind
                        return _DROP_STALE_SENDER
                    newest = 0
            break
        slots -= 1
        if not slots:
            return _DROP_SENDER_TABLE_FULL
        at = at + 1 & last
    w[_WINDOW] = uint(q)
    w[_WINDOW + 1] = uint(q) >> 16 >> 16

    at = p[7]
    row = (p[4] << 21 | p[5] << 13 | p[6] << 5 | at >> 3) + 1
    if row == 1:
        if not at:
            return _DROP_REPLAY  # nobody sends number 0
    if row > newest:
        return slot
    if newest - row >= _ROWS:
        return _DROP_REPLAY
    if ptr8(q)[(4 * _RING) + (row & (_ROWS - 1))] >> (at & 7) & 1:
        return _DROP_REPLAY
    return slot


@micropython.viper
def trim(place: uint, text_len: int) -> int:
    w = ptr32(place << 2)
    p = ptr8(uint(w[_RX + 1]) << 16 << 16 | uint(w[_RX]))
    end = text_len + (_TEXT - 2)
    next_header = p[end + 1]
    if next_header == _DUMMY:
        return _DROP_DUMMY
    pad_len = p[end]
    if pad_len > text_len - 2:
        return _DROP_PADDING
    end -= pad_len
    if pad_len:
        q = ptr8(uint(p) + uint(end))
        i = 0
        while i < pad_len:
            if q[i] != i + 1:
                return _DROP_PADDING
            i += 1
    if next_header != _UDP:
        return _DROP_NEXT_HEADER
    udp_len = p[_TEXT + 4] << 8 | p[_TEXT + 5]
    if udp_len < _UDP_LEN or udp_len > end - _TEXT:  # below it: TFC padding, RFC 4303 section 2.7
        return _DROP_INNER_LENGTH
    s = ptr32(uint(w[_SA + 1]) << 16 << 16 | uint(w[_SA]))
    port = p[_TEXT] << 8 | p[_TEXT + 1]
    if port < s[_SOURCE_LO] or port > s[_SOURCE_HI]:
        return _DROP_SELECTOR
    port = p[_TEXT + 2] << 8 | p[_TEXT + 3]
    if port < s[_PORT_LO] or port > s[_PORT_HI]:
        return _DROP_SELECTOR
    return udp_len - _UDP_LEN


def heard(words):
    return words[_SENDER]


@micropython.viper
def accept(place: uint, payload_len: int):
    w = ptr32(place << 2)
    t = ptr32(uint(w[_TABLE + 1]) << 16 << 16 | uint(w[_TABLE]))
    q = ptr32(uint(w[_WINDOW + 1]) << 16 << 16 | uint(w[_WINDOW]))
    sender = uint(w[_SENDER])
    w[_FROM] = sender
    w[_NAMED] = t[_BITS]
    w[_PAYLOAD_LEN] = payload_len
    w[_OPENED] = w[_OPENED] + 1 & _MASK
    if not int(uint(q)):
        return
    newest = q[_NEWEST]
    low_bits = t[_LOW_BITS]
    low = (uint(1) << low_bits) - 1
    if not newest or int(sender - uint(q[_INCARNATION]) & low):
        q[_INDEX] = sender >> low_bits
        q[_INCARNATION] = sender & low
        newest = 0
    p = ptr8(uint(w[_RX + 1]) << 16 << 16 | uint(w[_RX]))
    at = p[7]
    row = (p[4] << 21 | p[5] << 13 | p[6] << 5 | at >> 3) + 1
    p = ptr8(uint(q) + (4 * _RING))
    if row > newest:
        q[_NEWEST] = row
        ahead = row - newest
        if ahead > _ROWS:
            ahead = _ROWS
        while ahead:  # clear the rows that the window slides onto
            ahead -= 1
            p[row - ahead & (_ROWS - 1)] = 0
    row = row & (_ROWS - 1)
    p[row] = p[row] | 1 << (at & 7)


@micropython.viper
def frame(place: uint, n: int, now_ms: int) -> int:
    w = ptr32(place << 2)
    if n < 0 or n > w[_PAYLOAD_MAX]:
        return _DROP_OVERSIZE
    if now_ms - w[_DUE] & _MASK < _HALF:
        return _STEP_IS_DUE
    out = w[_OUT]
    if not out:
        return _DROP_NO_SA
    q = ptr32(uint(w) + uint(out << 2))
    s = ptr32(uint(q[2]) << 16 << 16 | uint(q[1]))
    seq = s[_NEXT_SEQ]
    if seq >= _REKEY_SEQ:
        w[_WANTS] = 1
        if seq > _LAST_SEQ:
            return _DROP_EXHAUSTED
    s[_NEXT_SEQ] = seq + 1  # before anything can fail: a number is never used twice
    seq = seq >> 24 | seq >> 8 & 0xFF00 | seq << 8 & 0xFF0000 | seq << 24
    t = ptr32(uint(w[_TX + 1]) << 16 << 16 | uint(w[_TX]))
    t[0] = s[_SPI]
    t[1] = seq
    t[2] = s[_IV_HEAD]
    t[3] = seq
    t[4] = s[_PORTS]
    udp_len = n + _UDP_LEN
    t[5] = udp_len >> 8 | (udp_len & 255) << 8
    p = ptr8(uint(t) + uint(n + _PAYLOAD))
    pad_len = 2 - n & 3
    i = 0
    while i < pad_len:
        p[i] = i + 1
        i += 1
    p[i] = i
    p[i + 1] = _UDP
    return udp_len + i + 2


@micropython.viper
def find_spi(spis: ptr32, count: int, buf: ptr8, off: int) -> int:
    buf = ptr8(uint(buf) + uint(off))
    spi = 0
    off = 4
    while off:
        off -= 1
        spi = spi << 8 | buf[off]
    count -= 1
    while count >= 0 and spis[count] != spi:
        count -= 1
    return count
