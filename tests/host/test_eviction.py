"""Members put out of a group with a key tree (RFC 9838 appendix A), as all others go on.

Members are another implementation (foreign_gm.py), which knows nothing of the tree.
"""

import os
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from covey_host.errors import Problem
from covey_host.gcks import moves, policy
from covey_host.gcks.authority import Authority
from covey_host.gcks.keytree import Draft
from covey_host.gcks.ledger import Ledger
from covey_host.gcks.roster import Enrolled
from covey_host.gcks.treelevel import page_count
from covey_host.store import sqlite
from foreign_gm import (
    AUTHORIZATION_FAILED,
    GSA_REGISTRATION,
    KD,
    REGISTRATION_FAILED,
    ForeignGM,
    notification,
)
from gcks_site import KEY, LINE1, SITE, FullDisk, Site, backup

NAMES = [f"m{number}" for number in range(12)]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db")
    for name in NAMES:
        made.add(name)
    yield made
    made.store.close()


def group_of(site):
    return site.server._groups["line1"]


def everybody(site, **offer):
    return {name: site.gm(name, 1, **offer) for name in NAMES}


def hear(site, gms):
    """What went to the group since the last call; → what each made of it."""
    said = {name: [gm.rekey(out.data) for out in site.air] for name, gm in gms.items()}
    site.air.clear()
    return said


def remove(site, name):
    site.send(site.server.remove_member(name, site.now))


def test_registration_brings_the_key_path(site):
    gms = everybody(site)
    paths = {name: [key_id for key_id, _ in gm.path] for name, gm in gms.items()}
    personal = [gm.path[-1] for gm in gms.values()]
    assert len({key for _, key in personal}) == len({key_id for key_id, _ in personal}) == 12
    for gm in gms.values():
        assert gm.path == [
            (node.key_id.to_bytes(4), node.key) for node in group_of(site).path(gm.name.decode())
        ]
    assert paths["m8"][0] == paths["m9"][0] and len(paths["m8"]) == 2


def test_who_is_put_out_hears_of_no_more_keys_and_all_others_follow(site):
    gms = everybody(site)
    site.wait(20_000)
    hear(site, gms)
    old = group_of(site).epoch
    remove(site, "m5")
    assert [out.data[:16] for out in site.air] == [old.rekey.spi]
    site.wait(60_000)
    said = hear(site, gms)
    new = group_of(site).epoch
    assert (new.number, new.era) == (old.number + 1, old.era)
    assert new.tek_spi == old.next_tek_spi
    for name, gm in gms.items():
        if name == "m5":
            assert set(said[name]) == {"put out", "unknown", "repeat"}
            assert gm.tek == (old.tek_spi, old.tek_keymat)  # until DTD, had it heard of it
        else:
            assert [what for what in said[name] if what != "repeat"] == ["passed on", "rekeyed"]
            assert gm.tek == (new.tek_spi, new.tek_keymat) and gm.deleted == old.tek_spi
            assert gm.rekey_sa.spi == new.rekey.spi
            assert gm.policy.wide[1] == 2 and gm.policy.wide[2] == 4  # evict_atd, evict_dtd
    again = site.connect(ForeignGM(b"m5", KEY, wants=1), "m5")
    assert site.ask(again, "m5") == [notification(AUTHORIZATION_FAILED)]


def test_message_two_waits_for_the_gap_and_follows_each_repeat_of_one(site):
    gms = everybody(site)
    site.wait(20_000)
    site.air.clear()
    remove(site, "m5")
    one = site.air[0]
    site.wait(999)
    assert site.air == [one]
    site.wait(1)
    assert [out.data for out in site.air].count(one.data) == 2
    two = next(out for out in site.air if out.data != one.data)
    assert gms["m0"].rekey(one.data) == "passed on" and gms["m0"].rekey(two.data) == "rekeyed"
    site.wait(10_000)
    assert [out.data for out in site.air].count(two.data) == 3


