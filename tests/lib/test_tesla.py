"""TESLA through Member.send and Member.receive on virtual time: what passes, and each attack.

World.now is the key server's clock in ms; each node's ticks run beside it, with an offset and a
drift of their own, and each knows it from one answer that took its time.
"""

# heap: 4m
# The chains leave few holes in a smaller one, and the interpreter's table of names grows late.

from covey import sources
from covey.chainhash import mac_key
from covey.cmac import CMACContext
from covey.drops import (
    DROP_CROWDED,
    DROP_DISCLOSURE,
    DROP_EARLY,
    DROP_NO_CHAIN,
    DROP_NO_CLOCK,
    DROP_NOT_ROSTERED,
    DROP_REPLAY,
    DROP_SOURCE,
    DROP_UNPROVEN,
    DROP_UNSAFE,
    NOTHING,
    WAITS,
)
from covey.member import Member
from covey.tesla import TimedMACs
from covey.timekeeper import Timekeeper
from covey.timing import Timing
from datapath import data_sa, good
from test_pebbles import chain, stones

BITS = 12
FIRST = 1 << BITS
LOW_BITS = 6
NAMES = {1: b"press-7", 2: b"desk", 3: b"oven"}
ROSTER = [(index, 0, NAMES[index]) for index in sorted(NAMES)]
EPOCH = 7
# Of two segments; the second begins 4096 intervals later
SALTS = {(i, s): b"salt%d%03d" % (i, s) for i in NAMES for s in (1, 2)}
CHAINS = {
    (i, s): chain(s << BITS, (2 << BITS) - 1, b"%d" % i * 16, SALTS[(i, s)])
    for i in NAMES
    for s in (1, 2)
}


def key_of(index, interval):
    return CHAINS[(index, interval >> BITS)][interval]


