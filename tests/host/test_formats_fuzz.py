"""Formats under what nobody laid out: any octets, altered messages, any values; and two others
who speak IKEv2 (scapy) and AES-GCM (cryptography) as independent readers."""

import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib import ikev2 as scapy_ike

import test_gsa
import test_ike
import test_ikebody
import test_ikesa
import test_kd
from covey import gsa, ike, redirect
from covey.drops import DROP_GSA, DROP_KD, FormatError
from covey.gcm import GCMContext

octets = st.binary
u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
spi8 = octets(min_size=8, max_size=8).filter(any)


# Whatever comes: a value, or a FormatError with the right reason


def _parse_ts(data):
    return ike.parse_ts(data)[0]


def _parse_signature_auth(data):
    algorithm, _, signature = ike.parse_signature_auth(data)
    return algorithm, signature


def _parse_transforms(data):
    return ike.parse_transforms(data)[0]


def _parse_message(data):
    header, payloads = ike.parse_message(data)
    payloads = [(p.kind, p.body) for p in payloads]
    return (header.spi_i, header.spi_r, header.exchange, header.flags, header.message_id, payloads)


def _spread(emit):
    return lambda value: emit(*value)


# parser, emitter, a message to alter, what may be wrong with it (None: of IKE)
FORMATS = (
    (_parse_message, _spread(ike.emit_message), test_ike.IKE_SA_INIT, None),
    (ike.parse_sa, ike.emit_sa, test_ikesa.SAG, None),
    (_parse_transforms, ike.emit_transforms, test_ikesa.SAG[8:72], None),
    (ike.parse_ke, _spread(ike.emit_ke), test_ikebody.KE, None),
    (ike.parse_id, _spread(ike.emit_id), test_ikebody.IDg, None),
    (ike.parse_auth, _spread(ike.emit_auth), test_ikebody.AUTH, None),
    (
        _parse_signature_auth,
        _spread(ike.emit_signature_auth),
        test_ikebody.SIGNATURE_AUTH,
        None,
    ),
    (ike.check_nonce, bytes, bytes(32), None),
    (ike.parse_notify, ike.emit_notify, test_ikebody.REKEY_SA, None),
    (ike.parse_delete, ike.emit_delete, test_ikebody.DELETE_ESP, None),
    (redirect.parse_redirect, _spread(redirect.emit_redirect), b"\3\4gcks" + bytes(32), None),
    (_parse_ts, ike.emit_ts, test_ikebody.TS_V6, None),
    (
        gsa.parse_gsa,
        gsa.emit_gsa,
        test_gsa.REKEY_SA + test_gsa.ESP_SA + test_gsa.AH_SA + test_gsa.GROUP_WIDE,
        DROP_GSA,
    ),
    (
        gsa.parse_kd,
        gsa.emit_kd,
        test_kd.REKEY_BAG + test_kd.ESP_BAG + test_kd.MEMBER_BAG,
        DROP_KD,
    ),
)


def _take(parse, emit, reason, data):
    """Parse; what was understood must survive being sent on. Anything but FormatError escapes."""
    try:
        value = parse(data)
    except FormatError as error:
        assert reason is None or error.reason == reason
        return
    if "unknown_attribute=True" in repr(value):
        return  # of those only the fact is kept
    assert parse(emit(value)) == value


@given(st.sampled_from(FORMATS), octets(max_size=200))
def test_any_octets(form, data):
    parse, emit, _, reason = form
    _take(parse, emit, reason, data)


