"""GSA_INBAND_REKEY: groups whose keys go to each member by itself, over kept IKE SAs."""

import shutil

import pytest

from covey_host.errors import Problem
from covey_host.gcks import policy
from covey_host.store import sqlite
from foreign_gm import (
    AUTHORIZATION_FAILED,
    CREATE_CHILD_SA,
    DELETE,
    GSA,
    GSA_REGISTRATION,
    INFORMATIONAL,
    KD,
    NO_PROPOSAL_CHOSEN,
    REGISTRATION_FAILED,
    Policy,
    identity,
    key_length,
    notification,
    notifies,
    proposal,
    sa_body,
    sag,
    transform,
)
from gcks_site import KEY, LINE1, SITE, CutStore, FullDisk, Killed, Site
from ike_peer import DELETE_IKE, GSA_INBAND_REKEY, OUT, Peer

INBAND = SITE + LINE1 + 'rekey = "inband"\n'
NAMES = ("a", "b", "c")


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", INBAND)
    for name in NAMES:
        made.add(name)
    yield made
    made.store.close()


def epoch(site):
    return site.server._groups["line1"].epoch


def status(site):
    return site.server.status(site.now)["groups"]["line1"]


def rekey(site):
    site.send(site.server.rekey("line1", site.now))


def test_a_registration_says_nothing_of_multicast_rekeys(site):
    """RFC 9838 section 5, the table of attributes with inband rekey operations."""
    a = Peer(site, "a", wants=1).join()
    assert a.policy.order == [3, 0] and a.keys.order == [3, 0]
    assert a.policy.sas[3]["attributes"] == []  # no lifetime, no next SPI
    assert a.keys.auth_key is None and a.keys.sender_ids == [0]
    assert (a.policy.wide[1], a.policy.wide[2], a.policy.wide[3]) == (0, 10, 16)
    b = Peer(site, "b").join()
    assert b.keys.order == [3] and 3 not in b.policy.wide
    assert status(site)["rekey"] == "inband" and status(site)["holders"] == ["a", "b"]
    assert site.air == []


def test_each_member_is_told_by_itself(site):
    a, b = Peer(site, "a", wants=1).join(), Peer(site, "b", kwa=3).join()
    old = a.tek
    rekey(site)
    assert site.air == [] and status(site)["holders"] == []
    exchange, payloads = a.served()
    assert exchange == GSA_INBAND_REKEY and [k for k, _ in payloads] == [GSA, KD, DELETE]
    assert status(site)["holders"] == ["a"]
    assert a.policy.order == [3, 0] and a.policy.sas[3]["attributes"] == []
    assert a.policy.wide[1] == 5 and a.policy.wide[2] == 10
    b.served()
    assert a.tek == b.tek == (epoch(site).tek_spi, epoch(site).tek_keymat) and a.tek != old
    assert list(a.teks) == [a.tek[0]]  # the old one was deleted
    assert site.server.counters["told"] == 2 and status(site)["holders"] == ["a", "b"]
    site.wait(50_000)
    assert a.requests() == b.requests() == []  # nothing is said twice


def test_the_newest_keys_only_are_told_to_who_was_slow(site):
    a, b = Peer(site, "a").join(), Peer(site, "b").join()
    rekey(site)
    first = epoch(site).tek_spi
    b.served()
    for _ in range(2):
        site.now += 100
        rekey(site)
        b.served()
    a.served()
    assert a.tek[0] == first and status(site)["holders"] == ["b"]
    a.served()
    assert a.tek[0] == epoch(site).tek_spi and list(a.teks) == [a.tek[0]]
    assert a.requests() == []


def test_keys_are_repeated_until_they_are_acknowledged(site):
    a = Peer(site, "a").join()
    rekey(site)
    a.collect()
    [first] = a.inbox
    site.wait(8_000)
    a.collect()
    assert a.inbox == [first] * 4
    a.inbox = [first]
    a.served()
    site.wait(50_000)
    assert status(site)["holders"] == ["a"] and a.requests() == []


