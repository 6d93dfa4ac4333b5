"""GSA_INBAND_REKEY at a whole member: order, overtaking, refusal, exclusion (RFC 9838, 2.4.2).

Membership, Registration and key store are real; the server is gcks_peer's.
"""

from covey import gsa, ike, membership, registration
from covey.drops import DROP_NO_SA
from covey.port import ticks_add
from gcks_peer import (
    DELETE_ESP_ALL,
    DELETE_IKE,
    DELETE_UPDATE_ALL,
    Gcks,
    notify,
)
from life import ID, INBAND, SPIS, Life
from story import STORY
from talk import PSK


def _delete(spi):
    return ike.DELETE, b"\3\4\0\1" + spi


# What it does


def test_new_keys_are_acknowledged_and_added():
    life = Life()
    assert life.it.state == membership.MEMBER and life.spis == [SPIS[0]]
    assert life.it.sender_id == ID
    request = life.sa.request(INBAND, life.more(1) + [_delete(SPIS[0])])
    (answer,) = life.hear(request)
    assert life.sa.open(answer)[1] == []
    assert life.spis == SPIS[:2] and life.outbound == SPIS[1]
    assert life.it.rekeys == 1 and life.it.sender_id == ID
    assert life.hear(request) == [answer] and life.it.rekeys == 1
    life.run(2100)  # DTD
    assert life.spis == [SPIS[1]] and life.drops == {}
    assert life.it.state == membership.MEMBER


def test_atd_and_dtd():
    life = Life()
    life.inband(life.more(1, atd_s=3, dtd_s=5) + [_delete(SPIS[0])])
    assert life.outbound == SPIS[0]
    life.run(3100)
    assert life.outbound == SPIS[1] and life.spis == SPIS[:2]
    life.run(2000)
    assert life.spis == [SPIS[1]]


def test_the_answer_does_not_wait_for_the_work():
    life = Life()
    life.it.unicast(life.sa.request(INBAND, life.more(1)), 0)
    data, _ = life.it.outgoing()
    assert life.sa.open(bytes(data))[1] == [] and life.spis == [SPIS[0]]
    life.run()
    assert life.spis == SPIS[:2]


def test_several_in_a_row_keep_their_order():
    life = Life()
    for number in (1, 2, 3):
        life.it.unicast(life.sa.request(INBAND, life.more(number)), 0)
    life.run()
    assert life.it.rekeys == 3 and life.outbound == SPIS[3]
    assert life.spis == SPIS[:4]


def test_more_than_can_wait_are_asked_for():
    life = Life(sending=False)
    for number in range(1, 7):
        life.it.unicast(life.sa.request(INBAND, life.more(number)), 0)
    assert life.drops == {"rekey_busy": 2}
    life.run()
    assert life.it.rekeys == 4
    (pull,) = life.run(2100)
    life.hear(life.sa.answer(pull, life.keys(6)(life.sa)))
    assert SPIS[6] in life.spis


def test_keys_right_behind_the_registration_wait_for_it():
    life = Life(registered=False)
    (init,) = life.run()
    auth = life.hear(life.gcks.answer_init(init))
    life.sa = life.gcks.sa
    life.it.unicast(life.gcks.answer_auth(auth, life.keys(0)(life.sa)), 0)
    life.it.unicast(life.sa.request(INBAND, life.more(1)), 0)
    assert life.spis == []
    life.run()
    assert life.spis == SPIS[:2] and life.outbound == SPIS[1] and life.it.rekeys == 1
    life.run(10000)
    assert life.drops == {} and life.it._ike.state == registration.REGISTERED


def test_over_a_new_ike_sa_the_keys_are_wrapped_anew():
    life = Life()
    old = life.sa
    (answer,) = life.hear(old.request(ike.CREATE_CHILD_SA, life.gcks.begin_rekey(old)))
    life.sa = life.gcks.finish_rekey(old, old.open(answer)[1])
    life.hear(old.request(ike.INFORMATIONAL, [DELETE_IKE]))
    life.inband(life.more(1))
    assert life.spis == SPIS[:2] and life.drops == {}


