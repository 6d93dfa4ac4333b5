"""Unicast delivery at the key server: who is told what, what is relayed, what is refused."""

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from covey_host.errors import Problem
from covey_host.gcks import policy
from covey_host.gcks.roles import Role
from covey_host.gcks.sockets import Address
from foreign_gm import GSA_REGISTRATION, INFORMATIONAL, REGISTRATION_FAILED, notification
from gcks_site import KEY, LINE1, SITE, CutStore, Killed, Site
from ike_peer import DELETE_IKE, GSA_INBAND_REKEY, OUT, Peer

MIXED = SITE + LINE1
ALL = SITE + LINE1 + 'delivery = "unicast"\n'
COVEY_DELIVERY = 16387


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", MIXED)
    for name in ("a", "b"):
        made.server.add_member(name, ["line1"], sender=True, psk=KEY, relayed=True)
    made.server.add_member("deaf", ["line1"], psk=KEY, relayed=True)
    for name in ("m", "n"):
        made.add(name)
    yield made
    made.store.close()


def group(site):
    return site.server._groups["line1"]


def status(site):
    return site.server.status(site.now)["groups"]["line1"]


def rekey(site):
    site.send(site.server.rekey("line1", site.now))


def tek(site):
    return group(site).epoch.tek_spi, group(site).epoch.tek_keymat


def esp(tek, sender_id, number, payload=b"open", port=2222):
    """RFC 4303, 4106, 6054: one packet of a sender."""
    spi, keymat = tek
    text = struct.pack(">4H", port, port, 8 + len(payload), 0) + payload
    padding = -(len(text) + 2) % 4
    text += bytes(range(1, padding + 1)) + bytes([padding, 17])
    head, iv = spi + struct.pack(">I", number), struct.pack(">HHI", sender_id, 0, number)
    return head + iv + AESGCM(keymat[:-4]).encrypt(keymat[-4:] + iv, text, head)


def of_member(site, data, address):
    return site.server.relay.from_member(data, address, site.now)


def of_group(site, data):
    return site.server.relay.from_group("line1", data, site.now)


def drops(site):
    return {k[6:]: n for k, n in site.server.counters.items() if k.startswith("relay_") and n}


# What members are told


def test_a_unicast_member_is_given_data_keys_and_told_how_its_data_go(site):
    a = Peer(site, "a", wants=1).join()
    assert a.policy.order == [3, 0] and a.keys.order == [3, 0] and a.keys.auth_key is None
    assert a.policy.wide[COVEY_DELIVERY] == 1 and a.policy.sas[3]["attributes"] == []
    m = site.gm("m")
    assert m.rekey_sa is not None and m.tek == a.tek
    assert COVEY_DELIVERY not in m.policy.wide
    assert status(site)["unicast"] == ["a"] and status(site)["members"] == ["a", "m"]


def test_a_rekey_goes_to_each_its_own_way(site):
    a, m = Peer(site, "a", wants=1).join(), site.gm("m", wants=1)
    rekey(site)
    assert status(site)["holders"] == []
    assert a.served()[0] == GSA_INBAND_REKEY
    [out] = site.air
    m.rekey(out.data)
    assert a.tek == m.tek == tek(site) and list(a.teks) == [a.tek[0]]
    assert a.policy.wide[COVEY_DELIVERY] == 1 and a.policy.order == [3, 0]
    assert status(site)["holders"] == ["a"]
    assert a.policy.wide[1] == 5 and a.policy.wide[2] == 10


def test_a_group_without_multicast(tmp_path):
    site = Site(tmp_path / "state.db", ALL)
    for name in ("a", "b"):
        site.add(name)
    a, b = Peer(site, "a", wants=1).join(), Peer(site, "b").join()
    assert a.policy.wide[COVEY_DELIVERY] == b.policy.wide[COVEY_DELIVERY] == 1
    rekey(site)
    a.served(), b.served()
    assert site.air == [] and a.tek == b.tek == tek(site)
    carried = of_member(site, esp(a.tek, 0, 1), "a")
    assert carried.group is None and carried.addresses == ("b",)
    assert site.server.relay.listening() == {} and not site.server.relay.is_idle
    site.store.close()


