"""IKE header, payload chain and SK against octets laid out from the figures of the RFCs."""

import struct

from covey import ike
from covey.drops import (
    DROP_IKE_FORMAT,
    DROP_IKE_HEADER,
    DROP_IKE_TAG,
    ConfigError,
)
from covey.gcm import GCMContext
from layout import octets, patched, reasons_of_changes, why_refused

SPI_I = octets("a1a2a3a4a5a6a7a8")
SPI_R = octets("b1b2b3b4b5b6b7b8")
NONCE = octets("000102030405060708090a0b0c0d0e0f")
X25519_PUBLIC = octets("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")

# IKE_SA_INIT request with a Key Wrap Algorithm transform: RFC 7296 section 1.2, RFC 9838 2.3
IKE_SA_INIT = octets(
    "a1a2a3a4a5a6a7a8",  # IKE SA Initiator's SPI
    "0000000000000000",  # IKE SA Responder's SPI: not known yet
    "21 20 22 08",  # next payload SA (33), version 2.0, IKE_SA_INIT (34), flag I
    "00000000",  # Message ID
    "00000092",  # length 146 = 28 + 48 + 40 + 20 + 10
    "22 00 0030",  # SA: next payload KE (34), length 48
    "00 00 002c",  # proposal: the last, length 44
    "01 01 00 04",  # number 1, protocol IKE, SPI size 0, 4 transforms
    "03 00 000c 01 00 0014",  # ENCR, AES-GCM with 16 octets of ICV (20)
    "800e 0080",  # Key Length 128, as TV
    "03 00 0008 02 00 0005",  # PRF, HMAC-SHA2-256 (5)
    "03 00 0008 04 00 001f",  # key exchange method, Curve25519 (31)
    "00 00 0008 0d 00 0001",  # KWA (13), KW_5649_128 (1): the last; no Key Length
    "28 00 0028",  # KE: next payload Nonce (40), length 40
    "001f 0000",  # Curve25519, reserved
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    "29 00 0014",  # Nonce: next payload Notify (41), length 20
    "000102030405060708090a0b0c0d0e0f",
    "00 00 000a",  # Notify: the last payload, length 10
    "00 00 402f",  # no protocol, no SPI, SIGNATURE_HASH_ALGORITHMS (16431)
    "0002",  # SHA2-256
)

KEYMAT = octets("000102030405060708090a0b0c0d0e0f", "10111213")  # AES key, salt
IV = octets("0102030405060708")


def _init_payloads():
    transforms = [
        ike.Transform(ike.ENCR, ike.ENCR_AES_GCM_16, 128),
        ike.Transform(ike.PRF, ike.PRF_HMAC_SHA2_256),
        ike.Transform(ike.KE_METHOD, ike.CURVE25519),
        ike.Transform(ike.KWA, ike.KW_5649_128),
    ]
    hashes = ike.Notify(0, b"", ike.SIGNATURE_HASH_ALGORITHMS, b"\0\2")
    return [
        (ike.SA, ike.emit_sa([ike.Proposal(1, ike.IKE, b"", transforms)])),
        (ike.KE, ike.emit_ke(ike.CURVE25519, X25519_PUBLIC)),
        (ike.NONCE, NONCE),
        (ike.NOTIFY, ike.emit_notify(hashes)),
    ]


def test_header_fields():
    header = ike.parse_header(IKE_SA_INIT)
    assert header.spi_i == SPI_I and header.spi_r == bytes(8)
    assert header.next_payload == ike.SA and header.exchange == ike.IKE_SA_INIT
    assert header.flags == ike.FLAG_I and header.message_id == 0 and header.length == 146


def test_header_emit():
    out = ike.emit_ike_header(SPI_I, bytes(8), ike.SA, ike.IKE_SA_INIT, ike.FLAG_I, 0, 146)
    assert out == IKE_SA_INIT[:28]


def test_header_large_message_id():
    # A u32 that is no small int on a 32-bit board.
    out = ike.emit_ike_header(SPI_I, SPI_R, 0, 37, ike.FLAG_R, 0xFFFFFFFE, 28)
    assert out[20:24] == octets("fffffffe")
    assert ike.parse_header(out).message_id == 0xFFFFFFFE


