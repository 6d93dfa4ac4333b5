"""Keys that change under traffic, and rekeys that are not heard: no member is left behind, and the
key server is not stormed. Figures: `.venv/bin/python tests/simulate.py --experiment loss`.
"""

import pytest

from covey import keystore
from covey.refresh import Refresh
from simulator import loss, rollover
from simulator.checker import Broken
from simulator.plant import Plant, Setting


def test_a_hundred_rekeys_lose_no_packet():
    """A thousand packets a second of four senders, on clocks that differ."""
    seen = rollover.drive(1, rollover.STILL)
    assert seen.rekeys == 100 and seen.sent > 100_000 and not seen.unsent
    assert seen.delivered == 5 * seen.sent  # by each of six but its sender, once


def test_a_hundred_rekeys_lose_nothing_that_arrives():
    """The same where a fifth of the packets is lost, and others overtake each other."""
    seen = rollover.drive(2, rollover.WINDY)
    assert seen.rekeys == 100 and not seen.unsent
    assert 0.78 < seen.delivered / (5 * seen.sent) < 0.83


@pytest.mark.parametrize("weather", [rollover.STILL, rollover.WINDY])
def test_a_rollover_without_dtd_is_found(monkeypatch, weather):
    retire = keystore.KeyStore.retire

    def at_once(keys, spi, now_ms, dtd_s):
        return retire(keys, spi, now_ms, 0)

    monkeypatch.setattr(keystore.KeyStore, "retire", at_once)
    with pytest.raises(Broken) as broken:
        rollover.drive(1, weather, rekeys=3)
    assert "rollover" in broken.value.invariants


@pytest.mark.parametrize("seed, repeats", [(1, 0), (2, 0), (3, 2), (4, 4)])
def test_half_of_the_multicast_is_lost(seed, repeats):
    """With seeds 1 and 2 all senders miss a rekey, so that no packet tells the others of it."""
    members = 60
    for one in loss.endure(seed, members=members, rekeys=5, repeats=repeats):
        assert one.missed and 100 in one.back_ms  # within the interval, all of them
        assert one.most == 1  # registrations of one member in it
        assert one.registrations < members * 0.7  # the others heard it, or a repeat in time


def test_a_member_that_asks_again_and_again_is_found(monkeypatch):
    installed = Refresh.installed

    def never_content(refresh, made, registering, now_ms):
        installed(refresh, made, registering, now_ms)
        if registering:
            refresh.soon(now_ms)

    monkeypatch.setattr(Refresh, "installed", never_content)
    with pytest.raises(Broken) as broken:
        loss.endure(1, members=10, rekeys=1)
    assert "storm" in broken.value.invariants


def test_who_was_cut_off_for_ten_rekeys_comes_back_alone():
    with Plant(1, Setting(members=20, access_points=4)) as plant:
        for machine in plant.machines:
            plant.install(machine, machine.place < 2)
            plant.switch_on(machine)
        plant.wait(5000)
        plant.cut(0)
        asleep = [machine for machine in plant.machines if machine.access_point == 0]
        for _ in range(10):
            plant.station.rekey()
            plant.wait(4000)
        newest = plant.station.epoch.number
        assert asleep and all(m.membership.epoch == newest - 10 for m in asleep)
        plant.mend(0)
        plant.wait(plant.lifetime_ms)
        plant.checker.agree()
        plant.checker.close()
