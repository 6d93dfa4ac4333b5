"""What a member holds of its group, changed by octets from tests/recorded/group_story.py."""

from covey.drops import (
    DROP_CAPACITY,
    DROP_OWN,
    DROP_POLICY,
    DROP_REKEY_MESSAGE_ID,
    DROP_REPLAY,
    DROP_RETIRED_SPI,
    DROP_UNKNOWN_SPI,
)
from covey.group import Group, soft_lifetime_s
from covey.job import finish
from covey.member import Member
from story import STORY, T1, T2, begun, install, registered, why_not, worked


def joined(policy=STORY["receiver"], sending=False, slots=8):
    member = Member(sa_slots=slots, sender=sending)
    group = Group(member)
    install(group, registered(policy, sending), True, 0)
    return member, group


def rekey(group, data, now_ms):
    assert begun(group.rekey, data) == 0
    return install(group, finish(worked(group.rekey, group.terms)), False, now_ms)


def receive(member, datagram, now_ms):
    member.rx[: len(datagram)] = datagram
    return member.receive(len(datagram), now_ms)


def packet(name, i=0):
    return STORY["packets"][name][i]


def test_a_member_opens_what_others_sealed():
    member, group = joined()
    assert receive(member, packet("t1"), 0) == 4
    assert bytes(member.payload) == b"t1 1"
    assert member.sender == 0x81
    assert group.listening() == {("239.192.1.32", 4500): True}


def test_with_unicast_delivery_all_goes_by_the_ike_sas_own_way():
    member, group = joined()
    group.terms.is_relayed = True
    assert group.routes() == {T1: None} and group.listening() == {None: True}
    group.wipe()
    assert group.routes() == {} and group.listening() == {}


def test_without_a_udp_port_data_are_ip_protocol_50():
    member, group = joined()
    made = registered(was=group.terms)
    made.terms.udp_port = None
    install(group, made, True, 0)
    assert group.routes() == {T1: ("239.192.1.32", None)}
    # rekeys come on port 4500 all the same, behind the marker
    assert group.listening() == {("239.192.1.32", None): False, ("239.192.1.32", 4500): True}
    for number, is_framed in ((848, False), (4500, True)):
        destination = group.rekey.current.destination
        group.rekey.current.destination = destination[:2] + (number, number, 17)
        assert group.listening()[("239.192.1.32", number)] is is_framed
    rekey(group, STORY["rekey1"], 1000)
    assert group.routes()[T2] == ("239.192.1.32", 4500)  # it says so


def test_rollover_receives_both_and_sends_the_new_after_atd():
    member, group = joined(STORY["sender"], sending=True)
    assert member.keys.sending.spi == T1
    rekey(group, STORY["rekey1"], 1000)
    assert receive(member, packet("t2"), 1000) == 4
    assert receive(member, packet("t1"), 1001) == 4
    group.step(1999)
    assert member.keys.sending.spi == T1
    group.step(2000)  # ATD 1 s
    assert member.keys.sending.spi == T2
    assert receive(member, packet("t1", 1), 2500) == 4
    group.step(3000)  # DTD 2 s
    assert receive(member, packet("t1", 2), 3000) == DROP_RETIRED_SPI
    assert receive(member, packet("t2", 1), 3000) == 4
    assert group.terms.sender_ids == (0x41,)  # it stays: the key is a new one


def test_a_sender_starts_each_key_at_one():
    member, group = joined(STORY["sender"], sending=True)
    for seq in (1, 2, 3):
        assert member.send(0, 0) > 0
        assert member.tx[4:8] == bytes([0, 0, 0, seq])
        assert member.tx[8:16] == bytes([0, 0x41, 0, 0, 0, 0, 0, seq])
    rekey(group, STORY["rekey1"], 1000)
    group.step(2000)
    assert member.send(0, 2000) > 0
    assert member.tx[:4] == T2 and member.tx[4:8] == b"\0\0\0\1"
    n = member.send(0, 2000)
    assert receive(member, bytes(member.tx[:n]), 2000) == DROP_OWN


