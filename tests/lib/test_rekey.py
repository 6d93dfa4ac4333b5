"""GSA_REKEY at a member: signed octets from tests/recorded/group_story.py, and forgeries."""

from covey import assignment
from covey.drops import (
    DROP_GSA,
    DROP_KD,
    DROP_KEY_PATH,
    DROP_KEY_PORTION,
    DROP_KEY_WRAP,
    DROP_POLICY,
    DROP_REKEY_BUSY,
    DROP_REKEY_FORMAT,
    DROP_REKEY_MESSAGE_ID,
    DROP_REKEY_REPEAT,
    DROP_REKEY_SIGNATURE,
    DROP_REKEY_SPI,
    DROP_REKEY_TAG,
    FormatError,
)
from covey.job import finish
from covey.rekey import Rekey
from story import STORY, T1, T2, T3, begun, registered, why_not, worked


def member(policy=STORY["receiver"]):
    made = registered(policy)
    rekey = Rekey()
    rekey.install(made.rekey_sa, 0, 0)
    return rekey, made.terms


def follow(rekey, terms, data):
    """What a whole message leads to: an Assignment, or why not."""
    reason = begun(rekey, data)
    if reason:
        return reason
    made = []
    reason = why_not(lambda: made.append(finish(worked(rekey, terms))))
    return reason or made[0]


def test_a_rekey_brings_new_sas():
    rekey, terms = member()
    made = follow(rekey, terms, STORY["rekey1"])
    assert [sa.spi for sa in made.data_sas] == [T2]
    assert made.next_spis == [T3]
    assert made.rekey_sa.spi == STORY["rekey2"][:16]
    assert (made.terms.atd_s, made.terms.dtd_s, made.terms.epoch) == (1, 2, 2)
    assert made.terms.udp_port == 4500 and made.terms.verifier is terms.verifier
    assert [d.spis for d in made.deletes] == [[T1]]
    assert rekey.current.next_message_id == 1


def test_gaps_are_fine_and_older_messages_are_not():
    rekey, terms = member()
    assert follow(rekey, terms, STORY["later"]).data_sas  # Message ID 9
    assert rekey.current.next_message_id == 10
    assert follow(rekey, terms, STORY["rekey1"]) == DROP_REKEY_MESSAGE_ID


def test_the_initial_message_id_is_kept():
    rekey, terms = member(STORY["late"])  # expects 7
    assert follow(rekey, terms, STORY["rekey1"]) == DROP_REKEY_MESSAGE_ID
    assert follow(rekey, terms, STORY["later"]).data_sas


def test_an_older_initial_message_id_is_stale():
    rekey, terms = member()
    assert not rekey.is_stale(registered().rekey_sa, 0)
    assert follow(rekey, terms, STORY["later"]).data_sas  # Message ID 9
    assert rekey.is_stale(registered().rekey_sa, 0)
    assert rekey.is_stale(registered(STORY["late"]).rekey_sa, 0)  # 7


def test_a_rekey_sa_of_before_is_stale_by_its_message_id_whenever_it_was_asked_for():
    rekey, terms = member()
    made = follow(rekey, terms, STORY["rekey1"])
    rekey.install(made.rekey_sa, 0, 2)
    old = registered().rekey_sa
    assert rekey.turns == 1 and rekey.find(old.spi)
    assert rekey.is_stale(old, 0) and rekey.is_stale(old, 1)
    rekey.expire(2000)
    assert not rekey.find(old.spi)
    assert rekey.is_stale(old, 0) and not rekey.is_stale(old, 1)  # as a server that is restored
    assert not rekey.is_stale(made.rekey_sa, 0)  # ours


def test_a_repeat_is_quiet_while_in_work_and_after():
    rekey, terms = member()
    assert begun(rekey, STORY["rekey1"]) == 0
    assert begun(rekey, STORY["rekey1"]) == DROP_REKEY_REPEAT
    assert begun(rekey, STORY["later"]) == DROP_REKEY_BUSY
    assert finish(worked(rekey, terms)).data_sas
    assert begun(rekey, STORY["rekey1"]) == DROP_REKEY_REPEAT


def test_what_an_outsider_can_send():
    rekey, terms = member()
    good = STORY["rekey1"]
    assert begun(rekey, b"") == DROP_REKEY_FORMAT
    assert begun(rekey, bytes(16) + good[16:]) == DROP_REKEY_SPI
    assert begun(rekey, STORY["rekey2"]) == DROP_REKEY_SPI
    for off in (20, 32, 40, 60, len(good) - 1):  # Message ID, IV, text, ICV
        forged = bytearray(good)
        forged[off] ^= 0x40
        assert begun(rekey, bytes(forged)) == DROP_REKEY_TAG, off
    for off in (18, 19):  # exchange type, a response
        forged = bytearray(good)
        forged[off] ^= 0x20
        assert begun(rekey, bytes(forged)) == DROP_REKEY_FORMAT, off
    for n in range(len(good)):
        assert begun(rekey, good[:n]) == DROP_REKEY_FORMAT
    assert rekey.current.next_message_id == 0
    assert follow(rekey, terms, good).data_sas


