"""Messages that arrive at once are written by one sync, and nobody is answered before that.

The store is the real one; members are another implementation (foreign_gm.py).
"""

import pytest

from covey_host.errors import Problem
from covey_host.gcks.ledger import Ledger
from covey_host.store import Fenced, sqlite
from foreign_gm import GSA_AUTH, INFORMATIONAL, ForeignGM
from gcks_site import KEY, LINE1, PLAIN, SITE, CutStore, FullDisk, Killed, Site

NAMES = [f"m{number}" for number in range(6)]


class Counting(FullDisk):
    """How often it was written to."""

    writes = 0

    def compare_and_swap(self, changes, term):
        self.writes += 1
        return super().compare_and_swap(changes, term)


@pytest.fixture
def site(tmp_path):
    made = populated(tmp_path / "state.db")
    yield made
    made.store.close()


def populated(path, text=SITE + LINE1, wrap=Counting):
    made = Site(path, text, wrap)
    for name in NAMES:
        made.add(name)
    return made


def begun(site, names=NAMES):
    """Members, each behind IKE_SA_INIT: {name: (the member, its GSA_AUTH)}."""
    found = {}
    for name in names:
        gm = site.connect(ForeignGM(name.encode(), KEY, wants=1), name)
        found[name] = gm, gm.gsa_auth()
    return found


def at_once(site, messages):
    """{address: message} → {address: answer}"""
    outs = []
    with site.server.together(site.now) as late:
        for address, data in messages.items():
            outs += site.server.receive(data, address, site.now)
    outs += late
    return {out.address: out.data for out in outs if out.address is not None}


def take(gm, answer):
    return gm.take_group(gm.check_identity(gm.open(answer, GSA_AUTH)))


def members_of(site):
    return set(site.server._groups["line1"].active())


def test_one_write_for_all_that_came_at_once(site):
    coming = begun(site)
    before = site.store.writes
    answers = at_once(site, {name: auth for name, (_, auth) in coming.items()})
    assert site.store.writes == before + 1
    for name, (gm, _) in coming.items():
        take(gm, answers[name])
    ids = [gm.sender_ids[0] for gm, _ in coming.values()]
    assert len(set(ids)) == len(NAMES)
    told = [facts["member"] for event, facts in site.server.events if event == "registered"]
    assert sorted(told) == NAMES
    again = site.restart()
    assert members_of(again) == set(NAMES)
    again.store.close()


@pytest.mark.parametrize("lies", [False, True])
def test_nobody_was_heard_where_that_write_fails(site, lies):
    """lies: it has happened all the same. Either way nobody knows, and all may come anew."""
    coming = begun(site)
    site.store.full, site.store.lies = True, lies
    with pytest.raises(Problem, match="disk is full"):
        at_once(site, {name: auth for name, (_, auth) in coming.items()})
    site.store.full = False
    assert not [event for event, _ in site.server.events if event == "registered"]
    assert site.server.counters["unheard"] == len(NAMES)
    for name, (_, auth) in coming.items():  # no answer is left in a cache
        assert site.talk(auth, name) is None
    site.wait(10)
    assert members_of(site) == (set(NAMES) if lies else set())
    ids = set()
    for name in NAMES:
        gm = ForeignGM(name.encode(), KEY, wants=1)
        site.register(gm, name)
        ids.add(gm.sender_ids[0])
    assert len(ids) == len(NAMES)
    assert members_of(site) == set(NAMES)


def test_an_ike_sa_that_asked_for_nothing_of_the_store_stays(site):
    old = site.gm("m0")
    coming = begun(site, ["m1"])
    alive = old.seal(INFORMATIONAL, [])
    site.store.full = True
    with pytest.raises(Problem):
        at_once(site, {"m0": alive, "m1": coming["m1"][1]})
    site.store.full = False
    assert old.open(site.talk(alive, "m0"), INFORMATIONAL) == []


def test_new_keys_take_along_what_came_before_them(site):
    """A rekey is durable on return, whatever waits for the end of together()."""
    coming = begun(site)
    group = site.server._groups["line1"]
    first = group.epoch.number
    with pytest.raises(ZeroDivisionError), site.server.together(site.now):
        for name, (_, auth) in coming.items():
            site.server.receive(auth, name, site.now)
        group.rekey(site.now)
        raise ZeroDivisionError
    again = site.restart()
    assert members_of(again) == set(NAMES)
    assert again.server._groups["line1"].epoch.number == first + 2  # and one more by its start
    again.store.close()


