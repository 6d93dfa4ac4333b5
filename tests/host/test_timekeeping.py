"""A key server of a group with TESLA, asked by a peer that shares no code with ours."""

import struct
from hashlib import sha256

import pytest

from covey import report
from covey.drops import Drops
from covey.ike import INFORMATIONAL, REGISTRATION_FAILED
from covey.membership import UNTIMED
from covey_host.causes import causes
from covey_host.errors import Problem
from covey_host.gcks.clock import FIRST_MS
from covey_host.gcks.policy import SitePolicy, parse
from covey_host.gcks.timingrules import asks_s
from foreign_gm import GSA_AUTH, ForeignGM, notification, notifies
from gcks_site import KEY, LINE1, SITE, Site
from test_eviction import group_of

TESLA = 'source_auth = "tesla"\n'
FRAGMENTATION = notification(16430)
REPORT, TIME, STONES, CHAINS = 40961, 40963, 40964, 40965
INTERVAL_MS, LAG, BITS = 100, 2, 14


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + TESLA)
    yield site
    site.store.close()


class Asker:
    def __init__(self, site, name, sends=True, gm=None):
        self.site, self.name = site, name
        self.gm = ForeignGM(name.encode(), KEY, wants=1 if sends else None)
        site.connect(self.gm, name, extra=[FRAGMENTATION])
        site.wait(0)
        answer = site.talk(self.gm.gsa_auth(), name)
        self.waited = answer is None
        self.answer = answer or site.answered(self.gm, name)

    @property
    def said(self):
        return self.gm.check_identity(self.gm.open(self.answer, GSA_AUTH))

    def join(self):
        self.gm.take_group(self.said)
        return self

    @property
    def timing(self):
        """COVEY_SOURCE_AUTH, field by field."""
        value = dict(self.gm.policy.sas[3]["attributes"])[16400]
        return struct.unpack(">BBBBI4sHH", value)

    @property
    def clock(self):
        return self.timing[5]

    @property
    def senders(self):
        """COVEY_CHAINS: {index: its row}"""
        return {row[0]: row for row in rows_of(self.gm.policy.wide[16404])}

    def request(self, wants, group=b"line1"):
        data = bytes([wants, 0, 0, 0]) + group
        return self.gm.seal(INFORMATIONAL, [notification(TIME, data)])

    def ask(self, wants=0, group=b"line1"):
        """→ {notification's type: [its data]}"""
        return self.say(self.request(wants, group))

    def say(self, request):
        payloads = self.gm.open(self.site.talk(request, self.name), INFORMATIONAL)
        kinds = notifies(payloads)
        assert len(kinds) == len(payloads)
        return {kind: [p[1][4:] for p in payloads if notifies([p]) == [kind]] for kind in kinds}

    def time(self):
        found = self.ask()
        assert set(found) == {TIME}
        (data,) = found[TIME]
        return struct.unpack(">4sQ", data)


def rows_of(value):
    return [struct.unpack(">HHI8sI16s", value[at : at + 36]) for at in range(0, len(value), 36)]


def stones_of(data):
    at, count, salt = struct.unpack_from(">IBxxx8s", data)
    keys = [data[16 + 16 * i : 32 + 16 * i] for i in range(count)]
    assert len(data) == 16 + 16 * count
    return at, salt, keys


def leads(stones, row):
    """Whether the first of these keys leads down to the row's."""
    at, salt, keys = stones
    key = keys[0]
    for i in range(at + 1, row[4], -1):
        key = sha256(salt + i.to_bytes(4) + key).digest()[:16]
    return (salt, key) == (row[3], row[5])


def begun(site, senders=("press", "desk"), receivers=("valve",)):
    for name in (*senders, *receivers):
        site.add(name, sender=name in senders)
    return [Asker(site, name, name in senders).join() for name in (*senders, *receivers)]


def rekeyed(site, *askers):
    """They hear what goes to the group."""
    outs, site.air = site.air, []
    for asker in askers:
        for out in outs:
            asker.gm.rekey(out.data)


def test_what_members_are_told(site):
    press, desk, valve = begun(site)
    assert press.waited and desk.waited and not valve.waited
    name = valve.clock
    assert valve.timing == (2, 8, LAG, BITS, INTERVAL_MS, name, 500, 0)
    assert len(valve.senders) == 2 and valve.time() == (name, FIRST_MS + site.now - 1_000_000)
    now = valve.time()[1] // INTERVAL_MS
    for row in valve.senders.values():
        assert row[1] == 0 and row[2] == now >> BITS << BITS
        assert row[2] - 1 <= row[4] < now - LAG


