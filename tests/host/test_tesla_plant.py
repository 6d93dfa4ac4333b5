"""TESLA from end to end: our members, our key server, bad clocks, a network that loses much."""

from itertools import pairwise

import pytest

from covey.chainhash import mac_key
from covey.cmac import CMACContext
from covey.drops import (
    DROP_EARLY,
    DROP_REPLAY,
    DROP_SOURCE,
    DROP_UNPROVEN,
    DROP_UNSAFE,
    WAITS,
)
from covey.keywork import KeyWork
from gcks_site import LINE1, SITE, Site
from tesla_plant import Plant
from test_source_auth import forged

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
    plant.loss = 0.0  # but for the last keys, which nothing follows
    plant.wait(3_000)
    all_confirmed(plant)
    for one in plant.ones.values():
        sent = plant.sent_by(*{"press", "desk"} - {one.name})
        assert 0.75 < len(one.confirmed) / len(sent) < 0.85
        delays = sorted(one.confirmed.values())
        assert LAG * INTERVAL_MS / 2 < delays[len(delays) // 2] < LAG * INTERVAL_MS * 3 / 2


def test_one_packet_is_enough(site):
    """Nothing follows it: its key is owed, and told five times, of which one must arrive."""
    plant = Plant(site, ["press"], ["valve", "drill"])
    plant.settle()
    for lost in (0, 1, 4, 5):
        plant.ones["press"].send(b"lone %d" % lost)
        plant.wait(10)
        plant.lose_next = lost
        plant.wait(3_000)
        assert not plant.lose_next
    for name in ("valve", "drill"):
        one = plant.ones[name]
        assert list(one.confirmed) == [b"lone 0", b"lone 1", b"lone 4"]
        assert one.refused == [DROP_UNPROVEN]


def test_one_chain_follows_another_without_a_gap(tmp_path):
    """Over two borders of segments nothing that was sent is left unconfirmed."""
    fast = 'tesla_interval = "40ms"\ntesla_lag = 3\ntesla_chain = 12\n'
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


def test_the_machine_of_the_key_server_is_paused(site):
    """Another clock, too; and who comes by it confirms what is sent now."""
    plant = Plant(site, ["press"], ["valve"])
    plant.settle()
    plant.wait(5_000, speak=["press"])
    name = plant.ones["valve"].it.keeper.timing.clock
    site.server._boot.stood_ms += 20_000
    site.add("drill", sender=False)
    plant.begin("drill", False)
    plant.wait(60_000, speak=["press"], every_ms=100)
    plant.wait(2_000)
    for who in ("valve", "drill"):
        assert plant.ones[who].it.keeper.timing.clock != name
        assert plant.ones[who].it.state_name == "member"
        assert longest_gap_ms(plant, who, "press") <= 3_000


def test_a_clock_pulled_by_answers_that_are_held_back(site):
    """Whoever delays answers makes a member unsure, never wrong: it says so, and sends nothing."""
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
    """It has the group's key, all that was disclosed, and every packet."""
    plant = Plant(site, ["press"], ["valve", "spy"])
    plant.settle()
    plant.wait(12_000)  # until there is one SA
    press, spy, valve = (plant.ones[name] for name in ("press", "spy", "valve"))
    heard = []
    spy.hear = heard.append
    plant.wait(2_000, speak=["press"])
    payload, interval, mac, key = opened(spy, heard[-1])
    number = press.member.keys.sending.next_seq
    for told, at in ((interval - LAG, interval - LAG), (interval - LAG, interval)):
        trailer = at.to_bytes(4) + made_with(spy, key, told, number, at) + key
        got = valve.hear(forged(spy, press, LIE, number=number, trailer=trailer))
        assert got == (DROP_UNSAFE if at == told else WAITS)
        number += 1
    ahead = (interval + 20).to_bytes(4) + mac + key
    assert valve.hear(forged(spy, press, LIE, number=number, trailer=ahead)) == DROP_EARLY
    taken = interval.to_bytes(4) + mac + key
    assert valve.hear(forged(spy, press, payload, number=number, trailer=taken)) == WAITS
    plant.wait(1_000, speak=["press"])
    plant.wait(3_000)
    assert len(valve.refused) == 2  # as replays where the genuine one was judged before
    assert set(valve.refused) <= {DROP_SOURCE, DROP_REPLAY}
    assert set(valve.confirmed) == set(plant.sent_by("press"))  # none of its numbers was burned


LIE = b"press 999999"


def opened(one, data):
    """Payload, interval, MAC and key of a packet, in clear."""
    text = bytearray(data)
    assert one.member.keys.live()[0].context.open(text, 0, 8, len(text) - 32)
    n = int.from_bytes(text[20:22]) - 8
    text = bytes(text[24 : 24 + n])
    return text[:-28], int.from_bytes(text[-28:-24]), text[-24:-16], text[-16:]


def made_with(one, key, told, number, interval):
    """The MAC of LIE under another's key, that of the interval `told`."""
    sa = one.member.keys.live()[0]
    (index,) = one.it.keeper.chains._of
    salt = one.it.keeper.chains.of(index, told).salt
    context = CMACContext(mac_key(salt, b"press", key))
    packet = bytearray(forged(one, one.plant.ones["press"], LIE, number=number, trailer=b""))
    assert sa.context.open(packet, 0, 8, len(packet) - 32)
    packet[24 + len(LIE) : 28 + len(LIE)] = interval.to_bytes(4)
    out = bytearray(packet) + bytearray(16)
    context.sign(out, len(LIE) + 4, sa.auth._epoch, len(packet), 8)
    return bytes(out[len(packet) : len(packet) + 8])


def test_who_comes_shortly_before_a_chain_ends_needs_no_key_server_for_the_next(tmp_path):
    """What its first questions bring goes beyond the border, though the sender came later."""
    site = Site(tmp_path / "state.db", SITE + LINE1 + TESLA)
    plant = Plant(site, ["press"], ["valve", "drill"])
    segment_ms = INTERVAL_MS << 14
    clock = site.server._clock
    clock._offset_ms += segment_ms - clock.now_ms() % segment_ms - 25_000
    plant.settle()
    plant.wait(2_000, speak=["press"])
    plant.to_server = lambda one, data: None
    plant.wait(30_000, speak=["press"])
    assert 0 < clock.now_ms() % segment_ms < 30_000
    plant.wait(2_000)
    for name in ("valve", "drill"):
        assert set(plant.ones[name].confirmed) == set(plant.sent_by("press"))


def test_an_answer_comes_while_keys_are_in_work(tmp_path, monkeypatch):
    """Who listens for silence takes it then, and the time is asked for again."""
    site = Site(tmp_path / "state.db", SITE + LINE1 + TESLA + 'max_silence = "60s"\n')
    plant = Plant(site, ["press"], ["valve"])
    plant.settle()
    one = plant.ones["valve"]
    plant.until(lambda: one.it._ike.say((), one.ticks), speak=["press"])
    with monkeypatch.context() as context:
        context.setattr(KeyWork, "is_registering", property(lambda work: True))
        plant.wait(2_500)
    assert one.it._ike.alive is None
    # Nor does what was found out for a while outlive that
    assert one.it.keeper.clock.is_latest == plant.ones["press"].it.keeper.own.interval == -1
    plant.wait(2_000, speak=["press"])
    assert one.confirmed and one.it.state_name == "member"
