"""The data path's kernels on CPython: what covey.path says, in plain Python.

Words are a list, a link is what it leads to, and a path's words stand for themselves. What costs
is how much is said, so that word _SA holds all that admit() has found out: (SA, table, window,
sender, newest row there, at). at = number + 8 is row and bit in one: row at >> 3 (they count from
1) lies in word at >> 5 & 3 of the ring, and the bit is number at & 31 of that word.
"""

from struct import Struct

# As covey.path has them.
_DUE = 0
_RX = 1
_RX_LEN = 3
_TX = 4
_PAYLOAD_MAX = 6
_USED = 7
_OUT = 8
_SA = 10
_NAMED = 17
_FROM = 18
_PAYLOAD_LEN = 19
_OPENED = 20
_WANTS = 21
_SENT = 22
_RECORDS = 23

_SPI = 0
_IV_HEAD = 1
_PORTS = 2
_NEXT_SEQ = 3
_SOURCE_LO = 4
_SOURCE_HI = 5
_PORT_LO = 6
_PORT_HI = 7
_OWN = 8
_IS_OWN = 9
_TABLE_OF = 10
_EVERYBODY = 2

_BITS = 0
_LOW_BITS = 1
_SLOTS = 2
_WINDOWS = 3
_INDEX = 0
_INCARNATION = 1
_NEWEST = 2
_RING = 3
_ROWS = 16

_LEAST = 36
_TEXT = 16
_UDP_LEN = 8
_PAYLOAD = 24
_UDP = 17
_DUMMY = 59

_LAST_SEQ = 0x3FFFFFFE
_REKEY_SEQ = 0x30000000
_MASK = 0x3FFFFFFF
_HALF = 0x20000000

STEP_IS_DUE = -101  # no DROP_* and not IKE_MESSAGE

# As covey.drops has them.
_DROP_LENGTH = -3
_DROP_UNKNOWN_SPI = -4
_DROP_OWN = -6
_DROP_STALE_SENDER = -7
_DROP_SENDER_TABLE_FULL = -8
_DROP_REPLAY = -9
_DROP_PADDING = -11
_DROP_DUMMY = -12
_DROP_NEXT_HEADER = -13
_DROP_INNER_LENGTH = -14
_DROP_SELECTOR = -15
_DROP_NO_SA = -60
_DROP_OVERSIZE = -62
_DROP_EXHAUSTED = -63

_BIT = [1 << n for n in range(32)]
_OTHER_ROWS = [0xFFFFFFFF ^ 255 << 8 * n for n in range(4)]

_head = Struct(">III").unpack_from  # SPI, number, upper half of the IV
_udp_head = Struct(">HHH").unpack_from
_emit = Struct(">IIIIII").pack_into
_PADDINGS = [bytes(range(1, n + 1)) for n in range(256)]  # RFC 4303 section 2.4
# Bytearrays: to put octets of another kind into one costs a bytearray of them each time.
_TAILS = [bytearray(_PADDINGS[n]) + bytes([n, _UDP]) for n in range(4)]


def words(count):
    return [0] * count


def place(words):
    return words


def word_of(octets, off=0):
    return int.from_bytes(octets[off : off + 4], "big")


def link(words, at, other):
    words[at] = other


def unlink(words, at):
    words[at] = 0