def test_a_sender_has_its_own_chain(site):
    """It leads to what receivers were told, and nobody else is given any of it."""
    press, desk, valve = begun(site)
    index = press.gm.sender_ids[0] >> 6
    (data,) = press.ask(1)[STONES]
    stones = stones_of(data)
    assert stones[0] == press.time()[1] // INTERVAL_MS - 1 and len(stones[2]) == BITS + 1
    assert leads(stones, valve.senders[index])
    (other,) = desk.ask(1)[STONES]
    assert not set(stones[2]) & set(stones_of(other)[2]) and not leads(
        stones_of(other), valve.senders[index]
    )
    assert set(valve.ask(3)) == {TIME, CHAINS}
    (rows,) = valve.ask(2)[CHAINS]
    found = {row[0]: row for row in rows_of(rows)}
    assert leads(stones, found[index]) and len(found) == 2


def test_a_new_sender_is_told_of_by_a_rekey(site):
    (press, valve) = begun(site, ["press"])
    site.air.clear()
    site.add("desk")
    desk = Asker(site, "desk")
    assert desk.waited
    rekeyed(site, valve)
    assert set(valve.senders) == set(desk.join().senders) and len(valve.senders) == 2
    (data,) = desk.ask(1)[STONES]
    assert leads(stones_of(data), valve.senders[desk.gm.sender_ids[0] >> 6])


