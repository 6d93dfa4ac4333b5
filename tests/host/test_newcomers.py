"""Groups that change keys before somebody is given any: backward_secrecy, fresh_join.

Members are another implementation (foreign_gm.py), which knows nothing of either.
"""

import pytest

from covey_host.errors import Problem
from covey_host.gcks import moves, policy, table
from foreign_gm import (
    AUTHORIZATION_FAILED,
    GSA_AUTH,
    GSA_REGISTRATION,
    REGISTRATION_FAILED,
    ForeignGM,
    notification,
)
from gcks_site import KEY, PLAIN, SITE, FullDisk, Site, take
from test_eviction import all_keys, finds, group_of, hear, remove

NAMES = [f"m{number}" for number in range(12)]
NEW = [f"n{number}" for number in range(6)]
BACKWARD = SITE + PLAIN + "fresh_join = false\nbackward_secrecy = true\n"
FRESH = SITE + PLAIN


def made(path, text, names=NAMES, **how):
    site = Site(path, text, **how)
    for name in [*names, *NEW]:
        site.add(name)
    return site


@pytest.fixture
def site(tmp_path):
    site = made(tmp_path / "state.db", BACKWARD)
    yield site
    site.store.close()


def everybody(site, names=NAMES):
    """All at once, and then quiet."""
    begun = {name: ForeignGM(name.encode(), KEY, wants=1) for name in names}
    answers = {name: site.begin(gm, name)[1] for name, gm in begun.items()}
    for name, gm in begun.items():
        take(gm, answers[name] or site.answered(gm, name))
    site.wait(30_000)
    hear(site, begun)
    site.air.clear()
    return begun


def ask(site, name, **how):
    """→ the member, its request, its answer or None."""
    gm = ForeignGM(name.encode(), KEY, **how)
    return gm, *site.begin(gm, name)


def follow(site, gms):
    """All hear what was sent; → who has the group's keys now."""
    hear(site, gms)
    epoch = group_of(site).epoch
    return {name for name, gm in gms.items() if gm.tek == (epoch.tek_spi, epoch.tek_keymat)}


# Backward secrecy


def test_a_newcomer_gets_keys_that_nothing_was_sent_under(site):
    gms = everybody(site)
    old = group_of(site).epoch
    before = {name: all_keys(gm) for name, gm in gms.items()}
    new = site.come("n0")
    epoch = group_of(site).epoch
    assert epoch.number == old.number + 1 and epoch.era == old.era
    assert new.tek == (epoch.tek_spi, epoch.tek_keymat) != (old.tek_spi, old.tek_keymat)
    assert not all_keys(new) & set().union(*before.values())
    assert new.policy.wide[1] == 5  # ATD: nobody sends under it yet
    assert follow(site, gms) == set(NAMES)
    gms["n0"] = new
    for _ in range(2):
        site.send(site.server.rekey("line1", site.now))
        site.wait(15_000)
        assert follow(site, gms) == set(gms)
    remove(site, "m3")
    site.wait(5_000)
    assert follow(site, gms) == set(gms) - {"m3"}


def test_one_message_brings_it_to_all_who_were_there(site):
    gms = everybody(site)
    site.come("n0")
    site.wait(20_000)
    follow(site, gms)
    spi = group_of(site).epoch.rekey.spi
    site.come("n1")  # has a neighbour
    site.wait(10_000)
    assert {out.data[:16] for out in site.air} == {spi}
    assert len({out.data for out in site.air}) == 1 and len(site.air) == 3
    assert gms["m0"].rekey(site.air[0].data) == "rekeyed"
    assert gms["m0"].keys.order == [6, 3, 0]


def test_newcomers_wait_as_one_is_removed_that_never_came(site):
    """After a restart the key server can't know that it didn't."""
    gms = everybody(site)
    site = site.restart()
    site.wait(30_000)
    assert follow(site, gms) == set(NAMES)
    asked = {name: ask(site, name, wants=1) for name in ("n0", "n1")}
    assert not any(answer for _, _, answer in asked.values())
    remove(site, "n5")
    site.wait(20_000)
    assert follow(site, gms) == set(NAMES) and group_of(site).epoch.era == 0
    for name, (gm, _, _) in asked.items():
        take(gm, site.answered(gm, name))
        gms[name] = gm
    site.wait(20_000)
    site.send(site.server.rekey("line1", site.now))
    site.wait(20_000)
    assert follow(site, gms) == set(gms)


