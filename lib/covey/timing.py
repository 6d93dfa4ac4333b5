"""TESLA (RFC 4082), formats: a group's terms, a key server's clock, chains of keys. See tesla.py.

The clock is the key server's: milliseconds since it began, and a name of its own, as another one
may begin. Interval i of a group lasts from i * interval_ms on that clock. A segment is 2^k
intervals, and segment s begins with interval s * 2^k; each sender has a chain of keys for each.

    K(i-1) = SHA-256(salt | i, 4 octets | K(i))[:16]     K(i), 16 octets, is the key of interval i

In the policy of an ESP SA, COVEY_SOURCE_AUTH (16400, TLV):

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+---------------+---------------+
    |    Mode: 2    | Octets of MAC |      Lag      |       k       |
    +---------------+---------------+---------------+---------------+
    |                          Interval, ms                         |
    +---------------------------------------------------------------+
    |                           Clock's name                        |
    +-------------------------------+-------------------------------+
    |   A clock's drift, at most, ppm |           RESERVED          |
    +-------------------------------+-------------------------------+

In the group-wide policy, COVEY_CHAINS (16404, TLV), and as a notification (40965), rows:

    +-------------------------------+-------------------------------+
    |      Index of its Sender-ID   |            RESERVED           |
    +-------------------------------+-------------------------------+
    |                 First interval of the segment                 |
    +---------------------------------------------------------------+
    |                            Salt (8)                           |
    +---------------------------------------------------------------+
    |          Which key: from the one before the first on          |
    +---------------------------------------------------------------+
    |                            Key (16)                           |
    +---------------------------------------------------------------+

COVEY_TIME (40963) in a request of a member:          and in the answer to it:

    +---------------+-----------------------------+   +---------------------------+
    |     Flags     |         RESERVED            |   |     Clock's name (4)      |
    +---------------+-----------------------------+   +---------------------------+
    |            The group's name                 ~   | Milliseconds that it shows|
    +---------------------------------------------+   |            (8)            |
                                                      +---------------------------+

COVEY_STONES (40964) in that answer, one for each segment that a sender may need:

    +---------------------------------------------------------------+
    |                        At: an interval                        |
    +---------------+-----------------------------------------------+
    |    n = k + 1  |                    RESERVED                   |
    +---------------+-----------------------------------------------+
    |                            Salt (8)                           |
    +---------------------------------------------------------------+
    ~   n keys, 16 octets each: At + 1, At + 2, At + 4, ... At + 2^k ~
    +---------------------------------------------------------------+

At is the last interval before the segment, or one of it. A chain goes on for 2^k intervals behind
its segment, and those keys are never used.
"""

import struct

from covey.drops import DROP_IKE_FORMAT, DROP_POLICY, FormatError
from covey.iana import COVEY_CHAINS, COVEY_SOURCE_AUTH
from covey.octets import u16, u32
from covey.port import const
from covey.sources import TESLA, only

WANTS_STONES = 1  # it sends
WANTS_CHAINS = 2  # of the others
KNOWS_TIME = 4  # so far; else it confirms nothing, and sends nothing
KEY_LEN = 16
SALT_LEN = 8
END = 1 << 31  # no interval is as late
MOST_LAG = 16
LEAST_INTERVAL_MS = 20
MOST_INTERVAL_MS = 60_000
MOST_BITS = 20  # k
MOST_DRIFT_PPM = 20_000
ROUND_TRIP_MS = 5  # that any network of ours can keep, with the tick of a board's clock
_ASK_S = const(10)  # between two questions, at least
_MOST_S = const(14400)
_LEAST_TAG = const(8)
_MOST_TAG = const(16)
_TERMS = ">BBBBI4sHxx"
_TERMS_LEN = const(16)
_ROW = const(36)
_STONES = const(16)  # octets before the first


class Timing:
    """How a group proves its senders by time."""

    def __init__(self, tag_len, lag, bits, interval_ms, clock, drift_ppm):
        self.tag_len = tag_len  # octets of a MAC
        self.lag = lag  # intervals, after which a key is disclosed
        self.bits = bits  # k
        self.interval_ms = interval_ms
        self.clock = clock  # 4 octets: its name
        self.drift_ppm = drift_ppm  # of anybody's clock against the key server's

    def is_same(self, other):
        """Whether what is known by these terms is good for others."""
        return self._facts() == other._facts()

    def _facts(self):
        lengths = self.tag_len, self.lag, self.bits
        return lengths + (self.interval_ms, self.clock, self.drift_ppm)


