"""The three DER structures that P-256 needs (X.690), each in its only valid form.

SubjectPublicKeyInfo (RFC 5480), 91 octets; every octet but the point's is fixed:

    30 59                                 SEQUENCE
      30 13                                 SEQUENCE
        06 07 2a 86 48 ce 3d 02 01            id-ecPublicKey
        06 08 2a 86 48 ce 3d 03 01 07         prime256v1
      03 42 00                              BIT STRING, no unused bits
        04 | x (32 octets) | y (32 octets)    an uncompressed point

ECDSA-Sig-Value (RFC 3279 section 2.2.3), 8 to 72 octets: 30 len | 02 len r | 02 len s
"""

from covey.port import const

# AlgorithmIdentifier of ecdsa-with-SHA256, without parameters (RFC 5758 section 3.2).
ECDSA_WITH_SHA256 = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"

_SPKI_HEAD = (
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
    b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
)
_POINT_LEN = const(65)  # 04 | x | y
_UNCOMPRESSED = const(0x04)
_SEQUENCE = const(0x30)
_INTEGER = const(0x02)
_INTEGER_MOST = const(33)  # octets of a positive integer below 2^256


def parse_spki(data):
    """The 65 octets of the point, or None. Whether it lies on the curve is for p256 to say."""
    head = len(_SPKI_HEAD)
    if len(data) != head + _POINT_LEN:
        return None
    if bytes(data[:head]) != _SPKI_HEAD or data[head] != _UNCOMPRESSED:
        return None
    return bytes(data[head:])


def parse_ecdsa(data):
    """(r, s), or None. Neither is negative; zero and other values out of range are for p256."""
    if len(data) < 2 or data[0] != _SEQUENCE or data[1] != len(data) - 2:
        return None
    pair = []
    end = 2
    while end < len(data):
        off = end + 2  # of a short, minimal INTEGER that is not negative
        if off >= len(data) or data[end] != _INTEGER:
            return None
        n = data[end + 1]
        end = off + n
        if not 0 < n <= _INTEGER_MOST or end > len(data) or data[off] & 0x80:
            return None
        if n > 1 and data[off] == 0 and not data[off + 1] & 0x80:
            return None  # a leading zero that no sign bit asks for
        pair.append(int.from_bytes(bytes(data[off:end]), "big"))
    return tuple(pair) if len(pair) == 2 else None


def emit_spki(point):
    """SubjectPublicKeyInfo of an uncompressed point of 65 octets."""
    assert len(point) == _POINT_LEN and point[0] == _UNCOMPRESSED
    return _SPKI_HEAD + bytes(point)
