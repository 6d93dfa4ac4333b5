"""The data path's kernels on CPython: what covey.path says, in plain Python.

Words are a list, a link is what it leads to, and a path's words stand for themselves. What costs
is how much is said. So behind the link of an SA to its table, in its second word, lie notes: of
each sender that has been heard a flow,

    [table, sender, word _NEWEST of its window, newest row there, latest number]

which spares the search of the table, and the look at its bits for numbers above the latest. The
table stays the truth: a flow whose newest row isn't the table's (bar() was there) is made anew.
Only accept() notes one. Newest row 0: the window is to be taken over. Word 0: there is none.
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
_FLOW = 12
_NUMBER = 14
_NAMED = 17
_FROM = 18
_PAYLOAD_LEN = 19
_OPENED = 20
_WANTS = 21
_RECORDS = 25

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
_FLOWS = 11
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

_LAST_ROW = 0x20000000  # of number 2^32 - 1, and of a window that is barred
_OTHER_ROWS = [0xFFFFFFFF ^ 255 << 8 * n for n in range(4)]
# Where the bit of a number lies: in which word behind _NEWEST, and which bit it is.
_BITS_AT = [(1 + (n + 8 >> 5 & 3), 1 << (n + 8 & 31)) for n in range(128)]

_head = Struct(">III").unpack_from  # SPI, number, upper half of the IV
_emit = Struct(">IIIIIH2x").pack_into
_PADDINGS = [bytes(range(1, n + 1)) for n in range(256)]  # RFC 4303 section 2.4
_TWO_OF_PADDING = 0x01020211  # what most texts end in: 1, 2, pad length, UDP
_LEAST_TEXT = 12
_cuts = {}  # text's length → cuts rx: inner ports, UDP length, last four octets of the text


def _tail(pad_len):
    """Puts octets; those behind a payload padded so; by how much its text is longer."""
    tail = _PADDINGS[pad_len] + bytes([pad_len, _UDP])
    return Struct(f"{len(tail)}s").pack_into, tail, _UDP_LEN + len(tail)


_TAILS = [_tail(2 - n & 3) for n in range(4)]  # by the payload's length & 3


def words(count):
    return [0] * count


def place(words):
    return words


def word_of(octets, off=0):
    return int.from_bytes(octets[off : off + 4], "big")


def link(words, at, other):
    words[at] = other
    words[at + 1] = {}


def unlink(words, at):
    words[at] = words[at + 1] = 0


def admit(w, n, now_ms):
    if n < _LEAST or n & 3 or n > w[_RX_LEN]:
        return _DROP_LENGTH
    spi, number, sender = _head(w[_RX])
    if not spi:
        return _DROP_LENGTH
    if now_ms - w[_DUE] & _MASK < _HALF:
        return STEP_IS_DUE
    used = w[_USED]
    if not used:
        return _DROP_UNKNOWN_SPI
    slot = 0
    at = _RECORDS
    while w[at] != spi:
        at += 3
        slot += 1
        if slot == used:
            return _DROP_UNKNOWN_SPI
    w[_SA] = sa = w[at + 1]
    t = sa[_TABLE_OF]
    sender >>= 32 - t[_BITS]
    flow = sa[_FLOWS].get(sender)
    if flow is None or t[flow[2]] != flow[3]:
        flow = _flow_of(sa, t, sender)
        if isinstance(flow, int):
            return flow
    w[_FLOW] = flow
    w[_NUMBER] = number
    if number > flow[4]:
        return slot
    if not number or _is_used(flow, number):  # nobody sends number 0
        return _DROP_REPLAY
    return slot


def _flow_of(sa, t, sender):
    """What is to be noted of this sender once a packet has been accepted, or a DROP_*."""
    if sa[_IS_OWN] and (sa[_IS_OWN] == _EVERYBODY or sa[_OWN] == sender):
        return _DROP_OWN
    slots = t[_SLOTS]
    if not slots:
        return [t, sender, 0, 0, -1]
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
            low = (1 << low_bits) - 1
            newer = sender - t[window + _INCARNATION] & low
            if newer > low >> 1:  # serial arithmetic: half the circle lies behind
                return _DROP_STALE_SENDER
            if newer:
                newest = 0
            break
        slots -= 1
        if not slots:
            return _DROP_SENDER_TABLE_FULL
        at = at + 1 & last
    return [t, sender, window + _NEWEST, newest, 8 * newest - 1 if newest else 0]


def _is_used(flow, number):
    t, _, newest_at, newest, _ = flow
    if newest - _ROWS > number >> 3:
        return True
    at, bit = _BITS_AT[number & 127]
    return t[newest_at + at] & bit


def trim(w, text_len):
    rx = w[_RX]
    try:
        source, port, udp_len, tail = _cuts[text_len](rx)
    except KeyError:
        if text_len < _LEAST_TEXT:
            return min(_trimmed(rx, text_len), 0) or _DROP_INNER_LENGTH
        _cuts[text_len] = Struct(f">{_TEXT}x3H{text_len - 10}xI").unpack_from
        return trim(w, text_len)
    most = text_len - 4 if tail == _TWO_OF_PADDING else _trimmed(rx, text_len)
    if not _UDP_LEN <= udp_len <= most:  # below it: TFC padding, RFC 4303 section 2.7
        return most if most < 0 else _DROP_INNER_LENGTH
    sa = w[_SA]
    if not sa[_SOURCE_LO] <= source <= sa[_SOURCE_HI] or not sa[_PORT_LO] <= port <= sa[_PORT_HI]:
        return _DROP_SELECTOR
    return udp_len - _UDP_LEN


def _trimmed(rx, text_len):
    """The text's length without its trailer, or a DROP_*."""
    end = text_len + _TEXT - 2
    next_header = rx[end + 1]
    if next_header == _DUMMY:
        return _DROP_DUMMY
    pad_len = rx[end]
    if pad_len > text_len - 2 or rx[end - pad_len : end] != _PADDINGS[pad_len]:
        return _DROP_PADDING
    if next_header != _UDP:
        return _DROP_NEXT_HEADER
    return text_len - 2 - pad_len


