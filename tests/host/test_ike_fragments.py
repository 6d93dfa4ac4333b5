"""IKE fragmentation at the key server (RFC 7383): requests, answers, and rekeys of a group."""

import json
import struct

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from covey import ike, ikefrag
from covey.gcm import GCMContext
from covey_host.gcks.epoch import decode_state
from foreign_gm import AUTH, DELETE, GSA, GSA_AUTH, GSA_REGISTRATION, INFORMATIONAL, KD, SK
from gcks_site import LINE1, SITE, Site
from ike_peer import FRAGMENTATION, SKF, IkeSA, Peer

SMALL = SITE + "fragment_size = 300\n" + LINE1 + "key_tree = 0\n"
MOST = 300 - 20 - 8 - 4  # less IP, UDP and marker
VENDOR = (43, b"v" * 100)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", SMALL)
    for name in ("a", "b"):
        made.add(name)
    yield made
    made.store.close()


def sizes(peer, datagrams, exchange):
    """What the server sends in answer: the lengths of its datagrams."""
    peer._send(datagrams)
    found = [len(data) for data in peer.inbox if data[18] == exchange]
    peer.inbox.clear()
    return found


def test_it_is_negotiated_in_both_directions(site):
    assert FRAGMENTATION not in Peer(site, "a").connect()
    assert Peer(site, "a", room=100).connect()[FRAGMENTATION] == b""


def test_requests_and_answers_in_fragments(site):
    a = Peer(site, "a", wants=1, room=60)
    a.connect()
    payloads = a.gm.auth_payloads() + a.gm.group_payloads()
    request = a.sealed(GSA_AUTH, payloads)
    assert len(request) > 1 and all(data[16] == SKF for data in request)
    lengths = sizes(a, request, GSA_AUTH)
    assert len(lengths) > 1 and max(lengths) == MOST
    a.take(a.gm.check_identity(a.post(request, GSA_AUTH)))  # asked again: it was lost
    assert a.tek and site.server.counters["request_repeat"] == 1
    a.pull()
    assert a.ask(INFORMATIONAL, [VENDOR]) == []


def test_answers_are_whole_for_who_has_not_negotiated(site):
    a = Peer(site, "a").join()
    request = a.sealed(GSA_REGISTRATION, a.gm.group_payloads())
    [length] = sizes(a, request, GSA_REGISTRATION)
    assert length > MOST


@pytest.mark.parametrize("size, pieces", [(1280, 1), (0, 1), (300, 3)])
def test_the_threshold_is_policy(tmp_path, size, pieces):
    site = Site(tmp_path / "state.db", SMALL.replace("300", str(size)))
    site.add("a")
    a = Peer(site, "a", room=60).join()
    request = a.sealed(GSA_REGISTRATION, a.gm.group_payloads())
    assert len(sizes(a, request, GSA_REGISTRATION)) == pieces
    a.pull()


def test_fragments_in_any_order_and_twice(site):
    a = Peer(site, "a", wants=1, room=50).join()
    request = a.sealed(GSA_REGISTRATION, [*a.gm.group_payloads(), VENDOR])
    first = request[0]
    mixed = [*request[:0:-1], *request[:0:-1], first]
    answer = a.post(mixed, GSA_REGISTRATION)
    a.take(answer)
    assert site.server.counters["ike_fragment"] == len(request) - 1
    assert site.server.counters["registered"] == 2


def test_only_the_first_fragment_asks_for_the_answer_again(site):
    """RFC 7383 section 2.6.1."""
    a = Peer(site, "a", room=50).join()
    request = a.sealed(GSA_REGISTRATION, [*a.gm.group_payloads(), VENDOR])
    answer = a.post(request, GSA_REGISTRATION)
    for data in request[1:]:
        assert a.post([data], GSA_REGISTRATION) is None
    assert a.post(request[:1], GSA_REGISTRATION) == answer
    assert site.server.counters["request_repeat"] == 1
    assert site.server.counters["registered"] == 2


def test_a_request_split_anew_is_the_same_request(site):
    """As an initiator does that seeks the path's MTU (section 2.5.2)."""
    a = Peer(site, "a", room=100).join()
    payloads = [*a.gm.group_payloads(), VENDOR]
    request = a.sealed(GSA_REGISTRATION, payloads)
    again = a.sa.seal(GSA_REGISTRATION, payloads, a.sa.next_id - 1, room=40)
    a._send(request[:1])  # the rest was too long for some router
    answer = a.post(again, GSA_REGISTRATION)
    assert answer is not None and site.server.counters["registered"] == 2
    third = a.sa.seal(GSA_REGISTRATION, payloads, a.sa.next_id - 1, room=30)
    assert a.post(third, GSA_REGISTRATION) == answer
    assert site.server.counters["registered"] == 2
    a.pull()


