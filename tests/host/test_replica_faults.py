"""Several key servers over one store under random faults: what must hold holds, for seeds that
anybody can run again; and a server that writes without its term, or not knowing what others wrote,
is found.

    .venv/bin/python tests/simulate.py --experiment replicas --seed 3 --stories 100
"""

import pytest

from covey_host.cluster import checks
from covey_host.gcks import turns
from covey_host.gcks.ledger import Ledger
from covey_host.store import KEEP
from simulator import faults
from simulator.checker import Broken

SEEDS = 12  # that a defect has to be found in


@pytest.mark.parametrize("seed", range(6))
def test_whatever_befalls_the_servers(seed):
    plant, told = faults.endure(seed, **faults.kind(seed))
    assert all(told.done[what] for what in ("kills", "stops", "cuts", "evictions", "reboots"))
    assert plant.station.epochs > 5 and plant.checker.counts["delivered"]
    assert all(verdict.ok for verdict in checks.all_of(plant.history))
    assert len(plant.history.removals) == told.done["evictions"]


def test_a_seed_is_a_run():
    digests = {faults.endure(5)[0].checker.digest for _ in range(2)}
    assert len(digests) == 1


def without_the_term(patch):
    """A holder that was stopped, and wakes up, writes as if it were one still."""
    swap = Ledger._swap

    def careless(ledger, changes, **how):
        term, ledger.term = ledger.term, None
        try:
            swap(ledger, changes, **how)
        finally:
            ledger.term = term

    patch.setattr(Ledger, "_swap", careless)
    without_versions(patch)


def without_versions(patch):
    """Whatever others have written meanwhile is written over."""
    from simulator.faulty import FaultyStore

    do = FaultyStore._do

    def careless(it, store, name, args, kwargs):
        if name == "compare_and_swap":
            changes, term = args
            known = [(key, store.read(key)[1], value) for key, _, value in changes]
            args = ([c for c in known if c[2] is not KEEP], term)
        return do(it, store, name, args, kwargs)

    patch.setattr(FaultyStore, "_do", careless)


def without_the_turn(patch):
    """A write of a group's rows is conditional on those rows alone."""
    patch.setattr(Ledger, "_taken_turns", lambda ledger, changes: {})
    patch.setattr(Ledger, "rests_on", lambda ledger, key: None)
    assert turns


@pytest.mark.parametrize("defect", [without_the_term, without_the_turn])
def test_a_defect_is_found(defect, monkeypatch):
    defect(monkeypatch)
    with pytest.raises(Broken):
        for seed in range(SEEDS):
            faults.endure(seed, faults.STILL)
