"""Which answer of a key server a member takes, and that no question is lost.

A key server repeats an answer as it was, and whoever is on the way can hold one back: it may be
older than rekeys that were followed since it was asked for, or than those that nobody heard.
"""

from covey import assignment, ike, membership, registration
from covey.job import finish
from covey.port import ticks_add
from story import STORY, T1, T2
from test_membership import Life, Script

_PACKET = STORY["packets"]["t1"][0]
_DENIED = "authorization_failed"


def _spis(life):
    return [bytes(sa.spi) for sa in life.member.keys.live()]


def _deliveries(life):
    """How often the same packet is delivered, of two times."""
    count = 0
    for _ in range(2):
        life.member.rx[: len(_PACKET)] = _PACKET
        count += life.member.receive(len(_PACKET), life.now_ms) == 4
    return count


def _pulls(life):
    """Let it pull, and not be answered."""
    count = len(life.ike.asked)
    life.it.refresh(life.now_ms)
    life.run(2100)
    assert len(life.ike.asked) == count + 1 and life.ike.state == registration.PULLING


def _outrun(is_pull):
    """A member with an old question out, which has followed a rekey since, up to its DTD."""
    life = Life().registered()
    assert _deliveries(life) == 1
    if is_pull:
        _pulls(life)
    else:
        life.it._register()
        life.ike.state = registration.AUTH
    life.rekey(STORY["rekey1"])
    life.run(2500)
    assert _spis(life) == [T2]
    return life


def test_a_question_that_is_asked_while_an_older_answer_is_in_work_makes_that_no_newer():
    for is_pull in (True, False):
        for early in range(0, 60, 7):  # so many slices before
            life = _outrun(is_pull)
            life.ike.answer(registration.REGISTERED, STORY["receiver"])
            life.it.unicast(b"the old answer", life.now_ms)
            for _ in range(early):
                life.it.step(life.now_ms)
            life.it._refresh.at.start(life.now_ms, 0)  # as Wi-Fi's return has it
            for _ in range(400):
                life.it.step(life.now_ms)
            assert _spis(life) == [T2] and _deliveries(life) == 0, early
            assert life.ike.asked[-1:] == ["pull"], early
            life.registered(STORY["late"])
            assert life.it.state == membership.MEMBER and T1 in _spis(life)  # newer, of no window


def _exclude(life):
    """As after a GSA_REKEY that deletes everything over the Rekey SA that is here."""
    deletes = ike.Delete(ike.ESP, 4, [bytes(4)]), ike.Delete(ike.GIKE_UPDATE, 16, [bytes(16)])
    made = assignment.Assignment(deletes=deletes)
    made.terms = life.it._group.terms
    life.it._group.rekey.current.next_message_id += 1
    finish(life.it._keys._install(made))
    life.it._refresh.followed(life.now_ms, False)
    life.it._installed(False)
    assert life.it.state == membership.EXCLUDED


def _excluded_while_asked(is_denied):
    """A sender with a pull out as everybody is excluded; is_denied: a pull to receive."""
    life = Life(sending=True).registered(STORY["sender"])
    assert _deliveries(life) == 1
    _pulls(life)
    if is_denied:
        life.ike.answer(registration.REFUSED, reason=_DENIED)
        life.run()
        assert life.ike.asked == ["pull", "pull to receive"]
    _exclude(life)
    return life


def test_an_answer_from_before_an_exclusion_is_not_taken_whatever_was_asked_for():
    for is_denied in (False, True):
        life = _excluded_while_asked(is_denied)
        assert not life.ike.is_established
        life.run(2500)  # DTD, and the random time
        assert _spis(life) == [] and len(Script.made) == 2
        assert life.it.state == membership.REGISTERING


def test_an_exclusion_counts_as_a_turn_of_the_group():
    life = Life().registered()
    turns = life.it._group.rekey.turns
    old = STORY["receiver"]
    _exclude(life)
    assert life.it._group.rekey.turns == turns + 1
    life.run(2500)
    assert _spis(life) == [] and life.it._group.rekey.current is None
    life.it._asked_at = turns  # asked before it, by whatever way
    life.registered(old)
    assert _spis(life) == [] and _deliveries(life) == 0


def test_a_pull_to_receive_that_is_not_answered_is_waited_for_as_any():
    life = Life(sending=True)
    life.ike.answer(registration.REFUSED, reason=_DENIED)
    life.run()
    assert life.ike.asked == ["pull to receive"]
    life.run(5200)
    assert len(Script.made) == 2