def heard(w):
    return w[_FLOW][1]


def accept(w, payload_len):
    flow = t, sender, newest_at, newest, latest = w[_FLOW]
    w[_FROM] = sender
    w[_NAMED] = t[_BITS]
    w[_PAYLOAD_LEN] = payload_len
    w[_OPENED] = w[_OPENED] + 1 & _MASK
    if not newest_at:
        return
    number = w[_NUMBER]
    if number > latest:
        flow[4] = number
        if number >= 8 * newest:
            _slide(w[_SA][_FLOWS], flow, number)
    at, bit = _BITS_AT[number & 127]
    t[newest_at + at] |= bit


def _slide(flows, flow, number):
    """The window moves on to this number's row, and the flow is noted."""
    t, sender, newest_at, newest, _ = flow
    if not newest:  # nobody's, or an older incarnation's
        flows.clear()
        low_bits = t[_LOW_BITS]
        t[newest_at - _NEWEST + _INDEX] = sender >> low_bits
        t[newest_at - _NEWEST + _INCARNATION] = sender & (1 << low_bits) - 1
    row = (number >> 3) + 1
    flow[3] = t[newest_at] = row
    if row - newest > _ROWS:
        newest = row - _ROWS
    while newest < row:  # clear the rows that it slides onto
        newest += 1
        t[newest_at + 1 + (newest >> 2 & 3)] &= _OTHER_ROWS[newest & 3]
    if row < _LAST_ROW:
        flows[sender] = flow
    else:  # here the newest row would not tell that bar() was there
        flows.pop(sender, None)


def frame(w, n, now_ms):
    if n < 0 or n > w[_PAYLOAD_MAX]:
        return _DROP_OVERSIZE
    if now_ms - w[_DUE] & _MASK < _HALF:
        return STEP_IS_DUE
    out = w[_OUT]
    if not out:
        return _DROP_NO_SA
    sa = w[out + 1]
    number = sa[_NEXT_SEQ]
    if number >= _REKEY_SEQ:
        w[_WANTS] = 1
        if number > _LAST_SEQ:
            return _DROP_EXHAUSTED
    sa[_NEXT_SEQ] = number + 1  # before anything can fail: a number is never used twice
    tx = w[_TX]
    _emit(tx, 0, sa[_SPI], number, sa[_IV_HEAD], number, sa[_PORTS], _UDP_LEN + n)
    put, tail, longer = _TAILS[n & 3]
    put(tx, _PAYLOAD + n, tail)
    return n + longer


def find_spi(spis, count, buf, off):
    spi = buf[off : off + 4]
    at = spis.find(spi, 0, 4 * count)
    while at > 0 and at & 3:  # not one of them: it lies across two
        at = spis.find(spi, at + 1, 4 * count)
    return at >> 2
