"""Signed packets: our own members, our own key server, and one among them who lies."""

import pytest

from covey import signers
from covey.drops import DROP_CROWDED, DROP_NOT_ROSTERED, DROP_SOURCE, NOTHING, WAITS
from covey.job import finish
from covey.membership import MEMBER
from covey.p256_sign import derived, sign_job
from covey_host.gcks.seats import MOST_SENDERS
from gcks_site import LINE1, SITE, Site
from test_eviction import group_of
from test_source_auth import Plant, forged

ECDSA = 'source_auth = "ecdsa"\n'
SENDERS = ["press", "desk"]
RECEIVERS = ["valve", "drill", "panel"]
NAMES = [*SENDERS, *RECEIVERS]


class Signed(Plant):
    def send(self, name, *payloads):
        """Signed together → packets"""
        one = self.ones[name]
        sa = one.member.keys.sending
        finish(sa.auth.sign_job(sa, payloads))
        packets = [one.send(payload) for payload in payloads]
        assert all(isinstance(packet, bytes) for packet in packets), packets
        return packets

    def take(self, name, *packets):
        """→ what is delivered, with its source, and DROP_*s, in their order."""
        member, found = self.ones[name].member, []
        for packet in packets:
            got = self.ones[name].receive(packet)
            if got == WAITS:
                continue
            found.append(got if isinstance(got, int) else (got, member.source))
        return found + self.proven(name)

    def proven(self, name):
        member, found, idle = self.ones[name].member, [], 0
        while idle < 4:
            n = member.next_proven(self.site.now)
            if n == NOTHING:
                busy = member.waiting is not None and member.waiting.is_working
                idle = 0 if busy else idle + 1
            else:
                found.append(n if n < 0 else (bytes(member.payload), member.source))
        return found

    def all_hear(self, sender, payload):
        (packet,) = self.send(sender, payload)
        found = set()
        for name in self.ones:
            if name != sender and self.take(name, packet) == [(payload, sender.encode())]:
                found.add(name)
        return found

    def states(self):
        return {one.it.state for one in self.ones.values()}


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + ECDSA)
    yield site
    site.store.close()


@pytest.fixture
def plant(site):
    for name in [*NAMES, "n0", "n1"]:
        site.add(name)
    return Signed(site)


def signed_by(key, spy, victim, payload, number):
    """A packet in a victim's name whose signature is made with another key."""
    theirs = victim.member.keys.sending
    real, theirs.next_seq = theirs.next_seq, number
    before, theirs.auth._key = theirs.auth._key, key
    try:
        finish(theirs.auth.sign_job(theirs, [payload]))
        trailer = theirs.auth._signed[0]
    finally:
        theirs.auth.forget_signed()
        theirs.auth._key = before
        theirs.next_seq = real
    return forged(spy, victim, payload, number=number, trailer=trailer)


def test_each_receiver_is_sure_who_sent_it(plant):
    for sender in SENDERS:
        for n in range(2):
            assert plant.all_hear(sender, b"%d" % n) == set(NAMES) - {sender}
    payloads = [b"%d" % n for n in range(16)]
    packets = plant.send("press", *payloads)
    told = plant.take("valve", *packets[::3], *packets[1::3])
    assert sorted(told) == sorted((payloads[n], b"press") for n in range(16) if n % 3 != 2)


def test_a_member_that_lies(plant):
    """It has the group's keys, its own private key and every packet: nobody believes it."""
    press, spy = plant.ones["press"], plant.ones["desk"]
    (genuine,) = plant.send("press", b"speed=1500")
    plain = bytearray(genuine)
    sa = spy.member.keys.live()[0]
    assert sa.context.open(plain, 0, 8, len(plain) - 32)
    trailer = bytes(plain[34 : 34 + signers.TAIL])
    number = int.from_bytes(genuine[4:8], "big")
    own = spy.it._group.terms.sources.key
    lies = [
        forged(spy, press, b"speed=9000"),
        forged(spy, press, b"speed=9000", trailer=b""),
        forged(spy, press, b"speed=9000", trailer=trailer, number=number),
        forged(spy, press, b"speed=1500", trailer=trailer, number=number + 7),
        signed_by(own, spy, press, b"speed=9000", number),
    ]
    for name in ("valve", "drill"):
        assert plant.take(name, *lies) == [DROP_SOURCE] * 5
        assert plant.drops(name, DROP_SOURCE) == 5
        assert plant.take(name, genuine) == [(b"speed=1500", b"press")]


