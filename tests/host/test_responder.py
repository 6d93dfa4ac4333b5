"""The key server's side of IKE_SA_INIT, GSA_AUTH and what follows, driven by a foreign member."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covey_host.gcks import table
from foreign_gm import (
    AUTH,
    AUTHENTICATION_FAILED,
    AUTHORIZATION_FAILED,
    CREATE_CHILD_SA,
    DELETE,
    FQDN,
    GSA,
    GSA_AUTH,
    GSA_REGISTRATION,
    IDG,
    IDI,
    IDR,
    IKE_AUTH,
    INFORMATIONAL,
    INVALID_GROUP_ID,
    INVALID_KE,
    KD,
    KE,
    KEY_ID,
    NO_PROPOSAL_CHOSEN,
    NONCE,
    NOTIFY,
    REGISTRATION_FAILED,
    SA,
    ForeignGM,
    chain,
    header,
    identity,
    ike_proposal,
    key_length,
    notification,
    notifies,
    proposal,
    sa_body,
    sag,
    sender,
    transform,
)
from gcks_site import KEY, LINE1, SITE, Site

UNSUPPORTED_CRITICAL, INVALID_SYNTAX, NO_ADDITIONAL_SAS, TEMPORARY_FAILURE = 1, 7, 35, 43
DELETE_IKE = b"\x01\0\0\0"
LINE2 = '[group.line2]\naddress = "239.192.1.33"\nport = 2223\nkey_bits = 256\n'
TWO = SITE + LINE1 + LINE2


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", TWO)
    made.add("press-7", ["line1", "line2"])
    made.add("lamp-1", ["line1"], sender=False)
    yield made
    made.store.close()


def drops(site, name):
    return site.server.counters[name]


# IKE_SA_INIT


@pytest.mark.parametrize("bits, kwa", [(128, 1), (128, 3), (256, 3)])
def test_registers_with_each_strength(site, bits, kwa):
    gm = ForeignGM(psk=KEY, wants=1, kwa=kwa)
    gm.bits = bits
    site.register(gm)
    assert (gm.bits, gm.kwa) == (bits, kwa)
    assert gm.sender_ids == [0]


def only(*transforms):
    return [proposal(1, 1, list(transforms))]


GCM = transform(1, 20, key_length(128))
GCM256 = transform(1, 20, key_length(256))
PRF, DH, KWA = transform(2, 5), transform(4, 31), transform(13, 1)
CBC = transform(1, 12, key_length(128))


@pytest.mark.parametrize(
    "offered, number, bits, kwa",
    [
        ([ike_proposal(7)], 7, 128, 1),
        ([ike_proposal(1, (128, 256), (1, 3))], 1, 128, 3),
        ([ike_proposal(1, (256, 128), (3,))], 1, 256, 3),
        ([ike_proposal(1, (256, 128), (1,))], 1, 128, 1),  # the wrap decides
        ([ike_proposal(1, (256,), (1,)), ike_proposal(2)], 2, 128, 1),
        (only(transform(3, 12), CBC, PRF, DH, KWA) + [ike_proposal(2)], 2, 128, 1),
        (only(GCM, PRF, DH, KWA, transform(99, 1)) + [ike_proposal(2)], 2, 128, 1),
        ([ike_proposal(1, (256,), (3,), extra=[transform(3, 0)])], 1, 256, 3),
        (only(GCM, PRF, DH, transform(13, 4), KWA), 1, 128, 1),
        (only(GCM, transform(2, 7), PRF, transform(4, 19), DH, KWA), 1, 128, 1),
        # an attribute that is not understood takes its transform away, not the proposal
        (only(transform(1, 20, key_length(256), b"\x80\x63\0\1"), GCM, PRF, DH, KWA), 1, 128, 1),
    ],
)
def test_chooses_among_proposals(site, offered, number, bits, kwa):
    gm = site.connect(ForeignGM(), proposals=offered)
    assert (gm.proposal_number, gm.bits, gm.kwa) == (number, bits, kwa)
    kinds = [kind for kind, _, _ in gm.chosen]
    assert (3 in kinds) == (b"\x03\0\0\0" in b"".join(offered))  # INTEG NONE only if it was there


@pytest.mark.parametrize(
    "offered",
    [
        only(GCM, PRF, DH),  # RFC 9838: a key wrap algorithm is a must
        only(GCM, PRF, DH, transform(13, 2)),
        only(GCM256, PRF, DH, KWA),
        only(GCM, PRF, DH, KWA, transform(3, 12)),
        only(CBC, PRF, DH, KWA, transform(3, 12)),
        only(transform(1, 20, key_length(192)), PRF, DH, transform(13, 3)),
        only(transform(1, 20), PRF, DH, KWA),  # no Key Length
        only(GCM, transform(2, 5, key_length(256)), DH, KWA),  # one where none belongs
        only(GCM, PRF, DH, transform(13, 1, key_length(128))),
        only(GCM, DH, KWA),
        only(GCM, PRF, KWA),
        only(PRF, DH, KWA),
        only(GCM, transform(2, 2), DH, KWA),
        only(GCM, PRF, transform(4, 14), KWA),
        only(GCM, PRF, transform(4, 0), KWA),
        [proposal(1, 3, [GCM, PRF, DH, KWA])],
    ],
)
def test_refuses_proposals(site, offered):
    gm = ForeignGM()
    answer = site.talk(gm.sa_init(offered))
    assert answer[8:16] == bytes(8)
    assert notifies(gm.clear(answer)) == [NO_PROPOSAL_CHOSEN]
    assert drops(site, "no_proposal_chosen") == 1
    assert site.server.status(0)["ike_sas"] == 0
    site.connect(gm)  # it may try again with another offer


def test_asks_for_its_key_exchange_method(site):
    gm = ForeignGM()
    both = only(GCM, PRF, transform(4, 19), DH, KWA)
    answer = site.talk(gm.sa_init(both, method=19, value=bytes(64)))
    [(kind, body)] = gm.clear(answer)
    assert kind == NOTIFY and body == struct.pack(">BBHH", 0, 0, INVALID_KE, 31)
    assert answer[8:16] == bytes(8)
    site.connect(gm, proposals=both)


@pytest.mark.parametrize(
    "broken, reason",
    [
        (dict(value=bytes(32)), "ike_ke"),  # the all-zero shared secret
        (dict(value=b"\x01" + bytes(31)), "ike_ke"),  # of small order
        (dict(value=bytes(31)), "ike_ke"),
        (dict(value=bytes(33)), "ike_ke"),
        (dict(value=b""), "ike_ke"),
        (dict(nonce=bytes(15)), "ike_format"),
        (dict(nonce=bytes(257)), "ike_format"),
        (dict(extra=[(NONCE, bytes(32))]), "ike_format"),
        (dict(extra=[(KE, bytes(36))]), "ike_format"),
        (dict(extra=[(SA, bytes(8))]), "ike_format"),
        (dict(proposals=[b"\1\1\0\1"]), "ike_format"),
        (dict(extra=[notification(1)[:1] + (b"\0",)]), "ike_format"),
    ],
)
def test_is_silent_where_nothing_is_authentic(site, broken, reason):
    gm = ForeignGM()
    assert site.talk(gm.sa_init(**broken)) is None
    assert drops(site, reason) == 1
    assert site.server.status(0)["ike_sas"] == 0
    site.connect(ForeignGM())


def resized(data, *, at=None, put=b"", cut=0):
    """data with octets replaced at an offset, or cut at the end, and its length set right."""
    data = data if at is None else data[:at] + put + data[at + len(put) :]
    data = data[: len(data) - cut]
    return data[:24] + struct.pack(">I", len(data)) + data[28:]


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda d: d[:27], "ike_header"),
        (lambda d: b"", "ike_header"),
        (lambda d: d + b"\0", "ike_header"),
        (lambda d: d[:-1], "ike_header"),
        (lambda d: resized(d, at=17, put=b"\x10"), "ike_header"),  # IKEv1
        (lambda d: resized(d, at=19, put=b"\x28"), "ike_header"),  # a response
        (lambda d: resized(d, at=19, put=b"\0"), "ike_header"),  # not of an initiator
        (lambda d: resized(d, at=20, put=b"\0\0\0\1"), "ike_header"),
        (lambda d: resized(d, at=0, put=bytes(8)), "ike_header"),
        (lambda d: resized(d, at=8, put=b"12345678"), "ike_header"),
        (lambda d: resized(d, cut=1), "ike_format"),
        (lambda d: resized(d, at=16, put=b"\0"), "ike_format"),
        (lambda d: resized(d, at=18, put=bytes([GSA_AUTH])), "ike_spi"),
        (lambda d: resized(d, at=18, put=b"\xff"), "ike_spi"),
    ],
)
def test_drops_and_counts_other_messages_in_clear(site, spoil, reason):
    assert site.talk(spoil(ForeignGM().sa_init())) is None
    assert drops(site, reason) == 1
    assert site.server.status(0)["ike_sas"] == 0


def test_ignores_reserved_bits_and_minor_versions(site):
    gm = ForeignGM()
    data = bytearray(gm.sa_init())
    data[17] = 0x2F  # minor version 15
    data[19] |= 0xC7  # reserved flags
    data[29] |= 0x7F  # reserved bits beside the critical one
    gm.init_request = bytes(data)
    gm.take_sa_init(site.talk(gm.init_request))
    gm.take_group(site.ask(gm))


def test_answers_a_higher_major_version(site):
    gm = ForeignGM()
    data = resized(gm.sa_init(), at=17, put=b"\x30")
    answer = site.talk(data)
    assert notifies(gm.clear(answer)) == [5]
    assert len(answer) == 36
    assert site.talk(resized(data, at=19, put=b"\x28")) is None  # a response gets none
    for _ in range(100):
        site.talk(data)
    assert drops(site, "version") == 102
    answers = [site.talk(data) for _ in range(3)]
    assert answers == [None] * 3  # the rate is limited
    site.now += 1000
    assert site.talk(data) == answer


def test_unsupported_critical_payloads(site):
    gm = ForeignGM()
    answer = site.talk(gm.sa_init(extra=[(200, b"x", True)]))
    [(kind, body)] = gm.clear(answer)
    assert (kind, body) == (NOTIFY, struct.pack(">BBHB", 0, 0, UNSUPPORTED_CRITICAL, 200))
    # not critical: skipped; critical and known: the bit means nothing
    gm.take_sa_init(site.talk(gm.sa_init(first=[(200, b"x")], extra=[(43, b"v", True)])))
    inner = [*gm.auth_payloads(), (200, b"xyz", True), *gm.group_payloads()]
    payloads = gm.open(site.talk(gm.seal(GSA_AUTH, inner)), GSA_AUTH)
    assert payloads == [(NOTIFY, struct.pack(">BBHB", 0, 0, UNSUPPORTED_CRITICAL, 200))]
    assert drops(site, "authenticated") == 0
    gm = site.gm()
    again = gm.seal(GSA_REGISTRATION, [(200, b"", True), *gm.group_payloads()])
    assert notifies(gm.open(site.talk(again), GSA_REGISTRATION)) == [UNSUPPORTED_CRITICAL]
    gm.take_group(gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION))  # it stays up


# Repeats


def test_repeats_the_answer_to_a_repeated_sa_init(site):
    gm = ForeignGM(psk=KEY)
    first = site.talk(gm.sa_init())
    assert site.talk(gm.init_request) == first
    assert site.server.status(0)["ike_sas"] == 1
    other = site.talk(gm.init_request, "elsewhere")
    assert other != first and site.server.status(0)["ike_sas"] == 2
    gm.nonce_i = bytes(range(32))  # the same SPI with another nonce: another member behind a NAT
    second = site.talk(gm.sa_init())
    assert second[8:16] != first[8:16]
    gm.take_sa_init(second)
    gm.take_group(site.ask(gm))
    assert site.talk(gm.init_request) is None  # RFC 7296 section 2.1: from now on ignored
    assert drops(site, "sa_init_repeat") == 2


def test_repeats_the_answer_to_a_repeated_request(site):
    gm = site.connect(ForeignGM(psk=KEY, wants=1))
    request = gm.gsa_auth()
    first = site.talk(request)
    revision = site.revision()
    assert site.talk(request) == first
    outs = site.server.receive(request, "moved", site.now)
    assert [(o.data, o.address) for o in outs] == [(first, "moved")]  # to where it came from
    assert site.revision() == revision and drops(site, "registered") == 1
    spoiled = bytearray(request)
    spoiled[40] ^= 1
    assert site.talk(bytes(spoiled)) is None
    assert drops(site, "ike_message_id") == 1
    again = gm.gsa_registration()
    assert site.talk(again) == site.talk(again)
    assert site.talk(request) is None  # forgotten, and not done again
    assert drops(site, "registered") == 2


def test_message_ids_outside_the_window_are_dropped(site):
    gm = site.gm()
    for message_id in (0, 1, 3, 4, 0xFFFFFFFF):
        data = gm.seal(INFORMATIONAL, [], message_id=message_id)
        assert site.talk(data) is None
    assert drops(site, "ike_message_id") == 5
    assert gm.open(site.talk(gm.seal(INFORMATIONAL, [])), INFORMATIONAL) == []


def test_forged_messages_change_nothing(site):
    gm = site.connect(ForeignGM(psk=KEY, wants=1))
    request = gm.gsa_auth()
    revision = site.revision()
    for i in range(0, len(request)):
        forged = bytearray(request)
        forged[i] ^= 0x10
        answer = site.talk(bytes(forged))
        assert answer is None or answer[18] in (34, GSA_AUTH) and i == 17
    assert site.revision() == revision
    assert drops(site, "ike_tag") > 100 and drops(site, "ike_spi") == 16
    assert site.server.status(0)["unproven"] == 1
    gm.take_group(gm.check_identity(gm.open(site.talk(request), GSA_AUTH)))


# Authentication


def idi(data, id_type=KEY_ID):
    return identity(id_type, data)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(key=b"x" * 32),
        dict(idi=idi(b"press-8")),
        dict(idi=idi(b"")),
        dict(idi=idi(b"\xff\0/" * 30)),
        dict(idi=idi(b"abcd", 1)),
        dict(idi=idi(b"lamp-1"), key=b"x" * 32),
        dict(method=1),
        dict(method=14),
    ],
)
def test_failed_authentication_tells_nothing_and_ends(site, wrong):
    gm = site.connect(ForeignGM(psk=KEY))
    request = gm.seal(GSA_AUTH, gm.auth_payloads(**wrong) + gm.group_payloads())
    answer = site.talk(request)
    assert gm.open(answer, GSA_AUTH) == [notification(AUTHENTICATION_FAILED)]
    assert len(answer) == 28 + 4 + 8 + 8 + 1 + 16
    assert site.talk(request) == answer  # the answer may get lost
    assert site.talk(gm.gsa_auth()) is None  # but the IKE SA has ended
    assert drops(site, "authentication_failed") == 1 and drops(site, "authenticated") == 0
    assert site.server.status(0)["groups"]["line1"]["members"] == []
    site.wait(31_000)
    assert site.server.status(0)["ike_sas"] == 0
    assert site.talk(request) is None


def test_auth_without_auth_payload_or_by_ike_auth_fails(site):
    gm = site.connect(ForeignGM(psk=KEY))
    without = gm.seal(GSA_AUTH, [gm.auth_payloads()[0], *gm.group_payloads()])  # EAP
    assert notifies(gm.open(site.talk(without), GSA_AUTH)) == [AUTHENTICATION_FAILED]
    gm = site.connect(ForeignGM(psk=KEY))
    classic = gm.seal(IKE_AUTH, gm.auth_payloads())
    assert gm.open(site.talk(classic), IKE_AUTH) == [notification(AUTHENTICATION_FAILED)]
    assert site.talk(gm.gsa_auth()) is None


@pytest.mark.parametrize("id_type", [KEY_ID, FQDN, 3])
def test_identity_types_of_members(site, id_type):
    gm = site.connect(ForeignGM(psk=KEY))
    inner = gm.auth_payloads(idi=idi(b"press-7", id_type)) + gm.group_payloads()
    gm.take_group(gm.check_identity(gm.open(site.talk(gm.seal(GSA_AUTH, inner)), GSA_AUTH)))


def test_payload_order_and_strangers_do_not_matter(site):
    gm = site.connect(ForeignGM(psk=KEY, wants=1))
    inner = gm.auth_payloads() + gm.group_payloads(sag=sag())
    inner += [(IDR, identity(FQDN, b"someone.else")), (43, b"vendor"), (38, b"\x04")]
    inner += [notification(16384), notification(40961, b"odd"), notification(8191), (37, b"\4c")]
    inner += [(99, b"unknown"), (44, b"TSi"), (45, b"TSr")]
    data = gm.seal(GSA_AUTH, inner[::-1], pad=200)
    gm.take_group(gm.check_identity(gm.open(site.talk(data), GSA_AUTH)))
    assert gm.sender_ids == [0]


@pytest.mark.parametrize("missing", [IDI, IDG])
def test_a_gsa_auth_that_lacks_a_payload_is_malformed(site, missing):
    gm = site.connect(ForeignGM(psk=KEY))
    inner = [p for p in gm.auth_payloads() + gm.group_payloads() if p[0] != missing]
    payloads = gm.open(site.talk(gm.seal(GSA_AUTH, inner)), GSA_AUTH)
    assert payloads == [notification(INVALID_SYNTAX)]
    assert site.talk(gm.gsa_auth()) is None


@pytest.mark.parametrize(
    "extra",
    [
        [(IDI, identity(KEY_ID, b"press-7"))],
        [(IDG, identity(KEY_ID, b"line1"))],
        [(AUTH, b"\2\0\0\0")],
        [(SA, sag()), (SA, sag())],
        [(SA, b"\0")],
        [(NOTIFY, b"\0\0\0")],
        [notification(16429, b"\0\0\1")],
        [sender(1), sender(1)],
    ],
)
def test_malformed_inside_a_genuine_envelope_ends_the_ike_sa(site, extra):
    gm = site.connect(ForeignGM(psk=KEY))
    payloads = gm.open(site.talk(gm.gsa_auth(extra=extra)), GSA_AUTH)
    assert payloads == [notification(INVALID_SYNTAX)]
    gm = site.gm()
    data = gm.seal(GSA_REGISTRATION, [], octets=(IDG, b"\0\0\0\3"))
    assert gm.open(site.talk(data), GSA_REGISTRATION) == [notification(INVALID_SYNTAX)]
    assert site.talk(gm.gsa_registration()) is None
    assert site.server.status(0)["members"][1]["connected"] is False


def test_other_exchanges_of_an_unproven_peer_get_nothing(site):
    gm = site.connect(ForeignGM(psk=KEY))
    for exchange in (GSA_REGISTRATION, INFORMATIONAL, CREATE_CHILD_SA, 41, 42, 43, 200):
        assert site.talk(gm.seal(exchange, gm.group_payloads(), message_id=1)) is None
    assert drops(site, "ike_exchange") == 7
    gm.take_group(site.ask(gm))


# Groups


@pytest.mark.parametrize(
    "name, wants, group, reason",
    [
        (b"press-7", None, dict(idg=identity(KEY_ID, b"line3")), INVALID_GROUP_ID),
        (b"press-7", None, dict(idg=identity(KEY_ID, b"")), INVALID_GROUP_ID),
        (b"press-7", None, dict(idg=identity(1, b"\xef\xc0\1\x22")), INVALID_GROUP_ID),
        (b"press-7", None, dict(idg=identity(9, b"line1")), INVALID_GROUP_ID),
        (b"press-7", None, dict(idg=identity(5, bytes(16))), INVALID_GROUP_ID),
        (b"lamp-1", None, dict(idg=identity(KEY_ID, b"line2")), AUTHORIZATION_FAILED),
        (b"lamp-1", 1, {}, AUTHORIZATION_FAILED),
        (b"press-7", None, dict(sag=sag(bits=256, kwa=3)), NO_PROPOSAL_CHOSEN),
        (b"press-7", None, dict(sag=sag(kwa=3)), NO_PROPOSAL_CHOSEN),
        (b"press-7", None, dict(sag=sag(sn=0)), NO_PROPOSAL_CHOSEN),
        (b"press-7", None, dict(sag=sag(number=1, esp_number=2)), NO_PROPOSAL_CHOSEN),
        (b"press-7", None, dict(sag=sag(algorithm=b"\x30\0")), NO_PROPOSAL_CHOSEN),
        # a key of 256 bits is not wrapped by one of 128
        (b"press-7", None, dict(idg=identity(KEY_ID, b"line2")), NO_PROPOSAL_CHOSEN),
    ],
)
def test_group_errors_prove_the_server_and_leave_the_ike_sa_up(site, name, wants, group, reason):
    gm = site.connect(ForeignGM(name, KEY, wants=wants))
    revision = site.revision()
    assert site.ask(gm, **group) == [notification(reason)]
    assert site.revision() == revision
    gm.wants = None
    payloads = gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION)
    gm.take_group(payloads)  # no IDr, no AUTH here
    answer = site.talk(gm.seal(GSA_REGISTRATION, gm.group_payloads(**{"idg": None, **group})))
    if wants is None:
        assert gm.open(answer, GSA_REGISTRATION) == [notification(reason)]


def esp_only(number=1):
    return proposal(number, 3, [GCM, transform(5, 0), transform(5, 2), transform(3, 0)])


def rekey_only(number=1, *extra):
    return proposal(number, 6, [GCM256, CBC, GCM, KWA, transform(14, 1), transform(14, 2), *extra])


@pytest.mark.parametrize(
    "body, fits",
    [
        (sag(), True),
        (sag(algorithm=bytes.fromhex("300a06082a8648ce3d040302")), True),
        (sa_body([esp_only(3), rekey_only(3)]), True),  # any order, more than asked for
        (sa_body([esp_only(1), esp_only(2), rekey_only(2)]), True),
        (sa_body([proposal(2, 2, [transform(3, 12)]), esp_only(), rekey_only()]), True),
        (sa_body([esp_only(1), rekey_only(2)]), False),
        (sa_body([esp_only()]), False),  # "MUST indicate which key wrap algorithms"
        (sa_body([rekey_only()]), False),
        (sa_body([esp_only(), proposal(1, 6, [GCM, KWA])]), False),  # rekeys are signed
        (sa_body([esp_only(), proposal(1, 6, [GCM, transform(14, 2)])]), False),
        (sa_body([proposal(1, 3, [GCM]), rekey_only()]), False),
    ],
)
def test_sag(site, body, fits):
    gm = site.connect(ForeignGM(psk=KEY))
    payloads = site.ask(gm, sag=body)
    if fits:
        gm.take_group(payloads)
    else:
        assert payloads == [notification(NO_PROPOSAL_CHOSEN)]


def test_spis_in_sag_mean_nothing(site):
    body = bytearray(sag())
    body[6] = 4  # SPI size of the first proposal
    body[2:4] = struct.pack(">H", struct.unpack(">H", body[2:4])[0] + 4)
    body[8:8] = b"spi!"
    gm = site.connect(ForeignGM(psk=KEY))
    gm.take_group(site.ask(gm, sag=bytes(body)))


@pytest.mark.parametrize(
    "idg", [identity(FQDN, b"line1"), identity(3, b"line1"), identity(1, b"\xef\xc0\1\x20")]
)
def test_other_types_of_group_identity(site, idg):
    gm = site.connect(ForeignGM(psk=KEY))
    gm.take_group(site.ask(gm, idg=idg))
    assert gm.policy.sas[3]["destination"][3] == b"\xef\xc0\1\x20"


@pytest.mark.parametrize("wants, got", [(0, 1), (1, 1), (3, 3), (4, 4), (5, 4), (0xFFFFFFFF, 4)])
def test_several_sender_ids(site, wants, got):
    gm = site.gm(wants=wants)
    assert len(set(gm.sender_ids)) == got
    assert gm.sender_ids == [index << 6 for index in range(got)]


def test_receivers_get_no_sender_id(site):
    gm = site.gm("lamp-1")
    assert gm.sender_ids == [] and 3 not in gm.policy.wide


def test_pull_other_group_and_leave(site):
    gm = ForeignGM(psk=KEY, wants=1, kwa=3)
    site.register(gm)
    first = gm.tek
    gm.take_group(gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION))
    assert gm.tek == first and gm.sender_ids == [1]  # the keys are the same, the Sender-ID never
    gm.group = b"line2"
    gm.take_group(gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION))
    assert gm.tek[0] != first[0] and len(gm.tek[1]) == 36 and gm.sender_ids == [0]
    for reason in (NO_PROPOSAL_CHOSEN, REGISTRATION_FAILED):
        assert gm.open(site.talk(gm.leave(reason)), GSA_REGISTRATION) == []
    groups = site.server.status(site.now)["groups"]
    assert groups["line2"]["members"] == [] and groups["line1"]["members"] == ["press-7"]
    gm.group = b"nowhere"
    assert notifies(gm.open(site.talk(gm.leave()), GSA_REGISTRATION)) == [INVALID_GROUP_ID]
    assert drops(site, "left") == 2


def test_a_full_group(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + "members = 2\n")
    for name in ("a", "b", "c"):
        site.add(name)
    a = site.gm("a")
    site.gm("b")
    gm = site.connect(ForeignGM(b"c", KEY))
    assert site.ask(gm) == [notification(REGISTRATION_FAILED)]
    site.gm("b")  # who is in may come again
    a.open(site.talk(a.leave()), GSA_REGISTRATION)
    gm.take_group(gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION))


def test_too_many_senders_for_the_form(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + "sender_id_form = [1, 7]\nsender_ids = 2\n")
    for name in ("a", "b", "c"):
        site.add(name)
    assert [site.gm(name, 1).sender_ids for name in "ab"] == [[0], [128]]
    gm = site.connect(ForeignGM(b"c", KEY, wants=1))
    assert site.ask(gm) == [notification(REGISTRATION_FAILED)]
    gm.wants = None
    gm.take_group(gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION))


# Inside an IKE SA


def test_informational(site):
    gm = site.gm()
    assert gm.open(site.talk(gm.seal(INFORMATIONAL, [])), INFORMATIONAL) == []
    odd = [notification(40961, b"?"), notification(8191), (DELETE, b"\x03\x04\0\x01abcd")]
    assert gm.open(site.talk(gm.seal(INFORMATIONAL, odd)), INFORMATIONAL) == []
    assert site.server.status(0)["members"][1]["connected"] is True
    delete = gm.seal(INFORMATIONAL, [(DELETE, DELETE_IKE)])
    answer = site.talk(delete)
    assert gm.open(answer, INFORMATIONAL) == []
    assert site.talk(delete) == answer
    assert site.talk(gm.seal(INFORMATIONAL, [])) is None
    assert site.server.status(0)["members"][1]["connected"] is False
    assert site.server.status(0)["groups"]["line1"]["members"] == ["press-7"]  # still a member


def test_a_member_that_can_not_verify_us_ends_the_ike_sa(site):
    gm = site.gm()
    told = gm.seal(INFORMATIONAL, [notification(AUTHENTICATION_FAILED)])
    assert gm.open(site.talk(told), INFORMATIONAL) == []
    assert site.talk(gm.gsa_registration()) is None


def test_no_iv_twice_in_an_ike_sa(site):
    gm = site.gm()
    answers = [site.talk(gm.seal(INFORMATIONAL, [])) for _ in range(50)]
    answers.append(site.server.remove_member("press-7", site.now)[-1].data)
    assert len({answer[32:40] for answer in answers}) == 51


def test_no_child_sas(site):
    gm = site.gm()
    request = gm.seal(CREATE_CHILD_SA, [(SA, sa_body([esp_only()])), (NONCE, bytes(32))])
    assert notifies(gm.open(site.talk(request), CREATE_CHILD_SA)) == [NO_ADDITIONAL_SAS]
    gm.take_group(gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION))


@pytest.mark.parametrize("exchange", [GSA_AUTH, IKE_AUTH, 41, 42, 43, 250])
def test_an_exchange_that_has_no_place(site, exchange):
    gm = site.gm()
    payloads = gm.open(site.talk(gm.seal(exchange, gm.group_payloads())), exchange)
    assert payloads == [notification(INVALID_SYNTAX)]
    assert site.talk(gm.gsa_registration()) is None


def test_the_newest_ike_sa_wins_and_the_older_is_told(site):
    old = site.gm()
    site.unasked.clear()
    new = ForeignGM(psk=KEY)
    site.register(new, "b")
    [told] = site.unasked
    assert told.address == "press-7"
    assert old.open(told.data, INFORMATIONAL, 0, flags=0) == [(DELETE, DELETE_IKE)]
    refused = old.open(site.talk(old.gsa_registration(), "press-7"), GSA_REGISTRATION)
    assert refused == [notification(TEMPORARY_FAILURE)]
    site.wait(20_000)  # nobody answers: sent again a few times, the same octets, then forgotten
    assert [o.data for o in site.unasked] == [told.data] * 4
    assert site.talk(old.seal(INFORMATIONAL, []), "press-7") is None
    assert site.server.status(0)["ike_sas"] == 1
    new.take_group(new.open(site.talk(new.gsa_registration(), "b"), GSA_REGISTRATION))


def test_our_delete_is_answered(site):
    old = site.gm()
    site.register(ForeignGM(psk=KEY), "b")
    forged = bytearray(old.seal(INFORMATIONAL, [], message_id=0, flags=0x28))
    forged[-1] ^= 1
    assert site.talk(bytes(forged)) is None and site.server.status(0)["ike_sas"] == 2
    early = old.seal(INFORMATIONAL, [], message_id=1, flags=0x28)
    assert site.talk(early) is None and site.server.status(0)["ike_sas"] == 2
    assert site.talk(old.seal(INFORMATIONAL, [], message_id=0, flags=0x28)) is None
    assert site.server.status(0)["ike_sas"] == 1
    site.unasked.clear()
    site.wait(20_000)
    assert site.unasked == []


def test_idle_ike_sas_are_closed(site):
    gm = site.gm()
    site.wait(599_000)
    gm.take_group(gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION))
    site.wait(599_000)
    assert site.unasked == []
    assert gm.open(site.talk(gm.seal(INFORMATIONAL, [])), INFORMATIONAL) == []  # no sign of use
    site.wait(2_000)
    assert gm.open(site.unasked[0].data, INFORMATIONAL, 0, flags=0) == [(DELETE, DELETE_IKE)]
    crossing = gm.seal(INFORMATIONAL, [(DELETE, DELETE_IKE)])
    assert gm.open(site.talk(crossing), INFORMATIONAL) == []
    site.wait(60_000)
    assert site.server.status(site.now)["ike_sas"] == 0
    assert len(site.unasked) <= 2
    assert site.server.status(site.now)["groups"]["line1"]["members"] == ["press-7"]


def test_half_open_ike_sas_are_bounded_in_number_and_time(site, monkeypatch):
    monkeypatch.setattr(table, "MOST_UNPROVEN", 20)
    for i in range(table.MOST_UNPROVEN):
        assert site.talk(ForeignGM().sa_init(), f"a{i}")
    assert site.talk(ForeignGM().sa_init()) is None
    assert drops(site, "half_open_full") == 1
    site.wait(table.UNPROVEN_MS + 1)
    assert site.server.status(0)["ike_sas"] == 0
    assert drops(site, "half_open_expired") == table.MOST_UNPROVEN
    site.gm()
    site.gm("lamp-1")


def test_ended_ike_sas_make_room(site, monkeypatch):
    monkeypatch.setattr(table, "MOST_UNPROVEN", 3)
    gms = [site.connect(ForeignGM(psk=b"x" * 32), f"a{i}") for i in range(3)]
    assert site.talk(ForeignGM().sa_init()) is None
    requests = [gm.gsa_auth() for gm in gms[:2]]
    answers = []
    for request in requests:
        answers.append(site.talk(request))
        site.now += 10
    site.gm()  # in place of the one that ended first
    assert site.talk(requests[0]) is None
    assert site.talk(requests[1]) == answers[1]


def test_an_answer_goes_where_the_request_came_from(site):
    gm = site.gm()
    outs = site.server.receive(gm.seal(INFORMATIONAL, []), "new", site.now)
    assert [o.address for o in outs] == ["new"]
    site.wait(601_000)
    assert {o.address for o in site.unasked} == {"new"}  # an authentic message moved it


# Anything at all


@pytest.fixture(scope="module")
def wire(tmp_path_factory):
    """A server with a half-open and an open IKE SA, and genuine requests for both."""
    site = Site(tmp_path_factory.mktemp("wire") / "state.db", TWO)
    site.add("press-7", ["line1", "line2"])
    half, whole = site.connect(ForeignGM(psk=KEY, wants=1), "h"), site.gm(wants=1)
    requests = [
        ForeignGM().sa_init(),
        ForeignGM().sa_init([ike_proposal(1, (256, 128), (3, 1)), ike_proposal(2)]),
        half.gsa_auth(sag=sag()),
        whole.gsa_registration(sag=sag()),
        whole.seal(INFORMATIONAL, [(DELETE, DELETE_IKE)], message_id=2),
        whole.seal(INFORMATIONAL, [], message_id=0, flags=0x28),
    ]
    return site, requests


_EDITS = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(1, 255)) | st.integers(-40, 40),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 5), _EDITS, st.booleans())
def test_mutated_messages_never_raise_and_change_nothing(wire, which, edits, mend):
    site, requests = wire
    before = (
        site.revision(),
        set(site.server._responder._proven),
        site.server._groups["line1"].epoch,
    )
    data = bytearray(requests[which])
    for edit in edits:
        if isinstance(edit, tuple):
            data[edit[0] % len(data)] ^= edit[1]
        elif edit < 0:
            del data[edit:]
        else:
            data += bytes(edit)
        if not data:
            return
    if mend and len(data) >= 28:
        data[24:28] = struct.pack(">I", len(data))
    if bytes(data) in requests:
        return
    for out in site.server.receive(bytes(data), "x", site.now):
        assert out.address == "x"
        assert out.data[18] != GSA_AUTH or out.data[17] == 0x20
        assert GSA not in out.data[28:29] and KD not in out.data[28:29]
    after = (
        site.revision(),
        set(site.server._responder._proven),
        site.server._groups["line1"].epoch,
    )
    assert after == before
    assert len(site.server._responder._sas) <= table.MOST_UNPROVEN + 2


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60), st.booleans()), max_size=8))
def test_any_payloads_in_a_genuine_envelope_are_answered(wire, payloads):
    """A member gone mad, with the right keys: an answer always, an exception never."""
    site, _ = wire
    site.now += table.UNPROVEN_MS + 1
    site.server.step(site.now)
    gm = site.connect(ForeignGM(psk=KEY), "m")
    inner = chain([p for p in payloads if p[0]])
    answer = site.talk(gm.seal(GSA_AUTH, [], octets=inner), "m")
    assert notifies(gm.open(answer, GSA_AUTH)) in ([INVALID_SYNTAX], [UNSUPPORTED_CRITICAL])
    gm = site.connect(ForeignGM(psk=KEY), "m")
    site.ask(gm, "m")
    answer = site.talk(gm.seal(GSA_REGISTRATION, [], octets=inner), "m")
    assert answer is not None
    assert header(gm.spi_i, gm.spi_r, 46, GSA_REGISTRATION, 0x20, 2, len(answer)) == answer[:28]
