"""Power-cycle-and-replay: a receiver of ours that starts anew takes nothing that was sent before.

Members and key server are ours, on one virtual clock, without sockets.
"""

import pytest

from covey.drops import name_of
from covey.membership import MEMBER
from gcks_site import PLAIN, SITE, Site
from test_eviction_members import One, Plant

NAMES = [f"m{number}" for number in range(4)]


def opened(path, text=SITE + PLAIN):
    site = Site(path, text)
    for name in NAMES:
        site.add(name)
    plant = Plant(site, NAMES)
    plant.wait(20_000)
    return plant


@pytest.fixture
def plant(tmp_path):
    made = opened(tmp_path / "state.db")
    yield made
    made.site.store.close()


def group_of(plant):
    return plant.site.server._groups["line1"]


def traffic(plant, ms, hearers, sender="m0"):
    """A packet each 250 ms, heard by all of these → the packets."""
    packets = []
    for number in range(ms // 250):
        plant.wait(250)
        payload = b"valve open %d" % number
        packet = plant.ones[sender].send(payload)
        assert not isinstance(packet, int)
        for name in hearers:
            assert plant.ones[name].receive(packet) == payload, name
        packets.append(packet)
    return packets


def cycle(plant, name, hearers, most_ms=15_000):
    """Its power fails; what is sent until it is a member again → the packets."""
    plant.ones[name] = One(plant.site, name)
    packets = []
    while plant.ones[name].it.state != MEMBER:
        packets += traffic(plant, 250, hearers)
        assert len(packets) * 250 <= most_ms
    return packets


def test_what_was_recorded_is_not_taken(plant):
    """Before, between and while it registers; all others lose nothing, and soon it hears all."""
    recorded = traffic(plant, 3_000, ["m1", "m2", "m3"])
    recorded += cycle(plant, "m1", ["m2", "m3"])
    anew = plant.ones["m1"]
    for packet in recorded:
        assert name_of(anew.receive(packet)) == "unknown_spi"
    recorded += traffic(plant, 4_000, ["m2", "m3"])  # ATD: not yet under what it has
    for packet in recorded:
        assert name_of(anew.receive(packet)) == "unknown_spi"
    traffic(plant, 1_250, ["m2", "m3"])
    live = traffic(plant, 10_000, ["m1", "m2", "m3"])
    assert {name_of(anew.receive(packet)) for packet in live} == {"replay"}
    assert isinstance(anew.send(b"I am back"), bytes)


def test_without_fresh_join_it_is(tmp_path):
    """So that the test above can fail."""
    plant = opened(tmp_path / "state.db", SITE + PLAIN + "fresh_join = false\n")
    recorded = traffic(plant, 3_000, ["m1", "m2", "m3"])
    cycle(plant, "m1", [])
    assert isinstance(plant.ones["m1"].receive(recorded[-1]), bytes)
    plant.site.store.close()


def test_several_that_start_at_once_share_one_change_of_keys(plant):
    number = group_of(plant).epoch.number
    for name in ("m1", "m2", "m3"):
        plant.ones[name] = One(plant.site, name)
    plant.wait(3_000)
    assert {one.it.state for one in plant.ones.values()} == {MEMBER}
    assert group_of(plant).epoch.number == number + 1
    plant.wait(4_000)
    traffic(plant, 3_000, ["m1", "m2", "m3"])


def test_a_sender_that_starts_again_is_silent_until_all_have_its_key(plant):
    plant.ones["m0"] = One(plant.site, "m0")
    plant.wait(3_000)
    anew = plant.ones["m0"]
    assert anew.it.state == MEMBER and isinstance(anew.send(b"too early"), int)
    plant.wait(5_000)
    traffic(plant, 3_000, ["m1", "m2", "m3"])


def test_who_has_missed_a_rekey_and_asks_by_a_new_ike_sa_makes_nobody_change_keys(plant):
    """Or in a lossy network each who comes back would send others away."""
    plant.wait(700_000)  # its IKE SA is closed
    plant.site.send(plant.site.server.rekey("line1", plant.site.now))
    plant.wait(12_000, deaf=("m2",))
    epoch = group_of(plant).epoch
    deaf = plant.ones["m2"]
    assert deaf.it.epoch != epoch.number
    before = plant.site.server.counters["authenticated"]
    deaf.receive(plant.ones["m0"].send(b"promised SPI"))
    plant.wait(10_000)
    assert plant.site.server.counters["authenticated"] == before + 1
    assert group_of(plant).epoch == epoch and deaf.it.epoch == epoch.number
    traffic(plant, 3_000, ["m1", "m2", "m3"])


def test_backward_secrecy_with_our_own_members(tmp_path):
    """Newcomers and who leaves, in one change of keys, without a lost packet."""
    plant = opened(tmp_path / "state.db", SITE + PLAIN + "backward_secrecy = true\n")
    site = plant.site
    number = group_of(plant).epoch.number
    recorded = traffic(plant, 3_000, ["m1", "m2", "m3"])
    for name in ("n0", "n1", "n2"):
        site.add(name)
        plant.ones[name] = One(site, name)
    recorded += traffic(plant, 500, ["m1", "m2", "m3"])
    plant.remove("m3")
    recorded += traffic(plant, 2_000, ["m1", "m2"])
    for name in ("n0", "n1", "n2"):
        assert plant.ones[name].it.state == MEMBER
        assert {name_of(plant.ones[name].receive(p)) for p in recorded} == {"unknown_spi"}
    traffic(plant, 3_000, ["m1", "m2"])
    traffic(plant, 3_000, ["m1", "m2", "n0", "n1", "n2"])
    assert group_of(plant).epoch.number == number + 1
    plant.remove("m2")
    traffic(plant, 8_000, ["m1", "n0", "n1", "n2"])
    site.store.close()
