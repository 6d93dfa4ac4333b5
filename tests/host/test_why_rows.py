"""What is kept of members, row by row: who can push out, delete or mistake what."""

import pytest

from covey import report
from covey.drops import Drops
from covey_host import causes
from covey_host.errors import Problem
from covey_host.gcks import contacts, history, states
from covey_host.gcks.authority import Authority
from covey_host.gcks.contacts import Contacts
from covey_host.gcks.ledger import Ledger
from covey_host.store import sqlite
from foreign_gm import INFORMATIONAL, ForeignGM
from gcks_site import KEY, LINE1, SITE, Site
from test_why import Talker, names, standing, timed, told

SAID = report.emit_report(2, b"spi!", 1, 60, 5, 1, [], Drops())
HOUR = 3600


@pytest.fixture
def site(tmp_path):
    return timed(Site(tmp_path / "state.db", SITE + LINE1))


@pytest.fixture
def ledger(tmp_path):
    store = sqlite.create(tmp_path / "rows.db")
    store.acquire_term("test")
    yield Ledger(store, 1)
    store.close()


def write(kept):
    members, changes = kept.draw(100)
    kept._ledger.write(changes)
    kept.written(members)


# History


def test_what_takes_turns_pushes_nothing_out():
    rows = []
    history.note(rows, 0, "added", {"groups": ["g"]})
    for number in range(1, 200):
        history.note(rows, number, "registered", {"group": "g", "boots": True, "epoch": number})
        history.note(rows, number, "replaced", {"address": "a", "former": "b", "heard_s": 1})
        history.note(rows, number, "behind", {"epochs": number})
        history.note(rows, number, "caught_up", {})
    assert [row[3] for row in rows] == ["added", "registered", "replaced", "behind", "caught_up"]
    assert rows[3] == [1, 199, 199, "behind", {"epochs": 199}]


def test_rows_in_memory_and_in_the_store_are_told_as_one(ledger):
    kept, now = history.History(ledger, lambda: now[0]), [100]
    for now[0] in (100, 101, 102):
        kept.note("m", "left", group="g")
        kept.note("m", "caught_up")
    write(kept)
    for now[0] in (200, 201):
        kept.note("m", "left", group="g")
    assert kept.of("m") == [[100, 102, 3, "caught_up", {}], [100, 201, 5, "left", {"group": "g"}]]
    write(kept)
    assert kept.of("m")[1][:3] == [100, 201, 5]


def test_a_restart_long_ago_does_not_count(ledger):
    kept, now = history.History(ledger, lambda: now[0]), [0]
    for now[0] in (0, 10, 20, HOUR + 10, 3 * HOUR, 3 * HOUR + 5):
        kept.note("m", "replaced", address="a", former="b", heard_s=1)
        write(kept)
    assert kept.of("m")[0][:3] == [3 * HOUR, 3 * HOUR + 5, 2]


def test_how_often_in_which_time(site):
    site.add()
    for number in range(60):
        Talker(site, address=f"10.0.0.{1 + number % 2}")
        site.wait(100_000)
    (cause,) = causes.causes(told(site))
    assert cause.cause == "two_devices"
    assert cause.words.startswith("In the last 98 min it registered 59 times")
    assert "added" in [row["event"] for row in told(site)["history"]]


# Reports


def test_who_is_not_written_yet_is_not_pushed_out(ledger, monkeypatch):
    monkeypatch.setattr(contacts, "_MOST", 2)
    kept = Contacts(ledger, lambda: 7)
    for name in "abc":
        kept.take(name, SAID, {"g": 0})
    write(kept)
    assert [name for name, _ in ledger.each("contact/")] == ["a", "b", "c"]
    assert kept.members() == ["b", "c"] and kept.of("a").behind == {"g": 0}
    kept.take("d", SAID, {"g": 0})
    assert kept.members() == ["c", "d"]


