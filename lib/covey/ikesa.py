"""IKEv2 security associations: the SA payload (RFC 7296 section 3.3) and the keys of an IKE SA.

Cold code, plain values. SAg (RFC 9838 section 4.3) is an SA payload whose proposals carry no SPI.
"""

import struct

from covey import iana
from covey.drops import need
from covey.octets import u16, wipe
from covey.port import const
from covey.prf import fill, prf, prf_plus

_HEADER = const(8)  # of a proposal, without its SPI; of a transform likewise
_MORE_PROPOSALS = const(2)
_MORE_TRANSFORMS = const(3)

_KEY_LENGTH = const(14)  # transform attribute, TV, in bits
_SIGNATURE_ALGORITHM = const(18)  # transform attribute, TLV: a DER AlgorithmIdentifier

_TV = const(0x8000)  # the AF bit: two octets of value stand in place of the length

KWK_LEN = {iana.KW_5649_128: 16, iana.KW_5649_192: 24, iana.KW_5649_256: 32}  # octets

# Which of the keys that derive() makes
SK_D = 0
SK_EI = 1
SK_ER = 2
SK_PI = 3
SK_PR = 4

_PRF_LEN = const(32)
_SALT_LEN = const(4)  # RFC 5282 section 7.1: follows the AES key


class Value:
    """Plain fields. Equal if all are, and shown by name: not on boards, see below."""


# Attribute, RFC 7296 section 3.3.5:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-+-----------------------------+-------------------------------+
# |A|       Attribute type        | AF=0: length    AF=1: value   |
# |F|                             +-------------------------------+
# +-+-----------------------------+ AF=0: value, length octets    ~
#                                 +-------------------------------+


def parse_attributes(data):
    """Attributes that fill data, one by one: (type, value), an int for TV, bytes for TLV."""
    off = 0
    while off < len(data):
        need(len(data) - off >= 4)
        kind = u16(data, off)
        value = u16(data, off + 2)
        off += 4
        if kind & _TV:
            kind &= ~_TV
        else:
            need(value <= len(data) - off)
            off += value
            value = data[off - value : off]
        yield kind, value


def octets_of(value, least=1, most=0xFFFF):
    """The value of an attribute that must be TLV, of so many octets."""
    need(not isinstance(value, int) and least <= len(value) <= most)
    return value


# Transform, RFC 7296 section 3.3.2:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+---------------+-------------------------------+
# | 0 last/3 more |   RESERVED    |       Transform Length        |
# +---------------+---------------+-------------------------------+
# |Transform Type |   RESERVED    |         Transform ID          |
# +---------------+---------------+-------------------------------+
# ~                     Transform Attributes                      ~
# +---------------------------------------------------------------+


class Transform(Value):
    """One algorithm. key_bits: Key Length; algorithm: Signature Algorithm Identifier (DER)."""

    def __init__(self, kind, id, key_bits=None, algorithm=None):
        self.kind = kind
        self.id = id
        self.key_bits = key_bits
        self.algorithm = algorithm
        self.unknown_attribute = False  # then not acceptable, RFC 7296 section 3.3.6


def end_of(data, off, least=4):
    """Where what begins at off ends, by the length that stands two octets behind that: of payloads
    and of all that lies in them. The one check after which `least` octets can be read.
    """
    left = len(data) - off
    need(left >= least and least <= u16(data, off + 2) <= left)
    return off + u16(data, off + 2)


def _each(data, off, more):
    """Proposals or transforms, up to the one that says it is the last: (offset, end).

    more: the first octet of all others.
    """
    said = more
    while said:
        end = end_of(data, off, _HEADER)
        said = data[off]
        need(said in (0, more))
        yield off, end
        off = end


def parse_transforms(data, at=0):
    """Transforms from data[at], up to the one that says it is the last → ([Transform], end)."""
    found = []
    for off, end in _each(data, at, _MORE_TRANSFORMS):
        transform = Transform(data[off + 4], u16(data, off + 6))
        found.append(transform)
        is_signature = (
            transform.kind == iana.GCAUTH and transform.id == iana.GCAUTH_DIGITAL_SIGNATURE
        )
        for kind, value in parse_attributes(data[off + _HEADER : end]):
            is_tv = isinstance(value, int)
            if kind == _KEY_LENGTH:
                need(is_tv and transform.key_bits is None)
                transform.key_bits = value
            elif kind == _SIGNATURE_ALGORITHM and is_signature:
                need(value and not is_tv and transform.algorithm is None)
                transform.algorithm = value
            else:
                transform.unknown_attribute = True
    return found, end


# Proposal, RFC 7296 section 3.3.1; the body of an SA payload is one after the other:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+---------------+-------------------------------+
# | 0 last/2 more |   RESERVED    |        Proposal Length        |
# +---------------+---------------+---------------+---------------+
# | Proposal Num  |  Protocol ID  |   SPI Size    |Num Transforms |
# +---------------+---------------+---------------+---------------+
# ~                        SPI (variable)                         ~
# +---------------------------------------------------------------+
# ~                          Transforms                           ~
# +---------------------------------------------------------------+


