"""What members may do in groups: rules, what a key server makes of them, and how they change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey import sources as wire
from covey.drops import DROP_NOT_ROSTERED
from covey.membership import MEMBER
from covey_host.errors import MISUSE, Problem
from covey_host.gcks import policy, roles, room
from covey_host.gcks.authority import Authority
from covey_host.gcks.ledger import Ledger, decode, encode
from covey_host.gcks.roles import Role, role_in, roles_in
from foreign_gm import AUTHORIZATION_FAILED, GSA_REGISTRATION, ForeignGM, notifies
from gcks_site import KEY, LINE1, PLAIN, SITE, CutStore, FullOnce, Killed, Site
from ike_peer import GSA_INBAND_REKEY, OUT, Peer
from test_eviction import group_of
from test_source_auth import Plant
from test_source_auth import esp_packet as packet_of

NONE, RECEIVER, SENDER, BOTH = Role.NONE, Role.RECEIVER, Role.SENDER, Role.BOTH
LINE2 = PLAIN.replace("line1", "line2").replace("1.32", "1.33") + "fresh_join = false\n"
MACS, SIGNED = 'source_auth = "mac"\n', 'source_auth = "ecdsa"\n'


# Rules


@pytest.mark.parametrize(
    "rules, group, role",
    [
        ({"line1": BOTH}, "line1", BOTH),
        ({"line1": BOTH}, "line2", NONE),
        ({}, "line1", NONE),
        ({"*": RECEIVER}, "anything", RECEIVER),
        ({"line*": SENDER}, "line", SENDER),
        ({"line?": SENDER}, "line", NONE),
        ({"line?": SENDER}, "line7", SENDER),
        ({"line?": SENDER}, "line77", NONE),
        ({"line*": BOTH, "line1": NONE}, "line1", NONE),
        ({"line*": NONE, "line1": BOTH}, "line1", BOTH),
        ({"*": RECEIVER, "line*": NONE}, "line1", NONE),
        ({"line*": NONE, "*": RECEIVER}, "line1", NONE),
        ({"a*": BOTH, "*b": RECEIVER}, "ab", RECEIVER),
        ({"a*": SENDER, "*b": RECEIVER}, "ab", NONE),
        ({"Line*": BOTH}, "line1", NONE),
        ({"li.e1": BOTH, "[l]ine1": BOTH}, "line1", NONE),
    ],
)
def test_which_rule_holds(rules, group, role):
    assert role_in(rules, group) is role
    back = dict(reversed(rules.items()))
    assert role_in(back, group) is role  # in whatever order they were given


def test_groups_that_rules_cover():
    rules = {"line*": RECEIVER, "line2": NONE, "gone": BOTH}
    found = roles_in(rules, ["line1", "line2", "yard"])
    assert found == {"line1": RECEIVER, "line2": NONE, "gone": BOTH}


@given(st.text(max_size=70))
def test_patterns_that_a_person_types(text):
    """Whatever is taken is a pattern that matches without surprise, and quickly."""
    try:
        roles.check_pattern(text)
    except Problem as problem:
        assert problem.status == MISUSE
        return
    literal = text.replace("*", "").replace("?", "x")
    assert not roles.is_pattern(text) or role_in({text: BOTH}, literal) is BOTH
    assert role_in({text: BOTH}, "/") is (BOTH if text.strip("*") in ("", "?") else NONE)


def test_words():
    for role in (NONE, RECEIVER, SENDER, BOTH):
        assert roles.role_named(role.word) is role
    for wrong in ("BOTH", "", None, 3, ["both"]):
        with pytest.raises(Problem, match="no role"):
            roles.role_named(wrong)


# In the store


def test_rows_of_before_there_were_roles(tmp_path):
    site = Site(tmp_path / "state.db")
    site.add("a", sender=True)
    site.add("b", sender=False)
    rows = site.store.scan("authority/member/")
    for key, value, version in rows:
        fields = decode(value)
        fields["groups"] = {group: word == "both" for group, word in fields["groups"].items()}
        assert site.store.compare_and_swap(
            [(key, version, encode(fields))], site.server._ledger.term
        )
    site = site.restart()
    authority = site.server.authority
    assert authority.find("a").groups == {"line1": BOTH}
    assert authority.find("b").groups == {"line1": RECEIVER}
    assert authority.count("line1") == (2, 1)
    assert site.gm("a", wants=1).sender_ids and site.gm("b").tek
    site.store.close()


def test_members_of_patterns_are_counted(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + LINE2)
    authority = site.server.authority
    assert authority.count("line1") == (0, 0)
    site.add("a", ["line1"], sender=True)
    site.server.add_member("b", ["line*"], role=SENDER, psk=KEY)
    site.server.add_member("c", ["line*"], psk=KEY)
    assert authority.count("line1") == (3, 2) and authority.count("line2") == (2, 1)
    allow(site, "b", "line2", NONE)
    allow(site, "c", "line2", BOTH)
    site.server.remove_member("a", site.now)
    for known in (authority, Authority(Ledger(site.store))):
        assert known.count("line1") == (2, 1) and known.count("line2") == (1, 1)
        assert known.of_group("line2") == {"c": BOTH}
    site.store.close()


# A key server


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", SITE + LINE1 + LINE2)
    yield made
    made.store.close()


def allow(site, name, rule, role):
    was, now = site.server.authority.with_rule(name, rule, role)
    site.send(site.server.change_member(was, now, site.now))


def answer(site, gm, wants, address="p"):
    """Of a pull: None, or why not."""
    gm.wants = wants
    said = site.talk(gm.gsa_registration(), address)
    found = notifies(gm.open(said, GSA_REGISTRATION)) if said else []
    return found[0] if found and found[0] < 16384 else None


@pytest.mark.parametrize("role", [NONE, RECEIVER, SENDER, BOTH])
@pytest.mark.parametrize("wants", [None, 1])
@pytest.mark.parametrize("rule", ["line1", "l*"])
def test_who_is_admitted(site, role, wants, rule):
    """At the registration, and at each pull over the same IKE SA."""
    site.server.add_member("p", [rule], role=role, psk=KEY)
    gm = site.connect(ForeignGM(b"p", KEY, wants=wants), "p")
    said = site.ask(gm, "p")
    is_in = role.receives if wants is None else role.sends
    if is_in:
        gm.take_group(said)
        assert bool(gm.sender_ids) is (wants is not None)
    else:
        assert notifies(said) == [AUTHORIZATION_FAILED]
        assert site.server.counters["authorization_failed"] == 1
    for other in (None, 1):
        may = role.receives if other is None else role.sends
        assert answer(site, gm, other) == (None if may else AUTHORIZATION_FAILED)
    assert site.server.status(site.now)["members"][0]["roles"] == {
        group: role.word for group in (["line1"] if rule == "line1" else ["line1", "line2"])
    }


def test_a_group_that_is_added_later(site):
    site.server.add_member("p", ["*"], psk=KEY)
    line3 = LINE2.replace("line2", "line3").replace("1.33", "1.34")
    site.send(site.server.reload(policy.parse(site.text + line3), site.now))
    assert site.register(ForeignGM(b"p", KEY, b"line3"), "p").tek
    shown = site.server.status(site.now)["members"][0]
    assert shown["groups"] == dict.fromkeys(["line1", "line2", "line3"], False)
    assert shown["states"]["line3"] == "member" and shown["states"]["line1"] == "never"


def test_out_of_one_group_and_not_of_the_other(site):
    """Two groups by one identity, over one IKE SA."""
    for name in ("p", "q"):
        site.server.add_member(name, ["line*"], sender=True, psk=KEY)
    gm, other = site.gm("p", wants=1), site.gm("q", wants=1)
    gm.group = b"line2"
    assert answer(site, gm, 1) is None
    two = site.register(ForeignGM(b"q", KEY, b"line2"), "q2")
    keys = {name: site.server._groups[name].epoch for name in ("line1", "line2")}
    site.air.clear()
    allow(site, "p", "line1", NONE)
    site.wait(20_000)
    assert site.server._groups["line2"].epoch == keys["line2"]
    heard = [other.rekey(out.data) for out in site.air]
    assert "rekeyed" in heard and other.tek[0] == site.server._groups["line1"].epoch.tek_spi
    assert "rekeyed" not in [gm.rekey(out.data) for out in site.air]
    assert not site.server._groups["line1"].has("p") and site.server._groups["line2"].has("p")
    assert answer(site, gm, 1) is None and two.tek[0] == keys["line2"].tek_spi
    gm.group = b"line1"
    assert answer(site, gm, 1) == answer(site, gm, None) == AUTHORIZATION_FAILED
    assert site.server.why("p", site.now)["groups"]["line1"]["role"] == "none"
    allow(site, "p", "line*", NONE)  # nothing is left: its IKE SA goes, too
    assert site.server._responder.open_sa("p") is None


@pytest.mark.parametrize("how", ["allow", "remove"])
def test_out_of_a_group_that_is_gone_from_covey_toml(tmp_path, how):
    """It may come back, with the keys that it had: without who has lost its right meanwhile."""
    both = SITE + LINE1 + LINE2
    site = Site(tmp_path / "state.db", both)
    for name in ("p", "q"):
        site.server.add_member(name, ["line1", "line2"], sender=True, psk=KEY)
    gm, other = (site.register(ForeignGM(n, KEY, b"line2"), n.decode()) for n in (b"p", b"q"))
    site.text = SITE + LINE1
    site = site.restart()
    if how == "allow":
        allow(site, "p", "line2", NONE)
        assert site.server.farewells(site.now) == []
    else:
        site.send(site.server.remove_member("p", site.now))
    site.text = both
    site = site.restart()
    site.wait(20_000)
    heard = [[one.rekey(out.data) for out in site.air] for one in (gm, other)]
    assert ["rekeyed" in one for one in heard] == [False, True]
    assert site.server.authority.evicted("line2") == set()
    site.store.close()


def test_who_only_sends_gives_its_right_to_receive_back(site):
    site.add("p")
    gm = site.gm("p", wants=1)
    before = group_of(site).epoch.number
    allow(site, "p", "line1", SENDER)
    assert group_of(site).epoch.number == before + 1 and not group_of(site).has("p")
    assert answer(site, gm, None) == AUTHORIZATION_FAILED
    assert answer(site, gm, 1) is None


def test_without_a_key_tree_all_register_again(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + "key_tree = 0\n")
    for name in ("p", "q"):
        site.add(name)
    gm, other = site.gm("p", wants=1), site.gm("q", wants=1)
    allow(site, "p", "line1", RECEIVER)
    assert group_of(site).epoch.era == 1 and not group_of(site).has("q")
    assert "excluded" in [other.rekey(out.data) for out in site.air]
    assert "excluded" in [gm.rekey(out.data) for out in site.air]
    assert answer(site, other, 1, "q") is None and answer(site, gm, 1) == AUTHORIZATION_FAILED
    site.store.close()


def test_a_right_more_changes_no_keys(site):
    site.add("p", sender=False)
    gm = site.gm("p")
    before = group_of(site).epoch
    assert answer(site, gm, 1) == AUTHORIZATION_FAILED
    allow(site, "p", "line1", BOTH)
    assert group_of(site).epoch == before and group_of(site).has("p")
    assert answer(site, gm, 1) is None


def test_who_waits_for_keys_is_judged_again(tmp_path):
    """It was let wait as a sender, and may not send when it is its turn."""
    site = Site(tmp_path / "state.db", SITE + LINE1 + SIGNED)
    for name in ("press", "desk", "valve"):
        site.add(name)
    plant = Plant(site, ["desk"], ["valve"])
    plant.begin("press", True)
    assert group_of(site).waiting(site.now) == ["press"]
    allow(site, "press", "line1", RECEIVER)
    assert group_of(site).waiting(site.now) == []
    plant.wait(40_000)
    assert plant.ones["press"].it.state == MEMBER and plant.ones["press"].it.sender_id is None
    assert {seat.member for seat in group_of(site).epoch.seats} == {"desk"}
    site.store.close()


def test_inband_it_is_told_that_it_is_out(tmp_path):
    """And, since that names no group, given the keys of the other one again."""
    inband = 'rekey = "inband"\n'
    site = Site(tmp_path / "state.db", SITE + LINE1 + inband + LINE2 + inband)
    for name in ("a", "b"):
        site.server.add_member(name, ["line*"], sender=True, psk=KEY)
    a, b = (Peer(site, name, wants=1).join() for name in ("a", "b"))
    a.gm.group = b"line2"
    a.pull()
    allow(site, "a", "line1", NONE)
    assert a.served() == (GSA_INBAND_REKEY, OUT)
    assert a.served()[0] == GSA_INBAND_REKEY
    assert a.tek[0] == site.server._groups["line2"].epoch.tek_spi
    b.served()
    assert b.tek[0] == group_of(site).epoch.tek_spi
    assert site.server.why("a", site.now)["groups"]["line2"]["state"] == "member"
    site.store.close()


@pytest.mark.parametrize(
    "role, out", [(NONE, True), (RECEIVER, True), (SENDER, True), (BOTH, False)]
)
def test_while_no_key_server_runs(tmp_path, role, out):
    """The next one puts it out with its first rekey."""
    site = Site(tmp_path / "state.db")
    for name in ("p", "q"):
        site.add(name)
    gm, other = site.gm("p", wants=1), site.gm("q", wants=1)
    authority = Authority(Ledger(site.store))
    was, now = authority.with_rule("p", "line1", role)
    authority.change_without_server(was, now, ["line1"])
    site = site.restart()
    site.wait(20_000)
    heard = [gm.rekey(data.data) for data in site.air]
    assert ("rekeyed" in heard) is not out and group_of(site).has("p") is not out
    assert "rekeyed" in [other.rekey(data.data) for data in site.air]
    assert site.server.authority.evicted("line1") == set()
    site.store.close()


@pytest.mark.parametrize("lies", [True, False])
def test_a_write_that_fails_changes_nothing_or_all(tmp_path, lies):
    site = Site(tmp_path / "state.db")
    for name in ("p", "q"):
        site.add(name)
    site.gm("p", wants=1), site.gm("q", wants=1)
    site.server._ledger._store = faulty = FullOnce(site.store, 1, lies)
    with pytest.raises(Problem, match="full"):
        allow(site, "p", "line1", RECEIVER)
    assert faulty.disarm()
    site.wait(1000)
    site.server.status(site.now)  # reads again
    assert site.server.authority.find("p").may_send("line1") is not lies
    assert group_of(site).has("p") is not lies
    assert site.server.authority.count("line1") == (2, 1 if lies else 2)
    site.store.close()


@pytest.mark.parametrize("after", [True, False])
def test_killed_meanwhile(tmp_path, after):
    """What the store holds is all of it or nothing, and the next key server says it."""
    site = Site(tmp_path / "state.db")
    for name in ("p", "q"):
        site.add(name)
    gm, other = site.gm("p", wants=1), site.gm("q", wants=1)
    site.server._ledger._store = CutStore(site.store, 1, after)
    with pytest.raises(Killed):
        allow(site, "p", "line1", RECEIVER)
    site = site.restart()
    site.wait(30_000)
    assert site.server.authority.find("p").may_send("line1") is not after
    assert ("rekeyed" in [gm.rekey(out.data) for out in site.air]) is not after
    assert "rekeyed" in [other.rekey(out.data) for out in site.air]
    site.store.close()


# Members with source authentication


@pytest.mark.parametrize("how", [MACS, SIGNED], ids=["mac", "ecdsa"])
def test_a_demoted_sender_leaves_the_roster_at_once(tmp_path, how):
    """It comes back by itself, as a receiver; and as a sender, once it may send again."""
    site = Site(tmp_path / "state.db", SITE + LINE1 + how)
    for name in ("press", "desk", "valve"):
        site.add(name)
    plant = Plant(site, ["press", "desk"], ["valve"])
    press = plant.ones["press"]
    had = press.it.sender_id
    allow(site, "press", "line1", RECEIVER)
    assert "press" not in {seat.member for seat in group_of(site).epoch.seats}
    plant.wait(60_000)
    assert press.it.state == MEMBER and press.it.epoch == group_of(site).epoch.number
    assert press.it.sender_id is None and not press.member.can_send(site.now)
    rows = {identity for _, _, identity in plant.ones["valve"].it._group.terms.sources.rows}
    assert rows == {b"desk"}
    lie = _as_a_sender(press, had, b"on")  # it has the key, as every receiver
    assert plant.ones["valve"].receive(lie) == DROP_NOT_ROSTERED
    refused = site.server.counters["authorization_failed"]
    assert refused and ("may_not_send", "The key server lets us only receive.") in press.it.events
    plant.wait(60_000)
    assert site.server.counters["authorization_failed"] == refused  # it does not ask in vain
    allow(site, "press", "line1", BOTH)
    plant.wait(10_000)
    assert press.it.sender_id is None
    site.send(site.server.rekey("line1", site.now))
    plant.wait(60_000)
    assert press.it.sender_id is not None and press.member.can_send(site.now)
    rows = {identity for _, _, identity in plant.ones["valve"].it._group.terms.sources.rows}
    assert rows == {b"desk", b"press"}
    site.store.close()


def _as_a_sender(spy, sender_id, payload):
    """What one makes who has the group's key, and once had this Sender-ID."""
    sa = spy.member.keys.live()[0]
    iv = (sender_id << 48 | 1).to_bytes(8, "big")
    return packet_of(sa, iv, 1, payload + bytes(sa.auth.trailer))


