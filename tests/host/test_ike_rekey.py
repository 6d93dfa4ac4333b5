"""New keys for an IKE SA (RFC 7296 sections 1.3.2, 2.8, 2.18, 2.25): either role, and at once."""

import struct

import pytest

from covey import ike
from covey_host.gcks import ikerekey, table
from foreign_gm import (
    CREATE_CHILD_SA,
    DELETE,
    GSA_REGISTRATION,
    INFORMATIONAL,
    KE,
    NO_PROPOSAL_CHOSEN,
    NONCE,
    NOTIFY,
    SA,
    ike_proposal,
    key_length,
    notification,
    proposal,
    sa_body,
    transform,
)
from gcks_site import LINE1, SITE, Site
from ike_peer import DELETE_IKE, GSA_INBAND_REKEY, Asked, Peer, proposal_with_spi

INBAND = SITE + "ike_lifetime = 1000\n" + LINE1 + 'rekey = "inband"\n'
INVALID_SYNTAX, INVALID_KE, NO_ADDITIONAL_SAS = 7, 17, 35
TEMPORARY_FAILURE, CHILD_SA_NOT_FOUND, REKEY_SA = 43, 44, 16393


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", INBAND)
    made.add("press-7")
    yield made
    made.store.close()


@pytest.fixture
def peer(site):
    return Peer(site, wants=1).join()


def tell(site, peer):
    """The group gets new keys, and the member hears of them."""
    site.send(site.server.rekey("line1", site.now))
    exchange, _ = peer.served()
    assert exchange == GSA_INBAND_REKEY
    epoch = site.server._groups["line1"].epoch
    assert peer.tek == (epoch.tek_spi, epoch.tek_keymat)


def until_rekey(site, peer):
    """Time passes until the server asks for new keys: its request's payloads and Message ID."""
    for _ in range(250):
        site.wait(5_000)
        for exchange, message_id, payloads in peer.requests():
            if exchange == CREATE_CHILD_SA:
                return message_id, payloads
            peer.answer(exchange, message_id)
    raise AssertionError("it never asked")


# The member asks


def test_the_member_asks(site, peer):
    tell(site, peer)
    gsk_w = peer.sa.gsk_w
    for _ in range(3):
        old = peer.sa
        peer.rekey_ike()
        assert peer.sa.gsk_w != gsk_w and peer.sa.is_initiator
        assert peer.ask(INFORMATIONAL, [], old) is None  # it has gone
        tell(site, peer)  # wrapped by the new GSK_w, Message IDs from 0
        assert peer.sa.awaited == 1
        peer.pull()
    assert site.server.counters["ike_rekeyed"] == 3
    assert site.server.status(0)["members"][0]["connected"] is True
    site.wait(31_000)
    assert site.server.status(0)["ike_sas"] == 1


def test_the_old_ike_sa_still_answers_until_it_is_deleted(site, peer):
    asked, old = Asked(), peer.sa
    new = peer.concluded(asked, peer.ask(CREATE_CHILD_SA, asked.payloads()), old)
    assert peer.ask(INFORMATIONAL, [], old) == []
    for exchange in (GSA_REGISTRATION, CREATE_CHILD_SA):
        assert peer.ask(exchange, peer.gm.group_payloads(), old) == [notification(43)]
    peer.sa = new
    peer.pull()
    site.wait(31_000)
    assert peer.ask(INFORMATIONAL, [], old) is None
    assert site.server.status(0)["ike_sas"] == 1


def test_a_repeated_request_makes_no_second_ike_sa(site, peer):
    asked, old = Asked(), peer.sa
    request = peer.sealed(CREATE_CHILD_SA, asked.payloads())
    first = peer.post(request, CREATE_CHILD_SA)
    assert peer.post(request, CREATE_CHILD_SA) == first
    assert site.server.status(0)["ike_sas"] == 2
    peer.sa = peer.concluded(asked, first, old)
    tell(site, peer)


