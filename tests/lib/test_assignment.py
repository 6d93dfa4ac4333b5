"""What a member makes of GSA and KD: octets from tests/recorded/group_story.py."""

from covey import gsa, kd
from covey.assignment import Terms
from covey.drops import DROP_GSA, DROP_KD, DROP_KEY_WRAP, DROP_POLICY
from covey.job import finish
from story import KWK, STORY, T1, T2, built, registered, why_not


def test_a_receiver_gets_both_sas_and_the_terms():
    made = registered()
    assert [sa.spi for sa in made.data_sas] == [T1]
    assert made.next_spis == [T2]
    assert made.rekey_sa.spi == STORY["rekey1"][:16]
    assert made.rekey_sa.next_message_id == 0
    assert made.rekey_sa.destination[0] == bytes([239, 192, 1, 32])
    assert made.rekey_sa.destination[2:4] == (4500, 4500)
    terms = made.terms
    assert (terms.atd_s, terms.dtd_s, terms.udp_port) == (0, 2, 4500)
    assert terms.sender_form == (10, 16) and terms.sender_bits == 16
    assert terms.sender_ids == () and terms.epoch == 1
    assert made.data_sas[0].lifetime_s == 3600


def test_a_sender_gets_its_sender_id():
    made = registered(STORY["sender"], sending=True)
    assert made.terms.sender_ids == (0x41,)
    assert made.terms.sender_bits == 16


def _told(delivery, was, registering):
    policy, keys = gsa.parse_gsa(STORY["receiver"]["gsa"]), kd.parse_kd(STORY["receiver"]["kd"])
    policy.group_wide.delivery = delivery
    if not registering:
        for one in policy.policies:
            one.transforms = [t for t in one.transforms if t.kind != 14]
    return finish(built(policy, keys, KWK, was, registering, False)).terms


def test_how_data_are_delivered():
    plain = _told(None, Terms(), True)
    assert plain.is_relayed is False
    for other in (0, 2, 65535):
        assert _told(other, Terms(), True).is_relayed is False
    relayed = _told(1, Terms(), True)
    assert relayed.is_relayed is True
    assert _told(None, relayed, False).is_relayed is True  # a rekey that is silent inherits it
    assert _told(0, relayed, False).is_relayed is False
    assert _told(1, plain, False).is_relayed is True
    assert _told(None, relayed, True).is_relayed is False  # a registration begins anew


def test_a_late_joiner_expects_the_next_message_id():
    assert registered(STORY["late"]).rekey_sa.next_message_id == 7


def test_policies_that_are_not_taken():
    policies = STORY["policies"]
    expected = {
        "implicit": (False, DROP_POLICY),  # any member could pose as the key server
        "no_sender_id": (True, DROP_POLICY),
        "wide_sender_id": (True, DROP_POLICY),  # RFC 9838 section 2.5.2
        "no_auth_key": (False, DROP_KD),
        "no_tek": (False, DROP_KD),
    }
    assert sorted(policies) == sorted(expected)
    for name in policies:
        sending, reason = expected[name]
        assert why_not(registered, policies[name], sending) == reason, name


def test_keys_under_another_kwk_do_not_open():
    policy = STORY["receiver"]
    for wrong in (bytes(16), KWK[:15] + b"\0"):
        work = built(
            gsa.parse_gsa(policy["gsa"]),
            kd.parse_kd(policy["kd"]),
            wrong,
            Terms(),
            True,
            False,
        )
        assert why_not(finish, work) == DROP_KEY_WRAP


def test_a_tek_of_another_protocol_or_length_is_refused():
    policy = gsa.parse_gsa(STORY["receiver"]["gsa"])
    keys = kd.parse_kd(STORY["receiver"]["kd"])
    esp = [p for p in policy.policies if p.spi == T1][0]
    esp.transforms[0].key_bits = 256  # but the key that came is for 128
    assert why_not(finish, built(policy, keys, KWK, Terms(), True, False)) == DROP_KEY_WRAP
    esp.transforms[0].key_bits = 192
    assert why_not(finish, built(policy, keys, KWK, Terms(), True, False)) == DROP_POLICY
    esp.transforms.pop(0)  # no cipher at all
    assert why_not(finish, built(policy, keys, KWK, Terms(), True, False)) == DROP_GSA


