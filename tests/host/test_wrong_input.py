"""What the key server is asked for and doesn't do, and input that is wrong in every way that
RFC 7296 sections 2.5, 2.21 and 3.10.1 and RFC 9838 name: the right answer or silence, counted,
and nothing changed."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreign_gm import (
    AUTH,
    AUTHENTICATION_FAILED,
    CREATE_CHILD_SA,
    DELETE,
    GSA,
    GSA_AUTH,
    GSA_REGISTRATION,
    IDG,
    IKE_AUTH,
    INFORMATIONAL,
    KD,
    NOTIFY,
    SA,
    ForeignGM,
    chain,
    header,
    key_length,
    notification,
    notifies,
    proposal,
    sa_body,
    sag,
    transform,
)
from gcks_site import LINE1, SITE, Site
from ike_peer import DELETE_IKE, GSA_INBAND_REKEY, Asked, Peer

CP, EAP, TSI, TSR = 47, 48, 44, 45
IKE_SESSION_RESUME, IKE_INTERMEDIATE, IKE_FOLLOWUP_KE = 38, 43, 44
INVALID_SYNTAX, UNSUPPORTED_CRITICAL = 7, 1
INBAND = SITE + LINE1 + 'rekey = "inband"\n'
CFG_REQUEST = (CP, b"\1\0\0\0" + struct.pack(">HH", 1, 0))
# status notifications of extensions that we don't have: each is to be ignored by who doesn't
EXTENSIONS = {
    16384: "INITIAL_CONTACT",
    16385: "SET_WINDOW_SIZE",
    16387: "IPCOMP_SUPPORTED",
    16396: "MOBIKE_SUPPORTED",
    16404: "MULTIPLE_AUTH_SUPPORTED",
    16406: "REDIRECT_SUPPORTED",
    16409: "TICKET_REQUEST",
    16417: "EAP_ONLY_AUTHENTICATION",
    16418: "CHILDLESS_IKEV2_SUPPORTED",
    16420: "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
    16431: "SIGNATURE_HASH_ALGORITHMS",
    16435: "USE_PPK",
    16438: "INTERMEDIATE_EXCHANGE_SUPPORTED",
    40000: "of someone's own",
}


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", INBAND)
    made.add("press-7")
    yield made
    made.store.close()


@pytest.fixture
def peer(site):
    return Peer(site, wants=1).join()


def state(site):
    """All that must not change."""
    sas = site.server._responder._sas
    facts = {
        sa.own_spi: (sa.state, sa.next_request, sa.next_own, sa.address) for sa in sas.values()
    }
    return facts, site.revision(), site.server._groups["line1"].epoch


# Extensions


def test_extensions_in_ike_sa_init_are_ignored(site):
    peer = Peer(site)
    extra = [notification(type, b"\0\2\0\4") for type in EXTENSIONS]
    answered = peer.connect(extra=[*extra, (43, b"vendor"), (38, b"\4")])
    assert answered == {16435: b""}  # USE_PPK, which says nothing of who must
    assert peer.join().tek


def test_extensions_in_gsa_auth_are_ignored(site):
    peer = Peer(site)
    peer.connect()
    extra = [notification(type) for type in EXTENSIONS]
    payloads = peer.authenticate(sag=_inband_sag(), extra=[*extra, CFG_REQUEST, (43, b"v")])
    assert [kind for kind, _ in payloads] == [GSA, KD, NOTIFY]  # no CP, no certificate


def _inband_sag():
    gcm = transform(1, 20, key_length(128))
    return sa_body([proposal(1, 3, [gcm, transform(5, 2)])])


@pytest.mark.parametrize("with_eap", [False, True])
def test_eap_is_not_offered(site, with_eap):
    """A GSA_AUTH without AUTH asks for EAP (RFC 7296 section 2.16)."""
    peer = Peer(site)
    peer.connect()
    idi = peer.gm.auth_payloads()[0]
    payloads = [idi, *peer.gm.group_payloads()] + ([(EAP, b"\2\1\0\4")] if with_eap else [])
    assert peer.ask(GSA_AUTH, payloads) == [notification(AUTHENTICATION_FAILED)]
    assert site.server.counters["authentication_failed"] == 1


def test_an_ordinary_vpn_client_is_refused(site):
    """IKE_AUTH with a genuine AUTH, a Child SA, selectors and a wish for an address."""
    peer = Peer(site)
    peer.connect()
    esp = sa_body([proposal(1, 3, [transform(1, 20, key_length(128)), transform(5, 0)])])
    inner = [*peer.gm.auth_payloads(), (SA, esp), (TSI, b"ts"), (TSR, b"ts"), CFG_REQUEST]
    assert peer.ask(IKE_AUTH, inner) == [notification(AUTHENTICATION_FAILED)]
    assert peer.ask(GSA_AUTH, inner) is None  # the IKE SA has ended
    assert site.server.status(0)["members"][0]["connected"] is False


def test_configuration_payloads_are_ignored_everywhere(peer):
    assert peer.ask(INFORMATIONAL, [CFG_REQUEST]) == []
    payloads = peer.ask(GSA_REGISTRATION, [CFG_REQUEST, *peer.gm.group_payloads()])
    peer.take(payloads)


@pytest.mark.parametrize("exchange", [IKE_INTERMEDIATE, IKE_FOLLOWUP_KE, INFORMATIONAL, 41, 42])
def test_nothing_comes_between_the_first_two_exchanges(site, exchange):
    peer = Peer(site)
    peer.connect()
    before = state(site)
    assert peer.post(peer.sa.seal(exchange, [], 1), exchange) is None
    assert site.server.counters["ike_exchange"] == 1 and state(site) == before
    peer.join()


def test_sessions_are_not_resumed(site):
    gm = ForeignGM()
    first, octets = chain([notification(16409, b"ticket" * 9), (40, bytes(32))])
    head = header(gm.spi_i, bytes(8), first, IKE_SESSION_RESUME, 8, 0, 28 + len(octets))
    assert site.server.receive(head + octets, "a", site.now) == []
    assert site.server.counters["ike_spi"] == 1


# In clear: believed by nobody, answered to nobody


@pytest.mark.parametrize("exchange", [INFORMATIONAL, GSA_AUTH, GSA_REGISTRATION, CREATE_CHILD_SA])
@pytest.mark.parametrize("flags", [0x08, 0x28])
@pytest.mark.parametrize("inner", [
    [notification(4)], [notification(5)], [notification(INVALID_SYNTAX)], [notification(9)],
    [notification(24)], [DELETE_IKE], [notification(9999)], [],
])  # fmt: skip
def test_unprotected_messages_change_nothing(site, peer, exchange, flags, inner):
    """RFC 7296 section 2.21.4. Both for an IKE SA of ours and for one that we don't have."""
    before = state(site)
    first, octets = chain(inner)
    for spi_i, spi_r in ((peer.sa.spi_i, peer.sa.spi_r), (b"another.", peer.sa.spi_r)):
        for message_id in (peer.sa.next_id, 0):
            head = header(spi_i, spi_r, first, exchange, flags, message_id, 28 + len(octets))
            assert site.server.receive(head + octets, "thief", site.now) == []
    assert state(site) == before
    assert peer.ask(INFORMATIONAL, []) == []