class Chance:
    """The same on both interpreters."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.state >> 12) % n


class World:
    def __init__(self, interval_ms=100, lag=2, at=FIRST + 20):
        self.timing = Timing(8, lag, BITS, interval_ms, b"abcd", 500)
        self.now = at * interval_ms + interval_ms // 2

    @property
    def interval(self):
        return self.now // self.timing.interval_ms

    def node(self, index=None, slots=16, way=(2, 3), offset=0, ppm=0, is_synced=True):
        return Node(self, index, slots, way, offset, ppm, is_synced)

    def rows(self):
        at = self.interval - self.timing.lag - 2
        return [(i, at >> BITS << BITS, SALTS[(i, at >> BITS)], at, key_of(i, at)) for i in NAMES]


class Node:
    def __init__(self, world, index, slots, way, offset, ppm, is_synced):
        self.world = world
        self.index = index
        self.offset = offset
        self.ppm = ppm
        self.way = way
        self.began = world.now
        self.keeper = Timekeeper(world.timing, NAMES.get(index))
        self.keeper.chains.tell(world.rows(), NAMES)
        m = Member(payload_max=100, datagram_max=200, sender=index is not None)
        m.waiting_slots = slots
        self.m = m
        sa = data_sa()
        sources.enlist(sa, ROSTER)
        sa.auth = TimedMACs(self.keeper, NAMES, LOW_BITS, EPOCH)
        m.keys.install(sa, self.ticks)
        if index is not None:
            sa.become_sender(index << LOW_BITS | 1, 16)
            m.keys.activate(sa.spi, self.ticks, 0)
        self.got, self.refused = [], []
        if is_synced:
            self.sync()

    @property
    def ticks(self):
        return self.ticks_at(self.world.now)

    def ticks_at(self, ms):
        gone = ms - self.began
        return (self.offset + gone + gone * self.ppm // 1000000) & 0x3FFFFFFF

    def sync(self):
        """The key server answers now: asked way[0] ms before, the answer is here in way[1] ms."""
        times = (
            self.ticks_at(self.world.now - self.way[0]),
            self.ticks_at(self.world.now + self.way[1]),
        )
        assert self.keeper.clock.learn(self.world.now, *times)
        own = self.keeper.own
        if own is not None:
            at = self.world.interval - self.world.timing.lag - 2
            for first in (at, (at >> BITS) + 1 << BITS):
                if first >> BITS in (1, 2):
                    at = first if first & FIRST - 1 else first - 1
                    salt, keys = SALTS[(self.index, at + 1 >> BITS)], CHAINS
                    keys = keys[(self.index, at + 1 >> BITS)]
                    own.take(at, salt, stones(keys, at, BITS))

    def send(self, payload):
        """As a control loop runs all the time."""
        self.run()
        self.m.out[: len(payload)] = payload
        n = self.m.send(len(payload), self.ticks)
        return bytes(self.m.tx[:n]) if n > 0 else n

    def run(self):
        interval = self.keeper.clock.earliest(self.ticks)
        while interval >= 0 and self.keeper.own.step(interval):
            pass

    def turn(self):
        """What the control loop does: a disclosure that is owed, or None."""
        self.run()
        n = self.keeper.disclose(self.m, self.ticks)
        return bytes(self.m.tx[:n]) if n else None

    def hear(self, datagram):
        """What receive() says; what is judged then goes into .got and .refused."""
        self.m.rx[: len(datagram)] = datagram
        answer = self.m.receive(len(datagram), self.ticks)
        self.look()
        return answer

    def again(self, datagram):
        """In another life: time has gone back."""
        self.keeper.clock.is_latest = -1
        return self.hear(datagram)

    def look(self):
        while True:
            n = self.m.next_proven(self.ticks)
            if n == NOTHING:
                return
            if n < 0:
                self.refused.append(n)
            else:
                self.got.append((self.m.source, bytes(self.m.payload)))


def test_a_packet_is_confirmed_once_its_key_is_out():
    w = World()
    press, valve = w.node(1), w.node()
    datagram = press.send(b"speed=1500")
    assert valve.hear(datagram) == WAITS and valve.got == []
    assert valve.hear(datagram) == DROP_REPLAY
    w.now += 100
    assert press.turn() is None and valve.hear(press.send(b"more")) == WAITS and not valve.got
    w.now += 100
    assert valve.hear(press.send(b"and")) == WAITS
    assert valve.got == [(b"press-7", b"speed=1500")] and valve.m.confirmed
    assert valve.hear(datagram) == DROP_REPLAY
    assert valve.refused == [] and press.m.payload_most == 100 - 28


def test_who_falls_silent_tells_its_keys():
    w = World()
    press, valve = w.node(1), w.node()
    assert valve.hear(press.send(b"last")) == WAITS
    told = []
    for n in range(14):
        w.now += 100
        datagram = press.turn()
        if datagram:
            told.append(n + 1)
            assert valve.hear(datagram) == DROP_DISCLOSURE
            assert valve.got == [(b"press-7", b"last")]
    assert told == [2, 3, 4, 6, 10]
    assert valve.m.opened == 1 and press.m.sent == 6


def test_a_disclosure_meets_the_end_of_an_atd():
    """The SA that is elected then sends no empty packet of its own accord."""
    w = World()
    press, valve = w.node(1), w.node()
    for node in (press, valve):
        sa = data_sa(b"new!", bytes(range(1, 21)), epoch=2)
        sources.enlist(sa, ROSTER)
        sa.auth = TimedMACs(node.keeper, NAMES, LOW_BITS, EPOCH + 1)
        node.m.keys.install(sa, node.ticks)
    sa = press.m.keys.find(b"new!", 0)
    sa.become_sender(1 << LOW_BITS | 1, 16)
    press.m.keys.activate(b"new!", press.ticks, 1)
    assert valve.hear(press.send(b"a")) == WAITS
    w.now += 1000
    assert valve.hear(press.turn()) == DROP_DISCLOSURE
    assert press.m.keys.sending is sa and valve.got == [(b"press-7", b"a")]
    w.now += 300
    press.turn()
    valve.look()
    assert len(valve.got) == 1


def test_who_must_not_send_tells_nothing():
    w = World()
    press = w.node(1)
    press.send(b"a")
    press.m.keys.silence()
    w.now += 200
    sent = press.m.sent
    assert press.turn() is None and press.m.keys.sending is None and press.m.sent == sent


def test_a_boards_aes_fails_in_a_disclosure():
    w = World()
    press, valve = w.node(1), w.node()
    valve.hear(press.send(b"a"))
    sa = press.m.keys.sending
    sa.context, whole = Broken(), sa.context
    w.now += 200
    assert press.turn() is None and press.m.keys.sending is sa
    sa.context = whole
    w.now += 100
    assert valve.hear(press.turn()) == DROP_DISCLOSURE and len(valve.got) == 1


class Broken:
    def seal(self, *_):
        raise OSError


def test_an_index_has_another_sender_now():
    """What is sent under an SA of before is not of the chain that has come since."""
    w = World()
    press, valve = w.node(1), w.node()
    assert valve.hear(press.send(b"a")) == WAITS
    at = w.interval - 1
    chains = valve.keeper.chains
    rows = [(1, FIRST, SALTS[(2, 1)], at, key_of(2, at))]
    chains.tell(rows, {1: b"newcomer", 2: b"desk"}, valve.m.waiting)
    assert valve.hear(press.send(b"b")) == DROP_NO_CHAIN and not chains.is_behind
    chains.disclose(1, at + 1, key_of(2, at + 1), 0, valve.m.waiting)
    valve.look()
    assert valve.got == [] and valve.refused == [DROP_NO_CHAIN]


def test_a_long_silence():
    """After 7 days ticks of then seem to come: what was found out then is no more."""
    w = World()
    press, valve = w.node(1), w.node()
    datagram = press.send(b"a")
    assert valve.hear(datagram) == WAITS
    for node in (press, valve):
        node.keeper.rest(node.ticks + 2000)
    w.now += 7 * 86400000
    for node in (press, valve):
        assert node.keeper.clock.learn(w.now, node.ticks, node.ticks)
    assert press.m.send(1, press.ticks) == DROP_NO_CHAIN
    assert valve.hear(datagram) == DROP_UNSAFE


def test_many_senders_and_lengths():
    w = World()
    senders, valve = [w.node(i) for i in (1, 2, 3)], w.node(slots=64)
    sent = []
    for n in range(24):
        for sender in senders:
            payload = bytes(range(n * 3))
            assert valve.hear(sender.send(payload)) == WAITS
            sent.append((NAMES[sender.index], payload))
        w.now += 70
    for _ in range(4):
        w.now += 100
        for sender in senders:
            datagram = sender.turn()
            if datagram:
                valve.hear(datagram)
    assert sorted(valve.got) == sorted(sent) and valve.refused == []


def test_a_fifth_is_lost_and_all_that_comes_is_confirmed():
    """For two lags and intervals, with clocks that run apart by what policy allows."""
    for interval_ms, lag in ((100, 2), (20, 4)):
        w = World(interval_ms, lag)
        press = w.node(1, ppm=-500, offset=12345)
        valve = w.node(2, ppm=500, way=(0, 8))
        chance = Chance(interval_ms)
        came = []
        for n in range(300):
            datagram = press.send(b"%d" % n)
            if n % 10 == 9:
                press.turn()
            if chance.below(5):
                assert valve.hear(datagram) == WAITS, (n, w.now)
                came.append((b"press-7", b"%d" % n))
            w.now += 3 + chance.below(interval_ms // 2)
        for _ in range(2 * lag + 20):
            w.now += interval_ms
            datagram = press.turn()
            if datagram and chance.below(5):
                valve.hear(datagram)
        assert sorted(valve.got) == sorted(came) and len(came) > 200
        assert valve.refused == []


def test_from_one_chain_to_the_next_without_a_gap():
    w = World(at=2 * FIRST - 10)
    press, valve = w.node(1), w.node()
    valve.keeper.chains.tell([(1, 2 * FIRST, SALTS[(1, 2)], 2 * FIRST - 1,
                               key_of_commitment(1))], NAMES)  # fmt: skip
    for n in range(20):
        press.turn()
        assert valve.hear(press.send(b"%d" % n)) == WAITS, n
        w.now += 100
    assert [payload for _, payload in valve.got] == [b"%d" % n for n in range(18)]


def key_of_commitment(index):
    return CHAINS[(index, 2)][2 * FIRST - 1]


def test_without_a_chain():
    """A segment that nobody has told of: nothing is taken, and somebody asks."""
    w = World(at=2 * FIRST - 1)
    press, valve = w.node(1), w.node()
    w.now += 100
    assert valve.hear(press.send(b"a")) == DROP_NO_CHAIN and valve.keeper.chains.is_behind


# Clocks


def test_without_a_clock_nothing_is_confirmed_and_nothing_sent():
    w = World()
    press, valve, mute = w.node(1), w.node(is_synced=False), w.node(2, is_synced=False)
    assert valve.hear(press.send(b"a")) == DROP_NO_CLOCK
    assert mute.send(b"a") == DROP_NO_CLOCK and mute.m.sent == 0
    assert mute.m.keys.sending.next_seq == 1  # no number is used up
    valve.sync()
    w.now += 3
    assert valve.hear(press.send(b"b")) == WAITS


def test_a_bound_that_is_too_old():
    """As after sleep: until the next answer."""
    w = World()
    press, valve = w.node(1), w.node()
    w.now += 250000
    press.sync()
    w.now += 3
    datagram = press.send(b"a")
    assert valve.hear(datagram) == DROP_NO_CLOCK
    valve.sync()
    assert valve.hear(datagram) == WAITS


def test_drift_eats_the_margin_before_it_is_wrong():
    """After 40 s of 500 ppm packets are taken for a shorter time; but never one too late."""
    for ppm in (-500, 0, 500):
        w = World()
        press, valve = w.node(1), w.node(ppm=ppm)
        w.now += 40000 - w.now % 100
        press.sync()
        w.now += 10  # its key may be told in 190 ms
        datagram = press.send(b"a")
        w.now += 190
        assert valve.hear(datagram) == DROP_UNSAFE
        w.now -= 150
        assert valve.again(datagram) == WAITS


# Attacks


def forged(payload, interval, key, seq=99, index=1, told=bytes(16), incarnation=1):
    """What a member can make who has all keys of the group, and this key of a sender."""
    chain_salt = SALTS[(index, interval >> BITS)]
    sender = index << LOW_BITS | incarnation
    text = payload + bytes([interval >> 24, interval >> 16 & 255, interval >> 8 & 255])
    text += bytes([interval & 255])
    whole = bytearray(good(text, seq, sender))
    # the MAC is over what lies in rx once it is opened
    buf = bytearray(whole[:16]) + b"\x08\xae\x08\xae" + bytes(4) + text + bytes(8)
    at = 24 + len(text)
    context = CMACContext(mac_key(chain_salt, NAMES[index], key))
    context.sign(buf, len(text), bytearray(EPOCH.to_bytes(4, "big")), at, 8)
    return good(text + bytes(buf[at : at + 8]) + told, seq, sender)


def test_a_forger_would_succeed_with_the_key():
    """What is made here is good, but for the key."""
    w = World()
    valve = w.node()
    key = key_of(1, w.interval)
    assert valve.hear(forged(b"speed=9000", w.interval, key)) == WAITS
    w.now += 200
    told = forged(b"", w.interval, b"?" * 16, 100, told=key_of(1, w.interval - 2))
    assert valve.hear(told) == WAITS
    assert valve.got == [(b"press-7", b"speed=9000")]


def test_forged_with_an_undisclosed_key():
    """By a member, who can but guess it: refused as soon as the key is out; nothing is burnt."""
    w = World()
    press, valve = w.node(1), w.node()
    for seq in (1, 2, 3):
        assert valve.hear(forged(b"speed=9000", w.interval, b"g" * 16, seq)) == WAITS
    assert valve.hear(press.send(b"speed=1500")) == WAITS  # number 1
    before = list(valve.m.keys.live()[0].senders.words)
    w.now += 200
    assert valve.hear(press.turn()) == DROP_DISCLOSURE
    assert valve.got == [(b"press-7", b"speed=1500")]
    assert sorted(set(valve.refused)) in ([DROP_SOURCE], [DROP_SOURCE, DROP_REPLAY])
    assert len(valve.refused) == 3
    assert list(valve.m.keys.live()[0].senders.words) != before
    assert valve.hear(press.send(b"next")) == WAITS  # number 3 by now
    w.now += 200
    valve.hear(press.turn())
    assert valve.got[1:] == [(b"press-7", b"next")]


def test_forged_with_a_disclosed_key():
    """The key of an interval before is public: its packets are late."""
    w = World()
    press, valve = w.node(1), w.node()
    press.send(b"a")
    w.now += 200
    then = w.interval - 2
    for _ in ("before the key is told to the valve", "behind it"):
        assert valve.hear(forged(b"speed=9000", then, key_of(1, then))) == DROP_UNSAFE
        valve.hear(press.turn() or press.send(b"b"))
        assert valve.keeper.chains.of(1, then).at == then
    assert valve.got == []
    # One that comes in time by the receiver's clock, but whose key is known all the same
    valve.keeper.chains.disclose(1, w.interval, key_of(1, w.interval), 0, valve.m.waiting)
    assert valve.hear(forged(b"x", w.interval, key_of(1, w.interval))) == DROP_UNSAFE


def test_forged_with_the_key_of_another_sender():
    w = World()
    valve = w.node()
    assert valve.hear(forged(b"x", w.interval, key_of(2, w.interval), index=1)) == WAITS
    told = forged(b"", w.interval + 2, b"?" * 16, 5, told=key_of(1, w.interval))
    w.now += 200
    valve.hear(told)
    assert valve.got == [] and valve.refused == [DROP_SOURCE]


def test_in_a_name_that_is_on_no_roster():
    w = World()
    valve = w.node()
    assert valve.hear(good(bytes(40), 1, 9 << LOW_BITS)) == DROP_NOT_ROSTERED


def test_an_incarnation_that_was_invented():
    """It takes no window over: the genuine one's packets pass."""
    w = World()
    press, valve = w.node(1), w.node()
    assert valve.hear(forged(b"x", w.interval, b"g" * 16, 1, incarnation=9)) == WAITS
    assert valve.hear(press.send(b"a")) == WAITS
    w.now += 200
    valve.hear(press.turn())
    assert valve.got == [(b"press-7", b"a")] and valve.refused == [DROP_SOURCE]


