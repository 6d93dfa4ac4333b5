"""The policy that replicas share: in the store, and only `listen` is each machine's own."""

import pytest

from covey_host.errors import Problem
from covey_host.gcks import policy, sitepolicy
from covey_host.gcks.ledger import Ledger
from covey_host.gcks.policyvalues import Listen
from covey_host.store import sqlite
from gcks_site import LINE1, SITE

HERE = (Listen("192.0.2.1", 4500, True),)


def test_listen_is_each_machines_own():
    text = SITE + 'listen = ["192.0.2.9:4500"]\n' + LINE1
    made = sitepolicy.parse(text, HERE)
    assert made.listen == HERE and list(made.groups) == ["line1"]
    assert sitepolicy.is_same(made, policy.parse(text))
    assert not sitepolicy.is_same(made, policy.parse(text + "lifetime = 7200\n"))


def test_it_is_a_row_of_the_store(tmp_path):
    ledger = Ledger(sqlite.create(tmp_path / "state.db"))
    assert sitepolicy.read(ledger) is None
    sitepolicy.write(ledger, SITE)
    assert sitepolicy.read(ledger) == SITE
    sitepolicy.write(ledger, SITE + LINE1)
    assert sitepolicy.read(Ledger(ledger._store)) == SITE + LINE1
    for _ in range(2):
        sitepolicy.forget(ledger)
        assert sitepolicy.read(ledger) is None


def test_a_newer_coveys_is_refused_in_one_sentence():
    with pytest.raises(Problem, match="older than the others") as e:
        sitepolicy.parse(SITE + "later = 1\n", HERE)
    assert "\n" not in e.value.sentence