def _with_cipher(spi, id, key_bits):
    policy = gsa.parse_gsa(STORY["receiver"]["gsa"])
    one = [p for p in policy.policies if p.spi == spi][0]
    assert one.transforms[0].kind == 1
    one.transforms[0].id = id
    one.transforms[0].key_bits = key_bits
    keys = kd.parse_kd(STORY["receiver"]["kd"])
    return built(policy, keys, KWK, Terms(), True, False)


def test_data_for_integrity_alone():
    made = finish(_with_cipher(T1, 21, 128))  # ENCR_NULL_AUTH_AES_GMAC, RFC 4543 section 7
    buf = bytearray(T1 + bytes(12) + b"readable" + bytes(16))
    made.data_sas[0].context.seal(buf, 0, 8, 8)
    assert buf[16:24] == b"readable" and made.data_sas[0].context.open(buf, 0, 8, 8)
    usual = bytearray(T1 + bytes(12) + b"readable" + bytes(16))
    finish(_with_cipher(T1, 20, 128)).data_sas[0].context.seal(usual, 0, 8, 8)
    assert usual[16:24] != b"readable"
    for id, key_bits in ((21, 192), (21, None), (19, 128), (22, 128), (11, None)):
        assert why_not(finish, _with_cipher(T1, id, key_bits)) == DROP_POLICY, id


def test_a_key_wrap_that_we_lack_or_that_is_weaker_than_the_cipher_is_refused():
    for kwa, key_bits, expected in ((1, 128, None), (2, 128, DROP_POLICY), (9, 128, DROP_POLICY)):
        policy = gsa.parse_gsa(STORY["receiver"]["gsa"])
        keys = kd.parse_kd(STORY["receiver"]["kd"])
        (one,) = [p for p in policy.policies if len(p.spi) == 16]
        (wrap,) = [t for t in one.transforms if t.kind == 13]
        assert wrap.id == 1
        wrap.id, one.transforms[0].key_bits = kwa, key_bits
        assert why_not(finish, built(policy, keys, KWK, Terms(), True, False)) == expected, kwa
    one.transforms[0].key_bits, wrap.id = 256, 1
    assert why_not(finish, built(policy, keys, KWK, Terms(), True, False)) == DROP_POLICY


def test_rekeys_are_always_encrypted():
    assert why_not(finish, _with_cipher(STORY["rekey1"][:16], 21, 128)) == DROP_POLICY


def test_spis_that_are_nobodys_to_give():
    """RFC 4303 section 2.1: 0 to 255. Under zero a packet would read as the non-ESP marker."""
    for number in (0, 1, 255, 256):
        policy = gsa.parse_gsa(STORY["receiver"]["gsa"])
        keys = kd.parse_kd(STORY["receiver"]["kd"])
        for one in policy.policies + keys.bags:
            if len(one.spi) == 4:
                one.spi = bytes([0, 0, number >> 8, number & 255])
        work = built(policy, keys, KWK, Terms(), True, False)
        assert why_not(finish, work) == (DROP_POLICY if number < 256 else None), number


def test_a_unicast_destination_is_refused():
    policy = gsa.parse_gsa(STORY["receiver"]["gsa"])
    keys = kd.parse_kd(STORY["receiver"]["kd"])
    for one in policy.policies:
        one.destination.start_addr = one.destination.end_addr = bytes([10, 0, 0, 1])
    assert why_not(finish, built(policy, keys, KWK, Terms(), True, False)) == DROP_POLICY


