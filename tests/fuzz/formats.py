"""Every parser of lib/'s formats, by itself. Answers are plain values, alike on all interpreters.

What is understood must survive being sent on: parse(emit(value)) == value.
"""

from covey import (
    cip,
    der,
    gsa,
    ike,
    ikefrag,
    ipv4,
    keywrap,
    report,
    signers,
    sources,
    timing,
    x509,
)
from covey.drops import ConfigError, FormatError
from covey.gcm import GCMContext
from covey.iana import COVEY_ROSTER, COVEY_SIGNERS, COVEY_SOURCE_AUTH
from covey.job import finish
from fuzz.program import Program

_KEYMAT = bytes(range(20))
_GROUP = b"\xef\xc0\x01\x20"


def _message(data):
    header, payloads = ike.parse_message(data)
    ike.unsupported_critical(payloads)
    chain = [(p.kind, p.body) for p in payloads]
    return header.spi_i, header.spi_r, header.exchange, header.flags, header.message_id, chain


def _signature(data):
    algorithm, _, signature = ike.parse_signature_auth(data)
    return algorithm, signature


def _spread(emit):
    return lambda value: emit(*value)


_BODIES = (
    (_message, _spread(ike.emit_message)),
    (ike.parse_sa, ike.emit_sa),
    (lambda data: ike.parse_transforms(data)[0], ike.emit_transforms),
    (ike.parse_ke, _spread(ike.emit_ke)),
    (ike.parse_id, _spread(ike.emit_id)),
    (ike.parse_auth, _spread(ike.emit_auth)),
    (_signature, _spread(ike.emit_signature_auth)),
    (ike.check_nonce, bytes),
    (ike.parse_notify, ike.emit_notify),
    (ike.parse_delete, ike.emit_delete),
    (lambda data: ike.parse_ts(data)[0], ike.emit_ts),
)


def ike_bodies(data):
    """The first octet says which parser."""
    program = Program(data)
    return _there_and_back(*program.pick(_BODIES), program.rest())


def gsa_body(data):
    return _there_and_back(gsa.parse_gsa, gsa.emit_gsa, data)


def kd_body(data):
    return _there_and_back(gsa.parse_kd, gsa.emit_kd, data)


def _there_and_back(parse, emit, data):
    try:
        value = parse(data)
    except FormatError as error:
        return error.reason
    if "unknown_attribute=True" not in repr(value):  # of those only the fact is kept
        try:
            assert parse(emit(value)) == value
        except ConfigError:  # as it came it had another form: longer than we send any
            pass
    return 0


def envelopes(data):
    """Before any key: whole messages and fragments, and where their payloads end."""
    found = []
    for look in (ike.parse_header, _envelope_of, ikefrag.number_of):
        try:
            look(data)
            found.append(0)
        except FormatError as error:
            found.append(error.reason)
    return found


def _envelope_of(data):
    finish(ike.walk(ike.parse_header(data).next_payload, data, 28))


def fragments(data):
    """RFC 7383 under a valid key: one Reassembly, whatever numbers, totals and octets come."""
    program = Program(data)
    context, parts = GCMContext(_KEYMAT), ikefrag.Reassembly()
    found = []
    for count in range(40):
        if program.is_over:
            break
        number, total = program.u8(), program.u8()
        if number & 0x80:
            number, total = program.u16(), program.u16()
        kinds = program.u8()
        text = (program.octets() * (1 + program.u8() % 16))[:1400] + bytes([program.u8()])
        kind = ike.SKF if kinds & 1 else ike.SK
        middle = bytes([number >> 8, number & 255, total >> 8, total & 255]) if kinds & 1 else b""
        length = 4 + len(middle) + 8 + len(text) + 16
        clear = b"\x2e\0\0\x05!" if kinds & 2 else b""  # a payload in front of it
        first = 43 if clear else kind
        clear = clear and bytes([kind]) + clear[1:]
        head = ike.emit_ike_header(
            b"spi.init", b"spi.resp", first, 39, 8, kinds >> 2 & 3, 28 + len(clear) + length
        )
        out = bytearray(head) + clear
        out += bytes([kinds >> 4, 0, length >> 8, length & 255]) + middle
        aad_len = len(out)
        out += bytes(7) + bytes([count]) + text + bytes(16)
        context.seal(out, 0, aad_len, len(text))
        try:
            opened = parts.open(context, bytes(out))
            found.append(-1 if opened is None else len(opened.inner))
            if opened is not None:
                ike.parse_chain(opened.first, opened.inner)
        except FormatError as error:
            found.append(error.reason)
    return found