def test_delivery_of_a_group_changes_by_a_new_era(site):
    a, m = Peer(site, "a").join(), site.gm("m")
    site.send(site.server.reload(policy.parse(ALL), site.now))
    assert group(site).epoch.era == 1 and site.air  # the Delete of everything
    m.rekey(site.air[0].data)
    assert a.served() == (GSA_INBAND_REKEY, OUT) and m.tek is None
    assert Peer(site, "m").join().policy.wide[COVEY_DELIVERY] == 1


def test_an_inband_group_of_both_kinds_and_its_way_to_unicast(tmp_path):
    inband = MIXED + 'rekey = "inband"\n'
    site = Site(tmp_path / "state.db", inband)
    site.server.add_member("a", ["line1"], sender=True, psk=KEY, relayed=True)
    site.add("m")
    a, m = Peer(site, "a", wants=1).join(), Peer(site, "m", wants=1).join()
    assert COVEY_DELIVERY not in m.policy.wide
    assert of_member(site, esp(m.tek, 64, 1), "m") is None and drops(site) == {"stranger": 1}
    carried = of_member(site, esp(a.tek, 0, 1), "a")
    assert (carried.group, carried.addresses) == ("line1", ())  # m hears it by multicast
    rekey(site)
    a.served(), m.served()
    assert a.policy.wide[COVEY_DELIVERY] == 1 and COVEY_DELIVERY not in m.policy.wide
    assert status(site)["holders"] == ["a", "m"]
    site.send(site.server.reload(policy.parse(inband + 'delivery = "unicast"\n'), site.now))
    assert m.served() == (GSA_INBAND_REKEY, OUT) and group(site).epoch.era == 1
    site.store.close()


def test_it_takes_a_port_with_marker(site):
    bare = Address(0, "192.0.2.1", 500, b"", 500, False)
    a = Peer(site, "a", address=bare)
    a.connect()
    assert a.authenticate() == [notification(REGISTRATION_FAILED)]
    assert "without marker" in str(site.server.events)


def test_newcomers_with_unicast_delivery_get_no_leaf(tmp_path):
    site = Site(tmp_path / "state.db", MIXED + "backward_secrecy = true\n")
    site.server.add_member("a", ["line1"], sender=True, psk=KEY, relayed=True)
    site.add("m")
    m = site.come("m", wants=1)
    site.wait(20_000)
    former = tek(site)
    a = Peer(site, "a")
    a.connect()
    payloads = a.gm.auth_payloads() + a.gm.group_payloads()
    assert a.ask(35 + 4, payloads) is None  # GSA_AUTH waits for other keys
    site.wait(15_000)
    m.rekey(site.air[0].data)
    assert m.tek == tek(site) != former
    assert group(site)._roster.members["a"].leaf is None and status(site)["unicast"] == ["a"]
    site.store.close()


def test_a_capture_is_opened_wherever_packets_go(site):
    site.gm("m")
    [record] = [r for r in site.server.keys(site.now)["keys"] if r["kind"] == "esp"]
    assert record["address"] == "239.192.1.32"
    Peer(site, "a").join()
    [record] = [r for r in site.server.keys(site.now)["keys"] if r["kind"] == "esp"]
    assert record["address"] == "*"


# What is relayed


def joined(site):
    """a and b with unicast delivery, both senders: their Sender-IDs are 0 and 64."""
    a, b = Peer(site, "a", wants=1).join(), Peer(site, "b", wants=1).join()
    assert (a.keys.sender_ids, b.keys.sender_ids) == ([0], [64])
    return a, b


def test_to_whom(site):
    joined(site)
    deaf = Peer(site, "deaf").join()
    site.gm("m", wants=1)
    data = esp(tek(site), 0, 1)
    carried = of_member(site, data, "a")
    assert (carried.data, carried.group) == (data, "line1")
    assert sorted(carried.addresses) == ["b", "deaf"]
    data = esp(tek(site), 128, 1)
    carried = of_group(site, data)
    assert (carried.data, carried.group) == (data, None)
    assert sorted(carried.addresses) == ["a", "b", "deaf"]
    assert site.server.relay.listening() == {"line1": ("239.192.1.32", 4500)}
    assert site.server.counters["relayed"] == 2 and drops(site) == {}
    assert deaf.tek == tek(site)


