"""IKEv2 messages: header, payload chain, the Encrypted payload (RFC 7296, RFC 5282), bodies.

Cold code, plain values. What the peer did wrong is a FormatError with its DROP_*. Reserved bits
are ignored on receipt and sent as zero. All names of iana, ikesa and ikebody are also found here.
"""

import struct

from covey import iana
from covey.drops import (
    DROP_IKE_FORMAT,
    DROP_IKE_HEADER,
    DROP_IKE_TAG,
    ConfigError,
    FormatError,
    need,
    sentence,
)
from covey.gcm import IV_LEN, TAG_LEN
from covey.iana import *  # noqa: F403
from covey.ikebody import *  # noqa: F403
from covey.ikesa import *  # noqa: F403
from covey.ikesa import Value, end_of
from covey.job import finish
from covey.port import const
from covey.sentences import TOO_LONG

# RFC 7296 section 2 asks for 1280 octets and recommends 3000; a board's memory sets the bound.
MOST_LEN = 4096
MOST_PAYLOADS = 64

_HEADER = const(28)
_GENERIC = const(4)
_VERSION = const(0x20)  # major 2, minor 0
_CRITICAL = const(0x80)
_UNASSIGNED = const(49)  # the one kind of payload between SA and SKF that nobody knows


# IKE header, RFC 7296 section 3.1:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------------------------------------------------------+
# |                    IKE SA Initiator's SPI (8)                 |
# +---------------------------------------------------------------+
# |                    IKE SA Responder's SPI (8)                 |
# +---------------+-------+-------+---------------+---------------+
# | Next Payload  | MjVer | MnVer | Exchange Type |X X R V I X X X|
# +---------------+-------+-------+---------------+---------------+
# |                          Message ID                           |
# +---------------------------------------------------------------+
# |                   Length (header and payloads)                |
# +---------------------------------------------------------------+


class Header(Value):
    """In a GSA_REKEY both SPIs together are the one SPI of the Rekey SA (RFC 9838, 2.4.1)."""


def parse_header(data):
    """The header of a whole message: its length must be exactly len(data)."""
    need(_HEADER <= len(data) <= MOST_LEN, DROP_IKE_HEADER)
    header = Header()
    (
        header.spi_i,
        header.spi_r,
        header.next_payload,
        header.version,
        header.exchange,
        header.flags,
        header.message_id,
        header.length,  # of the whole message, in octets
    ) = struct.unpack(">8s8sBBBBII", data[:_HEADER])
    is_whole = header.version >> 4 == _VERSION >> 4 and header.length == len(data)
    need(is_whole and (any(header.spi_i) or header.exchange == iana.GSA_REKEY), DROP_IKE_HEADER)
    return header


# Generic payload header, RFC 7296 section 3.2:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+-+-------------+-------------------------------+
# | Next Payload  |C|  RESERVED   |   Payload Length (with this)  |
# +---------------+-+-------------+-------------------------------+


class Payload(Value):
    """One payload of a chain. off: where its generic header stands in what was parsed."""

    _hidden = ("body",)

    def __init__(self, kind, critical, body, off=0):
        self.kind = kind
        self.critical = critical
        self.body = body
        self.off = off


def walk(kind, data, off):
    """Job: payloads from off up to SK, SKF or the end → ([Payload], where that is, SK, SKF or
    0)."""
    found = []
    while kind != iana.NO_NEXT_PAYLOAD and kind != iana.SK and kind != iana.SKF:
        end = end_of(data, off)
        need(len(found) < MOST_PAYLOADS)
        body = bytes(data[off + _GENERIC : end])
        found.append(Payload(kind, data[off + 1] & _CRITICAL != 0, body, off))
        kind = data[off]
        off = end
        yield
    return found, off, kind


def parse_chain_job(first, data):
    """Job: a chain of clear or decrypted payloads that fills data, the first of kind `first`."""
    found, end, kind = yield from walk(first, data, 0)
    need(kind == iana.NO_NEXT_PAYLOAD and end == len(data))
    return found


def emit_chain(payloads):
    """[(kind, body), ...] → (kind of the first one, for the header before them; octets)."""
    out = b""
    following = iana.NO_NEXT_PAYLOAD
    for kind, body in reversed(payloads):
        out = struct.pack(">BBH", following, 0, _GENERIC + len(body)) + body + out
        following = kind
    return following, out


def unsupported_critical(payloads):
    """The kind of the first unknown payload that is marked critical, else None (section 2.5)."""
    for payload in payloads:
        kind = payload.kind
        is_known = iana.SA <= kind <= iana.SKF and kind != _UNASSIGNED
        if payload.critical and not is_known:
            return kind
    return None


def check_emitted(length):
    """ConfigError for a message that nobody here would take."""
    if length > MOST_LEN:
        raise ConfigError(sentence(TOO_LONG, length, MOST_LEN))


def parse_clear(header, data):
    """The payloads of a message without protection, whose Header this is."""
    return finish(parse_chain_job(header.next_payload, data[_HEADER:]))


def emit_message(spi_i, spi_r, exchange, flags, message_id, payloads):
    """A message without protection, of [(kind, body), ...]."""
    first, chain = emit_chain(payloads)
    length = _HEADER + len(chain)
    check_emitted(length)
    head = spi_i, spi_r, first, _VERSION, exchange, flags, message_id, length
    return bytearray(struct.pack(">8s8sBBBBII", *head)) + chain