def test_a_replayed_disclosure():
    """It proves nothing a second time, and says nothing of other packets."""
    w = World()
    press, valve = w.node(1), w.node()
    valve.hear(press.send(b"a"))
    w.now += 200
    told = press.turn()
    assert valve.hear(told) == DROP_DISCLOSURE and len(valve.got) == 1
    at = valve.keeper.chains.of(1, w.interval).at
    for _ in range(5):
        w.now += 100
        assert valve.hear(press.send(b"b")) in (WAITS,)
        assert valve.hear(told) in (DROP_DISCLOSURE, DROP_REPLAY)
    assert valve.keeper.chains.of(1, w.interval).at == at + 5
    assert valve.refused == []


def test_a_disclosure_before_its_time_is_none():
    """Only who has drawn the chain could know it: such a key is not even looked at."""
    w = World()
    valve = w.node()
    interval = w.interval + 3
    told = key_of(1, interval - 2)
    assert valve.hear(forged(b"", interval, b"?" * 16, told=told)) == DROP_EARLY
    assert valve.keeper.chains.of(1, w.interval).at == w.interval - 4


def test_delayed_until_the_key_is_out():
    """An attacker holds packets back, learns the key, and makes of them what it likes."""
    w = World()
    press, valve = w.node(1), w.node()
    held = press.send(b"speed=1500")
    then = w.interval
    w.now += 200
    key_told = press.turn()
    changed = forged(b"speed=9000", then, key_of(1, then), 1)
    assert valve.hear(changed) == DROP_UNSAFE and valve.hear(held) == DROP_UNSAFE
    assert valve.hear(key_told) == DROP_DISCLOSURE
    assert valve.got == [] and valve.m.drops.of(DROP_UNSAFE) == 2


