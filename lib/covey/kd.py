"""The keys of a group: the KD payload of G-IKEv2 (RFC 9838 section 4.5), and its substructures.

Cold code, plain values. Order is free. Unknown attributes are ignored, those of a member bag kept
aside. A payload that does not parse is a FormatError(DROP_KD).
"""

import struct

from covey import iana
from covey.drops import DROP_KD, FormatError, need
from covey.ikesa import Value, emit_attribute, end_of, octets_of, parse_attributes
from covey.job import finish
from covey.port import const

ZERO_ID = b"\0\0\0\0"  # a Key ID: the keys of an SA. A KWK ID: the default KWK, GSK_w
NO_PROTOCOL = 0  # of a substructure that belongs to no SA

_SA_KEY = const(1)
_WRAP_KEY = const(1)
_AUTH_KEY = const(2)
_GM_SENDER_ID = const(3)
_SENDER_ID_MOST = const(8)  # octets; the RFC names no size

_SPI_LEN = {iana.AH: 4, iana.ESP: 4, iana.GIKE_UPDATE: 16}


# Substructure of GSA and of KD, RFC 9838 sections 4.4.2, 4.4.3, 4.5.2, 4.5.3:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+---------------+-------------------------------+
# |   Protocol    |   SPI Size    |    Length (with this header)  |
# +---------------+---------------+-------------------------------+
# ~                        SPI (variable)                         ~
# +---------------------------------------------------------------+
#
# Protocol 0 belongs to no SA: the second octet is RESERVED, and no SPI follows.


def parse_job(body, reason, of_sa, of_none):
    """Job: the body of a GSA or a KD, in which no (protocol, SPI) occurs twice → (list of what
    of_sa makes of the SAs', what of_none makes of that of no SA, or None). FormatError: reason.

    of_sa(protocol, SPI, content), of_none(content): jobs.
    """
    found, rest = [], None
    seen = set()
    off = 0
    try:
        while off < len(body):
            end = end_of(body, off)
            protocol = body[off]
            spi_len = body[off + 1] if protocol != NO_PROTOCOL else 0
            at = off + 4 + spi_len
            need(at <= end and spi_len == _SPI_LEN.get(protocol, spi_len))
            sa = protocol, bytes(body[off + 4 : at])
            need(sa not in seen)
            seen.add(sa)
            content = bytes(body[at:end])
            off = end
            yield
            if protocol == NO_PROTOCOL:
                rest = yield from of_none(content)
            else:
                found.append((yield from of_sa(*sa, content)))
    except FormatError:
        raise FormatError(reason)
    return found, rest


# Wrapped key, section 4.5.4:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------------------------------------------------------+
# |                            Key ID                             |
# +---------------------------------------------------------------+
# |                            KWK ID                             |
# +---------------------------------------------------------------+
# ~               Encrypted Key: the output of RFC 5649           ~
# +---------------------------------------------------------------+


class WrappedKey(Value):
    _hidden = ("data",)

    def __init__(self, key_id, kwk_id, data):
        self.key_id = key_id
        self.kwk_id = kwk_id
        self.data = data


def _parse_wrapped_key(value):
    octets_of(value, 9)
    return WrappedKey(value[:4], value[4:8], value[8:])


class KeyBag(Value):
    """The keys of one SA: SA_KEY (1, TLV, wrapped keys with Key ID zero), section 4.5.2."""

    def __init__(self, protocol, spi, keys):
        self.protocol = protocol
        self.spi = spi
        self.keys = keys  # several only for GIKE_UPDATE in a GSA_REKEY: one per key path


def _parse_key_bag(protocol, spi, content):
    """Job: a key tree has many keys."""
    keys = []
    for kind, value in parse_attributes(content):
        yield
        if kind == _SA_KEY:
            key = _parse_wrapped_key(value)
            need(key.key_id == ZERO_ID)
            keys.append(key)
    need(keys)
    need(protocol == iana.GIKE_UPDATE or len(keys) == 1 and key.kwk_id == ZERO_ID)
    return KeyBag(protocol, spi, keys)


class MemberBag(Value):
    """What one member gets: WRAP_KEY (1), AUTH_KEY (2), GM_SENDER_ID (3), section 4.5.3."""

    def __init__(self, wrap_keys=(), auth_key=None, sender_ids=(), attributes=()):
        self.wrap_keys = list(wrap_keys)  # WrappedKey, Key ID not zero
        self.auth_key = auth_key  # DER SubjectPublicKeyInfo
        self.sender_ids = list(sender_ids)  # octets as they came, 1 to 8 each
        self.attributes = list(attributes)  # unknown ones: (type, value)


def _parse_member_bag(content):
    """Job: here too."""
    bag = MemberBag()
    for kind, value in parse_attributes(content):
        yield
        if kind == _WRAP_KEY:
            key = _parse_wrapped_key(value)
            need(key.key_id != ZERO_ID)
            bag.wrap_keys.append(key)
        elif kind == _AUTH_KEY:
            need(bag.auth_key is None)
            bag.auth_key = octets_of(value)
        elif kind == _GM_SENDER_ID:
            bag.sender_ids.append(octets_of(value, 1, _SENDER_ID_MOST))
        else:
            bag.attributes.append((kind, value))
    return bag


class KD(Value):
    """Key bags of SAs, and at most one of the member."""

    def __init__(self, bags, member=None):
        self.bags = bags
        self.member = member


def parse_kd_job(body):
    """Job: body of a KD payload → KD."""
    found = yield from parse_job(body, DROP_KD, _parse_key_bag, _parse_member_bag)
    return KD(*found)


# ---- The key server's half, which boards are built without


def parse_kd(body):
    """parse_kd_job, at once."""
    return finish(parse_kd_job(body))


def emit_substructure(protocol, spi, content):
    return struct.pack(">BBH", protocol, len(spi), 4 + len(spi) + len(content)) + spi + content


def _emit_wrapped_key(kind, key):
    return emit_attribute(kind, key.key_id + key.kwk_id + key.data)


def emit_kd(kd):
    out = bytearray()
    for bag in kd.bags:
        content = b"".join([_emit_wrapped_key(_SA_KEY, key) for key in bag.keys])
        out += emit_substructure(bag.protocol, bag.spi, content)
    if kd.member is not None:
        out += _emit_member_bag(kd.member)
    return out


def _emit_member_bag(bag):
    content = b"".join([_emit_wrapped_key(_WRAP_KEY, key) for key in bag.wrap_keys])
    if bag.auth_key is not None:
        content += emit_attribute(_AUTH_KEY, bag.auth_key)
    for sender_id in bag.sender_ids:
        content += emit_attribute(_GM_SENDER_ID, sender_id)
    for kind, value in bag.attributes:
        content += emit_attribute(kind, value)
    return emit_substructure(NO_PROTOCOL, b"", content)