def test_the_next_chain_is_told_ahead(site):
    press, valve = begun(site, ["press"])
    segment_ms = INTERVAL_MS << BITS
    while (left_ms := segment_ms * 3 // 4 - valve.time()[1] % segment_ms) > 0:
        site.wait(min(60_000, left_ms))
        press.time()
    found = press.ask(3)
    (rows,) = found[CHAINS]
    first = [row[2] >> BITS for row in rows_of(rows)]
    assert first == [first[0], first[0] + 1] and len(found[STONES]) == 2
    now, then = map(stones_of, found[STONES])
    assert then[0] == (first[1] << BITS) - 1
    for stones, row in zip((now, then), rows_of(rows), strict=True):
        assert leads(stones, row)
    while (left_ms := segment_ms - valve.time()[1] % segment_ms) <= segment_ms // 4:
        site.wait(min(60_000, left_ms + 200))
        press.time()
    (rows,) = valve.ask(2)[CHAINS]
    assert [row[2] >> BITS for row in rows_of(rows)] == first  # for who was away
    (data,) = press.ask(1)[STONES]
    assert leads(stones_of(data), rows_of(rows)[1])
    site.wait(5_000)
    (rows,) = valve.ask(2)[CHAINS]
    assert [row[2] >> BITS for row in rows_of(rows)] == first[1:]


def test_who_is_told_nothing(site):
    press, valve = begun(site, ["press"])
    for group in (b"line2", b"", b"\xff" * 200):
        assert valve.ask(3, group) == {}
    two = [notification(TIME, bytes(4) + b"line1")] * 2
    assert valve.say(valve.gm.seal(INFORMATIONAL, two)) == {}
    assert site.server.counters["time_refused"] == 4
    site.talk(valve.gm.leave(), "valve")
    assert valve.ask(3) == {}
    assert site.server.counters["time_told"] == 0 and set(press.ask(3)) == {TIME, STONES, CHAINS}


def test_what_is_malformed_ends_the_ike_sa(site):
    _, valve = begun(site, ["press"])
    request = valve.gm.seal(INFORMATIONAL, [notification(TIME, b"\1\0\0")])
    assert notifies(valve.gm.open(site.talk(request, "valve"), INFORMATIONAL)) == [7]


def test_an_answer_that_is_sent_again_is_the_same(site):
    """So a repeat can't make a member believe that it is later than it is."""
    _, valve = begun(site, ["press"])
    request = valve.request(2)
    first = site.talk(request, "valve")
    site.wait(700)
    assert site.talk(request, "valve") == first


def test_the_clock_outlives_the_key_server(site):
    press, valve = begun(site, ["press"])
    before, row = valve.time(), valve.senders[press.gm.sender_ids[0] >> 6]
    site = site.restart(later_ms=3_000)
    valve = Asker(site, "valve", False).join()
    assert valve.time() == (before[0], before[1] + 3_000)
    assert leads(stones_of(Asker(site, "press").join().ask(1)[STONES][0]), row)
    site.store.close()


def test_another_boot_has_another_clock_and_other_chains(site):
    press, valve = begun(site, ["press"])
    before, row = valve.time(), valve.senders[press.gm.sender_ids[0] >> 6]
    site.air.clear()
    site = site.restart(boot="boot-2")
    rekeyed(site, valve)
    assert valve.clock != before[0]
    valve = Asker(site, "valve", False).join()
    name, ms = valve.time()
    assert name == valve.clock and ms < FIRST_MS + 1_000
    assert not leads(stones_of(Asker(site, "press").join().ask(1)[STONES][0]), row)
    site.store.close()


def test_a_clock_that_is_spent_is_replaced_by_a_rekey(site):
    _, valve = begun(site, ["press"])
    name = valve.clock
    epoch = group_of(site).epoch.number
    site.now += 418 * 86_400_000
    group_of(site)._rekey_ms = site.now + 1  # whenever that was due
    assert valve.ask() == {}
    site.wait(0)
    assert group_of(site).epoch.number == epoch + 1
    told, ms = valve.time()
    assert told == group_of(site).epoch.clock != name and ms == FIRST_MS


def test_the_key_servers_machine_was_paused(site):
    """By its clock keys would not be out that are: nobody is told that, not even at once."""
    _, valve = begun(site, ["press"])
    name, _ = valve.time()
    site.server._boot.stood_ms += 20_000
    site.now += 20_000
    assert valve.ask() == {}
    site.air.clear()
    site.wait(0)
    rekeyed(site, valve)
    told, ms = valve.time()
    assert told == valve.clock != name and ms == FIRST_MS


def test_who_does_not_ask_is_named(site):
    press, valve = begun(site, ["press"])

    def untimed():
        facts = site.server.status(site.now)["groups"]["line1"]
        assert facts["untimed_count"] == len(facts["untimed"])
        for name in ("press", "valve", "desk"):
            standing = site.server.why(name, site.now)["groups"]["line1"]
            assert standing["untimed"] == (name in facts["untimed"])
        return facts["untimed"]

    site.add("desk")
    assert untimed() == ["press", "valve"]
    press.time()
    assert untimed() == ["valve"]
    told = {"running": True, "files": [], **site.server.why("valve", site.now)}
    (cause,) = (cause for cause in causes(told) if cause.cause == "untimed")
    assert "confirms no packet of line1" in cause.words
    valve.time()
    assert untimed() == []
    told = {"running": True, "files": [], **site.server.why("valve", site.now)}
    assert "unsure_of_time" not in {cause.cause for cause in causes(told)}
    said = report.emit_report(UNTIMED, bytes(4), 2, 60, 0, 0, [], Drops())
    valve.say(valve.gm.seal(INFORMATIONAL, [notification(REPORT, said)]))
    told = {"running": True, "files": [], **site.server.why("valve", site.now)}
    assert "unsure_of_time" in {cause.cause for cause in causes(told)}
    site.wait(43_000)  # it asks every 11 s
    valve.time()
    site.wait(2_000)
    assert untimed() == ["press"]
    site.talk(press.gm.leave(), "press")
    assert untimed() == []


def standing(site, name):
    """Its (untimed, unsure), and what is said of that."""
    told = {"running": True, "files": [], **site.server.why(name, site.now)}
    group = told["groups"]["line1"]
    words = {"untimed", "unsure_of_time"} & {cause.cause for cause in causes(told)}
    listed = site.server.status(site.now)["groups"]["line1"]["untimed"]
    assert (name in listed) == group["untimed"]
    return group["untimed"], group["unsure"], words


def test_who_is_told_too_late_is_named(site):
    """It asks again at once, and says that it does not know the time."""
    _, valve = begun(site, ["press"])
    valve.ask()
    assert standing(site, "valve") == (False, False, set())
    site.wait(2_600)
    valve.ask()
    assert standing(site, "valve") == (True, True, {"unsure_of_time"})
    site.wait(2_600)
    valve.ask(4)
    assert standing(site, "valve") == (False, False, set())
    for _ in range(2):
        site.wait(20_000)
        valve.ask()
    assert standing(site, "valve") == (False, False, set())
    site.wait(2_600)
    valve.ask()
    assert standing(site, "valve")[0]
    site.wait(10_000)  # so it was content
    assert standing(site, "valve") == (False, False, set())


def test_a_start_makes_nobody_untimed(site):
    """Members were told before it, and ask in their own time."""
    _, valve = begun(site, ["press"])
    valve.ask()
    site = site.restart()
    assert standing(site, "valve") == (False, False, set())
    site.wait(4000 * asks_s(group_of(site).policy))
    assert standing(site, "valve") == (False, False, set())
    site.wait(1)
    assert standing(site, "valve") == (True, False, {"untimed"})
    site.store.close()


def test_a_group_that_is_proven_by_time_no_more(site):
    """Keys of its chains are secrets of senders: they go."""
    begun(site, ["press"])[1].ask(2)
    group = group_of(site)
    assert group.chains._made
    site.server.reload(parse(SITE + LINE1), site.now)
    assert group_of(site) is group and not group.chains._made


def test_only_senders_are_counted(site):
    """Any number receives, without waiting; sixteen send."""
    for n in range(16):
        site.add(f"n{n}")
    site.add("more")
    with pytest.raises(Problem, match="16 senders"):
        site.server.reload(SitePolicy(site.policy.identity, groups=site.policy.groups), site.now)
    for n in range(20):
        site.add(f"r{n}", sender=False)
        assert not Asker(site, f"r{n}", False).join().waited
    for n in range(16):
        assert Asker(site, f"n{n}").answer
    refused = Asker(site, "more")
    assert notifies(refused.said) == [REGISTRATION_FAILED] and not refused.waited
    assert group_of(site).sender_count() == 16
    assert not Asker(site, "r3", False).waited
