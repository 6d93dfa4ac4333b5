"""Groups over time: epochs, removals, restarts, restored backups, and no Sender-ID twice."""

import shutil
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covey_host.errors import MISUSE, Problem
from covey_host.gcks import policy, senders
from covey_host.gcks.authority import Authority
from covey_host.gcks.epoch import decode_state, encode_state, first_epoch, next_epoch
from covey_host.gcks.keyserver import KeyServer
from covey_host.gcks.ledger import Ledger
from covey_host.store import Fenced, sqlite
from foreign_gm import (
    AUTHORIZATION_FAILED,
    DELETE,
    GSA_REGISTRATION,
    INFORMATIONAL,
    KD,
    REGISTRATION_FAILED,
    ForeignGM,
    notification,
    unchain,
)
from gcks_site import KEY, LINE1, SITE, CutStore, Flock, FullDisk, Killed, Site, backup

NAMES = ("a", "b", "c")
TREELESS = SITE + LINE1 + "key_tree = 0\n"  # test_eviction.py has the others
TINY = SITE + LINE1 + "sender_id_form = [2, 6]\nsender_ids = 2\n"


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", TREELESS)
    for name in NAMES:
        made.add(name)
    yield made
    made.store.close()


def group_of(site, name="line1"):
    return site.server._groups[name]


# Epochs


def test_a_group_begins_once_and_goes_on_after_a_restart(site):
    first = group_of(site).epoch
    assert first.number == 1 and site.air == []
    site = site.restart()
    second = group_of(site).epoch
    assert second.number == 2 and second.era == first.era
    assert [out.data[:16] for out in site.air] == [first.rekey.spi]
    assert second.tek_spi not in (first.tek_spi, first.next_tek_spi)
    assert second.rekey.spi not in (first.rekey.spi, first.next_rekey_spi)


def test_states_survive_the_store():
    epoch = first_epoch(policy.GroupPolicy("g", "239.1.1.1", 1, key_bits=256).shape, sample())
    later = next_epoch(epoch, epoch.shape, sample(), excludes=True, started=False)
    assert decode_state(encode_state(later, ())) == (later, ())
    assert (later.number, later.era, later.life) == (2, 1, 0)
    assert (later.tek_spi, later.rekey.spi) == (epoch.next_tek_spi, epoch.next_rekey_spi)
    assert epoch.tek_keymat.hex() not in repr(epoch) and epoch.rekey.keymat.hex() not in repr(
        epoch
    )
    assert str(epoch.rekey.keymat) not in repr(epoch)


def sample():
    counter = iter(range(1, 1000))
    return lambda n: bytes((next(counter) * 37 + i) % 256 for i in range(n))


def test_spis_keep_clear_of_what_they_could_be_taken_for():
    """Zero (RFC 4303), 1 to 255, the non-ESP marker; and the promised SPI is another one."""
    shape = policy.GroupPolicy("g", "239.1.1.1", 1).shape
    values = iter(
        [bytes(4) + b"x" * 12, b"x" * 8 + bytes(8), b"y" * 16, b"k" * 36]
        + [bytes(4), b"\0\0\0\xff", b"\0\0\1\0", b"t" * 20]
        + [b"n" * 16, b"\0\0\1\0", b"next"]
    )
    epoch = first_epoch(shape, lambda n: next(v for v in values if len(v) == n))
    assert (epoch.rekey.spi, epoch.tek_spi) == (b"y" * 16, b"\0\0\1\0")
    assert (epoch.next_rekey_spi, epoch.next_tek_spi) == (b"n" * 16, b"next")


# Removal


