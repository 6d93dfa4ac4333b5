"""Packets that wait for a proof, through Member.receive and Member.next_proven."""

from counted import counted, taken
from covey import sources
from covey.drops import (
    DROP_CROWDED,
    DROP_REPLAY,
    DROP_RETIRED_SPI,
    DROP_SOURCE,
    DROP_STALE_SENDER,
    DROP_UNPROVEN,
    NOTHING,
    WAITS,
)
from covey.member import Member
from covey.path import heard
from covey.port import later_kernels
from covey.waiting import WAITING, room_of
from datapath import data_sa, deliver, good, heap_octets

ROSTER = ((1, 0, b"press-7"), (2, 5, b"desk"), (3, 0, b"oven"))
PRESS, DESK, OVEN = 1 << 6, 2 << 6 | 5, 3 << 6
MOST_MS = 500


class Auth:
    """Four octets behind the payload: a packet is genuine where they are `good`."""

    trailer = 4

    def confirm(self, member, payload_len, now_ms):
        n = payload_len - self.trailer
        if n < 0:
            return DROP_SOURCE
        sender = heard(member.words) >> 6
        room = room_of(member)
        return room.keep(member.rx, n, self.trailer, self, sender, n, now_ms, MOST_MS)

    def prove(self, member, payload_len, packet, proof_at):
        n = payload_len - self.trailer
        if bytes(packet[24 + n : 28 + n]) != b"good":
            return DROP_SOURCE
        return n

    def name_of(self, sender):
        return dict([(row[0], row[2]) for row in ROSTER]).get(sender >> 6)

    def release(self):
        pass


def a_member(slots=4):
    m = Member(payload_max=64, datagram_max=200, waiting_slots=slots)
    sa = data_sa()
    sources.enlist(sa, ROSTER)
    sa.auth = Auth()
    m.keys.install(sa, 0)
    return m


def told(m, now_ms=0):
    """All that next_proven() has to say: payloads, and reasons."""
    found = []
    while True:
        n = m.next_proven(now_ms)
        if n == NOTHING:
            return found
        found.append(n if n < 0 else bytes(m.payload))


def prove_all(m):
    for slot in range(len(m.waiting.states)):
        m.waiting.provable(slot)


def packet(payload, seq=1, sender=PRESS, proof=b"good"):
    return good(payload + proof, seq, sender)


def test_nothing_waits_where_no_proof_comes_later():
    m = Member()
    assert m.waiting is None and m.next_proven(0) == NOTHING


def test_a_packet_waits_and_is_proven():
    m = a_member()
    datagram = packet(b"speed=1500", 7)
    assert deliver(m, datagram) == WAITS
    payload, sender, number = m.kept()
    assert (bytes(payload), sender, number) == (b"speed=1500", PRESS, 7)
    assert m.opened == 0 and not m.confirmed and told(m) == []
    assert deliver(m, packet(b"x", 9, DESK)) == WAITS  # rx is another packet's meanwhile
    m.waiting.provable(m.waiting.senders.index(1))
    assert m.next_proven(0) == 10
    assert m.payload == b"speed=1500" and m.payload_len == 10 and m.sender == PRESS
    assert m.confirmed and m.source == b"press-7" and m.number == 7 and m.opened == 1
    assert m.next_proven(0) == NOTHING
    assert deliver(m, datagram) == DROP_REPLAY
    prove_all(m)
    assert told(m) == [b"x"] and m.source == b"desk"


def test_all_lengths():
    m = a_member()
    for n in range(65):
        assert deliver(m, packet(bytes(range(n)), n + 1)) == WAITS
        prove_all(m)
        assert told(m) == [bytes(range(n))]


def test_the_same_packet_twice():
    m = a_member()
    assert deliver(m, packet(b"a")) == WAITS
    assert deliver(m, packet(b"a")) == DROP_REPLAY
    assert m.waiting.count == 1 and m.drops.of(DROP_REPLAY) == 1