@pytest.mark.parametrize("backward", [True, False])
def test_a_newcomer_with_everything_ever_sent_and_an_evicted_friend(tmp_path, backward):
    """It tries each of its keys on each message since the group's beginning, under the Rekey SAs
    of one that was put out; without backward secrecy that leads somewhere."""
    text = BACKWARD if backward else BACKWARD.replace("true", "false")
    site = made(tmp_path / "state.db", text)
    gms = everybody(site)
    recorded, sas, keys = [], {}, set()
    for turn in range(3):
        if turn == 1:
            friend = gms.pop("m5")
            sas = friend.former | {friend.rekey_sa.spi: friend.rekey_sa}
            keys = all_keys(friend)
            remove(site, "m5")
        else:
            site.send(site.server.rekey("line1", site.now))
        site.wait(20_000)
        recorded += [out.data for out in site.air]
        follow(site, {**gms, "m5": friend} if turn else gms)
    new = site.come("n0")
    recorded += [out.data for out in site.air]
    assert group_of(site)._roster.members["n0"].leaf == 5  # where the friend was
    assert not any(finds(data, sas, keys) for data in recorded[3:])
    sas = sas | {new.rekey_sa.spi: new.rekey_sa}
    assert any(finds(data, sas, keys | all_keys(new)) for data in recorded[3:]) != backward
    assert (new.tek[0] != gms["m0"].tek[0]) == backward
    site.store.close()


def test_joins_and_leaves_within_the_window_are_one_rekey(site):
    gms = everybody(site)
    old = group_of(site).epoch
    left = gms["m3"]
    left.open(site.talk(left.leave(), "m3"), GSA_REGISTRATION)
    asked = []
    for name in NEW[:4]:
        asked.append((name, *ask(site, name)))
        site.wait(200)
    assert [answer for *_, answer in asked] == [None] * 4 and site.air == []
    for name, gm, _, _ in asked:
        gms[name] = take(gm, site.answered(gm, name))
    assert group_of(site).epoch.number == old.number + 1
    site.wait(5_000)
    assert follow(site, gms) == set(gms) - {"m3"}
    site.wait(60_000)
    assert group_of(site).epoch.number == old.number + 1


def test_a_removal_takes_those_along_who_wait(site):
    gms = everybody(site)
    old = group_of(site).epoch
    gm, _, answer = ask(site, "n0")
    assert answer is None
    site.wait(100)
    remove(site, "m5")
    gms["n0"] = take(gm, site.answered(gm, "n0"))
    site.wait(10_000)
    assert group_of(site).epoch.number == old.number + 1
    assert follow(site, gms) == set(gms) - {"m5"}


def test_those_who_come_later_wait_until_the_last_change_is_through(site):
    gms = everybody(site)
    gms["n0"] = site.come("n0")
    came_ms = site.now
    first = group_of(site).epoch.number
    gms["n1"] = site.come("n1")
    assert group_of(site).epoch.number == first + 1
    assert 9_000 <= site.now - came_ms <= 10_100  # dtd
    site.wait(3_000)
    assert follow(site, gms) == set(gms)


def test_a_member_that_registers_again_is_no_newcomer(site):
    gms = everybody(site)
    old = group_of(site).epoch
    again = site.gm("m4", 1)
    assert again.tek == gms["m0"].tek and group_of(site).epoch == old and site.air == []


def test_who_left_and_comes_back_is_one(site):
    gms = everybody(site)
    old = group_of(site).epoch
    left = gms["m4"]
    left.open(site.talk(left.leave(), "m4"), GSA_REGISTRATION)
    back = site.come("m4")
    assert group_of(site).epoch.number == old.number + 1
    assert not all_keys(back) & all_keys(left)
    gms["m4"] = back
    site.wait(3_000)
    assert follow(site, gms) == set(gms)


