"""Rekey of the IKE SA: by the server, by us, by both at once, and what can go wrong."""

from covey import ike, registration
from gcks_peer import DELETE_IKE, nonce_of, notify, policy, proposal
from talk import Talk

_CHILD = ike.CREATE_CHILD_SA
_INFO = ike.INFORMATIONAL


def _begin(**changes):
    fields = {"liveness_s": 0}
    fields.update(changes)
    return Talk(**fields).registered()


def _by_server(talk, letter=b"a", source=None):
    """The server rekeys → (its request, the answer, the new SA at the server)."""
    old = talk.gcks.sa
    request = old.request(_CHILD, talk.gcks.begin_rekey(old, letter))
    (answer,) = talk.take(request, source)
    header, payloads = old.open(answer)
    assert (header.exchange, header.message_id) == (_CHILD, old.next_id - 1)
    return request, answer, talk.gcks.finish_rekey(old, payloads)


def _wants_rekey(talk):
    """Let the IKE SA's age come → the member's CREATE_CHILD_SA."""
    _, (request,) = talk.next(1000000)
    header, payloads = talk.gcks.sa.open(request)
    assert header.exchange == _CHILD
    return request, payloads


def _pull_over(talk, sa, message_id):
    """The member asks over this SA, with this Message ID; it is answered."""
    assert talk.gm.pull(talk.now_ms)
    (pull,) = talk.sent()
    header, _ = sa.open(pull)
    assert (header.exchange, header.message_id) == (ike.GSA_REGISTRATION, message_id)
    granted = policy(sa.kwk, b"\5\6\7\x08", with_rekey_sa=True, sender_id=66)
    talk.take(sa.answer(pull, granted + [notify(ike.USE_TRANSPORT_MODE)]))
    assert talk.gm.take_outcome() == registration.REGISTERED
    assert talk.gm.kwk == sa.kwk  # GSK_w is that of the IKE SA over which the keys came


def _live(talk):
    return len(talk.gm.sas)


# By the server


def test_the_server_rekeys():
    talk = _begin()
    old = talk.gcks.sa
    request, answer, new = _by_server(talk)
    assert new.kwk != old.kwk
    assert talk.take(request) == [answer]  # it was lost
    (last,) = talk.take(old.request(_INFO, [DELETE_IKE]))
    assert old.open(last)[1] == [] and talk.gm.state == registration.REGISTERED
    assert _live(talk) == 1
    _pull_over(talk, new, 0)
    (answer,) = talk.take(new.request(_INFO, []))
    header, payloads = new.open(answer)
    assert header.message_id == 0 and payloads == [] and talk.drops == {}
    talk.gcks.sa = new
    for letter in (b"b", b"c"):  # and again, over each of its successors
        old = talk.gcks.sa
        _, _, talk.gcks.sa = _by_server(talk, letter)
        talk.take(old.request(_INFO, [DELETE_IKE]))
    _pull_over(talk, talk.gcks.sa, 0)
    assert _live(talk) == 1


def test_data_flow_while_it_is_worked_out():
    """Slices; a repeat meanwhile is ignored, other messages are answered, the pull goes on."""
    talk = _begin()
    old = talk.gcks.sa
    request = old.request(_CHILD, talk.gcks.begin_rekey(old))
    assert talk.gm.receive(request, 0) == 0
    slices = 0
    while talk.gm.step(0) == 0 and talk.gm.take_outgoing() is None:
        slices += 1
        if slices == 100:
            assert talk.gm.receive(request, 0) == 0  # again, while there is no answer
            assert talk.gm.take_outgoing() is None
            early = old.request(_INFO, [])
            assert talk.hear_only(early) == "ike_message_id"  # its window is one
    assert slices > 400  # two products of 255 steps
    answer = talk.take(request)
    assert len(answer) == 1 and len(talk.take(early)) == 1


def test_the_old_one_serves_until_its_delete_or_for_a_while():
    talk = _begin()
    old = talk.gcks.sa
    _, _, new = _by_server(talk)
    assert len(talk.take(old.request(_INFO, []))) == 1
    talk.later(29000)
    assert len(talk.take(old.request(_INFO, []))) == 1 and _live(talk) == 2
    talk.later(2000)
    assert _live(talk) == 1 and talk.hear(old.request(_INFO, [])) == ("ike_spi", [])
    _pull_over(talk, new, 0)