def test_promised_spis_are_kept(site):
    """GSA_NEXT_SPI, by which a member sees that it has missed something."""
    gm = everybody(site)["m0"]
    site.wait(20_000)
    site.air.clear()
    remove(site, "m5")
    site.wait(5_000)
    for out in site.air:
        promised = dict(gm.kek["attributes"])[3]
        if gm.rekey(out.data) in ("passed on", "rekeyed"):
            assert gm.rekey_sa.spi == promised


def all_keys(gm, path=()):
    return {key for _, key in [*gm.path, *path]}


def test_the_evicted_together_with_everything_ever_sent_find_no_way(site):
    """Each tries each key that it has had on each message, with the keys of the others."""
    gms = everybody(site)
    recorded, out, keys, sas = [], {}, set(), {}
    for turn, name in enumerate(["m5", "m6", "m0", "m11", "m4"]):
        site.wait(20_000)
        recorded += [o.data for o in site.air]
        for gm in [*gms.values(), *out.values()]:
            before = set(gm.path)
            for o in site.air:
                gm.rekey(o.data)
            keys |= {k for _, k in before | set(gm.path)} if gm in out.values() else set()
        site.air.clear()
        gone = out[name] = gms.pop(name)
        keys |= all_keys(gone)
        sas |= gone.former | {gone.rekey_sa.spi: gone.rekey_sa}
        remove(site, name)
        site.wait(3_000)
        fresh = [o.data for o in site.air]
        recorded += fresh
        assert not any(finds(data, sas, keys) for data in fresh), turn
        for gm in gms.values():
            for data in fresh:
                gm.rekey(data)
        epoch = group_of(site).epoch
        assert {gm.tek[0] for gm in gms.values()} == {epoch.tek_spi}
        site.air.clear()


def finds(data, sas, keys):
    """Whether a Rekey SA or a TEK comes out of a message, with all these keys tried on all that
    is wrapped, whatever the IDs say."""
    from cryptography.hazmat.primitives.keywrap import (
        InvalidUnwrap,
        aes_key_unwrap_with_padding,
    )

    from foreign_gm import attributes, substructures, unchain

    sa = sas.get(data[:16])
    if sa is None:
        return False
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    text = AESGCM(sa.key).decrypt(sa.salt + data[32:40], data[40:], data[:32])
    bodies = [body for kind, body in unchain(data[28], text[:-1]) if kind == KD]
    keys = keys | {sa.kwk}
    found = True
    while found:
        found = False
        for body in bodies:
            for protocol, _, content in substructures(body):
                for kind, value in attributes(content):
                    for key in list(keys) if kind == 1 else ():
                        try:
                            opened = aes_key_unwrap_with_padding(key, value[8:])
                        except InvalidUnwrap:
                            continue
                        if protocol:
                            return True
                        found |= opened not in keys
                        keys.add(opened)
    return False


def test_the_attack_finds_a_way_for_who_is_a_member(site):
    """So that the test above can fail."""
    gms = everybody(site)
    site.wait(20_000)
    site.air.clear()
    stays = gms["m6"]
    sas, keys = {stays.rekey_sa.spi: stays.rekey_sa}, all_keys(stays)
    remove(site, "m5")
    assert finds(site.air[0].data, sas, keys)


def test_who_missed_the_first_message_gets_its_repeat(site):
    gms = everybody(site)
    site.wait(20_000)
    hear(site, gms)
    remove(site, "m5")
    site.air.clear()  # lost
    site.wait(10_000)
    said = hear(site, gms)
    assert "rekeyed" in said["m0"] and gms["m0"].tek[0] == group_of(site).epoch.tek_spi


def test_who_registers_meanwhile_gets_what_is_to_come(site):
    gms = everybody(site)
    site.wait(20_000)
    remove(site, "m5")
    site.wait(300)
    again = site.gm("m0", 1)
    epoch = group_of(site).epoch
    assert again.tek[0] == epoch.tek_spi and again.rekey_sa.spi == epoch.rekey.spi
    assert again.policy.wide[1] == 3  # what is left of gap and evict_atd, in whole seconds
    site.wait(3_000)
    hear(site, gms)
    assert gms["m1"].tek == again.tek
    gms["m0"] = again
    remove(site, "m6")
    site.wait(5_000)
    hear(site, gms)
    assert again.tek == gms["m1"].tek != (epoch.tek_spi, epoch.tek_keymat)