def test_numbers_can_not_be_burned(plant):
    press, spy = plant.ones["press"], plant.ones["panel"]
    trailer = bytes(2) + b"\x01" * 64
    for number in (5, 500, 0x3FFFFFFF):
        lie = forged(spy, press, b"x", number=number, trailer=trailer)
        assert plant.take("valve", lie) == [DROP_SOURCE]
    newer = press.member.keys.sending.sender_id + 1
    lie = forged(spy, press, b"x", sender_id=newer, trailer=trailer)
    assert plant.take("valve", lie) == [DROP_SOURCE]
    packets = plant.send("press", *[b"%d" % n for n in range(16)])
    assert len(plant.take("valve", *packets[:12])) == 12
    assert [plant.ones["valve"].receive(packet) for packet in packets[12:]] == [
        b"%d" % n for n in range(12, 16)
    ]


def test_a_badly_signed_flood(plant):
    """In desk's name, which costs others nothing but their turn; what waits is bounded."""
    spy, desk, valve = (plant.ones[name] for name in ("panel", "desk", "valve"))
    for n in range(300):
        trailer = bytes(2) + n.to_bytes(32, "big") + b"\x01" * 32
        lie = forged(spy, desk, b"x", number=1000 + n, trailer=trailer)
        assert valve.receive(lie) in (WAITS, DROP_CROWDED)
        assert valve.member.next_proven(plant.site.now) in (NOTHING, DROP_CROWDED, DROP_SOURCE)
    assert valve.member.waiting.count <= 16
    (packet,) = plant.send("press", b"stop")
    found = plant.take("valve", packet)
    said = [one for one in found if one != DROP_CROWDED]
    assert (b"stop", b"press") in said[:2] and set(said[2:]) == {DROP_SOURCE}
    assert plant.all_hear("desk", b"on") == set(NAMES) - {"desk"}


def test_nobody_sends_who_is_not_on_the_roster(plant):
    press, spy, valve = (plant.ones[name] for name in ("press", "panel", "valve"))
    for index in (2, 3, 700, 1023):
        lie = forged(spy, press, b"x", sender_id=index << 6)
        assert valve.receive(lie) == DROP_NOT_ROSTERED


def test_who_only_receives_waits_for_no_rekey(plant, site):
    before = group_of(site).epoch.number
    plant.begin("n0", False)
    plant.wait(1_000)
    assert plant.states() == {MEMBER} and group_of(site).epoch.number == before
    assert {seat.member for seat in group_of(site).epoch.seats} == set(SENDERS)
    assert plant.ones["n0"].it._group.terms.sources.key is None
    assert plant.all_hear("press", b"hello") == {*NAMES, "n0"} - {"press"}


def test_a_sender_that_comes_later_and_rekeys(plant, site):
    plant.begin("n1", True)
    plant.wait(40_000)
    assert plant.states() == {MEMBER}
    for _ in range(2):
        for sender in (*SENDERS, "n1"):
            assert plant.all_hear(sender, b"hello") == {*NAMES, "n1"} - {sender}
        site.send(site.server.rekey("line1", site.now))
        plant.wait(20_000)


def test_a_sender_that_starts_anew_and_a_server_that_does(plant):
    plant.begin("press", True)
    plant.wait(30_000)
    assert plant.all_hear("press", b"again") == set(NAMES) - {"press"}
    site = plant.restart()
    plant.wait(40_000)
    for sender in SENDERS:
        assert plant.all_hear(sender, b"hello") == set(NAMES) - {sender}
    was = bytes(plant.ones["press"].it._group.terms.sources.key)
    group_of(site).exclude(site.now)
    plant.wait(60_000)
    assert plant.states() == {MEMBER}
    assert bytes(plant.ones["press"].it._group.terms.sources.key) != was
    assert plant.all_hear("press", b"hello") == set(NAMES) - {"press"}
    site.store.close()


