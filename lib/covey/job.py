"""A job is a generator that yields every few milliseconds of a board's time; it returns a result.

Long arithmetic is written as jobs so that data keeps flowing while a rekey is verified; jobs
compose with `yield from`.
"""

from covey.port import const, mem_free, tidy

# Octets of the heap for each step until the next collection. The steps of long arithmetic leave a
# half of that as garbage on the average; packets meanwhile and holes that are too small the rest.
_GARBAGE = const(2560)
_SPARE = const(20480)
_MOST_STEPS = const(128)  # the more garbage, the longer the way to a free place


def tidied(job):
    """Job: a long one, in a heap that is tidied before it and now and then, in steps of their own.

    What it keeps should be little: it lies behind the holes that were filled.
    """
    filling = None
    steps = left = 0
    try:
        while True:
            if not left:
                filling = yield from tidy(filling)
                yield
                if not steps:
                    free = mem_free()  # of more than _SPARE a third may be filled yet
                    free = max(free * 2 // 3, min(free, _SPARE))
                    steps = min(free // _GARBAGE + 1, _MOST_STEPS)
                    yield
                left = steps
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
