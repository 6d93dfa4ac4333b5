"""Replicas of a key server: each has an audit log of its own, and its mark in the store."""

import json
import shutil

import pytest

from covey_host import site as sites
from covey_host.audit import journal, naming, reader, rows
from covey_host.audit.chain import BEGIN
from covey_host.audit.journal import Journal
from covey_host.errors import Problem
from covey_host.gcks.ledger import Ledger
from covey_host.site import Site
from covey_host.store import location
from covey_host.vault.opening import create_store, open_store


class Plant:
    """One store, and directories of replicas that share it."""

    def __init__(self, path, monkeypatch):
        self.root, self._patch = path / "site", monkeypatch
        sites.create(self.root, "", lambda at: create_store(at, Site(self.root).key, None).close())
        self.store = open_store(Site(self.root))

    def ledger(self):
        return Ledger(self.store)

    def at(self, who):
        directory = self.root / who
        directory.mkdir(exist_ok=True)
        return directory

    def log(self, who, *events):
        """What that replica enters, in one life of it → all of its entries."""
        log = Journal(self.at(who), self.ledger(), lambda: 0.0, who=who)
        for event in events:
            log.add(event, "server")
        assert log.commit() is None
        log.mark(0, at_once=True)
        log.close()
        return [json.loads(line) for line in reader.lines(self.at(who))]

    def site(self, who):
        site = Site(self.at(who))
        site.store, site.key = self.root / "state.db", self.root / "site.key"
        return site

    def found(self, who):
        """What verify says on that replica's machine."""
        site = self.site(who)
        self._patch.setattr(location, "replica_of", lambda _: who)
        return reader.verify(site, BEGIN).found


@pytest.fixture
def plant(tmp_path, monkeypatch):
    made = Plant(tmp_path, monkeypatch)
    yield made
    made.store.close()


def test_each_has_a_log_of_its_own(plant):
    assert plant.found("north") == plant.found("south") == []
    assert [e["event"] for e in plant.log("north", "started", "rekeyed")] == ["started", "rekeyed"]
    assert [e["n"] for e in plant.log("south", "started")] == [1]
    assert [e["n"] for e in plant.log("north", "stopped")] == [1, 2, 3]
    assert plant.found("north") == plant.found("south") == []
    assert plant.ledger().read("audit/mark") == str(BEGIN).encode()  # of a key server alone


def test_what_is_cut_off_or_taken_away_is_found_on_its_machine(plant):
    plant.log("north", "started", "rekeyed")
    plant.log("south", "started")
    path = plant.at("north") / journal.NAME
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert plant.found("north") == ["Entry 2 is missing."]
    assert plant.found("south") == []
    path.unlink()
    assert plant.found("north") == ["Entries 1 to 2 are missing."]
    assert plant.log("north", "started")[0]["event"] == "cut"


def test_a_mark_that_is_missing_is_found_once_there_are_entries(plant):
    plant.log("north", "started")
    ledger = plant.ledger()
    ledger.read("audit/mark/north")
    ledger.write({"audit/mark/north": None})
    assert "audit/mark/north" in plant.found("north")[0]
    entries = plant.log("north", "started")
    assert [e["event"] for e in entries] == ["started", "cut", "started"]
    assert entries[1]["missing"] == ["audit/mark/north"]


def test_the_log_of_another_machine_is_not_this_ones(plant):
    plant.log("north", "started", "rekeyed")
    plant.log("south", "started", "rekeyed", "rekeyed")
    shutil.copy(plant.at("north") / journal.NAME, plant.at("south") / journal.NAME)
    assert plant.found("south") == ["Entry 3 is missing."]


def test_the_keys_of_macs_are_needed_even_by_who_is_new(plant):
    ledger = plant.ledger()
    ledger.read(rows.KEY)
    ledger.write({rows.KEY: None})
    assert rows.KEY in plant.found("north")[0]
    assert plant.log("north", "started")[0]["event"] == "cut"


def test_it_goes_on_under_another_name(plant):
    """As when a site moves into etcd, and back."""
    plant.log("", "started", "store copy")
    rows.hand_over(plant.ledger(), "", "north")
    shutil.copy(plant.root / journal.NAME, plant.at("north") / journal.NAME)
    assert [e["n"] for e in plant.log("north", "started")] == [1, 2, 3]
    assert plant.found("north") == []
    mark = plant.ledger().read("audit/mark/north")
    rows.hand_over(plant.ledger(), "north", "")
    rows.hand_over(plant.ledger(), "north", "")  # after a kill, once more
    assert plant.ledger().read("audit/mark") == mark
    assert plant.ledger().read("audit/mark/north") == mark


def test_a_replica_gets_another_name(plant):
    plant.log("north", "started", "stopped")
    plant.log("south", "started")
    assert plant.found("north") == plant.found("south") == []
    north, south = plant.site("north"), plant.site("south")
    naming.rename(south, "north", "west")  # whose store.toml was copied from there
    assert plant.found("north") == [] and plant.ledger().read("audit/mark/west") is None
    naming.rename(north, "north", "west")
    assert plant.ledger().read("audit/mark/north") is None
    plant.at("north").rename(plant.root / "west")
    assert [e["n"] for e in plant.log("west", "started")] == [1, 2, 3]
    assert plant.found("west") == []


@pytest.mark.parametrize(
    "own",
    [
        location.Own("a/b"),
        location.Own("x" * 64),
        location.Own("", "host:4500"),
        location.Own("", "1.2.3.999"),
    ],
)
def test_what_is_no_name_or_address_is_refused(own):
    with pytest.raises(Problem) as e:
        own.check()
    assert e.value.sentence.endswith(".") and e.value.status == 2


def test_store_toml_says_what_a_replica_is_called(tmp_path):
    site = Site(tmp_path)
    assert location.replica_of(site) == ""
    site.elsewhere.write_text('url = "etcd://localhost/x"\nid = "1"\n')
    assert location.replica_of(site) == location.own_name() != ""
    place, id = location.read(site)
    location.write(site, place, id, location.Own("north", "192.0.2.7"))
    assert location.read(site) == (place, id)
    location.write(site, place, "2")
    assert location.own_of(site) == location.Own("north", "192.0.2.7")
    assert location.replica_of(site) == "north"
    site.elsewhere.write_text('url = "etcd://localhost/x"\nadvertise = "a b"\n')
    with pytest.raises(Problem, match="can't be advertised"):
        location.own_of(site)
