"""What many leaves take, cut into messages of which each member needs one.

What happens in a group by it, to our members, in the second half.
"""

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.drops import DROP_KEY_PATH, DROP_KEY_PORTION, DROP_REKEY_PORTION
from covey.membership import MEMBER, REFUSED
from covey_host.gcks import moves
from covey_host.gcks.portions import cut
from gcks_site import Site
from test_eviction_members import NAMES, Plant
from test_keytree import Plant as Tree
from test_keytree import chain, opened_by, reaches

WRAP, TOP = 36, 68  # octets of a wrapped key, and of the Rekey SA's


def length(portion):
    return len(portion.wraps) * WRAP + len(portion.tops) * TOP


@settings(deadline=None, max_examples=100)
@given(
    st.integers(2, 5),
    st.integers(2, 60),
    st.integers(0, 8),
    st.sets(st.integers(0, 59), min_size=1, max_size=40),
    st.integers(500, 1500),
)
def test_each_who_stays_has_a_way_in_one_and_who_goes_in_none(degree, count, joins, gone, room):
    tree = Tree(degree)
    tree.admit(count)
    gone = {leaf for leaf in gone if leaf < count}
    draft = tree.draft()
    for _ in range(joins):
        draft.join()
    whole = draft.whole(gone)
    portions = cut(whole, room, WRAP, TOP)
    assert all(length(portion) <= room for portion in portions)
    for leaf, path in tree.paths.items():
        known = {node.key_id: place for place, node in enumerate(path)}
        found = [_follow(portion, known, path) for portion in portions]
        found = [new for new in found if new]
        if leaf in gone:
            assert not found
        else:
            assert found and all(new == draft.path(leaf) for new in found)
    out = set().union(*(tree.had[leaf] for leaf in gone)) if gone else set()
    air = [(portion.wraps, portion.tops) for portion in portions]
    keys = opened_by(out, [*tree.air, *air])
    assert not any(reaches(keys, message) for message in air)


def _follow(portion, known, path):
    for top in portion.tops:
        found = chain(top, portion.wraps, known)
        if found:
            new, end = found
            return new + path[known[end] :]
    return None


def test_it_costs_hardly_more_than_the_whole():
    """What comes twice is the way from a portion's place in the tree to the top."""
    tree = Tree(4)
    tree.admit(4**6)
    draft = tree.draft()
    whole = draft.whole(random.Random(1).sample(range(4**6), 100))
    portions = cut(whole, 3_700, WRAP, TOP)
    once = {(wrap.node.key_id, wrap.under.key_id) for wrap in whole.wraps}
    sent = [(wrap.node.key_id, wrap.under.key_id) for p in portions for wrap in p.wraps]
    assert set(sent) == once and 5 < len(portions) < len(once) * WRAP / 3_700 + 2
    assert len(sent) < len(once) + 6 * len(portions)
    for portion in portions:  # the lowest first: a member looks through it once
        places = {wrap.node.key_id: place for place, wrap in enumerate(portion.wraps)}
        for place, wrap in enumerate(portion.wraps):
            assert places.get(wrap.under.key_id, -1) < place


# Our own members


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Each message of a removal brings little, so that there are many."""
    monkeypatch.setattr(moves, "_FEW_ROUNDS", 0)
    monkeypatch.setattr(moves, "_portion_room", lambda *_: 170)
    site = Site(tmp_path / "state.db")
    for name in NAMES:
        site.add(name)
    made = Plant(site)
    made.wait(20_000)
    made.portions = []

    def seen(*of):
        made.portions = cut(*of)
        return made.portions

    monkeypatch.setattr(moves, "cut", seen)
    yield made
    site.store.close()


def portions_of(plant, *names):
    """These are removed; the messages before the new epoch's, for who is to lose some."""
    plant.site.send(plant.site.server.remove_members(list(names), plant.site.now))
    outbox = plant.site.server._groups["line1"]._repeats.outbox
    found = [parcel.messages[0] for parcel in outbox[:-1]]
    assert len(found) > 1 and len({data[:16] for data in found}) == 1
    assert [int.from_bytes(data[20:24]) for data in found] == list(range(len(found)))
    return found


def losing(plant, name, lost):
    """This one hears nothing of what is in `lost`."""
    one = plant.ones[name]
    hear = one.hear
    one.hear = lambda outs: hear([out for out in outs if out.data not in lost])


def test_each_verifies_one_and_nobody_stops_sending(plant):
    signed = dict.fromkeys(NAMES, 0)
    for name, one in plant.ones.items():

        def verify(*of, name=name, verify=one.it._group.terms.verifier.verify):
            signed[name] += 1
            return verify(*of)

        one.it._group.terms.verifier.verify = verify
    portions_of(plant, "m1", "m4")
    stay = [name for name in NAMES if name not in ("m1", "m4")]
    for _ in range(40):
        plant.wait(250)
        packet = plant.ones["m0"].send(b"go on")
        assert not isinstance(packet, int)
        for name in stay[1:]:
            assert plant.ones[name].receive(packet) == b"go on"
    assert [signed[name] for name in stay] == [2] * len(stay)  # and the new epoch's
    assert {plant.ones[name].it.state for name in stay} == {MEMBER}
    drops = [plant.ones[name].member.drops for name in stay]
    assert all(d.of(DROP_REKEY_PORTION) for d in drops)
    assert not any(d.of(DROP_KEY_PATH) or d.of(DROP_KEY_PORTION) for d in drops)
    now = plant.site.server._groups["line1"].epoch.number
    assert {plant.ones[name].it.epoch for name in stay} == {now}


