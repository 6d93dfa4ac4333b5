"""X.509 certificates of P-256 keys, and what a chain of them is worth (RFC 5280), but for their
signatures, which cost time: those are for whoever asks.

Strict DER, version 3, at most 2048 octets. What isn't understood and marked critical refuses the
certificate, and so do name constraints, marked or not. Everything wrong is a
FormatError(DROP_IKE_CERT); a chain that parses and is worth nothing has a word for it.
"""

from covey.der import ECDSA_WITH_SHA256, parse_ecdsa, parse_spki
from covey.drops import DROP_IKE_CERT, FormatError
from covey.port import const

_MOST = const(2048)  # octets of a certificate
_MOST_EXTENSIONS = const(24)

_BOOLEAN = const(0x01)
_INTEGER = const(0x02)
_BIT_STRING = const(0x03)
_OCTET_STRING = const(0x04)
_OID = const(0x06)
_UTC_TIME = const(0x17)
_GENERALIZED_TIME = const(0x18)
_SEQUENCE = const(0x30)
_EXTENSIONS = const(0xA3)  # [3] EXPLICIT
_DNS_NAME = const(0x82)  # [2] IMPLICIT IA5String
_V3 = b"\xa0\x03\x02\x01\x02"  # [0] EXPLICIT INTEGER 2

_DIGITAL_SIGNATURE = const(0x80)  # in the first octet of a KeyUsage
_KEY_CERT_SIGN = const(0x04)

_ARC = b"\x55\x1d"  # 2.5.29, of the extensions
_KEY_USAGE = const(15)
_ALT_NAME = const(17)
_BASIC_CONSTRAINTS = const(19)
_NAME_CONSTRAINTS = const(30)
_EXT_KEY_USAGE = const(37)
# Purposes that a key server may have: serverAuth, ipsecIKE (RFC 4945 section 5.1.3.12), any.
_SERVER = (
    b"\x2b\x06\x01\x05\x05\x07\x03\x01",
    b"\x2b\x06\x01\x05\x05\x07\x03\x11",
    b"\x55\x1d\x25\x00",
)


class Certificate:
    """The parts of one that matter. Times are 14 digits of UTC, YYYYMMDDHHMMSS, as octets."""

    def __init__(self, data):
        self.data = bytes(data)
        self.tbs = b""  # what the signature covers
        self.signature = None  # (r, s), or None where it is of another algorithm
        self.issuer = b""  # names, in DER
        self.subject = b""
        self.not_before = b""
        self.not_after = b""
        self.spki = b""
        self.point = b""  # 65 octets
        self.is_ca = False
        self.path_len = None  # CAs that may stand below it
        self.usage = None  # first octet of KeyUsage, None: any
        self.purposes = None  # OIDs, None: any
        self.names = []  # dNSNames


def parse(data):
    """One certificate, from its first octet to its last."""
    if len(data) > _MOST:
        raise FormatError(DROP_IKE_CERT)
    found = Certificate(data)
    data = found.data
    at, end = _element(data, 0, len(data), _SEQUENCE)
    if end != len(data):
        raise FormatError(DROP_IKE_CERT)
    inner, tbs_end = _element(data, at, end, _SEQUENCE)
    found.tbs = data[at:tbs_end]
    _, signature = _element(data, tbs_end, end, _SEQUENCE)
    algorithm = data[tbs_end:signature]
    at, last = _element(data, signature, end, _BIT_STRING)
    if last != end or at == end or data[at]:
        raise FormatError(DROP_IKE_CERT)
    if algorithm == ECDSA_WITH_SHA256:
        found.signature = parse_ecdsa(data[at + 1 : end])
    _parse_tbs(found, data, inner, tbs_end, algorithm)
    return found


def _parse_tbs(found, data, at, end, algorithm):
    if data[at : at + len(_V3)] != _V3:
        raise FormatError(DROP_IKE_CERT)
    _, at = _element(data, at + len(_V3), end, _INTEGER)
    _, off = _element(data, at, end, _SEQUENCE)
    if data[at:off] != algorithm:
        raise FormatError(DROP_IKE_CERT)
    _, at = _element(data, off, end, _SEQUENCE)
    found.issuer = data[off:at]
    off, at = _element(data, at, end, _SEQUENCE)
    found.not_before, off = _time(data, off, at)
    found.not_after, off = _time(data, off, at)
    if off != at:
        raise FormatError(DROP_IKE_CERT)
    _, off = _element(data, at, end, _SEQUENCE)
    found.subject = data[at:off]
    _, at = _element(data, off, end, _SEQUENCE)
    found.spki = data[off:at]
    found.point = parse_spki(found.spki)
    if found.point is None:
        raise FormatError(DROP_IKE_CERT)
    if at != end:
        off, last = _element(data, at, end, _EXTENSIONS)
        if last != end:
            raise FormatError(DROP_IKE_CERT)
        _parse_extensions(found, data, *_only(data, off, end, _SEQUENCE))


