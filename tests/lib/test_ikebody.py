"""Bodies of IKEv2 payloads against octets laid out from the figures of RFC 7296 section 3."""

from covey import iana
from covey.drops import DROP_IKE_FORMAT
from covey.ikebody import (
    Delete,
    Notify,
    TrafficSelector,
    check_nonce,
    emit_auth,
    emit_delete,
    emit_id,
    emit_ke,
    emit_notify,
    emit_signature_auth,
    emit_ts,
    nat_detection,
    parse_auth,
    parse_delete,
    parse_id,
    parse_ke,
    parse_notify,
    parse_signature_auth,
    parse_ts,
)
from layout import octets, patched, reasons_of_changes, why_refused

KE = octets(
    "001f 0000",  # Curve25519 (31), reserved
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
)
IDg = octets("0b 000000", "6c696e6531")  # ID_KEY_ID (11), reserved, "line1"
AUTH = octets("02 000000", "11" * 32)  # shared key (2), reserved, 32 octets
SIGNATURE_AUTH = octets(
    "0c",  # ASN.1 length
    "300a 0608 2a8648ce3d040302",  # AlgorithmIdentifier: ecdsa-with-SHA256
    "3006 020101 020102",  # ECDSA-Sig-Value
)
INVALID_KE_PAYLOAD = octets(
    "00 00 0011",  # no protocol, no SPI, INVALID_KE_PAYLOAD (17)
    "001f",  # the accepted method
)
REKEY_SA = octets(
    "03 04 4009",  # ESP, SPI of 4 octets, REKEY_SA (16393)
    "9f3a12c4",  # SPI
)
DELETE_ESP = octets(
    "03 04 0002",  # ESP, SPIs of 4 octets, two of them
    "9f3a12c4 00000000",  # one SA; zero: all of ESP
)
DELETE_REKEY = octets(
    "06 10 0001",  # GIKE_UPDATE, SPIs of 16 octets, one of them
    "00000000000000000000000000000000",  # zero: you are out
)
DELETE_GSA = octets("00 00 0000")  # protocol 0: the whole GSA
DELETE_IKE = octets("01 00 0000")  # the IKE SA over which it comes
TS_V4 = octets(
    "07 11 0010",  # TS_IPV4_ADDR_RANGE (7), UDP (17), length 16
    "08ae 08af",  # ports 2222 to 2223
    "efc00120 efc00121",  # 239.192.1.32 to 239.192.1.33
)
TS_V6 = octets(
    "08 00 0028",  # TS_IPV6_ADDR_RANGE (8), any protocol, length 40
    "0000 ffff",  # any port
    "ff150000000000000000000000000020",  # ff15::20
    "ff150000000000000000000000000021",
)
TS_OTHER = octets("09 11 000c", "0001020304050607")  # TS_FC_ADDR_RANGE (9): kept as octets


def test_ke():
    assert parse_ke(KE) == (31, KE[4:])
    assert emit_ke(31, KE[4:]) == KE
    assert parse_ke(patched(KE, 2, "ffff")) == (31, KE[4:])  # reserved is ignored


def test_id():
    assert parse_id(IDg) == (iana.ID_KEY_ID, b"line1")
    assert emit_id(iana.ID_KEY_ID, b"line1") == IDg
    assert parse_id(patched(IDg, 1, "ffffff")) == (iana.ID_KEY_ID, b"line1")
    assert parse_id(octets("01 000000 efc00120")) == (iana.ID_IPV4_ADDR, octets("efc00120"))
    v6 = octets("ff150000000000000000000000000020")
    assert parse_id(octets("05 000000") + v6) == (iana.ID_IPV6_ADDR, v6)
    assert emit_id(0xC8, b"") == octets("c8000000")  # the top bit of an u32
    for wrong in (
        "01 000000 efc001",
        "01 000000 efc0012021",
        "05 000000 efc00120",
        "05 000000" + "00" * 17,
    ):
        assert why_refused(parse_id, octets(wrong)) == DROP_IKE_FORMAT