def admit(w, n, now_ms):
    if n < _LEAST or n & 3 or n > w[_RX_LEN]:
        return _DROP_LENGTH
    spi, seq, sender = _head(w[_RX])
    if not spi:
        return _DROP_LENGTH
    if now_ms - w[_DUE] & _MASK < _HALF:
        return STEP_IS_DUE
    slot = 0
    at = _RECORDS
    while w[at] != spi:
        at += 3
        slot += 1
        if slot >= w[_USED]:
            return _DROP_UNKNOWN_SPI
    sa = w[at + 1]
    t = sa[_TABLE_OF]
    sender >>= 32 - t[_BITS]
    if sa[_IS_OWN]:
        if sa[_IS_OWN] == _EVERYBODY or sa[_OWN] == sender:
            return _DROP_OWN

    slots = t[_SLOTS]
    if not slots:
        w[_SA] = sa, t, 0, sender, 0, 0
        return slot
    low_bits = t[_LOW_BITS]
    index = sender >> low_bits
    last = slots - 1
    at = index & last
    while True:
        window = 7 * at + _WINDOWS
        newest = t[window + _NEWEST]
        if not newest:
            break
        if t[window + _INDEX] == index:
            if low_bits:
                low = (1 << low_bits) - 1
                newer = sender - t[window + _INCARNATION] & low
                if newer:
                    if newer > low >> 1:  # serial arithmetic: half the circle lies behind
                        return _DROP_STALE_SENDER
                    newest = 0
            break
        slots -= 1
        if not slots:
            return _DROP_SENDER_TABLE_FULL
        at = at + 1 & last
    if not seq:
        return _DROP_REPLAY  # nobody sends number 0
    at = seq + 8
    w[_SA] = sa, t, window, sender, newest, at
    row = at >> 3
    if row > newest:
        return slot
    if newest - row >= _ROWS:
        return _DROP_REPLAY
    if t[window + _RING + (at >> 5 & 3)] & _BIT[at & 31]:
        return _DROP_REPLAY
    return slot


def trim(w, text_len):
    rx = w[_RX]
    end = text_len + _TEXT - 2
    next_header = rx[end + 1]
    if next_header == _DUMMY:
        return _DROP_DUMMY
    pad_len = rx[end]
    if pad_len:
        if pad_len > text_len - 2 or rx[end - pad_len : end] != _PADDINGS[pad_len]:
            return _DROP_PADDING
        end -= pad_len
    if next_header != _UDP:
        return _DROP_NEXT_HEADER
    source, port, udp_len = _udp_head(rx, _TEXT)
    if not _UDP_LEN <= udp_len <= end - _TEXT:  # below it: TFC padding, RFC 4303 section 2.7
        return _DROP_INNER_LENGTH
    sa = w[_SA][0]
    if not sa[_SOURCE_LO] <= source <= sa[_SOURCE_HI]:
        return _DROP_SELECTOR
    if not sa[_PORT_LO] <= port <= sa[_PORT_HI]:
        return _DROP_SELECTOR
    return udp_len - _UDP_LEN


def accept(w, payload_len):
    _, t, window, sender, newest, at = w[_SA]
    w[_FROM] = sender
    w[_NAMED] = t[_BITS]
    w[_PAYLOAD_LEN] = payload_len
    w[_OPENED] = w[_OPENED] + 1 & _MASK
    if not window:
        return
    if not newest:  # nobody's, or an older incarnation's
        low_bits = t[_LOW_BITS]
        t[window + _INDEX] = sender >> low_bits
        t[window + _INCARNATION] = sender & (1 << low_bits) - 1
    ring = window + _RING
    row = at >> 3
    if row > newest:
        t[window + _NEWEST] = row
        if row - newest > _ROWS:
            newest = row - _ROWS
        while newest < row:  # clear the rows that the window slides onto
            newest += 1
            t[ring + (newest >> 2 & 3)] &= _OTHER_ROWS[newest & 3]
    t[ring + (at >> 5 & 3)] |= _BIT[at & 31]


def frame(w, n, now_ms):
    if n < 0 or n > w[_PAYLOAD_MAX]:
        return _DROP_OVERSIZE
    if now_ms - w[_DUE] & _MASK < _HALF:
        return STEP_IS_DUE
    sa = w[_OUT]
    if not sa:
        return _DROP_NO_SA
    seq = sa[_NEXT_SEQ]
    if seq >= _REKEY_SEQ:
        w[_WANTS] = 1
        if seq > _LAST_SEQ:
            return _DROP_EXHAUSTED
    w[_SENT] = w[_SENT] + 1 & _MASK
    sa[_NEXT_SEQ] = seq + 1  # before anything can fail: a number is never used twice
    tx = w[_TX]
    udp_len = _UDP_LEN + n
    _emit(tx, 0, sa[_SPI], seq, sa[_IV_HEAD], seq, sa[_PORTS], udp_len << 16)
    pad_len = 2 - n & 3
    end = _PAYLOAD + n
    tx[end : end + pad_len + 2] = _TAILS[pad_len]
    return udp_len + pad_len + 2


def find_spi(spis, count, buf, off):
    spi = buf[off : off + 4]
    for i in range(count):
        if spis[4 * i : 4 * i + 4] == spi:
            return i
    return -1