def test_removal_sends_everybody_away_and_refuses_the_removed(site):
    a, b = site.gm("a", 1), site.gm("b", 1)
    site.wait(20_000)
    old = group_of(site).epoch
    site.air.clear()
    outs = site.server.remove_member("b", site.now)
    multicast = [o for o in outs if o.address is None]
    told = [o for o in outs if o.address is not None]
    assert [o.data[:16] for o in multicast] == [old.rekey.spi]
    assert [o.address for o in told] == ["b"]
    assert b.open(told[0].data, INFORMATIONAL, 0, flags=0) == [(DELETE, b"\1\0\0\0")]
    assert a.rekey(multicast[0].data) == b.rekey(multicast[0].data) == "excluded"
    new = group_of(site).epoch
    assert (new.number, new.era) == (old.number + 1, old.era + 1)
    assert new.tek_spi == old.next_tek_spi  # who missed the Delete sees the promised SPI
    assert site.server.status(site.now)["groups"]["line1"]["members"] == []
    # the removed one proves who it is, and is told no
    again = site.connect(ForeignGM(b"b", KEY, wants=1), "b")
    assert site.ask(again, "b") == [notification(AUTHORIZATION_FAILED)]
    # the others come back, and nobody sends before all had time to: rejoin spread + ATD
    a.take_group(a.open(site.talk(a.gsa_registration()), GSA_REGISTRATION))
    assert a.tek[0] == new.tek_spi and a.policy.wide[1] == 2 + 5 and a.policy.wide[2] == 12
    site.wait(3_000)
    assert site.gm("c", 1).policy.wide[1] == 4
    with pytest.raises(Problem, match="removed already"):
        site.server.remove_member("b", site.now)


def test_after_a_removal_no_key_is_sent_that_the_removed_could_open(site):
    """Not even by a repeat of the rekey just before, which a member may not have heard yet."""
    a, b, c = (site.gm(name, 1) for name in NAMES)
    known = {b.rekey_sa.spi: b.rekey_sa}
    site.wait(20_000)
    site.air.clear()
    site.send(site.server.rekey("line1", site.now))
    assert a.rekey(site.air[0].data) == b.rekey(site.air[0].data) == "rekeyed"
    known[b.rekey_sa.spi] = b.rekey_sa
    site.now += 100  # c lost that copy; before the next one b is removed
    site.air.clear()
    site.send(site.server.remove_member("b", site.now))
    site.wait(1_500)
    air = site.air
    site = site.restart()
    site.wait(60_000)
    air += site.air
    heard = [c.rekey(out.data) for out in air]
    assert heard[0] == "excluded" and set(heard[1:]) == {"unknown"}
    assert "excluded" in [a.rekey(out.data) for out in air]
    opened = [kinds_in(known[o.data[:16]], o.data) for o in air if o.data[:16] in known]
    assert len(opened) > 4 and KD not in sum(opened, [])


def kinds_in(sa, data):
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    text = AESGCM(sa.key).decrypt(sa.salt + data[32:40], data[40:], data[:32])
    return [kind for kind, _ in unchain(data[28], text[:-1])]


def test_a_rekey_after_a_removal_leaves_time_to_come_back(site):
    site.gm("a", 1)
    site.gm("b", 1)
    site.send(site.server.remove_member("b", site.now))
    a = site.gm("a", 1)
    site.air.clear()
    site.now += 1_000
    site.send(site.server.rekey("line1", site.now))
    assert [a.rekey(out.data) for out in site.air] == ["unknown", "rekeyed"]  # the Delete again
    assert a.policy.wide[1] == 6 and a.policy.wide[2] == 11  # DTD still covers ATD
    site = site.restart(later_ms=500)
    last = site.air[-1]
    assert a.rekey(last.data) == "rekeyed"
    assert a.policy.wide[1] == 7 and a.policy.wide[2] == 12  # it can't know how much is over
    site.wait(30_000)
    site.send(site.server.rekey("line1", site.now))
    assert a.rekey(site.air[-1].data) == "rekeyed"
    assert a.policy.wide[1] == 5 and a.policy.wide[2] == 10


def test_time_to_come_back_outlives_the_repeats_and_a_restart(site):
    site.gm("b", 1)
    site.send(site.server.remove_member("b", site.now))
    a = site.gm("a", 1)
    site.wait(4_000)  # the Delete was repeated for the last time, but not all are back
    site = site.restart(later_ms=100)
    assert a.rekey(site.air[-1].data) == "rekeyed" and a.policy.wide[1] == 7
    site.wait(8_000)
    site = site.restart(later_ms=100)
    assert a.rekey(site.air[-1].data) == "rekeyed" and a.policy.wide[1] == 5
    assert len(site.air) == 1


