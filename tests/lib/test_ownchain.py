"""A sender's keys: made ahead, disclosed after the lag, owed when it falls silent."""

from covey.chainhash import mac_key
from covey.cmac import CMACContext
from covey.ownchain import OwnChain
from covey.timing import Timing
from test_pebbles import SALT, chain, stones

BITS = 9
COUNT = 1 << BITS
FIRST = 4 * COUNT
LAG = 2
KEYS = chain(FIRST, 2 * COUNT - 1)
SALT2 = b"another!"
NEXT = chain(FIRST + COUNT, 2 * COUNT - 1, b"z" * 16, SALT2)
EPOCH = bytearray(4)


def own(at=FIRST + 10, begun=True):
    made = OwnChain(Timing(8, LAG, BITS, 100, b"abcd", 500), b"press-7")
    if begun:
        made.take(at, SALT, stones(KEYS, at, BITS))
    return made


def signs_for(made, interval, salt=SALT, keys=KEYS):
    """Whether it begins, and its MAC is under the key of this interval."""
    if not made.begin(interval):
        return False
    assert made.interval == int.from_bytes(made.head, "big") == interval
    buf, mine = bytearray(64), bytearray(64)
    made.context.sign(buf, 8, EPOCH, 40, 8)
    made.sent_at, made.times_told = interval, 0
    CMACContext(mac_key(salt, b"press-7", keys[interval])).sign(mine, 8, EPOCH, 40, 8)
    return buf == mine


def told_in(made, interval):
    return bytes(made.key) if made.begin(interval) else bytes(16)


def test_a_key_of_a_mac_binds_chain_sender_and_interval():
    keys = {
        bytes(mac_key(*how))
        for how in (
            (SALT, b"press-7", b"k" * 16),
            (SALT2, b"press-7", b"k" * 16),
            (SALT, b"press-8", b"k" * 16),
            (SALT, b"press-7", b"l" * 16),
        )
    }
    assert len(keys) == 4 and all([len(key) == 16 for key in keys])


def test_without_stones_nothing_is_signed():
    made = own(begun=False)
    assert not made.begin(FIRST) and made.lacks(FIRST) and not made.step(FIRST)
    assert told_in(made, FIRST) == bytes(16)


def test_it_signs_and_tells_after_the_lag():
    made = own(FIRST + 10)
    for interval in range(FIRST + 11, FIRST + 100):
        assert signs_for(made, interval), interval
        early = interval - LAG < FIRST + 11
        assert told_in(made, interval) == (bytes(16) if early else KEYS[interval - LAG])
    assert not made.begin(FIRST + 10)  # before all that it has


def test_keys_are_made_ahead():
    made = own(FIRST + 10)
    while made.step(FIRST + 12):
        pass
    rounds = made._pebbles[0].at
    assert rounds == FIRST + 20
    assert signs_for(made, FIRST + 20) and made._pebbles[0].at == rounds
    assert told_in(made, FIRST + 14) == KEYS[FIRST + 12]


def test_a_packet_waits_for_a_few_rounds_at_most():
    made = own(FIRST + 10)
    assert not made.begin(FIRST + 15) and made._pebbles[0].at == FIRST + 14
    assert made.begin(FIRST + 15)


def test_who_is_far_behind_asks_for_other_stones():
    made = own(FIRST + 10)
    assert not made.lacks(FIRST + 200)
    assert made.lacks(FIRST + 300) and not made.step(FIRST + 300) and not made.begin(FIRST + 300)
    made.take(FIRST + 298, SALT, stones(KEYS, FIRST + 298, BITS))
    assert not made.lacks(FIRST + 300)
    assert signs_for(made, FIRST + 300) and told_in(made, FIRST + 300) == bytes(16)
    assert told_in(made, FIRST + 301) == KEYS[FIRST + 299]
    assert len(made._pebbles) == 1


def test_stones_that_are_no_later():
    made = own(FIRST + 10)
    made.step(FIRST + 12)
    late = stones(KEYS, FIRST + 9, BITS)
    made.take(FIRST + 9, SALT, late)
    assert not any([any(key) for key in late]) and signs_for(made, FIRST + 13)
    assert told_in(made, FIRST + 13) == KEYS[FIRST + 11]


def test_from_one_segment_into_the_next():
    """No interval without a key; what is told then is of the chain before."""
    made = own(FIRST + COUNT - 40)
    last_quarter = FIRST + 3 * COUNT // 4
    assert own().lacks(last_quarter) and not own(last_quarter - 2).lacks(last_quarter - 1)
    made.take(FIRST + COUNT - 1, SALT2, stones(NEXT, FIRST + COUNT - 1, BITS))
    assert not made.lacks(FIRST + COUNT - 30)
    for interval in range(FIRST + COUNT - 39, FIRST + COUNT + 40):
        made.step(interval)
        is_new = interval >= FIRST + COUNT
        salt, keys = (SALT2, NEXT) if is_new else (SALT, KEYS)
        assert signs_for(made, interval, salt, keys), interval
        if interval > FIRST + COUNT - 37:
            keys = NEXT if interval - LAG >= FIRST + COUNT else KEYS
            assert told_in(made, interval) == keys[interval - LAG]
    assert len(made._pebbles) == 1
    assert not made.begin(FIRST + 2 * COUNT)  # and behind it there is none


def test_no_needless_stones_before_a_border():
    """Keys of a segment are made some time before its end; stones of those would take the ring
    back, and with it the keys that are owed. As in life: asked for when they are lacking, and also
    by who has a reason of its own.
    """
    last = FIRST + COUNT - 1
    for lag in (2, 16):
        made = OwnChain(Timing(8, lag, BITS, 100, b"abcd", 500), b"press-7")
        at = last - 80
        made.take(at, SALT, stones(KEYS, at, BITS))
        made.take(last, SALT2, stones(NEXT, last, BITS))
        for interval in range(at + 1, last + 60):
            made.step(interval)
            assert not made.lacks(interval), interval - last
            if last - 10 < interval < last + 3:
                late = min(interval, last) - 1
                made.take(late, SALT, stones(KEYS, late, BITS))
                made.take(last, SALT2, stones(NEXT, last, BITS))
                made.step(interval)
            told = interval - lag
            if told > at + 1:
                keys = NEXT if told > last else KEYS
                assert told_in(made, interval) == keys[told], (lag, interval - last)


def test_what_was_begun_is_forgotten_before_ticks_wrap():
    made = own(FIRST + 10)
    assert made.begin(FIRST + 11)
    made.until = 1000
    made.rest(999, FIRST + 12)
    made.rest(1000, FIRST + 11)
    assert made.interval == FIRST + 11
    made.rest(1000, FIRST + 12)
    assert made.interval == -1 and made.begin(FIRST + 12)


def test_what_is_owed():
    made = own(FIRST + 10)
    assert made.owed_at() == -1
    assert signs_for(made, FIRST + 11)
    due = []
    while made.owed_at() >= 0:
        due.append(made.owed_at() - FIRST - 11)
        made.told()
    assert due == [2, 3, 4, 6, 10]
    assert signs_for(made, FIRST + 11)
    made.told()
    assert signs_for(made, FIRST + 12) and made.owed_at() == FIRST + 14  # anew


def test_wiped():
    made = own(FIRST + 10)
    made.step(FIRST + 12)
    assert made.begin(FIRST + 12)
    context = made.context
    made.wipe()
    assert not any(made._ring) and not made.begin(FIRST + 12) and made.owed_at() == -1
    try:
        context.sign(bytearray(64), 8, EPOCH, 40, 8)
    except OSError:
        return
    raise AssertionError("signed")