def test_forged_fragments_spoil_nothing(site):
    a = Peer(site, "a", room=50).join()
    request = a.sealed(GSA_REGISTRATION, [*a.gm.group_payloads(), VENDOR])
    for data in request:
        for at in range(16, len(data), 7):
            forged = bytearray(data)
            forged[at] ^= 0x41
            a._send([bytes(forged)])
    assert all(data[18] != GSA_REGISTRATION for data in a.inbox)  # a version is answered at most
    a.inbox.clear()
    a.take(a.post(request, GSA_REGISTRATION))
    spoiled = bytearray(request[0])  # of a request that was answered: its ICV is looked at
    spoiled[-1] ^= 1
    before = site.server.counters["ike_tag"]
    assert a.post([bytes(spoiled)], GSA_REGISTRATION) is None
    assert site.server.counters["ike_tag"] == before + 1


def test_what_is_held_is_bounded(site):
    a = Peer(site, "a", room=600).join()
    sa = a.sa
    huge = [(43, b"x" * 580)] * 9
    assert a.ask(INFORMATIONAL, huge) is None  # more than a message may have
    assert site.server.counters["ike_fragment"] == 1
    many = sa.seal(INFORMATIONAL, [(43, b"x" * 200)], sa.next_id - 1, room=4)
    assert len(many) > ikefrag.MOST_FRAGMENTS
    a._send(many)
    assert site.server.counters["ike_fragment"] == 1 + len(many)
    assert a.post(sa.seal(INFORMATIONAL, [], sa.next_id - 1), INFORMATIONAL) == []


@pytest.mark.parametrize("number, total", [(0, 2), (3, 2), (0, 0), (1, 0)])
def test_numbers_of_fragments_that_can_not_be(site, number, total):
    a = Peer(site, "a", room=50).join()
    fragment = struct.pack(">HH", number, total)
    data = a.sa._seal(SKF, 0, INFORMATIONAL, 8, a.sa.next_id, b"x", fragment)
    a._send([data])
    assert a.inbox == [] and site.server.counters["ike_format"] == 1
    assert a.ask(INFORMATIONAL, []) == []


def test_fragments_of_who_has_not_negotiated_are_refused(site):
    a = Peer(site, "a").join()
    a.room = 50
    assert a.ask(GSA_REGISTRATION, [*a.gm.group_payloads(), VENDOR]) is None
    assert site.server.counters["ike_format"] > 1
    a.room = None
    assert a.post(a.sa.seal(INFORMATIONAL, [], a.sa.next_id - 1), INFORMATIONAL) == []


def test_a_new_ike_sa_inherits_it(site):
    a = Peer(site, "a", room=60).join()
    a.rekey_ike()
    request = a.sealed(GSA_REGISTRATION, a.gm.group_payloads())
    assert len(request) == 1 or request[0][16] == SKF
    assert max(sizes(a, request, GSA_REGISTRATION)) == MOST


def test_inband_rekeys_in_fragments(tmp_path):
    site = Site(tmp_path / "state.db", SMALL + 'rekey = "inband"\n')
    site.add("a")
    a = Peer(site, "a", room=60).join()
    [sa] = site.server._responder._sas.values()
    sa.most_len = 150  # it is short; policy would not go as low
    site.send(site.server.rekey("line1", site.now))
    a.collect()
    assert len(a.inbox) > 1
    a.inbox = [*a.inbox[::-1], *a.inbox]
    site.wait(1_000)
    a.served()  # as one message, from two copies of each fragment and the repetition
    assert a.tek[0] == site.server._groups["line1"].epoch.tek_spi
    assert site.server.status(site.now)["groups"]["line1"]["holders"] == ["a"]
    site.send(site.server.rekey("line1", site.now))
    [(exchange, message_id, _)] = a.requests()
    a.answer(exchange, message_id, [(43, b"v" * 200)])  # an answer in fragments
    assert site.server.counters["told"] == 2


# Rekeys of a group


class Listener:
    """Puts the fragments of GSA_REKEYs together, and verifies their signature."""

    def __init__(self, peer):
        self.spi = peer.policy.sas[6]["spi"]
        keymat = peer.keys.keymat[self.spi]
        self.sa = IkeSA.__new__(IkeSA)
        self.sa.spi_i, self.sa.spi_r = self.spi[:8], self.spi[8:]
        self.sa.theirs, self.sa.is_initiator, self.sa.parts = keymat[:20], False, {}

    def hear(self, outs):
        found = [self.sa.open(out.data) for out in outs if out.data[:16] == self.spi]
        return [opened[3] for opened in found if opened]


def rekey(site):
    site.air.clear()
    site.send(site.server.rekey("line1", site.now))
    return site.air


