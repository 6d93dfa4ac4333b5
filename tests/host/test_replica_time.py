"""Keys that are in use are not taken for new ones, whatever befalls a key server's clock or store.

Several of them over one store, on one virtual clock: see replicas.py.
"""

from contextlib import suppress

import pytest

from covey_host.errors import Problem
from covey_host.gcks import issuing, trust
from foreign_certs import CertGM
from foreign_gm import (
    AUTHORIZATION_FAILED,
    GSA_AUTH,
    GSA_REGISTRATION,
    REGISTRATION_FAILED,
    ForeignGM,
    notification,
)
from gcks_site import KEY, PLAIN, SITE, FullDisk
from gcks_site import Site as OneServer
from replicas import STEP_MS, Crowd, Replicas, take

TEMPORARY_FAILURE = 43
NAMES = [f"m{number}" for number in range(6)]
FRESH = SITE + PLAIN
BACKWARD = SITE + PLAIN + "fresh_join = false\nbackward_secrecy = true\n"
NO_TREE = BACKWARD + "key_tree = 0\n"  # where there is one, a newcomer waits for a leaf, too


class Slow(FullDisk):
    """The next call of that name takes so long; the others go on. before, after: what they do."""

    def __init__(self, store):
        super().__init__(store)
        self.site, self.slow, self.ms, self.then = None, None, 0, lambda: None

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if name != self.slow or not self.ms:
            return found

        def slow(*args, **kwargs):
            self.wait()
            return found(*args, **kwargs)

        return slow

    def compare_and_swap(self, changes, term):
        registers = any(key.startswith("group/") for key, _, _ in changes)
        if self.slow == "compare_and_swap" and self.ms and registers:
            self.wait()
        return super().compare_and_swap(changes, term)

    def wait(self):
        ms, self.ms = self.ms, 0
        for _ in range(ms // STEP_MS):
            self.site.now += STEP_MS
            for one in self.site.living:
                if one.store is not self:
                    one.step()
        self.then()


def made(tmp_path, text):
    site = Replicas(tmp_path / "state.db", text=text, wrap=Slow)
    site.settle()
    site.add(*NAMES)
    site.wait(300)
    for one in site.living:
        one.store.site = site
    return site


@pytest.fixture(params=[FRESH, BACKWARD], ids=["fresh", "backward"])
def site(request, tmp_path):
    return made(tmp_path, request.param)


def rekey(site):
    site.send(site.holder.server.rekey("line1", site.now), site.holder)


def is_given_others(site, one, name, crowd):
    """A newcomer there waits, and then has keys under which nobody sends."""
    number = site.holder.group.epoch.number
    gm, auth = site.begun(name, one)
    assert one.talk(auth, name) is None
    crowd.join(name, take(gm, site.answered(one, name)))
    return site.holder.group.epoch.number == number + 1


def test_a_full_read_does_not_forget_that_others_send(site):
    crowd = Crowd(site)
    one, other = site.followers
    _, auth = site.begun("m0", one)
    one.store.full = True
    with suppress(Problem):
        one.talk(auth, "m0")
    one.store.full = False
    crowd.come("m1", other)
    site.leap(60_000)
    assert is_given_others(site, one, "m2", crowd)


@pytest.mark.parametrize("place", ["holder", "follower"])
@pytest.mark.parametrize("site", [FRESH, NO_TREE], ids=["fresh", "backward"], indirect=True)
def test_a_write_that_takes_long(site, place):
    """By then the TEK may be in use: the newcomer is told nothing of it, and gets another."""
    crowd = Crowd(site)
    crowd.come("m1", site.followers[1])
    site.leap(20_000)
    rekey(site)
    site.leap(4_000)
    one = site.holder if place == "holder" else site.followers[0]
    number = site.holder.group.epoch.number
    gm, auth = site.begun("m2", one)
    one.store.slow, one.store.ms = "compare_and_swap", 900 if place == "holder" else 3_000
    assert one.talk(auth, "m2") is None
    assert one.server.counters["too_late"] == 1 and one.server.counters["registered"] == 0
    crowd.join("m2", take(gm, site.answered(one, "m2")))
    assert site.holder.group.epoch.number == number + 1
    assert one.server.counters["registered"] == 1
    site.wait(1_000)
    assert all("m2" in each.group.active() for each in site.living)


def test_a_rekey_whose_write_takes_long(tmp_path):
    """Who registers then is silent until all others may have heard of it: nobody sends before a
    follower, which saw the former keys until the write was done, thinks so."""
    site = made(tmp_path, FRESH)
    crowd = Crowd(site)
    crowd.come("m1", site.followers[1])
    site.leap(30_000)
    holder, number = site.holder, site.holder.group.epoch.number
    began_ms = site.now
    holder.store.slow, holder.store.ms = "compare_and_swap", 900
    rekey(site)
    assert site.holder is holder and site.now == began_ms + 900
    site.wait(100)
    crowd.hear()
    crowd.come("m2", holder)
    site.wait(began_ms + 5_200 - site.now)
    crowd.hear()
    crowd.come("m3", site.followers[0])
    assert holder.group.epoch.number == number + 1


def test_the_only_sender_that_is_told_too_late(tmp_path):
    """Who was it before may have sent by then."""
    site = made(tmp_path, SITE + PLAIN + "fresh_join = false\nsingle_sender = true\n")
    crowd = Crowd(site)
    one = site.followers[0]
    former = crowd.come("m1", one)
    site.leap(20_000)
    rekey(site)
    site.wait(3_000)
    former.open(one.talk(former.leave(), "m1"), GSA_REGISTRATION)
    gm, auth = site.begun("m2", one)
    one.store.slow, one.store.ms = "compare_and_swap", 3_000
    assert one.talk(auth, "m2") is None
    found = gm.check_identity(gm.open(site.answered(one, "m2"), GSA_AUTH))
    assert found == [notification(REGISTRATION_FAILED)]  # keys were changed just now
    site.leap(15_000)
    assert crowd.come("m2", one).tek != former.tek


def test_a_pause_between_look_and_write_with_one_key_server(tmp_path):
    """The same where there are no others."""

    class Late(OneServer):
        late_ms = 0

        def make(self, **how):
            return super().make(now=lambda: self.now + self.late_ms, **how)

    site = Late(tmp_path / "state.db", FRESH)
    for name in NAMES[:2]:
        site.add(name)
    site.gm("m0", wants=1)
    site.wait(20_000)
    site.send(site.server.rekey("line1", site.now))
    site.wait(3_000)
    gm = site.connect(ForeignGM(b"m1", KEY, wants=1), "m1")
    site.late_ms = 10_000
    assert site.talk(gm.gsa_auth(), "m1") is None
    site.late_ms, site.now = 0, site.now + 10_000
    number = site.server._groups["line1"].epoch.number
    found = gm.take_group(gm.check_identity(gm.open(site.answered(gm, "m1"), GSA_AUTH)))
    epoch = site.server._groups["line1"].epoch
    assert epoch.number == number + 1 and found.tek == (epoch.tek_spi, epoch.tek_keymat)


def test_a_machine_that_stood_still(site):
    """And its clock with it: it can't know for how long the keys that it finds have been there."""
    crowd = Crowd(site)
    one, other = site.followers
    crowd.come("m1", other)
    site.leap(20_000)
    holder = site.holder
    one.is_stopped = True
    rekey(site)
    one.stand_still(60_000)
    one.step()
    assert holder is site.holder and is_given_others(site, one, "m2", crowd)
    rekey(site)
    site.wait(300)
    one.stand_still(60_000)
    assert is_given_others(site, one, "m3", crowd)  # which it asks before it looks
    site.leap(30_000)
    rekey(site)
    site.wait(300)
    number = site.holder.group.epoch.number
    crowd.come("m4", one)  # what it has seen come it can judge
    is_placed = site.policy.groups["line1"].backward_secrecy  # by one rekey more
    assert site.holder.group.epoch.number == number + is_placed


def test_a_holder_that_stood_still(site):
    crowd = Crowd(site)
    crowd.come("m1", site.followers[1])
    site.leap(20_000)
    rekey(site)
    site.wait(300)
    one = site.holder
    one.stand_still(60_000)
    assert one.is_holder and one is not site.followers[0]
    gm, auth = site.begun("m2", one)
    assert one.talk(auth, "m2") is None
    crowd.join("m2", take(gm, site.answered(one, "m2")))


def test_a_look_that_takes_long(tmp_path):
    """Until all have keys that were made meanwhile."""
    site = made(tmp_path, SITE + PLAIN)
    one = site.followers[0]
    one.store.slow, one.store.ms, one.store.then = "changed", 900, lambda: rekey(site)
    site.wait(1_500)
    assert one.group.epoch == site.holder.group.epoch
    assert one.group._activate_ms >= site.holder.group._activate_ms


def certified(site):
    """A member with two certificates → (IDs, one that comes by each)."""
    now = 1_700_000_000 + site.now // 1000
    holder = site.holder.server
    trust.make(holder.ledger, "gcks.example", now)
    holder.refresh_trust()
    ids, gms = [], []
    for _ in range(2):
        key = issuing.new_key()
        found = holder.trust.issue(key.public_key(), "lathe", 30, now)
        ids.append((trust.id_of(found), trust.until_of(found)))
        ca = issuing.der(holder.trust.ca)
        gms.append(CertGM(key, [issuing.der(found)], ca, b"lathe", wants=1))
    holder.add_member("lathe", ["line1"], sender=True, certificates=ids)
    site.wait(300)
    return ids, gms


def enter(gm, one):
    gm.take_sa_init(one.talk(gm.sa_init(), "lathe"))
    return take(gm, one.talk(gm.gsa_auth(), "lathe"))


@pytest.mark.parametrize("place", ["a follower", "a follower that knows", "the holder"])
def test_an_ike_sa_whose_certificate_is_revoked_elsewhere(tmp_path, place):
    """Though the member has come by another one since."""
    site = made(tmp_path, SITE + PLAIN + "fresh_join = false\n")
    ids, (former, newer) = certified(site)
    one = site.holder if place == "the holder" else site.followers[0]
    other = site.followers[1]
    enter(former, one)
    enter(newer, other)
    site.wait(300)
    holder = site.holder.server
    now = 1_700_000_000 + site.now // 1000
    holder.ledger.write(trust.revocation(holder.ledger, dict(ids[:1]), now))
    if place == "the holder":
        holder.refresh_trust()
        answer = one.talk(former.gsa_registration(), "lathe")
        assert former.open(answer, GSA_REGISTRATION) == [notification(AUTHORIZATION_FAILED)]
    elif place == "a follower":  # it sees by what it would write, and closes the IKE SA
        answer = one.talk(former.gsa_registration(), "lathe")
        assert former.open(answer, GSA_REGISTRATION) == [notification(TEMPORARY_FAILURE)]
    else:
        site.wait(300)
        assert one.server._responder.open_sa("lathe") is None and one.server.void() == []
    assert other.server._responder.open_sa("lathe") is not None
    assert len(newer.open(other.talk(newer.gsa_registration(), "lathe"), GSA_REGISTRATION)) > 1