def test_over_an_old_ike_sa_they_are_wrapped_by_that_one():
    """It is replaced, but not deleted yet."""
    life = Life()
    old = life.sa
    life.hear(old.request(ike.CREATE_CHILD_SA, life.gcks.begin_rekey(old)))
    life.inband(life.more(1))
    assert life.spis == SPIS[:2] and life.drops == {}


def test_a_rekey_sa_may_come_where_a_signing_key_is_known():
    life = Life(granted=None, registered=False)
    life.register(life.keys(0, with_rekey_sa=True))
    whole = gsa.parse_gsa(STORY["sender"]["gsa"])
    first = bytes(life.it._group.rekey.current.spi)
    assert first == whole.policies[0].spi
    said, _ = life.inband(life.more(1, with_rekey_sa=True))  # told again, GCAUTH and all
    assert said == [] and life.spis == SPIS[:2]
    assert [bytes(sa.spi) for sa in life.it._group.rekey.held] == [first]


def test_a_rekey_sa_without_a_signing_key_is_refused():
    life = Life()
    payloads = life.more(1, with_rekey_sa=True)
    keys = gsa.parse_kd(dict(payloads)[ike.KD])
    keys.member = None
    _, (refusal,) = life.inband([payloads[0], (ike.KD, bytes(gsa.emit_kd(keys)))])
    assert life.sa.open(refusal)[1][1] == notify(ike.NO_PROPOSAL_CHOSEN)
    assert life.spis == [SPIS[0]] and life.drops == {"policy": 1}


def test_multicast_rekeys_are_followed_beside_it():
    life = Life(sending=False, registered=False)
    life.register(life.keys(0, with_rekey_sa=True))
    life.inband(life.more(1))
    life.it.multicast(STORY["rekey1"], life.now_ms)
    life.run()
    assert life.it.rekeys == 2 and len(life.spis) == 3


# What it does not take


def _is_refused(life, payloads, drop):
    said, (refusal,) = life.inband(payloads)
    header, wish = life.sa.open(refusal)
    assert said == [] and header.exchange == ike.GSA_REGISTRATION
    assert wish == [(ike.IDg, b"\x0b\0\0\0line1"), notify(ike.NO_PROPOSAL_CHOSEN)]
    assert life.it.state == membership.REFUSED and life.drops == {drop: 1}
    assert life.spis == [SPIS[0]] and life.outbound is None
    return refusal


def test_what_is_not_taken_is_refused():
    life = Life()
    bad = life.more(1)
    keys = gsa.parse_kd(bad[1][1])
    keys.bags[0].keys[0].data = bytes(24)
    refusal = _is_refused(life, [bad[0], (ike.KD, bytes(gsa.emit_kd(keys)))], "key_wrap")
    life.hear(life.sa.answer(refusal, []))
    assert life.it.state == membership.REFUSED
    (pull,) = life.run(10100)  # asked again after a pause
    life.hear(life.sa.answer(pull, life.keys(2)(life.sa)))
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[2]
    for change in ("numbers", "cipher", "sender id", "other protocol"):
        life = Life()
        bad = life.more(1)
        whole = gsa.parse_gsa(bad[0][1])
        keys = gsa.parse_kd(bad[1][1])
        drop = "policy"
        if change == "numbers":
            whole.policies[0].transforms[1].id = ike.SN_64_PARTIALLY_TRANSMITTED
        elif change == "cipher":
            whole.policies[0].transforms[0].id = 12
        elif change == "sender id":
            keys.member = gsa.MemberBag(sender_ids=[b"\0\0\0\7"])
            drop = "kd"
        else:
            whole.policies[0].protocol = keys.bags[0].protocol = ike.AH
        payloads = [(ike.GSA, bytes(gsa.emit_gsa(whole))), (ike.KD, bytes(gsa.emit_kd(keys)))]
        _is_refused(life, payloads, drop)