def test_who_is_put_out_asks_and_is_refused(plant):
    portions_of(plant, "m1", "m4")
    plant.wait(10_000)
    for name in ("m1", "m4"):
        out = plant.ones[name]
        assert out.member.drops.of(DROP_KEY_PORTION) > 0 and out.it.state == REFUSED
        assert isinstance(out.receive(plant.ones["m0"].send(b"secret")), int)
        assert isinstance(out.send(b"I am still here"), int)


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("delay_ms", [0, 9_000])
def test_whose_portion_is_lost_once_gets_its_repeat_or_asks(plant, place, delay_ms):
    """The first of them, and the last, behind which there is none to come. It sends all along."""
    portions = portions_of(plant, "m1", "m4")
    hearers = [name for name in ("m0", "m2", "m3", "m5")]
    name = next(n for n in hearers if mine_of(plant, n, portions) == portions[place])
    one = plant.ones[name]
    one.it._refresh._spread_ms = lambda *_: delay_ms
    asked = plant.site.server.counters.copy()
    heard = []
    hear = one.hear

    def lossy(outs):
        lost = [out for out in outs if out.data == portions[place] and not heard]
        heard.extend(lost[:1])
        hear([out for out in outs if out not in lost[:1]])

    one.hear = lossy
    for _ in range(40):
        plant.wait(250)
        assert not isinstance(one.send(b"go on"), int)
    assert heard and one.it.epoch == plant.site.server._groups["line1"].epoch.number
    asks = place == 0 and delay_ms == 0  # as the last one came, and none had a way
    assert plant.site.server.counters["registered"] == asked["registered"] + asks


def mine_of(plant, name, portions):
    """In which portion there is a way for a member: by the Key IDs in clear, as the server has
    them."""
    group = plant.site.server._groups["line1"]
    own = {node.key_id for node in group.path(name)}
    for portion, data in zip(plant.portions, portions, strict=True):
        ends = {w.under.key_id for w in portion.wraps} | {top.key_id for top in portion.tops}
        ends -= {w.node.key_id for w in portion.wraps}
        if ends & own:
            return data
    return None


def test_whose_portion_is_lost_for_good_comes_back(plant):
    portions = portions_of(plant, "m1", "m4")
    lost = mine_of(plant, "m3", portions)
    losing(plant, "m3", {lost})
    plant.wait(10_000)
    one = plant.ones["m3"]
    one.receive(plant.ones["m0"].send(b"promised SPI"))
    plant.wait(10_000)
    assert one.it.state == MEMBER
    assert one.receive(plant.ones["m0"].send(b"again")) == b"again"


def holders(plant):
    """Who has the present keys."""
    tek = plant.site.server._groups["line1"].epoch.tek_spi
    return {n for n, one in plant.ones.items() if one.member.keys.find(tek, 0)}


def follows(plant, *stay):
    """Whether these and nobody else have the present keys, and never had to ask for them."""
    return holders(plant) == set(stay) and plant.site.server.counters["registered"] == len(NAMES)


def test_a_further_removal_meanwhile_comes_behind(plant):
    portions_of(plant, "m1", "m4")
    plant.wait(250)
    plant.remove("m5")
    told = plant.site.server.farewells(plant.site.now)
    plant.wait(1_000 * told[0]["reads_s"] + 1_000)
    assert follows(plant, "m0", "m2", "m3")


def test_a_rekey_meanwhile_comes_behind(plant):
    portions_of(plant, "m1", "m4")
    plant.wait(150)
    number = plant.site.server._groups["line1"].epoch.number
    plant.site.send(plant.site.server.rekey("line1", plant.site.now))
    plant.wait(10_000)
    assert follows(plant, "m0", "m2", "m3", "m5")
    assert {plant.ones[name].it.rekeys for name in ("m0", "m2", "m3", "m5")} == {2}
    assert plant.ones["m0"].it.epoch == number + 1


def test_an_exclusion_meanwhile_reaches_everybody(plant):
    """Some follow a portion, some don't yet: it goes out over each of their Rekey SAs."""
    portions_of(plant, "m1", "m4")
    plant.wait(150)
    policy = plant.site.policy
    group = dataclasses.replace(policy.groups["line1"], key_tree=0)
    policy = dataclasses.replace(policy, groups={"line1": group})
    plant.site.send(plant.site.server.reload(policy, plant.site.now))
    messages = {(out.data[:16], out.data[20:24]) for out in plant.site.air}
    assert len(messages) == len(plant.site.air) == 3
    plant.wait(20_000)
    assert holders(plant) == {"m0", "m2", "m3", "m5"}