def test_who_never_answers_is_given_up(site):
    a, b = Peer(site, "a").join(), Peer(site, "b").join()
    rekey(site)
    b.served()
    site.wait(16_000)
    assert site.server.counters["unanswered"] == 1
    assert ("unanswered", {"member": "a"}) in site.server.events
    assert site.server.status(0)["ike_sas"] == 1 and status(site)["holders"] == ["b"]
    a.collect()
    a.inbox.clear()
    rekey(site)
    assert a.requests() == [] and len(b.requests()) == 1
    assert a.ask(INFORMATIONAL, []) is None  # it has to come anew
    again = Peer(site, "a").join()
    assert again.tek[0] == epoch(site).tek_spi


def test_a_lifetime_brings_new_keys_to_all(site):
    a = Peer(site, "a").join()
    first = a.tek
    end = site.now + 3_000_000
    while site.now < end:
        site.wait(10_000)
        for exchange, message_id, payloads in a.requests():
            if exchange == GSA_INBAND_REKEY:
                a.take_inband(payloads, a.sa)
            a.answer(exchange, message_id)
    assert a.tek != first and a.tek[0] == epoch(site).tek_spi
    assert site.server.counters["idle_closed"] == 0 and site.server.counters["unanswered"] == 0


def test_a_kept_ike_sa_is_asked_for_a_sign_of_life(site):
    a = Peer(site, "a").join()
    site.wait(59_000)
    assert a.requests() == []
    assert a.ask(INFORMATIONAL, []) == []
    site.wait(59_000)
    assert a.requests() == []
    site.wait(1_500)
    assert a.served() == (INFORMATIONAL, [])
    site.wait(61_000)
    assert [r[0] for r in a.requests()] == [INFORMATIONAL]
    site.wait(20_000)  # not answered
    assert site.server.status(0)["ike_sas"] == 0 and status(site)["members"] == ["a"]
    assert status(site)["holders"] == []


def test_other_ike_sas_are_not_asked_for_signs_of_life(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1)
    site.add("a")
    a = Peer(site, "a").join()
    site.wait(599_000)
    assert a.requests() == []
    site.wait(2_000)
    assert a.served() == (INFORMATIONAL, [DELETE_IKE])


def test_a_member_of_several_groups(tmp_path):
    """Two inband, one not, all over one IKE SA, told one after the other."""
    more = [
        f'[group.{n}]\naddress = "239.192.1.{at}"\nport = 1\n' for at, n in ((33, "x"), (34, "y"))
    ]
    site = Site(tmp_path / "state.db", INBAND + more[0] + 'rekey = "inband"\n' + more[1])
    site.add("a", ("line1", "x", "y"))
    a = Peer(site, "a").join()
    keys = {}
    for group in (b"x", b"y"):
        a.gm.group = group
        keys[group] = a.ask(GSA_REGISTRATION, a.gm.group_payloads())
    assert [len(Policy(keys[g][0][1]).sas) for g in (b"x", b"y")] == [1, 2]
    groups = site.server._groups
    for name in ("x", "line1", "y"):
        site.send(site.server.rekey(name, site.now))
    told = [Policy(a.served()[1][0][1]).sas[3]["spi"] for _ in range(2)]
    assert told == [groups["x"].epoch.tek_spi, groups["line1"].epoch.tek_spi]
    assert a.requests() == [] and [out.group for out in site.air] == ["y"]
    # line1 starts over: a Delete says of no group whose SAs it means, so x is told again
    text = (INBAND + more[0] + 'rekey = "inband"\n' + more[1]).replace("2222", "2223")
    site.send(site.server.reload(policy.parse(text), site.now))
    assert a.served()[1] == OUT
    assert Policy(a.served()[1][0][1]).sas[3]["spi"] == groups["x"].epoch.tek_spi
    assert a.requests() == []
    site.send(site.server.remove_member("a", site.now))
    assert a.served()[1] == OUT and a.served()[1] == [DELETE_IKE]
    site.store.close()