def test_what_a_rekey_could_not_write_is_lost_with_it(site):
    coming = begun(site)
    group = site.server._groups["line1"]
    before = group.epoch
    with pytest.raises(Problem), site.server.together(site.now):
        for name, (_, auth) in coming.items():
            site.server.receive(auth, name, site.now)
        site.store.full = True
        with pytest.raises(Problem, match="disk is full"):
            group.rekey(site.now)
        site.store.full = False
        with pytest.raises(Problem, match="lost"):
            group.rekey(site.now)
    site.wait(10)
    assert members_of(site) == set() and group.epoch == before
    site.register(ForeignGM(b"m0", KEY, wants=1), "m0")
    assert members_of(site) == {"m0"}


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_the_write(tmp_path, after):
    path = tmp_path / "state.db"
    populated(path).store.close()
    stores = []

    def wrap(store):
        stores.append(CutStore(store, 1 << 60, after=after))
        return stores[-1]

    site = Site(path, SITE + LINE1, wrap)
    coming = begun(site)
    stores[0]._left = 1
    with pytest.raises(Killed):
        at_once(site, {name: auth for name, (_, auth) in coming.items()})
    site.store.close()
    again = Site(path, SITE + LINE1, now=site.now + 1000)
    assert members_of(again) == (set(NAMES) if after else set())
    again.store.close()


def test_those_who_waited_for_keys_are_written_together(tmp_path):
    """fresh_join: all who come wait for one rekey; step() then answers them."""
    site = populated(tmp_path / "state.db", SITE + PLAIN)
    site.gm("m0", wants=1)
    site.wait(60_000)
    coming = begun(site, NAMES[1:])
    assert at_once(site, {name: auth for name, (_, auth) in coming.items()}) == {}
    before = site.store.writes
    answers = {}
    while len(answers) < len(coming):
        outs, wait_ms = site.server.step(site.now)
        answers |= {o.address: o.data for o in outs if o.address and o.data[18] == GSA_AUTH}
        site.now += max(1, wait_ms)
    for name, (gm, _) in coming.items():
        take(gm, answers[name])
    beside = 2  # history
    assert site.store.writes - before <= 2 + beside  # the rekey, and all of them
    site.store.close()


def test_a_server_whose_term_is_over_answers_nobody(site):
    coming = begun(site)
    site.store.acquire_term("another")
    with pytest.raises(Fenced):
        at_once(site, {name: auth for name, (_, auth) in coming.items()})


def test_the_ledger_shows_what_it_holds_back(tmp_path):
    store = sqlite.create(tmp_path / "state.db")
    ledger, other = Ledger(store), Ledger(store)
    ledger.write({"a/1": b"one", "a/2": b"two"})
    with ledger.together():
        ledger.write({"a/1": b"uno", "a/2": None, "a/3": b"tre"}, later=True)
        assert ledger.read("a/1") == b"uno" and ledger.read("a/2") is None
        assert ledger.scan("a/") == {"1": b"uno", "3": b"tre"}
        assert other.scan("a/") == {"1": b"one", "2": b"two"}
    assert other.scan("a/") == {"1": b"uno", "3": b"tre"}
    ledger.write({"a/3": b"drei"}, later=True)  # by itself: at once
    assert other.read("a/3") == b"drei"
    store.close()


def test_many_rows_read_at_once_are_as_if_read_one_by_one(tmp_path):
    store = sqlite.create(tmp_path / "state.db")
    store.compare_and_swap([(key, 0, key.encode()) for key in "abcd"], None)
    ledger = Ledger(store)
    assert ledger.read_many(["a", "x", "b"]) == {"a": b"a", "x": None, "b": b"b"}
    ledger.write({"a": b"2", "b": None, "x": b"1"})
    with pytest.raises(Problem, match="was not written"), ledger.together():
        ledger.write({"a": b"3"}, later=True)
        assert ledger.read("c") == b"c"
        other = store.compare_and_swap([("c", store.read("c")[1], b"of another")], None)
        assert ledger.read_many(["a", "c", "d"]) == {"a": b"3", "c": b"c", "d": b"d"}
        assert ledger.read("d") == b"d"
        with pytest.raises(Problem, match="changed by another program"):
            ledger.write({"c": b"mine"})
    assert store.read("c") == (b"of another", other)
    store.close()