def test_after_everybody_was_sent_away_all_come_back_at_once(site):
    everybody(site)
    group_of(site).exclude(site.now)
    number = group_of(site).epoch.number
    backs = {name: site.gm(name, 1) for name in NAMES}
    assert group_of(site).epoch.number == number and len({gm.tek for gm in backs.values()}) == 1
    site.wait(30_000)
    hear(site, backs)
    backs["n0"] = site.come("n0")
    site.wait(3_000)
    assert follow(site, backs) == set(backs) and group_of(site).epoch.number == number + 1


def spread(site, gms):
    """Leaves far apart are free."""
    for name in ("m1", "m5", "m9"):
        gm = gms.pop(name)
        gm.open(site.talk(gm.leave(), name), GSA_REGISTRATION)
    site.send(site.server.rekey("line1", site.now))
    site.wait(20_000)
    follow(site, gms)


@pytest.mark.parametrize("private", [True, False])
def test_more_newcomers_than_one_message_can_bring(tmp_path, monkeypatch, private):
    """They are brought in portions; where members don't know of those, some wait."""
    more = "" if private else 'carrier = "ip"\nprivate_attributes = false\n'
    site = made(tmp_path / "state.db", BACKWARD + more)
    gms = everybody(site)
    spread(site, gms)
    monkeypatch.setattr(moves, "_MOST_JOIN_WRAPS", 4)
    old = group_of(site).epoch
    asked = {name: ask(site, name)[0] for name in NEW[:3]}
    for name, gm in asked.items():
        gms[name] = take(gm, site.answered(gm, name, ms=40_000))
        assert gms[name].tek[0] != old.tek_spi
        hear(site, gms)
    number = group_of(site).epoch.number
    assert number == old.number + 1 if private else number > old.number + 1
    site.wait(3_000)
    assert follow(site, gms) == set(gms) and group_of(site).epoch.era == old.era
    site.store.close()


@pytest.mark.parametrize("degree", [0, 2, 16])
def test_any_degree_and_none(tmp_path, degree):
    site = made(tmp_path / "state.db", BACKWARD + f"key_tree = {degree}\n")
    gms = everybody(site)
    old = group_of(site).epoch.number
    for name in NEW[:2]:
        tek = gms["m0"].tek
        gms[name] = site.come(name)
        site.wait(20_000)
        assert gms[name].tek != tek and follow(site, gms) == set(gms)
    assert group_of(site).epoch.number == old + 2
    site.store.close()


def test_an_inband_group(tmp_path):
    """The others are told the new keys each by itself, the newcomer gets no others."""
    site = made(tmp_path / "state.db", BACKWARD + 'rekey = "inband"\n', names=["m0"])
    first = ForeignGM(b"m0", KEY, wants=1)
    site.connect(first, "m0")
    site.ask(first, "m0")
    site.wait(30_000)
    old = group_of(site).epoch
    new = ForeignGM(b"n0", KEY)
    assert site.begin(new, "n0")[1] is None
    answer = site.answered(new, "n0")
    assert group_of(site).epoch.number == old.number + 1
    found = new.check_identity(new.open(answer, GSA_AUTH))
    assert found[0][1].count(group_of(site).epoch.tek_spi) and old.tek_spi not in found[0][1]
    assert any(out.address == "m0" for out in site.unasked)  # it is told
    site.store.close()


# Requests that wait


def test_repeats_while_it_waits_are_dropped_and_later_answered_from_the_cache(site):
    everybody(site)
    revision = site.revision()
    gm, request, answer = ask(site, "n0", wants=1)
    for _ in range(500):
        assert site.talk(request, "n0") is None
        assert site.talk(request, "elsewhere") is None
    assert answer is None and site.revision() == revision
    assert site.server.counters["request_waits"] == 1000
    given = site.answered(gm, "n0")
    assert given and site.talk(request, "n0") == given
    assert len(take(gm, given).sender_ids) == 1 and site.server.counters["registered"] == 13


def test_forged_copies_do_not_spoil_one_that_waits(site):
    everybody(site)
    gm, request, _ = ask(site, "n0")
    for place in range(28, len(request), 7):
        forged = bytearray(request)
        forged[place] ^= 1
        assert site.talk(bytes(forged), "forger") is None
    assert take(gm, site.answered(gm, "n0")).tek[0] == group_of(site).epoch.tek_spi