def test_a_report_that_is_not_in_memory_is_forgotten_too(ledger):
    kept = Contacts(ledger, lambda: 7)
    kept.take("a", SAID, {"g": 0})
    write(kept)
    later = Contacts(ledger, lambda: 8)
    later.forget("a")
    later.forget("nobody")
    assert later.of("a") is None
    write(later)
    assert list(ledger.each("contact/")) == [] and Contacts(ledger, lambda: 9).of("a") is None


def test_who_is_put_out_is_not_heard(site):
    site.add()
    site.add("b")
    talker = Talker(site)
    Talker(site, "b")
    talker.report()
    site.wait(12_000)
    site.send(site.server.remove_member("press-7", site.now))
    talker.report()
    site.wait(12_000)
    assert told(site)["report"] is None and site.store.scan("contact/") == []
    assert site.server.counters["reports"] == 1


def test_who_is_put_out_is_not_told_the_current_keys(tmp_path):
    text = SITE + LINE1 + 'max_silence = "5m"\n'
    site = timed(Site(tmp_path / "state.db", text))
    site.add()
    gm = Talker(site).gm

    def told_then():
        return gm.open(site.talk(gm.seal(INFORMATIONAL, []), "press-7"), INFORMATIONAL)

    assert len(told_then()) == 1
    site.send(site.server.remove_member("press-7", site.now))
    assert told_then() == []


def test_a_report_is_of_one_group(tmp_path):
    other = LINE1.replace("line1", "line2").replace("1.32", "1.33")
    site = timed(
        Site(
            tmp_path / "state.db",
            SITE + "".join(text + 'report_interval = "5m"\n' for text in (LINE1, other)),
        )
    )
    site.add(groups=("line1", "line2"))
    talker = Talker(site)
    epoch = site.server._groups["line1"].epoch
    talker.report(spi=epoch.tek_spi, epoch=epoch.number)
    site.server._groups["line2"].admit("press-7", None, site.now)
    lags = {name: facts["lag"] for name, facts in told(site)["groups"].items()}
    assert lags == {"line1": states.CURRENT, "line2": states.UNKNOWN}
    groups = site.server.status(site.now)["groups"]
    assert groups["line1"]["lag"]["current"] == groups["line2"]["lag"]["unknown"] == 1


def test_a_report_names_its_group_by_its_sa(tmp_path):
    other = LINE1.replace("line1", "line2").replace("1.32", "1.33")
    site = timed(
        Site(
            tmp_path / "state.db",
            SITE + "".join(text + 'report_interval = "5m"\n' for text in (LINE1, other)),
        )
    )
    site.add(groups=("line1", "line2"))
    talker = Talker(site)
    groups = site.server._groups
    for sa in site.server._responder._sas.values():
        sa.registered.add("line2")
    epoch = groups["line1"].epoch
    talker.report(spi=epoch.tek_spi, epoch=epoch.number)
    assert site.server._diary.contacts.of("press-7").behind == {"line1": 0}
    talker.report(spi=b"none", epoch=epoch.number)
    assert set(site.server._diary.contacts.of("press-7").behind) == {"line1", "line2"}


def test_a_row_that_names_no_group(ledger):
    ledger.write({"contact/a": b'{"time":5,"behind":3,"report":"%s"}' % SAID.hex().encode()})
    kept = Contacts(ledger, lambda: 7)
    kept.load()
    assert kept.lag_of("a", "g", 100) == states.UNKNOWN and kept.of("a").most_behind == 0


# States


TREE = "key_tree = 2\nbackward_secrecy = true\n"


@pytest.fixture
def tree(tmp_path):
    """A group in which newcomers wait for a leaf; a and b are in it."""
    site = timed(Site(tmp_path / "state.db", SITE + LINE1 + TREE))
    for name in "abc":
        site.add(name)
    for name in "ab":
        site.come(name, 1)
        site.wait(60_000)
    return site


def test_who_waits_counts_once(tree):
    _, answer = tree.begin(ForeignGM(b"c", KEY, wants=1), "c")
    assert answer is None
    counts = standing(tree)["counts"]
    assert counts == {"member": 2, "waiting": 1, "excluded": 0, "left": 0, "never": 0}
    assert sum(counts.values()) == 3