def test_the_same_sa_told_again_keeps_its_window():
    member, group = joined()
    assert receive(member, packet("t1"), 0) == 4
    install(group, registered(was=group.terms), True, 10)
    assert receive(member, packet("t1"), 10) == DROP_REPLAY
    assert receive(member, packet("t1", 1), 10) == 4


def test_a_registration_replaces_what_it_does_not_name():
    member, group = joined()
    rekey(group, STORY["rekey1"], 0)
    group.step(2000)
    assert [sa.spi for sa in member.keys.live()] == [T2]
    made = registered(was=group.terms)
    made.turns = group.rekey.turns
    install(group, made, True, 5000)  # back to T1, as if restored
    assert sorted([sa.spi for sa in member.keys.live()]) == sorted([T1, T2])
    group.step(7000)
    assert [sa.spi for sa in member.keys.live()] == [T1]


def test_a_sender_that_asks_goes_on_under_its_former_key_until_the_new_ones_atd_is_over():
    """What it is told may be a key that others don't have yet, as after a missed rekey."""
    member, group = joined(STORY["sender"], sending=True)
    rekey(group, STORY["rekey1"], 0)
    group.step(2000)
    made = registered(STORY["sender"], True, group.terms)
    made.terms.atd_s, made.terms.dtd_s = 3, 4
    made.turns = group.rekey.turns
    install(group, made, True, 4000)
    for now_ms, spi in ((4000, T2), (6999, T2), (7000, T1)):
        group.step(now_ms)
        assert member.keys.sending.spi == spi
        assert member.send(0, now_ms) > 0
    group.step(8000)
    assert [sa.spi for sa in member.keys.live()] == [T1]


def test_delete_of_everything_silences_and_excludes():
    member, group = joined(STORY["sender"], sending=True)
    rekey(group, STORY["rekey1"], 0)
    rekey(group, STORY["rekey2"], 10000)
    group.step(20000)
    assert member.keys.sending is not None
    assert rekey(group, STORY["delete_all"], 20000) is True
    assert member.keys.sending is None  # at once
    assert receive(member, packet("t3"), 21000) == 4  # receivers keep it for DTD
    group.step(22000)
    assert receive(member, packet("t3", 1), 22000) == DROP_RETIRED_SPI
    assert group.rekey.current is None


def test_delete_of_the_only_tek_stops_sending():
    member, group = joined(STORY["sender"], sending=True)
    assert rekey(group, STORY["delete_tek"], 0) is False
    assert member.keys.sending is None
    assert receive(member, packet("t1"), 0) == 4


def test_no_room_changes_nothing():
    member, group = joined(slots=1)
    assert why_not(rekey, group, STORY["rekey1"], 0) == DROP_CAPACITY
    assert receive(member, packet("t1"), 0) == 4
    assert receive(member, packet("t2"), 0) == DROP_UNKNOWN_SPI
    assert member.missed_rekey  # t2's SPI had been announced


def test_a_registration_makes_room():
    member, group = joined(slots=1)
    other = registered(was=group.terms)
    other.data_sas[0].spi = T2
    install(group, other, True, 0)
    assert [sa.spi for sa in member.keys.live()] == [T2]


def test_soft_lifetime():
    made = registered()
    assert soft_lifetime_s(made.data_sas) == 3060
    made.rekey_sa.lifetime_s = 10
    assert soft_lifetime_s(made.data_sas + [made.rekey_sa]) == 8
    made.rekey_sa.lifetime_s = 0xFFFFFFFF
    assert soft_lifetime_s([made.rekey_sa]) == 3650722200
    for lifetime_s in (0, 1):
        made.rekey_sa.lifetime_s = lifetime_s
        assert soft_lifetime_s([made.rekey_sa]) == 1
    made.rekey_sa.lifetime_s = None
    assert soft_lifetime_s([made.rekey_sa]) is None
    assert soft_lifetime_s([]) is None