def test_header_refused():
    for off, field in (
        (17, "10"),  # IKEv1: GDOI on the same port
        (17, "30"),  # major version 3
        (24, "00000091"),  # a length below the datagram's
        (24, "00000093"),
        (24, "80000092"),
        (0, "0000000000000000"),  # section 3.1: the initiator's SPI must not be zero
        (-1, "00"),  # an octet behind
    ):
        assert why_refused(ike.parse_header, patched(IKE_SA_INIT, off, field)) == DROP_IKE_HEADER
    longest = ike.emit_ike_header(SPI_I, SPI_R, 0, 34, 8, 0, 4096) + bytes(4096 - 28)
    assert ike.parse_header(longest).length == ike.MOST_LEN == 4096
    longest = ike.emit_ike_header(SPI_I, SPI_R, 0, 34, 8, 0, 4097) + bytes(4097 - 28)
    assert why_refused(ike.parse_header, longest) == DROP_IKE_HEADER


def test_header_ignores_what_it_must():
    # Section 3.1: minor version and the X bits; section 3.2: RESERVED; 2.5: C on known payloads.
    data = patched(IKE_SA_INIT, 17, "2f")
    data = patched(data, 19, "cf")
    data = patched(data, 29, "ff")
    header, payloads = ike.parse_message(data)
    assert header.flags & ike.FLAG_I and not header.flags & ike.FLAG_R
    assert payloads[0].critical and ike.unsupported_critical(payloads) is None


def test_rekey_sa_may_have_zeros_in_its_spi():
    data = ike.emit_message(bytes(8), SPI_R, ike.GSA_REKEY, ike.FLAG_I, 0, [])
    assert ike.parse_header(data).spi_i == bytes(8)


def test_init_parse():
    header, payloads = ike.parse_message(IKE_SA_INIT)
    assert [p.kind for p in payloads] == [ike.SA, ike.KE, ike.NONCE, ike.NOTIFY]
    assert [p.off for p in payloads] == [0, 48, 88, 108]  # from the end of the IKE header
    assert not any([p.critical for p in payloads])
    (proposal,) = ike.parse_sa(payloads[0].body)
    assert proposal.of_kind(ike.KWA) == [ike.Transform(13, 1)]
    assert proposal.of_kind(ike.ENCR)[0].key_bits == 128
    assert ike.parse_ke(payloads[1].body) == (31, X25519_PUBLIC)
    assert ike.check_nonce(payloads[2].body) == NONCE
    assert ike.parse_notify(payloads[3].body) == ike.Notify(0, b"", 16431, b"\0\2")


def test_init_emit():
    data = ike.emit_message(SPI_I, bytes(8), ike.IKE_SA_INIT, ike.FLAG_I, 0, _init_payloads())
    assert data == IKE_SA_INIT
    assert len(data) == ike.parse_header(data).length


def test_init_from_a_view():
    buf = bytearray(4) + IKE_SA_INIT  # as it stands behind a non-ESP marker
    assert ike.parse_message(memoryview(buf)[4:]) == ike.parse_message(IKE_SA_INIT)


def test_init_cut_at_every_octet():
    for n in range(len(IKE_SA_INIT)):
        assert why_refused(ike.parse_message, IKE_SA_INIT[:n]) == DROP_IKE_HEADER
        if n >= 28:  # and where the header agrees with the cut
            data = bytearray(IKE_SA_INIT[:n])
            struct.pack_into(">I", data, 24, n)
            assert why_refused(ike.parse_message, data) == DROP_IKE_FORMAT
            chain = IKE_SA_INIT[28:n]
            assert why_refused(ike.parse_chain, ike.SA, chain) == DROP_IKE_FORMAT


