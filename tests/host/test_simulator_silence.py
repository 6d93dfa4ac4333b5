"""Whoever keeps the key server's messages from a member can't keep it in the past for long.

Figures: `.venv/bin/python tests/simulate.py --experiment silence`.
"""

import pytest

from covey.membership import Membership
from covey.silence import Silence
from simulator import silence
from simulator.air import Kept
from simulator.checker import Broken

ALL = Kept()
MULTICAST = Kept(unicast=False)


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("kept", [ALL, Kept(multicast=False)])
def test_a_member_that_is_kept_in_the_past_says_so_in_time(kept, stops):
    """Everything is kept from it, or all but rekeys; replays and data go on."""
    sender, other = silence.endure(1, kept, members=8, stops=stops)
    for seen in (sender, other):
        if kept is ALL:
            assert 0 <= seen.silent_ms - silence.MOST_S * 1000 <= 2200 and seen.back_ms < 30_000
        else:
            assert seen.silent_ms is None  # it follows rekeys
    assert bool(other.refused) is (stops and kept is ALL)  # of who is in the past, too


def test_who_keeps_rekeys_only_is_noticed():
    """Answers to signs of life say which keys there are: it asks for them."""
    for seen in silence.endure(2, MULTICAST, members=8):
        assert seen.silent_ms is None and 0 < seen.behind_ms < silence.MOST_S * 1000


def test_a_group_without_rekeys_lives_on_signs_of_life():
    """And its key server is not stormed by them."""
    load = silence.rest(3, members=60)
    assert load.silent == 0 and load.registrations == 0
    assert 2 < load.asked_each < 3 and load.peak < 20  # of 60, in the busiest second


def test_a_restart_of_the_key_server_makes_nobody_silent():
    """Who gets no answer registers in time, and not all at once."""
    load = silence.restart(4)
    assert load.silent == 0 and load.registrations == 60 and load.peak < 20


# Defects that must be found


def never_silent(patch):
    say = Silence._say
    patch.setattr(Silence, "_say", lambda it, is_over: say(it, False))


def counts_replays(patch):
    """Whatever the group's messages say, old ones too: here somebody lives."""
    multicast = Membership.multicast

    def believing(it, data, now_ms):
        multicast(it, data, now_ms)
        it._heard()

    patch.setattr(Membership, "multicast", believing)


def never_back(patch):
    heard = Silence.heard

    def sulking(it, now_ms, left_s=None):
        return None if it.is_over else heard(it, now_ms, left_s)

    patch.setattr(Silence, "heard", sulking)


@pytest.mark.parametrize("defect", [never_silent, counts_replays, never_back])
def test_a_defect_is_found(monkeypatch, defect):
    defect(monkeypatch)
    with pytest.raises(Broken) as broken:
        silence.endure(1, ALL, members=8)
    assert broken.value.invariants == ["silent"]