def test_candidates_for_one_number():
    """The first that is confirmed moves the window; nobody burns a number."""
    m = a_member()
    for proof in (b"lie1", b"good", b"lie2"):
        assert deliver(m, packet(b"a", 1, PRESS, proof)) == WAITS
    assert deliver(m, packet(b"b", 1, DESK)) == WAITS  # another's number
    prove_all(m)
    said = told(m)
    assert sorted([one for one in said if isinstance(one, int)]) in (
        [DROP_SOURCE, DROP_SOURCE],
        [DROP_SOURCE, DROP_REPLAY],
        [DROP_REPLAY, DROP_REPLAY],
    )
    assert [one for one in said if not isinstance(one, int)] in ([b"a", b"b"], [b"b", b"a"])
    assert m.opened == 2


def test_a_fourth_candidate_has_its_chance_and_no_more():
    kept = 0
    for _ in range(60):
        m = a_member(8)
        for n in range(4):
            answer = deliver(m, packet(b"a", 1, PRESS, b"lie%d" % n))
            assert answer in (WAITS, DROP_CROWDED)
            assert answer == WAITS or n == 3
            kept += n == 3 and answer == WAITS
        assert m.waiting.count == 3
        m.next_proven(0)
        assert m.drops.of(DROP_CROWDED) == 1
    assert 25 < kept < 60  # 45 of 60 by the lot


def test_an_incarnation_advances_by_a_proof_only():
    m = a_member()
    before = list(m.keys.live()[0].senders.words)
    assert deliver(m, packet(b"a", 1, PRESS | 3, b"lies")) == WAITS
    prove_all(m)
    assert told(m) == [DROP_SOURCE]
    assert list(m.keys.live()[0].senders.words) == before
    assert deliver(m, packet(b"a", 1, PRESS)) == WAITS
    assert deliver(m, packet(b"b", 2, PRESS | 1)) == WAITS
    m.waiting.provable([bytes(p[24:25]) for p in m.waiting.packets].index(b"b"))
    assert told(m) == [b"b"]
    prove_all(m)
    assert told(m) == [DROP_STALE_SENDER]


def test_its_time_ends():
    m = a_member()
    assert deliver(m, packet(b"a"), 1000) == WAITS
    assert deliver(m, packet(b"b", 2), 1200) == WAITS
    assert told(m, 1499) == []
    assert told(m, 1500) == [DROP_UNPROVEN] and m.number == 1
    assert told(m, 1699) == [] and told(m, 1700) == [DROP_UNPROVEN] and m.number == 2
    assert m.drops.of(DROP_UNPROVEN) == 2 and m.waiting.count == 0
    assert deliver(m, packet(b"a"), 1701) == WAITS  # its number is not used up


def test_its_key_goes():
    m = a_member()
    for seq in (1, 2):
        assert deliver(m, packet(b"a", seq)) == WAITS
    m.waiting.provable(list(m.waiting.states).index(WAITING))
    m.keys.retire(m.keys.live()[0].spi, 0, 0)
    assert told(m) == [DROP_RETIRED_SPI]
    assert told(m, MOST_MS) == [DROP_RETIRED_SPI]
    assert m.waiting.count == 0 and m.drops.of(DROP_RETIRED_SPI) == 2


def test_it_is_refused():
    m = a_member()
    assert deliver(m, packet(b"a")) == WAITS
    slot = list(m.waiting.states).index(WAITING)
    m.waiting.refuse(slot, DROP_SOURCE)
    m.waiting.refuse(slot, DROP_SOURCE)
    m.waiting.provable(slot)
    assert m.waiting.count == 0 and told(m) == [DROP_SOURCE] and told(m) == []


def owners(m):
    return sorted([m.waiting.senders[s] for s, state in enumerate(m.waiting.states) if state])


def test_a_sender_is_left_its_share():
    """One that floods takes all that nobody wants, and gives way to who comes."""
    m = a_member(6)
    for seq in range(1, 40):
        assert deliver(m, packet(b"a", seq)) in (WAITS, DROP_CROWDED)
        told(m)
    assert owners(m) == [1] * 6
    for seq in (1, 2):
        for sender in (DESK, OVEN):
            assert deliver(m, packet(b"b", seq, sender)) == WAITS
            assert told(m) == [DROP_CROWDED]
    assert owners(m) == [1, 1, 2, 2, 3, 3]
    for seq in range(40, 80):  # and takes nothing from who has no more than its share
        assert deliver(m, packet(b"a", seq)) in (WAITS, DROP_CROWDED)
        told(m)
        assert owners(m) == [1, 1, 2, 2, 3, 3]


