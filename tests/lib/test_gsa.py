"""GSA payload against octets laid out from the figures of RFC 9838 section 4.4."""

from covey import gsa, iana
from covey.drops import DROP_GSA
from covey.gsa import GSA, GroupWide, SAPolicy, emit_gsa, parse_gsa
from covey.ikebody import TrafficSelector
from covey.ikesa import Transform
from layout import octets, patched, reasons_of_changes, why_refused

REKEY_SA = octets(
    "06 10 0084",  # GIKE_UPDATE (6), SPI size 16, length 132
    "c0c1c2c3c4c5c6c7 c8c9cacbcccdcecf",  # SPI: both SPI fields of the GSA_REKEY header
    "07 11 0010 0000 ffff 00000000 ffffffff",  # from UDP, any port, any address
    "07 11 0010 1194 1194 efc00120 efc00120",  # to UDP, port 4500, 239.192.1.32
    "03 00 000c 01 00 0014 800e 0080",  # ENCR_AES_GCM_16, Key Length 128
    "03 00 0008 0d 00 0001",  # KWA (13), KW_5649_128
    "00 00 0018 0e 00 0002",  # GCAUTH (14), digital signature: the last
    "0012 000c 300a06082a8648ce3d040302",  # Signature Algorithm Identifier: ecdsa-with-SHA256
    "0001 0004 00000e10",  # GSA_KEY_LIFETIME 3600 s
    "0002 0004 00000005",  # GSA_INITIAL_MESSAGE_ID 5
    "0003 0010 d0d1d2d3d4d5d6d7 d8d9dadbdcdddedf",  # GSA_NEXT_SPI
)
ESP_SA = octets(
    "03 04 0058",  # ESP (3), SPI size 4, length 88
    "9f3a12c4",  # SPI
    "07 11 0010 0000 ffff 00000000 ffffffff",  # from UDP, any port, any address
    "07 11 0010 08ae 08ae efc00120 efc00120",  # to UDP, port 2222, 239.192.1.32
    "03 00 000c 01 00 0014 800e 0100",  # ENCR_AES_GCM_16, Key Length 256
    "00 00 0008 05 00 0002",  # SN (5), 32-bit unspecified (2): the last
    "0001 0004 ffffffff",  # GSA_KEY_LIFETIME 4294967295 s
    "0003 0004 9f3a12c5",  # GSA_NEXT_SPI, two of them
    "0003 0004 9f3a12c6",
    "c123 0102",  # an attribute that we don't know: type 16675, TV
)
GROUP_WIDE = octets(
    "00 00 0018",  # no protocol, reserved, length 24
    "8001 0005",  # GWP_ATD 5 s
    "8002 000a",  # GWP_DTD 10 s
    "8003 0010",  # GWP_SENDER_ID_BITS 16
    "c000 1194",  # COVEY_UDP_PORT 4500
    "c001 0a10",  # COVEY_SENDER_ID_FORM: an index of 10 bits in 16
)
AH_SA = octets(
    "02 04 0060",  # AH (2), SPI size 4, length 96
    "9f3a12c4",  # SPI
    "08 00 0028 0000 ffff",  # from any protocol, any port of fe80::1
    "fe800000000000000000000000000001 fe800000000000000000000000000001",
    "07 00 0010 0000 ffff efc00120 efc00120",  # to any protocol, any port, 239.192.1.32
    "03 00 0008 03 00 000c",  # INTEG, HMAC-SHA2-256-128 (12)
    "00 00 0008 05 00 0000",  # SN, 32-bit sequential: the last
    "4001 0004 aabbccdd",  # an attribute that we don't know: TLV
    "0002 0004 00000005",  # GSA_INITIAL_MESSAGE_ID, not for AH
)

ANY = TrafficSelector(7, 17, 0, 65535, bytes(4), b"\xff\xff\xff\xff")
GROUP = octets("efc00120")


def _policies():
    return [
        SAPolicy(
            iana.GIKE_UPDATE,
            octets("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"),
            ANY,
            TrafficSelector(7, 17, 4500, 4500, GROUP, GROUP),
            [
                Transform(iana.ENCR, iana.ENCR_AES_GCM_16, 128),
                Transform(iana.KWA, iana.KW_5649_128),
                Transform(iana.GCAUTH, 2, algorithm=octets("300a06082a8648ce3d040302")),
            ],
            lifetime_s=3600,
            initial_message_id=5,
            next_spis=[octets("d0d1d2d3d4d5d6d7d8d9dadbdcdddedf")],
        ),
        SAPolicy(
            iana.ESP,
            octets("9f3a12c4"),
            ANY,
            TrafficSelector(7, 17, 2222, 2222, GROUP, GROUP),
            [Transform(iana.ENCR, 20, 256), Transform(iana.SN, iana.SN_32_UNSPECIFIED)],
            lifetime_s=0xFFFFFFFF,
            next_spis=[octets("9f3a12c5"), octets("9f3a12c6")],
            attributes=[(16675, 0x0102)],
        ),
    ]


