"""KD payload against octets laid out from the figures of RFC 9838 section 4.5."""

from covey import iana
from covey.drops import DROP_KD
from covey.kd import KD, ZERO_ID, KeyBag, MemberBag, WrappedKey, emit_kd, parse_kd
from layout import octets, patched, reasons_of_changes, why_refused

REKEY_BAG = octets(
    "06 10 0050",  # GIKE_UPDATE (6), SPI size 16, length 80
    "c0c1c2c3c4c5c6c7 c8c9cacbcccdcecf",  # SPI
    "0001 0038",  # SA_KEY (1), 56 octets
    "00000000 00000000",  # Key ID: the keys of this SA; KWK ID: the default KWK
    "a1" * 48,  # 20 + 16 octets wrapped
)
LKH_BAG = octets(
    "06 10 008c",  # GIKE_UPDATE, SPI size 16, length 140
    "d0d1d2d3d4d5d6d7 d8d9dadbdcdddedf",  # SPI
    "0001 0038 00000000 00000002",  # SA_KEY wrapped with key 2 of the tree
    "a2" * 48,
    "0001 0038 00000000 00000003",  # and again with key 3
    "a3" * 48,
)
ESP_BAG = octets(
    "03 04 0034",  # ESP (3), SPI size 4, length 52
    "9f3a12c4",  # SPI
    "0001 0028",  # SA_KEY (1), 40 octets
    "00000000 00000000",  # Key ID and KWK ID zero
    "b1" * 32,  # 20 octets wrapped
)
SPKI = octets(
    "3059 3013 0607 2a8648ce3d0201 0608 2a8648ce3d030107 0342 00 04",  # P-256
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
)
MEMBER_BAG = octets(
    "00 00 00b8",  # no protocol, reserved, length 184
    "0001 0020",  # WRAP_KEY (1), 32 octets
    "00000007 00000000",  # key 7 of the tree, wrapped with the default KWK
    "c1" * 24,
    "0001 0020 00000003 00000007",  # key 3, wrapped with key 7
    "c2" * 24,
    "0002 005b",  # AUTH_KEY (2), 91 octets: SubjectPublicKeyInfo
    "3059 3013 0607 2a8648ce3d0201 0608 2a8648ce3d030107 0342 00 04",
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    "0003 0004 00000410",  # GM_SENDER_ID (3)
    "0003 0001 41",  # another, one octet
)


def _bags():
    spi = octets("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf")
    return [
        KeyBag(iana.GIKE_UPDATE, spi, [WrappedKey(ZERO_ID, ZERO_ID, b"\xa1" * 48)]),
        KeyBag(iana.ESP, octets("9f3a12c4"), [WrappedKey(ZERO_ID, ZERO_ID, b"\xb1" * 32)]),
    ]


def _member():
    return MemberBag(
        [
            WrappedKey(octets("00000007"), ZERO_ID, b"\xc1" * 24),
            WrappedKey(octets("00000003"), octets("00000007"), b"\xc2" * 24),
        ],
        SPKI,
        [octets("00000410"), octets("41")],
    )


def test_kd_parse():
    found = parse_kd(REKEY_BAG + ESP_BAG + MEMBER_BAG)
    rekey, esp = found.bags
    assert rekey.protocol == iana.GIKE_UPDATE and rekey.spi[:2] == octets("c0c1")
    (key,) = rekey.keys
    assert key.key_id == key.kwk_id == ZERO_ID and key.data == b"\xa1" * 48
    assert esp.protocol == iana.ESP and esp.spi == octets("9f3a12c4")
    assert found.member.auth_key == SPKI and len(SPKI) == 91
    assert found.member.sender_ids == [octets("00000410"), octets("41")]
    assert [k.kwk_id for k in found.member.wrap_keys] == [ZERO_ID, octets("00000007")]
    assert found == KD(_bags(), _member())


def test_kd_emit():
    out = emit_kd(KD(_bags(), _member()))
    assert out == REKEY_BAG + ESP_BAG + MEMBER_BAG
    assert len(out) == 80 + 52 + 184  # as the three lengths say
    assert emit_kd(KD(_bags()[1:])) == ESP_BAG
    assert emit_kd(KD([])) == b"" and parse_kd(b"") == KD([])


def test_kd_key_paths():
    (bag,) = parse_kd(LKH_BAG).bags
    assert [k.kwk_id for k in bag.keys] == [octets("00000002"), octets("00000003")]
    assert emit_kd(KD([bag])) == LKH_BAG


def test_kd_order_is_free():
    assert parse_kd(MEMBER_BAG + ESP_BAG + REKEY_BAG) == KD(_bags()[::-1], _member())


def test_kd_ignores_what_it_must():
    reserved = patched(MEMBER_BAG, 1, "ff")
    assert parse_kd(reserved) == KD([], _member())
    unknown = patched(ESP_BAG, -1, "4001 0002 aabb 8005 0001")
    assert parse_kd(patched(unknown, 2, "003e")) == KD(_bags()[1:])
    unknown = patched(MEMBER_BAG, -1, "8004 0001")
    kept = _member()
    kept.attributes.append((4, 1))  # aside, for whoever knows it
    assert parse_kd(patched(unknown, 2, "00bc")) == KD([], kept)


