"""Chains of others: what is proven by what, with how much work."""

from covey.chainhash import Step
from covey.chains import Chains
from covey.timing import Timing
from covey.waiting import FREE, PROVABLE, WAITING, WaitingRoom
from test_pebbles import SALT, chain

BITS = 12
FIRST = 1 << BITS  # of the segment
KEYS = chain(FIRST, (2 << BITS) - 1)
OTHER = chain(FIRST, (2 << BITS) - 1, b"x" * 16, b"pepper!!")
NAMES = {1: b"press-7", 2: b"desk"}
NO_KEY = b"n" * 16


def timing(bits=BITS):
    return Timing(8, 2, bits, 100, b"abcd", 500)


def a_chains(at=FIRST - 1):
    made = Chains(timing())
    rows = [(1, FIRST, SALT, at, KEYS[at]), (2, FIRST, b"pepper!!", at, OTHER[at])]
    made.tell(rows, NAMES)
    return made


class Counted:
    """Steps back while it is open."""

    def __enter__(self):
        self.real, self.steps = Step.back, 0

        def back(step):
            self.steps += 1
            self.real(step)

        Step.back = back
        return self

    def __exit__(self, *_):
        Step.back = self.real


def keep(room, wants, sender=1):
    """A packet that waits for this interval of a sender; its slot."""
    rx = bytearray(64)
    rx[4:8] = wants.to_bytes(4, "big")
    rx[8] = sender
    before = list(room.states)
    room.keep(rx, 4, 4, None, sender, wants, 0, 1000)
    return [n for n, state in enumerate(room.states) if state and not before[n]][0]


def at(made, index=1):
    return made.of(index, FIRST).at


def test_which_chain_is_an_intervals():
    made = a_chains()
    assert made.of(1, FIRST).first == made.of(1, 2 * FIRST - 1).first == FIRST
    assert made.of(1, FIRST - 1) is made.of(1, 2 * FIRST) is made.of(3, FIRST) is None


def test_a_disclosed_key():
    made = a_chains()
    for interval in (FIRST, FIRST + 1, FIRST + 5, FIRST + 37):
        with Counted() as counted:
            made.disclose(1, interval, b"?" + KEYS[interval], 1, None)
        assert at(made) == interval and counted.steps <= 33
    assert at(made, 2) == FIRST - 1 and not made.is_working


def test_what_is_no_key():
    made = a_chains(FIRST + 10)
    for interval, key in (
        (FIRST + 11, NO_KEY),
        (FIRST + 42, NO_KEY),
        (FIRST + 11, OTHER[FIRST + 11]),
        (FIRST + 11, KEYS[FIRST + 12]),
        (FIRST + 12, KEYS[FIRST + 11]),
        (2 * FIRST, KEYS[2 * FIRST]),  # of no segment that is known
        (FIRST - 1, KEYS[FIRST - 1]),
    ):
        with Counted() as counted:
            made.disclose(1, interval, key, 0, None)
        assert at(made) == FIRST + 10 and counted.steps <= 32
    assert not made.is_working and not made.is_behind


def test_a_replayed_disclosure():
    """Not a hash is spent on what is known."""
    made = a_chains(FIRST + 10)
    with Counted() as counted:
        for interval in (FIRST + 10, FIRST + 9, FIRST):
            made.disclose(1, interval, KEYS[interval], 0, None)
            made.disclose(1, interval, NO_KEY, 0, None)
    assert counted.steps == 0 and at(made) == FIRST + 10


def test_packets_get_their_keys():
    made, room = a_chains(), WaitingRoom(8, 200)
    slots = {n: keep(room, FIRST + n) for n in (0, 3, 4, 7)}
    others = keep(room, FIRST + 3, 2)
    with Counted() as counted:
        made.disclose(1, FIRST + 4, KEYS[FIRST + 4], 0, room)
    assert counted.steps == 5 + 4  # to the known one, then to that of the first packet and on
    for n in (0, 3, 4):
        proof = room.packets[slots[n]][room.proof_at :]
        assert room.states[slots[n]] == PROVABLE and bytes(proof[:16]) == KEYS[FIRST + n]
    assert room.states[slots[7]] == room.states[others] == WAITING


def walk(made, room=None):
    """Its steps, slice by slice."""
    turns = 0
    while made.is_working:
        with Counted() as counted:
            made.step(room, 0)
        assert counted.steps <= 32 + 12
        turns += 1
    return turns


def test_a_long_way_back():
    made, room = a_chains(), WaitingRoom(8, 200)
    far = FIRST + 1000
    slots = [keep(room, n) for n in (far, far - 5, far + 1)]
    made.disclose(1, far, KEYS[far], 0, room)
    assert at(made) == FIRST - 1 and made.is_working
    assert 30 < walk(made, room) < 36 and at(made) == far
    assert [room.states[slot] for slot in slots] == [PROVABLE, PROVABLE, WAITING]
    assert not made.is_behind


def test_a_long_way_from_what_is_no_key():
    made = a_chains()
    made.disclose(1, FIRST + 1000, NO_KEY, 0, None)
    walk(made)
    assert at(made) == FIRST - 1 and made.is_behind
    made.disclose(1, FIRST + 1000, bytes(16), 0, None)  # nothing at all
    assert not made.is_working