def test_chain_refused():
    chain = IKE_SA_INIT[28:]
    for off, field in (
        (2, "0000"),  # a length below its own header
        (2, "0003"),
        (2, "002f"),  # cuts the next header off its place
        (2, "ffff"),
        (-1, "00000004"),  # a payload that no header announced
        (108, "21"),  # one announced that is not there
        (0, "2e"),  # an SK inside
        (0, "35"),  # an SKF: fragments are not taken
    ):
        assert why_refused(ike.parse_chain, ike.SA, patched(chain, off, field)) == DROP_IKE_FORMAT
    assert why_refused(ike.parse_chain, ike.SK, chain) == DROP_IKE_FORMAT
    assert why_refused(ike.parse_chain, ike.NO_NEXT_PAYLOAD, chain) == DROP_IKE_FORMAT
    assert ike.parse_chain(ike.NO_NEXT_PAYLOAD, b"") == []
    assert why_refused(ike.parse_chain, ike.SA, b"") == DROP_IKE_FORMAT


def test_any_octet_changed():
    reasons = reasons_of_changes(ike.parse_message, IKE_SA_INIT)
    assert reasons == {None, DROP_IKE_FORMAT, DROP_IKE_HEADER}


def test_chain_has_a_bound():
    most = ike.emit_chain([(ike.VENDOR, b"")] * 64)[1]
    assert len(ike.parse_chain(ike.VENDOR, most)) == ike.MOST_PAYLOADS == 64
    more = ike.emit_chain([(ike.VENDOR, b"")] * 65)[1]
    assert why_refused(ike.parse_chain, ike.VENDOR, more) == DROP_IKE_FORMAT


def test_unknown_payloads():
    chain = octets(
        "c8 00 0008 01020304",  # unknown payload 199; next payload 200
        "2b 80 0005 ff",  # unknown payload 200, critical; next payload Vendor ID (43)
        "00 00 0006 abcd",
    )
    payloads = ike.parse_chain(199, chain)
    assert [(p.kind, p.critical, p.body) for p in payloads] == [
        (199, False, octets("01020304")),
        (200, True, b"\xff"),
        (ike.VENDOR, False, octets("abcd")),
    ]
    assert ike.unsupported_critical(payloads) == 200
    assert ike.unsupported_critical(ike.parse_chain(199, patched(chain, 9, "7f"))) is None


def test_known_payloads_are_never_critical():
    for kind in range(256):
        known = ike.SA <= kind <= ike.EAP or ike.IDg <= kind <= ike.SKF  # 49 and 54 are others'
        payload = ike.Payload(kind, True, b"")
        assert ike.unsupported_critical([payload]) == (None if known else kind)
        payload.critical = False
        assert ike.unsupported_critical([payload]) is None


def test_longest_to_send():
    args = SPI_I, SPI_R, ike.INFORMATIONAL, ike.FLAG_I, 0
    ctx = _AnyLength()
    for emit, overhead in (
        (lambda payloads: ike.emit_message(*args, payloads), 28 + 4),
        (lambda payloads: ike.seal_message(ctx, *args, payloads, IV), 28 + 4 + 8 + 4 + 1 + 16),
    ):
        assert len(emit([(ike.VENDOR, bytes(4096 - overhead))])) == 4096
        try:
            emit([(ike.VENDOR, bytes(4097 - overhead))])
            raise AssertionError("a message beyond the bound was made")
        except ConfigError:
            pass


class _AnyLength:
    def seal(self, buf, off, aad_len, text_len):
        pass


class _NoLength:
    def open(self, buf, off, aad_len, text_len):
        raise ValueError("longer than the buffers made for it")


def test_more_than_the_gcm_takes():
    # A board's GCMContext has fixed buffers: what does not fit is the sender's fault.
    assert why_refused(ike.open_message, _NoLength(), EMPTY_SK) == DROP_IKE_FORMAT


# SK{} in a response: RFC 7296 section 3.14 with AES-GCM (RFC 5282), sealed by another library
EMPTY_SK = octets(
    "a1a2a3a4a5a6a7a8 b1b2b3b4b5b6b7b8",  # SPIs
    "2e 20 25 28",  # next payload SK (46), version 2.0, INFORMATIONAL (37), flags R and I
    "00000002",  # Message ID
    "00000039",  # length 57 = 28 + 4 + 8 + 1 + 16
    "00 00 001d",  # SK: no payload inside, length 29
    "0102030405060708",  # IV
    "90",  # pad length 0, encrypted
    "2686280216bc9a33657d44d58def1efd",  # ICV
)