def test_removing_who_holds_no_keys_disturbs_nobody(site):
    site.gm("a")
    number = group_of(site).epoch.number
    assert site.server.remove_member("c", site.now) == []
    site.send(site.server.remove_member("a", site.now))
    assert group_of(site).epoch.number == number + 1
    b = site.gm("b")
    b.open(site.talk(b.leave()), GSA_REGISTRATION)
    site.wait(1000)
    site.send(site.server.remove_member("b", site.now))  # it left, but it could still listen
    assert group_of(site).epoch.number == number + 2
    site.gm("c") if site.server.add_member("c", ["line1"], psk=KEY) else None
    assert site.server.status(site.now)["groups"]["line1"]["members"] == ["c"]


def test_a_restored_backup_can_not_hide_who_holds_keys(site, tmp_path):
    site.gm("a", 1)
    backup(site, tmp_path / "backup.db")
    unknown = site.gm("c")
    site.store.close()
    site = Site(tmp_path / "backup.db", TREELESS, now=site.now)
    assert unknown.rekey(site.air[0].data) == "rekeyed"
    assert site.server.status(site.now)["groups"]["line1"]["members"] == ["a"]
    site.send(site.server.remove_member("c", site.now))
    assert unknown.rekey(site.air[-1].data) == "excluded"


@pytest.mark.parametrize("name", ["nobody", "b/../a", ""])
def test_removing_nobody_is_a_sentence(site, name):
    with pytest.raises(Problem, match="no member") as raised:
        site.server.remove_member(name, site.now)
    assert raised.value.status == MISUSE


def test_a_removal_without_a_server_is_made_good_at_the_next_start(site):
    a, b = site.gm("a", 1), site.gm("b", 1)
    path = site.path
    site.store.close()
    store = sqlite.open_existing(path)
    Authority(Ledger(store)).remove_without_server("b")
    store.close()
    site = Site(path, TREELESS, now=site.now)
    assert group_of(site).epoch.era == 1
    assert a.rekey(site.air[0].data) == b.rekey(site.air[0].data) == "excluded"
    status = site.server.status(site.now)["groups"]["line1"]
    assert status["members"] == [] and status["absent"] == ["a"]
    again = site.connect(ForeignGM(b"b", KEY), "b")
    assert site.ask(again, "b") == [notification(AUTHORIZATION_FAILED)]
    site = site.restart()
    assert group_of(site).epoch.era == 1  # once is enough


# Sender-IDs


def test_incarnations_go_up_and_indexes_stay(site):
    form = policy.GroupPolicy("g", "239.1.1.1", 1).shape
    assert (senders.span(form), senders.share(form)) == (32, 4)
    ids = [site.gm(name, 1).sender_ids[0] for name in "abab"]
    assert ids == [0 << 6, 1 << 6, 0 << 6 | 1, 1 << 6 | 1]
    site.wait(20_000)
    site.send(site.server.rekey("line1", site.now))
    assert site.gm("a", 1).sender_ids == [2]  # on across TEKs
    site = site.restart()
    assert site.gm("a", 1).sender_ids == [3 + senders.share(form)]  # see senders.py
    assert site.gm("c", 1).sender_ids == [2 << 6 | senders.share(form)]


def test_many_registrations_of_one_sender_rekey_first(site):
    site.wait(20_000)
    number, ids, flock = group_of(site).epoch.number, [], Flock()
    for _ in range(4):
        ids.append(flock.join(site.gm("a", 1)).sender_ids)
    assert group_of(site).epoch.number == number
    fifth = flock.join(site.gm("a", 1))
    flock.hear(site)
    assert group_of(site).epoch.number == number + 1 and fifth.policy.wide[1] == 5
    assert [*ids, fifth.sender_ids] == [[i] for i in range(5)]
    assert {gm.tek for gm in flock.gms} == {fifth.tek}  # all follow
    for _ in range(3):
        flock.join(site.gm("a", 1))
    # too soon for another rekey: another index instead
    assert flock.join(site.gm("a", 1)).sender_ids == [1 << 6]
    assert group_of(site).epoch.number == number + 1