def test_what_the_peer_offers_is_chosen_from(site):
    peer = Peer(site, "press-7", kwa=3, bits=256).join()
    peer.rekey_ike(kwas=(1, 3), bits=(128, 256))
    assert (peer.sa.kwa, peer.sa.bits) == (3, 128)  # its first cipher, the strongest wrap
    tell(site, peer)


GCM = transform(1, 20, key_length(128))
FULL = [GCM, transform(2, 5), transform(4, 31), transform(13, 1)]


def with_spi(spi, body):
    body = bytearray(body)
    body[2] = len(spi)
    return bytes(body[:4]) + spi + bytes(body[4:])


@pytest.mark.parametrize(
    "offer",
    [
        with_spi(b"8 octets", proposal(1, 1, FULL[:3])),  # a KWA is a must (RFC 9838 section 3.1)
        with_spi(b"8 octets", proposal(1, 1, FULL[:2] + FULL[3:])),
        with_spi(b"8 octets", proposal(1, 1, [transform(1, 20, key_length(192)), *FULL[1:]])),
        with_spi(b"seven..", proposal(1, 1, FULL)),
        with_spi(bytes(8), proposal(1, 1, FULL)),
        ike_proposal(),  # without an SPI
    ],
)
def test_an_offer_that_can_not_be_taken_leaves_the_old_one_up(site, peer, offer):
    payloads = [(SA, sa_body([offer])), *Asked().payloads()[1:]]
    assert peer.ask(CREATE_CHILD_SA, payloads) == [notification(NO_PROPOSAL_CHOSEN)]
    assert site.server.counters["no_proposal_chosen"] == 1
    assert site.server.status(0)["ike_sas"] == 1
    tell(site, peer)
    peer.rekey_ike()
    tell(site, peer)


def test_a_weaker_key_wrap_is_not_taken(site):
    peer = Peer(site, "press-7", kwa=3).join()
    asked = Asked().payloads(kwas=(1,))
    assert peer.ask(CREATE_CHILD_SA, asked) == [notification(NO_PROPOSAL_CHOSEN)]
    peer.rekey_ike(kwas=(3,))


def test_another_key_exchange_method_is_told_ours(site, peer):
    payloads = Asked().payloads(method=19)
    [(kind, body)] = peer.ask(CREATE_CHILD_SA, payloads)
    assert (kind, body) == (NOTIFY, struct.pack(">BBHH", 0, 0, INVALID_KE, 31))
    peer.rekey_ike()


@pytest.mark.parametrize("missing", [SA, NONCE, KE])
def test_a_request_that_lacks_a_payload_is_malformed(site, peer, missing):
    payloads = [p for p in Asked().payloads() if p[0] != missing]
    assert peer.ask(CREATE_CHILD_SA, payloads) == [notification(INVALID_SYNTAX)]
    assert peer.ask(INFORMATIONAL, []) is None
    assert site.server.status(0)["members"][0]["connected"] is False


@pytest.mark.parametrize("value", [bytes(32), bytes(31), b""])
def test_a_bad_public_value_is_malformed(site, peer, value):
    payloads = [*Asked().payloads()[:2], (KE, b"\0\x1f\0\0" + value)]
    assert peer.ask(CREATE_CHILD_SA, payloads) == [notification(INVALID_SYNTAX)]
    assert site.server.counters["ike_ke"] == 1


def test_child_sas_are_not_made(site, peer):
    esp = proposal(1, 3, [GCM, transform(5, 0)])
    body = with_spi(b"spi!", esp)
    child = [(SA, sa_body([body])), (NONCE, bytes(32)), (44, b"TSi"), (45, b"TSr")]
    assert peer.ask(CREATE_CHILD_SA, child) == [notification(NO_ADDITIONAL_SAS)]
    rekey = (NOTIFY, struct.pack(">BBH", 3, 4, REKEY_SA) + b"abcd")
    [(kind, told)] = peer.ask(CREATE_CHILD_SA, [rekey, *child])
    assert (kind, told) == (NOTIFY, struct.pack(">BBH", 3, 4, CHILD_SA_NOT_FOUND) + b"abcd")
    assert site.server.counters["child_sa_not_found"] == 1
    tell(site, peer)


# The server asks


