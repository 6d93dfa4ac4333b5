"""Bodies of IKEv2 payloads (RFC 7296 section 3): what follows the generic header.

Cold code, plain values; a body that does not parse is a FormatError(DROP_IKE_FORMAT).
"""

import struct

from covey import iana
from covey.drops import need
from covey.ikesa import Value, end_of
from covey.octets import u16
from covey.port import const, sha1

_NONCE_LEAST = const(16)
_NONCE_MOST = const(256)
_TS_HEADER = const(8)  # of an address range, without the addresses
_ADDRESS_LEN = {iana.ID_IPV4_ADDR: 4, iana.ID_IPV6_ADDR: 16}
_SPI_LEN = {iana.IKE: 0, iana.AH: 4, iana.ESP: 4, iana.GIKE_UPDATE: 16, 0: 0}


# Key Exchange, section 3.4; Identification, section 3.5; Authentication, section 3.8:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-------------------------------+-------------------------------+
# |     Key Exchange Method       |           RESERVED            |  then the public value
# +-------------------------------+-------------------------------+
# +---------------+-----------------------------------------------+
# |    ID Type    |                   RESERVED                    |  then the identity
# +---------------+-----------------------------------------------+
# +---------------+-----------------------------------------------+
# |  Auth Method  |                   RESERVED                    |  then the authentication data
# +---------------+-----------------------------------------------+


def parse_ke(body):
    """→ (method, public value)"""
    need(len(body) >= 4)
    return u16(body, 0), body[4:]


def emit_ke(method, data):
    return struct.pack(">HH", method, 0) + data


def parse_auth(body):
    """→ (method, authentication data)"""
    need(len(body) >= 4)
    return body[0], body[4:]


def parse_id(body):
    """IDi, IDr, IDg → (ID type, identity); an address has its family's length."""
    id_type, data = parse_auth(body)
    need(len(data) == _ADDRESS_LEN.get(id_type, len(data)))
    return id_type, data


def emit_id(id_type, data):
    return bytes((id_type, 0, 0, 0)) + data


emit_auth = emit_id  # (method, data)


# Authentication data of method 14, RFC 7427 section 3:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+-----------------------------------------------+
# | ASN.1 Length  |      AlgorithmIdentifier, that many octets    ~
# +---------------+-----------------------------------------------+
# ~                       Signature, to the end                   ~
# +---------------------------------------------------------------+


def parse_signature_auth(data):
    """→ (AlgorithmIdentifier, offset of the signature in data, signature)"""
    need(data and 0 < data[0] < len(data) - 1)
    off = 1 + data[0]
    return data[1:off], off, data[off:]


def check_nonce(body):
    """Ni, Nr: 16 to 256 octets (section 3.9) → the nonce."""
    need(_NONCE_LEAST <= len(body) <= _NONCE_MOST)
    return body


# Notify, section 3.10:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+---------------+-------------------------------+
# |  Protocol ID  |   SPI Size    |      Notify Message Type      |
# +---------------+---------------+-------------------------------+
# ~     SPI (variable)            |      Notification Data        ~
# +---------------------------------------------------------------+


class Notify(Value):
    _hidden = ("data",)

    def __init__(self, protocol, spi, type, data):
        self.protocol = protocol
        self.spi = spi
        self.type = type
        self.data = data


def parse_notify(body):
    need(len(body) >= 4)
    at = 4 + body[1]
    need(len(body) >= at)
    return Notify(body[0], body[4:at], u16(body, 2), body[at:])


def nat_detection(spi_i, spi_r, address, port):
    """Data of NAT_DETECTION_SOURCE_IP and _DESTINATION_IP, section 2.23; None without SHA-1 here.

    address: four octets. SPIs as in the header of the message that it goes into.
    """
    if sha1 is None:
        return None
    return sha1(spi_i + spi_r + address + struct.pack(">H", port)).digest()


# Delete, section 3.11:
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+---------------+-------------------------------+
# |  Protocol ID  |   SPI Size    |          Num of SPIs          |
# +---------------+---------------+-------------------------------+
# ~                             SPIs                              ~
# +---------------------------------------------------------------+


