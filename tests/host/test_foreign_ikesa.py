"""Our key server and its IKE SAs, with a foreign member: liveness, Delete, and rekeying by either.

RFC 7296 sections 1.3.2, 1.4, 2.8, 2.18, 2.25. That an IKE SA is new is proven by a pull: the keys
in it are wrapped under its GSK_w (RFC 9838 section 3.1).
"""

import struct

import pytest

from foreign_citizen import DELETE_IKE
from foreign_city import NAMES, City
from foreign_gm import (
    CREATE_CHILD_SA,
    INFORMATIONAL,
    INVALID_KE,
    KE,
    NO_PROPOSAL_CHOSEN,
    NONCE,
    NOTIFY,
    SA,
    key_length,
    notification,
    proposal,
    sa_body,
    transform,
)
from foreign_ikesa import answer_rekey

INVALID_SYNTAX, NO_ADDITIONAL_SAS, TEMPORARY_FAILURE, CHILD_SA_NOT_FOUND = 7, 35, 43, 44
REKEY_SA = 16393
TSI, TSR = 44, 45


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    made = City(tmp_path_factory.mktemp("hasty"), settings='ike_lifetime = "10s"')
    yield made
    made.clear()
    made.close()


@pytest.fixture(scope="module")
def crowd(hasty):
    """They all register at once: the server's ten seconds pass for all together."""
    names = dict(zip(STORIES, NAMES, strict=False))
    return {story: hasty.gm(name).connect().join() for story, name in names.items()}


@pytest.fixture(scope="module")
def running(tmp_path_factory, crowd):
    """The crowd's ten seconds begin with the first test."""
    made = City(tmp_path_factory.mktemp("city"))
    yield made
    made.close()


@pytest.fixture
def city(running):
    yield running
    running.clear()


def test_liveness_and_notifications(city):
    gm = city.gm().connect().join()
    for payloads in (
        [],
        [notification(40999, b"status")],
        [notification(8000, b"error")],
        [notification(16384)],
        [(NOTIFY, b"\x03\x04\x9f\xff" + b"spi-" + b"data")],
        [(200, b"later")],
    ):
        assert gm.talk(INFORMATIONAL, payloads) == []
    assert gm.talk(INFORMATIONAL, [(200, b"", True)]) == [notification(1, b"\xc8")]
    gm.pull()


def test_delete_by_the_member(city):
    gm = city.gm().connect().join()
    gm.end()
    gm.silence(INFORMATIONAL, [])
    assert gm.name.decode() in city.members()  # it has a Rekey SA: section 2.3.3


def test_delete_by_the_server(city):
    gm = city.gm("crane").connect().join()
    city.covey("member", "remove", "crane")
    assert gm.serve().payloads == [DELETE_IKE]
    gm.silence(INFORMATIONAL, [])


def test_rekeyed_by_the_member(city):
    gm = city.gm().connect().join()
    wraps, sas = {gm.gsk_w}, {(gm.sa.spi_i, gm.sa.spi_r)}
    for choices in ([(128, 1)], [(128, 3)], [(192, 2), (256, 3)], [(256, 3), (128, 1)]):
        old = gm.rekey_ike(choices=choices)
        gm.silence(INFORMATIONAL, [], sa=old, timeout_s=0.1)
        gm.pull()
        wraps.add(gm.gsk_w)
        sas.add((gm.sa.spi_i, gm.sa.spi_r))
    assert len(wraps) == len(sas) == 5
    assert (gm.sa.bits, gm.sa.kwa) == (256, 3)


def test_the_old_one_is_good_until_its_delete(city):
    gm = city.gm().connect().join()
    old = gm.rekey_ike(delete_old=False)
    assert gm.talk(INFORMATIONAL, [], sa=old) == []
    gm.pull()
    assert gm.talk(INFORMATIONAL, [], sa=old) == []
    assert gm.talk(INFORMATIONAL, [DELETE_IKE], sa=old) == []
    gm.silence(INFORMATIONAL, [], sa=old)
    gm.pull()


def refused(gm, **how):
    return gm.talk(CREATE_CHILD_SA, gm.rekeying(**how).payloads())


def test_what_is_no_rekey_of_an_ike_sa(city):
    """The IKE SA stands, and a good one is taken after all."""
    gm = city.gm().connect().join()
    assert refused(gm, choices=[(192, 2)]) == [notification(NO_PROPOSAL_CHOSEN)]
    assert refused(gm, choices=[(128, 0)]) == [notification(NO_PROPOSAL_CHOSEN)]  # no KWA
    wrong_ke = {"method": 19, "value": bytes(64)}
    assert refused(gm, **wrong_ke) == [notification(INVALID_KE, b"\0\x1f")]
    gm.rekey_ike()
    gm.pull()


ESP = sa_body([proposal(1, 3, [transform(1, 20, key_length(128)), transform(5, 0)])])
SELECTOR = b"\1\0\0\0" + struct.pack(">BBHHH", 7, 0, 16, 0, 65535) + bytes(4) + b"\xff" * 4
CHILD = [(SA, ESP), (NONCE, bytes(32)), (TSI, SELECTOR), (TSR, SELECTOR)]