def test_auth():
    assert parse_auth(AUTH) == (iana.AUTH_SHARED_KEY, b"\x11" * 32)
    assert emit_auth(2, b"\x11" * 32) == AUTH
    assert parse_auth(patched(AUTH, 1, "ffffff")) == (2, b"\x11" * 32)


def test_signature_auth():
    algorithm, off, signature = parse_signature_auth(SIGNATURE_AUTH)
    assert algorithm == SIGNATURE_AUTH[1:13] and off == 13
    assert signature == SIGNATURE_AUTH[off:] == octets("3006020101020102")
    assert emit_signature_auth(algorithm, signature) == SIGNATURE_AUTH
    assert parse_signature_auth(SIGNATURE_AUTH[:14])[2] == b"\x30"
    for n in range(14):  # without a whole algorithm and one octet of signature
        assert why_refused(parse_signature_auth, SIGNATURE_AUTH[:n]) == DROP_IKE_FORMAT
    assert why_refused(parse_signature_auth, patched(SIGNATURE_AUTH, 0, "00")) == DROP_IKE_FORMAT
    assert why_refused(parse_signature_auth, patched(SIGNATURE_AUTH, 0, "14")) == DROP_IKE_FORMAT
    assert why_refused(parse_signature_auth, patched(SIGNATURE_AUTH, 0, "ff")) == DROP_IKE_FORMAT


def test_nonce():
    for n in (16, 32, 256):
        assert check_nonce(bytes(n)) == bytes(n)
    for n in (0, 15, 257):
        assert why_refused(check_nonce, bytes(n)) == DROP_IKE_FORMAT


def test_nat_detection():
    # RFC 7296 section 2.23: SHA-1 of the SPIs, the address and the port; from sha1sum
    args = octets("a1a2a3a4a5a6a7a8"), bytes(8), bytes((192, 0, 2, 1))
    assert nat_detection(*args, 4500) == octets("8cea322a1f3567bea20f194c4a2d8ebe2d0c036a")
    assert nat_detection(*args, 4501) != nat_detection(*args, 4500)


def test_notify():
    notify = parse_notify(INVALID_KE_PAYLOAD)
    assert notify == Notify(0, b"", iana.INVALID_KE_PAYLOAD, octets("001f"))
    assert emit_notify(notify) == INVALID_KE_PAYLOAD
    notify = parse_notify(REKEY_SA)
    assert notify == Notify(iana.ESP, octets("9f3a12c4"), 16393, b"")
    assert emit_notify(notify) == REKEY_SA
    for n in range(len(REKEY_SA)):
        assert why_refused(parse_notify, REKEY_SA[:n]) == DROP_IKE_FORMAT
    assert why_refused(parse_notify, patched(REKEY_SA, 1, "05")) == DROP_IKE_FORMAT


def test_delete():
    for body, delete in (
        (DELETE_ESP, Delete(iana.ESP, 4, [octets("9f3a12c4"), bytes(4)])),
        (DELETE_REKEY, Delete(iana.GIKE_UPDATE, 16, [bytes(16)])),
        (DELETE_GSA, Delete(0, 0, [])),
        (DELETE_IKE, Delete(iana.IKE, 0, [])),
        (octets("03 04 0000"), Delete(iana.ESP, 4, [])),
        (octets("02 04 0001 9f3a12c4"), Delete(iana.AH, 4, [octets("9f3a12c4")])),
    ):
        assert parse_delete(body) == delete
        assert emit_delete(delete) == body
        for n in range(len(body)):
            assert why_refused(parse_delete, body[:n]) == DROP_IKE_FORMAT
        assert why_refused(parse_delete, body + b"\0") == DROP_IKE_FORMAT