def test_a_leaf_goes_to_another_only_after_it_was_taken(site):
    gms = everybody(site)
    remove(site, "m5")
    site.wait(5_000)
    site.add("n0")
    new = site.gm("n0", 1)
    assert not all_keys(new) & all_keys(gms["m5"])
    gms["n0"] = new
    hear(site, gms)
    remove(site, "m4")
    site.wait(5_000)
    hear(site, gms)
    assert new.tek[0] == group_of(site).epoch.tek_spi


def test_who_left_by_itself_does_not_follow_the_next_rekey(site):
    gms = everybody(site)
    left = gms["m3"]
    left.open(site.talk(left.leave(), "m3"), GSA_REGISTRATION)
    site.wait(20_000)
    assert site.air == []  # nobody is disturbed by it
    site.send(site.server.rekey("line1", site.now))
    site.wait(5_000)
    said = hear(site, gms)
    assert "put out" in said["m3"] and "rekeyed" not in said["m3"]
    assert left.tek[0] != group_of(site).epoch.tek_spi
    back = site.gm("m3", 1)
    assert back.tek == gms["m0"].tek
    site.send(site.server.rekey("line1", site.now))
    gms["m3"] = back
    site.wait(5_000)
    assert set(hear(site, gms)["m3"]) == {"rekeyed", "repeat"}


def test_a_member_that_registers_again_keeps_its_leaf_under_another_key(site):
    everybody(site)
    leaf = group_of(site)._roster.members["m4"].leaf
    former = group_of(site).path("m4")
    gm = site.gm("m4", 1)
    assert group_of(site)._roster.members["m4"].leaf == leaf
    assert gm.path[-1][1] != former[-1].key and gm.path[0][1] == former[0].key


def test_a_restart_goes_on_with_the_tree(site):
    gms = everybody(site)
    site = site.restart()
    said = hear(site, gms)
    assert all("rekeyed" in what for what in said.values())
    remove(site, "m5")
    site.wait(5_000)
    said = hear(site, gms)
    assert "rekeyed" not in said.pop("m5") and all("rekeyed" in what for what in said.values())


def test_a_removal_without_a_server_is_made_good_at_the_next_start(site):
    gms = everybody(site)
    path = site.path
    site.store.close()
    store = sqlite.open_existing(path)
    Authority(Ledger(store)).remove_without_server("m5")
    Authority(Ledger(store)).remove_without_server("m6")
    store.close()
    site = Site(path, now=site.now)
    assert group_of(site).epoch.era == 0
    site.wait(5_000)
    said = hear(site, gms)
    for name, what in said.items():
        assert ("rekeyed" in what) == (name not in ("m5", "m6"))


def test_a_restored_backup_can_not_hide_who_holds_keys(site, tmp_path):
    """Of whom the store knows no leaf loses all keys over the leaves that it does know."""
    gms = {name: site.gm(name, 1) for name in NAMES[:-1]}
    backup(site, tmp_path / "backup.db")
    unknown = site.gm("m11")
    site.store.close()
    site = Site(tmp_path / "backup.db", now=site.now)
    assert unknown.rekey(site.air[0].data) == "rekeyed"
    assert set(unknown.path[:-1]) & set(gms["m10"].path), "it has keys that others have, too"
    site.wait(20_000)
    hear(site, gms)
    remove(site, "m11")
    site.wait(20_000)
    keys = {key for _, key in unknown.path}
    for out in [*site.air, *site.air]:
        with suppress(InvalidUnwrap):  # what is new may have a Key ID that it knows from before
            assert unknown.rekey(out.data) != "rekeyed"
    for name, what in hear(site, gms).items():
        assert [one for one in what if one != "repeat"] == ["passed on", "rekeyed"], name
    assert group_of(site).epoch.era == 0
    assert gms["m0"].tek[0] == group_of(site).epoch.tek_spi != unknown.tek[0]
    assert not keys & set().union(*map(all_keys, gms.values())), "they share one still"