def _gsa():
    return GSA(_policies(), GroupWide(5, 10, 16, 4500, (10, 16)))


def test_gsa_parse():
    found = parse_gsa(REKEY_SA + ESP_SA + GROUP_WIDE)
    rekey, esp = found.policies
    assert rekey.protocol == iana.GIKE_UPDATE and rekey.spi[:2] == octets("c0c1")
    assert rekey.source == ANY and rekey.destination.start_port == 4500
    assert rekey.transform(iana.KWA).id == iana.KW_5649_128
    assert rekey.transform(iana.GCAUTH).algorithm == octets("300a06082a8648ce3d040302")
    assert rekey.transform(iana.SN) is None
    assert (rekey.lifetime_s, rekey.initial_message_id) == (3600, 5)
    assert esp.protocol == iana.ESP and esp.spi == octets("9f3a12c4")
    assert esp.lifetime_s == 0xFFFFFFFF and esp.initial_message_id is None
    assert esp.next_spis == [octets("9f3a12c5"), octets("9f3a12c6")]
    assert esp.attributes == [(16675, 0x0102)]
    wide = found.group_wide
    assert (wide.atd_s, wide.dtd_s, wide.sender_id_bits) == (5, 10, 16)
    assert (wide.udp_port, wide.sender_id_form) == (4500, (10, 16))
    assert found == _gsa()


def test_gsa_emit():
    out = emit_gsa(_gsa())
    assert out == REKEY_SA + ESP_SA + GROUP_WIDE
    assert len(out) == 132 + 88 + 24  # as the three lengths say


def test_gsa_order_is_free():
    found = parse_gsa(GROUP_WIDE + ESP_SA + REKEY_SA)
    assert found.policies == [_policies()[1], _policies()[0]]
    assert found.group_wide == _gsa().group_wide


def test_gsa_ipv6_and_ah():
    (ah,) = parse_gsa(AH_SA).policies
    assert ah.protocol == iana.AH and ah.lifetime_s is None
    assert ah.source.kind == iana.TS_IPV6_ADDR_RANGE
    assert ah.source.start_addr == octets("fe800000000000000000000000000001")
    assert ah.attributes == [(16385, octets("aabbccdd")), (2, octets("00000005"))]
    assert emit_gsa(GSA([ah])) == AH_SA


def test_gsa_ignores_reserved():
    # second octet of the group-wide policy, first transform's two
    assert parse_gsa(REKEY_SA + patched(GROUP_WIDE, 1, "ff")).group_wide == _gsa().group_wide
    assert parse_gsa(patched(REKEY_SA, 53, "ff")).policies == _policies()[:1]
    assert parse_gsa(patched(REKEY_SA, 57, "ff")).policies == _policies()[:1]


def test_gsa_absent_values():
    (esp,) = parse_gsa(patched(ESP_SA[:60], 2, "003c")).policies
    assert esp.lifetime_s is None and esp.next_spis == [] and esp.attributes == []
    assert parse_gsa(ESP_SA).group_wide is None
    wide = parse_gsa(ESP_SA + octets("00 00 0004")).group_wide
    assert wide == GroupWide()
    assert wide.atd_s is None and wide.sender_id_form is None and wide.udp_port is None
    assert emit_gsa(GSA([esp], wide)) == patched(ESP_SA[:60], 2, "003c") + octets("00 00 0004")


def test_gsa_zero_is_not_absent():
    wide = GroupWide(0, 0, 0, 0, (0, 0))
    assert emit_gsa(GSA([], wide)) == octets(
        "0000 0018 80010000 80020000 80030000 c0000000 c0010000"
    )
    assert parse_gsa(ESP_SA + emit_gsa(GSA([], wide))).group_wide == wide
    assert b"\0\1\0\4\0\0\0\0" in emit_gsa(GSA([SAPolicy(3, bytes(4), ANY, ANY, [], 0)]))


def test_gsa_epoch():
    data = octets("00 00 000c", "4002 0004 00000102")
    wide = parse_gsa(ESP_SA + data).group_wide
    assert wide.epoch == 258 and wide.attributes == []
    assert emit_gsa(GSA([], wide)) == data
    wide = parse_gsa(ESP_SA + octets("00 00 000a", "4002 0002 0001")).group_wide
    assert wide.epoch is None  # somebody else's attribute of that number
    assert wide.attributes == [(16386, b"\0\1")]


def test_gsa_delivery():
    data = octets("00 00 0008", "c003 0001")
    wide = parse_gsa(ESP_SA + data).group_wide
    assert wide.delivery == 1 and wide.attributes == []
    assert emit_gsa(GSA([], wide)) == data
    assert why_refused(parse_gsa, ESP_SA + octets("00 00 000c", "c003 0001", "c003 0000"))