class Delete(Value):
    """Protocol 0: the whole GSA. A listed SPI of zeros: all SAs of that protocol (RFC 9838)."""

    def __init__(self, protocol, size, spis):
        self.protocol = protocol
        self.spi_size = size
        self.spis = spis


def parse_delete(body):
    need(len(body) >= 4)
    protocol, size = body[0], body[1]
    need(size == _SPI_LEN.get(protocol, size) and len(body) == 4 + size * u16(body, 2))
    spis = []
    for off in range(4, len(body), size or 1):
        spis.append(body[off : off + size])
    return Delete(protocol, size, spis)


# Traffic Selector, section 3.13.1; addresses of 4 octets (type 7) or 16 (type 8):
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +---------------+---------------+-------------------------------+
# |   TS Type     | IP Protocol   |       Selector Length         |
# +---------------+---------------+-------------------------------+
# |           Start Port          |           End Port            |
# +-------------------------------+-------------------------------+
# ~                 Starting Address, Ending Address              ~
# +---------------------------------------------------------------+


class TrafficSelector(Value):
    """A range of addresses and ports; protocol 0: any. Of another type: opaque octets only."""

    def __init__(self, kind, proto, start_port, end_port, start_addr, end_addr, rest=None):
        self.kind = kind
        self.proto = proto
        self.start_port = start_port
        self.end_port = end_port
        self.start_addr = start_addr
        self.end_addr = end_addr
        self.opaque = rest  # of an unknown type, what follows the length; else None


def parse_ts(data, off=0):
    """The selector at data[off] → (TrafficSelector, offset behind it)"""
    end = end_of(data, off)
    kind, proto = data[off], data[off + 1]
    if kind not in (iana.TS_IPV4_ADDR_RANGE, iana.TS_IPV6_ADDR_RANGE):
        return TrafficSelector(kind, proto, 0, 0, b"", b"", data[off + 4 : end]), end
    at = off + _TS_HEADER
    middle = at + (4 if kind == iana.TS_IPV4_ADDR_RANGE else 16)
    need(end - middle == middle - at)
    ports = u16(data, off + 4), u16(data, off + 6)
    return TrafficSelector(kind, proto, *ports, data[at:middle], data[middle:end]), end


# What is in a list of payloads


def every(payloads, kind):
    """The bodies of all payloads of a kind."""
    found = []
    for payload in payloads:
        if payload.kind == kind:
            found.append(payload.body)
    return found


def only(payloads, kind):
    """The body of the one payload of a kind; FormatError if there is none, or another."""
    found = every(payloads, kind)
    need(len(found) == 1)
    return found[0]


def notify(type, data=b""):
    """A notification that concerns no Child SA, as (kind, body)."""
    return iana.NOTIFY, struct.pack(">BBH", 0, 0, type) + data


def notifies(payloads):
    """All notifications → [Notify]."""
    found = []
    for body in every(payloads, iana.NOTIFY):
        found.append(parse_notify(body))
    return found


def said(payloads, type):
    """The data of all notifications of a type."""
    found = []
    for n in notifies(payloads):
        if n.type == type:
            found.append(n.data)
    return found


def error_of(payloads):
    """Type of the first notification that is an error, or None. All unknown ones count, too:
    in a response they say that the request has failed (RFC 7296 section 3.10.1)."""
    for n in notifies(payloads):
        if n.type < iana.FIRST_STATUS:
            return n.type
    return None


def error_name(type):
    """A short name for people and logs: "no_proposal_chosen"; the table is loaded when asked."""
    from covey.errornames import NAMES

    return NAMES.get(type) or "error_" + str(type)


# ---- The key server's half, which boards are built without


def emit_notify(notify):
    head = notify.protocol, len(notify.spi), notify.type
    return struct.pack(">BBH", *head) + notify.spi + notify.data


def emit_delete(delete):
    head = struct.pack(">BBH", delete.protocol, delete.spi_size, len(delete.spis))
    return head + b"".join(delete.spis)


def emit_signature_auth(algorithm, signature):
    return bytes((len(algorithm),)) + algorithm + signature


def emit_ts(ts):
    rest = ts.opaque
    if rest is None:
        rest = struct.pack(">HH", ts.start_port, ts.end_port) + ts.start_addr + ts.end_addr
    return struct.pack(">BBH", ts.kind, ts.proto, 4 + len(rest)) + rest