def test_messages_for_an_ike_sa_that_we_do_not_have(site, peer):
    """Section 2.21.4: MAY be told INVALID_IKE_SPI. It is not: see docs/spec.md."""
    before = state(site)
    stranger = Peer(site)
    stranger.connect()
    site.server._responder._table.forget(
        next(sa for sa in site.server._responder._sas.values() if sa.state == "half-open")
    )
    for flags in (0, 0x20):
        for exchange in (GSA_AUTH, INFORMATIONAL):
            [data] = stranger.sa.seal(exchange, [], 1, flags)
            assert site.server.receive(data, "a", site.now) == []
    assert state(site) == before and site.server.counters["ike_spi"] == 4


def test_the_flag_of_the_initiator_belongs_to_one_of_us(site, peer):
    """A message of ours, sent back to us; and one of the member with the flag off."""
    site.send(site.server.rekey("line1", site.now))
    peer.collect()
    own = peer.inbox[0]
    before = state(site)
    assert site.server.receive(own, peer.address, site.now) == []
    answer = bytearray(peer.sa.seal(GSA_INBAND_REKEY, [], 0, 0x20)[0])
    answer[19] &= ~0x08
    assert site.server.receive(bytes(answer), peer.address, site.now) == []
    assert state(site) == before and site.server.counters["ike_spi"] == 2
    peer.served()


# Under protection: requests


@pytest.mark.parametrize("payloads", [
    [(DELETE, b"\1\0\0")],  # cut
    [(DELETE, b"\1\4\0\1abcd")],  # an IKE SA has no SPI there (section 3.11)
    [(DELETE, b"\3\4\0\2abcd")],  # fewer than it says
    [(NOTIFY, b"\0\4\0\0")],  # an SPI that is not there
])  # fmt: skip
def test_malformed_informational(site, peer, payloads):
    assert peer.ask(INFORMATIONAL, payloads) == [notification(INVALID_SYNTAX)]
    assert site.server.counters["ike_format"] == 1
    assert peer.ask(INFORMATIONAL, []) is None and peer.requests() == []


