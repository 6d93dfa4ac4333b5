"""Deadlines on a clock that wraps at 2^30 ms; drawn at random in tests/host."""

from covey.deadline import Timer

_WRAP = 1 << 30
_DAY_MS = 86400000


def _walk(start_ms, seconds, step_ms):
    """Real milliseconds after which a deadline is seen to be due, asked every step_ms."""
    deadline = Timer()
    deadline.start(start_ms % _WRAP, seconds)
    real_ms = 0
    while not deadline.is_due((start_ms + real_ms) % _WRAP):
        real_ms += step_ms
    return real_ms


def test_no_delay_is_due_at_once():
    for start_ms in (0, 1, _WRAP - 1):
        deadline = Timer()
        deadline.start(start_ms, 0)
        assert deadline.is_due(start_ms)
        assert deadline.left_ms(start_ms) == 0


def test_due_at_the_millisecond():
    deadline = Timer()
    deadline.start(1000, 5)
    assert not deadline.is_due(5999)
    assert deadline.left_ms(5999) == 1
    assert deadline.is_due(6000)
    assert deadline.is_due(6000 + _DAY_MS)


def test_over_the_wrap():
    assert _walk(_WRAP - 3000, 5, 1000) == 5000
    deadline = Timer()
    deadline.start(_WRAP - 1, 1)
    assert not deadline.is_due(998)
    assert deadline.is_due(999)


def test_whole_days():
    for days in (1, 2, 13, 40):
        assert _walk(_WRAP - 5, days * 86400, 3600000) == days * _DAY_MS


def test_u32_seconds_asked_every_six_days():
    most = 0xFFFFFFFF
    assert _walk(77, most, 6 * _DAY_MS) // 1000 - most < 6 * 86400


def test_left_is_a_day_at_most():
    deadline = Timer()
    deadline.start(0, 0xFFFFFFFF)
    assert deadline.left_ms(0) == _DAY_MS
    deadline.start(0, 86401)
    assert deadline.left_ms(0) == _DAY_MS
    assert deadline.left_ms(1500) == _DAY_MS - 500


def test_sleeping_as_long_as_it_says_ends_exactly():
    deadline = Timer()
    deadline.start(_WRAP - 7, 123456)
    real_ms = 0
    while True:
        left_ms = deadline.left_ms((_WRAP - 7 + real_ms) % _WRAP)
        if left_ms == 0:
            break
        real_ms += left_ms
    assert real_ms == 123456000


def test_an_older_now_changes_nothing():
    deadline = Timer()
    deadline.start(10000, 10)
    assert deadline.left_ms(15000) == 5000
    assert deadline.left_ms(12000) == 5000
    assert deadline.left_ms(15000) == 5000


def test_started_anew():
    deadline = Timer()
    deadline.start(0, 1)
    assert deadline.is_due(5000)
    deadline.start(5000, 2)
    assert not deadline.is_due(6999)
    assert deadline.is_due(7000)


def test_a_timer_is_due_only_while_it_runs():
    timer = Timer()
    assert not timer.is_due(0) and timer.left_ms(0) == 86400000
    timer.start(0, 2, 3600000)  # milliseconds may be many: a random delay
    assert timer.left_ms(1000) == 3601000
    assert not timer.is_due(3601999) and timer.is_due(3602000)
    timer.stop()
    assert not timer.is_due(3602000)
    timer.start(3602000, 0)
    assert timer.is_due(3602000) and timer.left_ms(3602000) == 0
