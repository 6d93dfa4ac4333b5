"""Receiver-specific MACs: our own members, our own key server, and one among them who lies."""

from collections import Counter
from dataclasses import replace

import pytest

from covey import esp, sources
from covey.drops import DROP_NOT_ROSTERED, DROP_SOURCE, DROP_STALE_SENDER
from covey.ike import NO_PROPOSAL_CHOSEN
from covey.membership import MEMBER
from covey_host.errors import Problem
from covey_host.gcks import policy
from foreign_gm import GSA_AUTH, ForeignGM, notification
from gcks_site import KEY, LINE1, SITE, Site
from test_eviction import group_of
from test_eviction_members import One
from test_eviction_members import Plant as Members

MACS = 'source_auth = "mac"\n'
SENDERS = ["press", "desk"]
RECEIVERS = ["valve", "drill", "panel"]
NAMES = [*SENDERS, *RECEIVERS]


class Plant(Members):
    """Members on the site's clock; who is named first registers first."""

    def __init__(self, site, senders=SENDERS, receivers=RECEIVERS):
        self.site = site
        self.ones = {}
        for name in [*senders, *receivers]:
            self.begin(name, name in senders)
        self.wait(40_000)
        assert {one.it.state for one in self.ones.values()} == {MEMBER}

    def restart(self):
        """The key server; → its site from now on."""
        self.site = self.site.restart()
        for one in self.ones.values():
            one.site = self.site
        return self.site

    def begin(self, name, sends):
        self.ones[name] = One(self.site, name, sends)

    def all_hear(self, sender, payload):
        """→ who delivers it."""
        packet = self.ones[sender].send(payload)
        assert isinstance(packet, bytes), packet
        return self.heard_by(packet, payload, sender)

    def heard_by(self, packet, payload, sender):
        found = set()
        for name, one in self.ones.items():
            got = one.receive(packet)
            if got == payload:
                assert one.member.confirmed and one.member.source == sender.encode()
                found.add(name)
            else:
                assert isinstance(got, int) and name != sender or got < 0
        return found

    def drops(self, name, reason):
        return self.ones[name].member.drops.of(reason)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + MACS)
    yield site
    site.store.close()


@pytest.fixture
def plant(site):
    for name in [*NAMES, "n0", "n1"]:
        site.add(name)
    plant = Plant(site)
    yield plant
    for one in plant.ones.values():
        assert users(one) == {context: context.users for context in users(one)}


def users(one):
    """{CMACContext: who works with it, of what this member has}"""
    found = Counter()
    told = one.it._group.terms.sources
    if told is not None:
        found.update([*told.heard.values(), *told.told.values()])
    for sa in one.member.keys.live():
        if sa.auth is not None:
            found.update([*sa.auth._heard.values(), *filter(None, sa.auth._told or ())])
    return found


def forged(spy, victim, payload, **changes):
    """What a member with the group's key can make in another's name."""
    sa = spy.member.keys.sending or spy.member.keys.live()[0]
    his = victim.member.keys.sending
    number = changes.get("number", his.next_seq)
    sender_id = changes.get("sender_id", his.sender_id)
    iv = (sender_id << 64 - 16 | number).to_bytes(8, "big")
    trailer = changes.get("trailer", bytes(sa.auth.trailer))
    return esp_packet(sa, iv, number, payload + trailer)


def esp_packet(sa, iv, number, payload):
    udp = sa.words[2].to_bytes(4, "big")
    udp += (8 + len(payload)).to_bytes(2, "big") + bytes(2)
    pad_len = -(len(udp) + len(payload) + 2) % 4
    text = udp + payload + bytes(range(1, pad_len + 1)) + bytes((pad_len, 17))
    buf = bytearray(sa.spi + number.to_bytes(4, "big") + iv + text + bytes(16))
    sa.context.seal(buf, 0, 8, len(text))
    return bytes(buf)


