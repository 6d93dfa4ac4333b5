"""Many members: what one of them costs does not grow with how many others there are."""

import random

import pytest

from covey_host.gcks import disclosure, policy, timers
from covey_host.gcks import roster as rosters
from covey_host.gcks.requests import Requests
from covey_host.gcks.roster import Enrolled, Roster
from covey_host.gcks.senders import Row
from foreign_gm import INFORMATIONAL
from gcks_site import LINE1, SITE, Site
from ike_peer import GSA_INBAND_REKEY, Peer

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
def test_what_is_known_of_all_members_is_kept_as_they_come_and_go(seed):
    """Against the same, looked up in all of them."""
    rng, roster = random.Random(seed), Roster("group/line1/")
    for _ in range(300):
        name = rng.choice("abcdef")
        match rng.randrange(5):
            case 0:
                roster.remove(frozenset({name, "nobody"}))
            case 1:
                stored = {}
                for member, enrolled in roster.members.items():
                    stored |= Roster("").entering(member, enrolled, {})
                if rng.random() < 0.5:
                    stored["member/old"] = (
                        b'{"era":1,"sender":true,"left":false}'  # as it once was
                    )
                roster.load(stored)
            case 2 if name in roster.members:
                roster.vacate(frozenset({name}))
            case _:
                leaf = rng.choice([None, rng.randrange(9)])
                facts = (rng.random() < 0.5 for _ in range(3))
                roster.enter(name, Enrolled(rng.randrange(3), *facts, leaf), {})
        everybody = dict(roster.members)
        gone = frozenset(rng.sample("abcdef", 2))
        for era in range(3):
            active = {m: e for m, e in everybody.items() if e.era == era and not e.left}
            assert roster.active(era) == active and roster.count(era) == len(active)
            senders = sorted(m for m, e in active.items() if e.sender)
            absent = sorted(set(everybody) - set(active))
            lists = {"members": sorted(active), "senders": senders, "absent": absent}
            assert roster.names(era, 9) == lists
            assert roster.names(era, 1) == {what: names[:1] for what, names in lists.items()}
            assert roster.counts(era) == {
                "member": len(active),
                "excluded": sum(not e.left and e.era != era for e in everybody.values()),
                "left": sum(e.left for e in everybody.values()),
            }
            assert {m for m in everybody if roster.is_active(m, era)} == set(active)
            can = bool(active) and all(e.fragments for e in active.values())
            assert roster.can_all_fragment(era) is can
            assert roster.leaving(era, gone) == {
                m: e.leaf
                for m, e in everybody.items()
                if e.era == era and e.leaf is not None and (e.left or m in gone)
            }


def test_a_sender_is_found_among_those_with_an_index():
    roster = Roster("group/line1/")
    for index, (name, left, era) in enumerate([("a", False, 1), ("b", True, 1), ("c", False, 0)]):
        row = Row(name, era, 0, 1, 1, 1)
        roster.enter(name, Enrolled(era, True, left), {index: row})
    roster.enter("listener", Enrolled(1, False, False), {})
    assert roster.has_sender(1, besides="b") and not roster.has_sender(1, besides="a")
    assert not roster.has_sender(0, besides="c") and not roster.has_sender(2, besides="a")


def test_a_start_and_a_removal_look_at_few_members(tmp_path, monkeypatch):
    site = Site(tmp_path / "state.db")
    for number in range(30):
        site.add(f"m{number}", sender=False)
        site.gm(f"m{number}")
    looked_at = []
    decode = rosters.decode
    monkeypatch.setattr(rosters, "decode", lambda row: looked_at.append(row) or decode(row))
    site = site.restart()
    assert len(looked_at) < 5
    looked_at.clear()
    site.send(site.server.remove_member("m7", site.now))
    assert 0 < len(looked_at) < 15
    site.store.close()


def crowd(site, count=30):
    """Members that have joined one after the other."""
    peers = []
    for number in range(count):
        site.add(f"m{number}", sender=False)
        peers.append(Peer(site, f"m{number}").join())
        site.wait(100)
    return peers