# Removal


def test_removal_gives_the_others_new_keys_and_takes_those_of_the_removed(site):
    a, b, c = (Peer(site, name, wants=1).join() for name in NAMES)
    old = epoch(site)
    outs = site.server.remove_member("b", site.now)
    site.send(outs)
    assert site.air == [] and epoch(site).era == old.era
    assert epoch(site).number == old.number + 1
    a.served()
    c.served()
    assert a.tek == c.tek == (epoch(site).tek_spi, epoch(site).tek_keymat)
    assert b.requests()[0][::2] == (GSA_INBAND_REKEY, OUT)
    assert b.ask(GSA_REGISTRATION, b.gm.group_payloads()) == [notification(43)]
    b.answer(GSA_INBAND_REKEY, 0)
    assert b.served() == (INFORMATIONAL, [DELETE_IKE])
    assert site.server.status(0)["ike_sas"] == 2
    rekey(site)
    assert b.requests() == [] and b.inbox == []
    again = Peer(site, "b")
    again.connect()
    assert again.authenticate() == [notification(AUTHORIZATION_FAILED)]
    assert status(site)["members"] == ["a", "c"]
    assert a.policy.wide[1] == 2  # no pause: senders go over after evict_atd


def test_no_keys_go_to_the_removed_whatever_was_under_way(site):
    """Its answer to the rekey before is awaited: the window is one."""
    a, b = Peer(site, "a").join(), Peer(site, "b").join()
    rekey(site)
    before = epoch(site).tek_spi
    a.served()
    b.collect()
    b.inbox.clear()  # lost
    site.now += 100
    site.send(site.server.remove_member("b", site.now))
    a.served()
    site.wait(1_000)
    exchange, message_id, payloads = b.requests()[0]  # sent again, as it was
    b.take_inband(payloads, b.sa)
    assert b.tek[0] == before != a.tek[0]
    b.answer(exchange, message_id)
    assert b.served() == (GSA_INBAND_REKEY, OUT)
    assert b.served() == (INFORMATIONAL, [DELETE_IKE])
    assert b.is_out


def test_removing_who_holds_no_keys(site):
    a = Peer(site, "a").join()
    site.send(site.server.remove_member("c", site.now))
    assert a.requests() == []
    assert epoch(site).number == 1


def test_a_removed_sender_leaves_its_index_to_others(tmp_path):
    site = Site(tmp_path / "state.db", INBAND + "sender_id_form = [1, 7]\nsender_ids = 1\n")
    for name in NAMES:
        site.add(name)
    a, b = Peer(site, "a", wants=1).join(), Peer(site, "b", wants=1).join()
    site.send(site.server.remove_member("b", site.now))
    a.served()
    c = Peer(site, "c", wants=1).join()
    assert c.keys.sender_ids == b.keys.sender_ids and c.tek != b.tek


# Leaving, refusing


@pytest.mark.parametrize("reason", [NO_PROPOSAL_CHOSEN, REGISTRATION_FAILED])
def test_who_does_not_take_the_policy_hears_nothing_more(site, reason):
    a, b = Peer(site, "a").join(), Peer(site, "b").join()
    idg = identity(11, b"line1")
    assert a.ask(GSA_REGISTRATION, [(50, idg), notification(reason)]) == []
    assert status(site)["members"] == ["b"] and status(site)["holders"] == ["b"]
    rekey(site)
    b.served()
    assert a.requests() == []
    site.wait(50_000)
    assert a.requests() == []  # its IKE SA is as any other now: closed when it is idle
    site.wait(600_000)
    assert a.served() == (INFORMATIONAL, [DELETE_IKE])


def test_a_member_that_deletes_its_ike_sa_is_told_no_more(site):
    a = Peer(site, "a").join()
    assert a.ask(INFORMATIONAL, [DELETE_IKE]) == []
    rekey(site)
    assert a.requests() == [] and site.server.status(0)["unproven"] == 1


