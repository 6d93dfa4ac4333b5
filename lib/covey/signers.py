"""Signed packets, formats: whose key is which, and what lies behind a payload. See signatures.py.

In the group-wide policy, COVEY_SIGNERS (16405, TLV), a row for each sender on the roster:

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------------------------------+-------------------------------+
    |      Index of its Sender-ID   |            RESERVED           |
    +-------------------------------+-------------------------------+
    ~             x and y of its point on P-256, 32 each            ~
    +---------------------------------------------------------------+

Behind a payload, to be read from its end, as only there stands how long it is:

    +---------------------------------------------------------------+
    ~         Path: Levels times 32 octets, see merkle.py           ~
    +---------------+---------------+-------------------------------+
    |   Position    |    Levels     |      r and s, 32 each         ~
    +---------------+---------------+-------------------------------+

A sender's private key is derived from R, which only it and the key server have (sources.py). A
member that brought a key of its own would need no R: whose point it is, the key server says.
"""

from struct import pack

from covey.drops import DROP_POLICY, FormatError
from covey.iana import COVEY_SIGNERS
from covey.octets import u16
from covey.port import const
from covey.sources import only

KEY_LABEL = b"Covey ECDSA key"  # of p256_sign.derived()
TAIL = 66  # octets of a trailer behind its path
_ROW = const(68)


def parse_signers(attributes):
    """Attributes of the group-wide policy → {index: the 65 octets of an uncompressed point}, which
    need not lie on the curve.
    """
    value = only(attributes, COVEY_SIGNERS)
    if value is None or len(value) % _ROW:
        raise FormatError(DROP_POLICY)
    found = {}
    for off in range(0, len(value), _ROW):
        found[u16(value, off)] = b"\x04" + bytes(value[off + 4 : off + _ROW])
    if len(found) * _ROW != len(value):
        raise FormatError(DROP_POLICY)
    return found


def parse_trailer(buf, begin, end, most_levels):
    """Of a payload and its trailer in buf → (where the trailer begins, position, levels), or None:
    there is none. What is signed, and by whom, is not looked at.
    """
    at = end - TAIL
    if at < begin:
        return None
    position, levels = buf[at], buf[at + 1]
    at -= 32 * levels
    if levels > most_levels or position >> levels or at < begin:
        return None
    return at, position, levels


def emit_trailer(path, position, r, s):
    levels = len(path) // 32
    return path + bytes((position, levels)) + r.to_bytes(32, "big") + s.to_bytes(32, "big")


# ---- The key server's half, which boards are built without


def emit_signers(points):
    """points: {index: the 65 octets of an uncompressed point}"""
    rows = [pack(">Hxx", index) + bytes(points[index][1:]) for index in sorted(points)]
    return COVEY_SIGNERS, b"".join(rows)
