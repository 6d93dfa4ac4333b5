"""The key store: finding, full, activation after ATD, retirement after DTD, lifetimes, silence."""

from covey.drops import DROP_CAPACITY, Drops
from covey.keystore import KeyStore, is_among
from covey.path import DataPath
from datapath import DESTINATION, data_sa, heap_octets, locked

_A = b"\x00\x00\x01\x00"
_B = b"\x00\x00\x01\x01"
_C = b"\xff\x00\x00\x01"
_DAY_MS = 86400000
_WRAP = 1 << 30
_BUFFER = bytearray(64)


def _store(slots=4):
    return _of(slots, Drops())


def _of(slots, drops):
    return KeyStore(slots, drops, DataPath(slots, _BUFFER, _BUFFER, 0))


def _sender(spi, epoch=1, **how):
    sa = data_sa(spi, epoch=epoch, **how)
    sa.become_sender(65, 16)
    return sa


def test_found_by_its_spi_alone():
    store = _store()
    a, b = data_sa(_A), data_sa(_B)
    assert store.install(a, 0) and store.install(b, 0)
    assert store.find(b"--" + _A, 2) is a
    assert store.find(_B, 0) is b
    for octet in range(4):
        for bit in range(8):
            other = bytearray(_A)
            other[octet] ^= 1 << bit
            assert store.find(other, 0) is (b if other == _B else None)
    assert store.find(bytes(4), 0) is None  # what free slots look like


def test_an_spi_is_installed_once():
    store = _store()
    a = data_sa(_A)
    assert store.install(a, 0)
    assert not store.install(data_sa(_A), 0)  # it would begin with empty windows
    assert store.find(_A, 0) is a


def test_full_refuses_and_counts():
    drops = Drops()
    store = _of(2, drops)
    assert store.room_for(2) and not store.room_for(3)
    a, b = data_sa(_A), data_sa(_B)
    store.install(a, 0)
    assert store.room_for(1) and not store.room_for(2)
    store.install(b, 0)
    assert not store.room_for(1)
    assert not store.install(data_sa(_C), 0)
    assert drops.as_dict() == {"capacity": 1} and drops.of(DROP_CAPACITY) == 1
    assert store.live() == [a, b]
    store.retire(_A, 0, 0)
    assert store.install(data_sa(_C), 0)
    assert store.find(_A, 0) is None and store.find(_B, 0) is b


def test_receivers_are_not_sent_under():
    store = _store()
    store.install(data_sa(_A), 0)
    assert store.sending is None
    assert not store.activate(_B, 0, 0)


def test_activated_after_atd():
    store = _store()
    old, new = _sender(_A, 1), _sender(_B, 2)
    store.install(old, 0)
    assert store.activate(_A, 0, 0)
    assert store.sending is old
    store.install(new, 1000)
    store.activate(_B, 1000, 5)
    store.retire(_A, 1000, 10)
    assert store.sending is old  # until the new one may be sent under
    assert store.keep_up(5999) == store.step(5999) == 1
    assert store.sending is old
    assert store.keep_up(6000) == store.step(6000) == 5000
    assert store.sending is new
    assert store.find(_A, 0) is old  # still received under
    store.step(11000)
    assert store.find(_A, 0) is None
    assert store.sending is new


def test_the_newest_epoch_wins_whatever_the_order():
    store = _store()
    for spi, epoch in ((_B, 7), (_A, 6), (_C, 5)):
        store.install(_sender(spi, epoch), 0)
        store.activate(spi, 0, 0)
    assert store.sending.spi == _B
    store.retire(_B, 0, 0)
    assert store.sending.spi == _A


def test_two_ports_of_a_group_are_not_taken_for_each_other():
    """What is sent to the first stays there, whichever of the two is renewed."""
    store = _store()
    other = (DESTINATION[0], DESTINATION[1], 2223, 2223, 17)
    for spi, how in ((_A, {}), (_B, {"destination": other})):
        store.install(_sender(spi, 1, **how), 0)
        store.activate(spi, 0, 0)
    assert store.sending.spi == _A
    newer = _sender(_C, 2, destination=other)
    store.install(newer, 0)
    store.activate(_C, 0, 0)
    store.retire(_B, 0, 0)
    assert store.sending.spi == _A
    store.retire(_C, 0, 0)
    last = _sender(_B, 1, destination=other)
    store.install(last, 0)
    store.activate(_B, 0, 0)
    store.retire(_A, 0, 0)
    assert store.sending is None  # that was the other port's before, too
    store.install(_sender(_C, 2, destination=other), 0)
    store.activate(_C, 0, 0)
    assert store.sending.spi == _C  # the group has moved