def test_a_pull_that_was_out_is_asked_again_over_the_new_one():
    talk = _begin()
    old = talk.gcks.sa
    assert talk.gm.pull(0)
    (pull,) = talk.sent()
    _, _, new = _by_server(talk)
    sent = talk.take(old.request(_INFO, [DELETE_IKE]))
    assert len(sent) == 2 and old.open(sent[0])[1] == []
    assert new.open(sent[1])[0].exchange == ike.GSA_REGISTRATION
    granted = policy(new.kwk, b"\5\6\7\x08", with_rekey_sa=True, sender_id=66)
    talk.take(new.answer(sent[1], granted))
    assert talk.gm.take_outcome() == registration.REGISTERED and talk.gm.kwk == new.kwk
    assert talk.hear(old.answer(pull, granted))[0] == "ike_spi"


def test_a_pull_that_was_out_may_be_answered_over_the_old_one():
    talk = _begin()
    old = talk.gcks.sa
    talk.gm.pull(0)
    (pull,) = talk.sent()
    _by_server(talk)
    talk.take(old.answer(pull, talk.granted()))
    assert talk.gm.take_outcome() == registration.REGISTERED and talk.gm.kwk == old.kwk


def test_what_the_server_proposes_is_chosen_from_in_its_order():
    many = [
        proposal(b"x" * 8, 256, ike.KW_5649_128, num=1),
        proposal(b"y" * 8, 128, ike.KW_5649_128, num=2),
        proposal(b"z" * 8, 256, ike.KW_5649_256, num=3),
    ]
    talk = _begin()
    old = talk.gcks.sa
    payloads = talk.gcks.begin_rekey(old, b"y", many)
    (answer,) = talk.take(old.request(_CHILD, payloads))
    new = talk.gcks.finish_rekey(old, old.open(answer)[1])
    assert len(new.kwk) == 16
    _pull_over(talk, new, 0)


def test_what_is_no_rekey_changes_nothing():
    talk = _begin()
    old = talk.gcks.sa
    good = talk.gcks.begin_rekey(old)
    cases = (
        ([good[0], good[1], (ike.KE, b"\0\x13\0\0" + bytes(64))], notify(17, b"\0\x1f")),
        (talk.gcks.begin_rekey(old, b"a", [proposal(b"x" * 8, 256, ike.KW_5649_128)]), notify(14)),
        (talk.gcks.begin_rekey(old, b"a", [proposal(b"")]), notify(14)),
        (good + [notify(ike.REKEY_SA, b"", 3, b"abcd")], notify(44, b"", 3, b"abcd")),
        (
            [(ike.SA, ike.emit_sa([ike.Proposal(1, ike.ESP, b"abcd", [])])), good[1]],
            notify(ike.NO_ADDITIONAL_SAS),
        ),
        (good + [(200, b"")], None),
    )
    for payloads, expected in cases:
        (answer,) = talk.take(old.request(_CHILD, payloads))
        if expected is not None:
            assert old.open(answer)[1] == [expected]
            assert _live(talk) == 1
    assert _live(talk) == 2 and talk.gm.state == registration.REGISTERED


def test_a_bad_public_value_ends_the_ike_sa():
    """RFC 7748 section 6.1: all zeros whatever our secret is. The server itself says so."""
    for public in (bytes(32), b"\1" + bytes(31)):
        talk = _begin()
        old = talk.gcks.sa
        ke = ike.emit_ke(ike.CURVE25519, public)
        (answer,) = talk.take(old.request(_CHILD, talk.gcks.begin_rekey(old, ke=ke)))
        assert old.open(answer)[1] == [notify(ike.INVALID_SYNTAX)]
        assert talk.gm.state == registration.CLOSED and talk.drops == {"ike_ke": 1}