def test_a_sender_that_comes_again_and_again_never_gets_a_sender_id_twice(tmp_path):
    """All of a small space: other indexes, then exclusion, which makes them anew."""
    site = Site(tmp_path / "state.db", TINY)
    site.add("a")
    flock, eras = Flock(), set()
    for _ in range(150):
        site.wait(11_000)
        flock.forget_former()
        gm = site.connect(ForeignGM(b"a", KEY, wants=1))
        flock.join(gm.take_group(site.ask(gm)))
        flock.hear(site)
        eras.add(group_of(site).epoch.era)
    assert eras == {0, 1, 2}
    assert group_of(site).epoch.number > 20


def test_faster_than_keys_can_change_is_refused(tmp_path):
    site = Site(tmp_path / "state.db", TINY)
    site.add("a")
    site.add("b")
    flock = Flock()
    for _ in range(2 * senders.share(site.policy.groups["line1"].shape)):
        flock.join(site.gm("a", 1))
    gm = site.connect(ForeignGM(b"a", KEY, wants=1))
    assert site.ask(gm) == [notification(REGISTRATION_FAILED)]
    assert group_of(site).epoch.number == 1
    flock.join(site.gm("b", 1))  # others don't suffer
    gm = site.connect(ForeignGM(b"a", KEY, wants=1))
    assert site.ask(gm) == [notification(REGISTRATION_FAILED)]
    site.wait(10_000)
    gm.take_group(gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION))
    flock.join(gm)


def test_indexes_of_the_removed_are_free_in_the_next_era(tmp_path):
    site = Site(tmp_path / "state.db", TINY)
    for name in "abcde":
        site.add(name)
    for name in "abcd":
        site.gm(name, 1)
    gm = site.connect(ForeignGM(b"e", KEY, wants=1))
    assert site.ask(gm) == [notification(REGISTRATION_FAILED)]
    site.send(site.server.remove_member("b", site.now))
    assert site.gm("e", 1).sender_ids == [1 << 6]
    assert [site.gm(name, 1).sender_ids[0] >> 6 for name in "acd"] == [0, 2, 3]


def test_each_start_uses_up_what_a_backup_would_not_know(site):
    life = []
    for _ in range(10):
        site = site.restart()
        life.append((group_of(site).epoch.era, group_of(site).epoch.life))
    assert life == [(0, i) for i in range(1, 8)] + [(1, 0), (1, 1), (1, 2)]


def test_pick_prefers_its_own_then_unused_then_older_eras():
    shape = policy.GroupPolicy("g", "239.1.1.1", 1, sender_id_form=(2, 6)).shape
    epoch = replace(first_epoch(shape, sample()), era=1, number=9)
    old = senders.Row("b", 0, 0, 5, 7, 1)
    rows = {0: old, 2: replace(old, owner="a"), 3: replace(old, owner="c", era=1)}
    ask = {"epoch": epoch, "most": 4, "may_rekey": True}
    assert list(senders.pick(rows, "a", 1, **ask)) == [2]
    assert list(senders.pick(rows, "a", 4, **ask)) == [2, 1, 0]  # 3 is taken in this era
    assert list(senders.pick(rows, "d", 1, **ask)) == [1]
    full = {i: replace(old, owner="c", era=1) for i in range(4)}
    with pytest.raises(senders.NoIndex):
        senders.pick(full, "a", 1, **ask)
    full[1] = replace(full[1], used=32)
    with pytest.raises(senders.ExcludeFirst):
        senders.pick(full, "a", 1, **ask)


# The store


def test_a_newer_key_server_fences_this_one(site):
    old = site.server
    connected = site.connect(ForeignGM(b"a", KEY, wants=1))
    newer = KeyServer(site.store, site.policy)
    newer.start(site.now)
    with pytest.raises(Fenced):
        old.receive(connected.gsa_auth(), "a", site.now)
    for refused in (
        lambda: old.rekey("line1", site.now),
        lambda: old.remove_member("a", site.now),
        lambda: old.add_member("d", ["line1"]),
        lambda: old.step(site.now + 3_600_000),
    ):
        with pytest.raises(Fenced):
            refused()