def der_values(data):
    """SubjectPublicKeyInfo and ECDSA-Sig-Value."""
    point, pair = der.parse_spki(data), der.parse_ecdsa(data)
    if point is not None:
        assert bytes(der.emit_spki(point)) == bytes(data)
    return [point is not None, pair is not None]


def certificates(data):
    """One certificate, and what it is worth as a key server's."""
    try:
        found = x509.parse(data)
    except FormatError as error:
        return error.reason
    facts = [found.is_ca, found.path_len, found.usage, found.names, found.purposes]
    facts += [found.not_before, found.not_after, found.signature is not None]
    facts += [x509.server_problem(found, b"gcks.example"), x509.is_issued(found, found, 1)]
    return facts


def wrapped_keys(data):
    """RFC 5649 under a key that the sender has: garbage, and a short key with any plain octets."""
    kek = bytes(range(16))
    key = keywrap.unwrap(kek, bytes(data))
    found = [None if key is None else len(key)]
    plain = bytes(data[:16])
    if len(plain) == 16:
        from covey.port import AESBlock

        key = keywrap.unwrap(kek, bytes(AESBlock(kek).encrypt(plain)))
        found.append(None if key is None else len(key))
    return found


def reports(data):
    """COVEY_REPORT, as the key server reads it."""
    found = report.parse_report(data)
    return None if found is None else [found.state, len(found.changes), sorted(found.drops)]


def source_attributes(data):
    """What a policy says about source authentication."""
    program = Program(data)
    attributes = []
    for _ in range(1 + program.u8() % 3):
        kind = program.pick((COVEY_SOURCE_AUTH, COVEY_ROSTER, COVEY_SIGNERS, 16402, 16403, 16406))
        is_short = program.u8() % 8 == 7
        attributes.append((kind, program.u16() if is_short else program.octets()))
    found = []
    for parse in (
        sources.parse_macs,
        sources.parse_roster,
        sources.parse_signed,
        sources.mode_of,
        timing.parse_timing,
        signers.parse_signers,
        _changes_of_a_roster,
    ):
        found.append(_reason(parse, attributes))
    return found


class _Was:
    """Terms of epoch 0, with a sender of index 0 and one of index 256."""

    epoch = 0

    class sources:
        rows = ((0, 1, b"press-7"), (256, 0, b""))


def _changes_of_a_roster(attributes):
    sources.roster_of(gsa.GroupWide(attributes=attributes), _Was)


def _reason(parse, *args):
    try:
        parse(*args)
        return 0
    except FormatError as error:
        return error.reason


def proof_bodies(data):
    """What is told of clocks and chains, and what lies behind a payload."""
    program = Program(data)
    bits, most = program.u8() % 21, program.u8() % 7
    octets = program.rest()
    found = [_reason(timing.parse_chains, octets, bits), _reason(timing.parse_time, octets)]
    found += [_reason(timing.parse_stones, octets, bits), _reason(timing.parse_ask, octets)]
    found.append(signers.parse_trailer(octets, 0, len(octets), most))
    return found


def ip_headers(data):
    """What a raw socket hands over; the first octet says how long it says that it was."""
    program = Program(data)
    head, buf = bytearray(20), bytearray(64)
    claimed = program.u8()
    datagram = program.rest()
    head[: min(20, len(datagram))] = datagram[:20]
    rest = datagram[20:84]
    buf[: len(rest)] = rest
    return ipv4.strip(head, buf, claimed if claimed else len(datagram), _GROUP)


def cip_frames(data):
    """EtherNet/IP class 0 or 1; the first octet says where the frame begins, and of which kind."""
    program = Program(data)
    kind = program.u8()
    off = kind & 15
    frame = program.rest()
    buf = bytes(off) + frame
    consumer = cip.Consumer(frame[6:10], 1000, 4, 0, not kind & 16, bool(kind & 32))
    taken = [consumer.take(buf, off, len(frame), 0) for _ in range(2)]
    return [cip.parse(buf, off, len(frame)), taken, consumer.is_running, consumer.data_len]


TARGETS = {
    "ike": ike_bodies,
    "gsa": gsa_body,
    "kd": kd_body,
    "envelope": envelopes,
    "fragments": fragments,
    "der": der_values,
    "x509": certificates,
    "keywrap": wrapped_keys,
    "report": reports,
    "sources": source_attributes,
    "proofs": proof_bodies,
    "ipv4": ip_headers,
    "cip": cip_frames,
}
