"""Several key servers over one store: a look at what others have written that fails halfway. What
was done by then is done, and all that follows from it is said."""

import pytest

from covey.ike import GSA_INBAND_REKEY, INFORMATIONAL
from covey_host.errors import Problem
from gcks_site import LINE1, PLAIN, SITE
from replicas import Replicas, lead_of, take

SECOND = PLAIN.replace("line1", "line2").replace("1.32", "1.33")


class Failing:
    """A store of which one read fails, each time: of a key or prefix that ends so."""

    at = None

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _check(self, key):
        if self.at and key.endswith(self.at):
            raise Problem("No answer.")

    def read(self, key):
        self._check(key)
        return self._store.read(key)

    def scan(self, prefix, *more):
        self._check(prefix)
        return self._store.scan(prefix, *more)


@pytest.fixture
def make(tmp_path):
    made = []

    def site(text):
        made.append(Replicas(tmp_path / "state.db", text=text, wrap=Failing))
        made[-1].settle()
        made[-1].add("m0", "m1", "m2")
        made[-1].wait(200)
        return made[-1]

    yield site
    for each in made:
        for one in each.all.values():
            one.store.close()


def told(site, one, name):
    """Kinds of requests that this one has sent to a member."""
    outs = [out for by, out in site.unasked if (by, out.address) == (one.name, name)]
    return {out.data[18] for out in outs} & {INFORMATIONAL, GSA_INBAND_REKEY}


def test_who_was_removed_hears_it_though_the_next_one_can_not_be_read(make):
    site = make(SITE + LINE1)
    one = site.followers[0]
    for name in ("m0", "m1"):
        site.come(name, one)
    site.wait(200)
    site.unasked.clear()
    one.store.at = "authority/member/m1"
    site.send(site.holder.server.remove_members(["m0", "m1"], site.now), site.holder)
    site.wait(200)
    assert one.replica.trouble and told(site, one, "m0") and not told(site, one, "m1")
    one.store.at = None
    site.wait(200)
    assert not one.replica.trouble and told(site, one, "m1")


def test_who_follows_says_so_though_it_can_not_read_what_changed(make):
    """Members that are told inband are sent away."""
    site = make(SITE + PLAIN + 'rekey = "inband"\nfresh_join = false\n')
    former, other = site.holder, site.followers[0]
    _, auth = site.begun("m0", former)
    assert former.talk(auth, "m0")
    site.wait(200)
    site.unasked.clear()
    former.store.at = "group/line1/"
    former.group.is_stale = True  # as after a write that failed
    former.is_stopped = True
    other.replica.take(site.now)
    former.is_stopped = False
    site.now += 100
    former.step()
    assert former.replica.trouble and not former.is_holder and told(site, former, "m0")


def test_who_waits_for_keys_of_one_group_gets_them_though_another_can_not_be_read(make):
    site = make(SITE + PLAIN + SECOND)
    one = site.followers[0]
    site.come("m0", one)
    site.wait(60_000)
    gm, auth = site.begun("m1", one)
    assert one.talk(auth, "m1") is None
    one.server._groups["line2"].is_stale = True
    one.store.at = "group/line2/"
    for name in ("line1", "line2"):
        site.send(site.holder.server.rekey(name, site.now), site.holder)
    site.now += 100
    one.step()
    assert one.replica.trouble
    answers = [out for by, out in site.unasked if (by, out.address) == (one.name, "m1")]
    assert answers and take(gm, answers[0].data).tek


def test_what_a_look_has_found_is_said_though_this_one_can_not_lead(make):
    site = make(SITE + LINE1)
    one = site.followers[0]
    site.come("m0", one)
    site.wait(200)
    site.unasked.clear()
    site.send(site.holder.server.remove_members(["m0"], site.now), site.holder)
    site.holder.kill()

    def away(*_):
        raise Problem("No answer.")

    one.store.acquire_term = away
    one.replica._lead, one.replica._silent_ms = lead_of(one.store), 10_000
    site.now += 100
    one.step()
    assert one.replica.trouble and told(site, one, "m0")