def leave(site, gm, name):
    gm.open(site.talk(gm.leave(), name), GSA_REGISTRATION)


def test_who_left_and_was_put_out_by_a_rekey_is_removed_without_a_word(site):
    gms = everybody(site)
    gone = gms.pop("m5")
    leave(site, gone, "m5")
    site.wait(20_000)
    site.send(site.server.rekey("line1", site.now))
    site.wait(20_000)
    hear(site, gms)
    epoch = group_of(site).epoch
    rows = len(group_of(site).rows)
    remove(site, "m5")
    site.wait(20_000)
    assert site.air == [] and group_of(site).epoch == epoch
    assert "m5" not in site.server.status(site.now)["groups"]["line1"]["absent"]
    assert len(group_of(site).rows) == rows - 1, "its sender index is for others"
    assert site.server.farewells(site.now) == []
    again = site.connect(ForeignGM(b"m5", KEY, wants=1), "m5")
    assert site.ask(again, "m5") == [notification(AUTHORIZATION_FAILED)]


def test_who_left_and_was_not_put_out_yet_is(site):
    gms = everybody(site)
    gone = gms["m5"]
    leave(site, gone, "m5")
    site.wait(20_000)
    hear(site, gms)
    remove(site, "m5")
    site.wait(5_000)
    said = hear(site, gms)
    assert "rekeyed" not in said.pop("m5")
    assert all("rekeyed" in what for what in said.values())
    assert group_of(site).epoch.era == 0


@pytest.mark.parametrize("first", ["never came", "left and put out"])
def test_after_a_restart_nobody_goes_for_one_that_is_not_there(site, first):
    """The store may be a backup, and then it may hold keys: it loses them, as all others go on.
    From then on the key server knows who has keys, until it is started again."""
    gms = everybody(site)
    for name in ("m3", "m5"):
        leave(site, gms.pop(name), name)
    site.wait(20_000)
    site.send(site.server.rekey("line1", site.now))
    site.wait(20_000)
    hear(site, gms)
    site = site.restart()
    site.wait(20_000)
    assert all("rekeyed" in what for what in hear(site, gms).values())
    site.add("typo")
    site.add("other")
    remove(site, "typo" if first == "never came" else "m5")
    site.wait(20_000)
    for name, what in hear(site, gms).items():
        assert [one for one in what if one != "repeat"] == ["passed on", "rekeyed"], name
    epoch = group_of(site).epoch
    assert (epoch.era, epoch.life) == (0, 1)
    remove(site, "other")
    remove(site, "m3")
    assert site.air == [] and group_of(site).epoch == epoch
    site.add("later")
    site = site.restart()
    assert not group_of(site).epoch.is_known
    site.wait(20_000)
    hear(site, gms)
    number = group_of(site).epoch.number
    remove(site, "later")
    site.wait(20_000)
    assert all("rekeyed" in what for what in hear(site, gms).values())
    assert (group_of(site).epoch.number, group_of(site).epoch.era) == (number + 1, 0)


def test_one_that_never_came_is_removed_without_a_server(site):
    gms = everybody(site)
    site.add("typo")
    site.store.close()
    store = sqlite.open_existing(site.path)
    Authority(Ledger(store)).remove_without_server("typo")
    store.close()
    site = Site(site.path, now=site.now)
    site.wait(20_000)
    for name, what in hear(site, gms).items():
        assert [one for one in what if one != "repeat"] == ["passed on", "rekeyed"], name
    assert group_of(site).epoch.era == 0 and group_of(site).epoch.is_known