# SK{IDi, N(GROUP_SENDER)} with padding ab cd ef, C and RESERVED bits set, a Vendor ID before it
PADDED_SK = octets(
    "a1a2a3a4a5a6a7a8 b1b2b3b4b5b6b7b8",  # SPIs
    "2b 20 27 08",  # next payload Vendor ID (43), version 2.0, GSA_AUTH (39), flag I
    "00000001",  # Message ID
    "0000005e",  # length 94 = 28 + 8 + 4 + 8 + 30 + 16
    "2e 00 0008 63766579",  # Vendor ID in clear: next payload SK (46)
    "23 85 003a",  # SK: first payload inside IDi (35), C and RESERVED not zero, length 58
    "0102030405060708",  # IV
    "b95657aedb3de7f16dca3cb9ae61824c5bca91df408b9419ddc862eda8a8",  # 26 + 3 + 1 octets
    "3d72ee51f811691ca9551478244eb8c0",  # ICV
)
PADDED_INNER = octets(
    "29 00 000e",  # IDi: next payload Notify (41), length 14
    "0b 000000 707265737337",  # ID_KEY_ID (11), reserved, "press7"
    "00 00 000c",  # Notify: the last, length 12
    "00 00 402d 00000001",  # no protocol, no SPI, GROUP_SENDER (16429): one Sender-ID
)


def test_empty_sk_both_ways():
    args = SPI_I, SPI_R, ike.INFORMATIONAL, ike.FLAG_R | ike.FLAG_I, 2
    assert ike.seal_message(GCMContext(KEYMAT), *args, [], IV) == EMPTY_SK
    header, payloads = ike.open_message(GCMContext(KEYMAT), EMPTY_SK)
    assert payloads == [] and header.message_id == 2 and header.exchange == 37


def test_padded_sk():
    before = bytearray(PADDED_SK)
    opened = ike.open_octets(GCMContext(KEYMAT), before)
    assert before == PADDED_SK  # opened in a copy
    assert opened.head == PADDED_SK[:40]
    assert opened.first == ike.IDi and opened.inner == PADDED_INNER
    header, payloads = ike.open_message(GCMContext(KEYMAT), memoryview(PADDED_SK))
    assert header.exchange == ike.GSA_AUTH
    assert [p.kind for p in payloads] == [ike.VENDOR, ike.IDi, ike.NOTIFY]
    assert payloads[0].body == b"cvey"
    assert ike.parse_id(payloads[1].body) == (ike.ID_KEY_ID, b"press7")
    sender = ike.parse_notify(payloads[2].body)
    assert sender.type == ike.GROUP_SENDER and sender.data == octets("00000001")


def test_sk_seal_then_open():
    data = ike.seal_message(
        GCMContext(KEYMAT), SPI_I, SPI_R, ike.GSA_AUTH, ike.FLAG_I, 1, _init_payloads(), IV
    )
    assert len(data) == 28 + 4 + 8 + 118 + 1 + 16  # no padding
    assert data[28:32] == octets("21 00 0093")  # first payload inside SA, length 147
    header, payloads = ike.open_message(GCMContext(KEYMAT), data)
    assert header.length == len(data)
    assert [(p.kind, p.body) for p in payloads] == [(k, bytes(b)) for k, b in _init_payloads()]


def test_sk_forged_at_every_octet():
    ctx = GCMContext(KEYMAT)
    for off in range(len(PADDED_SK)):
        data = bytearray(PADDED_SK)
        data[off] ^= 0x40
        assert why_refused(ike.open_message, ctx, data) in (
            DROP_IKE_TAG,
            DROP_IKE_FORMAT,
            DROP_IKE_HEADER,
        )
        if off >= 40 or off < 16:  # nothing that the parser needs on its way to SK
            assert why_refused(ike.open_message, ctx, data) == DROP_IKE_TAG


def test_sk_cut_at_every_octet():
    ctx = GCMContext(KEYMAT)
    for n in range(28, len(PADDED_SK)):
        data = bytearray(PADDED_SK[:n])
        struct.pack_into(">I", data, 24, n)
        assert why_refused(ike.open_message, ctx, data) == DROP_IKE_FORMAT
        if n >= 40:  # and where SK agrees with the cut
            struct.pack_into(">H", data, 38, n - 36)
            reason = DROP_IKE_TAG if n >= 40 + 8 + 1 + 16 else DROP_IKE_FORMAT
            assert why_refused(ike.open_message, ctx, data) == reason


