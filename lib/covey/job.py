"""A job is a generator that yields every few milliseconds of a board's time; it returns a result.

Long arithmetic is written as jobs so that data keeps flowing while a rekey is verified; jobs
compose with `yield from`.
"""

from covey.port import const, tidy

_STEPS = const(32)  # between two collections of the heap; they leave some 40 KB of garbage


def tidied(job):
    """Job: a long one, in a heap that is tidied before it and now and then, in steps of their own.

    What it keeps should be little: it lies behind the holes that were filled.
    """
    filling = None
    left = 0
    try:
        while True:
            if not left:
                left = _STEPS
                for kept in tidy(filling):
                    filling = kept
                    yield
            left -= 1
            next(job)
            yield
    except StopIteration as end:
        return end.value
    finally:
        job.close()


def finish(job):
    """Run a job to its end without giving way; return its result."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value