def test_of_many_claims_one_waits_drawn_by_lot():
    """And a short way is found meanwhile."""
    won = 0
    for _ in range(40):
        made = a_chains()
        for n in range(4):
            made.disclose(1, FIRST + 1000, b"%d" % n * 16, 0, None)
        made.disclose(1, FIRST + 1000, KEYS[FIRST + 1000], 0, None)
        claim = made.of(1, FIRST).claim
        assert made.of(1, FIRST).claims == 5
        won += claim == KEYS[FIRST + 1000]
    assert 0 < won < 25  # 8 of 40
    made.disclose(1, FIRST + 3, KEYS[FIRST + 3], 0, None)
    assert at(made) == FIRST + 3


def test_senders_have_turns():
    made = a_chains()
    for _ in range(3):
        made.disclose(1, FIRST + 200, NO_KEY, 0, None)
    made.disclose(2, FIRST + 200, OTHER[FIRST + 200], 0, None)
    turns = 0
    while at(made, 2) != FIRST + 200:
        made.disclose(1, FIRST + 300, NO_KEY, 0, None)  # without end
        made.step(None, 0)
        turns += 1
        assert turns < 30


def test_the_key_server_tells_a_nearer_key():
    made, room = a_chains(), WaitingRoom(8, 200)
    slot = keep(room, FIRST + 999)
    made.disclose(1, FIRST + 1000, KEYS[FIRST + 1000], 0, room)
    made.step(room, 0)
    made.tell([(1, FIRST, SALT, FIRST + 990, KEYS[FIRST + 990])], NAMES, room)
    assert at(made) == FIRST + 990 and room.states[slot] == WAITING
    walk(made, room)  # the one that was on its way is given up
    made.disclose(1, FIRST + 1000, KEYS[FIRST + 1000], 0, room)
    assert at(made) == FIRST + 1000 and room.states[slot] == PROVABLE
    made.tell([(1, FIRST, SALT, FIRST + 990, KEYS[FIRST + 990])], NAMES, room)  # an older one
    assert at(made) == FIRST + 1000


def test_what_the_key_server_tells_proves_packets():
    made, room = a_chains(), WaitingRoom(8, 200)
    slot = keep(room, FIRST + 88)
    made.tell([(1, FIRST, SALT, FIRST + 90, KEYS[FIRST + 90])], NAMES, room)
    assert room.states[slot] == PROVABLE


def test_segments_follow_each_other():
    made = a_chains()
    later = [(1, n * FIRST, b"salt%04d" % n, n * FIRST - 1, bytes(16)) for n in (2, 3, 4)]
    for row in later[:2]:
        made.tell([row], NAMES)
    assert [made.of(1, n * FIRST).first for n in (1, 2, 3)] == [FIRST, 2 * FIRST, 3 * FIRST]
    made.tell(later[2:], NAMES)
    assert made.of(1, FIRST) is None and made.of(1, 4 * FIRST) is not None
    made.forget_before(3 * FIRST)
    assert made.of(1, 2 * FIRST) is None and made.of(1, 3 * FIRST) is not None
    assert made.of(2, FIRST) is None
    made.forget_before(1 << 30)
    assert made.of(1, 4 * FIRST) is None


def test_who_left_is_forgotten():
    """And who has its index now has another chain."""
    made = a_chains()
    made.disclose(1, FIRST + 1000, KEYS[FIRST + 1000], 0, None)
    made.step(None, 0)
    made.tell([], {2: b"desk"})
    assert made.of(1, FIRST) is None and made.of(2, FIRST) is not None
    walk(made)
    made.tell([(2, FIRST, SALT, FIRST, KEYS[FIRST])], {2: b"oven"})
    assert at(made, 2) == FIRST and made.of(2, FIRST).salt == SALT
    made.tell([(2, FIRST, b"pepper!!", FIRST - 1, OTHER[FIRST - 1])], {2: b"oven"})
    assert at(made, 2) == FIRST - 1 and made.of(2, FIRST).salt == b"pepper!!"
    made.tell([(7, FIRST, SALT, FIRST, KEYS[FIRST])], {2: b"oven"})  # of nobody
    assert made.of(7, FIRST) is None


def test_other_chains_of_the_same_sender():
    """It has another seat: what was known of the next segment is of the former one."""
    made = a_chains()
    made.tell([(1, 2 * FIRST, SALT, 2 * FIRST - 1, bytes(16))], NAMES)
    assert made.of(1, 2 * FIRST) is not None
    made.tell([(1, FIRST, b"pepper!!", FIRST - 1, OTHER[FIRST - 1])], NAMES)
    assert made.of(1, FIRST).salt == b"pepper!!" and made.of(1, 2 * FIRST) is None
    assert made.of(2, FIRST) is not None


def test_what_is_lacking():
    made = Chains(timing())
    assert not made.lacks(FIRST, 100)  # of nobody
    made.tell([], {1: b"press-7"})
    assert made.lacks(FIRST, 100)
    made.tell([(1, FIRST, SALT, FIRST, KEYS[FIRST])], {1: b"press-7"})
    assert not made.lacks(FIRST + 100, 100) and made.lacks(FIRST + 101, 100)
    quarter = FIRST + 3 * FIRST // 4
    assert not made.lacks(quarter - 1, FIRST) and made.lacks(quarter, FIRST)
    made.tell([(1, 2 * FIRST, SALT, 2 * FIRST - 1, bytes(16))], {1: b"press-7"})
    assert not made.lacks(quarter, FIRST)


def test_a_slot_that_is_free_is_not_looked_at():
    made, room = a_chains(), WaitingRoom(2, 200)
    slot = keep(room, FIRST)
    room.clear()
    room.count = 1  # somebody else's
    with Counted() as counted:
        made.disclose(1, FIRST, KEYS[FIRST], 0, room)
    assert room.states[slot] == FREE and counted.steps == 1
