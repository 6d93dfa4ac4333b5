"""Many members: what one of them costs does not grow with how many others there are."""

import random

import pytest

from covey_host.gcks.roster import Enrolled, Roster
from gcks_site import LINE1, SITE, Site
from ike_peer import Peer

INBAND = SITE + LINE1 + 'rekey = "inband"\n'


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", INBAND)
    yield made
    made.store.close()


def test_a_registration_does_not_walk_over_all_members(site, monkeypatch):
    site.add()
    walks = []
    active = Roster.active
    monkeypatch.setattr(Roster, "active", lambda *of: walks.append(of) or active(*of))
    peer = Peer(site, wants=1).join().pull()
    assert walks == [] and list(site.server._groups["line1"].active()) == [peer.name] and walks


@pytest.mark.parametrize("seed", range(20))
def test_members_are_counted_as_they_come_and_go(seed):
    rng, roster = random.Random(seed), Roster("group/line1/")
    for _ in range(300):
        name = rng.choice("abcdef")
        match rng.randrange(4):
            case 0:
                roster.remove(frozenset({name, "nobody"}))
            case 1:
                stored = {}
                for member, enrolled in roster.members.items():
                    stored |= Roster("").entering(member, enrolled, {})
                roster.load(stored)
            case _:
                roster.enter(name, Enrolled(rng.randrange(3), False, rng.random() < 0.5), {})
        for era in range(3):
            active = roster.active(era)
            assert roster.count(era) == len(active)
            assert {m for m in "abcdef" if roster.is_active(m, era)} == set(active)