def test_one_for_each_destination():
    store = _store()
    other = (b"\xef\xc0\x01\x40", b"\xef\xc0\x01\x40", 2222, 2222, 17)
    a, b, c = _sender(_A, 1), _sender(_B, 1, destination=other), _sender(_C, 2)
    for sa in (a, b, c):
        store.install(sa, 0)
        store.activate(sa.spi, 0, 0)
    assert store.outbound(DESTINATION[0]) is c
    assert store.outbound(other[0]) is b
    assert store.outbound(bytes(4)) is None
    assert store.sending is c


def test_retired_after_dtd_and_remembered():
    store = _store()
    a = data_sa(_A)
    store.install(a, 0)
    assert not store.retire(_B, 0, 5)
    assert store.retire(_A, 0, 5)
    assert not is_among(store.retired, _A, 0)
    store.step(4999)
    assert store.find(_A, 0) is a
    store.step(5000)
    assert store.find(_A, 0) is None
    assert is_among(store.retired, b"-" + _A, 1) and not is_among(store.retired, _B, 0)
    assert not is_among(store.retired, _A[:3] + b"\x02", 0)
    assert store.room_for(4)


def test_told_twice_the_earlier_end_stays():
    store = _store()
    store.install(data_sa(_A), 0)
    store.retire(_A, 0, 5)
    store.retire(_A, 3000, 60)
    store.step(5000)
    assert store.find(_A, 0) is None
    store.install(data_sa(_B), 0)
    store.retire(_B, 0, 60)
    store.retire(_B, 0, 5)
    store.step(5000)
    assert store.find(_B, 0) is None


def test_the_key_is_wiped():
    store = _store()
    a = _sender(_A)
    wiped = []
    a.context = _Wiped(wiped)
    store.install(a, 0)
    store.retire(_A, 0, 1)
    assert wiped == []
    store.step(1000)
    assert wiped == [True]


class _Wiped:
    def __init__(self, wiped):
        self._wiped = wiped

    def wipe(self):
        self._wiped.append(True)


def test_the_oldest_retired_spi_is_forgotten_first():
    store = _store(2)
    spis = [bytes([1, 2, 3, n]) for n in range(10)]
    for spi in spis:
        store.install(data_sa(spi), 0)
        store.retire(spi, 0, 0)
    assert [is_among(store.retired, spi, 0) for spi in spis] == [False] * 2 + [True] * 8


def test_a_lifetime_ends():
    store = _store()
    a, b = _sender(_A, 1, lifetime_s=10), _sender(_B, 2, lifetime_s=20)
    store.install(a, 0)
    store.install(b, 0)
    store.activate(_A, 0, 0)
    store.activate(_B, 0, 0)
    store.retire(_B, 0, 15)
    assert store.step(0) == 10000
    assert store.step(10000) == 5000
    assert is_among(store.retired, _A, 0) and store.sending is b
    assert store.step(15000) == _DAY_MS
    assert is_among(store.retired, _B, 0) and store.sending is None
    assert store.live() == []


def test_a_lifetime_of_zero():
    store = _store()
    assert store.install(data_sa(_A, lifetime_s=0), 5)
    assert store.find(_A, 0) is None and is_among(store.retired, _A, 0)


def test_a_lifetime_told_anew():
    store = _store()
    store.install(data_sa(_A, lifetime_s=10), 0)
    store.renew(store.find(_A, 0), 8000, 10)
    store.step(10000)
    assert store.find(_A, 0) is not None
    store.step(18000)
    assert store.find(_A, 0) is None
    store.install(data_sa(_B, lifetime_s=10), 18000)
    store.renew(store.find(_B, 0), 18000, None)
    assert store.step(30000) == _DAY_MS
    assert store.find(_B, 0) is not None


def test_told_again_it_is_current_again():
    store = _store()
    store.install(data_sa(_A), 0)
    store.retire(_A, 0, 5)
    store.renew(store.find(_A, 0), 1000, None)
    store.step(10000)
    assert store.find(_A, 0) is not None


def test_retired_without_a_successor_it_is_silent_at_once():
    store = _store()
    a, b = _sender(_A, 1), _sender(_B, 2)
    store.install(a, 0)
    store.activate(_A, 0, 0)
    store.retire(_A, 0, 10)
    assert store.sending is None and store.find(_A, 0) is a
    store.install(b, 0)
    store.activate(_B, 0, 3)
    assert store.sending is None
    store.step(3000)
    assert store.sending is b


def test_newest():
    store = _store()
    assert store.newest() is None
    for spi, epoch in ((_A, 3), (_B, 5), (_C, 4)):
        store.install(data_sa(spi, epoch=epoch), 0)
    assert store.newest().spi == _B


def test_two_end_in_one_step():
    store = _store()
    for spi in (_A, _B, _C):
        store.install(data_sa(spi, lifetime_s=None if spi == _B else 3), 0)
    store.step(3000)
    assert [sa.spi for sa in store.live()] == [_B]