def test_sk_must_be_there_and_last():
    ctx = GCMContext(KEYMAT)
    assert why_refused(ike.open_message, ctx, IKE_SA_INIT) == DROP_IKE_FORMAT
    behind = patched(patched(EMPTY_SK, -1, "00000004"), 24, "0000003d")
    assert why_refused(ike.open_message, ctx, behind) == DROP_IKE_FORMAT
    fragment = patched(EMPTY_SK, 16, "35")
    assert why_refused(ike.open_message, ctx, fragment) == DROP_IKE_FORMAT
    assert why_refused(ike.parse_message, EMPTY_SK) == DROP_IKE_FORMAT


def _sealed(text, first=0):
    """A message whose SK holds this text, padding and pad length included."""
    head = ike.emit_head(SPI_I, SPI_R, ike.GSA_AUTH, 8, 1, [(first, b"")], 8 + len(text) + 16)
    data = head + IV + text + bytes(16)
    GCMContext(KEYMAT).seal(data, 0, 32, len(text))
    return data


def test_sk_padding():
    ctx = GCMContext(KEYMAT)
    assert ike.open_message(ctx, _sealed(octets("0000 02")))[1] == []  # padding only
    assert ike.open_message(ctx, _sealed(bytes(255) + b"\xff"))[1] == []
    for text in ("01", "00 02", "ff"):  # a pad longer than what is there
        assert why_refused(ike.open_message, ctx, _sealed(octets(text))) == DROP_IKE_FORMAT
    for text in ("aa 00", "00000004 00", "00000003 00"):  # payloads that nobody announced
        assert why_refused(ike.open_message, ctx, _sealed(octets(text))) == DROP_IKE_FORMAT
    assert why_refused(ike.open_message, ctx, _sealed(b"\0", ike.NONCE)) == DROP_IKE_FORMAT


# RFC 9838 section 2.4.1.1: what is signed in a GSA_REKEY that carries SK{D, AUTH, N}
ALGORITHM = octets("300a 0608 2a8648ce3d040302")  # ecdsa-with-SHA256
REKEY_SIGNED = octets(
    "c0c1c2c3c4c5c6c7",  # A: SPI of the Rekey SA, first half
    "c8c9cacbcccdcecf",  # second half
    "2e 20 29 08",  # next payload SK (46), version 2.0, GSA_REKEY (41), flag I
    "00000005",  # Message ID
    "00000090",  # AdjustedLen 144 = 32 + 112
    "2a 00 0074",  # SK: first payload inside Delete (42), AdjustedPldLen 116 = 4 + 112
    "27 00 000c",  # P: Delete, next payload AUTH (39), length 12
    "03 04 0001 9f3a12c4",  # ESP, SPIs of 4 octets, one of them
    "29 00 005c",  # AUTH: next payload Notify (41), length 92 = 4 + 4 + 1 + 12 + 71
    "0e 000000",  # Digital Signature (14), reserved
    "0c 300a06082a8648ce3d040302",  # ASN.1 length, AlgorithmIdentifier: not zeroed
    "00" * 71,  # only the signature's own octets are
    "00 00 0008",  # Notify: the last, length 8
    "00 00 4000",  # no protocol, no SPI, INITIAL_CONTACT (16384)
)
SIGNATURE = octets("3045", "5a" * 69)  # 71 octets


def _rekey_payloads(signature):
    auth = ike.emit_signature_auth(ALGORITHM, signature)
    return [
        (ike.DELETE, ike.emit_delete(ike.Delete(ike.ESP, 4, [octets("9f3a12c4")]))),
        (ike.AUTH, ike.emit_auth(ike.AUTH_DIGITAL_SIGNATURE, auth)),
        (ike.NOTIFY, ike.emit_notify(ike.Notify(0, b"", ike.INITIAL_CONTACT, b""))),
    ]