def test_a_rekey_tells_what_has_changed_of_the_roster(plant, monkeypatch):
    """A registration tells all. In the end all have what the key server has."""
    heard = []

    def watched(group_wide, was):
        found = roster_of(group_wide, was)
        heard.append((found[1], was is None))
        return found

    site, roster_of = plant.site, sources.roster_of
    monkeypatch.setattr(sources, "roster_of", watched)
    site.send(site.server.rekey("line1", site.now))
    plant.wait(20_000)
    assert heard == [(True, False)] * len(NAMES)
    plant.begin("n0", True)  # a third sender
    plant.wait(20_000)
    site.send(site.server.remove_member("desk", site.now))
    plant.ones.pop("desk")
    plant.wait(20_000)
    by_changes = [by for by, registers in heard if not registers]
    assert (False, True) in heard and (True, True) not in heard and all(by_changes)
    seats = group_of(site).epoch.seats
    senders = {seat.index: seat.member.encode() for seat in seats if seat.index is not None}
    for one in plant.ones.values():
        rows = one.it._group.terms.sources.rows
        assert {index: identity for index, _, identity in rows} == senders
        assert rows == sorted(rows)
    assert set(senders.values()) == {b"press", b"n0"}
    assert plant.all_hear("n0", b"new") == {"press", *RECEIVERS}


def test_each_receiver_is_sure_who_sent_it(plant):
    for sender in SENDERS:
        for n in range(20):
            assert plant.all_hear(sender, b"%d" % n) == set(NAMES) - {sender}
    trailer = plant.ones["press"].member.keys.sending.auth.trailer
    assert trailer == 8 * len(NAMES)


def test_a_member_that_lies(plant):
    """It has the group's key, its own secrets and every packet: nobody believes it."""
    press, spy = plant.ones["press"], plant.ones["panel"]
    genuine = press.send(b"speed=1500")
    lies = [forged(spy, press, b"speed=9000"), forged(spy, press, b"speed=9000", trailer=b"")]
    plain = bytearray(genuine)
    sa = spy.member.keys.live()[0]
    assert sa.context.open(plain, 0, 8, len(plain) - 32)
    tags = bytes(plain[24 + 10 : 24 + 10 + sa.auth.trailer])
    lies.append(forged(spy, press, b"speed=9000", trailer=tags))
    number = int.from_bytes(genuine[4:8], "big")
    lies.append(forged(spy, press, b"speed=1500", trailer=tags, number=number + 7))
    for lie in lies:
        for name in ("valve", "drill", "desk"):
            before = plant.drops(name, DROP_SOURCE)
            assert plant.ones[name].receive(lie) == DROP_SOURCE
            assert plant.drops(name, DROP_SOURCE) == before + 1
    assert plant.heard_by(genuine, b"speed=1500", "press") == set(NAMES) - {"press"}


def test_numbers_can_not_be_burned(plant):
    """What is not confirmed moves no window, and no incarnation."""
    press, spy = plant.ones["press"], plant.ones["panel"]
    his = press.member.keys.sending.sender_id
    for number in (5, 500, 0x3FFFFFFF):
        lie = forged(spy, press, b"x", number=number)
        assert plant.ones["valve"].receive(lie) == DROP_SOURCE
    newer = forged(spy, press, b"x", sender_id=his + 1)
    assert plant.ones["valve"].receive(newer) == DROP_SOURCE
    for n in range(600):
        assert "valve" in plant.all_hear("press", b"%d" % n)


def test_nobody_sends_who_is_not_on_the_roster(plant):
    press, spy, valve = (plant.ones[name] for name in ("press", "panel", "valve"))
    for index in (2, 3, 700, 1023):
        lie = forged(spy, press, b"x", sender_id=index << 6)
        assert valve.receive(lie) == DROP_NOT_ROSTERED
    assert plant.drops("valve", DROP_NOT_ROSTERED) == 4
    for index in range(1024):  # nor does it take anybody's place
        valve.receive(forged(spy, press, b"x", sender_id=index << 6))
    assert plant.all_hear("press", b"on") == set(NAMES) - {"press"}
    assert plant.all_hear("desk", b"on") == set(NAMES) - {"desk"}


def test_a_sender_that_starts_anew(plant):
    """Its incarnation advances by its first packet that is confirmed."""
    old = plant.ones["press"].send(b"from before")
    assert plant.heard_by(old, b"from before", "press")
    former = plant.ones["press"]
    plant.begin("press", True)
    plant.wait(30_000)
    assert plant.ones["press"].it.state == MEMBER
    assert plant.all_hear("press", b"again") == set(NAMES) - {"press"}
    late = former.send(b"late")
    if isinstance(late, bytes):
        assert plant.ones["valve"].receive(late) in (DROP_STALE_SENDER, -4, -5)