@pytest.mark.parametrize("lies", [False, True])
def test_a_full_disk_loses_nothing(tmp_path, lies):
    site = Site(tmp_path / "state.db", TREELESS, wrap=FullDisk)
    for name in NAMES:
        site.add(name)
    flock = Flock()
    a = flock.join(site.gm("a", 1))
    site.wait(20_000)
    site.store.full, site.store.lies = True, lies
    for _ in range(3):
        gm = site.connect(ForeignGM(b"b", KEY, wants=1), "b")
        assert site.ask(gm, "b") == [notification(REGISTRATION_FAILED)]
    with pytest.raises(Problem, match="disk is full"):
        site.server.rekey("line1", site.now)
    assert site.server.counters["registration_failed"] == 3
    site.wait(60_000)
    flock.hear(site)
    site.store.full = False
    site.wait(10_000)
    flock.hear(site)
    flock.join(site.gm("b", 1))
    assert flock.gms[-1].tek == a.tek
    site.store.full = True
    with pytest.raises(Problem):
        site.server.remove_member("b", site.now)
    site.store.full = False
    if lies:
        with pytest.raises(Problem, match="already"):
            site.server.remove_member("b", site.now)
    else:
        site.send(site.server.remove_member("b", site.now))
    site.wait(1_000)
    flock.hear(site)
    assert [gm.tek for gm in flock.gms] == [None, None]
    assert site.gm("a", 1).tek


def test_a_disk_that_is_full_for_a_lifetime(tmp_path):
    site = Site(tmp_path / "state.db", TREELESS, wrap=FullDisk)
    site.add("a")
    a = site.gm("a", 1)
    site.store.full = True
    site.wait(3_600_000)
    assert site.air == [] and site.server.counters["store_failed"] > 10
    gm = site.connect(ForeignGM(b"a", KEY, wants=1), "b")
    assert site.ask(gm, "b") == [notification(REGISTRATION_FAILED)]  # no keys that have expired
    site.store.full = False
    gm.take_group(gm.open(site.talk(gm.gsa_registration(), "b"), GSA_REGISTRATION))
    assert gm.tek != a.tek and group_of(site).epoch.number == 2


# Policy


def test_reload(site):
    a = site.gm("a", 1)
    text = TREELESS + '[group.line2]\naddress = "239.192.1.33"\nport = 1\n'
    assert site.server.reload(policy.parse(text), site.now) == []  # a new group says nothing
    site.server.add_member("d", ["line2"], psk=KEY)
    d = ForeignGM(b"d", KEY, group=b"line2")
    site.register(d, "d")
    number = group_of(site).epoch.number
    slower = text.replace("port = 2222\n", 'port = 2222\natd = "6s"\n')
    [out] = site.server.reload(policy.parse(slower), site.now)
    assert a.rekey(out.data) == "rekeyed" and a.policy.wide[1] == 6
    assert group_of(site).epoch.number == number + 1
    assert site.server.reload(policy.parse(slower), site.now) == []
    site.wait(20_000)
    moved = slower.replace("239.192.1.32", "239.192.1.99")
    [out] = site.server.reload(policy.parse(moved), site.now)
    assert out.destination[0] == "239.192.1.32" and a.rekey(out.data) == "excluded"
    assert site.gm("a", 1).policy.sas[3]["destination"][3] == b"\xef\xc0\x01\x63"
    site.wait(20_000)
    [out] = site.server.reload(policy.parse(moved.partition("[group.line2]")[0]), site.now)
    assert d.rekey(out.data) == "excluded" and out.group == "line2"
    gone = d.open(site.talk(d.gsa_registration(), "d"), GSA_REGISTRATION)
    assert gone == [notification(45)]
    site.air.clear()
    site.wait(5_000)
    assert [o.data for o in site.air if o.group == "line2"] == [out.data] * 2
    outs = site.server.reload(policy.parse(moved), site.now)  # it comes back, later in its life
    assert {o.group for o in outs} == {"line2"}
    assert group_of(site, "line2").epoch.number == 3