def _parse_extensions(found, data, at, end):
    seen = []
    while at < end:
        off, at = _element(data, at, end, _SEQUENCE)
        first, off = _element(data, off, at, _OID)
        oid = data[first:off]
        is_critical = off < at and data[off] == _BOOLEAN
        if is_critical:
            first, off = _element(data, off, at, _BOOLEAN)
            if off - first != 1 or data[first] != 0xFF:  # false is the default, and left out
                raise FormatError(DROP_IKE_CERT)
        value = _only(data, off, at, _OCTET_STRING)
        if oid in seen or len(seen) == _MOST_EXTENSIONS:  # RFC 5280 section 4.2: none twice
            raise FormatError(DROP_IKE_CERT)
        seen.append(oid)
        number = oid[2] if len(oid) == 3 and oid[:2] == _ARC else 0
        if not _take(found, number, data, *value) and is_critical:
            raise FormatError(DROP_IKE_CERT)


def _take(found, number, data, at, end):
    """One extension, 2.5.29.number. False: it is not looked at."""
    if number == _BASIC_CONSTRAINTS:
        at, end = _only(data, at, end, _SEQUENCE)
        if at < end and data[at] == _BOOLEAN:
            at, off = _element(data, at, end, _BOOLEAN)
            found.is_ca = data[at:off] == b"\xff"
            at = off
        if at < end:
            at, end = _only(data, at, end, _INTEGER)
            if end - at != 1 or data[at] & 0x80:
                raise FormatError(DROP_IKE_CERT)
            found.path_len = data[at]
    elif number == _KEY_USAGE:
        at, end = _only(data, at, end, _BIT_STRING)
        if end - at < 2:
            raise FormatError(DROP_IKE_CERT)
        found.usage = data[at + 1]
    elif number == _EXT_KEY_USAGE:
        at, end = _only(data, at, end, _SEQUENCE)
        found.purposes = []
        while at < end:
            off, at = _element(data, at, end, _OID)
            found.purposes.append(data[off:at])
    elif number == _ALT_NAME:
        at, end = _only(data, at, end, _SEQUENCE)
        while at < end:
            kind = data[at]
            off, at = _element(data, at, end, kind)
            if kind == _DNS_NAME:
                found.names.append(data[off:at])
    elif number == _NAME_CONSTRAINTS:
        raise FormatError(DROP_IKE_CERT)
    else:
        return False
    return True


def _element(data, at, end, tag):
    """The element of that tag at data[at] → (where its content begins, where it ends)."""
    if end - at < 2 or data[at] != tag:
        raise FormatError(DROP_IKE_CERT)
    length = data[at + 1]
    at += 2
    if length >= 0x80:
        n = length - 0x80
        if not 1 <= n <= 2 or end - at < n or not data[at]:
            raise FormatError(DROP_IKE_CERT)
        length = data[at] << 8 | data[at + 1] if n == 2 else data[at]
        at += n
        if length < 0x80:
            raise FormatError(DROP_IKE_CERT)  # a short form would have done
    if length > end - at:
        raise FormatError(DROP_IKE_CERT)
    return at, at + length


def _only(data, at, end, tag):
    """The same for one that fills what there is."""
    at, last = _element(data, at, end, tag)
    if last != end:
        raise FormatError(DROP_IKE_CERT)
    return at, end


def _time(data, at, end):
    """(14 digits, offset behind it): UTCTime up to 2049, GeneralizedTime from 2050 on."""
    if at < end and data[at] == _UTC_TIME:
        at, end = _element(data, at, end, _UTC_TIME)
        digits = (b"19" if data[at : at + 1] >= b"5" else b"20") + data[at : end - 1]
    else:
        at, end = _element(data, at, end, _GENERALIZED_TIME)
        digits = data[at : end - 1]
    if len(digits) != 14 or not digits.isdigit() or data[end - 1 : end] != b"Z":
        raise FormatError(DROP_IKE_CERT)
    return digits, end


# What a chain is worth: each answers None, or a word for what is wrong


def is_issued(certificate, issuer, below):
    """Whether its issuer is named as such, and may have so many CAs below it (section 6.1)."""
    if certificate.signature is None or certificate.issuer != issuer.subject or not issuer.is_ca:
        return False
    if issuer.usage is not None and not issuer.usage & _KEY_CERT_SIGN:
        return False
    return issuer.path_len is None or issuer.path_len >= below


def time_problem(certificate, now):
    """now: 14 digits, None where nobody knows."""
    if now is None:
        return None
    if now < certificate.not_before:
        return "certificate_not_yet_valid"
    return "certificate_expired" if now > certificate.not_after else None


def server_problem(certificate, name):
    """Whether it can be that of the key server of this name (RFC 4945 section 5)."""
    if certificate.is_ca:
        return "certificate_of_a_ca"
    if certificate.usage is not None and not certificate.usage & _DIGITAL_SIGNATURE:
        return "certificate_key_usage"
    if certificate.purposes is not None and not any(
        [purpose in _SERVER for purpose in certificate.purposes]
    ):
        return "certificate_purpose"
    if name.lower() not in [each.lower() for each in certificate.names]:
        return "certificate_name"
    return None