def test_the_server_asks(site, peer):
    gsk_w = peer.sa.gsk_w
    for _ in range(3):
        message_id, payloads = until_rekey(site, peer)
        old, (new, answer) = peer.sa, peer.accept_rekey(payloads)
        peer.answer(CREATE_CHILD_SA, message_id, answer)
        assert peer.served(sa=old) == (INFORMATIONAL, [DELETE_IKE])
        peer.sa = new
        assert new.gsk_w != gsk_w and not new.is_initiator
        tell(site, peer)
        peer.pull()
        assert peer.ask(INFORMATIONAL, [], old) is None
        assert site.server.status(0)["ike_sas"] == 1


def test_roles_turn_with_each_rekey(site, peer):
    """Who asked last is the original initiator: flags, keys, SPIs."""
    message_id, payloads = until_rekey(site, peer)
    new, answer = peer.accept_rekey(payloads)
    peer.answer(CREATE_CHILD_SA, message_id, answer)
    peer.served()
    peer.sa = new
    assert peer.ask(INFORMATIONAL, []) == []
    peer.rekey_ike()
    tell(site, peer)
    assert peer.sa.is_initiator
    assert peer.ask(INFORMATIONAL, [DELETE_IKE]) == []
    assert site.server.status(0)["members"][0]["connected"] is False


def test_who_is_the_initiator_is_part_of_finding_an_ike_sa(site, peer):
    """SPIs and the flag turned round: that would be an IKE SA which the member had begun."""
    message_id, payloads = until_rekey(site, peer)
    new, answer = peer.accept_rekey(payloads)
    peer.answer(CREATE_CHILD_SA, message_id, answer)
    peer.served()
    data = bytearray(new.seal(INFORMATIONAL, [], 0)[0])
    data[:16] = data[8:16] + data[:8]
    data[19] |= 0x08
    assert site.server.receive(bytes(data), peer.address, site.now) == []
    assert site.server.counters["ike_spi"] == 1
    assert peer.ask(INFORMATIONAL, [], new) == []


def test_its_request_is_repeated_and_given_up(site, peer):
    until_rekey(site, peer)
    site.wait(20_000)
    assert site.server.status(0)["ike_sas"] == 0 and site.server.counters["unanswered"] == 1


@pytest.mark.parametrize("error", [NO_PROPOSAL_CHOSEN, INVALID_KE, NO_ADDITIONAL_SAS, 9999])
def test_a_member_that_will_not_keeps_its_ike_sa(site, peer, error):
    message_id, _ = until_rekey(site, peer)
    peer.answer(CREATE_CHILD_SA, message_id, [notification(error)])
    tell(site, peer)
    site.wait(50_000)
    assert peer.requests() == []
    peer.rekey_ike()
    tell(site, peer)


def test_a_busy_member_is_asked_again(site, peer):
    message_id, _ = until_rekey(site, peer)
    peer.answer(CREATE_CHILD_SA, message_id, [notification(TEMPORARY_FAILURE)])
    site.wait(9_900)
    assert peer.requests() == []
    site.wait(10_200)
    assert [r[0] for r in peer.requests()] == [CREATE_CHILD_SA]


@pytest.mark.parametrize(
    "what", ["no KE", "two SA", "proposal", "zero", "method", "spi", "number"]
)
def test_an_answer_that_is_none_ends_the_ike_sa(site, peer, what):
    message_id, payloads = until_rekey(site, peer)
    _, answer = peer.accept_rekey(payloads)
    found = dict(answer)
    if what == "no KE":
        del found[KE]
    elif what == "proposal":
        found[SA] = sa_body([proposal_with_spi(b"8 octets", (3,), (256,))])
    elif what == "zero":
        found[KE] = b"\0\x1f\0\0" + bytes(32)
    elif what == "method":
        found[KE] = b"\0\x13" + found[KE][2:]
    elif what == "spi":
        found[SA] = found[SA][:8] + bytes(8) + found[SA][16:]
    elif what == "number":
        found[SA] = found[SA][:4] + b"\x02" + found[SA][5:]
    answer = list(found.items()) + ([(SA, found[SA])] if what == "two SA" else [])
    peer.answer(CREATE_CHILD_SA, message_id, answer)
    assert peer.served() == (INFORMATIONAL, [DELETE_IKE])
    assert site.server.status(0)["ike_sas"] == 0


