"""What several suites of the host share."""

import pytest


@pytest.fixture
def foreign(tmp_path):
    """Makes groups at a key server that isn't ours: foreign(**shape) is a foreign_bench.Bench."""
    from foreign_bench import Bench  # brings scapy, which takes a second: not for every suite

    made = []

    def bench(**shape):
        made.append(Bench(tmp_path / str(len(made)), **shape))
        return made[-1]

    yield bench
    for one in made:
        one.close()