def test_a_member_that_can_not_take_a_rekey_starts_anew(site):
    a = Peer(site, "a").join()
    rekey(site)
    a.served([notification(NO_PROPOSAL_CHOSEN)])
    assert site.server.counters["peer_refused"] == 1
    assert a.served() == (INFORMATIONAL, [DELETE_IKE])
    assert site.server.status(0)["ike_sas"] == 0


def test_a_member_that_is_busy_is_told_later(site):
    a = Peer(site, "a").join()
    rekey(site)
    a.served([notification(43)])
    assert status(site)["holders"] == []
    site.wait(9_900)
    assert a.requests() == []
    site.wait(10_200)
    a.served()
    assert status(site)["holders"] == ["a"] and a.tek[0] == epoch(site).tek_spi


def test_invalid_syntax_in_an_answer_ends_the_ike_sa(site):
    a = Peer(site, "a").join()
    rekey(site)
    a.served([notification(7)])
    assert a.requests() == [] and a.ask(INFORMATIONAL, []) is None
    assert site.server.counters["peer_invalid_syntax"] == 1


# Starting over


def test_starting_over_is_told_inband(site):
    a, b = Peer(site, "a", wants=1).join(), Peer(site, "b").join()
    other = INBAND.replace("2222", "2223")
    site.send(site.server.reload(policy.parse(other), site.now))
    assert site.air == []
    assert a.served() == b.served() == (GSA_INBAND_REKEY, OUT)
    assert status(site)["members"] == []
    a.pull()
    assert a.tek[0] == epoch(site).tek_spi and a.policy.sas[3]["destination"][1] == 2223
    assert a.policy.wide[1] == 7  # all have time to come back first
    rekey(site)
    a.served()
    assert b.requests() == []


def test_who_is_sent_away_can_come_back_over_its_ike_sa(site):
    """Which was kept for long, so that it had been used for nothing but signs of life."""
    a = Peer(site, "a", wants=1).join()
    for _ in range(20):
        site.wait(60_000)
        for exchange, message_id, _ in a.requests():
            a.answer(exchange, message_id)
    site.send(site.server.reload(policy.parse(INBAND.replace("2222", "2223")), site.now))
    assert a.served() == (GSA_INBAND_REKEY, OUT)
    site.wait(30_000)  # rejoin_spread and more
    assert a.requests() == []
    a.pull()
    assert a.tek[0] == epoch(site).tek_spi


def test_registering_while_being_sent_away_loses_nobody(site):
    """The exclusion and the registration cross: whichever came first, the member gets keys."""
    a = Peer(site, "a").join()
    site.send(site.server.reload(policy.parse(INBAND.replace("2222", "2223")), site.now))
    [(exchange, message_id, payloads)] = a.requests()
    a.pull()
    a.take_inband(payloads, a.sa)
    assert a.is_out
    a.answer(exchange, message_id)
    a.served()
    assert a.tek[0] == epoch(site).tek_spi


def test_registering_while_a_rekey_is_under_way_loses_nobody(site):
    a = Peer(site, "a").join()
    rekey(site)
    first = epoch(site).tek_spi
    [(exchange, message_id, payloads)] = a.requests()
    site.now += 100
    rekey(site)
    a.pull()
    a.take_inband(payloads, a.sa)  # the older of the two comes last
    assert a.tek[0] == first
    a.answer(exchange, message_id)
    a.served()
    assert a.tek[0] == epoch(site).tek_spi and list(a.teks) == [a.tek[0]]