def test_behind_a_refused_one_nothing_is_taken():
    life = Life()
    bad = life.more(1)
    keys = gsa.parse_kd(bad[1][1])
    keys.bags[0].keys[0].data = bytes(24)
    bad = [bad[0], (ike.KD, bytes(gsa.emit_kd(keys)))]
    life.it.unicast(life.sa.request(INBAND, bad), 0)
    life.it.unicast(life.sa.request(INBAND, life.more(2)), 0)
    life.run()
    assert life.it.state == membership.REFUSED and life.spis == [SPIS[0]]


def test_a_malformed_one_ends_the_ike_sa_and_we_come_back():
    life = Life()
    good = life.more(1)
    said, _ = life.inband([good[0]])
    assert said == [notify(ike.INVALID_SYNTAX)]
    assert life.it.state == membership.EXCLUDED  # there is no Rekey SA (section 2.3.3)
    assert life.spis == [SPIS[0]] and life.drops == {"ike_format": 1}
    assert not life.member.can_send(life.now_ms)
    sent = life.run(2100)
    assert len(sent) == 1 and ike.parse_header(sent[0]).exchange == ike.IKE_SA_INIT


def test_a_full_memory_costs_a_pull():
    from covey import keywork

    life = Life(sending=False)
    build = keywork.assignment.build

    def full(*_, **__):
        yield
        raise MemoryError

    keywork.assignment.build = full
    try:
        life.inband(life.more(1))
    finally:
        keywork.assignment.build = build
    assert life.it.state == membership.MEMBER and life.drops == {"capacity": 1}
    (pull,) = life.run(2100)
    life.hear(life.sa.answer(pull, life.keys(1)(life.sa)))
    assert SPIS[1] in life.spis


def test_a_memory_that_is_full_while_it_is_read_costs_nothing_but_time():
    life = Life(sending=False)
    request = life.sa.request(INBAND, life.more(1))
    receive = life.it._ike.receive

    def full(*_):
        raise MemoryError

    life.it._ike.receive = full
    assert life.hear(request) == [] and life.drops == {"capacity": 1}
    life.it._ike.receive = receive
    assert len(life.hear(request)) == 1 and life.it.rekeys == 1


# Exclusion


def test_excluded_inband_we_register_over_the_ike_sa_that_lives():
    life = Life()
    said, rest = life.inband([DELETE_ESP_ALL, DELETE_UPDATE_ALL])
    assert said == [] and rest == [] and life.it.state == membership.EXCLUDED
    assert not life.member.can_send(life.now_ms)
    life.inband(life.more(1))  # for those who are in
    assert life.spis == [SPIS[0]] and life.drops == {"ike_exchange": 1}
    (pull,) = life.run(2100)
    assert life.sa.open(pull)[0].exchange == ike.GSA_REGISTRATION
    life.hear(life.sa.answer(pull, life.keys(2, sender_id=0x42)(life.sa)))
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[2]
    assert life.it.sender_id == 0x42


def test_removed_we_are_refused():
    life = Life()
    life.inband([DELETE_ESP_ALL, DELETE_UPDATE_ALL])
    (answer,) = life.hear(life.sa.request(ike.INFORMATIONAL, [DELETE_IKE]))
    assert life.sa.open(answer)[1] == [] and life.it.state == membership.EXCLUDED
    life.run(2000)
    assert life.it.state == membership.REGISTERING and life.spis == []


def test_without_a_rekey_sa_the_end_of_the_ike_sa_is_an_exclusion():
    life = Life()
    life.hear(life.sa.request(ike.INFORMATIONAL, [DELETE_IKE]))
    assert life.it.state == membership.EXCLUDED and not life.member.can_send(life.now_ms)
    life.now_ms = ticks_add(life.now_ms, 2100)
    life.register(life.keys(1))
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[1]


def test_the_answer_to_a_delete_is_repeated_while_we_register_anew():
    life = Life()
    request = life.sa.request(ike.INFORMATIONAL, [DELETE_IKE])
    (answer,) = life.hear(request)
    (init,) = life.run(2100)
    assert ike.parse_header(init).exchange == ike.IKE_SA_INIT
    assert life.hear(request) == [answer] and life.drops == {}
    assert life.hear(life.sa.request(ike.INFORMATIONAL, [])) == []
    assert life.drops == {"ike_spi": 1}
    auth = life.hear(life.gcks.answer_init(init))
    life.sa = life.gcks.sa
    life.hear(life.gcks.answer_auth(auth, life.keys(1)(life.sa)))
    assert life.outbound == SPIS[1]


