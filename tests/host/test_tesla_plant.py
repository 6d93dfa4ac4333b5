"""TESLA from end to end: our members, our key server, bad clocks, and a network that loses much."""

from itertools import pairwise

import pytest

from covey.drops import DROP_UNSAFE
from covey_host.gcks.clock import FIRST_MS

from gcks_site import LINE1, SITE, Site
from tesla_plant import Plant

TESLA = 'source_auth = "tesla"\n'
INTERVAL_MS, LAG = 100, 2


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "state.db", SITE + LINE1 + TESLA)


def all_confirmed(plant):
    """Of each sender all that arrived in time to wait."""
    for one in plant.ones.values():
        assert one.kept or one.sends
        assert set(one.kept) == set(one.confirmed), set(one.kept) ^ set(one.confirmed)
        assert not one.refused


def longest_gap_ms(plant, name, sender):
    """Between two packets of a sender that this one confirmed, by when they were sent."""
    one = plant.ones[name]
    at = [
        ms for payload, (ms, by) in plant.sent.items() if by == sender and payload in one.confirmed
    ]
    return max(after - before for before, after in pairwise(at))


def test_a_fifth_is_lost_and_all_else_is_confirmed(site):
    plant = Plant(site, ["press", "desk"], ["valve", "drill"], loss=0.2)
    plant.settle()
    plant.wait(30_000, speak=["press", "desk"])
    plant.wait(3_000)
    all_confirmed(plant)
    for one in plant.ones.values():
        sent = plant.sent_by(*{"press", "desk"} - {one.name})
        assert 0.75 < len(one.confirmed) / len(sent) < 0.85
        delays = sorted(one.confirmed.values())
        assert LAG * INTERVAL_MS / 2 < delays[len(delays) // 2] < LAG * INTERVAL_MS * 3 / 2


def test_one_packet_is_enough(site):
    """Nothing follows it: what is owed discloses its key, though much of that is lost."""
    plant = Plant(site, ["press"], ["valve", "drill"])
    plant.settle()
    for n in range(20):
        plant.loss = 0.0
        plant.ones["press"].send(b"only %d" % n)
        plant.wait(10)
        plant.loss = 0.2
        plant.wait(3_000)
    all_confirmed(plant)


def test_one_chain_follows_another_without_a_gap(tmp_path):
    """Over two borders of segments nothing that was sent is left unconfirmed."""
    fast = 'tesla_interval = "40ms"\ntesla_chain = 12\n'
    site = Site(tmp_path / "state.db", SITE + LINE1 + TESLA + fast)
    plant = Plant(site, ["press"], ["valve"], most_delay_ms=5)
    plant.settle()
    segment_ms = 40 << 12
    for _ in range(2):
        left_ms = segment_ms - site.server._clock.now_ms() % segment_ms
        plant.wait((left_ms - 5_000) % segment_ms)
        begun = len(plant.sent)
        plant.wait(10_000, speak=["press"], every_ms=25)
        plant.wait(1_000)
        valve = plant.ones["valve"]
        assert len(plant.sent) >= begun + 390
        assert set(valve.confirmed) == set(plant.sent_by("press")) and not valve.refused


def test_the_key_server_is_killed_and_nobody_notices(site):
    """The clock goes on: what is sent meanwhile, and under new keys, is confirmed."""
    plant = Plant(site, ["press"], ["valve", "drill"])
    plant.settle()
    plant.wait(5_000, speak=["press"])
    name = plant.ones["valve"].it.keeper.timing.clock
    plant.restart(later_ms=0)
    plant.wait(200_000, speak=["press"], every_ms=100)
    plant.wait(2_000)
    for who in ("valve", "drill"):
        assert plant.ones[who].it.keeper.timing.clock == name
        assert longest_gap_ms(plant, who, "press") <= 200
    assert plant.site.server.counters["time_told"] >= 6


def test_the_machine_of_the_key_server_boots(site):
    """Another clock, which members hear of by the first rekey, and ask for before it is used."""
    plant = Plant(site, ["press"], ["valve", "drill"])
    plant.settle()
    plant.wait(5_000, speak=["press"])
    name = plant.ones["valve"].it.keeper.timing.clock
    plant.restart(boot="boot-2", later_ms=0)
    plant.wait(120_000, speak=["press"], every_ms=100)
    plant.wait(2_000)
    for who in ("valve", "drill"):
        assert plant.ones[who].it.keeper.timing.clock != name
        assert plant.ones[who].it.state_name == "member"
        assert longest_gap_ms(plant, who, "press") <= 3_000


def test_a_clock_pulled_by_answers_that_are_held_back(site):
    """Whoever delays answers makes a member unsure, and never wrong: it says so, and sends nothing."""
    plant = Plant(site, ["press"], ["valve", "drill"])
    plant.slow["valve"] = 300
    plant.until(lambda: all(plant.ones[name].is_ready for name in ("press", "drill")))
    plant.wait(5_000, speak=["press"])
    valve = plant.ones["valve"]
    assert valve.it.state_name == "untimed" and not valve.confirmed and not valve.kept
    assert set(valve.member.drops.as_dict()) >= {"no_clock"}
    assert "valve" in plant.site.server.status(plant.site.now)["groups"]["line1"]["members"]
    plant.slow.clear()
    plant.settle()
    before = len(plant.sent)
    plant.wait(2_000, speak=["press"])
    plant.wait(1_000)
    assert set(plant.sent_by("press")[before:]) <= set(valve.confirmed)


def test_packets_that_are_held_back_until_their_key_is_out(site):
    plant = Plant(site, ["press"], ["valve", "drill"])
    plant.settle()
    plant.slow["valve"] = 400
    plant.wait(3_000, speak=["press"])
    plant.wait(2_000)
    valve = plant.ones["valve"]
    assert not valve.confirmed and not valve.kept and valve.member.drops.of(DROP_UNSAFE) > 50
    assert set(plant.ones["drill"].confirmed) == set(plant.sent_by("press"))


def test_a_member_that_lies(site):
    """It has the group's key, what the sender has disclosed, and every packet."""
    plant = Plant(site, ["press"], ["valve", "spy"])
    plant.settle()
    press, spy, valve = (plant.ones[name] for name in ("press", "spy", "valve"))
    heard = []
    spy.hear = heard.append
    plant.wait(2_000, speak=["press"])
    plant.wait(2_000)
    sa = spy.member.keys.live()[0]
    his = press.member.keys.sending
    text = bytearray(heard[-1])
    assert sa.context.open(text, 0, 8, len(text) - 32)
    first = b"\xff" not in text and 24
    trailer = sa.auth.trailer
    end = 24 + 11 + trailer if len(heard[-1]) else first
    lies = []
    for number in (1, 5, his.next_seq, his.next_seq + 500):
        for taken in (bytes(trailer), bytes(text[end - trailer : end])):
            lies.append((number, taken))
    for number, taken in lies:
        lie = forged(sa, his.sender_id, number, b"press 999999" + taken)
        assert valve.hear(lie) < 0
    plant.wait(3_000)
    assert b"press 999999" not in valve.confirmed
    before = len(plant.sent)
    plant.wait(2_000, speak=["press"])
    plant.wait(1_000)
    assert set(plant.sent_by("press")[before:]) <= set(valve.confirmed)  # no number was burned