def test_what_cannot_be_asked_now_is_asked_behind_what_is_out():
    """Wi-Fi was away while a question was out: its answer may be of before what was missed."""
    for state in (registration.INIT, registration.AUTH, registration.PULLING):
        life = Life().registered()
        if state == registration.PULLING:
            _pulls(life)
        else:
            life.it._register()
            life.ike.state = state
        made = len(Script.made)
        life.it.refresh(life.now_ms)
        life.run(2100)
        assert life.it._refresh.at.is_running and len(Script.made) == made, state
        life.registered(STORY["receiver"])
        asked = len(life.ike.asked)
        life.run(1100)
        assert life.ike.asked[asked:] == ["pull"] and len(Script.made) == made, state
        life.registered(STORY["late"])
        life.run(3000_000)
        assert len(life.ike.asked) == asked + 1, state  # once


def test_what_cannot_be_asked_keeps_nobody_from_the_next_server():
    life = Life().registered()
    life.it._register()
    life.ike.state = registration.AUTH
    life.it.refresh(life.now_ms)
    life.run(2100)
    assert life.it._refresh.at.is_running
    first = life.it.server.host
    life.ike.answer(registration.FAILED, reason="timeout")
    life.run(2100)
    assert len(Script.made) == 3 and life.it.server.host != first
    assert not life.it._refresh.at.is_running


def test_keys_that_came_late_are_asked_for_once_more():
    """Rekeys that came before its Rekey SA was known could not be followed."""
    for is_late in (False, True):
        life = Life()
        life.ike.is_late = is_late
        life.registered()
        assert life.it.state == membership.MEMBER
        life.run(2100)
        assert life.ike.asked == ["pull"] * is_late
        if is_late:
            life.registered(STORY["late"])
            life.run(3000_000)
            assert life.ike.asked == ["pull"]


# What was missed, and a repeat may save the asking


def _missing(life):
    life.member.missed_rekey = True  # a packet under an announced SPI
    life.run()
    assert life.it._refresh.at.is_running


def test_a_rekey_saves_no_question_that_has_another_reason():
    alone = [{"host": "192.0.2.1", "port": 4500, "marker": True}]
    life = Life(servers=alone).registered()
    life.it._register()  # as where the last IKE SA was found dead
    life.ike.state = registration.AUTH
    _missing(life)
    life.ike.answer(registration.REFUSED, reason="no_proposal_chosen")
    life.run()
    life.rekey(STORY["rekey1"])
    assert life.it.state == membership.REFUSED and life.it.rekeys == 1
    life.run(11000)
    assert life.it.state == membership.REGISTERING and life.ike.asked == ["pull"]


def test_a_rekey_saves_no_answer_that_found_no_memory():
    life = Life().registered()
    _missing(life)
    life.ike.state = registration.PULLING
    life.ike.answer(registration.REFUSED, reason=registration.NO_MEMORY)
    life.run()
    life.rekey(STORY["rekey1"])
    life.run(20100)
    assert life.ike.asked == ["pull"]


def test_a_rekey_does_not_keep_us_at_a_server_that_sends_us_on():
    life = Life().registered()
    _missing(life)
    life.it.servers._at ^= 1
    life.it.servers._go(life.it)
    life.rekey(STORY["rekey1"])
    assert life.it.rekeys == 1
    life.run(2100)
    assert len(Script.made) == 2 and not life.it.moves


# Leaving


def test_leaving_ends_in_every_state():
    """Where something is out, by its answer or with the IKE SA; else at once."""
    out = registration.PULLING, registration.REFUSING, registration.LEAVING
    for state in range(registration.CLOSED + 1):
        life = Life().registered()
        life.ike.state = state
        life.it.leave(life.now_ms)
        waits = state in (registration.REGISTERED,) + out
        assert (life.it.state != membership.LEFT) is waits, state
        life.run(1100)
        assert (life.it.state != membership.LEFT) is waits, state
        life.ike.answer(registration.CLOSED, reason="deleted")
        life.run(1100)
        assert life.it.state == membership.LEFT and _spis(life) == [], state


def test_leaving_ends_where_an_outcome_was_lost():
    """As where memory ended on the way: it is looked at again what state there is."""
    for state in (registration.LEFT, registration.FAILED, registration.REFUSED):
        life = Life().registered()
        _pulls(life)
        life.it.leave(life.now_ms)
        assert life.it.state == membership.MEMBER
        life.ike.state = state
        life.now_ms = ticks_add(life.now_ms, 1000)
        life.run(1100)
        assert life.it.state == membership.LEFT, state