def test_registering_in_a_new_era_while_an_old_rekey_is_under_way(site):
    a = Peer(site, "a").join()
    rekey(site)
    first = epoch(site).tek_spi
    [(exchange, message_id, payloads)] = a.requests()
    site.send(site.server.reload(policy.parse(INBAND.replace("2222", "2223")), site.now))
    a.pull()
    a.take_inband(payloads, a.sa)
    assert a.tek[0] == first
    a.answer(exchange, message_id)
    a.served()
    assert a.tek[0] == epoch(site).tek_spi and list(a.teks) == [a.tek[0]]
    assert a.requests() == [] and status(site)["holders"] == ["a"]


def test_a_group_that_is_gone_says_so(site):
    a = Peer(site, "a").join()
    site.send(site.server.reload(policy.parse(SITE), site.now))
    assert a.served() == (GSA_INBAND_REKEY, OUT)
    site.wait(1_000)
    assert a.requests() == []


@pytest.mark.parametrize("before, after", [(INBAND, SITE + LINE1), (SITE + LINE1, INBAND)])
def test_changing_how_keys_are_told_starts_over(tmp_path, before, after):
    site = Site(tmp_path / "state.db", before)
    site.add("a")
    a = Peer(site, "a")
    a.connect()
    found = a.authenticate()
    if before == INBAND:
        a.take(found)
    site.send(site.server.reload(policy.parse(after), site.now))
    if before == INBAND:
        assert a.served() == (GSA_INBAND_REKEY, OUT) and site.air == []
    else:
        assert len(site.air) == 1 and a.requests() == []
    assert epoch(site).era == 1 and epoch(site).shape.rekey == status(site)["rekey"]


# Restarts


def test_a_restart_starts_over(site):
    """The IKE SAs are gone: nobody can be told, so nobody goes on under what was told before."""
    a = Peer(site, "a", wants=1).join()
    old = epoch(site)
    site = site.restart(INBAND)
    assert epoch(site).era == old.era + 1 and site.air == []
    assert status(site)["members"] == [] and status(site)["absent"] == ["a"]
    a.site = site
    assert a.ask(INFORMATIONAL, []) is None  # what its liveness check will find
    again = Peer(site, "a", wants=1).join()
    assert again.tek != a.tek and again.keys.sender_ids == [0]


def test_a_removal_without_a_server(site):
    from covey_host.gcks.authority import Authority
    from covey_host.gcks.ledger import Ledger

    Peer(site, "b").join()
    site.store.close()
    store = sqlite.open_existing(site.path)
    Authority(Ledger(store)).remove_without_server("b")
    store.close()
    site = Site(site.path, INBAND, now=site.now)
    again = Peer(site, "b")
    again.connect()
    assert again.authenticate() == [notification(AUTHORIZATION_FAILED)]
    assert status(site)["absent"] == [] and site.air == []
    site.store.close()


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_each_write(tmp_path, after):
    """Whatever was told, the next server tells nothing else under the same Sender-IDs."""
    made = Site(tmp_path / "template.db", INBAND)
    for name in NAMES:
        made.add(name)
    made.store.close()
    at, cuts = 1, 0
    while True:
        path = tmp_path / f"{at}.db"
        shutil.copy(made.path, path)
        stores = []

        def cutting(store, at=at, stores=stores):
            stores.append(CutStore(store, at, after))
            return stores[-1]

        used = {}
        try:
            site = Site(path, INBAND, wrap=cutting)
        except Killed:
            site = Site(path, INBAND, now=2_000_000)
        for step in (_join("a"), _join("b"), _rekey, _join("a"), _remove, _join("c"), _rekey):
            try:
                step(site, used)
            except Killed:
                site.store.close()
                site = Site(path, INBAND, now=site.now + 1_000)
                step(site, used)
            site.wait(12_000)
        done = stores[0].disarm()
        site.store.close()
        if not done:
            break
        at += 1
        cuts += 1
    assert cuts > 8


