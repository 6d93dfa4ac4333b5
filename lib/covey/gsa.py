"""Group policy: the GSA payload of G-IKEv2 (RFC 9838 section 4.4). All names of kd are here too.

Cold code, plain values. Order is free and unknown attributes are kept aside; what is given twice
but has one value is refused. A payload that does not parse is a FormatError(DROP_GSA).
"""

import struct

from covey import iana
from covey.drops import DROP_GSA, need
from covey.ikebody import emit_ts, parse_ts
from covey.ikesa import (
    Value,
    emit_attribute,
    emit_transforms,
    octets_of,
    parse_attributes,
    parse_transforms,
)
from covey.job import finish
from covey.kd import *  # noqa: F403
from covey.kd import NO_PROTOCOL, emit_substructure, parse_job
from covey.octets import u32
from covey.port import const

_GSA_KEY_LIFETIME = const(1)
_GSA_INITIAL_MESSAGE_ID = const(2)
_GSA_NEXT_SPI = const(3)
COVEY_PORTIONS = const(16384)  # TV, GIKE_UPDATE only: see keypath.py

_GWP_ATD = const(1)
_GWP_DTD = const(2)
_GWP_SENDER_ID_BITS = const(3)
_COVEY_UDP_PORT = const(16384)
_COVEY_SENDER_ID_FORM = const(16385)  # high octet: bits of the index, low: of the whole
_COVEY_EPOCH = const(16386)
_COVEY_DELIVERY = const(16387)
UNICAST = 1  # of it
_COVEY_MAX_SILENCE = const(16388)  # high octet: whether nothing is delivered then
_COVEY_REPORT_INTERVAL = const(16389)


# GSA policy, section 4.4.2; behind the substructure's header and SPI:
#
# +---------------------------------------------------------------+
# ~    Source Traffic Selector, Destination Traffic Selector      ~  RFC 7296 section 3.13.1
# +---------------------------------------------------------------+
# ~    Transforms; the last one says that it is the last          ~  RFC 7296 section 3.3.2
# +---------------------------------------------------------------+
# ~    Attributes: GSA_KEY_LIFETIME (1, TLV, u32, seconds),       ~  RFC 7296 section 3.3.5
# ~    GSA_INITIAL_MESSAGE_ID (2, TLV, u32; GIKE_UPDATE only),    ~
# ~    GSA_NEXT_SPI (3, TLV, an SPI; any number of them)          ~
# +---------------------------------------------------------------+


class SAPolicy(Value):
    """A Rekey SA (GIKE_UPDATE) or a Data-Security SA (ESP, AH)."""

    def __init__(
        self,
        protocol,
        spi,
        source,
        destination,
        transforms,
        lifetime_s=None,
        initial_message_id=None,
        next_spis=(),
        attributes=(),
    ):
        self.protocol = protocol
        self.spi = spi  # 16 octets for GIKE_UPDATE, 4 for ESP and AH
        self.source = source  # TrafficSelector
        self.destination = destination
        self.transforms = transforms
        self.lifetime_s = lifetime_s
        self.initial_message_id = initial_message_id
        self.next_spis = list(next_spis)
        self.attributes = list(attributes)  # unknown ones: (type, value)

    def transform(self, kind):
        """The transform of one type, or None."""
        for t in self.transforms:
            if t.kind == kind:
                return t
        return None


def _parse_policy(protocol, spi, content):
    """Job: → SAPolicy"""
    source, off = parse_ts(content)
    destination, off = parse_ts(content, off)
    yield
    transforms, off = parse_transforms(content, off)
    yield
    policy = SAPolicy(protocol, spi, source, destination, transforms)
    for transform in transforms:
        need(policy.transform(transform.kind) is transform)  # section 4.4.2.1: one of each type
    for kind, value in parse_attributes(content[off:]):
        if kind == _GSA_KEY_LIFETIME:
            need(policy.lifetime_s is None)
            policy.lifetime_s = u32(octets_of(value, 4, 4), 0)
        elif kind == _GSA_INITIAL_MESSAGE_ID and protocol == iana.GIKE_UPDATE:
            need(policy.initial_message_id is None)
            policy.initial_message_id = u32(octets_of(value, 4, 4), 0)
        elif kind == _GSA_NEXT_SPI:
            policy.next_spis.append(octets_of(value, len(spi) or 1, len(spi)))
        else:
            policy.attributes.append((kind, value))
    return policy


# Group-wide policy, section 4.4.3: attributes only, TV unless said. GWP_ATD (1) and GWP_DTD (2)
# in seconds, GWP_SENDER_ID_BITS (3); ours: COVEY_UDP_PORT (16384), COVEY_SENDER_ID_FORM (16385),
# COVEY_EPOCH (16386, TLV, u32), COVEY_DELIVERY (16387; 1: unicast), COVEY_MAX_SILENCE
# (16388, TLV, u32), COVEY_REPORT_INTERVAL (16389).