def test_a_group_that_changes_while_new_keys_are_asked_for(site, peer):
    message_id, payloads = until_rekey(site, peer)
    site.send(site.server.rekey("line1", site.now))
    assert peer.requests() == []  # the window is one
    new, answer = peer.accept_rekey(payloads)
    old = peer.sa
    peer.answer(CREATE_CHILD_SA, message_id, answer)
    assert peer.served(sa=old) == (INFORMATIONAL, [DELETE_IKE])
    site.wait(10)
    peer.sa = new
    exchange, _ = peer.served()
    assert exchange == GSA_INBAND_REKEY
    assert peer.tek[0] == site.server._groups["line1"].epoch.tek_spi


# Both at once


def test_a_member_that_asks_while_it_is_being_told_is_put_off(site, peer):
    site.send(site.server.rekey("line1", site.now))
    assert peer.ask(CREATE_CHILD_SA, Asked().payloads()) == [notification(TEMPORARY_FAILURE)]
    peer.served()
    peer.rekey_ike()
    tell(site, peer)


def test_a_member_that_asks_while_it_is_asked_for_a_sign_of_life(site, peer):
    site.wait(61_000)
    asked, old = Asked(), peer.sa
    new = peer.concluded(asked, peer.ask(CREATE_CHILD_SA, asked.payloads()), old)
    assert peer.served(sa=old) == (INFORMATIONAL, [])
    assert peer.ask(INFORMATIONAL, [DELETE_IKE], old) == []
    peer.sa = new
    tell(site, peer)


def at_once(site, peer):
    """Both have asked, neither has been answered."""
    message_id, theirs = until_rekey(site, peer)
    asked = Asked()
    ours = peer.sealed(CREATE_CHILD_SA, asked.payloads())
    return message_id, theirs, asked, ours


def survivors(site, peer):
    """Whatever the outcome: one IKE SA is left, and it works in both directions."""
    site.wait(100)
    assert site.server.status(0)["ike_sas"] - site.server.status(0)["unproven"] == 1
    assert site.server.status(0)["members"][0]["connected"] is True
    for exchange, message_id, _ in peer.requests():
        peer.answer(exchange, message_id)
    tell(site, peer)
    peer.pull()
    peer.rekey_ike()
    tell(site, peer)


@pytest.mark.parametrize("trial", range(12))
@pytest.mark.parametrize("answer_first", [True, False])
def test_simultaneous_rekeys(site, peer, answer_first, trial):
    """Section 2.8.2. Random nonces: over the trials both outcomes come about."""
    message_id, theirs, asked, ours = at_once(site, peer)
    old, (by_server, answer) = peer.sa, peer.accept_rekey(theirs)
    by_peer = peer.concluded(asked, peer.post(ours, CREATE_CHILD_SA), old)
    peer.answer(CREATE_CHILD_SA, message_id, answer, old)
    if by_server.lowest < by_peer.lowest:  # the server's goes, by the server; we delete the old
        assert peer.served(sa=by_server) == (INFORMATIONAL, [DELETE_IKE])
        if not answer_first:
            site.wait(1_000)
        assert peer.ask(INFORMATIONAL, [DELETE_IKE], old) == []
        peer.sa = by_peer
    else:
        assert peer.served(sa=old) == (INFORMATIONAL, [DELETE_IKE])
        if not answer_first:
            site.wait(1_000)
        assert peer.ask(INFORMATIONAL, [DELETE_IKE], by_peer) == []
        peer.sa = by_server
    survivors(site, peer)