@pytest.mark.parametrize("lies", [False, True])
def test_a_full_disk_tells_nothing_that_is_not_written(tmp_path, lies):
    site = Site(tmp_path / "state.db", INBAND, wrap=FullDisk)
    site.add("a")
    a = Peer(site, "a").join()
    site.store.full, site.store.lies = True, lies
    with pytest.raises(Problem, match="disk is full"):
        site.server.rekey("line1", site.now)
    assert a.requests() == []
    site.store.full = False
    site.wait(6_000)
    found = a.requests()
    assert [r[0] for r in found] == ([GSA_INBAND_REKEY] if lies else [])  # it did happen
    for exchange, message_id, payloads in found:
        a.take_inband(payloads, a.sa)
        a.answer(exchange, message_id)
    assert a.tek[0] == epoch(site).tek_spi


def test_a_removal_of_unknown_outcome_gives_the_removed_no_keys(tmp_path):
    """The store says that it failed, and it has happened: memory learns of it later."""
    site = Site(tmp_path / "state.db", INBAND, wrap=FullDisk)
    peers = []
    for name in ("a", "b"):
        site.add(name)
        peers.append(Peer(site, name, wants=1).join())
    a, b = peers
    site.store.full = site.store.lies = True
    with pytest.raises(Problem, match="disk is full"):
        site.server.remove_member("b", site.now)
    site.store.full = False
    site.wait(6_000)
    assert a.served()[0] == GSA_INBAND_REKEY
    assert a.tek[0] == epoch(site).tek_spi and status(site)["holders"] == ["a"]
    assert b.served() == (GSA_INBAND_REKEY, OUT)
    rekey(site)
    a.served()
    assert b.requests() == []


def test_a_clock_that_jumps(site):
    """As that of a machine which slept: everything is late at once, and done once."""
    a = Peer(site, "a").join()
    site.now += 10 * 86_400_000
    site.wait(0)
    [(exchange, message_id, payloads)] = a.requests()
    assert exchange == CREATE_CHILD_SA
    old, (a.sa, answer) = a.sa, a.accept_rekey(payloads)
    a.answer(exchange, message_id, answer, old)
    assert a.served(sa=old) == (INFORMATIONAL, [DELETE_IKE])
    assert a.served()[0] == GSA_INBAND_REKEY
    assert a.tek[0] == epoch(site).tek_spi and epoch(site).number == 2


def _join(name):
    def step(site, used):
        peer = Peer(site, name, wants=1).join()
        for number in peer.keys.sender_ids:
            assert used.setdefault((peer.tek[1], number), peer) is peer

    return step


def _rekey(site, used):
    site.send(site.server.rekey("line1", site.now))


def _remove(site, used):
    site.unasked.clear()
    try:
        site.send(site.server.remove_member("b", site.now))
    except Problem as problem:
        assert "already" in problem.sentence
    for out in site.unasked:
        if out.address == "b":
            assert len(out.data) < 200  # Deletes, no keys


# SAg


GCM = transform(1, 20, key_length(128))


@pytest.mark.parametrize(
    "body, fits",
    [
        (sag(), True),
        (sa_body([proposal(1, 3, [GCM, transform(5, 2)])]), True),  # no Rekey SA is needed
        (sag(number=1, esp_number=2), True),  # nor looked at
        (sag(sn=0), False),
        (sa_body([proposal(1, 6, [GCM, transform(13, 1), transform(14, 2)])]), False),
    ],
)
def test_sag(site, body, fits):
    a = Peer(site, "a")
    a.connect()
    found = a.authenticate(sag=body)
    assert notifies(found) == ([16391] if fits else [NO_PROPOSAL_CHOSEN])


def test_a_weak_key_wrap_is_no_way_to_a_strong_group(tmp_path):
    site = Site(tmp_path / "state.db", INBAND + "key_bits = 256\n")
    site.add("a")
    a = Peer(site, "a")
    a.connect()
    assert a.authenticate() == [notification(NO_PROPOSAL_CHOSEN)]
    b = Peer(site, "a", kwa=3, bits=256).join()
    rekey(site)
    b.served()
    assert len(b.tek[1]) == 36
    assert KEY not in repr(site.server.events).encode()