def test_deleted_while_the_last_keys_are_in_work():
    """However far the work on them has come."""
    for slices in range(8):
        life = Life()
        life.it.unicast(life.sa.request(INBAND, life.more(1)), 0)
        for _ in range(slices):
            life.it.step(0)
        life.it.unicast(life.sa.request(ike.INFORMATIONAL, [DELETE_IKE]), 0)
        life.run()
        assert life.it.state == membership.EXCLUDED and not life.member.can_send(0)
        life.now_ms = ticks_add(life.now_ms, 2100)
        life.register(life.keys(2))
        assert life.outbound == SPIS[2]


def test_refused_while_keys_are_in_work():
    """They are good for receiving; sending has to wait until we are in again."""
    life = Life()
    pull = life.pull()
    life.it.unicast(life.sa.request(INBAND, life.more(1)), life.now_ms)
    life.it.step(life.now_ms)
    life.it.unicast(life.sa.answer(pull, [notify(ike.AUTHENTICATION_FAILED)]), life.now_ms)
    life.run()
    assert life.it.state == membership.REFUSED and life.outbound is None
    assert SPIS[1] in life.spis
    (pull,) = life.run(10100)
    life.hear(life.sa.answer(pull, life.keys(1, sender_id=0x42)(life.sa)))
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[1]


def test_deleted_before_the_first_keys_are_in():
    """Neither do those that wait behind them bring us in."""
    life = Life(registered=False)
    life.gcks = Gcks(PSK)
    (init,) = life.run()
    auth = life.hear(life.gcks.answer_init(init))
    life.sa = life.gcks.sa
    life.it.unicast(life.gcks.answer_auth(auth, life.keys(0)(life.sa)), 0)
    life.it.unicast(life.sa.request(INBAND, life.more(1)), 0)
    life.it.unicast(life.sa.request(ike.INFORMATIONAL, [DELETE_IKE]), 0)
    life.run()
    assert life.it.state == membership.REFUSED and not life.member.can_send(0)


def test_a_silent_server_costs_no_data():
    life = Life()
    life.run(60000 + 30500)
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[0]
    assert ("unanswered", life.it.reason) in life.it.events
    sent = life.run(1500)
    assert ike.parse_header(sent[0]).exchange == ike.IKE_SA_INIT
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[0]


# A pull and an inband rekey at the same time


def test_an_inband_rekey_overtakes_the_answer_to_a_pull():
    """The answer was made before it: taking it would bring the old keys back."""
    life = Life()
    pull = life.pull()
    stale = life.sa.answer(pull, life.keys(0)(life.sa))
    life.inband(life.more(1) + [_delete(SPIS[0])])
    assert life.outbound == SPIS[1]
    life.hear(stale)
    assert life.outbound == SPIS[1] and life.it.sender_id == ID
    (again,) = life.run(2100)
    life.hear(life.sa.answer(again, life.keys(1, sender_id=0x42)(life.sa)))
    assert life.outbound == SPIS[1] and life.it.sender_id == 0x42
    assert life.run(10000) == []


def test_an_answer_to_a_pull_overtakes_an_inband_rekey():
    """The inband rekey was sent before: what it brings is old, and does not last."""
    life = Life()
    old = life.more(1)
    pull = life.pull()
    life.hear(life.sa.answer(pull, life.keys(2, sender_id=0x42)(life.sa)))
    assert life.outbound == SPIS[2]
    life.inband(old)  # taken: it might as well be new
    (again,) = life.run(2100)
    life.hear(life.sa.answer(again, life.keys(2, sender_id=0x43)(life.sa)))
    life.run(2100)
    assert life.spis == [SPIS[2]] and life.outbound == SPIS[2]


