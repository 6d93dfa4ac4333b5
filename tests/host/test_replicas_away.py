"""Key servers that their store is cut off from: what they still say, to whom, and for how long."""

import pytest

from covey_host.errors import Problem
from covey_host.store import Ousted
from foreign_gm import GSA_AUTH, INFORMATIONAL, ForeignGM, notification
from gcks_site import KEY, PLAIN, SITE, FullDisk
from replicas import Replicas

QUIET = SITE + PLAIN + "fresh_join = false\n"
SILENCE = QUIET + 'max_silence = "20s"\n'
FRAGMENTATION = (41, bytes(2) + (16430).to_bytes(2))
KNOWS_REDIRECT = (41, bytes(2) + (16406).to_bytes(2))
REDIRECT = notification(16407, bytes([1, 4, 192, 0, 2, 7]))


class Cut(FullDisk):
    """Nothing is to be read or written while it is `full`."""

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if not callable(found) or name == "close":
            return found

        def cut(*args, **more):
            if self.full:
                raise Problem("No answer.")
            return found(*args, **more)

        return cut

    def compare_and_swap(self, changes, term):
        return self.__getattr__("compare_and_swap")(changes, term)


@pytest.fixture
def make(tmp_path):
    made = []

    def site(text, wrap=Cut):
        made.append(Replicas(tmp_path / f"{len(made)}.db", text=text, wrap=wrap))
        made[-1].settle()
        made[-1].add("m0", "m1")
        made[-1].wait(300)
        return made[-1]

    yield site
    for each in made:
        for one in each.all.values():
            one.store.close()


def alive(one, gm):
    """A sign of life that the member asks for → all payloads of the answer, as one; None: none."""
    answer = one.talk(gm.seal(INFORMATIONAL, []), gm.name.decode())
    return answer and b"".join(body for _, body in gm.open(answer, INFORMATIONAL))


def told_by_itself(site, one, name):
    """It registers, as one that is told of new keys by itself."""
    gm = ForeignGM(name.encode(), KEY, wants=1)
    gm.take_sa_init(one.talk(gm.sa_init(extra=[FRAGMENTATION, KNOWS_REDIRECT]), name))
    answer = one.talk(gm.gsa_auth(), name) or site.answered(one, name)
    gm.check_identity(gm.open(answer, GSA_AUTH))
    return gm


def sent_on(site, one):
    """Members that this one asks for something, and answer → the notifications in it."""
    said = {}
    for name, out in site.unasked:
        if name == one.name and out.data[18] == INFORMATIONAL:
            gm = site.gms[out.address]
            message_id = int.from_bytes(out.data[20:24])
            said[out.address] = gm.open(out.data, INFORMATIONAL, message_id, flags=0)
            answer = gm.seal(INFORMATIONAL, [], message_id=message_id, flags=0x28)
            one.talk(answer, out.address)
    site.unasked.clear()
    return said


# Which keys are current


@pytest.mark.parametrize("who", ["follower", "holder"])
def test_who_is_cut_off_does_not_say_that_old_keys_are_current(make, who):
    site = make(SILENCE)
    former = site.holder
    one = former if who == "holder" else site.followers[0]
    gm = site.come("m0", one)
    site.come("m1", site.followers[1])
    old = gm.tek[0]
    assert old in alive(one, gm)
    one.store.full = True
    site.wait(1_000)
    assert old in alive(one, gm)  # it may be a little old
    site.wait(4_000)
    holder = next(each for each in site.living if each.is_holder and each is not one)
    site.send(holder.server.remove_members(["m1"], site.now), holder)
    site.wait(3_000)
    new = holder.group.epoch.tek_spi
    assert new != old
    assert alive(one, gm) is None
    one.store.full = False
    site.wait(300)
    gm.next_id -= 1  # it asks on
    answer = alive(one, gm)
    assert new in answer and old not in answer


# Members that hang on one key server


@pytest.mark.parametrize("more", ['rekey = "inband"\n', 'delivery = "unicast"\n'])
def test_a_holder_that_is_cut_off_sends_its_members_on(make, more):
    """They keep what they have until another one lets them in: perhaps none has the store."""
    site = make(QUIET + more)
    former = site.holder
    site.gms = {name: told_by_itself(site, former, name) for name in ("m0", "m1")}
    former.server.redirects.hosts = ("192.0.2.7",)
    site.unasked.clear()
    former.store.full = True
    site.wait(2_500)
    assert sent_on(site, former) == {}  # etcd may be choosing its leader
    assert alive(former, site.gms["m0"]) is None  # but nobody is told that all is well
    site.wait(1_000)
    assert sent_on(site, former) == {"m0": [REDIRECT], "m1": [REDIRECT]}
    site.wait(10_000)
    assert sent_on(site, former) == {}
    (other,) = [one for one in site.living if one.is_holder and one is not former]
    site.send(other.server.remove_members(["m1"], site.now), other)
    told_by_itself(site, other, "m0")
    former.store.full = False
    site.wait(3_000)
    assert site.holder is other and set(other.group.active()) == {"m0"}
    assert former.group.epoch == other.group.epoch
    assert not list(former.server._responder.told())


def test_none_has_a_store_for_a_while_and_no_keys_are_changed(make):
    site = make(SILENCE)
    gm = site.come("m0", site.holder)
    former, epoch = site.holder, site.holder.group.epoch
    for one in site.living:
        one.store.full = True
    site.wait(10_000)
    for one in site.living:
        one.store.full = False
    site.wait(3_000)
    assert site.holder is former and former.group.epoch == epoch and gm.tek[0] == epoch.tek_spi
    assert site.holder.server.lead_seen.run == epoch.birth.run
    for place, one in enumerate(site.living):
        site.come(f"m{place % 2}", one)


# A name that is another's


class Taken(FullDisk):
    """As a store in etcd where another process has this one's name: each write says so."""

    def _write(self, *args, **more):
        if self.full:
            raise Ousted("Another program (replica b, process 7) has taken over: stopping.")

    def compare_and_swap(self, *args):
        self._write()
        return self._store.compare_and_swap(*args)

    def beat(self, *args):
        self._write()
        return self._store.beat(*args)

    def present(self, *args):
        self._write()
        return self._store.present(*args)

    def acquire_term(self, *args, **more):
        self._write()
        return self._store.acquire_term(*args, **more)


@pytest.mark.parametrize("who", ["follower", "holder"])
def test_one_whose_name_is_anothers_ends(make, who):
    site = make(QUIET, Taken)
    one = site.holder if who == "holder" else site.followers[0]
    one.store.full = True
    with pytest.raises(Ousted, match="taken over"):
        site.wait(1_100)  # within a second
    gm, auth = site.begun("m0", one)
    with pytest.raises(Ousted):  # and nobody is kept waiting for it
        one.talk(auth, "m0")