def test_unknown_critical_payloads_end_nothing_that_is_open(site, peer):
    for exchange in (INFORMATIONAL, GSA_REGISTRATION, CREATE_CHILD_SA):
        answer = peer.ask(exchange, [(200, b"", True)])
        assert answer == [(NOTIFY, struct.pack(">BBHB", 0, 0, UNSUPPORTED_CRITICAL, 200))]
    assert site.server.counters["unsupported_critical"] == 3
    peer.rekey_ike()
    peer.pull()


@pytest.mark.parametrize("exchange", [GSA_INBAND_REKEY, 41, IKE_INTERMEDIATE, IKE_FOLLOWUP_KE])
def test_exchanges_that_only_we_may_begin_or_that_we_do_not_know(site, peer, exchange):
    assert peer.ask(exchange, [(GSA, b""), (KD, b"")]) == [notification(INVALID_SYNTAX)]
    assert site.server.counters["ike_exchange"] == 1
    assert peer.ask(INFORMATIONAL, []) is None


def test_a_member_can_not_hand_out_keys(site, peer):
    """GSA and KD in its own request mean nothing."""
    before = site.server._groups["line1"].epoch
    extra = [(GSA, b"\0" * 40), (KD, b"\0" * 40), (AUTH, b"\2\0\0\0" + bytes(32))]
    payloads = peer.ask(GSA_REGISTRATION, [*extra, *peer.gm.group_payloads()])
    peer.take(payloads)
    assert site.server._groups["line1"].epoch == before


@pytest.mark.parametrize("idg", [b"", b"\x0b", b"\1\0\0\0abc", b"\5\0\0\0abcd"])
def test_a_malformed_group_identity(site, peer, idg):
    before = site.revision()
    assert peer.ask(GSA_REGISTRATION, [(IDG, idg)]) == [notification(INVALID_SYNTAX)]
    assert site.revision() == before


def test_a_registration_without_a_group(peer):
    assert peer.ask(GSA_REGISTRATION, []) == [notification(INVALID_SYNTAX)]


def test_payloads_of_no_interest(site, peer):
    """Unknown ones that are not critical, and known ones in places where they mean nothing."""
    extra = [(200, b"x"), (51, b""), (37, b"\4c"), (38, b"\4"), (TSI, b""), (EAP, b"")]
    for exchange in (INFORMATIONAL, GSA_REGISTRATION):
        payloads = [*extra, *(peer.gm.group_payloads() if exchange != INFORMATIONAL else [])]
        assert peer.ask(exchange, payloads) is not None
    assert notifies(peer.ask(CREATE_CHILD_SA, [*extra, (SA, sag())])) == [35]
    assert site.server.status(0)["members"][0]["connected"] is True


def test_a_message_of_every_length(site, peer):
    before = state(site)
    [data] = peer.sa.seal(GSA_REGISTRATION, peer.gm.group_payloads(), peer.sa.next_id)
    for length in range(len(data)):
        cut = data[:length]
        assert site.server.receive(cut, "x", site.now) == []
        if length >= 28:
            cut = cut[:24] + struct.pack(">I", length) + cut[28:]
            assert site.server.receive(cut, "x", site.now) == []
    assert state(site) == before
    peer.pull()


def test_everything_ever_said_once_more(site, peer):
    """Replays of a whole life, in any order, answer nothing but the last request."""
    said = []
    send = peer._send
    peer._send = lambda datagrams: (said.extend(datagrams), send(datagrams))
    peer.pull()
    site.send(site.server.rekey("line1", site.now))
    peer.served()
    peer.rekey_ike()
    site.send(site.server.rekey("line1", site.now))
    peer.served()
    peer.pull()
    site.wait(1_100)  # until what it remembers of its members is written
    before = state(site)
    said.insert(0, peer.gm.init_request)
    for data in [*said[::-1], *said, *said]:
        outs = site.server.receive(data, "thief", site.now)
        assert all(out.address == "thief" for out in outs)
        if data[8:16] == bytes(8):
            continue  # the first message of all: from elsewhere it begins another IKE SA
        assert outs == [] or data in (said[-1], _last_of(said, said[1][:16]))
    site.wait(31_000)
    facts, revision, epoch = state(site)
    assert list(facts.values()) == [v for v in before[0].values() if v[0] == "open"]
    assert (revision, epoch) == before[1:]


def _last_of(said, spis):
    """The last request over an IKE SA: it may be answered again while it is remembered."""
    return [data for data in said if data[:16] == spis and not data[19] & 0x20][-1]


# Under protection: answers to our requests


def asked(site, peer):
    """The server has told new keys: Message ID of its request."""
    site.send(site.server.rekey("line1", site.now))
    [(exchange, message_id, _)] = peer.requests()
    assert exchange == GSA_INBAND_REKEY
    return message_id


