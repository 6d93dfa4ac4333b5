"""Our own members and our own key server, as one of them is put out of a group with a key tree."""

import pytest

from covey.config import Config
from covey.drops import DROP_KEY_PATH, DROP_RETIRED_SPI
from covey.member import Member
from covey.membership import MEMBER, REFUSED, Membership
from gcks_site import KEY, LINE1, SITE, Site

NAMES = [f"m{number}" for number in range(6)]


def unmarked(data):
    return data[4:] if data[:4] == bytes(4) else data


class One:
    """A member on the site's clock, without sockets."""

    def __init__(self, site, name, sends=True):
        self.site, self.name = site, name
        fields = {"version": 1, "group": "line1", "idi": name, "sender": sends, "psk_file": "-"}
        fields["servers"] = [{"host": "192.0.2.1"}]
        settings = Config(fields, psk=KEY)
        self.member = Member(sender=sends)
        self.it = Membership(settings, self.member)
        self.it.start(site.now)
        self.talk()

    def talk(self):
        """Until there is nothing to do and nothing to say."""
        wait, data = 0, None
        while wait == 0 or data is not None:
            wait = self.it.step(self.site.now)
            data, _ = self.it.outgoing()
            answer = None if data is None else self.site.talk(unmarked(data), self.name)
            if answer is not None:
                self.it.unicast(answer, self.site.now)

    def hear(self, outs):
        for out in outs:
            self.it.multicast(out.data, self.site.now)
            self.talk()

    def send(self, payload):
        self.member.out[: len(payload)] = payload
        n = self.member.send(len(payload), self.site.now)
        return bytes(self.member.tx[:n]) if n > 0 else n

    def receive(self, data):
        self.member.rx[: len(data)] = data
        n = self.member.receive(len(data), self.site.now)
        return bytes(self.member.payload) if n >= 0 else n


class Plant:
    def __init__(self, site, names=NAMES):
        self.site = site
        self.ones = {name: One(site, name) for name in names}
        self.wait(15_000)
        assert {one.it.state for one in self.ones.values()} == {MEMBER}

    def wait(self, ms, deaf=()):
        """Time passes for everybody; who is deaf hears nothing from the group."""
        end = self.site.now + ms
        while self.site.now < end:
            self.site.wait(min(250, end - self.site.now))
            outs, self.site.air = self.site.air, []
            told, self.site.unasked = self.site.unasked, []
            for name, one in self.ones.items():
                for out in told:
                    if out.address == name:
                        one.it.unicast(out.data, self.site.now)
                one.hear([] if name in deaf else outs)
                one.talk()

    def remove(self, name):
        self.site.send(self.site.server.remove_member(name, self.site.now))

    def epochs(self):
        return {name: one.it.epoch for name, one in self.ones.items()}


@pytest.fixture
def plant(tmp_path):
    site = Site(tmp_path / "state.db")
    for name in NAMES:
        site.add(name)
    made = Plant(site)
    made.wait(20_000)
    yield made
    site.store.close()


def test_all_others_go_on_without_a_pause(plant):
    """Something is sent and heard every quarter of a second, before, during and after."""
    plant.remove("m4")
    heard = 0
    for _ in range(60):
        plant.wait(250)
        packet = plant.ones["m0"].send(b"go on")
        assert not isinstance(packet, int)
        for name in ("m1", "m2", "m3", "m5"):
            assert plant.ones[name].receive(packet) == b"go on"
            heard += 1
    assert heard == 240
    now = plant.site.server._groups["line1"].epoch.number
    assert {plant.ones[name].it.epoch for name in NAMES if name != "m4"} == {now}
    assert {one.it.state for name, one in plant.ones.items() if name != "m4"} == {MEMBER}
    assert {plant.ones[name].it.rekeys for name in NAMES if name != "m4"} == {1}


def test_who_is_put_out_sees_it_asks_and_is_refused(plant):
    plant.remove("m4")
    out = plant.ones["m4"]
    plant.wait(10_000)
    assert out.member.drops.of(DROP_KEY_PATH) == 1
    assert out.it.state == REFUSED and "authorization" in out.it.reason
    packet = plant.ones["m0"].send(b"secret")
    assert isinstance(out.receive(packet), int)
    assert isinstance(out.send(b"I am still here"), int)


def test_who_is_put_out_trusts_its_old_keys_no_longer_than_dtd(plant):
    """Others who were put out have them, too."""
    sealed = [plant.ones["m0"].send(b"old %d" % n) for n in range(2)]
    out = plant.ones["m4"]
    plant.remove("m4")
    plant.wait(1_000)
    assert out.receive(sealed[0]) == b"old 0"
    assert isinstance(out.send(b"I am still here"), int)
    plant.wait(10_000)
    assert out.receive(sealed[1]) == DROP_RETIRED_SPI


def test_who_heard_nothing_of_it_comes_back(plant):
    plant.remove("m4")
    plant.wait(10_000, deaf=("m2",))
    deaf = plant.ones["m2"]
    assert deaf.it.epoch != plant.ones["m0"].it.epoch
    deaf.receive(plant.ones["m0"].send(b"promised SPI"))  # GSA_NEXT_SPI
    plant.wait(10_000)
    assert deaf.it.epoch == plant.ones["m0"].it.epoch
    assert deaf.receive(plant.ones["m0"].send(b"again")) == b"again"
    plant.remove("m1")
    plant.wait(10_000)
    assert deaf.receive(plant.ones["m0"].send(b"and on")) == b"and on"


def test_one_after_the_other(plant):
    for gone in ("m5", "m1", "m3"):
        plant.remove(gone)
        plant.wait(700)
    plant.wait(10_000)
    packet = plant.ones["m0"].send(b"few")
    assert plant.ones["m2"].receive(packet) == plant.ones["m4"].receive(packet) == b"few"
    for gone in ("m5", "m1", "m3"):
        assert isinstance(plant.ones[gone].receive(packet), int)
        assert plant.ones[gone].it.state == REFUSED


def test_key_paths_die_with_the_membership(plant):
    one = plant.ones["m5"]
    keys = [key for _, key in one.it._group.terms.key_path]
    assert len(keys) > 1 and all(any(key) for key in keys)
    one.it.wipe()
    assert not any(any(key) for key in keys)


def test_replaced_keys_are_wiped(plant):
    one = plant.ones["m5"]
    before = one.it._group.terms.key_path
    plant.remove("m4")
    plant.wait(5_000)
    after = one.it._group.terms.key_path
    gone = [key for key_id, key in before if key_id not in dict(after)]
    assert gone and not any(any(key) for key in gone)
    assert all(any(key) for _, key in after)


def test_without_a_tree_all_go_and_come_back(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + "key_tree = 0\n")
    for name in NAMES:
        site.add(name)
    plant = Plant(site)
    plant.wait(20_000)
    plant.remove("m4")
    plant.wait(20_000)
    packet = plant.ones["m0"].send(b"back")
    assert plant.ones["m1"].receive(packet) == b"back"
    site.store.close()