def test_delayed_by_a_little_less():
    w = World()
    press, valve = w.node(1), w.node()
    w.now += 85 - w.now % 100
    held = press.send(b"a")
    w.now += 100
    assert valve.hear(held) == WAITS
    w.now += 100
    valve.hear(press.turn())
    assert valve.got == [(b"press-7", b"a")]


def test_of_an_interval_to_come():
    w = World()
    valve = w.node()
    assert valve.hear(forged(b"x", w.interval + 1, b"?" * 16)) == DROP_EARLY
    assert valve.hear(forged(b"x", FIRST + 400, b"?" * 16)) == DROP_EARLY
    assert valve.m.waiting.count == 0


def test_a_time_answer_that_was_held_back():
    """It widens the bound, or is not used; no packet is taken too late by it."""
    for late in (30, 60, 99):
        w = World()
        press, valve = w.node(1), w.node(way=(0, late))
        w.now += late
        w.now += -w.now % 100
        datagram = press.send(b"a")
        w.now += 200
        assert valve.hear(datagram) == DROP_UNSAFE
    w = World()
    clock = w.node(is_synced=False).keeper.clock
    assert not clock.learn(w.now, 0, 101)


def test_the_waiting_room_is_flooded():
    """In the names of all senders: each sender's packets have the chance that its share gives, and
    memory is what it was.
    """
    w = World()
    press, desk, valve = w.node(1), w.node(2), w.node(slots=8)
    sent = 0
    for n in range(60):
        for k in range(6):
            lie = forged(b"lie", w.interval, b"g" * 16, 1000 + 8 * n + k, index=1)
            assert valve.hear(lie) in (WAITS, DROP_CROWDED)
        assert valve.hear(press.send(b"a")) in (WAITS, DROP_CROWDED)
        if n % 2:
            assert valve.hear(desk.send(b"b")) == WAITS  # whose share is its own
            sent += 1
        w.now += 100
        assert valve.m.waiting.count <= 8
    w.now += 200
    valve.hear(desk.turn() or desk.send(b"x"))
    names = [name for name, _ in valve.got]
    assert names.count(b"desk") >= sent and names.count(b"press-7") > 3
    assert valve.m.drops.of(DROP_CROWDED) > 50
    assert {payload for _, payload in valve.got} <= {b"a", b"b"}