def test_who_comes_later(plant, site):
    """A receiver and a sender; senders learn what goes into a new slot, each under its own key."""
    plant.begin("n0", False)
    plant.begin("n1", True)
    plant.wait(40_000)
    everybody = {*NAMES, "n0", "n1"}
    assert {one.it.state for one in plant.ones.values()} == {MEMBER}
    for sender in (*SENDERS, "n1"):
        assert plant.all_hear(sender, b"hello") == everybody - {sender}
    for _ in range(3):
        site.send(site.server.rekey("line1", site.now))
        plant.wait(20_000)
        for sender in (*SENDERS, "n1"):
            assert plant.all_hear(sender, b"hello") == everybody - {sender}


def test_a_slot_that_goes_to_another_inherits_nothing(plant, site):
    was = plant.ones["panel"]
    secret = bytes(was.it._group.terms.sources.secret)
    site.send(site.server.remove_member("panel", site.now))
    plant.wait(20_000)
    gone = plant.ones.pop("panel")
    assert gone.receive(plant.ones["press"].send(b"x")) in (-4, -5)
    plant.begin("n0", False)
    plant.wait(40_000)
    new = plant.ones["n0"].it._group.terms.sources
    assert bytes(new.secret) != secret
    for sender in SENDERS:
        assert plant.all_hear(sender, b"hello") == {*NAMES, "n0"} - {"panel", sender}


def test_who_alone_sends_takes_no_slot(site):
    for name in NAMES:
        site.add(name)
    plant = Plant(site, ["press"], RECEIVERS)
    assert plant.ones["press"].member.keys.sending.auth.trailer == 8 * len(RECEIVERS)
    assert plant.all_hear("press", b"on") == set(RECEIVERS)
    plant.begin("desk", True)  # now there is one to be heard by press, too
    plant.wait(40_000)
    assert plant.ones["press"].member.keys.sending.auth.trailer == 8 * (len(RECEIVERS) + 2)
    assert plant.all_hear("desk", b"on") == {"press", *RECEIVERS}
    assert plant.all_hear("press", b"on") == {"desk", *RECEIVERS}


def test_one_more_than_there_are_slots(site):
    names = [f"r{number}" for number in range(17)]
    for name in ["press", *names]:
        site.add(name)
    plant = Plant(site, ["press"], names[:16])
    assert plant.all_hear("press", b"on") == set(names[:16])
    plant.begin("r16", False)
    plant.wait(20_000)
    assert plant.ones["r16"].it.state != MEMBER
    del plant.ones["r16"]
    assert plant.all_hear("press", b"on") == set(names[:16])


def test_after_a_restart_of_the_server(plant):
    before = group_of(plant.site).epoch.number
    site = plant.restart()
    plant.wait(40_000)
    for sender in SENDERS:
        assert plant.all_hear(sender, b"hello") == set(NAMES) - {sender}
    assert group_of(site).epoch.number > before
    site.store.close()


def test_everybody_is_sent_away_and_comes_back(plant, site):
    group_of(site).exclude(site.now)
    plant.wait(60_000)
    assert {one.it.state for one in plant.ones.values()} == {MEMBER}
    for sender in SENDERS:
        assert plant.all_hear(sender, b"hello") == set(NAMES) - {sender}


def test_the_longest_payload(plant):
    press = plant.ones["press"].member
    most = press.payload_most
    assert most == press.payload_max - 8 * len(NAMES)
    assert plant.all_hear("press", bytes(most)) == set(NAMES) - {"press"}
    assert plant.ones["press"].send(bytes(most + 1)) < 0
    assert esp.datagram_len(press.payload_max) == len(press.tx)


def test_more_members_than_slots_are_refused_by_the_sentence(site):
    for name in [f"r{number}" for number in range(17)]:
        site.add(name)
    with pytest.raises(Problem, match="16 receivers at most, and 17 members"):
        site.restart()


