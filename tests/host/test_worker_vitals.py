"""Whether a worker lives: silence, pauses, what is told of it."""

from covey_host.gcks.vitals import ALIVE_S, MOST_PAUSE_S, SILENT_S, WELL_S, Vitals


def test_silence():
    one = Vitals()
    one.begin(100)
    assert not one.is_silent(100 + 2 * SILENT_S), "Python takes its time on a small machine"
    assert one.is_silent(131)
    one.hear(105)
    for now_s in range(105, 200, ALIVE_S):
        assert not one.is_silent(now_s)
        one.hear(now_s)
    assert one.is_silent(200 + SILENT_S)
    one.excuse(200 + SILENT_S)
    assert not one.is_silent(200 + SILENT_S)


def test_the_longer_it_fails_the_longer_it_waits():
    one, now_s, pauses = Vitals(), 0.0, []
    for number in range(12):
        assert one.fault(now_s) == (f"has ended {number} times in a row" if number > 1 else None)
        one.begin(now_s)
        if number % 2:
            one.hear(now_s)
        now_s += 1
        pauses.append(one.end(now_s))
        now_s += pauses[-1]
    assert pauses[:4] == [0, 0.5, 1.5, 3.5] and pauses == sorted(pauses)
    assert pauses[-1] == MOST_PAUSE_S and not one.is_ready
    one.begin(now_s)
    one.hear(now_s)
    assert one.fault(now_s + 1)
    assert one.fault(now_s + WELL_S) is None, "it runs well"
    one.hear(now_s + WELL_S)
    assert one.end(now_s + WELL_S) == 0 and one.ended == 1


def test_one_that_is_stuck_again_and_again_does_not_run_well():
    one, now_s = Vitals(), 0.0
    for number in range(3):
        one.begin(now_s)
        one.hear(now_s)
        now_s += SILENT_S + 1
        assert one.is_silent(now_s)
        one.end(now_s)
        assert one.ended == number + 1