def test_a_removed_sender_signs_for_nobody(plant, site):
    was = plant.ones["desk"]
    key = bytes(was.it._group.terms.sources.key)
    site.send(site.server.remove_member("desk", site.now))
    plant.wait(20_000)
    del plant.ones["desk"]
    assert {row[2] for row in plant.ones["valve"].it._group.terms.sources.rows} == {b"press"}
    site.add("desk")
    plant.begin("desk", True)
    plant.wait(40_000)
    assert bytes(plant.ones["desk"].it._group.terms.sources.key) != key
    lie = signed_by(key, plant.ones["panel"], plant.ones["desk"], b"x", 77)
    assert plant.take("valve", lie) == [DROP_SOURCE]
    assert plant.all_hear("desk", b"hello") == set(NAMES) - {"desk"}


def test_a_key_of_another_group_signs_nothing_here(plant, tmp_path):
    """The same member sends in both."""
    other = Site(tmp_path / "other.db", SITE + LINE1 + ECDSA)
    for name in NAMES:
        other.add(name)
    there = Signed(other, ["press"], ["valve"])
    assert there.all_hear("press", b"there") == {"valve"}
    key = bytes(there.ones["press"].it._group.terms.sources.key)
    other.store.close()
    assert key != bytes(plant.ones["press"].it._group.terms.sources.key)
    lie = signed_by(key, plant.ones["panel"], plant.ones["press"], b"x", 50)
    assert plant.take("valve", lie) == [DROP_SOURCE]


def test_more_than_sixteen_receive_and_sixteen_send(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + ECDSA)
    senders = [f"sender-{number}".ljust(63, "x") for number in range(MOST_SENDERS)]
    receivers = [f"r{number}" for number in range(8)]
    for name in [*senders, *receivers]:
        site.add(name, sender=name in senders)
    plant = Signed(site, senders, receivers)
    for sender in senders[:2]:
        assert plant.all_hear(sender, b"hello") == {*senders, *receivers} - {sender}
    site.store.close()


def test_a_policy_of_single_signatures(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + ECDSA + "ecdsa_batch = 1\n")
    for name in NAMES:
        site.add(name)
    plant = Signed(site)
    assert plant.ones["press"].member.keys.sending.auth.most_in_a_batch() == 1
    assert plant.all_hear("press", b"on") == set(NAMES) - {"press"}
    packets = plant.send("press", b"one", b"two")
    assert plant.take("valve", *packets) == [DROP_SOURCE] * 2
    site.store.close()


def test_the_largest_batch_finds_room(plant):
    """By what policy and members have where nobody says otherwise, on boards, too."""
    auth = plant.ones["press"].member.keys.sending.auth
    payloads = [b"%02d" % n for n in range(auth.most_in_a_batch())]
    assert len(payloads) == 16
    found = plant.take("valve", *plant.send("press", *payloads))
    assert sorted(found) == [(payload, b"press") for payload in payloads]


def test_the_longest_payload(plant):
    press = plant.ones["press"].member
    most = press.payload_most
    assert most == press.payload_max - signers.TAIL
    assert plant.all_hear("press", bytes(most)) == set(NAMES) - {"press"}


def test_both_ends_derive_the_same_key(plant):
    """And the key server vouches for its point."""
    seats = {seat.member: seat for seat in group_of(plant.site).epoch.seats}
    for name in SENDERS:
        held = plant.ones[name].it._group.terms.sources
        assert bytes(held.key) == bytes(derived(seats[name].secret, signers.KEY_LABEL))
        verifier = plant.ones["valve"].it._group.terms.sources.verifier(name.encode())
        r, s = finish(sign_job(held.key, bytes(32)))
        assert finish(verifier.verify(bytes(32), r, s))