def test_a_request_over_an_ike_sa_that_is_kept_waits_too(site):
    gms = everybody(site)
    back = gms["m4"]
    back.open(site.talk(back.leave(), "m4"), GSA_REGISTRATION)
    assert site.talk(back.gsa_registration(), "m4") is None
    site.wait(1_200)
    answer = next(out.data for out in site.unasked if out.address == "m4")
    back.take_group(back.open(answer, GSA_REGISTRATION))
    site.wait(3_000)
    assert follow(site, gms) == set(gms)


def test_who_is_removed_while_it_waits_is_refused(site):
    everybody(site)
    gm, _, _ = ask(site, "n0")
    site.wait(100)
    remove(site, "n0")
    answer = site.answered(gm, "n0", ms=25_000)
    assert answer is None or notification(AUTHORIZATION_FAILED) in gm.open(answer, GSA_AUTH)
    assert not group_of(site).has("n0")


def test_who_never_comes_for_its_keys_is_out_with_the_next_rekey(site):
    gms = everybody(site)
    group = group_of(site)
    sa_of = site.server._responder._table
    ask(site, "n0")
    gm, _, _ = ask(site, "n1")
    sa = next(sa for sa in sa_of.sas.values() if sa.identity == "n0" and sa.deferred)
    sa_of.forget(sa)
    gms["n1"] = take(gm, site.answered(gm, "n1"))
    assert group._roster.members["n0"].left and group._roster.members["n0"].leaf is not None
    site.wait(40_000)
    follow(site, gms)
    site.send(site.server.rekey("line1", site.now))
    site.wait(3_000)
    assert group._roster.members["n0"].leaf is None and follow(site, gms) == set(gms)
    gms["n0"] = site.come("n0")
    site.wait(3_000)
    assert follow(site, gms) == set(gms)


def test_a_place_that_was_kept_is_not_good_for_later(site):
    """Its keys are used by then: it is a newcomer as before."""
    gms = everybody(site)
    ask(site, "n0")
    gm, _, _ = ask(site, "n1")
    table = site.server._responder._table
    table.forget(next(sa for sa in table.sas.values() if sa.identity == "n0" and sa.deferred))
    gms["n1"] = take(gm, site.answered(gm, "n1"))
    site.wait(30_000)
    follow(site, gms)
    old = group_of(site).epoch.number
    gms["n0"] = site.come("n0")
    assert group_of(site).epoch.number == old + 1
    site.wait(3_000)
    assert follow(site, gms) == set(gms)


@pytest.mark.parametrize("lies", [False, True])
def test_a_full_disk_hands_out_nothing(tmp_path, lies):
    site = made(tmp_path / "state.db", BACKWARD, wrap=FullDisk)
    gms = everybody(site)
    gm, _, _ = ask(site, "n0")
    site.store.full, site.store.lies = True, lies
    answer = site.answered(gm, "n0")
    assert notification(REGISTRATION_FAILED) in gm.open(answer, GSA_AUTH)
    site.store.full = False
    site.wait(10_000)
    gms["n0"] = site.come("n0")
    site.wait(3_000)
    assert follow(site, gms) == set(gms)
    remove(site, "m2")
    site.wait(10_000)
    assert follow(site, gms) == set(gms) - {"m2"}
    site.store.close()


# Receivers that start anew


def test_who_starts_anew_gets_a_tek_that_nobody_uses(tmp_path):
    site = made(tmp_path / "state.db", FRESH)
    gms = everybody(site)
    old = group_of(site).epoch
    again = site.come("m4", 1)
    epoch = group_of(site).epoch
    assert epoch.number == old.number + 1 and again.tek[0] == epoch.tek_spi
    assert again.policy.wide[1] == 5
    gms["m4"] = again
    site.wait(2_000)
    gms["n0"] = site.gm("n0")  # nobody sends yet: at once
    assert group_of(site).epoch == epoch and gms["n0"].policy.wide[1] == 3
    site.wait(2_800)
    gm, _, answer = ask(site, "m5", wants=1)  # too near to the time when they do
    assert answer is None
    gms["m5"] = take(gm, site.answered(gm, "m5"))
    assert group_of(site).epoch.number == epoch.number + 1
    site.wait(3_000)
    assert follow(site, gms) == set(gms)
    site.store.close()