def test_kd_empty_member_bag():
    assert parse_kd(octets("00 00 0004")) == KD([], MemberBag())
    assert emit_kd(KD([], MemberBag())) == octets("00 00 0004")


def test_kd_cut_at_every_octet():
    whole = REKEY_BAG + ESP_BAG + MEMBER_BAG
    for n in range(len(whole)):
        reason = why_refused(parse_kd, whole[:n])
        # Between two bags the cut leaves a shorter list, which the payload's length rules out.
        assert reason == (None if n in (0, 80, 132) else DROP_KD)


def test_kd_bag_cut_at_every_octet():
    # where the bag's length agrees with the cut, only the ends of attributes are no error
    for whole, good in (
        (REKEY_BAG, ()),
        (LKH_BAG, (80,)),
        (ESP_BAG, ()),
        (MEMBER_BAG, (4, 40, 76, 171, 179)),
    ):
        for n in range(4, len(whole)):
            reason = why_refused(parse_kd, patched(whole[:n], 2, "%04x" % n))
            assert reason == (None if n in good else DROP_KD)


def test_kd_refused():
    for bag, off, field in (
        (REKEY_BAG, 1, "04"),  # SPI size of GIKE_UPDATE
        (ESP_BAG, 1, "10"),  # of ESP
        (ESP_BAG, 2, "0000"),  # length
        (ESP_BAG, 2, "0007"),
        (ESP_BAG, 2, "0033"),
        (ESP_BAG, 2, "ffff"),
        (ESP_BAG, 8, "8001"),  # SA_KEY as TV
        (ESP_BAG, 8, "0002"),  # no SA_KEY
        (ESP_BAG, 10, "0027"),
        (ESP_BAG, 12, "00000001"),  # a Key ID that is not zero
        (ESP_BAG, 16, "00000001"),  # a KWK ID that is not zero
        (REKEY_BAG, 24, "00000001"),  # a Key ID that is not zero
        (MEMBER_BAG, 8, "00000000"),  # a WRAP_KEY for the keys of an SA
        (MEMBER_BAG, 4, "8001"),  # WRAP_KEY as TV
        (MEMBER_BAG, 76, "8002"),  # AUTH_KEY as TV
        (MEMBER_BAG, 40, "0002"),  # AUTH_KEY twice
        (MEMBER_BAG, 40, "0003"),  # GM_SENDER_ID of 32 octets
        (MEMBER_BAG, 171, "8003"),  # as TV
    ):
        wrong = patched(bag, off, field)
        assert why_refused(parse_kd, wrong + octets("02 04 0018 9f3a12c4", OTHER_KEY)) == DROP_KD


OTHER_KEY = "0001 000c 00000000 00000000 d1d1d1d1"


def test_kd_any_octet_changed():
    whole = LKH_BAG + ESP_BAG + MEMBER_BAG
    assert reasons_of_changes(parse_kd, whole) == {None, DROP_KD}


def test_kd_short_values():
    for attribute in (
        "0001 0000",  # SA_KEY without anything
        "0001 0008 00000000 00000000",  # without a key
        "0001 0007 00000000 000000",
    ):
        length = "%04x" % (8 + len(octets(attribute)))
        bag = octets("03 04", length, "9f3a12c4", attribute)
        assert why_refused(parse_kd, bag) == DROP_KD
    shortest = octets("03 04 0015 9f3a12c4", "0001 0009 00000000 00000000 d1")
    assert parse_kd(shortest).bags[0].keys[0].data == b"\xd1"
    for attribute, is_good in (
        ("0003 0000", False),  # GM_SENDER_ID of 1 to 8 octets
        ("0003 0001 00", True),
        ("0003 0008 0000000000000001", True),
        ("0003 0009 000000000000000001", False),
        ("0002 0000", False),  # AUTH_KEY
    ):
        length = "%04x" % (4 + len(octets(attribute)))
        reason = why_refused(parse_kd, octets("00 00", length, attribute))
        assert reason == (None if is_good else DROP_KD)


def test_kd_one_key_for_a_data_security_sa():
    twice = octets("03 04 0028 9f3a12c4", OTHER_KEY, OTHER_KEY)
    assert why_refused(parse_kd, twice) == DROP_KD
    once = octets("03 04 0018 9f3a12c4", OTHER_KEY)
    assert parse_kd(once).bags[0].keys[0].data == b"\xd1" * 4


def test_kd_duplicates():
    assert why_refused(parse_kd, ESP_BAG + ESP_BAG) == DROP_KD
    assert why_refused(parse_kd, MEMBER_BAG + MEMBER_BAG) == DROP_KD
    assert len(parse_kd(ESP_BAG + patched(ESP_BAG, 4, "00000001")).bags) == 2


def test_keys_are_not_shown():
    shown = repr(parse_kd(REKEY_BAG + ESP_BAG + MEMBER_BAG))
    for byte in ("a1", "b1", "c1", "c2"):
        assert "\\x" + byte + "\\x" + byte not in shown
    assert "data=..." in shown
