"""Messages that wait to be looked at: how many, whose turn it is, and what raises doubts."""

from covey.candidates import Candidates
from covey.drops import (
    DROP_CAPACITY,
    DROP_IKE_FRAGMENT,
    DROP_REKEY_BUSY,
    DROP_REKEY_SPI,
    DROP_REKEY_TAG,
    Drops,
)

MANY = bytes(100)


class _Rekey:
    """What a rekey.Rekey says of datagrams: 0 for each, if nothing else is set."""

    has_displaced = False

    def __init__(self):
        self.glanced = {}
        self.says = {}
        self.looked = []
        self.closed = 0

    def glance(self, data):
        return (self.glanced.get(data, 0),)

    def begin(self, data):
        self.looked.append(data)
        try:
            yield
        except GeneratorExit:
            self.closed += 1
            raise
        answer = self.says.get(data, 0)
        if answer == DROP_CAPACITY:
            raise MemoryError
        return answer


class _Lot:
    """Chance that a test can count on: a small generator, seeded."""

    def __init__(self, seed):
        self._state = seed * 2 + 1

    def __call__(self, count):
        out = b""
        for _ in range(count):
            self._state = self._state * 75 % 65537
            out += bytes((self._state >> 4 & 255,))
        return out


def _made(seed=1):
    rekey, drops = _Rekey(), Drops()
    return Candidates(rekey, drops, _Lot(seed)), rekey, drops


def _message(number, length=500):
    return bytes((number >> 8, number & 255)) + bytes(length - 2)


def _numbers(messages):
    return [data[0] << 8 | data[1] for data in messages]


def _look_at_all(waiting, is_busy=False):
    while waiting.is_new:
        waiting.look(is_busy)


def test_in_the_order_in_which_they_came():
    waiting, rekey, drops = _made()
    for number in range(8):
        waiting.hear(_message(number), False)
    _look_at_all(waiting)
    assert _numbers(rekey.looked) == list(range(8)) and not waiting.is_any
    assert drops.as_dict() == {} and not waiting.is_flooded


def test_what_waits_is_bounded_in_octets():
    waiting, _, drops = _made()
    for number in range(1000):
        waiting.hear(_message(number), False)
        assert sum([len(data) for data in waiting._waiting]) <= 4096
    assert len(waiting._waiting) == 8 and drops.of(DROP_REKEY_BUSY) == 992
    waiting.clear()
    for number in range(20):  # two, however long
        waiting.hear(_message(number, 4000), False)
        assert len(waiting._waiting) <= 2


def test_by_lot_it_is_who_stays_and_whose_turn_is_next():
    """Wherever a message stands in a flood, nobody can be sure that it is not looked at."""
    places = [0] * 40
    for seed in range(400):
        waiting, rekey, _ = _made(seed)
        for number in range(len(places)):
            waiting.hear(_message(number), False)
        for _ in range(2):
            waiting.look(False)  # the first one of them
        places[_numbers(rekey.looked)[0]] += 1
    assert places[-1] < 100 and sum(places[-8:]) < 380 and sum(places[:-8]) > 20
    firsts = sum([1 for count in places if count])
    assert firsts > 20, places


def test_one_that_came_too_early_is_looked_at_again():
    waiting, rekey, _ = _made()
    early, other = _message(1), _message(2)
    rekey.says[early] = DROP_REKEY_SPI
    for data in (early, other):
        waiting.hear(data, True)
    _look_at_all(waiting, True)
    assert _numbers(rekey.looked) == [1, 2] and waiting.is_any and not waiting.is_new
    waiting.look_again()
    _look_at_all(waiting)
    assert _numbers(rekey.looked) == [1, 2, 1] and not waiting.is_any


def test_what_came_too_early_has_no_more_right_to_its_place_than_others():
    waiting, rekey, _ = _made()
    for number in range(8):
        waiting.hear(_message(number), True)
        rekey.says[_message(number)] = DROP_REKEY_BUSY
    _look_at_all(waiting, True)
    for number in range(8, 300):
        heard = [_message(number)] + waiting._waiting  # of the others nothing is kept: heap
        rekey.says = dict.fromkeys(heard, DROP_REKEY_BUSY)
        waiting.hear(_message(number), True)
        _look_at_all(waiting, True)
        assert len(waiting._waiting) == waiting._seen == 8
    assert max(_numbers(waiting._waiting)) > 280


def test_who_stops_it_closes_what_it_looks_at():
    waiting, rekey, _ = _made()
    waiting.hear(MANY, False)
    waiting.look(False)
    waiting.stop()
    assert rekey.closed == 1 and not waiting.is_any


def test_three_forgeries_are_a_flood():
    waiting, _, _ = _made()
    for _ in range(2):
        waiting.doubt()
    assert not waiting.is_flooded
    waiting.settle()
    waiting.doubt()
    waiting.doubt()
    assert not waiting.is_flooded
    waiting.doubt()
    assert waiting.is_flooded
    waiting.settle()
    assert not waiting.is_flooded


def test_an_outsider_whose_forgeries_find_room_raises_no_doubts():
    waiting, rekey, drops = _made()
    for number in range(500):
        data = _message(number)
        rekey.says[data] = DROP_REKEY_TAG
        waiting.hear(data, False)
        _look_at_all(waiting)
    assert drops.of(DROP_REKEY_TAG) == 500 and not waiting.is_flooded


def test_what_finds_no_room_raises_doubts():
    for reason in (0, DROP_REKEY_TAG):
        waiting, rekey, drops = _made()
        for number in range(8 + 95):
            rekey.says[_message(number)] = reason
            waiting.hear(_message(number), False)
        _look_at_all(waiting)
        assert drops.of(DROP_REKEY_BUSY) == 95 and not waiting.is_flooded
        for number in range(200, 209):
            waiting.hear(_message(number), False)
        assert waiting.is_flooded


def test_fragments_that_do_not_go_together_raise_doubts():
    waiting, rekey, _ = _made()
    for number in range(12):
        assert not waiting.is_flooded
        rekey.says[_message(number)] = DROP_IKE_FRAGMENT
        waiting.hear(_message(number), False)
        _look_at_all(waiting)
    assert waiting.is_flooded
    waiting.settle()
    rekey.says = {}
    for number in range(96):
        assert not waiting.is_flooded
        waiting.hear(_message(number), False)
        rekey.has_displaced = True
        _look_at_all(waiting)
        assert not rekey.has_displaced  # it counts once
    assert waiting.is_flooded


def test_no_memory_raises_doubts():
    waiting, rekey, drops = _made()
    rekey.says[MANY] = DROP_CAPACITY
    for _ in range(96):
        assert not waiting.is_flooded
        waiting.hear(MANY, False)
        _look_at_all(waiting)
    assert waiting.is_flooded and drops.of(DROP_CAPACITY) == 96