# In the order in which a GroupWide is made of them
_NUMBERS = (
    _GWP_ATD,
    _GWP_DTD,
    _GWP_SENDER_ID_BITS,
    _COVEY_UDP_PORT,
    _COVEY_SENDER_ID_FORM,
    _COVEY_DELIVERY,
    _COVEY_REPORT_INTERVAL,
)


class GroupWide(Value):
    """Policy of no SA in particular; None is what was not said."""

    def __init__(
        self,
        atd_s=None,
        dtd_s=None,
        sender_id_bits=None,
        udp_port=None,
        sender_id_form=None,
        delivery=None,
        report_s=None,
        epoch=None,
        silence=None,
        attributes=(),
    ):
        self.atd_s = atd_s
        self.dtd_s = dtd_s
        self.sender_id_bits = sender_id_bits
        self.udp_port = udp_port
        self.sender_id_form = sender_id_form  # (bits of the index, bits of the Sender-ID)
        self.report_s = report_s  # how far apart reports are wanted, see report.py
        self.epoch = epoch  # ordinal of this generation of the GSA, as the key server counts
        self.delivery = delivery  # 1: data come over the IKE SA's way, and leave so
        self.silence = silence  # (most seconds of it, whether nothing is delivered then)
        self.attributes = list(attributes)  # unknown ones: (type, value)


def _parse_group_wide(content):
    """Job: → GroupWide"""
    numbers = [None] * len(_NUMBERS)
    epoch = silence = None
    others = []
    for kind, value in parse_attributes(content):
        yield
        is_tv = isinstance(value, int)
        if kind in _NUMBERS and (is_tv or kind != _COVEY_DELIVERY):
            at = _NUMBERS.index(kind)
            need(is_tv and numbers[at] is None)
            numbers[at] = value
        elif kind == _COVEY_EPOCH and not is_tv and len(value) == 4:
            epoch = u32(value, 0)
        elif kind == _COVEY_MAX_SILENCE and not is_tv and len(value) == 4:
            silence = u32(value, 0) & 0xFFFFFF, value[0] != 0
        else:
            others.append((kind, value))
    form = numbers[4]
    if form is not None:
        numbers[4] = form >> 8, form & 0xFF
    return GroupWide(*numbers, epoch, silence, others)


class GSA(Value):
    """At most one Rekey SA, any number of Data-Security SAs, at most one group-wide policy."""

    def __init__(self, policies, group_wide=None):
        self.policies = policies
        self.group_wide = group_wide


def parse_gsa_job(body):
    """Job: body of a GSA payload → GSA, with at least one policy for an SA (section 4.4.1)."""
    policies, group_wide = yield from parse_job(body, DROP_GSA, _parse_policy, _parse_group_wide)
    rekeys = 0
    for policy in policies:
        rekeys += policy.protocol == iana.GIKE_UPDATE
    need(policies and rekeys < 2, DROP_GSA)
    return GSA(policies, group_wide)


# ---- The key server's half, which boards are built without


def parse_gsa(body):
    """parse_gsa_job, at once."""
    return finish(parse_gsa_job(body))


def _emit_policy(policy):
    out = emit_ts(policy.source) + emit_ts(policy.destination)
    out += emit_transforms(policy.transforms)
    if policy.lifetime_s is not None:
        out += emit_attribute(_GSA_KEY_LIFETIME, struct.pack(">I", policy.lifetime_s))
    if policy.initial_message_id is not None:
        initial = struct.pack(">I", policy.initial_message_id)
        out += emit_attribute(_GSA_INITIAL_MESSAGE_ID, initial)
    for spi in policy.next_spis:
        out += emit_attribute(_GSA_NEXT_SPI, spi)
    for kind, value in policy.attributes:
        out += emit_attribute(kind, value)
    return emit_substructure(policy.protocol, policy.spi, out)


def _emit_group_wide(policy):
    form = policy.sender_id_form
    numbers = (
        policy.atd_s,
        policy.dtd_s,
        policy.sender_id_bits,
        policy.udp_port,
        None if form is None else form[0] << 8 | form[1],
        policy.delivery,
        policy.report_s,
    )
    out = b""
    for kind, value in zip(_NUMBERS, numbers):
        if value is not None:
            out += emit_attribute(kind, value)
    if policy.epoch is not None:
        out += emit_attribute(_COVEY_EPOCH, struct.pack(">I", policy.epoch))
    if policy.silence is not None:
        most_s, stops = policy.silence
        out += emit_attribute(_COVEY_MAX_SILENCE, struct.pack(">I", stops << 24 | most_s))
    for kind, value in policy.attributes:
        out += emit_attribute(kind, value)
    return emit_substructure(NO_PROTOCOL, b"", out)


def emit_gsa(gsa):
    out = bytearray()
    for policy in gsa.policies:
        out += _emit_policy(policy)
    if gsa.group_wide is not None:
        out += _emit_group_wide(gsa.group_wide)
    return out