def test_simultaneous_rekeys_where_the_loser_is_never_deleted(site, peer):
    for _ in range(20):
        message_id, theirs, asked, ours = at_once(site, peer)
        old, (by_server, answer) = peer.sa, peer.accept_rekey(theirs)
        by_peer = peer.concluded(asked, peer.post(ours, CREATE_CHILD_SA), old)
        peer.answer(CREATE_CHILD_SA, message_id, answer, old)
        if by_server.lowest < by_peer.lowest:
            peer.served(sa=by_server)
            peer.sa = by_peer
        else:
            peer.served(sa=old)
            peer.sa = by_server
        for _ in range(4):  # nobody deletes what is left to the member
            site.wait(8_000)
            for exchange, number, _ in peer.requests():
                peer.answer(exchange, number)
        assert site.server.status(0)["ike_sas"] == 1
        tell(site, peer)


@pytest.mark.parametrize("is_told", [False, True])
def test_the_peer_deletes_the_loser_before_we_know_all_nonces(site, peer, is_told):
    """Section 2.8.2: its answer to our request got lost, and comes when we repeat that."""
    for _ in range(30):
        message_id, theirs, asked, ours = at_once(site, peer)
        old, (by_server, answer) = peer.sa, peer.accept_rekey(theirs)
        by_peer = peer.concluded(asked, peer.post(ours, CREATE_CHILD_SA), old)
        if by_server.lowest < by_peer.lowest:  # another case; once more
            peer.answer(CREATE_CHILD_SA, message_id, answer, old)
            peer.served(sa=by_server)
            assert peer.ask(INFORMATIONAL, [DELETE_IKE], old) == []
            peer.sa = by_peer
            continue
        if is_told:  # over what is about to go: it never gets there
            site.send(site.server.rekey("line1", site.now))
        assert peer.ask(INFORMATIONAL, [DELETE_IKE], by_peer) == []
        site.wait(1_000)
        peer.sa = by_server
        peer.answer(CREATE_CHILD_SA, message_id, answer, old)
        assert peer.served(sa=old) == (INFORMATIONAL, [DELETE_IKE])
        assert peer.served(sa=by_server)[0] == GSA_INBAND_REKEY  # nobody knows what it holds
        assert peer.tek[0] == site.server._groups["line1"].epoch.tek_spi
        return survivors(site, peer)
    raise AssertionError("the same outcome thirty times")


def test_our_request_got_lost_and_the_peer_deletes_the_old_one(site, peer):
    """Section 2.8.1: the peer never saw our request; its own is answered, the old one deleted."""
    _, _, asked, ours = at_once(site, peer)
    old = peer.sa
    peer.sa = peer.concluded(asked, peer.post(ours, CREATE_CHILD_SA), old)
    assert peer.ask(INFORMATIONAL, [DELETE_IKE], old) == []
    site.wait(20_000)
    peer.requests()
    survivors(site, peer)


def test_the_peer_refuses_our_request_and_insists_on_its_own(site, peer):
    message_id, _, asked, ours = at_once(site, peer)
    old = peer.sa
    peer.sa = peer.concluded(asked, peer.post(ours, CREATE_CHILD_SA), old)
    peer.answer(CREATE_CHILD_SA, message_id, [notification(TEMPORARY_FAILURE)], old)
    assert peer.ask(INFORMATIONAL, [DELETE_IKE], old) == []
    survivors(site, peer)


def test_the_peers_request_comes_after_its_answer_to_ours(site, peer):
    """For us the old one is being closed by then: TEMPORARY_FAILURE (section 2.25.2)."""
    message_id, theirs, asked, ours = at_once(site, peer)
    old, (new, answer) = peer.sa, peer.accept_rekey(theirs)
    peer.answer(CREATE_CHILD_SA, message_id, answer, old)
    assert peer.post(ours, CREATE_CHILD_SA, old) == [notification(TEMPORARY_FAILURE)]
    assert peer.served(sa=old) == (INFORMATIONAL, [DELETE_IKE])
    peer.sa = new
    survivors(site, peer)


# Its end while new keys are asked for


def test_removed_while_new_keys_are_asked_for(site, peer):
    message_id, theirs = until_rekey(site, peer)
    site.send(site.server.remove_member("press-7", site.now))
    old, (new, answer) = peer.sa, peer.accept_rekey(theirs)
    peer.answer(CREATE_CHILD_SA, message_id, answer, old)
    assert peer.served(sa=new) == (INFORMATIONAL, [DELETE_IKE])
    assert peer.served(sa=old)[0] == GSA_INBAND_REKEY
    assert peer.served(sa=old) == (INFORMATIONAL, [DELETE_IKE])
    assert site.server.status(0)["ike_sas"] == 0