@pytest.mark.parametrize("lies", [False, True])
@pytest.mark.parametrize("change", ['rekey = "inband"\n', "repeats = 3\n"])
def test_a_reload_that_could_not_be_written_is_done_by_the_next(tmp_path, change, lies):
    site = Site(tmp_path / "state.db", TREELESS, wrap=FullDisk)
    site.add("a")
    a = site.gm("a", 1)
    wanted = policy.parse(TREELESS + change)
    former = group_of(site).policy
    site.store.full, site.store.lies = True, lies
    with pytest.raises(Problem, match="disk is full"):
        site.server.reload(wanted, site.now)
    assert group_of(site).policy == former and site.air == []
    site.store.full = False
    site.wait(20_000)
    site.send(site.server.reload(wanted, site.now))
    group = group_of(site)
    assert group.policy == wanted.groups["line1"] and group.epoch.shape == group.policy.shape
    heard = {a.rekey(out.data) for out in site.air}
    assert ("excluded" in heard) == ("inband" in change)
    assert ("a" in group.active()) == ("inband" not in change)


def test_a_policy_that_changed_while_no_server_ran(site):
    a = site.gm("a", 1)
    site = site.restart(SITE + LINE1 + "sender_id_form = [8, 8]\n")
    assert a.rekey(site.air[0].data) == "excluded"
    assert site.gm("a", 1).policy.wide[16385] == 8 << 8 | 16


def test_unknown_groups_are_a_sentence(site):
    with pytest.raises(Problem, match="no group .nowhere"):
        site.server.rekey("nowhere", site.now)
    with pytest.raises(Problem, match="no group .nowhere"):
        site.server.add_member("x", ["nowhere"])


def test_status_without_a_running_server(site):
    site.gm("a", 1)
    expected = site.server.status(site.now)["groups"]["line1"]
    revision = site.revision()
    shown = KeyServer(site.store, site.policy).status(0)["groups"]["line1"]
    running = ("untimed", "untimed_count", "holders", "holder_count")
    for timed in ("age_s", "rekey_in_s", "last_rekey", *running):
        del expected[timed]
    assert shown == expected and site.revision() == revision


def test_no_secret_in_status_or_events(site):
    site.gm("a", 1)
    site.send(site.server.remove_member("a", site.now))
    text = (
        repr(site.server.status(site.now)) + repr(site.server.events) + repr(site.server.counters)
    )
    epoch = group_of(site).epoch
    for secret in (KEY, epoch.tek_keymat, epoch.rekey.keymat):
        assert secret.hex() not in text and repr(secret)[2:-1] not in text
    assert [name for name, _ in site.server.events][-2:] == ["removed", "excluded_all"]


# kill -9 at each write; test_durability.py has groups with a key tree


def story(site, flock, cut=None):
    """What happens to a site, step by step; each step may be done twice after a crash."""

    def register(name):
        def step(site):
            flock.join(site.gm(name, 1))

        return step

    def remove(name):
        def step(site):
            try:
                site.send(site.server.remove_member(name, site.now))
            except Problem as problem:
                assert "already" in problem.sentence

        return step

    def rekey(site):
        site.send(site.server.rekey("line1", site.now))

    def wait(ms):
        return lambda site: site.wait(ms)

    return [
        register("a"),
        register("b"),
        wait(12_000),
        rekey,
        wait(300),
        register("c"),
        wait(3_000),
        remove("b"),
        register("a"),
        wait(500),
        rekey,
        register("a"),
        wait(8_000),
    ]