@pytest.mark.parametrize("private", [True, False])
def test_all_keys_over_many_leaves_go_in_portions_or_everybody_goes(
    tmp_path, monkeypatch, private
):
    more = "" if private else 'carrier = "ip"\nprivate_attributes = false\n'
    site = Site(tmp_path / "state.db", SITE + LINE1 + more)
    for name in [*NAMES, "typo"]:
        site.add(name)
    gms = everybody(site)
    site = site.restart()
    site.wait(20_000)
    hear(site, gms)
    monkeypatch.setattr(moves, "_MOST_WRAPS", 8)
    remove(site, "typo")
    site.wait(20_000)
    for name, what in hear(site, gms).items():
        assert ("rekeyed" if private else "excluded") in what, name
    assert group_of(site).epoch.era == (0 if private else 1)
    assert group_of(site).epoch.is_known
    site.store.close()


def test_more_members_than_portions_hold_register_again(site, monkeypatch):
    gms = everybody(site)
    site.add("typo")
    site = site.restart()
    site.wait(20_000)
    hear(site, gms)
    monkeypatch.setattr(moves, "_MOST_RENEWED", len(NAMES) - 1)
    remove(site, "typo")
    assert all(what == ["excluded"] for what in hear(site, gms).values())


def test_a_new_era_has_a_tree_of_its_own(site):
    gms = everybody(site)
    group_of(site).exclude(site.now)
    site.wait(10_000)
    site.air.clear()
    backs = everybody(site)
    assert not all_keys(backs["m0"]) & set().union(*map(all_keys, gms.values()))
    remove(site, "m5")
    site.wait(5_000)
    said = hear(site, backs)
    assert "rekeyed" in said["m0"] and "rekeyed" not in said["m5"]
    found = {key for key, _, _ in site.store.scan("group/line1/tree")}
    site = site.restart()
    assert found == {key for key, _, _ in site.store.scan("group/line1/tree")}


def test_policy_that_is_switched_to_and_from_a_tree_sends_all_away_once(site):
    gms = everybody(site)
    site.send(site.server.reload(policy.parse(SITE + LINE1 + "key_tree = 0\n"), site.now))
    assert gms["m0"].rekey(site.air[-1].data) == "excluded"
    plain = site.gm("m0", 1)
    assert plain.path == [] and list(site.store.scan("group/line1/tree")) == []
    site.wait(20_000)
    site.air.clear()
    site.send(site.server.reload(policy.parse(SITE + LINE1), site.now))
    assert plain.rekey(site.air[-1].data) == "excluded"
    assert site.gm("m0", 1).path


@pytest.mark.parametrize("degree", [2, 3, 16])
def test_any_degree(tmp_path, degree):
    site = Site(tmp_path / "state.db", SITE + LINE1 + f"key_tree = {degree}\nkey_bits = 256\n")
    for name in NAMES:
        site.add(name)
    gms = everybody(site, kwa=3)
    site.wait(20_000)
    hear(site, gms)
    remove(site, "m5")
    site.wait(5_000)
    for name, what in hear(site, gms).items():
        assert ("rekeyed" in what) == (name != "m5")
    assert len(gms["m0"].path[0][1]) == 32
    site.store.close()


@pytest.mark.parametrize("private", [True, False])
def test_many_at_once_go_in_rounds_as_long_as_they_are_few(tmp_path, monkeypatch, private):
    """Then in portions, or, where members don't know of those, everybody goes."""
    more = "" if private else 'carrier = "ip"\nprivate_attributes = false\n'
    site = Site(tmp_path / "state.db", SITE + LINE1 + more)
    for name in NAMES:
        site.add(name)
    monkeypatch.setattr(moves, "_MOST_WRAPS", 8)
    gms = everybody(site)
    site.wait(20_000)
    hear(site, gms)
    for name in ("m1", "m5", "m9"):
        gm = gms[name]
        gm.open(site.talk(gm.leave(), name), GSA_REGISTRATION)
    remove(site, "m11")
    site.wait(10_000)
    said = hear(site, gms)
    passed = [what for what in said["m0"] if what != "repeat"]
    assert passed == ["passed on"] * (len(passed) - 1) + ["rekeyed"] and len(passed) > 2
    for name, what in said.items():
        assert ("rekeyed" in what) == (name not in ("m1", "m5", "m9", "m11"))
    monkeypatch.setattr(moves, "_FEW_ROUNDS" if private else "_MOST_ROUNDS", 1)
    for name in ("m0", "m4"):
        gms[name].open(site.talk(gms[name].leave(), name), GSA_REGISTRATION)
    remove(site, "m8")
    site.wait(10_000)
    assert ("rekeyed" if private else "excluded") in hear(site, gms)["m2"]
    site.store.close()