def test_wipe_forgets_everything():
    member, group = joined()
    group.wipe()
    assert receive(member, packet("t1"), 0) == DROP_RETIRED_SPI
    assert group.rekey.current is None and group.listening() == {}


def test_a_registration_that_a_rekey_has_overtaken_changes_nothing():
    member, group = joined(STORY["sender"], sending=True)
    rekey(group, STORY["rekey1"], 0)
    overtaken = registered(STORY["sender"], True, group.terms)
    assert why_not(install, group, overtaken, True, 100) == DROP_REKEY_MESSAGE_ID
    assert sorted([sa.spi for sa in member.keys.live()]) == sorted([T1, T2])
    assert rekey(group, STORY["rekey2"], 200) is False


def test_a_registration_that_can_not_fit_changes_nothing():
    member, group = joined(slots=1)
    made = registered(was=group.terms)
    more = registered(was=group.terms)
    more.data_sas[0].spi = T2
    made.data_sas += more.data_sas
    assert why_not(install, group, made, True, 0) == DROP_CAPACITY
    assert receive(member, packet("t1"), 0) == 4


def test_making_room_keeps_what_is_told_again():
    member, group = joined(STORY["sender"], sending=True, slots=2)
    other = registered(STORY["sender"], True, was=group.terms)
    other.data_sas[0].spi = b"gone"
    assert receive(member, packet("t1"), 0) == 4
    assert member.send(0, 0) > 0
    install(group, other, False, 0)
    made = registered(STORY["sender"], True, was=group.terms)
    more = registered(STORY["sender"], True, was=group.terms)
    more.data_sas[0].spi = T2
    made.data_sas += more.data_sas
    install(group, made, True, 0)
    assert sorted([sa.spi for sa in member.keys.live()]) == sorted([T1, T2])
    assert receive(member, packet("t1"), 0) == DROP_REPLAY
    assert member.keys.find(T1, 0).next_seq == 2


def test_a_rekey_can_not_bring_back_a_key_whose_numbers_are_forgotten():
    member, group = joined(STORY["sender"], sending=True)
    assert member.send(0, 0) > 0
    rekey(group, STORY["rekey1"], 0)
    group.step(2000)
    again = registered(STORY["sender"], True, was=group.terms)  # T1, the same Sender-ID
    assert why_not(install, group, again, False, 3000) == DROP_POLICY
    assert [sa.spi for sa in member.keys.live()] == [T2]


def test_another_width_of_sender_ids_needs_another_key():
    member, group = joined()
    assert receive(member, packet("t1"), 0) == 4
    made = registered(was=group.terms)
    made.data_sas[0].senders = type(made.data_sas[0].senders)(16, 8)
    assert why_not(install, group, made, True, 0) == DROP_POLICY
    assert receive(member, packet("t1"), 0) == DROP_REPLAY


def test_a_new_authentication_key_is_used_from_then_on():
    member, group = joined()
    made = registered(was=group.terms)
    made.rekey_sa = None
    made.data_sas = []
    made.terms.verifier = object()
    install(group, made, False, 0)
    assert group.rekey.current.verifier is made.terms.verifier
    made = registered(was=group.terms)  # with the Rekey SA told again
    made.data_sas = []
    made.terms.verifier = object()
    install(group, made, False, 0)
    assert group.rekey.current.verifier is made.terms.verifier


def test_a_rekey_that_tells_an_sa_again_says_how_long_it_lives():
    member, group = joined(STORY["sender"], sending=True)  # 3600 s
    assert member.send(0, 0) > 0
    again = registered(STORY["sender"], True, was=group.terms)
    again.data_sas[0].lifetime_s = 7200
    again.terms.atd_s = 5
    again.terms.udp_port = 5000
    install(group, again, False, 1000)
    assert member.send(0, 1000) > 0 and member.tx[7] == 2  # neither silent nor from one again
    assert group.routes() == {T1: ("239.192.1.32", 5000)}
    group.step(7200 * 1000)
    assert member.send(0, 7200 * 1000) > 0
    group.step(7201 * 1000)
    assert member.keys.live() == []