@pytest.mark.parametrize("more", ["", "backward_secrecy = true\n"])
def test_the_longest_rekey_that_it_makes(tmp_path, more):
    """Senders with long names, and more members at once, in the deepest tree."""
    text = SITE + LINE1 + MACS + "key_tree = 2\nkey_bits = 256\n" + more
    site = Site(tmp_path / "state.db", text)
    senders = [f"sender-{number}".ljust(63, "x") for number in range(8)]
    names = [f"receiver-{number}".ljust(63, "x") for number in range(8)]
    for name in [*senders, *names]:
        site.add(name)
    plant = Plant(site, senders, [])
    for name in names:
        plant.begin(name, False)
    plant.wait(60_000)
    assert {one.it.state for one in plant.ones.values()} == {MEMBER}
    for sender in senders:
        assert plant.all_hear(sender, b"hello") == {*senders, *names} - {sender}
    site.store.close()


def test_who_can_not_do_fragments_is_refused(plant, site):
    gm = ForeignGM(b"n0", KEY)
    answer = site.begin(gm, "n0")[1]
    assert notification(NO_PROPOSAL_CHOSEN) in gm.open(answer, GSA_AUTH)
    with pytest.raises(Problem, match="fragment_size must not be 0"):
        policy.parse("fragment_size = 0\n" + SITE + LINE1 + MACS)


def test_the_only_sender_may_come_last(site):
    names = [f"r{number}" for number in range(16)]
    for name in names:
        site.add(name)
    site.add("press", sender=True)
    plant = Plant(site, [], names)
    plant.begin("press", True)
    plant.wait(40_000)
    assert plant.all_hear("press", b"on") == set(names)


def test_who_was_removed_before_it_came_back_has_no_seat(plant, site):
    """Nor does the next one of its name get anything of it."""
    former = {seat.member: seat for seat in group_of(site).epoch.seats}
    plant.ones.pop("press")
    group_of(site).exclude(site.now)
    plant.wait(30_000)
    seats = {seat.member: seat for seat in group_of(site).epoch.seats}
    assert "press" in seats  # it may come back
    assert all(seats[name].secret != former[name].secret for name in seats)
    site.send(site.server.remove_member("press", site.now))
    plant.wait(20_000)
    assert "press" not in group_of(site).seated
    assert {row[2] for row in plant.ones["valve"].it._group.terms.sources.rows} == {b"desk"}
    site.add("press")
    plant.begin("press", True)
    plant.wait(40_000)
    (seat,) = [seat for seat in group_of(site).epoch.seats if seat.member == "press"]
    assert seat.secret not in (seats["press"].secret, former["press"].secret)


def test_who_is_removed_while_it_waits_is_not_seated(plant, site):
    site.send(site.server.rekey("line1", site.now))
    plant.begin("n0", True)
    plant.wait(500)
    assert "n0" in group_of(site).waiting(site.now)
    site.send(site.server.remove_member("n0", site.now))
    plant.ones.pop("n0")
    plant.wait(30_000)
    site.send(site.server.rekey("line1", site.now))
    assert "n0" not in group_of(site).seated


def test_a_sender_that_starts_again_and_again(plant, site):
    """Its index wears out: it gets another one in time, and nobody is sent away."""
    era = group_of(site).epoch.era
    indexes = set()
    for _ in range(70):
        plant.begin("press", True)
        plant.wait(14_000)
        assert plant.ones["press"].it.state == MEMBER
        indexes.add(plant.ones["press"].it._group.terms.sender_ids[0] >> 6)
    assert group_of(site).epoch.era == era and len(indexes) > 2
    plant.wait(20_000)
    assert plant.all_hear("press", b"on") == set(NAMES) - {"press"}
    assert plant.all_hear("desk", b"on") == set(NAMES) - {"desk"}


def test_without_it_from_now_on(plant, site):
    """What was sent before is still checked, by keys that nobody has wiped too early."""
    valve, press = plant.ones["valve"], plant.ones["press"]
    late, lie = press.send(b"late"), forged(plant.ones["panel"], press, b"lie", number=900)
    group = group_of(site)
    group.adopt(replace(group.policy, source_auth="none", rejoin_spread_s=0), site.now)
    secret = valve.it._group.terms.sources.secret
    for _ in range(12):
        assert valve.receive(lie) in (DROP_SOURCE, -5, -4)
        plant.wait(250)
    assert valve.receive(late) in (b"late", -5, -4)
    plant.wait(40_000)
    assert {one.it.state for one in plant.ones.values()} == {MEMBER}
    assert valve.it._group.terms.sources is None and not any(secret)
    packet = press.send(b"plain")
    assert valve.receive(packet) == b"plain" and not valve.member.confirmed
