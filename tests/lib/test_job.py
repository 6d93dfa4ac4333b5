"""Jobs give way and hand back a result."""

from covey.job import finish, tidied
from covey.port import tidy


def counting(n, steps):
    for i in range(n):
        steps.append(i)
        yield
    return n * 10


def composed(steps):
    first = yield from counting(2, steps)
    second = yield from counting(3, steps)
    return first + second


def failing():
    yield
    raise ValueError("no")


def test_finish_runs_to_the_end():
    steps = []
    assert finish(counting(3, steps)) == 30
    assert steps == [0, 1, 2]
    assert finish(counting(0, steps)) == 0


def test_jobs_compose():
    steps = []
    assert finish(composed(steps)) == 50
    assert steps == [0, 1, 0, 1, 2]


def test_a_job_gives_way():
    steps = []
    job = composed(steps)
    assert next(job) is None
    assert steps == [0]
    next(job)
    assert steps == [0, 1]


def test_errors_come_through():
    try:
        finish(failing())
    except ValueError as error:
        assert str(error) == "no"
        return
    raise AssertionError("the error was lost")


def test_a_tidied_job_is_the_same():
    for n in (0, 1, 70):
        steps = []
        assert finish(tidied(counting(n, steps))) == n * 10
        assert steps == list(range(n))
    try:
        finish(tidied(failing()))
    except ValueError:
        return
    raise AssertionError("the error was lost")


def test_tidying_is_steps_of_its_own():
    steps = []
    job = tidied(counting(3, steps))
    before = 0
    while not steps:
        before += 1
        next(job)
    assert before > 2 + len(list(tidy(None)))  # its first step is the one that has counted
    next(job)
    assert steps == [0, 1]


def test_a_tidied_job_that_is_dropped_comes_to_its_end():
    ends = []

    def worked():
        try:
            ends.append(False)
            while True:
                yield
        finally:
            ends[0] = True

    job = tidied(worked())
    while not ends:
        next(job)
    job.close()
    assert ends == [True]
