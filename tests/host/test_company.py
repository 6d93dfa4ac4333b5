"""What replicas of the key server say of themselves, and when one is taken to be gone."""

import json

import pytest

from covey_host.gcks.company import LIVES_MS, Company, Said, parse
from covey_host.store import Replica

NORTH = Said("192.0.2.1", ("0.0.0.0:4500",), "m1", 7, 90, 12, False, True)
SOUTH = Said("192.0.2.2", ("0.0.0.0:4500",), "m2", 8, 80, None, True, True)


def rows(**said):
    return [Replica(name, facts.emit(), version) for name, (facts, version) in said.items()]


@pytest.fixture
def company():
    made = Company("north")
    made.hear(rows(north=(NORTH, 1), south=(SOUTH, 2)), 1000)
    return made


def test_what_is_said_is_read():
    assert parse(NORTH.emit()) == NORTH


@pytest.mark.parametrize("at", ["1.2.3.999", "1.2.3", "a b", "", "\n", "x" * 300, "١.2.3.4"])
def test_where_nobody_can_be_found_is_nowhere(at):
    assert parse(Said(at, takes=True).emit()) == Said(takes=True)


@pytest.mark.parametrize(
    "facts",
    [b"", b"?", b"[]", b"7", b'{"at": 1}', json.dumps({"at": "a", "listen": 3}).encode(), b"\xff"],
)
def test_what_can_not_be_read_was_not_said(facts):
    assert parse(facts) == Said()


def test_members_are_sent_to_others_that_live_and_take_some(company):
    assert company.hosts(1000, NORTH.at) == ("192.0.2.2",)
    assert company.hosts(1000 + LIVES_MS, NORTH.at) == ()
    company.hear(rows(south=(Said(takes=True), 3)), 1000)
    assert company.hosts(1000, NORTH.at) == ()  # nobody knows where it is
    assert company.others(1000)
    company.hear(rows(south=(NORTH, 4)), 1000)
    assert company.hosts(1000, NORTH.at) == () != company.others(1000)  # the same host
    leaves = Said("192.0.2.2", takes=False)
    company.hear(rows(south=(leaves, 5)), 1000)
    assert company.hosts(1000, NORTH.at) == ()


def test_a_version_that_stands_still_is_no_sign_of_life(company):
    later = 1000 + LIVES_MS
    company.hear(rows(north=(NORTH, 9), south=(SOUTH, 2)), later - 1)
    assert (
        company.hosts(later - 1, NORTH.at) == ("192.0.2.2",)
        and company.hosts(later, NORTH.at) == ()
    )
    company.hear(rows(south=(SOUTH, 3)), later)
    assert company.hosts(later, NORTH.at) == ("192.0.2.2",)


def test_what_is_shown(company):
    north, south = company.shown(1500)
    assert (north["replica"], north["leads"], north["lag_ms"]) == ("north", False, 12)
    assert (south["replica"], south["leads"], south["lag_ms"]) == ("south", True, None)
    assert (south["at"], south["process"], south["heard_ms"]) == ("192.0.2.2", 8, 500)
    assert company.shown(1000 + LIVES_MS) == []
