"""When keys are asked for: what a clock that wraps must not confuse."""

from covey.refresh import Refresh

_DAY_MS = 86400000


def _soon(most_s=2):
    return 5


class _Member:
    missed_rekey = wants_rekey = False


def _answered():
    """A pull was answered at 0."""
    refresh = Refresh(_soon)
    refresh.pulled(0)
    refresh.answered(0)
    assert not refresh.is_pulling
    return refresh


def test_an_inband_rekey_soon_after_a_pull_is_pulled_behind():
    refresh = _answered()
    refresh.inband(59999)
    refresh.followed(60000, True)
    assert refresh.at.is_running


def test_days_later_it_is_not():
    """Whatever half of its range the clock is in by then."""
    for days in range(1, 14):
        refresh = _answered()
        for day in range(1, days + 1):
            now_ms = day * _DAY_MS & 0x3FFFFFFF
            refresh.check(now_ms, _Member, True)
        refresh.inband(now_ms)
        refresh.followed(now_ms, True)
        assert not refresh.at.is_running, days


def test_an_outcome_that_nobody_pulled_for_is_no_answer():
    refresh = Refresh(_soon)
    refresh.answered(0)
    refresh.inband(1)
    refresh.followed(2, True)
    assert not refresh.at.is_running


def _missing():
    """A packet under an announced SPI came at 0: the member will ask at 5."""
    refresh = Refresh(_soon)
    member = _Member()
    member.missed_rekey = True
    refresh.check(0, member, True)
    assert refresh.at.is_running and not member.missed_rekey
    return refresh, member


def test_a_repeat_that_comes_in_time_saves_the_asking():
    refresh, member = _missing()
    refresh.followed(3, True)
    assert not refresh.at.is_running
    member.missed_rekey = True  # the one after it: nothing was asked for the one before
    refresh.check(4, member, True)
    assert refresh.at.is_running


def _asks(refresh, member, until_ms, each_ms=5000):
    """When it asks, where a rekey is followed every each_ms."""
    asked = []
    for now_ms in range(0, until_ms, 1000):
        refresh.check(now_ms, member, True)
        if refresh.is_due(now_ms):
            asked.append(now_ms)
            refresh.installed(_Made(100), True, now_ms)
        elif now_ms % each_ms == each_ms - 1000:
            refresh.followed(now_ms, True)
            refresh.installed(_Made(100), False, now_ms)
    return asked


def test_rekeys_that_come_often_do_not_put_off_the_next_question():
    refresh, member = _missing()
    assert _asks(refresh, member, 20_000) == [1000]
    member.missed_rekey = True
    refresh.check(31_000, member, True)
    assert refresh.at.is_running


def test_what_is_missed_too_soon_after_a_question_is_asked_for_then():
    """Who lacks the Rekey SA hears of no SPI that it could know by an announcement."""
    for has_followed in (False, True):
        refresh, member = _missing()
        assert _asks(refresh, member, 4000) == [1000]
        member.missed_rekey = True
        refresh.check(5000, member, True)
        assert not member.missed_rekey and not refresh.at.is_running
        if has_followed:
            refresh.followed(6000, True)
        refresh.check(29_000, member, True)
        assert not refresh.at.is_running
        refresh.check(31_000, member, True)
        assert refresh.at.is_running is not has_followed


def test_what_else_there_is_to_ask_for_stays():
    refresh, _ = _missing()
    refresh.followed(3, False)  # no keys of data: the first of two messages
    assert refresh.at.is_running
    refresh.soon(3)
    refresh.followed(4, True)
    assert refresh.at.is_running
    refresh = Refresh(_soon)
    refresh.soon(0)
    member = _Member()
    member.missed_rekey = True
    refresh.check(0, member, True)
    refresh.followed(4, True)
    assert refresh.at.is_running


class _Made:
    rekey_sa = None
    has_news = True

    def __init__(self, lifetime_s):
        self.lifetime_s = lifetime_s
        self.data_sas = [self]


def test_who_doubts_asks_in_seconds_whatever_else_it_waits_for():
    """Where a whole group is to come back within an hour, too."""
    for is_waiting in (False, True):
        refresh = Refresh(lambda most_s=3600: most_s * 1000)
        if is_waiting:
            refresh.soon(0)
        refresh.is_doubted = True
        refresh.check(0, _Member(), True)
        assert not refresh.is_due(9999) and refresh.is_due(10000)
    refresh = Refresh(_soon)
    refresh.at.start(0, 0, 3)
    refresh.is_doubted = True
    refresh.check(0, _Member(), True)
    assert refresh.is_due(3)


def test_a_lifetime_that_ends_while_a_pull_is_out_is_not_asked_for_again():
    refresh = Refresh(_soon)
    refresh.installed(_Made(100), True, 0)
    refresh.check(84_000, _Member, True)
    assert not refresh.at.is_running
    refresh.pulled(84_500)
    refresh.check(86_000, _Member, True)
    assert not refresh.at.is_running
    refresh.answered(86_100)
    refresh.check(86_200, _Member, False)  # its keys are being installed
    refresh.installed(_Made(100), True, 86_300)
    refresh.check(86_400, _Member, True)
    assert not refresh.at.is_running
    refresh.pulled(86_500)  # and one that comes to nothing
    refresh.check(86_300 + 86_000, _Member, True)
    assert refresh.is_unanswered(86_300 + 86_000)
    refresh.check(86_300 + 87_000, _Member, True)
    assert refresh.at.is_running


def test_while_a_pull_is_out_nothing_more_is_asked_for():
    refresh = Refresh(_soon)
    member = _Member()
    refresh.pulled(0)
    member.missed_rekey = True
    refresh.check(1, member, True)
    assert not refresh.at.is_running
    refresh.answered(2)
    refresh.check(3, member, True)  # the answer was older still
    assert refresh.at.is_running