def test_a_pull_is_no_start(tmp_path):
    """Who asks over the IKE SA over which it registered has its windows."""
    site = made(tmp_path / "state.db", FRESH)
    gms = everybody(site)
    old = group_of(site).epoch
    gm = gms["m4"]
    gm.take_group(gm.open(site.talk(gm.gsa_registration(), "m4"), GSA_REGISTRATION))
    assert group_of(site).epoch == old and site.air == []
    site.store.close()


def test_who_starts_again_and_again_makes_others_change_keys_no_faster_than_they_can(tmp_path):
    site = made(tmp_path / "state.db", FRESH + "sender_id_form = [4, 8]\n")
    everybody(site)
    number, began_ms = group_of(site).epoch.number, site.now
    while site.now < began_ms + 120_000:
        site.come("m4")
        site.wait(500)
    assert group_of(site).epoch.number - number <= 120_000 // 10_000 + 1  # dtd
    site.store.close()


def test_the_first_of_a_group_need_not_wait(tmp_path):
    site = made(tmp_path / "state.db", FRESH)
    site.gm("m0")
    site.gm("m1")
    sender = site.gm("m2", 1)
    assert group_of(site).epoch.number == 1 and sender.tek
    assert ask(site, "m3")[2] is None
    site.store.close()


def test_one_sender_that_starts_anew(tmp_path):
    site = made(tmp_path / "state.db", FRESH + "single_sender = true\n")
    site.gm("m0", 1)
    site.wait(30_000)
    tek = group_of(site).epoch.tek_spi
    again = site.come("m0", 1)
    assert again.tek[0] != tek and again.tek[0] == group_of(site).epoch.tek_spi
    site.store.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('backward_secrecy = true\nfresh_join = false\natd = "0s"\n', "atd must be at least 1 s"),
        ('atd = "0s"\n', "fresh_join = false"),
        ('backward_secrecy = true\ndtd = "14s"\n', "waits up to 15 s"),
        ('atd = "1s"\nbatch_window = "5s"\n', "fresh_join a member waits up to 14"),
        ('batch_window = "11s"\n', "from 0 to 10 s"),
        ('fresh_join = "yes"\n', "true or false"),
    ],
)
def test_policy_that_can_not_be(text, words):
    if "up to 14" in words:
        assert policy.parse(SITE + PLAIN + text)
        text = text.replace("5s", "6s")
        words = "waits up to 15 s"
    with pytest.raises(Problem, match=words):
        policy.parse(SITE + PLAIN + text)


@pytest.mark.parametrize("member", [True, False])
def test_who_says_that_it_never_slept_is_believed_if_it_was_a_member(tmp_path, member):
    """COVEY_AWAKE, which only a member that has its windows sends."""
    site = made(tmp_path / "state.db", FRESH)
    everybody(site)
    old = group_of(site).epoch
    gm = ForeignGM(b"m4" if member else b"n0", KEY)
    answer = site.begin(gm, "b", extra=[notification(40960)])[1]
    assert (answer is not None) == member
    take(gm, answer or site.answered(gm, "b"))
    assert (group_of(site).epoch == old) == member
    site.store.close()


def test_who_waits_takes_no_strangers_room(tmp_path, monkeypatch):
    """It has proven itself: neither cookies nor a full table are its doing."""
    monkeypatch.setattr(table, "MOST_UNPROVEN", 3)
    site = made(tmp_path / "state.db", FRESH)
    site.gm("m0", wants=1)
    site.wait(60_000)
    waiting = [(name, *ask(site, name)) for name in NAMES[1:9]]
    assert [answer for *_, answer in waiting] == [None] * 8
    assert site.server.status(site.now)["unproven"] == 0
    for name, gm, *_ in waiting:
        take(gm, site.answered(gm, name))
    site.store.close()


def test_of_one_member_the_newest_waits(tmp_path):
    site = made(tmp_path / "state.db", FRESH)
    site.gm("m0", wants=1)
    site.wait(60_000)
    for start in range(20):
        gm = ForeignGM(b"m1", KEY)
        assert site.begin(gm, f"m1/{start}")[1] is None
    sas = site.server._responder._sas.values()
    assert [sa.address for sa in sas if sa.identity == "m1"] == ["m1/19"]
    take(gm, site.answered(gm, "m1/19"))
    site.store.close()