@st.composite
def altered(draw, data):
    """data with a few octets set, cut out, put in or repeated, or another length somewhere."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(("set", "set", "length", "cut", "insert", "repeat")))
        if how == "set" and data:
            data[at] = draw(st.one_of(u8, st.sampled_from((0, 1, 3, 4, 7, 8, 0x7F, 0x80, 0xFF))))
        elif how == "length" and len(data) >= 2:
            at = min(at, len(data) - 2)
            struct.pack_into(">H", data, at, draw(st.integers(0, len(data))))
        elif how == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif how == "insert":
            data[at:at] = draw(octets(max_size=20))
        elif how == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 140))]
    return bytes(data)


@settings(max_examples=1500)
@given(st.data(), st.sampled_from(FORMATS))
def test_altered_messages(data, form):
    parse, emit, message, reason = form
    changed = data.draw(altered(message))
    if parse is _parse_message and len(changed) >= 28:
        changed = changed[:24] + struct.pack(">I", len(changed)) + changed[28:]
    _take(parse, emit, reason, changed)


@settings(max_examples=300)
@given(st.data())
def test_altered_sk(data):
    """Before the tag is checked, and behind it: the sender's keys don't make its octets good."""
    ctx = GCMContext(test_ike.KEYMAT)
    outside = bytearray(data.draw(altered(test_ike.PADDED_SK)))
    if len(outside) >= 28:
        struct.pack_into(">I", outside, 24, len(outside))
    try:
        ike.open_message(ctx, outside)
        assert bytes(outside) == test_ike.PADDED_SK
    except FormatError:
        pass
    text = data.draw(altered(test_ike.PADDED_INNER + b"\0"))
    first = data.draw(st.sampled_from((35, 0, 46, 41, 200)))
    head = ike.emit_head(*_HEAD, [(first, b"")], 8 + len(text) + 16)
    sealed = bytearray(head + bytes(8) + text + bytes(16))
    ctx.seal(sealed, 0, 32, len(text))
    try:
        ike.open_message(ctx, sealed)
    except FormatError:
        pass


_HEAD = (b"spi.init", b"spi.resp", ike.GSA_AUTH, ike.FLAG_I, 1)


# Whatever is sent: parse(emit(x)) == x


def transforms(**kwargs):
    algorithm = octets(min_size=1, max_size=20)
    plain = st.builds(ike.Transform, u8, u16, st.none() | u16)
    gcauth = st.builds(ike.Transform, st.just(ike.GCAUTH), st.just(2), st.none(), algorithm)
    return st.lists(plain | gcauth, **kwargs)


proposals = st.builds(ike.Proposal, u8, u8, octets(max_size=20), transforms(max_size=6))
address_ranges = st.sampled_from((4, 16)).flatmap(
    lambda n: st.tuples(octets(min_size=n, max_size=n), octets(min_size=n, max_size=n))
)
selectors = st.builds(
    lambda proto, low, high, ends: ike.TrafficSelector(
        7 if len(ends[0]) == 4 else 8, proto, low, high, *ends
    ),
    u8,
    u16,
    u16,
    address_ranges,
)


@given(st.lists(proposals, min_size=1, max_size=5))
def test_sa_round_trip(value):
    data = ike.emit_sa(value)
    assert ike.parse_sa(data) == value
    assert ike.emit_sa(ike.parse_sa(data)) == data


@given(transforms(min_size=1), octets(max_size=10), octets(max_size=10))
def test_transforms_round_trip(value, before, behind):
    data = ike.emit_transforms(value)
    end = len(before) + len(data)
    assert ike.parse_transforms(before + data + behind, len(before)) == (value, end)


@given(selectors, octets(max_size=10), octets(max_size=10))
def test_ts_round_trip(value, before, behind):
    data = ike.emit_ts(value)
    end = len(before) + len(data)
    assert ike.parse_ts(before + data + behind, len(before)) == (value, end)


@given(u8, octets(max_size=16), u16, octets(max_size=64))
def test_notify_round_trip(protocol, spi, type, data):
    value = ike.Notify(protocol, spi, type, data)
    assert ike.parse_notify(ike.emit_notify(value)) == value


@given(st.sampled_from(((2, 4), (3, 4), (6, 16), (9, 3))), st.data())
def test_delete_round_trip(kind, data):
    protocol, size = kind
    value = ike.Delete(
        protocol, size, data.draw(st.lists(octets(min_size=size, max_size=size), max_size=20))
    )
    assert ike.parse_delete(ike.emit_delete(value)) == value


def spis(protocol):
    size = 16 if protocol == ike.GIKE_UPDATE else 4
    return octets(min_size=size, max_size=size)


unknown_attributes = st.lists(
    st.tuples(st.integers(100, 16000), u16 | octets(max_size=12)), max_size=3
)


def policies(protocol):
    rekey = protocol == ike.GIKE_UPDATE
    return st.builds(
        gsa.SAPolicy,
        st.just(protocol),
        spis(protocol),
        selectors,
        selectors,
        transforms(min_size=1, max_size=5, unique_by=lambda t: t.kind),
        st.none() | u32,
        (st.none() | u32) if rekey else st.none(),
        st.lists(spis(protocol), max_size=3),
        unknown_attributes,
    )


group_wides = st.builds(
    gsa.GroupWide,
    st.none() | u16,
    st.none() | u16,
    st.none() | u16,
    st.none() | u16,
    st.none() | st.tuples(u8, u8),
    epoch=st.none() | u32,
    silence=st.none() | st.tuples(st.integers(0, (1 << 24) - 1), st.booleans()),
    report_s=st.none() | u16,
    attributes=unknown_attributes,
    delivery=st.none() | u16,
)
gsas = st.builds(
    gsa.GSA,
    st.builds(
        lambda rekey, data: rekey + data,
        st.lists(policies(ike.GIKE_UPDATE), max_size=1),
        st.lists(policies(ike.ESP), min_size=1, max_size=3, unique_by=lambda p: p.spi),
    ),
    st.none() | group_wides,
)


@given(gsas)
def test_gsa_round_trip(value):
    data = gsa.emit_gsa(value)
    assert gsa.parse_gsa(data) == value
    assert gsa.emit_gsa(gsa.parse_gsa(data)) == data


key_ids = octets(min_size=4, max_size=4)
wrapped = octets(min_size=1, max_size=72)
zero_ids = st.just(gsa.ZERO_ID)
rekey_keys = st.builds(gsa.WrappedKey, zero_ids, key_ids, wrapped)
data_keys = st.builds(gsa.WrappedKey, zero_ids, zero_ids, wrapped)
wrap_keys = st.builds(gsa.WrappedKey, key_ids.filter(any), key_ids, wrapped)
member_bags = st.builds(
    gsa.MemberBag,
    st.lists(wrap_keys, max_size=4),
    st.none() | octets(min_size=1, max_size=100),
    st.lists(octets(min_size=1, max_size=8), max_size=3),
)
rekey_bags = st.builds(
    gsa.KeyBag, st.just(6), spis(6), st.lists(rekey_keys, min_size=1, max_size=4)
)
data_bags = st.builds(
    gsa.KeyBag, st.sampled_from((2, 3)), spis(3), st.lists(data_keys, min_size=1, max_size=1)
)
kds = st.builds(
    gsa.KD,
    st.lists(rekey_bags | data_bags, max_size=4, unique_by=lambda b: (b.protocol, b.spi)),
    st.none() | member_bags,
)


@given(kds)
def test_kd_round_trip(value):
    data = gsa.emit_kd(value)
    assert gsa.parse_kd(data) == value
    assert gsa.emit_kd(gsa.parse_kd(data)) == data


plain_kinds = u8.filter(lambda kind: kind not in (0, ike.SK, ike.SKF))
chains = st.lists(st.tuples(plain_kinds, octets(max_size=60)), max_size=12)
keymats = octets(min_size=20, max_size=20) | octets(min_size=36, max_size=36)
ivs = octets(min_size=8, max_size=8)


@given(spi8, spi8, u8, u8, u32, chains)
def test_message_round_trip(spi_i, spi_r, exchange, flags, message_id, chain):
    data = ike.emit_message(spi_i, spi_r, exchange, flags, message_id, chain)
    assert _parse_message(data) == (spi_i, spi_r, exchange, flags, message_id, chain)


@given(keymats, spi8, spi8, u8, u8, u32, chains, ivs)
def test_sk_round_trip(keymat, spi_i, spi_r, exchange, flags, message_id, chain, iv):
    args = spi_i, spi_r, exchange, flags, message_id, chain
    data = ike.seal_message(GCMContext(keymat), *args, iv)
    header, payloads = ike.open_message(GCMContext(keymat), data)
    assert header.length == len(data) and header.message_id == message_id
    assert [(p.kind, p.body) for p in payloads] == chain


@given(chains, st.integers(1, 80))
def test_signature_octets_are_all_that_is_zeroed(chain, length):
    """A change anywhere in A | P but in the signature changes what is signed."""
    chain = [p for p in chain if p[0] != ike.AUTH]
    auth = ike.emit_auth(14, ike.emit_signature_auth(test_ike.ALGORITHM, b"\x5a" * length))
    at = len(chain) // 2
    payloads = chain[:at] + [(ike.AUTH, auth)] + chain[at:]
    inner = ike.emit_chain(payloads)[1]
    signed = ike.rekey_to_sign(bytes(range(16)), ike.FLAG_I, 7, payloads)
    assert len(signed) == 32 + len(inner)
    assert struct.unpack_from(">I", signed, 24)[0] == len(signed)
    assert struct.unpack_from(">H", signed, 30)[0] == len(signed) - 28
    start = len(ike.emit_chain(chain[:at])[1]) + 4 + 4 + 1 + len(test_ike.ALGORITHM)
    assert signed[32 : 32 + start] == inner[:start]
    assert signed[32 + start : 32 + start + length] == bytes(length)
    assert signed[32 + start + length :] == inner[start + length :]


# Independent readers


@given(spi8, u32, octets(min_size=16, max_size=256), octets(min_size=32, max_size=32))
def test_scapy_reads_our_ike_sa_init(spi, message_id, nonce, public):
    transforms = [
        ike.Transform(ike.ENCR, ike.ENCR_AES_GCM_16, 256),
        ike.Transform(ike.PRF, ike.PRF_HMAC_SHA2_256),
        ike.Transform(ike.KE_METHOD, ike.CURVE25519),
        ike.Transform(ike.KWA, ike.KW_5649_256),
    ]
    chain = [
        (ike.SA, ike.emit_sa([ike.Proposal(1, ike.IKE, b"", transforms)])),
        (ike.KE, ike.emit_ke(ike.CURVE25519, public)),
        (ike.NONCE, nonce),
        (ike.NOTIFY, ike.emit_notify(ike.Notify(0, b"", ike.COOKIE, spi))),
    ]
    data = ike.emit_message(spi, bytes(8), ike.IKE_SA_INIT, ike.FLAG_I, message_id, chain)
    packet = scapy_ike.IKEv2(bytes(data))
    assert packet.init_SPI == spi and packet.resp_SPI == bytes(8)
    assert packet.version == 0x20 and packet.exch_type == 34 and packet.flags == "Initiator"
    assert packet.id == message_id and packet.length == len(data)
    proposal = packet[scapy_ike.IKEv2_Proposal]
    assert proposal.trans_nb == 4 and proposal.proto == 1
    found, transform = [], proposal.trans
    while transform is not None and transform.name == "IKEv2 Transform":
        found.append((transform.transform_type, transform.transform_id, transform.key_length))
        transform = transform.payload
    assert found == [(1, 20, 256), (2, 5, None), (4, 31, None), (13, 3, None)]
    assert packet[scapy_ike.IKEv2_KE].ke == public and packet[scapy_ike.IKEv2_KE].group == 31
    assert packet[scapy_ike.IKEv2_Nonce].nonce == nonce
    notify = packet[scapy_ike.IKEv2_Notify]
    assert notify.type == ike.COOKIE and notify.notify == spi
    assert bytes(packet) == data


def test_we_read_what_scapy_makes():
    packet = scapy_ike.IKEv2(
        init_SPI=b"spi.init", resp_SPI=b"spi.resp", exch_type=37, flags="Response", id=3
    )
    packet /= scapy_ike.IKEv2_Notify(proto=3, SPIsize=4, SPI=b"abcd", type=11, notify=b"xy")
    packet /= scapy_ike.IKEv2_Delete(proto=3, SPIsize=4, SPInum=2, SPI=[b"abcd", b"efgh"])
    packet /= scapy_ike.IKEv2_Nonce(nonce=b"n" * 32)
    header, payloads = ike.parse_message(bytes(packet))
    assert (header.exchange, header.flags, header.message_id) == (37, ike.FLAG_R, 3)
    notify, delete, nonce = payloads
    assert ike.parse_notify(notify.body) == ike.Notify(3, b"abcd", 11, b"xy")
    assert ike.parse_delete(delete.body) == ike.Delete(3, 4, [b"abcd", b"efgh"])
    assert nonce.body == b"n" * 32


@given(keymats, ivs, octets(max_size=255))
def test_cryptography_and_scapy_read_our_sk(keymat, iv, padding):
    key, salt = keymat[:-4], keymat[-4:]
    identity = ike.emit_id(ike.ID_KEY_ID, b"press7")
    chain = [(ike.IDi, identity), (ike.NONCE, bytes(16))]
    data = bytes(ike.seal_message(GCMContext(keymat), *_HEAD, chain, iv))
    sk = scapy_ike.IKEv2(data)[scapy_ike.IKEv2_Encrypted]
    assert sk.length == len(data) - 28 and sk.load[:8] == iv
    text = AESGCM(key).decrypt(salt + iv, sk.load[8:], data[:32])
    assert text[-1] == 0  # no padding
    inner = scapy_ike.IKEv2_IDi(text[:-1])
    assert sk.next_payload == 35 and inner.IDtype == 11 and inner.ID == b"press7"
    assert inner[scapy_ike.IKEv2_Nonce].nonce == bytes(16)
    # and the other way round, with padding
    text = text[:-1] + padding + bytes((len(padding),))
    head = bytes(ike.emit_head(*_HEAD, chain, 8 + len(text) + 16))
    data = head + iv + AESGCM(key).encrypt(salt + iv, text, head)
    _, payloads = ike.open_message(GCMContext(keymat), data)
    assert [(p.kind, p.body) for p in payloads] == chain
