"""Several key servers over one store under random faults: what must hold holds, for seeds that
anybody can run again; and a server that writes without its term, or over what others wrote, is
found.

    .venv/bin/python tests/simulate.py --experiment replicas --seed 3 --stories 100
"""

import pytest

from covey_host.cluster import checks
from covey_host.gcks.epoch import decode_state
from covey_host.store import Fenced
from replicas import Replicas
from simulator import faults
from simulator import replicas as shared_plant
from simulator.checker import Broken
from simulator.faulty import FaultyStore

SEEDS = 6  # that the defect has to be found in


@pytest.mark.parametrize("seed", range(6))
def test_whatever_befalls_the_servers(seed):
    plant, told = faults.endure(seed, **faults.kind(seed))
    assert all(told.done[what] for what in ("kills", "stops", "cuts", "evictions", "reboots"))
    assert plant.station.epochs > 5 and plant.checker.counts["delivered"]
    assert all(verdict.ok for verdict in checks.all_of(plant.history))
    assert len(plant.history.removals) == told.done["evictions"]


def test_a_seed_is_a_run():
    luck = faults.Luck(seconds=20, members=6)
    digests = {faults.endure(5, luck)[0].checker.digest for _ in range(2)}
    assert len(digests) == 1


class Overtaken:
    """A store under which, as soon as armed, another one writes before a write of this one, and
    has the term after it."""

    def __init__(self, store):
        self.before = self.after = None
        self.written = []  # (keys, term), since
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def compare_and_swap(self, changes, term):
        if self.before is None:
            return self._store.compare_and_swap(changes, term)
        before, self.before = self.before, None
        before()
        done = self._store.compare_and_swap(changes, term)
        self.after()
        self.before = lambda: None
        self.after = lambda: None
        self.written.append(done and term)
        return done


def epoch_of(one):
    return decode_state(one.store.read("group/line1/state")[0])[0].number


@pytest.mark.parametrize("command", ["rekey", "remove"])
def test_who_loses_the_term_while_it_catches_up_does_nothing_more(tmp_path, command):
    site = Replicas(tmp_path / "state.db", "ab", wrap=Overtaken)
    holder = site.settle()
    (other,) = site.followers
    site.add("press", "drill")
    site.wait(300)
    site.come("press", holder)
    site.wait(300)
    gm, auth = site.begun("drill", other)
    holder.store.before = lambda: other.talk(auth, "drill")
    holder.store.after = lambda: other.replica.take(site.now)
    epoch = epoch_of(other)
    with pytest.raises(Fenced):
        if command == "rekey":
            holder.server.rekey("line1", site.now)
        else:
            holder.server.remove_members(["press"], site.now)
    assert holder.store.written == [0] and not holder.is_holder and other.is_holder
    assert epoch_of(other) == epoch
    assert not holder.server.authority.find("press").removed


class WithoutTheTerm(FaultyStore):
    """Whatever is to be conditional on the term is not: who was stopped, and wakes up, writes."""

    def _do(self, store, name, args, kwargs):
        if name == "compare_and_swap":
            args = args[0], None
        return super()._do(store, name, args, kwargs)


class WithoutVersions(FaultyStore):
    """Whatever others have written meanwhile is written over."""

    def _do(self, store, name, args, kwargs):
        if name == "compare_and_swap":
            changes, term = args
            args = [(key, store.read(key)[1], value) for key, _, value in changes], term
        return super()._do(store, name, args, kwargs)


@pytest.mark.parametrize(
    "defect, expected, first",
    [
        (WithoutTheTerm, "one lineage of KEKs", 8),
        (WithoutVersions, "no (key, nonce) pair is used twice", 6),
    ],
)
def test_a_defect_is_found(defect, expected, first, monkeypatch):
    monkeypatch.setattr(shared_plant, "FaultyStore", defect)
    found = set()
    for seed in range(first, first + SEEDS):
        try:
            faults.endure(seed, faults.STILL)
        except Broken as broken:
            found |= set(broken.invariants)
        except IndexError:  # of a key tree that two have written over each other
            found.add("a crash")
        if expected in found:
            return
    pytest.fail(f"only {found}")