def test_what_a_member_can_forge():
    for name in STORY["forged"]:
        rekey, terms = member()
        assert follow(rekey, terms, STORY["forged"][name]) == DROP_REKEY_SIGNATURE, name
        assert rekey.current.next_message_id == 0
        assert follow(rekey, terms, STORY["rekey1"]).data_sas, name


def test_what_is_wrong_though_well_signed():
    expected = {
        "gcauth": DROP_GSA,  # authentication never changes by rekey
        "sender_id": DROP_KD,  # RFC 9838 section 2.4.1: must not be there
        "short_key": DROP_KEY_WRAP,
        "not_wrapped": DROP_KEY_WRAP,
        "cipher": DROP_POLICY,
        "gsa_without_kd": DROP_REKEY_FORMAT,
        "kd_twice": DROP_REKEY_FORMAT,
        "empty": DROP_REKEY_FORMAT,
    }
    assert sorted(expected) == sorted(STORY["wrong"])
    for name in expected:
        rekey, terms = member()
        assert follow(rekey, terms, STORY["wrong"][name]) == expected[name], name


def test_the_old_rekey_sa_goes_after_dtd():
    rekey, terms = member()
    made = follow(rekey, terms, STORY["rekey1"])
    rekey.install(made.rekey_sa, 1000, made.terms.dtd_s)
    rekey.expire(2999)
    assert begun(rekey, STORY["later"]) == 0
    rekey.wipe()
    rekey, terms = member()
    made = follow(rekey, terms, STORY["rekey1"])
    rekey.install(made.rekey_sa, 1000, made.terms.dtd_s)
    rekey.expire(3000)
    assert begun(rekey, STORY["later"]) == DROP_REKEY_SPI
    assert follow(rekey, made.terms, STORY["rekey2"]).data_sas


def test_a_registration_leaves_nothing_of_the_past():
    rekey, terms = member()
    made = follow(rekey, terms, STORY["rekey1"])
    rekey.install(made.rekey_sa, 0, 2)
    assert begun(rekey, STORY["rekey2"]) == 0  # in work
    rekey.replace(registered(STORY["late"]).rekey_sa, 0)
    assert not rekey.waiting
    assert begun(rekey, STORY["rekey2"]) == DROP_REKEY_SPI
    assert follow(rekey, terms, STORY["later"]).data_sas
    rekey.replace(registered().rekey_sa, 0)
    assert follow(rekey, terms, STORY["later"]).data_sas  # not a repeat: it has to be heard
    rekey.replace(None, 0)
    assert rekey.current is None and begun(rekey, STORY["later"]) == DROP_REKEY_SPI


def test_a_message_in_work_survives_a_registration_that_does_not_know_of_it():
    """It was sent behind the answer, and came before the answer's keys were installed."""
    rekey, terms = member()
    assert begun(rekey, STORY["rekey1"]) == 0
    rekey.replace(registered().rekey_sa, 0)
    assert rekey.waiting and begun(rekey, STORY["rekey1"]) == DROP_REKEY_REPEAT
    assert finish(worked(rekey, terms)).data_sas
    assert rekey.current.next_message_id == 1
    rekey, terms = member()
    assert begun(rekey, STORY["rekey1"]) == 0
    rekey.replace(registered(STORY["late"]).rekey_sa, 0)  # it expects Message ID 7: of the past
    assert not rekey.waiting
    rekey, terms = member()
    assert begun(rekey, STORY["rekey1"]) == 0
    other = registered().rekey_sa
    other.spi = bytes(16)
    rekey.replace(other, 0)
    assert not rekey.waiting


def looked_at_until(rekey, data, number, happens):
    """What begin() says where something happens behind so many of its steps; None: it was over."""
    look = rekey.begin(data)
    try:
        for _ in range(number):
            next(look)
    except StopIteration:
        return None
    happens(rekey)
    return finish(look)


def test_a_rekey_sa_that_goes_while_a_message_over_it_is_looked_at():
    """It is over, or another one is there in its place: no step works with keys that are gone."""
    for ending in (Rekey.wipe, _end, _register_anew):
        number = 1
        while True:
            rekey, _ = member()
            reason = looked_at_until(rekey, STORY["rekey1"], number, ending)
            if reason is None:
                break
            assert reason == DROP_REKEY_SPI and not rekey.waiting
            number += 1
        assert number > 5


def _end(rekey):
    rekey.retire(None, 0, 0)
    rekey.expire(0)


def _register_anew(rekey):
    rekey.replace(registered().rekey_sa, 0)


def test_what_leads_nowhere_though_well_signed_costs_one_signature():
    """Anyone can replay it; and what was heard last is not what was heard before it."""
    for no_way in (DROP_KEY_PATH, DROP_KEY_PORTION):
        rekey, terms = member()
        real = assignment.build

        def build(*_, no_way=no_way):
            yield
            raise FormatError(no_way)

        assignment.build = build
        try:
            for name in ("rekey1", "later"):
                assert follow(rekey, terms, STORY[name]) == no_way
        finally:
            assignment.build = real
        assert rekey.current.next_message_id == 0
        for name in ("rekey1", "later"):
            assert follow(rekey, terms, STORY[name]) == DROP_REKEY_REPEAT
        rekey.replace(registered().rekey_sa, 0)  # with other keys there may be a way
        assert follow(rekey, terms, STORY["rekey1"]).data_sas