def test_no_rekey_is_begun_while_we_go():
    talk = _begin()
    old = talk.gcks.sa
    talk.gm.leave(0)
    talk.sent()
    (answer,) = talk.take(old.request(_CHILD, talk.gcks.begin_rekey(old)))
    assert old.open(answer)[1] == [notify(ike.TEMPORARY_FAILURE)]
    assert talk.gm.state == registration.LEAVING


def test_a_delete_in_the_middle_of_the_work():
    talk = _begin()
    old = talk.gcks.sa
    talk.gm.receive(old.request(_CHILD, talk.gcks.begin_rekey(old)), 0)
    for _ in range(20):
        talk.gm.step(0)
    talk.gm.close()
    assert talk.sent() == [] and talk.gm.state == registration.CLOSED
    assert not talk.gm.jobs


def test_rekeys_without_a_delete_are_bounded():
    talk = _begin()
    sas = [talk.gcks.sa]
    for i in range(6):
        _, _, talk.gcks.sa = _by_server(talk, bytes([65 + i]))
        sas.append(talk.gcks.sa)
    assert _live(talk) == 3
    assert talk.hear(sas[0].request(_INFO, [])) == ("ike_spi", [])
    _pull_over(talk, sas[-1], 0)


def test_an_old_one_is_not_rekeyed_again():
    talk = _begin()
    old = talk.gcks.sa
    _by_server(talk)
    (answer,) = talk.take(old.request(_CHILD, talk.gcks.begin_rekey(old, b"n")))
    assert old.open(answer)[1] == [notify(ike.TEMPORARY_FAILURE)] and _live(talk) == 2


def test_a_full_memory_is_a_temporary_failure():
    from covey import ikerekey

    multiply = ikerekey.x25519.multiply

    def full(*_):
        yield
        raise MemoryError

    talk = _begin()
    old = talk.gcks.sa
    begun = talk.gcks.begin_rekey(old)
    ikerekey.x25519.multiply = full
    try:
        (answer,) = talk.take(old.request(_CHILD, begun))
    finally:
        ikerekey.x25519.multiply = multiply
    assert old.open(answer)[1] == [notify(ike.TEMPORARY_FAILURE)]
    assert talk.drops == {"capacity": 1} and talk.gm.state == registration.REGISTERED
    _, _, new = _by_server(talk)
    _pull_over(talk, new, 0)


def test_old_keys_are_not_forgotten_while_the_server_rekeys_in_vain():
    from covey import ikerekey

    multiply = ikerekey.x25519.multiply

    def full(*_):
        yield
        raise MemoryError

    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    begun = talk.gcks.begin_rekey(old)
    ikerekey.x25519.multiply = full
    try:
        assert talk.hear_only(old.request(_CHILD, begun)) is None
        talk.gm.renew_in(0)  # due while theirs is in work
        (answer,) = talk.sent()
    finally:
        ikerekey.x25519.multiply = multiply
    assert old.open(answer)[1] == [notify(ike.TEMPORARY_FAILURE)]
    gone, (request,) = talk.next(20000)
    assert gone == 10000 and old.open(request)[0].exchange == _CHILD


def test_a_memory_that_is_full_before_the_work_begins():
    """The request may come again, as if it had never been taken."""
    from covey import renewal

    answering = renewal.Answering

    def full(*_):
        raise MemoryError

    talk = _begin()
    old = talk.gcks.sa
    request = old.request(_CHILD, talk.gcks.begin_rekey(old))
    renewal.Answering = full
    try:
        talk.gm.receive(request, 0)
        raise AssertionError("no MemoryError")
    except MemoryError:
        pass
    finally:
        renewal.Answering = answering
    (answer,) = talk.take(request)
    new = talk.gcks.finish_rekey(old, old.open(answer)[1])
    _pull_over(talk, new, 0)


def test_secrets_of_a_rekey_are_gone_afterwards():
    talk = _begin()
    old = talk.gm.sas[0]
    begun = talk.gcks.begin_rekey(talk.gcks.sa)
    talk.gm.receive(talk.gcks.sa.request(_CHILD, begun), 0)
    theirs = talk.gm._renewal._swap.theirs
    talk.sent()
    assert theirs._secret == bytearray(32) and theirs._sk_d == bytearray(32)
    talk.take(talk.gcks.sa.request(_INFO, [DELETE_IKE]))
    assert old.sk_d == bytearray(32) and old._sealing is None