@pytest.mark.parametrize("exchange", [INFORMATIONAL, GSA_REGISTRATION, CREATE_CHILD_SA, 250])
def test_an_answer_of_another_exchange_is_none(site, peer, exchange):
    message_id = asked(site, peer)
    peer.answer(exchange, message_id)
    assert site.server.counters["ike_exchange"] == 1
    assert site.server.status(site.now)["groups"]["line1"]["holders"] == []
    site.wait(1_000)
    assert peer.inbox == [] and [o for o in site.unasked if o.address == peer.address]
    peer.answer(GSA_INBAND_REKEY, message_id)
    assert site.server.status(site.now)["groups"]["line1"]["holders"] == ["press-7"]


@pytest.mark.parametrize("step", [-1, 1, 1000])
def test_an_answer_with_another_message_id_is_none(site, peer, step):
    message_id = asked(site, peer)
    peer.answer(GSA_INBAND_REKEY, (message_id + step) % (1 << 32))
    assert site.server.counters["ike_message_id"] == 1
    peer.answer(GSA_INBAND_REKEY, message_id)
    assert site.server.status(site.now)["groups"]["line1"]["holders"] == ["press-7"]


def test_an_answer_that_nobody_asked_for(site, peer):
    peer.answer(INFORMATIONAL, 0)
    assert site.server.counters["ike_message_id"] == 1
    assert peer.ask(INFORMATIONAL, []) == []


@pytest.mark.parametrize(
    "payloads, reason",
    [
        ([(200, b"", True)], "ike_critical"),
        ([(NOTIFY, b"\0\0")], "ike_format"),
    ],
)
def test_an_answer_that_is_malformed_ends_the_ike_sa(site, peer, payloads, reason):
    """Section 2.21.3: what it holds now is uncertain, so it is to come anew."""
    message_id = asked(site, peer)
    peer.answer(GSA_INBAND_REKEY, message_id, payloads)
    assert site.server.counters[reason] == 1
    assert peer.served() == (INFORMATIONAL, [DELETE_IKE])
    assert site.server.status(0)["ike_sas"] == 0


def test_status_notifications_in_an_answer_are_ignored(site, peer):
    message_id = asked(site, peer)
    extra = [notification(type) for type in EXTENSIONS] + [(43, b"v"), (99, b"unknown")]
    peer.answer(GSA_INBAND_REKEY, message_id, extra)
    assert site.server.status(site.now)["groups"]["line1"]["holders"] == ["press-7"]


def test_an_error_in_the_answer_to_a_sign_of_life_is_a_sign_of_life(site, peer):
    site.wait(61_000)
    assert peer.served([notification(9999)]) == (INFORMATIONAL, [])
    assert peer.requests() == []
    peer.pull()


_PAYLOADS = st.lists(
    st.tuples(st.sampled_from([33, 34, 40, 41, 42, 50, 51, 52, 99]), st.binary(max_size=60)),
    max_size=6,
)


@pytest.fixture(scope="module")
def mad(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("mad") / "state.db", INBAND)
    site.add("press-7")
    return site


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([CREATE_CHILD_SA, INFORMATIONAL, GSA_REGISTRATION]), _PAYLOADS, st.booleans()
)
def test_a_member_gone_mad(mad, exchange, payloads, is_answer):
    """With the right keys: an answer to each request, an exception never; the next one is well."""
    mad.unasked.clear()
    peer = Peer(mad, wants=None).join()
    if is_answer:
        mad.send(mad.server.rekey("line1", mad.now))
        peer.answer(GSA_INBAND_REKEY, 0, payloads)
    else:
        assert peer.ask(exchange, payloads) is not None
    mad.wait(20_000)
    peer.requests()
    again = Peer(mad).join()
    assert again.tek[0] == mad.server._groups["line1"].epoch.tek_spi


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2), st.integers(0, 80), st.integers(1, 255), st.integers(0, 12))
def test_mutated_requests_for_new_keys(mad, which, at, bits, cut):
    """Taken or refused; the member that made it can always come back."""
    mad.unasked.clear()
    peer = Peer(mad).join()
    payloads = Asked().payloads()
    kind, body = payloads[which]
    body = bytearray(body[: len(body) - cut])
    body[at % len(body)] ^= bits
    payloads[which] = kind, bytes(body)
    answer = peer.ask(CREATE_CHILD_SA, payloads)
    kinds = sorted(k for k, _ in answer)
    assert kinds in ([NOTIFY], [33, 34, 40])
    if kinds == [NOTIFY]:
        found = notifies(answer)[0]
        assert found in (INVALID_SYNTAX, 14, 17, 35)
        assert (peer.ask(INFORMATIONAL, []) is None) == (found == INVALID_SYNTAX)