def run_story(path, at, after):
    """The story with one crash → whether it came to that."""
    path.parent.mkdir()
    shutil.copy(path.parent.with_name("template.db"), path)
    flock, removed = Flock(is_one_store=True), False
    cuts = []

    def cutting(store):
        cuts.append(CutStore(store, at, after))
        return cuts[-1]

    try:
        site = Site(path, TREELESS, wrap=cutting)
    except Killed:
        site = Site(path, TREELESS, now=2_000_000)
    for number, step in enumerate(story(site, flock)):
        try:
            step(site)
        except Killed:
            flock.hear(site)  # what was sent was sent
            site.store.close()
            site = flock.follow(Site(path, TREELESS, now=site.now + 1_000))
            step(site)
        flock.hear(site)
        removed |= number == 7
        if removed:
            spy = [sa for gm in flock.gms if gm.name == b"b" for sa in known_sas(gm)]
            assert not any(opens_keys(sa, out.data) for sa in spy for out in site.air[-3:])
    was_cut = cuts[0].disarm()
    site.wait(30_000)
    flock.hear(site)
    settle(site, flock)
    site.store.close()
    return was_cut


def known_sas(gm):
    gm.spied = getattr(gm, "spied", {}) | gm.former
    if gm.rekey_sa:
        gm.spied[gm.rekey_sa.spi] = gm.rekey_sa
    return list(gm.spied.values())


def opens_keys(sa, data):
    return data[:16] == sa.spi and KD in kinds_in(sa, data)


def settle(site, flock):
    """Everyone is where the server is, or out and can come back; the removed one can not."""
    epoch = group_of(site).epoch
    by_name = {}
    for gm in flock.gms:
        assert gm.tek is None or gm.tek == (epoch.tek_spi, epoch.tek_keymat), gm.name
        by_name[gm.name] = gm
    assert by_name[b"b"].tek is None
    assert by_name[b"a"].tek is not None
    for name in ("a", "c"):
        assert flock.join(site.gm(name, 1)).tek[0] == epoch.tek_spi
    again = site.connect(ForeignGM(b"b", KEY, wants=1), "b")
    assert site.ask(again, "b") == [notification(AUTHORIZATION_FAILED)]


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_each_write(tmp_path, after):
    made = Site(tmp_path / "template.db", TREELESS)
    for name in NAMES:
        made.add(name)
    made.store.close()
    at = 1
    while run_story(tmp_path / str(at) / "state.db", at, after):
        at += 1
    assert at > 12


# Anything that may happen to a store, in any order


_OPS = st.one_of(
    st.tuples(st.just("register"), st.sampled_from(NAMES), st.integers(1, 2)),
    st.tuples(st.just("rekey"), st.sets(st.integers(0, 7)), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([200, 1_500, 11_000]), st.none()),
    st.tuples(st.just("restart"), st.sets(st.integers(0, 7)), st.none()),
    st.tuples(st.just("backup"), st.none(), st.none()),
    st.tuples(st.just("restore"), st.sets(st.integers(0, 7)), st.none()),
)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(_OPS, max_size=25))
def test_no_nonce_twice_whatever_happens_to_the_store(tmp_path, ops):
    """Restarts, restored backups, lost rekeys, and devices that run beside their successors."""
    for file in tmp_path.iterdir():
        file.unlink()
    site = Site(tmp_path / "state.db", TINY)
    for name in NAMES:
        site.add(name)
    backup(site, tmp_path / "backup.db")
    flock = Flock()
    for op, one, two in ops:
        if op == "register":
            gm = site.connect(ForeignGM(one.encode(), KEY, wants=two), one)
            found = site.ask(gm, one)
            if found != [notification(REGISTRATION_FAILED)]:
                flock.join(gm.take_group(found))
        elif op == "rekey":
            site.send(site.server.rekey("line1", site.now))
            flock.hear(site, one)
        elif op == "wait":
            site.wait(one)
            flock.hear(site)
            if one > 10_000:
                flock.forget_former()
        elif op == "backup":
            backup(site, tmp_path / "backup.db")
        else:
            site.store.close()
            if op == "restore":
                shutil.copy(tmp_path / "backup.db", tmp_path / "state.db")
                for left in ("state.db-wal", "state.db-shm"):
                    (tmp_path / left).unlink(missing_ok=True)
            site = flock.follow(Site(tmp_path / "state.db", TINY, now=site.now + 10))
            flock.hear(site, one)
    site.store.close()
