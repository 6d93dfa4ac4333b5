"""The clock of TESLA: what it shows, whether it goes on, and when another one begins."""

import pytest

from covey_host.errors import Problem
from covey_host.gcks.clock import FIRST_MS, Boot, Clock
from covey_host.gcks.ledger import Ledger, encode
from covey_host.store import sqlite

DAY_MS = 86_400_000


class Machine:
    def __init__(self, boot="one"):
        self.boot, self.now = boot, 5_000
        self.ahead = 1_700_000_000_000  # of the time of day
        self.stopped = 0  # between two looks at it

    def id(self):
        return self.boot

    def now_ms(self):
        return self.now

    def day_ms(self):
        now, self.now = self.now, self.now + self.stopped
        return now + self.ahead


class Chance:
    """Never the same twice, but for what is drawn first."""

    def __init__(self):
        self.drawn = 0

    def __call__(self, n):
        self.drawn += 1
        return max(0, self.drawn - 2).to_bytes(n)


@pytest.fixture
def ledger(tmp_path):
    store = sqlite.create(tmp_path / "state.db")
    yield Ledger(store)
    store.close()


def begun(ledger, machine, random=None):
    """As a start of the key server has it."""
    made = Clock(ledger, random or Chance(), machine)
    made.begin()
    return made


def test_it_begins_and_goes_on(ledger):
    machine = Machine()
    clock = begun(ledger, machine)
    assert clock.now_ms() == FIRST_MS and len(clock.name) == 4
    machine.now += 1234
    again = begun(ledger, machine, lambda n: b"none")
    assert (again.name, again.now_ms()) == (clock.name, FIRST_MS + 1234)
    clock.begin()
    assert (clock.name, clock.now_ms()) == (again.name, FIRST_MS + 1234)


@pytest.mark.parametrize("boot", ["other", None])
def test_another_boot_has_another(ledger, boot):
    clock = begun(ledger, Machine())
    machine = Machine(boot)
    machine.now = 99
    chance = Chance()
    other = begun(ledger, machine, chance)
    assert chance.drawn > 2  # the name of before was drawn first
    assert other.name != clock.name and other.now_ms() == FIRST_MS
    third = begun(ledger, machine, chance)
    assert (third.name == other.name) == (boot is not None)


def test_a_machine_that_went_back(ledger):
    """Its boot has the same name, and began later: what that clock showed would come again."""
    machine = Machine()
    clock = begun(ledger, machine)
    machine.now -= 1
    assert begun(ledger, machine, Chance()).name != clock.name


def test_one_that_is_spent(ledger):
    """The shortest intervals must be told by 31 bits."""
    machine = Machine()
    clock = begun(ledger, machine)
    name = clock.name
    machine.now += 400 * DAY_MS
    assert not clock.is_over
    machine.now += 18 * DAY_MS
    assert clock.is_over and clock.now_ms() // 20 < 1 << 31
    clock.begin()
    assert clock.name != name and clock.now_ms() == FIRST_MS
    machine.now += 418 * DAY_MS
    assert begun(ledger, machine).now_ms() == FIRST_MS  # spent while no key server ran


@pytest.mark.parametrize("runs", [True, False])
def test_a_machine_that_was_paused(ledger, runs):
    """The same boot, but time has passed of which its clock knows nothing."""
    machine = Machine()
    clock = begun(ledger, machine)
    name, shows = clock.name, clock.now_ms()
    machine.ahead += 100
    machine.now += 60_000
    assert not clock.is_over
    machine.ahead += 1
    if runs:
        assert clock.is_over
        clock.begin()
    else:
        clock = begun(ledger, machine)
    assert clock.name != name and clock.now_ms() == FIRST_MS < shows + 60_000
    assert not clock.is_over


def test_the_time_of_day_is_set(ledger):
    machine = Machine()
    clock = begun(ledger, machine)
    machine.ahead -= 3_600_000
    assert not clock.is_over
    machine.ahead += 101  # since then it stood still
    assert clock.is_over and begun(ledger, machine).name == clock.name  # that start knows no more


def test_who_is_stopped_while_it_looks_raises_no_alarm(ledger):
    machine = Machine()
    machine.stopped = 5_000
    clock = begun(ledger, machine)
    for _ in range(3):
        assert not clock.is_over
    machine.stopped = 0
    assert not clock.is_over


def test_a_store_of_before_there_was_a_time_of_day(ledger):
    machine = Machine()
    facts = {"name": b"ours", "boot": "one", "offset_ms": FIRST_MS}
    ledger.write({"clock": encode(facts)})
    clock = begun(ledger, machine)
    assert clock.name == b"ours" and not clock.is_over
    machine.ahead += 101
    assert clock.is_over


def test_a_store_that_fails(ledger):
    clock = begun(ledger, Machine())
    ledger.write({"clock": None})
    other = Clock(Ledger(ledger._store), Chance(), Machine("other"))
    ledger.write({"clock": b"{}"})
    other._ledger.read = lambda key: None  # it has not seen that
    with pytest.raises(Problem):
        other.begin()
    assert not other.name and clock.name


def test_this_machine():
    here, again = Boot(), Boot()
    assert here.id() == again.id() and len(here.id()) == 36
    assert 0 <= again.now_ms() - here.now_ms() < 10_000
    assert 0 <= again.day_ms() - here.day_ms() < 10_000