def test_claims_without_end_cost_little():
    """Bogus keys far away from what is known: a walk at a time, in slices; the genuine one is
    found, and packets of others go on.
    """
    w = World()
    press, desk, valve = w.node(1), w.node(2), w.node()
    w.now += 30000  # 300 intervals without a word
    for one in (press, desk, valve):
        one.sync()
    for n in range(200):
        w.now += 20
        if n < 20 or n % 2:
            lie = forged(b"", w.interval, b"g" * 16, 500 + n, told=b"%016d" % n)
            valve.hear(lie)
        press.turn()
        valve.hear(press.send(b"a"))
        desk.turn()
        valve.hear(desk.send(b"b"))
    names = [name for name, _ in valve.got]
    assert names.count(b"press-7") > 40 and names.count(b"desk") > 40


def test_a_packet_whose_key_never_comes():
    w = World()
    press, valve = w.node(1), w.node()
    assert valve.hear(press.send(b"a")) == WAITS
    w.now += 1399
    valve.look()
    assert valve.refused == []
    w.now += 2
    valve.look()
    assert valve.refused == [DROP_UNPROVEN]


def test_too_short_for_a_trailer():
    w = World()
    valve = w.node()
    assert valve.hear(good(bytes(27), 1, 1 << LOW_BITS)) == DROP_SOURCE
    assert valve.hear(good(b"", 1, 1 << LOW_BITS)) == DROP_SOURCE


def test_other_lags_and_tags():
    for lag in (1, 3, 16):
        w = World(lag=lag)
        w.timing.tag_len = 8 + lag % 9
        press, valve = w.node(1), w.node()
        assert valve.hear(press.send(b"a")) == WAITS
        for _ in range(lag):
            w.now += 100
            datagram = press.turn()
        assert valve.hear(datagram) == DROP_DISCLOSURE and valve.got == [(b"press-7", b"a")]