@pytest.mark.parametrize("lies", [False, True])
def test_a_full_disk_half_puts_nobody_out(tmp_path, lies):
    site = Site(tmp_path / "state.db", wrap=FullDisk)
    for name in NAMES:
        site.add(name)
    gms = everybody(site)
    site.wait(20_000)
    hear(site, gms)
    site.store.full, site.store.lies = True, lies
    with pytest.raises(Problem, match="disk is full"):
        remove(site, "m5")
    gm = site.connect(ForeignGM(b"m7", KEY, wants=1), "m7")
    assert site.ask(gm, "m7") == [notification(REGISTRATION_FAILED)]
    site.store.full = False
    if lies:
        with pytest.raises(Problem, match="already"):
            remove(site, "m5")
    else:
        remove(site, "m5")
    site.wait(10_000)
    said = hear(site, gms)
    for name, what in said.items():
        assert ("rekeyed" in what) == (name != "m5"), name
    gms["m7"] = site.gm("m7", 1)
    remove(site, "m6")
    site.wait(10_000)
    said = hear(site, gms)
    assert "rekeyed" in said["m7"]
    site.store.close()


def test_what_the_first_message_has_to_carry(site):
    """m5 is one of twelve, under one of three top nodes; the first has no key yet, as the tree
    has grown: 4 + 3 keys of 16 octets, and the Rekey SA's 36 octets under three."""
    gms = everybody(site)
    site.wait(20_000)
    hear(site, gms)
    remove(site, "m5")
    gms["m0"].rekey(site.air[0].data)
    assert gms["m0"].keys.wrapped == (4 + 3) * (4 + 8 + 24) + 3 * (4 + 8 + 48)


def grown(site, name, count):
    """The tree after so many have joined, and before anybody left; and its last member."""
    group = group_of(site)
    draft = Draft(group._tree, os.urandom)
    for _ in range(count):
        leaf = draft.join()
    changes = group._tree.pages(draft, "group/line1/")
    enrolled = Enrolled(group.epoch.era, False, False, True, leaf)
    changes |= group._roster.entering(name, enrolled, {})
    group._write(changes)
    group._roster.enter(name, enrolled, {})
    group._tree.apply(draft)


FRAGMENTATION = (41, bytes(2) + (16430).to_bytes(2))  # IKEV2_FRAGMENTATION_SUPPORTED


def first_of_many(tmp_path, degree, bits, count, more="", splits=True):
    """A site whose group has so many members, its first one, and "last", who is to go."""
    text = f"{SITE}{more}{LINE1}key_tree = {degree}\nkey_bits = {bits}\nmembers = 100000\n"
    site = Site(tmp_path / "state.db", text)
    site.add("first")
    gm = ForeignGM(b"first", KEY, wants=1, kwa=1 if bits == 128 else 3)
    site.connect(gm, "first", **({"extra": [FRAGMENTATION]} if splits else {}))
    gm.take_group(site.ask(gm, "first"))
    site.add("last")
    grown(site, "last", count)
    site.wait(20_000)
    site.air.clear()
    return site, gm


def hear_pieces(site, gm):
    """What the first copy of each message is to a member, and in how many datagrams it came."""
    messages = {}
    for out in site.air:
        messages.setdefault(out.data[:16] + out.data[20:24], {})[out.data] = None
    site.air.clear()
    found = []
    for parts in map(list, messages.values()):
        found.append((gm.rekey(parts[0], parts if len(parts) > 1 else None), len(parts)))
    return found