def test_gsa_unknown_group_wide_attributes():
    data = octets("00 00 0010", "8009 0001", "4003 0004 aabbccdd")
    wide = parse_gsa(ESP_SA + data).group_wide
    assert wide.attributes == [(9, 1), (16387, octets("aabbccdd"))]
    assert emit_gsa(GSA(_policies()[1:], wide)) == ESP_SA + data


def test_gsa_cut_at_every_octet():
    whole = REKEY_SA + ESP_SA + GROUP_WIDE
    for n in range(len(whole)):
        reason = why_refused(parse_gsa, whole[:n])
        # Between two policies the cut leaves a shorter list, which the payload's length rules out.
        assert reason == (None if n in (132, 220) else DROP_GSA)


def test_gsa_policy_cut_at_every_octet():
    # where the policy's length agrees with the cut, only the ends of attributes are no error
    for whole, good in ((REKEY_SA, (96, 104, 112)), (ESP_SA, (60, 68, 76, 84))):
        for n in range(4, len(whole)):
            reason = why_refused(parse_gsa, patched(whole[:n], 2, "%04x" % n))
            assert reason == (None if n in good else DROP_GSA)


def test_gsa_refused():
    for policy, off, field in (
        (REKEY_SA, 1, "04"),  # SPI size of GIKE_UPDATE
        (ESP_SA, 1, "10"),  # of ESP
        (ESP_SA, 1, "00"),
        (ESP_SA, 2, "0000"),  # length
        (ESP_SA, 2, "0007"),
        (ESP_SA, 2, "0057"),
        (ESP_SA, 2, "0059"),
        (ESP_SA, 2, "ffff"),
        (ESP_SA, 10, "000f"),  # length of a selector
        (ESP_SA, 26, "0028"),
        (ESP_SA, 40, "01"),  # neither the last transform nor followed by more
        (ESP_SA, 52, "03"),  # too late
        (ESP_SA, 56, "01"),  # a second ENCR
        (REKEY_SA, 98, "0003"),  # GSA_KEY_LIFETIME of 3 octets
        (REKEY_SA, 96, "8001"),  # as TV
        (REKEY_SA, 104, "0001"),  # twice
        (REKEY_SA, 96, "0002"),  # GSA_INITIAL_MESSAGE_ID twice
        (REKEY_SA, 104, "0003"),  # GSA_NEXT_SPI of 4 octets for GIKE_UPDATE
        (ESP_SA, 68, "8003"),  # as TV
        (GROUP_WIDE, 2, "0003"),
        (GROUP_WIDE, 2, "0017"),
        (GROUP_WIDE, 4, "8002"),  # GWP_DTD twice
        (GROUP_WIDE, 4, "0001 0000"),  # GWP_ATD as TLV
        (GROUP_WIDE, 16, "c001"),  # COVEY_SENDER_ID_FORM twice
        (GROUP_WIDE, 20, "4000 0000"),  # COVEY_UDP_PORT as TLV
    ):
        wrong = patched(policy, off, field)
        assert why_refused(parse_gsa, wrong + AH_SA) == DROP_GSA, (off, field)
        assert why_refused(parse_gsa, AH_SA + wrong) == DROP_GSA, (off, field)


def test_gsa_any_octet_changed():
    whole = REKEY_SA + ESP_SA + AH_SA + GROUP_WIDE
    assert reasons_of_changes(parse_gsa, whole) == {None, DROP_GSA}


def test_gsa_counts():
    # RFC 9838 section 4.4.1: at most one Rekey SA and one group-wide policy, at least one SA
    other = patched(REKEY_SA, 4, "c1")
    assert why_refused(parse_gsa, REKEY_SA + other) == DROP_GSA
    assert why_refused(parse_gsa, ESP_SA + GROUP_WIDE + GROUP_WIDE) == DROP_GSA
    assert why_refused(parse_gsa, GROUP_WIDE) == DROP_GSA
    assert why_refused(parse_gsa, b"") == DROP_GSA
    assert why_refused(parse_gsa, ESP_SA + ESP_SA) == DROP_GSA  # the same SPI
    assert len(parse_gsa(ESP_SA + patched(ESP_SA, 4, "9f3a12d4")).policies) == 2
    assert len(parse_gsa(ESP_SA + AH_SA).policies) == 2  # the same SPI of another protocol


def test_gsa_other_protocol():
    # A protocol that we don't know keeps the shape of a policy; whether it is taken is not asked.
    (policy,) = parse_gsa(patched(ESP_SA, 0, "09")).policies
    assert policy.protocol == 9 and policy.spi == octets("9f3a12c4")


def test_one_namespace():
    assert gsa.ZERO_ID == bytes(4)
    for name in ("WrappedKey", "KeyBag", "MemberBag", "KD", "parse_kd", "emit_kd"):
        assert hasattr(gsa, name)
