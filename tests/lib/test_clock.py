"""The bound on the key server's clock: never wrong, whatever the network and the clocks do."""

from covey.clock import ClockBound
from covey.port import ticks_add
from covey.timing import Timing
from datapath import heap_octets

WRAP = 1 << 30


def timing(interval_ms=100, lag=2, drift_ppm=500):
    return Timing(8, lag, 14, interval_ms, b"abcd", drift_ppm)


def test_nothing_is_known_at_first():
    bound = ClockBound(timing())
    assert not bound.is_known
    assert bound.latest(0) == bound.earliest(0) == -1


def test_an_answer():
    bound = ClockBound(timing())
    assert bound.learn(1000 * 100 + 50, 5000, 5020)
    assert bound.is_known and bound.earliest(5020) == 1000 and bound.latest(5020) == 1000
    assert bound.width_ms(5020) < 25
    assert bound.latest(5000 + 46) == 1000 and bound.latest(5000 + 50) == 1001
    assert bound.earliest(5020 + 49) == 1000 and bound.earliest(5020 + 53) == 1001
    assert bound.earliest(5000) == 1000  # an older now


def test_it_holds_whatever_the_clocks_do():
    """True time, as the key server's clock has it; ours runs fast or slow by what is allowed."""
    for ppm in (-500, -100, 0, 100, 500):
        for way, back in ((0, 0), (1, 90), (90, 1), (40, 40)):
            bound = ClockBound(timing())
            true_ms = 123456789  # of the server's clock as it answers
            start = WRAP - 20000  # our ticks wrap meanwhile

            def ticks(t, true_ms=true_ms, start=start, ppm=ppm):
                return (start + (t - true_ms) * (1000000 + ppm) // 1000000) % WRAP

            assert bound.learn(true_ms, ticks(true_ms - way), ticks(true_ms + back))
            for after in (back, back + 1, 99, 1000, 9999, 30000, 44000):
                now = true_ms + after
                assert bound.earliest(ticks(now)) <= now // 100 <= bound.latest(ticks(now))


def test_an_answer_that_took_too_long():
    bound = ClockBound(timing())
    assert bound.most_round_ms == 100
    assert not bound.learn(5000, 0, 101) and not bound.is_known
    assert not bound.learn(5000, 10, 9)
    assert bound.learn(5000, 0, 100)


def test_a_better_bound_stays():
    bound = ClockBound(timing())
    assert bound.learn(5000, 0, 4)
    assert not bound.learn(5100 + 90, 100, 190)  # one that was held back
    assert bound.width_ms(190) < 10
    assert bound.learn(5000 + 60000, 59950, 60000)  # but drift has eaten the first
    assert 50 <= bound.width_ms(60000) < 60


def test_two_who_know_it_at_the_end_of_its_time_take_each_others_packets():
    """Whatever their clocks do, if the network is as fast as policy takes it to be."""
    for interval_ms, lag, ppm, most_ms in (
        (100, 2, 500, 45000),
        (50, 2, 500, 20000),
        (500, 4, 500, 745000),
        (100, 6, 5000, 24000),
    ):
        early, late = [ClockBound(timing(interval_ms, lag, ppm)) for _ in range(2)]
        assert early.learn(1000 * interval_ms, 0, 1) and late.learn(1000 * interval_ms, 0, 1)
        assert early.latest(most_ms) >= 0 and early.latest(most_ms + 1) < 0
        gone = most_ms - most_ms * ppm // 1000000 - interval_ms  # the key server's clock
        slow = gone - gone * ppm // 1000000
        fast = gone + gone * ppm // 1000000
        for ms in range(0, interval_ms, 3):
            assert late.latest(fast + ms) < early.earliest(slow + ms) + lag, (interval_ms, lag, ms)


def test_an_answer_that_contradicts():
    """Our ticks have stood still for 5 s, or gone on by themselves: the key server is right."""
    for gone, said in ((10000, 15000), (10000, 7000)):
        bound = ClockBound(timing())
        assert bound.learn(500000, 0, 4)
        assert bound.latest(gone) == 5100
        assert bound.learn(500000 + said, gone - 30, gone)
        assert bound.earliest(gone) <= (500000 + said) // 100 <= bound.latest(gone)


def test_what_is_known_for_a_while_is_forgotten_before_ticks_wrap():
    bound = ClockBound(timing())
    assert bound.learn(500000, 0, 4)
    assert bound.look(10) == bound.is_latest == 5000 and bound.until <= 100
    bound.step(bound.until - 1)
    assert bound.is_latest == 5000
    bound.step(bound.until)
    assert bound.is_latest == -1
    assert bound.look(200) == 5002
    bound.forget()
    assert bound.is_latest == -1


def test_when_to_ask_again():
    assert ClockBound(timing()).again_s == 11
    assert ClockBound(timing(20)).again_s == 10
    assert ClockBound(timing(20, drift_ppm=20000)).again_s == 10
    assert ClockBound(timing(60000, 16, 1)).again_s == 60


def test_for_how_long_it_is_of_use_without_answers():
    for bound, most_s in (
        (ClockBound(timing(drift_ppm=50)), 450),
        (ClockBound(timing(20)), 20),
        (ClockBound(timing(60000, 16, 1)), 14400),
    ):
        assert bound.learn(5_000_000, 0, 4)
        assert bound.latest(most_s * 1000) >= 0 and bound.latest(most_s * 1000 + 1) == -1


def test_a_bound_that_is_too_old_is_none():
    bound = ClockBound(timing())
    assert bound.learn(5000, 0, 4)
    assert bound.latest(45000) >= 0 and bound.latest(45001) == -1
    assert bound.earliest(45004) >= 0 and bound.earliest(45005) == -1
    bound.step(45004)
    assert bound.is_known
    bound.step(45005)
    assert not bound.is_known and bound.earliest(10) == -1
    assert bound.learn(5000, 0, 4)
    bound.forget()
    assert not bound.is_known


def test_how_long_until():
    for interval_ms in (20, 100, 777):
        bound = ClockBound(timing(interval_ms))
        assert bound.learn(interval_ms * 7 + 3, 100, 104)
        now = 104
        assert bound.left_ms(now, 7) == bound.left_ms(now, 1) == 0
        for interval in range(8, 12):
            looks = 0
            while bound.earliest(now) < interval:
                left = bound.left_ms(now, interval)
                assert 0 < left <= 1000
                now = ticks_add(now, left)
                looks += 1
            assert looks <= 2 and bound.left_ms(now, interval) == 0
        assert bound.left_ms(now, 0x7FFFFFFF) == 1000


def test_no_heap():
    bound = ClockBound(timing())
    assert bound.learn(300 * 24 * 3600 * 1000, 0, 4)

    def step():
        assert bound.latest(40000) > bound.earliest(40000) - 2
        bound.left_ms(40000, 0x3FFFFFFF)
        bound.step(1000)

    assert heap_octets(step) == 0
