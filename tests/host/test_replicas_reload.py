"""Several key servers, a policy that is reloaded, and a store that fails in between."""

from contextlib import suppress

import pytest

from covey_host.errors import Problem
from covey_host.store import Fenced
from foreign_gm import GSA_AUTH
from gcks_site import PLAIN, SITE, FullDisk
from replicas import Crowd, Replicas

NAMES = ["m0", "m1", "m2"]


class Failing(FullDisk):
    """scans: how many reads of a whole group fail; writes: of the policy, as another one leads."""

    scans = writes = 0

    def scan(self, prefix, *where):
        if self.scans and prefix.startswith("group/"):
            self.scans -= 1
            raise Problem("The store doesn't answer.")
        return self._store.scan(prefix, *where)

    def compare_and_swap(self, changes, term):
        if self.writes and any(key == "site/policy" for key, _, _ in changes):
            self.writes -= 1
            raise Fenced("Another key server has the term by now.")
        return super().compare_and_swap(changes, term)


@pytest.fixture
def site(tmp_path):
    text = SITE + PLAIN + "fresh_join = false\n"
    made = Replicas(tmp_path / "state.db", text=text, wrap=Failing, kwa=3)
    made.settle()
    made.add(*NAMES)
    made.wait(300)
    yield made
    for one in made.all.values():
        one.store.close()


@pytest.mark.parametrize("scans", [1, 3])
@pytest.mark.parametrize("more", ["key_tree = 0\n", "key_tree = 2\n", "key_bits = 256\n"])
def test_a_follower_that_cannot_read_the_new_tree_at_once(site, more, scans):
    """It says nothing of the new turn until it knows what was written."""
    crowd = Crowd(site)
    one, other = site.followers
    crowd.come("m0", site.holder)
    site.wait(300)
    one.store.scans = scans
    site.holder.reload(site.text + more)
    site.wait(1_000)
    crowd.hear()
    assert crowd.heard["m0"][0] == "excluded" and not one.store.scans
    assert one.group.epoch == other.group.epoch == site.holder.group.epoch
    for place in (site.holder, one, other, one):
        crowd.come("m0", place)
        site.wait(300)
    assert one.group.active() == site.holder.group.active()
    site.send(one.replica.take(site.now), one)  # over the same keys
    site.send(one.server.rekey("line1", site.now), one)
    site.wait(3_000)
    crowd.hear()
    assert crowd.current() == {"m0"}


def test_nothing_is_told_before_the_new_tree_was_read(site):
    crowd = Crowd(site)
    one = site.followers[0]
    gm, auth = site.begun("m1", one)
    one.store.scans = 1
    site.holder.reload(site.text + "key_tree = 0\n")
    with suppress(Problem):
        one.server.catch_up(site.now)
    assert not one.store.scans and one.group.epoch != site.holder.group.epoch
    answer = one.talk(auth, "m1")  # before it looks again
    crowd.join("m1", gm.take_group(gm.check_identity(gm.open(answer, GSA_AUTH))))
    assert crowd.current() == {"m1"}


@pytest.mark.parametrize("how", ["full", "lies", "fenced"])
def test_a_reload_that_the_store_does_not_take(site, how):
    """All register as before: by the policy of before, where nothing was written."""
    crowd = Crowd(site)
    holder = site.holder
    holder.reload(site.text)
    site.wait(300)
    text = site.text + "key_bits = 256\n"
    holder.store.full, holder.store.lies = how != "fenced", how == "lies"
    holder.store.writes = how == "fenced"
    with pytest.raises(Problem):
        holder.reload(text)
    holder.store.full = False
    gm, auth = site.begun("m0", holder)
    gm.open(holder.talk(auth, "m0"), GSA_AUTH)  # at once, or as soon as it knows
    site.wait(1_000)
    crowd.hear()
    for name, one in zip(NAMES, [holder, *site.followers], strict=True):
        crowd.come(name, one)
    assert crowd.current() == set(NAMES) and not any(one.server.unfinished for one in site.living)
    bits = 256 if how == "lies" else 128
    assert {one.group.epoch.shape.key_bits for one in site.living} == {bits}
    holder.reload(site.text + "key_tree = 0\n")
    site.wait(1_000)
    crowd.hear()
    for name, one in zip(NAMES, site.living, strict=True):
        crowd.come(name, one)
    assert crowd.current() == set(NAMES)


def test_a_run_that_the_store_does_not_take(site):
    """The same of the row that says in which run keys were made."""
    crowd = Crowd(site)
    holder = site.holder
    ledger = holder.server.ledger
    ledger.read("site/run")
    holder.store.full = True
    with pytest.raises(Problem):
        ledger.write({"site/run": b"none"})
    holder.store.full = False
    site.wait(300)
    crowd.come("m0", holder)


def test_a_mistake_while_it_begins_to_lead_leaves_no_holder(site):
    """It beats no more: one leads that has done all of it."""
    crowd = Crowd(site)
    former = site.holder
    one, other = site.followers

    def broken(*_):
        raise RuntimeError("a mistake of ours")

    one.server._end_former = broken
    with pytest.raises(RuntimeError):
        one.replica.take(site.now)
    assert not one.is_holder and one.server.term is None
    del one.server._end_former
    site.wait(100)
    assert not former.is_holder  # its term is over
    site.settle()
    crowd.come("m0", one)
    crowd.come("m1", other)