# By us


def test_we_rekey_when_the_keys_are_old():
    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    request, payloads = _wants_rekey(talk)
    assert [kind for kind, _ in payloads] == [ike.SA, ike.NONCE, ike.KE]
    assert talk.later(500) == [(500, [request])]
    answer, new = talk.gcks.answer_rekey(old, payloads)
    (delete,) = talk.take(old.answer(request, answer))
    assert old.open(delete)[1] == [DELETE_IKE]
    _pull_over(talk, new, 0)  # the Delete need not be answered before
    assert talk.take(old.answer(delete, [])) == []
    assert _live(talk) == 1 and talk.gm.state == registration.REGISTERED
    talk.gcks.sa = new
    _wants_rekey(talk)  # in its time again


def test_a_delete_that_nobody_answers_does_no_harm():
    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    request, payloads = _wants_rekey(talk)
    answer, new = talk.gcks.answer_rekey(old, payloads)
    talk.take(old.answer(request, answer))
    talk.later(40000)
    assert _live(talk) == 1 and talk.gm.state == registration.REGISTERED
    _pull_over(talk, new, 0)


def test_a_rekey_that_nobody_answers_ends_the_ike_sa():
    talk = _begin(ike_lifetime_s=1000)
    _wants_rekey(talk)
    talk.later(31000)
    assert (talk.gm.state, talk.gm.reason) == (registration.FAILED, "timeout")


def test_a_temporary_failure_is_tried_again_later():
    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    request, _ = _wants_rekey(talk)
    assert talk.take(old.answer(request, [notify(ike.TEMPORARY_FAILURE)])) == []
    assert talk.later(9900) == []
    at, (again,) = talk.next(10200)
    answer, new = talk.gcks.answer_rekey(old, old.open(again)[1])
    assert again != request and len(talk.take(old.answer(again, answer))) == 1
    _pull_over(talk, new, 0)


def test_a_refusal_does_not_end_the_ike_sa():
    for error, data in ((14, b""), (17, b"\0\x1f"), (35, b""), (8191, b"")):
        talk = _begin(ike_lifetime_s=1000)
        request, _ = _wants_rekey(talk)
        assert talk.take(talk.gcks.sa.answer(request, [notify(error, data)])) == []
        assert talk.gm.state == registration.REGISTERED
        assert talk.gm.pull(talk.now_ms) and len(talk.sent()) == 1


def test_an_answer_that_is_no_good_changes_nothing():
    for number in range(6):
        talk = _begin(ike_lifetime_s=1000)
        old = talk.gcks.sa
        request, payloads = _wants_rekey(talk)
        good, _ = talk.gcks.answer_rekey(old, payloads)
        bad = (
            ([good[0], good[1]], "ike_format"),
            ([(ike.SA, ike.emit_sa([proposal(b"")])), good[1], good[2]], "ike_proposal"),
            ([(ike.SA, ike.emit_sa([proposal(bytes(8))])), good[1], good[2]], "ike_proposal"),
            ([good[0], (ike.NONCE, b"short"), good[2]], "ike_format"),
            ([good[0], good[1], (ike.KE, b"\0\x1f\0\0" + bytes(32))], "ike_ke"),
            ([good[0], good[1], good[2], (200, b"")], None),
        )
        payloads, drop = bad[number]
        sent = talk.take(old.answer(request, payloads))
        assert talk.drops == ({drop: 1} if drop else {})
        assert (sent == []) == (drop is not None) and talk.gm.state == registration.REGISTERED
        assert _live(talk) == (1 if drop else 2)


