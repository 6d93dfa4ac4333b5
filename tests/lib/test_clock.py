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
            for after in (back, back + 1, 99, 1000, 49999, 100000, 190000):
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
    assert bound.learn(5000 + 200000, 199950, 200000)  # but drift has eaten the first
    assert 50 <= bound.width_ms(200000) < 60


def test_when_to_ask_again():
    assert ClockBound(timing()).again_s == 50
    assert ClockBound(timing(20)).again_s == 10
    assert ClockBound(timing(20, drift_ppm=20000)).again_s == 10
    assert ClockBound(timing(60000, 16, 1)).again_s == 60


def test_without_answers_it_is_of_use_till_drift_has_eaten_half_of_the_lag():
    for bound, most_s in (
        (ClockBound(timing(drift_ppm=50)), 2000),
        (ClockBound(timing(20)), 40),
        (ClockBound(timing(60000, 16, 1)), 14400),
    ):
        assert bound.learn(5_000_000, 0, 4)
        assert bound.latest(most_s * 1000) >= 0 and bound.latest(most_s * 1000 + 1) == -1


def test_a_bound_that_is_too_old_is_none():
    bound = ClockBound(timing())
    assert bound.learn(5000, 0, 4)
    assert bound.latest(200000) >= 0 and bound.latest(200001) == -1
    assert bound.earliest(200004) >= 0 and bound.earliest(200005) == -1
    bound.step(200004)
    assert bound.is_known
    bound.step(200005)
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
        assert bound.latest(150000) > bound.earliest(150000) - 2
        bound.left_ms(150000, 0x3FFFFFFF)
        bound.step(1000)

    assert heap_octets(step) == 0