def test_who_left_and_waits_counts_once(tree):
    tree.server._groups["line1"].leave("b", tree.now)
    assert standing(tree)["counts"]["left"] == 1
    tree.begin(ForeignGM(b"b", KEY, wants=1), "b")
    counts = standing(tree)["counts"]
    assert counts == {"member": 1, "waiting": 1, "excluded": 0, "left": 0, "never": 1}


def test_who_never_came_for_its_keys_has_not_left(tree):
    group = tree.server._groups["line1"]
    group._newcomers.wait("c", True, False, group.policy, tree.now)
    tree.send(tree.server.rekey("line1", tree.now))
    tree.wait(40_000)
    assert group._roster.members["c"].leaf is not None
    assert standing(tree)["counts"] == {
        "member": 2,
        "waiting": 0,
        "excluded": 0,
        "left": 0,
        "never": 1,
    }
    assert "left" not in names(tree, "c") and standing(tree)["absent"] == []
    again = timed(tree.restart())
    assert again.server._groups["line1"].state_of("c", again.now) == states.NEVER
    again.come("c", 1)
    assert again.server._groups["line1"]._roster.members["c"].placed == ""
    assert standing(again)["counts"]["never"] == 0


def test_who_left_and_never_came_for_its_keys_has_left(tree):
    group = tree.server._groups["line1"]
    group.leave("b", tree.now)
    group._newcomers.wait("b", True, False, group.policy, tree.now)
    tree.send(tree.server.rekey("line1", tree.now))
    tree.wait(40_000)
    assert group.state_of("b", tree.now) == states.LEFT
    assert standing(tree)["counts"]["left"] == 1


def test_who_began_anew_and_never_came_for_its_keys_is_excluded(tree):
    group = tree.server._groups["line1"]
    group._newcomers.wait("b", True, False, group.policy, tree.now)
    tree.send(tree.server.rekey("line1", tree.now))
    tree.wait(40_000)
    assert names(tree, "b")[0] == "excluded"
    assert standing(tree)["counts"] | {"never": 1} == {
        "member": 1,
        "waiting": 0,
        "excluded": 1,
        "left": 0,
        "never": 1,
    }


def test_what_stands_in_the_way_is_not_one_thing(tree):
    tree.begin(ForeignGM(b"c", KEY, wants=1), "c")
    (cause,) = [cause for cause in causes.causes(told(tree, "c")) if cause.cause == "waiting"]
    for option in ("fresh_join", "backward_secrecy", "source_auth"):
        assert f"`{option}`" in cause.advice
    words, advice = causes._REFUSALS["registration_failed"]
    assert "`source_auth`" in words and "unicast" in words and "log" in advice


# Members are counted as the store has them


class Late:
    """A store whose next write happens, and is said to have failed."""

    def __init__(self, store):
        self._store, self.fails = store, False

    def __getattr__(self, name):
        return getattr(self._store, name)

    def compare_and_swap(self, changes, term):
        done = self._store.compare_and_swap(changes, term)
        if self.fails:
            raise Problem("The disk was slow.")
        return done


@pytest.mark.parametrize("counts_between", [False, True])
def test_members_are_counted_again_after_a_write_of_unknown_outcome(tmp_path, counts_between):
    store = Late(sqlite.create(tmp_path / "state.db"))
    authority = Authority(Ledger(store))
    authority.add("a", ["g"])
    assert authority.count("g").all == 1
    for act, number in (
        (lambda: authority.add("b", ["g"]), 2),
        (lambda: authority.remove_without_server("a"), 1),
    ):
        store.fails = True
        with pytest.raises(Problem, match="slow"):
            act()
        store.fails = False
        if counts_between:
            assert authority.count("g").all == number
    authority.add("c", ["g"])
    authority.remove_without_server("b")
    assert authority.count("g") == Authority(Ledger(store)).count("g") == (1, 0)
    store.close()