def test_a_newer_ike_sa_of_the_member_wins_over_a_rekeyed_one(site, peer):
    peer.rekey_ike()
    newer = Peer(site, "press-7", wants=1, address="b").join()
    assert peer.served() == (INFORMATIONAL, [DELETE_IKE])
    tell(site, newer)


def test_a_member_fills_no_memory_with_ike_sas(site, peer):
    """It asks for new keys again and again, and deletes nothing; or registers again and again."""
    for _ in range(30):
        asked, old = Asked(), peer.sa
        peer.sa = peer.concluded(asked, peer.ask(CREATE_CHILD_SA, asked.payloads()), old)
    assert site.server.status(0)["ike_sas"] == 1 + table.MOST_LINGERING
    tell(site, peer)
    for number in range(30):
        peer = Peer(site, "press-7", wants=1, address=f"a{number}").join()
    assert site.server.status(0)["ike_sas"] == 1 + table.MOST_LINGERING
    tell(site, peer)
    site.wait(31_000)
    assert site.server.status(0)["ike_sas"] == 1
    assert site.server._responder._table._lingering == {}


def test_a_member_fills_no_memory_with_ike_sas_that_it_deletes(site, peer, monkeypatch):
    """What has ended keeps its last answer for a while, and makes room when there is more."""
    monkeypatch.setattr(table, "MOST_UNPROVEN", 20)
    for _ in range(30):
        peer.rekey_ike()
    facts = site.server.status(0)
    assert (facts["ike_sas"], facts["unproven"]) == (21, 20)
    other = Peer(site, "press-7", wants=1, address="b").join()  # whoever comes finds room
    tell(site, other)
    assert site.server.status(0)["unproven"] == 19


def test_an_ike_sa_that_had_to_make_room_is_gone(site, peer, monkeypatch):
    """With hardly any room: whatever lingers is forgotten while it is still being worked on."""
    monkeypatch.setattr(table, "MOST_LINGERING", 1)
    for _ in range(6):
        message_id, theirs, asked, ours = at_once(site, peer)
        old, (by_server, answer) = peer.sa, peer.accept_rekey(theirs)
        by_peer = peer.concluded(asked, peer.post(ours, CREATE_CHILD_SA), old)
        peer.answer(CREATE_CHILD_SA, message_id, answer, old)
        peer.sa = by_peer if by_server.lowest < by_peer.lowest else by_server
        site.wait(31_000)
        peer.collect()
        peer.inbox.clear()
        peer = Peer(site, "press-7", wants=1).join()
    tell(site, peer)


def test_no_keys_are_shared_between_ike_sas(site, peer):
    seen = set()
    for _ in range(5):
        [sa] = [sa for sa in site.server._responder._sas.values() if sa.state == "open"]
        keys = [sa.keys.sk_d, sa.keys.sk_ei, sa.keys.sk_er, sa.kwk]
        assert not seen & set(map(bytes, keys))
        seen |= set(map(bytes, keys))
        peer.rekey_ike()
    assert DELETE == 42


def test_an_integrity_of_none_may_be_left_out_of_the_answer():
    """RFC 5282 section 8: beside an AEAD, NONE and nothing say the same."""
    kinds = [
        ike.Transform(ike.ENCR, ike.ENCR_AES_GCM_16, 128),
        ike.Transform(ike.KWA, ike.KW_5649_128),
    ]
    none = ike.Transform(ike.INTEG, ike.INTEG_NONE)
    with_none, without = (ike.Proposal(1, ike.IKE, b"", t) for t in ([*kinds, none], kinds[::-1]))
    assert ikerekey._all(with_none) == ikerekey._all(without)
    other = ike.Proposal(1, ike.IKE, b"", [*kinds, ike.Transform(ike.INTEG, 12)])
    assert ikerekey._all(with_none) != ikerekey._all(other)