def test_who_only_sends_takes_no_slot(tmp_path):
    """So 16 receivers are served, and the senders beside them."""
    site = Site(tmp_path / "state.db", SITE + LINE1 + MACS)
    rules = site.policy.groups
    for n in range(wire.MOST_SLOTS):
        site.server.add_member(f"r{n}", ["line1"], psk=KEY)
    for name in ("press", "desk"):
        site.server.add_member(name, ["line1"], role=SENDER, psk=KEY)
    assert len(site.server.authority.of_group("line1")) == wire.MOST_SLOTS + 2
    room.check_room(site.policy, site.server.authority, None)
    was, now = site.server.authority.with_rule("press", "line1", BOTH)
    with pytest.raises(Problem, match="16 receivers"):
        room.check_change(rules, site.server.authority, was, now)
    plant = Plant(site, ["press", "desk"], ["r0", "r1"])
    press = plant.ones["press"]
    assert press.member.keys.sending.auth.trailer == 2 * 8
    assert plant.all_hear("press", b"go") == {"r0", "r1"}
    assert press.it._group.terms.sources.secret is not None
    epoch, _ = group_of(site).epoch, site.restart()
    assert {seat.receives for seat in epoch.seats if seat.index is not None} == {False}


def test_a_sender_that_is_to_receive_too_gets_a_slot(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + MACS)
    for name, role in (("press", SENDER), ("desk", BOTH), ("valve", RECEIVER)):
        site.server.add_member(name, ["line1"], role=role, psk=KEY)
    plant = Plant(site, ["press", "desk"], ["valve"])
    assert plant.all_hear("press", b"1") == {"desk", "valve"}
    assert plant.all_hear("desk", b"2") == {"valve"}
    allow(site, "press", "line1", BOTH)
    plant.ones["press"].it.refresh(site.now)
    plant.wait(40_000)
    assert plant.all_hear("desk", b"3") == {"press", "valve"}
    site.store.close()