def test_ours_gives_way_to_theirs_before_it_is_out():
    """Both keys are old at the same moment, and the server is faster."""
    talk = _begin(ike_lifetime_s=1000, retransmit={"total_s": 3600})
    old = talk.gcks.sa
    talk.gm.pull(0)
    (pull,) = talk.sent()  # occupies the window
    request = old.request(_CHILD, talk.gcks.begin_rekey(old))
    talk.later(901000)
    assert talk.gm._renewal._swap.ours.payloads is not None
    (answer,) = talk.take(request)
    new = talk.gcks.finish_rekey(old, old.open(answer)[1])
    assert talk.take(old.answer(pull, talk.granted())) == []
    talk.take(old.request(_INFO, [DELETE_IKE]))
    assert _live(talk) == 1 and talk.later(100000) == []
    _ = talk.gm.take_outcome()
    _pull_over(talk, new, 0)


# Both at once (RFC 7296 sections 2.8.1, 2.8.2)


def _at_once(our_letter, their_nonces, theirs_first):
    """Both ask. → (talk, old, SA of ours at the server, SA of theirs, what was sent last)

    their_nonces: of the server, in its own request and in its answer to ours.
    """
    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    talk.chance.letters = list(our_letter)
    request, payloads = _wants_rekey(talk)
    (mine,) = [body for kind, body in payloads if kind == ike.NONCE]
    assert mine == nonce_of(our_letter[0])
    begun = talk.gcks.begin_rekey(old, their_nonces[0])
    answer, ours = talk.gcks.answer_rekey(old, payloads, their_nonces[1])
    asked = old.request(_CHILD, begun)
    answered = old.answer(request, answer)
    sent = []
    if theirs_first:
        sent += talk.take(asked) + talk.take(answered)
    else:
        assert talk.gm.receive(answered, talk.now_ms) == 0  # and is worked on
        sent += talk.take(asked)
    reply = [data for data in sent if ike.parse_header(data).exchange == _CHILD]
    theirs = talk.gcks.finish_rekey(old, old.open(reply[0])[1])
    return talk, old, ours, theirs, [data for data in sent if data not in reply]


# nonces of: our request, our answer; the server's request, its answer
_OURS_LOWEST = ((b"A", b"y"), (b"m", b"n"))
_OURS_LOWEST_BY_THEIR_ANSWER = ((b"z", b"y"), (b"m", b"A"))
_THEIRS_LOWEST = ((b"z", b"y"), (b"A", b"n"))
_THEIRS_LOWEST_BY_OUR_ANSWER = ((b"z", b"A"), (b"m", b"n"))


def _letters(nonces):
    ours, theirs = nonces
    return [ours[0], ours[0], ours[1], ours[1]], theirs  # each nonce, then its X25519 secret


def test_both_at_once_and_ours_has_the_lowest_nonce():
    for nonces in (_OURS_LOWEST, _OURS_LOWEST_BY_THEIR_ANSWER):
        for theirs_first in (False, True):
            talk, old, ours, theirs, sent = _at_once(*_letters(nonces), theirs_first)
            (delete,) = sent
            assert ours.open(delete)[1] == [DELETE_IKE]  # ours goes, by us; the old one by them
            assert talk.take(ours.answer(delete, [])) == []
            (answer,) = talk.take(old.request(_INFO, [DELETE_IKE]))
            assert old.open(answer)[1] == [] and _live(talk) == 1
            _pull_over(talk, theirs, 0)


def test_both_at_once_and_theirs_has_the_lowest_nonce():
    for nonces in (_THEIRS_LOWEST, _THEIRS_LOWEST_BY_OUR_ANSWER):
        for theirs_first in (False, True):
            talk, old, ours, theirs, sent = _at_once(*_letters(nonces), theirs_first)
            (delete,) = sent
            assert old.open(delete)[1] == [DELETE_IKE]  # the old one goes, by us; theirs by them
            assert talk.take(old.answer(delete, [])) == []
            (answer,) = talk.take(theirs.request(_INFO, [DELETE_IKE]))
            assert theirs.open(answer)[1] == [] and _live(talk) == 1
            _pull_over(talk, ours, 0)