def test_the_verifier_is_kept_while_the_key_is_the_same():
    first = registered()
    again = registered(was=first.terms)
    assert again.terms.verifier is first.terms.verifier
    assert again.terms.epoch == 2


def _as_rekey(group_wide):
    """GSA and KD as a rekey has them: no GCAUTH, no member bag."""
    policy = gsa.parse_gsa(STORY["sender"]["gsa"])
    keys = kd.parse_kd(STORY["sender"]["kd"])
    keys.member = None
    for one in policy.policies:
        one.transforms = [t for t in one.transforms if t.kind != 14]
    for name in group_wide:
        setattr(policy.group_wide, name, group_wide[name])
    return policy, keys


def test_a_rekey_that_makes_sender_ids_too_narrow_for_ours_is_refused():
    """Section 2.5.2: fatal. And before the first change, not while installing."""
    was = registered(STORY["sender"], True).terms  # 0x41
    for bits, expected in ((7, None), (6, DROP_POLICY), (33, DROP_POLICY)):
        policy, keys = _as_rekey({"sender_id_bits": bits, "sender_id_form": (2, bits)})
        work = built(policy, keys, KWK, was, False, True)
        assert why_not(finish, work) == expected, bits


def test_a_rekey_sa_without_a_port_is_refused():
    policy, keys = _as_rekey({})
    for one in policy.policies:
        one.destination.start_port = one.destination.end_port = 0
    was = registered(STORY["sender"], True).terms
    assert why_not(finish, built(policy, keys, KWK, was, False, True)) == DROP_POLICY


def test_a_source_selector_that_we_can_not_compare_is_refused():
    policy, keys = _as_rekey({})
    for one in policy.policies:
        one.source.kind = 8  # IPv6
    was = registered(STORY["sender"], True).terms
    assert why_not(finish, built(policy, keys, KWK, was, False, True)) == DROP_POLICY


def test_selectors_and_numbers_that_no_packet_of_ours_could_have():
    def why(change):
        policy = gsa.parse_gsa(STORY["receiver"]["gsa"])
        for one in policy.policies:
            if len(one.spi) == 4:
                change(one)
        keys = kd.parse_kd(STORY["receiver"]["kd"])
        return why_not(finish, built(policy, keys, KWK, Terms(), True, False))

    def numbers(one, id):
        sn = [t for t in one.transforms if t.kind == 5][0]
        assert sn.id == 2
        sn.id = id

    for name in ("source", "destination"):

        def ports(one, lo, hi, name=name):
            ts = getattr(one, name)
            ts.start_port, ts.end_port = lo, hi

        def proto(one, proto, name=name):
            getattr(one, name).proto = proto

        def kind(one, name=name):
            ts = getattr(one, name)
            ts.kind, ts.start_addr, ts.end_addr = 9, b"", b""  # as ikebody has one that it skips

        assert why(kind) == DROP_POLICY
        assert why(lambda one: ports(one, 2222, 2222)) is None
        assert why(lambda one: ports(one, 2223, 2222)) == DROP_POLICY  # upside down
        assert why(lambda one: proto(one, 17)) is None
        assert why(lambda one: proto(one, 6)) == DROP_POLICY
    assert why(lambda one: numbers(one, 0)) is None
    assert why(lambda one: numbers(one, 1)) == DROP_POLICY  # 64 bits


def test_a_sender_of_nothing_yet():
    """A Rekey SA alone brings no Sender-ID (section 4.5.3.3); the first TEK is not for a sender
    that has none (section 2.4.1.4)."""
    policy = gsa.parse_gsa(STORY["receiver"]["gsa"])
    keys = kd.parse_kd(STORY["receiver"]["kd"])
    policy.policies.pop()
    keys.bags.pop()
    terms = finish(built(policy, keys, KWK, Terms(), True, True)).terms
    assert terms.sender_ids == ()
    for sending, expected in ((True, DROP_POLICY), (False, None)):
        work = built(*_as_rekey({}), KWK, terms, False, sending)
        assert why_not(finish, work) == expected