def test_delete_spi_size():
    for wrong in (
        "03 10 0001 00000000000000000000000000000000",  # ESP with 16
        "03 00 0001",
        "06 04 0001 00000000",  # GIKE_UPDATE with 4
        "00 04 0001 00000000",  # the whole GSA with an SPI
        "01 08 0001 0000000000000000",  # an IKE SA by SPI
    ):
        assert why_refused(parse_delete, octets(wrong)) == DROP_IKE_FORMAT
    assert parse_delete(octets("00 00 ffff")) == Delete(0, 0, [])  # no SPIs, whatever the count
    assert parse_delete(octets("07 02 0001 abcd")) == Delete(7, 2, [octets("abcd")])


def test_ts():
    for data, ts in (
        (TS_V4, TrafficSelector(7, 17, 2222, 2223, octets("efc00120"), octets("efc00121"))),
        (TS_V6, TrafficSelector(8, 0, 0, 65535, TS_V6[8:24], TS_V6[24:])),
        (TS_OTHER, TrafficSelector(9, 17, 0, 0, b"", b"", octets("0001020304050607"))),
    ):
        assert parse_ts(data) == (ts, len(data))
        assert emit_ts(ts) == data
        for n in range(len(data)):
            assert why_refused(parse_ts, data[:n]) == DROP_IKE_FORMAT
            cut = patched(data[:n], 2, "%04x" % n) if n >= 4 else data[:n]
            if data is not TS_OTHER:  # and where the length agrees with the cut
                assert why_refused(parse_ts, cut) == DROP_IKE_FORMAT
    assert parse_ts(TS_V4)[0].kind == iana.TS_IPV4_ADDR_RANGE
    assert parse_ts(TS_V6)[0].kind == iana.TS_IPV6_ADDR_RANGE


def test_ts_at_an_offset():
    data = TS_V4 + TS_V6
    ts, off = parse_ts(data)
    assert off == 16 and ts.start_port == 2222
    ts, off = parse_ts(data, off)
    assert off == 56 == len(data) and ts.end_addr == TS_V6[24:]
    assert why_refused(parse_ts, data, off) == DROP_IKE_FORMAT


def test_ts_refused():
    for field in ("07 11 0028", "08 11 0010", "07 11 0011", "07 11 000f", "09 11 0003"):
        data = patched(TS_V4 + bytes(24), 0, field)
        assert why_refused(parse_ts, data) == DROP_IKE_FORMAT


def test_fixed_parts_alone():
    assert parse_ke(octets("001f 0000")) == (31, b"")
    assert parse_id(octets("0b 000000")) == (iana.ID_KEY_ID, b"")
    assert parse_auth(octets("02 000000")) == (2, b"")
    assert parse_notify(octets("00 00 4007")) == Notify(0, b"", iana.USE_TRANSPORT_MODE, b"")
    assert parse_ts(octets("09 11 0004"))[0].opaque == b""


def test_fixed_parts_cut():
    for parse in (parse_ke, parse_id, parse_auth, parse_notify, parse_delete):
        for n in range(4):
            assert why_refused(parse, bytes(n)) == DROP_IKE_FORMAT


def test_any_octet_changed():
    for parse, body in (
        (parse_ke, KE),
        (parse_id, IDg),
        (parse_auth, AUTH),
        (parse_signature_auth, SIGNATURE_AUTH),
        (parse_notify, REKEY_SA),
        (parse_delete, DELETE_ESP),
        (parse_delete, DELETE_REKEY),
        (parse_ts, TS_V4),
        (parse_ts, TS_V6),
        (parse_ts, TS_OTHER),
    ):
        assert reasons_of_changes(parse, body) <= {None, DROP_IKE_FORMAT}


def test_unequal_values():
    assert Notify(0, b"", 17, b"") != Notify(0, b"", 17, b"\0")
    assert Notify(0, b"", 17, b"") != Delete(0, 0, [])
    assert Delete(0, 0, []) != 0 and not Delete(0, 0, []) == "x"
