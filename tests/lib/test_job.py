"""Jobs give way and hand back a result."""

from covey.job import finish


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