def test_both_at_once_and_the_server_has_settled_before_we_have():
    """Its Deletes come while we still compute."""
    for nonces in (_OURS_LOWEST, _THEIRS_LOWEST):
        talk = _begin(ike_lifetime_s=1000)
        old = talk.gcks.sa
        letters, their_nonces = _letters(nonces)
        talk.chance.letters = letters
        request, payloads = _wants_rekey(talk)
        (reply,) = talk.take(old.request(_CHILD, talk.gcks.begin_rekey(old, their_nonces[0])))
        theirs = talk.gcks.finish_rekey(old, old.open(reply)[1])
        answer, ours = talk.gcks.answer_rekey(old, payloads, their_nonces[1])
        assert talk.gm.receive(old.answer(request, answer), talk.now_ms) == 0
        gone = old if nonces is _OURS_LOWEST else theirs
        assert talk.gm.receive(gone.request(_INFO, [DELETE_IKE]), talk.now_ms) == 0
        assert talk.gm.jobs
        sent = talk.sent()
        assert len(sent) == 2 and gone.open(sent[0])[1] == []
        goes, stays = (ours, theirs) if nonces is _OURS_LOWEST else (old, ours)
        assert goes.open(sent[1])[1] == [DELETE_IKE]
        talk.take(goes.answer(sent[1], []))
        assert _live(talk) == 1
        _pull_over(talk, stays, 0)


def test_ours_is_out_and_the_server_deletes_the_old_one():
    """It has not seen ours: answered, and ours is forgotten (RFC 7296 section 2.25.2)."""
    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    request, payloads = _wants_rekey(talk)
    _, _, theirs = _by_server(talk, b"s")
    (answer,) = talk.take(old.request(_INFO, [DELETE_IKE]))
    assert old.open(answer)[1] == [] and _live(talk) == 1
    late, _ = talk.gcks.answer_rekey(old, payloads)
    assert talk.hear(old.answer(request, late)) == ("ike_spi", [])
    assert talk.later(40000) == []
    _pull_over(talk, theirs, 0)


def test_ours_is_out_and_the_server_ends_it_all():
    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    _wants_rekey(talk)
    (answer,) = talk.take(old.request(_INFO, [DELETE_IKE]))
    assert old.open(answer)[1] == []
    assert (talk.gm.state, talk.gm.reason) == (registration.CLOSED, "deleted")
    assert talk.gm.sas == [] and not talk.gm.jobs


def test_ours_is_refused_while_theirs_is_made():
    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    request, _ = _wants_rekey(talk)
    _, _, theirs = _by_server(talk, b"s")
    assert talk.take(old.answer(request, [notify(ike.TEMPORARY_FAILURE)])) == []
    talk.take(old.request(_INFO, [DELETE_IKE]))
    assert _live(talk) == 1
    _pull_over(talk, theirs, 0)


def test_a_request_over_another_one_does_not_disturb_ours():
    """Ours is out over the newest; the server still asks over the old one, and is refused."""
    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    _, _, new = _by_server(talk, b"s")
    talk.gm.renew_in(0)
    (request,) = talk.sent()
    _, payloads = new.open(request)
    (answer,) = talk.take(old.request(_CHILD, talk.gcks.begin_rekey(old, b"t")))
    assert old.open(answer)[1] == [notify(ike.TEMPORARY_FAILURE)]
    talk.gm.renew_in(0)
    assert talk.sent() == []  # nothing is begun twice
    answer, newest = talk.gcks.answer_rekey(new, payloads)
    (delete,) = talk.take(new.answer(request, answer))
    assert new.open(delete)[1] == [DELETE_IKE]
    _pull_over(talk, newest, 0)


def test_an_old_one_that_goes_takes_what_is_begun_over_it_along():
    """Both rekey, ours unanswered; the old one runs out of time instead of being deleted."""
    talk = _begin(ike_lifetime_s=1000)
    old = talk.gcks.sa
    _wants_rekey(talk)
    _, _, theirs = _by_server(talk, b"s")
    talk.later(31000)  # ours is given up with the old one
    assert _live(talk) == 1 and talk.gm._renewal._swap is None
    assert talk.gm.state == registration.REGISTERED
    talk.gm.renew_in(0)
    talk.gcks.sa = theirs
    request, _ = _wants_rekey(talk)
    assert ike.parse_header(request).spi_i == theirs.spi_i
    assert talk.hear(old.request(_INFO, [])) == ("ike_spi", [])