def test_early_or_many_wins_nothing_for_sure():
    """Which of 40 packets are kept is drawn by lot: each with the same chance, 4 of 40."""
    first = last = 0
    for _ in range(100):
        m = a_member(4)
        for seq in range(1, 41):
            deliver(m, packet(b"a", seq))
            told(m)
        assert m.waiting.count == 4
        prove_all(m)
        said = told(m)
        assert len(said) == 4
        first += has(m, 1)
        last += has(m, 40)
        assert m.drops.of(DROP_CROWDED) == 36
    assert 0 < first < 40 and 0 < last < 40  # 10 of 100


def has(m, seq):
    """Whether the packet of this number was confirmed."""
    return deliver(m, packet(b"a", seq)) == DROP_REPLAY


def test_who_gave_way_is_told_of_before_another_does():
    m = a_member(2)
    answers = [deliver(m, packet(b"a", seq)) for seq in range(1, 60)]
    assert answers.count(WAITS) <= 3  # one slot is spare
    assert len([state for state in m.waiting.states if state]) <= 3
    assert deliver(m, packet(b"b", 1, DESK)) in (WAITS, DROP_CROWDED)
    told(m)
    assert m.waiting.count == 2


def test_cleared():
    m = a_member()
    assert deliver(m, packet(b"secret")) == WAITS
    m.waiting.clear()
    assert not any([any(p) for p in m.waiting.packets]) and told(m, MOST_MS) == []
    assert deliver(m, packet(b"secret")) == WAITS and m.waiting.count == 1


def test_who_has_no_time_is_asked_again():
    """A key store with something to do first."""
    m = a_member()
    assert deliver(m, packet(b"a"), 100) == WAITS
    m.words[0] = 100  # ticks at which a step is due
    prove_all(m)
    assert told(m, 200) == [b"a"]


class Engine:
    is_working = True

    def __init__(self):
        self.turns = 0

    def step(self, room, now_ms):
        self.turns += 1


def test_an_engine_has_its_turn_each_time():
    m = a_member()
    room_of(m).engine = engine = Engine()
    assert m.next_proven(0) == NOTHING and m.next_proven(0) == NOTHING
    assert engine.turns == 2 and m.waiting.is_working
    m.waiting.engine = None
    assert not m.waiting.is_working
    assert m.waiting is room_of(m)


def test_no_heap():
    m = a_member()
    datagrams = [packet(bytes(40), seq) for seq in range(1, 30)]
    room_of(m)
    turn = [0]

    def step():
        datagram = datagrams[turn[0]]
        turn[0] += 1
        for i in range(len(datagram)):
            m.rx[i] = datagram[i]
        assert m.receive(len(datagram), 0) == WAITS
        assert m.next_proven(0) == NOTHING
        for slot in range(len(m.waiting.states)):
            m.waiting.provable(slot)
        assert m.next_proven(0) == 40

    real, Auth.prove = Auth.prove, believe
    try:
        assert heap_octets(step) == 0
        taken[0] = 0
        for datagram in datagrams[turn[0] :]:
            m.rx[: len(datagram)] = datagram
            assert m.receive(len(datagram), 0) == WAITS
            assert counted(m.next_proven, 0) == NOTHING
            for slot in range(len(m.waiting.states)):
                m.waiting.provable(slot)
            assert counted(m.next_proven, 0) == 40
        assert turn[0] < len(datagrams) and not taken[0]
    finally:
        Auth.prove = real


def believe(self, member, payload_len, packet, proof_at):
    return payload_len - self.trailer


def test_later_kernels():
    copy, is_same, number_at, _, _ = later_kernels()
    out = bytearray(8)
    copy(out, 2, b"abcdef", 1, 3)
    assert out == b"\0\0bcd\0\0\0"
    copy(out, 0, b"abcdef", 0, 0)
    assert out == b"\0\0bcd\0\0\0"
    assert is_same(b"abc", b"abd", 2) and not is_same(b"abc", b"abd", 3)
    assert is_same(b"", b"x", 0)
    assert number_at(b"?\xff\1\2\3", 1) == 0x7F010203 and number_at(b"\0\0\0\7", 0) == 7
