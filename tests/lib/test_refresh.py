"""When keys are asked for: what a clock that wraps must not confuse."""

from covey.refresh import Refresh

_DAY_MS = 86400000


class _Member:
    missed_rekey = wants_rekey = False


def _answered():
    """A pull was answered at 0."""
    refresh = Refresh(lambda: 5)
    refresh.pulled(0)
    refresh.answered(0)
    assert not refresh.is_pulling
    return refresh


def test_an_inband_rekey_soon_after_a_pull_is_pulled_behind():
    refresh = _answered()
    refresh.inband(59999)
    refresh.followed(60000)
    assert refresh.at.is_running


def test_days_later_it_is_not():
    """Whatever half of its range the clock is in by then."""
    for days in range(1, 14):
        refresh = _answered()
        for day in range(1, days + 1):
            now_ms = day * _DAY_MS & 0x3FFFFFFF
            refresh.check(now_ms, _Member, True)
        refresh.inband(now_ms)
        refresh.followed(now_ms)
        assert not refresh.at.is_running, days


def test_an_outcome_that_nobody_pulled_for_is_no_answer():
    refresh = Refresh(lambda: 5)
    refresh.answered(0)
    refresh.inband(1)
    refresh.followed(2)
    assert not refresh.at.is_running