def test_a_group_where_all_can_gets_its_rekeys_in_fragments(site):
    a, b = Peer(site, "a", room=200).join(), Peer(site, "b", room=200).join()
    ears = Listener(a), Listener(b)
    outs = rekey(site)
    assert len(outs) == 3 and max(len(out.data) for out in outs) == MOST
    assert all(out.data[16] == SKF and out.data[20:24] == bytes(4) for out in outs)
    for ear in ears:
        [payloads] = ear.hear(outs)
        assert [k for k, _ in payloads] == [GSA, KD, DELETE, AUTH]
    first = [out.data for out in outs]
    site.air.clear()
    site.wait(1_000)
    assert [out.data for out in site.air] == first  # to the bit


def test_the_signature_is_over_the_whole_message(site):
    a = Peer(site, "a", room=200).join()
    key = serialization.load_der_public_key(a.keys.auth_key)
    outs = rekey(site)
    sa = Listener(a).sa
    for out in outs[:-1]:
        assert sa.open(out.data) is None
    # A | P of RFC 9838 section 2.4.1.1 with the head of the whole message: SK in place of SKF
    number, total = struct.unpack_from(">HH", outs[-1].data, 32)
    assert (number, total) == (3, 3)
    data = outs[-1].data
    text = AESGCM(sa.theirs[:16]).decrypt(sa.theirs[16:] + data[36:44], data[44:], data[:36])
    inner = sa.parts[1][1] + sa.parts[2][1] + text[:-1]
    head = bytearray(outs[0].data[:32])
    head[16] = SK
    head[24:28], head[30:32] = (
        struct.pack(">I", 32 + len(inner)),
        struct.pack(">H", 4 + len(inner)),
    )
    signature = inner[-71:]
    key.verify(signature, bytes(head) + inner[:-71] + bytes(71), ec.ECDSA(hashes.SHA256()))


def test_one_member_that_can_not_keeps_them_whole(site):
    a, b = Peer(site, "a", room=200).join(), Peer(site, "b").join()
    assert len(rekey(site)) == 1
    site.wait(20_000)
    idg = (50, b"\x0b\0\0\0line1")
    assert b.ask(GSA_REGISTRATION, [idg, (41, b"\0\0\0\x31")]) == []  # it leaves
    assert len(rekey(site)) == 3
    site.wait(20_000)
    a.take(a.ask(GSA_REGISTRATION, a.gm.group_payloads()))
    Peer(site, "b").join()
    assert len(rekey(site)) == 1


def test_who_can_is_remembered_over_a_restart(site):
    a = Peer(site, "a", room=200).join()
    ear = Listener(a)
    site = site.restart(SMALL)
    assert len(site.air) == 3
    assert len(ear.hear(site.air)) == 1


def test_an_empty_group_is_told_in_one_piece(site):
    assert len(rekey(site)) == 1


def test_a_removal_is_short_enough_for_one_datagram(site):
    Peer(site, "a", room=200).join()
    site.air.clear()
    site.send(site.server.remove_member("a", site.now))
    [out] = site.air
    assert out.data[16] == SK and len(out.data) < MOST


def old_row(name, value):
    """As a key server before fragments wrote it."""
    fields = json.loads(value)
    if name.startswith("group/line1/member/"):
        del fields["fragments"]
    elif name == "group/line1/state":
        del fields["epoch"]["shape"]["rekey"]
        for parcel in fields["outbox"]:
            [parcel["message"]] = parcel.pop("messages")
    return json.dumps(fields).encode()


def test_stores_from_before_load(site):
    a = Peer(site, "a", room=200).join()
    ear = Listener(a)
    b = Peer(site, "b").join()
    rekey(site)
    before = decode_state(site.store.read("group/line1/state")[0])
    for name in ("group/line1/state", "group/line1/member/a", "group/line1/member/b"):
        value, version = site.store.read(name)
        term = site.server._ledger.term
        assert site.store.compare_and_swap([(name, version, old_row(name, value))], term)
    assert decode_state(site.store.read("group/line1/state")[0]) == before
    site = site.restart(SMALL)
    assert site.server.status(site.now)["groups"]["line1"]["members"] == ["a", "b"]
    assert len(ear.hear(site.air)) == 1 and b
    assert all(out.data[16] == SK for out in site.air)  # nobody is known to put them together


def test_the_members_own_reassembly_reads_them(site):
    """The format that both ends share: lib/covey/ikefrag.py."""
    a = Peer(site, "a", room=200).join()
    spi = a.policy.sas[6]["spi"]
    reassembly, ctx = ikefrag.Reassembly(), GCMContext(a.keys.keymat[spi][:20])
    opened = [reassembly.open(ctx, out.data) for out in rekey(site)]
    assert opened[:-1] == [None, None]
    kinds = [p.kind for p in ike.parse_chain(opened[-1].first, opened[-1].inner)]
    assert kinds == [GSA, KD, DELETE, AUTH]