def test_there_are_no_child_sas(city):
    gm = city.gm().connect().join()
    assert gm.talk(CREATE_CHILD_SA, CHILD) == [notification(NO_ADDITIONAL_SAS)]
    with_ke = [*CHILD[:2], (KE, b"\0\x1f\0\0" + bytes(32)), *CHILD[2:]]
    assert gm.talk(CREATE_CHILD_SA, with_ke) == [notification(NO_ADDITIONAL_SAS)]
    old = struct.pack(">BBH", 3, 4, REKEY_SA) + b"spi-"
    not_found = struct.pack(">BBH", 3, 4, CHILD_SA_NOT_FOUND) + b"spi-"
    assert gm.talk(CREATE_CHILD_SA, [(NOTIFY, old), *CHILD]) == [(NOTIFY, not_found)]
    gm.pull()


def test_a_malformed_rekey_ends_it(city):
    gm = city.gm().connect().join()
    payloads = gm.rekeying().payloads()
    assert gm.talk(CREATE_CHILD_SA, payloads[:1]) == [notification(INVALID_SYNTAX)]
    gm.silence(INFORMATIONAL, [])


def test_nobody_rekeys_who_has_proven_nothing(city):
    gm = city.gm().connect()
    gm.silence(CREATE_CHILD_SA, gm.rekeying().payloads())


def test_not_while_it_is_being_closed(city):
    """Section 2.25.1: the server has sent its Delete, which we have not seen yet."""
    gm = city.gm("forge").connect().join()
    city.covey("member", "remove", "forge")
    assert refused(gm) == [notification(TEMPORARY_FAILURE)]
    assert gm.serve(exchange=INFORMATIONAL).payloads == [DELETE_IKE]


# Our key server begins


def is_request(exchange):
    return lambda sa, m: not m.is_response and m.exchange == exchange


def answered_simply(gm):
    old, wrap = gm.sa, gm.gsk_w
    assert gm.serve(exchange=CREATE_CHILD_SA)
    assert gm.sa is not old and not gm.sa.initiator and gm.gsk_w != wrap
    gm.pull()
    assert gm.serve(exchange=INFORMATIONAL).payloads == [DELETE_IKE] and old.ended
    gm.pull()
    gm.rekey_ike()  # and now the other way round
    gm.pull()


LOW, HIGH = bytes(16), b"\xff" * 256


def collides(nonce, answer_nonce):
    """Section 2.8.1: both ask; of the two new IKE SAs that of the lowest nonce is too much."""

    def story(gm):
        old = gm.sa
        gm.nonce = nonce
        theirs = gm.next(is_request(CREATE_CHILD_SA))
        ours = gm.rekeying()
        message_id, datagrams = old.request(CREATE_CHILD_SA, ours.payloads())
        for data in datagrams:
            gm.wire.send(data)
        payloads, their_sa = answer_rekey(old, theirs.payloads, (old.bits, old.kwa), answer_nonce)
        answer = gm.next(lambda sa, m: m.is_response and m.message_id == message_id)
        our_sa = ours.take(answer.payloads)
        gm.use(their_sa)
        gm.use(our_sa)
        gm.reply(old, theirs, payloads)
        mine_goes = our_sa.lowest < their_sa.lowest
        assert nonce == answer_nonce or mine_goes == (nonce == LOW)
        redundant, gm.sa = (our_sa, their_sa) if mine_goes else (their_sa, our_sa)
        # whoever made the redundant one deletes it, the other deletes the old one
        ended_by_us, ended_by_server = (redundant, old) if mine_goes else (old, redundant)
        assert gm.talk(INFORMATIONAL, [DELETE_IKE], sa=ended_by_us) == []
        assert gm.serve(exchange=INFORMATIONAL).payloads == [DELETE_IKE]
        assert ended_by_server.ended
        gm.silence(INFORMATIONAL, [], sa=ended_by_us, timeout_s=0.1)
        gm.pull()

    return story


def refuses(type, data=b""):
    def story(gm):
        gm.on[CREATE_CHILD_SA] = lambda sa, message: [notification(type, data)]
        assert gm.serve(exchange=CREATE_CHILD_SA)
        gm.pull()
        assert gm.serve(1, CREATE_CHILD_SA) is None  # not at once again
        gm.pull()

    return story


def deletes_instead(gm):
    assert gm.next(is_request(CREATE_CHILD_SA))
    gm.end()
    gm.silence(INFORMATIONAL, [])


STORIES = {
    "answered": answered_simply,
    "both, ours is too much": collides(LOW, HIGH),
    "both, the server's is too much": collides(HIGH, LOW),
    "both, by the server's nonces": collides(HIGH, HIGH),
    "TEMPORARY_FAILURE": refuses(TEMPORARY_FAILURE),
    "NO_PROPOSAL_CHOSEN": refuses(NO_PROPOSAL_CHOSEN),
    "deleted meanwhile": deletes_instead,
}


@pytest.mark.parametrize("story", STORIES)
def test_rekeyed_by_the_server(crowd, story):
    STORIES[story](crowd[story])