def test_nothing_is_relayed_twice_whichever_way_it_comes(site):
    joined(site)
    data = esp(tek(site), 0, 1)
    assert of_member(site, data, "a")
    assert of_group(site, data) is None  # our own multicast, heard back
    assert of_member(site, data, "a") is None  # recorded and sent again
    other = esp(tek(site), 64, 1)
    assert of_group(site, other)  # a second relay was faster
    assert of_member(site, other, "b") is None
    assert drops(site) == {"replay": 3} and site.server.counters["relayed"] == 2


def damaged(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def test_nobody_makes_the_server_send_what_is_not_the_groups(site):
    joined(site)
    good = tek(site)
    for data in (damaged(esp(good, 0, 1)), esp((good[0], bytes(20)), 0, 2)):
        assert of_member(site, data, "a") is None and of_group(site, data) is None
    assert drops(site) == {"tag": 4}
    assert of_member(site, esp(good, 0, 3), "elsewhere") is None
    assert of_member(site, esp((b"\1\2\3\4", good[1]), 0, 4), "a") is None
    assert of_group(site, esp((b"\1\2\3\4", good[1]), 0, 5)) is None
    assert of_member(site, esp(good, 0, 6, bytes(1500)), "a") is None
    assert of_member(site, b"", "a") is None and of_group(site, good[0]) is None
    assert drops(site) == {"tag": 4, "stranger": 1, "unknown_spi": 3, "length": 2}
    assert of_member(site, esp(good, 0, 1), "a")  # forgeries have used up no number


def test_a_member_speaks_for_itself_only(site):
    a, b = joined(site)
    deaf = Peer(site, "deaf").join()
    assert of_member(site, esp(a.tek, 64, 1), "a") is None  # b's, by a who has the key
    assert of_member(site, esp(deaf.tek, 0, 1), "deaf") is None  # a receiver
    assert drops(site) == {"sender_id": 1, "receiver": 1}
    assert of_member(site, esp(b.tek, 64, 1), "b") and of_member(site, esp(a.tek, 0, 1), "a")
    site.gm("m", wants=1)
    assert of_member(site, esp(a.tek, 128, 1), "m") is None  # it multicasts
    assert drops(site)["stranger"] == 1


def test_old_keys_are_relayed_as_long_as_members_take_them(site):
    a, b = joined(site)
    former = tek(site)
    rekey(site)
    a.served(), b.served()
    assert of_member(site, esp(former, 0, 1), "a") and of_member(site, esp(tek(site), 0, 1), "a")
    site.wait(9_900)
    assert of_member(site, esp(former, 0, 2), "a")
    site.wait(200)
    assert of_member(site, esp(former, 0, 3), "a") is None and drops(site) == {"unknown_spi": 1}


def test_a_group_has_its_share_and_no_more(tmp_path):
    site = Site(tmp_path / "state.db", ALL + "relay_rate = 1000\n")
    for name in ("a", "b", "c"):
        site.add(name)
    a = Peer(site, "a", wants=1).join()
    Peer(site, "b").join(), Peer(site, "c").join()
    sent = [of_member(site, esp(a.tek, 0, n + 1), "a") is not None for n in range(80)]
    assert sent == [True] * 50 + [False] * 30  # a tenth of a second's, two to each
    site.now += 10
    sent = [of_member(site, esp(a.tek, 0, n + 51), "a") is not None for n in range(8)]
    assert sent == [True] * 5 + [False] * 3
    assert drops(site) == {"rate": 33}
    site.store.close()


def test_who_has_left_or_was_ended_hears_and_says_nothing(site):
    a, b = joined(site)
    assert b.ask(GSA_REGISTRATION, b.gm.group_payloads(extra=[])[:1] + [notification(49)]) == []
    assert of_member(site, esp(a.tek, 0, 1), "a").addresses == ()
    assert of_member(site, esp(a.tek, 64, 1), "b") is None
    b.pull()
    assert of_member(site, esp(a.tek, 0, 2), "a").addresses == ("b",)
    assert b.ask(INFORMATIONAL, [DELETE_IKE]) == []
    assert of_member(site, esp(a.tek, 0, 3), "a").addresses == ()


def test_a_new_address_counts_when_ike_proves_it(site):
    a, b = joined(site)
    assert of_member(site, esp(a.tek, 0, 1), "a2") is None
    site.server.receive(damaged(b"".join(a.sealed(INFORMATIONAL, []))), "a2", site.now)
    a.sa.next_id -= 1
    assert of_member(site, esp(a.tek, 0, 2), "a2") is None and drops(site) == {"stranger": 2}
    a.address = "a2"
    assert a.ask(INFORMATIONAL, []) == []  # its sign of life, through the NAT's new mapping
    assert of_member(site, esp(a.tek, 0, 3), "a2").addresses == ("b",)
    assert of_member(site, esp(b.tek, 64, 1), "b").addresses == ("a2",)
    assert of_member(site, esp(a.tek, 0, 4), "a") is None


def test_new_keys_for_the_ike_sa_change_nothing(site):
    a, b = joined(site)
    a.rekey_ike()
    assert of_member(site, esp(a.tek, 0, 1), "a").addresses == ("b",)
    assert of_member(site, esp(b.tek, 64, 1), "b").addresses == ("a",)


def test_forged_packets_use_up_nothing_of_the_rate(tmp_path):
    site = Site(tmp_path / "state.db", ALL + "relay_rate = 1000\n")
    site.add("a"), site.add("b")
    a = Peer(site, "a", wants=1).join()
    Peer(site, "b").join()
    for n in range(300):
        assert of_member(site, damaged(esp(a.tek, 0, n + 1)), "a") is None
    assert drops(site) == {"tag": 300}
    assert of_member(site, esp(a.tek, 0, 1), "a")
    site.store.close()


def test_junk_and_signs_of_life_ask_for_no_look_at_all_members(site):
    a, b = joined(site)
    relay = site.server.relay
    assert not relay.is_idle and not relay.is_stale
    for data in (b"", bytes(100), damaged(b"".join(a.sealed(INFORMATIONAL, [])))):
        site.server.receive(data, "x", site.now)
        site.server.step(site.now)
        assert not relay.is_stale
    a.sa.next_id -= 1
    assert a.ask(INFORMATIONAL, []) == [] and not relay.is_stale
    a.address = "a2"
    assert a.ask(INFORMATIONAL, []) == [] and relay.is_stale


def test_a_group_without_unicast_members_is_not_walked(tmp_path):
    site = Site(tmp_path / "state.db", MIXED + 'rekey = "inband"\n')
    site.add("m")
    Peer(site, "m", wants=1).join()
    relay, walks = site.server.relay, []
    inner = relay._sas
    relay._sas = lambda: walks.append(1) or inner()
    relay.is_stale = True
    assert relay.is_idle and walks == []
    site.store.close()


def test_a_member_that_claims_anothers_address_does_not_mute_it(site):
    a, b = joined(site)
    deaf = Peer(site, "deaf").join()
    a.address = "b"
    assert a.ask(INFORMATIONAL, []) == []
    assert of_member(site, esp(b.tek, 64, 1), "b").addresses == ("deaf",)
    assert of_group(site, esp(deaf.tek, 0, 1)).addresses == ("b", "deaf")  # one copy to b
    assert of_member(site, esp(b.tek, 128, 1), "b") is None and drops(site) == {"sender_id": 1}


def test_what_was_relayed_is_known_after_all_unicast_members_were_gone(site):
    a, b = joined(site)
    data = esp(a.tek, 0, 1)
    assert of_member(site, data, "a")
    for peer in (a, b):
        assert peer.ask(INFORMATIONAL, [DELETE_IKE]) == []
    assert site.server.relay.is_idle and site.server.relay.listening() == {}
    assert of_group(site, data) is None and drops(site) == {}  # to nobody
    Peer(site, "b").join()
    assert of_group(site, data) is None and drops(site) == {"replay": 1}


def test_a_write_that_happened_though_it_failed_keeps_the_former_key(site):
    a, b = joined(site)
    former, server_group = tek(site), group(site)
    ledger, write = server_group._ledger, server_group._ledger.write

    def torn(changes, **how):
        write(changes, **how)
        raise Problem("The disk is gone.")

    ledger.write = torn
    with pytest.raises(Problem):
        rekey(site)
    ledger.write = write
    server_group.refresh(site.now)
    site.send(site.server.receive(b"", "x", site.now))
    assert tek(site) != former
    site.wait(9_900)
    assert of_member(site, esp(former, 0, 1), "a")
    site.wait(200)
    assert of_member(site, esp(former, 0, 2), "a") is None


def test_invented_senders_take_no_window(tmp_path):
    wide = MIXED + "sender_id_form = [12, 4]\n"
    site = Site(tmp_path / "state.db", wide)
    site.server.add_member("a", ["line1"], sender=True, psk=KEY, relayed=True)
    a = Peer(site, "a", wants=1).join()
    for n in range(1030):
        assert of_group(site, esp(a.tek, n + 9 << 4, 1)) is None
    assert drops(site) == {"sender_id": 1030}
    assert of_group(site, esp(a.tek, 0, 1))
    site.store.close()


def test_another_spi_takes_no_place_in_the_queue(site):
    joined(site)
    relay = site.server.relay
    assert relay.expects("line1", esp(tek(site), 0, 1), site.now)
    assert not relay.expects("line1", b"spi." + bytes(60), site.now)
    assert not relay.expects("other", esp(tek(site), 0, 1), site.now)
    assert drops(site) == {"unknown_spi": 1}


# Who is put out


def test_a_unicast_member_is_put_out_by_new_keys_for_all_others(site):
    a, b = joined(site)
    m, n = site.gm("m", wants=1), site.gm("n")
    old = group(site).epoch
    site.send(site.server.remove_member("b", site.now))
    assert group(site).epoch.era == old.era and group(site).epoch.number == old.number + 1
    [out] = site.air  # one message: b never had the Rekey SA
    m.rekey(out.data), n.rekey(out.data)
    a.served()
    assert a.tek == m.tek == n.tek == tek(site)
    assert a.policy.wide[1] == 2 and a.policy.wide[2] == 4  # evict_atd, evict_dtd
    assert of_member(site, esp(b.tek, 64, 1), "b") is None and drops(site) == {"stranger": 1}
    assert of_group(site, esp(a.tek, 128, 1)).addresses == ("a",)
    assert b.served() == (GSA_INBAND_REKEY, OUT)
    assert b.served() == (INFORMATIONAL, [DELETE_IKE])
    rekey(site)
    assert b.requests() == [] and b.inbox == []
    assert status(site)["unicast"] == ["a"] and status(site)["members"] == ["a", "m", "n"]


def test_a_member_of_the_tree_is_put_out_while_unicast_members_follow(site):
    a, b = joined(site)
    m, n = site.gm("m", wants=1), site.gm("n")
    old = group(site).epoch
    site.send(site.server.remove_member("n", site.now))
    site.wait(1_000)
    for out in site.air:
        m.rekey(out.data), n.rekey(out.data)
    assert group(site).epoch.era == old.era and n.tek[0] == old.tek_spi
    a.served(), b.served()
    assert a.tek == b.tek == m.tek == tek(site)
    assert of_member(site, esp(a.tek, 0, 1), "a").addresses == ("b",)


def test_both_kinds_removed_while_no_server_ran(site):
    a, b = joined(site)
    m, n = site.gm("m", wants=1), site.gm("n")
    era = group(site).epoch.era
    site.server._authority.remove_without_server("b")
    site.server._authority.remove_without_server("n")
    site = site.restart()
    site.wait(2_000)
    assert group(site).epoch.era == era
    for out in site.air:
        m.rekey(out.data)
    assert m.tek == tek(site) and n.tek != tek(site)
    assert status(site)["unicast"] == ["a"]
    site.store.close()


def test_a_restart_keeps_the_others_and_waits_for_those_with_unicast_delivery(site):
    a, b = joined(site)
    m = site.gm("m", wants=1)
    old = group(site).epoch
    site = site.restart()
    assert group(site).epoch.era == old.era
    for out in site.air:
        m.rekey(out.data)
    assert m.tek == tek(site)
    assert site.server.relay.is_idle and of_member(site, esp(a.tek, 0, 1), "a") is None
    again = Peer(site, "a", wants=1).join()
    [mine] = again.keys.sender_ids
    assert again.tek == tek(site) and 0 < mine < 64  # a newer incarnation
    assert of_member(site, esp(again.tek, mine, 1), "a").group == "line1"
    assert of_group(site, esp((old.tek_spi, old.tek_keymat), 128, 1)) is None
    assert drops(site) == {"stranger": 1, "unknown_spi": 1}
    site.store.close()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("gone", ["b", "n"])
def test_killed_at_any_call_of_the_store(tmp_path, after, gone):
    """A removal from a mixed group, of either kind, is what the next server goes on from; nobody
    is sent away, and no Sender-ID comes twice under a key."""
    at = 1
    while True:
        site = Site(tmp_path / f"{at}.db", MIXED)
        for name in ("a", "b"):
            site.server.add_member(name, ["line1"], sender=True, psk=KEY, relayed=True)
        site.add("m"), site.add("n")
        joined(site)
        m, n = site.gm("m", wants=1), site.gm("n")
        used = {(tek(site)[1], sender_id) for sender_id in (0, 64, *m.sender_ids)}
        cut = site.server._ledger._store = CutStore(site.store, at, after)
        air = list(site.air)
        try:
            site.send(site.server.remove_member(gone, site.now))
        except Killed:
            pass
        is_done = cut.disarm() is False
        air += site.air
        site = site.restart()
        removed = site.server._authority.find(gone).removed
        if not removed:
            site.send(site.server.remove_member(gone, site.now))
        site.wait(3_000)
        assert group(site).epoch.era == 0
        for out in air + site.air:
            m.rekey(out.data)
            if gone == "n":
                n.rekey(out.data)
        assert m.tek == tek(site) and (gone == "b" or n.tek != tek(site))
        again = Peer(site, "a", wants=1).join()
        assert again.tek == tek(site)
        assert not {(tek(site)[1], i) for i in again.keys.sender_ids} & used
        [mine] = again.keys.sender_ids
        carried = of_member(site, esp(again.tek, mine, 1), "a")
        assert (carried.group, carried.addresses) == ("line1", ())
        assert gone not in status(site)["members"]
        site.store.close()
        if is_done:
            break
        at += 1
    assert at > 1  # it was cut once at least


def allow(site, name, role):
    was, now = site.server.authority.with_rule(name, "line1", role)
    site.send(site.server.change_member(was, now, site.now))


def test_unicast_delivery_goes_to_receivers_only(tmp_path):
    site = Site(tmp_path / "state.db", MIXED)
    for name, role in (("a", Role.SENDER), ("b", Role.BOTH), ("c", Role.RECEIVER)):
        site.server.add_member(name, ["line1"], role=role, psk=KEY, relayed=True)
    a, b = (Peer(site, name, wants=1).join() for name in ("a", "b"))
    Peer(site, "c").join()
    relay = site.server.relay
    carried = relay.from_member(esp(a.tek, a.keys.sender_ids[0], 1), "a", site.now)
    assert (carried.group, carried.addresses) == ("line1", ("b", "c"))
    carried = relay.from_member(esp(b.tek, b.keys.sender_ids[0], 1), "b", site.now)
    assert carried.addresses == ("c",)
    site = site.restart()
    assert group(site).relayed() == ["a", "b", "c"]
    for name, receives in (("a", False), ("b", True)):
        assert group(site).may_receive(name) is receives
    for name in ("b", "c"):
        allow(site, name, Role.NONE)
    a = Peer(site, "a", wants=1).join()
    relay = site.server.relay
    assert relay.listening()  # so that what it sends can leave by the group's socket
    carried = relay.from_member(esp(a.tek, a.keys.sender_ids[0], 1), "a", site.now)
    assert (carried.group, carried.addresses) == ("line1", ())
    allow(site, "a", Role.RECEIVER)
    assert relay.from_member(esp(a.tek, a.keys.sender_ids[0], 2), "a", site.now) is None
    site.store.close()