class Proposal(Value):
    """Transforms for one protocol. In SAg several proposals may share one number."""

    def __init__(self, num, protocol, spi, transforms):
        self.num = num
        self.protocol = protocol
        self.spi = spi
        self.transforms = transforms

    def of_kind(self, kind):
        """The transforms of one type, in the sender's order."""
        return [t for t in self.transforms if t.kind == kind]


def parse_sa(body):
    """Body of an SA (or SAg) payload → [Proposal], at least one."""
    found = []
    for off, end in _each(body, 0, _MORE_PROPOSALS):
        num, protocol, spi_len, count = body[off + 4 : off + _HEADER]
        at = off + _HEADER + spi_len
        need(at <= end)
        transforms, last = parse_transforms(body[:end], at) if at < end else ([], at)
        need(len(transforms) == count and last == end)
        found.append(Proposal(num, protocol, body[at - spi_len : at], transforms))
    need(end == len(body))
    return found


def derive(nonce_i, nonce_r, shared, spi_i, spi_r, key_bits, sk_d=None):
    """Job: RFC 7296 section 2.14 with PRF_HMAC_SHA2_256 and AES-GCM of key_bits → the keys of an
    IKE SA, bytearrays: SK_D and so on. Of SK_EI and SK_ER: an AES key, then its salt.

    SK_ai and SK_ar are empty: the cipher is an AEAD. shared is wiped. sk_d: that of the IKE SA
    which this one replaces (section 2.18); None: a first one.
    """
    encr_len = key_bits // 8 + _SALT_LEN
    if sk_d is None:
        skeyseed = prf(nonce_i + nonce_r, shared)
    else:
        skeyseed = prf(sk_d, shared, nonce_i, nonce_r)
    wipe(shared)
    stream = bytearray(3 * _PRF_LEN + 2 * encr_len)
    try:
        yield from fill(stream, skeyseed, nonce_i + nonce_r + spi_i + spi_r)
        yield
        keys = []
        off = 0
        for length in (_PRF_LEN, encr_len, encr_len, _PRF_LEN, _PRF_LEN):
            keys.append(stream[off : off + length])
            off += length
        return keys
    finally:
        wipe(stream)


def psk_auth(psk, sk_p, real_message, peer_nonce, id_body):
    """AUTH data of the shared-key method, RFC 7296 section 2.15 → 32 octets.

    Who sends gives its own sk_p, first message as sent and ID body, and the other's nonce.
    """
    padded = prf(psk, b"Key Pad for IKEv2")
    return prf(padded, real_message, peer_nonce, prf(sk_p, id_body))


def default_kwk(sk_d, kwa):
    """GSK_w of a unicast IKE SA, RFC 9838 section 3.1.1, as long as its KWA's keys are: a
    bytearray, which who asks owns."""
    return prf_plus(sk_d, b"Key Wrap for G-IKEv2", KWK_LEN[kwa])


# ---- The key server's half, which boards are built without


def _is_equal(value, other):
    return type(value) is type(other) and value.__dict__ == other.__dict__


def _shown(value):
    """Its fields by name, except what may be secret or long."""
    fields = value.__dict__
    shown = [n + "=" + ("..." if n in value._hidden else repr(fields[n])) for n in fields]
    return type(value).__name__ + "(" + ", ".join(shown) + ")"


Value._hidden = ()
Value.__eq__ = _is_equal
Value.__repr__ = _shown


class Keys(Value):
    """What derive() makes, by name."""

    _hidden = ("all", "sk_d", "sk_ei", "sk_er", "sk_pi", "sk_pr")

    def __init__(self, *keys):
        self.all = keys
        self.sk_d, self.sk_ei, self.sk_er, self.sk_pi, self.sk_pr = keys

    def wipe(self):
        for key in self.all:
            wipe(key)


def emit_attribute(kind, value):
    """An int is sent as TV, octets as TLV."""
    if isinstance(value, int):
        return struct.pack(">HH", _TV | kind, value)
    return struct.pack(">HH", kind, len(value)) + value


def emit_transforms(transforms):
    out = bytearray()
    for i, transform in enumerate(transforms):
        attributes = b""
        if transform.key_bits is not None:
            attributes += emit_attribute(_KEY_LENGTH, transform.key_bits)
        if transform.algorithm is not None:
            attributes += emit_attribute(_SIGNATURE_ALGORITHM, transform.algorithm)
        more = _MORE_TRANSFORMS if i + 1 < len(transforms) else 0
        length = _HEADER + len(attributes)
        out += struct.pack(">BBHBBH", more, 0, length, transform.kind, 0, transform.id)
        out += attributes
    return out


def emit_sa(proposals):
    out = bytearray()
    for i, p in enumerate(proposals):
        transforms = emit_transforms(p.transforms)
        more = _MORE_PROPOSALS if i + 1 < len(proposals) else 0
        length = _HEADER + len(p.spi) + len(transforms)
        counts = len(p.spi), len(p.transforms)
        out += struct.pack(">BBHBBBB", more, 0, length, p.num, p.protocol, *counts)
        out += p.spi
        out += transforms
    return out