def good_for_s(lag, interval_ms, drift_ppm):
    """How long what a member knows of the time is of use, whoever answers: while two who know it
    for so long, whose clocks go apart as far as they may, still take each other's packets.

    Each is wrong by its round trip and by twice the drift. 20 s at least: policy sees to that.
    """
    spare_ms = (lag - 1) * interval_ms - 2 * ROUND_TRIP_MS
    return max(2 * _ASK_S, min(_MOST_S, spare_ms * 250 // drift_ppm))


def ask_again_s(lag, interval_ms, drift_ppm):
    """When a member asks again at the latest: after a quarter of that time, so that an IKE SA that
    the key server has lost can be found out; but not before 10 s, and after a minute anyway."""
    return max(_ASK_S, min(60, good_for_s(lag, interval_ms, drift_ppm) // 4))


def parse_timing(attributes):
    """Attributes of an ESP SA's policy → Timing"""
    value = only(attributes, COVEY_SOURCE_AUTH)
    if value is None or len(value) != _TERMS_LEN or value[0] != TESLA:
        raise FormatError(DROP_POLICY)
    made = Timing(*struct.unpack(_TERMS, value)[1:])
    if not _LEAST_TAG <= made.tag_len <= _MOST_TAG or not 1 <= made.lag <= MOST_LAG:
        raise FormatError(DROP_POLICY)
    if not LEAST_INTERVAL_MS <= made.interval_ms <= MOST_INTERVAL_MS:
        raise FormatError(DROP_POLICY)
    if not 1 <= made.bits <= MOST_BITS or not 1 <= made.drift_ppm <= MOST_DRIFT_PPM:
        raise FormatError(DROP_POLICY)
    return made


def parse_chains(value, bits):
    """COVEY_CHAINS, the attribute's value or the notification's data → [(index, first interval,
    salt, which key, key)]; bits: k"""
    if isinstance(value, int) or len(value) % _ROW:
        raise FormatError(DROP_POLICY)
    rows = []
    for off in range(0, len(value), _ROW):
        first, which = u32(value, off + 4), u32(value, off + 16)
        end = first + (1 << bits)
        if first & ((1 << bits) - 1) or not first - 1 <= which < end <= END:
            raise FormatError(DROP_POLICY)
        salt = bytes(value[off + 8 : off + 16])
        rows.append((u16(value, off), first, salt, which, bytes(value[off + 20 : off + _ROW])))
    if len({row[:2] for row in rows}) != len(rows):
        raise FormatError(DROP_POLICY)
    return rows


def emit_ask(flags, group):
    """What a member asks for; flags: WANTS_STONES | WANTS_CHAINS | KNOWS_TIME. group: its name's
    octets.
    """
    return struct.pack(">Bxxx", flags) + group


def parse_time(data):
    """→ (the clock's name, the milliseconds that it showed)"""
    if len(data) != 12:
        raise FormatError(DROP_IKE_FORMAT)
    return bytes(data[:4]), u32(data, 4) << 32 | u32(data, 8)


def parse_stones(data, bits):
    """→ (at, salt, keys at + 1, at + 2, at + 4, ...), keys as bytearrays: they are secrets of who
    asked. bits: k"""
    if len(data) != _STONES + KEY_LEN * (bits + 1) or data[4] != bits + 1:
        raise FormatError(DROP_IKE_FORMAT)
    at = u32(data, 0)
    if at >= END - (2 << bits):
        raise FormatError(DROP_IKE_FORMAT)
    keys = [bytearray(data[off : off + KEY_LEN]) for off in range(_STONES, len(data), KEY_LEN)]
    return at, bytes(data[8:_STONES]), keys


# ---- The key server's half, which boards are built without


def emit_timing(timing):
    facts = timing.tag_len, timing.lag, timing.bits, timing.interval_ms, timing.clock
    return COVEY_SOURCE_AUTH, struct.pack(_TERMS, TESLA, *facts, timing.drift_ppm)


def emit_chains(rows):
    """rows: (index, first interval, salt, which key, key) each → the attribute; its value is the
    notification's data, too."""
    out = [struct.pack(">HxxI8sI16s", *row) for row in rows]
    return COVEY_CHAINS, b"".join(out)


def parse_ask(data):
    """→ (flags, the group's name)"""
    if len(data) < 4:
        raise FormatError(DROP_IKE_FORMAT)
    return data[0], bytes(data[4:])


def emit_time(clock, ms):
    return clock + struct.pack(">Q", ms)


def emit_stones(at, salt, keys):
    return struct.pack(">IBxxx8s", at, len(keys), salt) + b"".join(keys)
