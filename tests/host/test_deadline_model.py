"""Deadlines against a clock that never wraps, with jumps of up to half the other's range."""

from hypothesis import given
from hypothesis import strategies as st

from covey.deadline import Timer

_WRAP = 1 << 30
_DAY_MS = 86_400_000


@given(
    start_ms=st.integers(0, 1 << 40),
    seconds=st.one_of(st.integers(0, 40 * 86400), st.integers(0, 0xFFFFFFFF)),
    jumps=st.lists(st.integers(0, (1 << 29) - 1), max_size=60),
)
def test_as_on_a_clock_that_never_wraps(start_ms, seconds, jumps):
    deadline = Timer()
    deadline.start(start_ms % _WRAP, seconds)
    real_ms = start_ms
    for jump in jumps:
        real_ms += jump
        left_ms = max(0, start_ms + seconds * 1000 - real_ms)
        assert deadline.is_due(real_ms % _WRAP) == (left_ms == 0)
        said_ms = deadline.left_ms(real_ms % _WRAP)
        assert said_ms == left_ms or said_ms == _DAY_MS < left_ms


@given(start_ms=st.integers(0, _WRAP - 1), seconds=st.integers(0, 100 * 86400))
def test_who_sleeps_as_long_as_told_wakes_on_time(start_ms, seconds):
    deadline = Timer()
    deadline.start(start_ms, seconds)
    real_ms = start_ms
    while left_ms := deadline.left_ms(real_ms % _WRAP):
        real_ms += left_ms
    assert real_ms == start_ms + seconds * 1000
