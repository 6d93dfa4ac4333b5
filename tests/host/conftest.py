"""What several suites of the host share."""

import pytest

from covey_host import site as sites
from covey_host.site import Site
from covey_host.vault.opening import create_store, open_store


@pytest.fixture
def site(tmp_path):
    """An empty one of the disk's: a store, and no log yet. Suites of the key server alone have
    their own, see gcks_site.py."""
    root = tmp_path / "site"
    sites.create(root, "", lambda path: create_store(path, Site(root).key, None).close())
    return Site(root)


@pytest.fixture
def store(site):
    made = open_store(site)
    yield made
    made.close()


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