def test_a_year_on_a_clock_that_wraps():
    store = _store()
    start_ms = _WRAP - 1000
    store.install(data_sa(_A, lifetime_s=365 * 86400), start_ms)
    real_ms = 0
    while store.live():
        left_ms = store.step((start_ms + real_ms) % _WRAP)
        if store.live():
            real_ms += left_ms
    assert real_ms == 365 * _DAY_MS


def test_nothing_is_due_before_it_is():
    store = _store()
    store.install(data_sa(_A), _WRAP - 1)
    assert store.keep_up(_WRAP - 1) == _DAY_MS
    assert store.keep_up(_DAY_MS - 2) == 1
    assert store.keep_up(_DAY_MS - 1) == _DAY_MS  # once a day, for the clock's sake


def test_silence():
    store = _store()
    a, b = _sender(_A, 1), _sender(_B, 2)
    store.install(a, 0)
    store.install(b, 0)
    store.activate(_A, 0, 0)
    store.activate(_B, 0, 5)
    store.silence()
    assert store.sending is None
    store.step(5000)
    assert store.sending is None  # what waited stays silent too
    assert store.find(_A, 0) is a and store.find(_B, 0) is b
    c = _sender(_C, 3)
    store.install(c, 6000)
    store.activate(_C, 6000, 1)
    store.step(7000)
    assert store.sending is c


def test_activated_anew_the_earlier_end_wins():
    """What is left of an ATD is told in whole seconds: who registers again within it would go
    back to old keys, or stay with them, for up to a second more than the group."""
    store = _store()
    a, b = _sender(_A), _sender(_B, 2)
    store.install(a, 0)
    store.activate(_A, 0, 0)
    store.activate(_A, 0, 2)
    assert store.sending is a
    store.install(b, 0)
    store.activate(_B, 0, 2)
    store.activate(_B, 1700, 1)  # 300 ms are left
    store.step(2000)
    assert store.sending is b
    store.activate(_B, 2100, 1)
    assert store.sending is b
    store.silence()
    store.activate(_B, 3000, 1)  # stopped, it begins anew
    assert store.sending is None
    store.step(4000)
    assert store.sending is b


def test_announced():
    store = _store()
    assert not is_among(store.announced, _A, 0)
    store.announce([_A, _B])
    assert is_among(store.announced, b"-" + _A, 1) and is_among(store.announced, _B, 0)
    assert not is_among(store.announced, _C, 0)
    store.announce([_C])
    assert is_among(store.announced, _C, 0) and not is_among(store.announced, _A, 0)
    store.announce([])
    assert not is_among(store.announced, _C, 0)


def test_all_wiped():
    store = _store()
    for spi in (_A, _B):
        store.install(_sender(spi), 0)
        store.activate(spi, 0, 0)
    store.wipe()
    assert store.live() == [] and store.sending is None
    assert is_among(store.retired, _A, 0) and is_among(store.retired, _B, 0)


def test_no_heap_for_packets():
    store = _store(8)
    for n in range(8):
        store.install(_sender(bytes([1, 1, 1, n]), n), 0)
        store.activate(bytes([1, 1, 1, n]), 0, 60)
    last, unknown = b"\x01\x01\x01\x07", b"\xff\xff\xff\xff"
    group = DESTINATION[0]

    def step():
        store.find(last, 0)
        store.find(unknown, 0)
        is_among(store.retired, unknown, 0)
        is_among(store.announced, unknown, 0)
        store.outbound(None)
        store.outbound(group)
        store.keep_up(5)
        store.step(5)

    assert heap_octets(step) == 0


def test_no_heap_when_something_ends():
    store = _store(2)
    store.install(_sender(_A, 1, lifetime_s=3), 0)
    store.activate(_A, 0, 2)

    def step():
        store.step(2000)
        store.step(3000)

    locked(step)
    assert store.live() == []


def test_an_sa_is_entered_whole_or_not_at_all():
    """On a board whose heap lies high an address is no small int, nor is this SPI anywhere."""
    path = DataPath(1, _BUFFER, _BUFFER, 0)
    known = list(path.words)
    for spi in (b"\x00\x00\x01\x7f", _A):
        sa = data_sa(spi)
        try:
            locked(lambda spi=spi, sa=sa: path.enter(0, spi, sa.words))
        except MemoryError:
            assert spi != _A, "to link takes heap"
            assert list(path.words) == known and not sa.words[0]
        else:
            assert sa.words[0]
            path.leave(0)


def test_windows_are_linked_without_heap():
    sa = data_sa(_A)
    senders = sa.senders
    locked(lambda: sa.track(senders))
    assert sa.senders is senders