def test_a_timer_of_one_ike_sa_does_not_look_at_all_others(site, monkeypatch):
    crowd(site)
    site.wait(40_000)  # what was put down for half-open ones is over
    looked_at = []
    next_ms = Requests.next_ms
    monkeypatch.setattr(Requests, "next_ms", lambda *of: looked_at.append(of[1]) or next_ms(*of))
    site.wait(60_000 - 43_000)  # liveness of the first
    [asked] = {sa.identity for sa in looked_at}
    assert asked == "m0" and [out.address for out in site.unasked] == ["m0"]


def test_whoever_follows_keys_is_no_burden_on_each_message(site, monkeypatch):
    crowd(site, 5)
    site.server.keys(site.now, follow=True)
    site.wait(1)
    told = []
    of_ike_sa = disclosure.of_ike_sa
    monkeypatch.setattr(disclosure, "of_ike_sa", lambda *sa: told.append(sa) or of_ike_sa(*sa))
    site.add("late")
    late = Peer(site, "late").join().rekey_ike()
    unicast = [sa[0] for sa in told if sa[2] != sa[3]]  # else a Rekey SA
    assert unicast == [late.former[0].spi_i, late.sa.spi_i]
    keys = site.server.keys(site.now, follow=True)["keys"]
    assert {key.get("spi_i") for key in keys} >= {spi.hex() for spi in unicast}


def test_telling_many_leaves_others_their_turn(site):
    peers = crowd(site, 70)
    outs = site.server.rekey("line1", site.now)
    assert len(outs) == 64
    site.send(outs)
    assert peers[0].served()[0] == GSA_INBAND_REKEY  # answered before all have been told
    more, wait_ms = site.server.step(site.now)
    site.send(more)
    assert len(more) == 6 and wait_ms > 0
    assert [peer.served()[0] for peer in peers[1:]] == [GSA_INBAND_REKEY] * 69
    site.now += 60_000  # liveness of all at once, as after a pause
    found = []
    while True:
        more, wait_ms = site.server.step(site.now)
        found.append(len(more))
        if wait_ms:
            break
    assert found == [64, 6]


def test_a_reload_shortens_what_is_waited_for(site):
    [peer] = crowd(site, 1)
    shorter = policy.parse("liveness = 5\n" + INBAND)
    site.send(site.server.reload(shorter, site.now))
    site.wait(5_000)
    assert peer.served() == (INFORMATIONAL, [])


def test_a_fault_of_one_keeps_no_other_waiting(site, monkeypatch):
    peers = crowd(site, 5)
    step = Requests.step

    def fails(self, sa, now_ms):
        if sa.identity == "m2":
            raise ArithmeticError
        return step(self, sa, now_ms)

    monkeypatch.setattr(Requests, "step", fails)
    site.now += 62_000
    with pytest.raises(ArithmeticError):
        site.wait(0)
    site.wait(1_000)  # what was to be sent together with it is sent again
    assert [peer.name for peer in peers if peer.requests()] == ["m0", "m1", "m3", "m4"]


class Sleeper:
    wake_ms = timers.NEVER


@pytest.mark.parametrize("seed", range(20))
def test_timers_wake_each_at_its_earliest_time_once(seed):
    rng, made, now = random.Random(seed), timers.Timers(), 0
    sleepers = [Sleeper() for _ in range(8)]
    model = {}
    for _ in range(2_000):
        one = rng.choice(sleepers)
        match rng.randrange(8):
            case 0:
                made.take(one)
                model.pop(one, None)
            case 1:
                now += rng.randrange(40)
                most = rng.choice([1, 3, 100])
                found = made.due(now, most)
                late = sorted(at for at in model.values() if at <= now)[:most]
                assert len(found) == len(set(found)) and [model[one] for one in found] == late
                for sleeper in found:
                    del model[sleeper]
            case _:
                at = now + rng.randrange(1_000)
                made.put(one, at)
                model[one] = min(at, model.get(one, timers.NEVER))
        assert made.next_ms() == min(model.values(), default=timers.NEVER)
        assert len(made) <= 64 + 2 * len(sleepers)