def test_rekey_signed_by_the_sender():
    spi = REKEY_SIGNED[:16]
    for signature in (bytes(71), SIGNATURE):
        payloads = _rekey_payloads(signature)
        assert ike.rekey_to_sign(spi, ike.FLAG_I, 5, payloads) == REKEY_SIGNED
    payloads = _rekey_payloads(bytes(70))  # the length is inside what is signed
    assert ike.rekey_to_sign(spi, ike.FLAG_I, 5, payloads) != REKEY_SIGNED


def _signed_of(opened):
    payloads = ike.parse_chain(opened.first, opened.inner)
    (auth,) = [p for p in payloads if p.kind == ike.AUTH]
    return ike.rekey_signed_octets(opened.head, opened.inner, auth.off)


def test_rekey_signed_by_the_receiver():
    ctx = GCMContext(KEYMAT)
    spi = REKEY_SIGNED[:16]
    data = ike.seal_message(
        ctx, spi[:8], spi[8:], ike.GSA_REKEY, ike.FLAG_I, 5, _rekey_payloads(SIGNATURE), IV
    )
    opened = ike.open_octets(ctx, data)
    inner = bytes(opened.inner)
    assert _signed_of(opened) == REKEY_SIGNED
    assert opened.inner == inner and SIGNATURE in inner  # left as they came


def test_rekey_signed_without_padding():
    # The same message with padding: neither it nor the pad length is signed or counted.
    text = ike.emit_chain(_rekey_payloads(SIGNATURE))[1] + octets("aabbccddee 05")
    head = REKEY_SIGNED[:24] + octets("000000ae 2a 00 0092")  # 174 = 32 + 8 + 118 + 16
    data = bytearray(head) + IV + text + bytes(16)
    GCMContext(KEYMAT).seal(data, 0, 32, len(text))
    assert _signed_of(ike.open_octets(GCMContext(KEYMAT), data)) == REKEY_SIGNED


def test_rekey_signed_as_received():
    # Flag I may be zero, RESERVED bits may be set: signed is what came.
    text = ike.emit_chain(_rekey_payloads(SIGNATURE))[1] + b"\0"
    head = REKEY_SIGNED[:16] + octets("2e 20 29 00 00000005 000000a9 2a 03 008d")
    data = bytearray(head) + IV + text + bytes(16)
    GCMContext(KEYMAT).seal(data, 0, 32, len(text))
    expected = patched(patched(REKEY_SIGNED, 19, "00"), 29, "03")
    assert _signed_of(ike.open_octets(GCMContext(KEYMAT), data)) == expected


def test_rekey_signature_cut_at_every_octet():
    inner = REKEY_SIGNED[32:44] + octets("00") + REKEY_SIGNED[45:136]
    head = REKEY_SIGNED[:32]
    assert len(ike.rekey_signed_octets(head, inner, 12)) == 32 + 104
    for n in range(12, len(inner)):
        assert why_refused(ike.rekey_signed_octets, head, inner[:n], 12) == DROP_IKE_FORMAT
    for n in range(4, 4 + 4 + 1 + 12 + 1):  # an AUTH without a whole algorithm and a signature
        short = patched(inner, 14, "%04x" % n)
        assert why_refused(ike.rekey_signed_octets, head, short, 12) == DROP_IKE_FORMAT


def test_one_namespace():
    for name, number in (
        ("GSA_INBAND_REKEY", 42),
        ("IDg", 50),
        ("GIKE_UPDATE", 6),
        ("KWA", 13),
        ("GCAUTH", 14),
        ("REGISTRATION_FAILED", 49),
        ("GROUP_SENDER", 16429),
        ("USE_TRANSPORT_MODE", 16391),
        ("ID_KEY_ID", 11),
    ):
        assert getattr(ike, name) == number
    for name in ("parse_sa", "parse_ke", "parse_delete", "TrafficSelector", "derive", "Notify"):
        assert hasattr(ike, name)


def test_secrets_are_not_shown():
    opened = ike.open_octets(GCMContext(KEYMAT), PADDED_SK)
    shown = repr(opened) + repr(ike.parse_chain(opened.first, opened.inner))
    assert "press7" not in shown and "kind=35" in shown