# Encrypted payload SK, RFC 7296 section 3.14, with AES-GCM, RFC 5282:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+-+-------------+-------------------------------+
# |Kind of first  |C|  RESERVED   |   Payload Length (to the end) |  and all before it: AAD
# +---------------+-+-------------+-------------------------------+
# |                  Initialization Vector (8)                    |
# +---------------------------------------------------------------+
# ~         Inner payloads | Padding (0-255) | Pad Length         ~  encrypted
# +---------------------------------------------------------------+
# |                 Integrity Checksum Data (16)                  |
# +---------------------------------------------------------------+


def seal_message(ctx, spi_i, spi_r, exchange, flags, message_id, payloads, iv8):
    """A message whose payloads [(kind, body), ...] are in SK, encrypted by ctx (GCMContext)."""
    first, chain = emit_chain(payloads)
    body = iv8 + chain + bytes(1 + TAG_LEN)  # no padding, one octet of pad length
    out = emit_message(spi_i, spi_r, exchange, flags, message_id, [(iana.SK, body)])
    out[_HEADER] = first
    ctx.seal(out, 0, _HEADER + _GENERIC, len(chain) + 1)
    return out


class Opened(Value):
    """What was in an SK: the head as it came, and the inner payloads in clear."""

    _hidden = ("inner", "head", "clear")

    def __init__(self, header, clear, head, first, inner):
        self.header = header
        self.clear = clear  # payloads before SK: authentic, but not secret
        self.head = head  # octets up to the end of SK's generic header
        self.first = first  # kind of the first inner payload
        self.inner = inner  # their octets, without padding


def open_job(ctx, data):
    """Job: find SK, verify and decrypt a copy → Opened. FormatError(DROP_IKE_TAG) if forged.

    In small steps, where ctx is a RareContext.
    """
    header = parse_header(data)
    clear, off, kind = yield from walk(header.next_payload, data, _HEADER)
    need(kind == iana.SK and end_of(data, off) == len(data))  # it must be there, and the last
    aad_len = off + _GENERIC
    inner = yield from open_text_job(ctx, data, aad_len)
    return Opened(header, clear, bytearray(data[:aad_len]), data[off], inner)


def open_text_job(ctx, data, aad_len):
    """Job: what stands encrypted behind so many octets of AAD, without padding; data stay."""
    text = aad_len + IV_LEN
    text_len = len(data) - text - TAG_LEN
    need(text_len > 0)
    yield
    copy = bytearray(data)
    try:
        if hasattr(ctx, "open_job"):
            is_genuine = yield from ctx.open_job(copy, 0, aad_len, text_len)
        else:
            is_genuine = ctx.open(copy, 0, aad_len, text_len)
    except ValueError:  # more before SK, or more in it, than this interpreter's GCM takes
        raise FormatError(DROP_IKE_FORMAT)
    need(is_genuine, DROP_IKE_TAG)
    inner_len = text_len - 1 - copy[text + text_len - 1]
    need(inner_len >= 0)
    return copy[text : text + inner_len]


def rekey_signed_octets(head, inner, auth_off):
    """What the signature in a GSA_REKEY covers: A | P of RFC 9838 section 2.4.1.1.

    head: IKE header and SK's generic header, its lengths are set here; inner: the payloads in
    clear; auth_off: where in inner the AUTH payload's generic header stands. The octets of the
    signature count as zero, whatever they are.
    """
    end = end_of(inner, auth_off)
    at = auth_off + _GENERIC
    at += 4 + parse_signature_auth(inner[at + 4 : end])[1]  # noqa: F405
    out = bytearray(head) + inner
    struct.pack_into(">I", out, _HEADER - 4, len(out))
    struct.pack_into(">H", out, len(head) - 2, _GENERIC + len(inner))
    out[len(head) + at : len(head) + end] = bytes(end - at)
    return out


# ---- The key server's half, which boards are built without


def parse_message(data):
    """A message without protection → (Header, [Payload])."""
    header = parse_header(data)
    return header, parse_clear(header, data)


def parse_chain(first, data):
    """parse_chain_job, at once."""
    return finish(parse_chain_job(first, data))


def emit_ike_header(spi_i, spi_r, next_payload, exchange, flags, message_id, length):
    head = spi_i, spi_r, next_payload, _VERSION, exchange, flags, message_id, length
    return struct.pack(">8s8sBBBBII", *head)


def open_octets(ctx, data):
    """open_job, at once."""
    return finish(open_job(ctx, data))


def open_message(ctx, data):
    """A message in SK → (Header, [Payload]): those before SK, then the inner ones."""
    opened = open_octets(ctx, data)
    return opened.header, opened.clear + parse_chain(opened.first, opened.inner)


def emit_head(spi_i, spi_r, exchange, flags, message_id, payloads, inner_len):
    """IKE header and generic header of SK before inner_len octets: 32 octets, lengths to match."""
    length = _HEADER + _GENERIC + inner_len
    header = emit_ike_header(spi_i, spi_r, iana.SK, exchange, flags, message_id, length)
    first = payloads[0][0] if payloads else iana.NO_NEXT_PAYLOAD
    return bytearray(header) + struct.pack(">BBH", first, 0, _GENERIC + inner_len)


def rekey_to_sign(spi, flags, message_id, payloads):
    """The same for the key server: [(kind, body), ...] with an AUTH of the signature's length."""
    first, inner = emit_chain(payloads)
    auth = [p for p in parse_chain(first, inner) if p.kind == iana.AUTH]
    head = emit_head(spi[:8], spi[8:], iana.GSA_REKEY, flags, message_id, payloads, len(inner))
    return rekey_signed_octets(head, inner, auth[0].off)