@pytest.mark.parametrize("degree, bits, count", [(16, 256, 70_000), (16, 128, 40_960)])
def test_what_growing_left_out_goes_in_a_message_of_its_own_where_both_are_too_long(
    tmp_path, degree, bits, count
):
    """Of a tree that has only grown so far: a path, and the first node of each level."""
    site, gm = first_of_many(tmp_path, degree, bits, count)
    remove(site, "last")
    site.wait(10_000)
    said, pieces = zip(*hear_pieces(site, gm), strict=True)
    assert said == ("passed on", "passed on", "rekeyed")
    assert max(pieces) > 1 and pieces[-1] == 1
    assert gm.tek[0] == group_of(site).epoch.tek_spi and group_of(site).epoch.era == 0
    site.store.close()


def test_a_path_that_fits_in_no_message_goes_in_portions(tmp_path):
    """Of sixteen nodes at the top and under each on the path, with keys of 256 bits."""
    site, gm = first_of_many(tmp_path, 16, 256, 65_535)
    remove(site, "last")
    site.wait(10_000)
    said, pieces = zip(*hear_pieces(site, gm), strict=True)
    assert said[0] == "passed on" and said[-1] == "rekeyed" and "put out" in said
    assert 3 < len(said) < 8 and max(pieces) == 2
    site.store.close()


@pytest.mark.parametrize("more, splits", [("", False), ("fragment_size = 0\n", True)])
@pytest.mark.parametrize("count", [1_000, 70_000])
def test_without_fragments_each_message_fits_in_a_frame(tmp_path, more, splits, count):
    """Whole it would need IP's fragments, or a buffer that a board may not have."""
    site, gm = first_of_many(tmp_path, 4, 128, count, more, splits)
    remove(site, "last")
    site.wait(10_000)
    assert max(len(out.data) for out in site.air) <= 1468
    heard = hear_pieces(site, gm)
    assert all(pieces == 1 for _, pieces in heard) and heard[-1] == ("rekeyed", 1)
    assert gm.tek[0] == group_of(site).epoch.tek_spi and group_of(site).epoch.era == 0
    site.store.close()


@pytest.mark.parametrize("before", ["", "key_tree = 0\n"])
@pytest.mark.parametrize("after", ["key_tree = 3\n", "key_bits = 256\n"])
@pytest.mark.parametrize("restarts", [False, True])
def test_another_shape_of_the_tree_sends_all_away_once(tmp_path, before, after, restarts):
    """By reload or by a start; the tree of before leaves nothing behind."""
    site = Site(tmp_path / "state.db", SITE + LINE1 + before)
    for name in NAMES:
        site.add(name)
    gms = everybody(site)
    site.wait(20_000)
    site.air.clear()
    if restarts:
        site.store.close()
        site = Site(site.path, SITE + LINE1 + after, now=site.now)
    else:
        site.send(site.server.reload(policy.parse(SITE + LINE1 + after), site.now))
    assert {gm.rekey(site.air[-1].data) for gm in gms.values()} == {"excluded"}
    site.wait(20_000)
    gms = everybody(site, kwa=3 if "256" in after else 1)
    site.wait(20_000)
    hear(site, gms)
    remove(site, "m5")
    site.wait(5_000)
    for name, what in hear(site, gms).items():
        assert ("rekeyed" in what) == (name != "m5")
    tree = group_of(site)._tree
    pages = sum(page_count(size) for size in tree.sizes)
    assert len(list(site.store.scan("group/line1/tree"))) == 1 + pages
    site.store.close()


def test_the_last_one_is_told_in_plain_words(site):
    """A Rekey SA whose keys nobody can find would be no message (RFC 9838 section 4.5.2.1)."""
    last = site.gm("m0", 1)
    site.wait(20_000)
    site.air.clear()
    remove(site, "m0")
    assert last.rekey(site.air[0].data) == "excluded"
    assert site.gm("m1", 1).path
