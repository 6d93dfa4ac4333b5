"""A job is a generator that yields every few milliseconds of a board's time; it returns a result.

Long arithmetic is written as jobs so that data keeps flowing while a rekey is verified; jobs
compose with `yield from`.
"""


def finish(job):
    """Run a job to its end without giving way; return its result."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value