def test_a_new_inband_rekey_behind_a_pull_is_kept():
    life = Life()
    pull = life.pull()
    life.hear(life.sa.answer(pull, life.keys(1, sender_id=0x42)(life.sa)))
    life.inband(life.more(2) + [_delete(SPIS[1])])
    assert life.outbound == SPIS[2]
    (again,) = life.run(2100)
    life.hear(life.sa.answer(again, life.keys(2, sender_id=0x43)(life.sa)))
    assert life.outbound == SPIS[2]
    assert life.run(30000) == []  # and that is the end of it


def test_an_inband_rekey_while_the_keys_of_a_pull_are_in_work():
    life = Life()
    pull = life.pull()
    life.it.unicast(life.sa.answer(pull, life.keys(1, sender_id=0x42)(life.sa)), life.now_ms)
    life.it.unicast(life.sa.request(INBAND, life.more(2)), life.now_ms)
    life.run()
    assert life.outbound == SPIS[2] and life.it.sender_id == 0x42


def test_a_pull_while_an_inband_rekey_is_in_work():
    """The pull went out behind it, so that its answer is newer."""
    life = Life()
    life.it.unicast(life.sa.request(INBAND, life.more(1)), 0)
    life.it._refresh.at.start(life.now_ms, 0)
    life.it._timers()
    sent = life.run()
    pulls = [data for data in sent if ike.parse_header(data).exchange == ike.GSA_REGISTRATION]
    life.hear(life.sa.answer(pulls[0], life.keys(2, sender_id=0x42)(life.sa)))
    assert life.outbound == SPIS[2] and life.it.sender_id == 0x42


def test_excluded_while_a_pull_is_out():
    life = Life()
    pull = life.pull()
    life.inband([DELETE_ESP_ALL, DELETE_UPDATE_ALL])
    assert life.it.state == membership.EXCLUDED
    life.hear(life.sa.answer(pull, life.keys(0)(life.sa)))  # from before: not taken
    assert life.it.state == membership.EXCLUDED and not life.member.can_send(life.now_ms)
    (again,) = life.run(2100)
    life.hear(life.sa.answer(again, life.keys(1, sender_id=0x42)(life.sa)))
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[1]


def test_a_temporary_failure_of_a_pull_is_no_refusal():
    life = Life()
    pull = life.pull()
    life.hear(life.sa.answer(pull, [notify(ike.TEMPORARY_FAILURE)]))
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[0]
    life.inband(life.more(1))
    assert life.outbound == SPIS[1]
    assert life.run(9900) == []
    (again,) = life.run(10200)
    life.hear(life.sa.answer(again, life.keys(2)(life.sa)))
    assert life.outbound == SPIS[2]


def test_nothing_is_taken_while_we_leave():
    life = Life()
    life.it.leave(0)
    (leave,) = life.run()
    said, rest = life.inband(life.more(1))
    assert said == [] and life.spis == [SPIS[0]] and life.drops == {"ike_exchange": 1}
    life.hear(life.sa.answer(leave, []))
    assert life.it.state == membership.LEFT and life.spis == []


def test_a_receiver_needs_no_sender_id_and_a_sender_one():
    life = Life(sending=False)
    life.inband(life.more(1))
    assert life.spis == SPIS[:2]
    assert life.member.send(1, 0) != DROP_NO_SA
    life = Life(registered=False)
    life.register(life.keys(0, with_rekey_sa=True, sender_id=None))
    assert life.it.state == membership.REFUSED


def test_no_key_stays_where_it_passed():
    life = Life()
    taken = []
    take = life.it._keys.take_inband
    life.it._keys.take_inband = lambda inband: taken.append(inband) or take(inband)
    life.inband(life.more(1))
    assert taken[0].kwk == bytearray(32)
    life.it.unicast(life.sa.request(INBAND, life.more(2)), 0)
    assert taken[1].kwk != bytearray(32)
    life.it.wipe()
    assert taken[1].kwk == bytearray(32)
    life = Life()
    ike_side = life.it._ike
    ike_side.receive(life.sa.request(INBAND, life.more(1)), 0)
    inband = ike_side.inbands[0]
    assert inband.kwk == life.sa.kwk
    ike_side.close()  # before anybody has asked for it
    assert inband.kwk == bytearray(32)
