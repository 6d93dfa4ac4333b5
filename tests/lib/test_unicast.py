"""An IKE SA after registration: liveness, Delete, windows, fragments, where answers go."""

from covey import ike, ikefrag, nat, registration
from covey.answering import Answers
from covey.exchange import IkeSA
from gcks_peer import DELETE_IKE, FRAGMENTS, Gcks, notify
from talk import HERE, THERE, Talk

_TOTAL_MS = 30000


def _again(request):
    return [(t, [request]) for t in (500, 1500, 3500, 7500, 15500)]


# Liveness


def test_a_silent_server_is_asked_and_its_answer_is_enough():
    talk = Talk().registered()
    assert talk.later(59000) == []
    ((at, (request,)),) = talk.later(1000)
    assert at == 1000
    header, payloads = talk.gcks.sa.open(request)
    assert (header.exchange, header.message_id, payloads) == (ike.INFORMATIONAL, 2, [])
    assert talk.later(500) == [(500, [request])]
    assert talk.take(talk.gcks.sa.answer(request, [])) == []
    assert talk.later(59000) == [] and len(talk.later(1000)) == 1
    assert talk.gm.state == registration.REGISTERED and talk.drops == {}


def test_an_answer_tells_when_it_was_asked_for():
    """First, that is: whoever sends again has waited. And when it came."""
    talk = Talk().registered()
    assert talk.gm.alive is None
    talk.later(1234)
    assert talk.gm.say([notify(40963, b"x")], talk.now_ms)
    assert not talk.gm.say([], talk.now_ms)
    asked_ms = talk.now_ms
    (request,) = talk.sent()
    talk.later(700)
    assert talk.take(talk.gcks.sa.answer(request, [])) == []
    assert talk.gm.alive == ([], asked_ms, talk.now_ms)
    assert talk.now_ms - asked_ms == 700


def test_an_answer_that_does_not_parse_is_none():
    """But a sign of life."""
    talk = Talk().registered()
    assert talk.gm.say([], talk.now_ms)
    (request,) = talk.sent()
    assert talk.hear(talk.gcks.sa.answer(request, [(ike.NOTIFY, b"")])) == ("ike_format", [])
    assert talk.gm.alive is None
    assert talk.gm.say([], talk.now_ms)


def test_whatever_is_genuine_counts_as_a_sign_of_life():
    talk = Talk().registered()
    talk.later(50000)
    assert len(talk.take(talk.gcks.sa.request(ike.INFORMATIONAL, []))) == 1
    assert talk.later(50000) == []
    forged = bytearray(talk.gcks.sa.request(ike.INFORMATIONAL, []))
    forged[-1] ^= 1
    assert talk.hear(bytes(forged)) == ("ike_tag", [])
    assert [at for at, _ in talk.later(11000)] == [10000, 10500]


def test_a_server_that_answers_no_more_is_given_up():
    talk = Talk().registered()
    ((_, (request,)),) = talk.later(60000)
    assert talk.later(_TOTAL_MS + 10000) == _again(request)
    assert (talk.gm.state, talk.gm.reason) == (registration.FAILED, "timeout")
    assert talk.gm.take_outcome() == registration.FAILED
    assert talk.gm.sas == [] and talk.gm.kwk == bytearray(32)
    assert talk.hear(talk.gcks.sa.answer(request, [])) == ("ike_spi", [])


def test_an_urgent_question_is_given_up_sooner_and_none_later():
    for most_s, end_ms in ((9, 9000), (100, _TOTAL_MS)):
        talk = Talk().registered()
        assert talk.gm.say([], talk.now_ms, most_s)
        talk.later(end_ms - 1)
        assert talk.gm.state == registration.REGISTERED
        talk.later(1)
        assert (talk.gm.state, talk.gm.reason) == (registration.FAILED, "timeout")


def test_liveness_can_be_switched_off():
    talk = Talk(liveness_s=0).registered()
    assert talk.later(10000000) == []


def test_one_request_at_a_time():
    """A pull waits for the answer to the liveness check; it is not lost."""
    talk = Talk().registered()
    ((_, (request,)),) = talk.later(60000)
    assert talk.gm.pull(talk.now_ms) and talk.sent() == []
    assert talk.gm.state == registration.PULLING and not talk.gm.leave(talk.now_ms)
    (pull,) = talk.take(talk.gcks.sa.answer(request, []))
    header, _ = talk.gcks.sa.open(pull)
    assert (header.exchange, header.message_id) == (ike.GSA_REGISTRATION, 3)
    talk.take(talk.gcks.sa.answer(pull, talk.granted()))
    assert talk.gm.take_outcome() == registration.REGISTERED


def test_an_error_in_the_answer_to_a_liveness_check():
    for error in (ike.TEMPORARY_FAILURE, 8191, ike.INVALID_SYNTAX):
        talk = Talk().registered()
        ((_, (request,)),) = talk.later(60000)
        assert talk.take(talk.gcks.sa.answer(request, [notify(error)])) == []
        is_end = error == ike.INVALID_SYNTAX  # RFC 7296 section 2.21.3
        assert talk.gm.state == (registration.CLOSED if is_end else registration.REGISTERED)


def test_answers_that_are_none():
    """Wrong exchange, Message ID, flags or keys: the genuine one is still awaited."""
    talk = Talk().registered()
    ((_, (request,)),) = talk.later(60000)
    sa = talk.gcks.sa
    head = ike.INFORMATIONAL, ike.FLAG_R, 2
    wrong = (
        (sa.seal(ike.CREATE_CHILD_SA, ike.FLAG_R, 2, []), "ike_exchange"),
        (sa.seal(ike.INFORMATIONAL, ike.FLAG_R, 1, []), "ike_message_id"),
        (sa.seal(ike.INFORMATIONAL, ike.FLAG_R, 3, []), "ike_message_id"),
        (sa.seal(ike.INFORMATIONAL, ike.FLAG_R | ike.FLAG_I, 2, []), "ike_header"),
        (request, "ike_header"),
        (sa.seal(*head, [])[:-1], "ike_header"),
    )
    for data, drop in wrong:
        assert talk.hear(data) == (drop, []), drop
    for kind in (ike.SK, ike.SKF):  # in clear, or with a hole where SK should be
        bare = ike.emit_ike_header(sa.spi_i, sa.spi_r, kind, *head, 28)
        assert talk.hear(bare) == ("ike_format", [])
    assert talk.gm.state == registration.REGISTERED
    assert talk.take(sa.answer(request, [])) == []
    assert talk.hear(sa.answer(request, [])) == ("ike_message_id", [])


def test_times_survive_the_wrap_of_the_clock():
    talk = Talk(now_ms=(1 << 30) - 70000).registered()
    ((at, (request,)),) = talk.later(60000)
    assert at == 60000 and talk.later(_TOTAL_MS) == _again(request)
    assert talk.gm.state == registration.FAILED


# The IKE SA's age


def test_an_ike_sa_whose_keys_are_too_old_is_deleted():
    """The server refuses to rekey it, and an IKE SA must not outlive its keys."""
    talk = Talk(ike_lifetime_s=1000, liveness_s=0).registered()
    at, (request,) = talk.next(901000)
    assert 800000 <= at <= 900000
    assert talk.gcks.sa.open(request)[0].exchange == ike.CREATE_CHILD_SA
    assert talk.take(talk.gcks.sa.answer(request, [notify(ike.NO_ADDITIONAL_SAS)])) == []
    assert talk.gm.state == registration.REGISTERED
    seen = talk.later(200000)
    assert len(seen) == 1 and talk.gcks.sa.open(seen[0][1][0])[1] == [DELETE_IKE]
    assert (talk.gm.state, talk.gm.reason) == (registration.CLOSED, "ike_lifetime")


# Where answers go (RFC 7296 section 2.11)


def test_answers_go_where_the_request_came_from():
    talk = Talk().registered()
    request = talk.gcks.sa.request(ike.INFORMATIONAL, [])
    (answer,) = talk.take(request, ("198.51.100.1", 4500, True))
    assert talk.places == [("198.51.100.1", 4500, True)]
    assert talk.take(request) == [answer] and talk.places == [nat.HOME]
    talk.gm.pull(0)
    talk.sent()
    assert talk.places == [nat.HOME]  # nobody is followed


# Fragments


def test_an_answer_in_fragments_in_any_order():
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        talk = Talk()
        auth = talk.take(talk.gcks.answer_init(talk.one()))
        parts = talk.gcks.answer_auth(auth, talk.granted(), 256)
        assert len(parts) == 3
        for i in order:
            assert talk.gm.state == registration.AUTH
            assert talk.take(parts[i]) == []
        assert talk.gm.state == registration.REGISTERED


def test_forged_and_doubled_fragments_are_counted_and_do_no_harm():
    talk = Talk()
    auth = talk.take(talk.gcks.answer_init(talk.one()))
    parts = talk.gcks.answer_auth(auth, talk.granted(), 256)
    forged = bytearray(parts[1])
    forged[-1] ^= 1
    talk.take(parts[0])
    assert talk.hear(bytes(forged)) == ("ike_tag", [])
    assert talk.hear(parts[0]) == ("ike_fragment", [])
    for part in parts[1:]:
        assert talk.gm.state == registration.AUTH
        talk.take(part)
    assert talk.gm.state == registration.REGISTERED
    assert talk.hear(parts[2]) == ("ike_message_id", [])


def test_fragments_that_nobody_agreed_upon():
    talk = Talk()
    auth = talk.take(talk.gcks.answer_init(talk.one(), ()))
    for part in talk.gcks.answer_auth(auth, talk.granted(), 256):
        assert talk.hear(part) == ("ike_format", [])
    talk.take(talk.gcks.answer_auth(auth, talk.granted()))
    assert talk.gm.state == registration.REGISTERED


def test_a_request_in_fragments_is_answered_once_and_by_its_first_again():
    talk = Talk(fragment_size=300).registered()
    padding = notify(40999, bytes(600))
    parts = talk.gcks.sa.request(ike.INFORMATIONAL, [padding], 256)
    assert len(parts) > 3
    answers = [talk.take(part) for part in parts]
    assert answers[:-1] == [[]] * (len(parts) - 1) and len(answers[-1]) == 1
    assert talk.take(parts[0]) == answers[-1]
    for part in parts[1:]:
        assert talk.hear(part) == ("ike_fragment", [])
    # cut anew by the server, which has the same meaning (RFC 7383 section 2.5.2)
    talk.gcks.sa.next_id -= 1
    anew = talk.gcks.sa.request(ike.INFORMATIONAL, [padding], 400)
    assert talk.take(anew[0]) == answers[-1]
    forged = bytearray(anew[0])
    forged[-1] ^= 1
    assert talk.hear(bytes(forged)) == ("ike_tag", [])
    assert len(talk.take(talk.gcks.sa.request(ike.INFORMATIONAL, []))) == 1


def test_our_own_messages_are_cut_where_the_server_takes_it():
    for size, count in ((300, 2), (1280, 1), (0, 1)):
        talk = Talk(fragment_size=size)
        auth = talk.take(talk.gcks.answer_init(talk.one()))
        assert len(auth) == count, size
        assert max([len(data) for data in auth]) <= (size or 1280) - 32
        seen = talk.later(500)
        assert seen == [(500, auth)]  # all of them again
        talk.take(talk.gcks.answer_auth(auth, talk.granted()))
        assert talk.gm.state == registration.REGISTERED
    talk = Talk(fragment_size=300)
    assert len(talk.take(talk.gcks.answer_init(talk.one(), ()))) == 1


def test_too_much_is_not_put_together():
    talk = Talk().registered()
    chunk = [notify(40999, bytes(1000))]
    head = talk.gcks.sa, ike.INFORMATIONAL
    refused = 0
    for number in range(1, 9):
        part = _part(*head, 0, number, 8, chunk)
        refused += talk.hear(part)[0] == "ike_fragment"
    assert refused > 0
    assert talk.hear(_part(*head, 0, 1, ikefrag.MOST_FRAGMENTS + 1, chunk))[0] == "ike_fragment"
    assert len(talk.take(talk.gcks.sa.request(ike.INFORMATIONAL, []))) == 1


def _part(sa, exchange, message_id, number, total, payloads):
    """One fragment by itself."""
    chain = ike.emit_chain(payloads)[1]
    head = sa.spi_i, sa.spi_r, exchange, 0, message_id
    return bytes(
        ikefrag._seal_part(
            sa._sealing, head, payloads[0][0], 1, total, chain, len(chain), sa._next_iv()
        )
        if number == 1
        else _seal_at(sa, head, number, total, chain)
    )


def _seal_at(sa, head, number, total, chain):
    padded = bytes(len(chain) * (number - 1)) + chain
    return ikefrag._seal_part(
        sa._sealing, head, 0, number, total, padded, len(chain), sa._next_iv()
    )


# Altered answers to IKE_SA_INIT


def test_two_answers_with_the_same_keys_never_share_an_iv():
    """Somebody takes N(IKEV2_FRAGMENTATION_SUPPORTED) out of a copy of the genuine answer.

    Both lead to the same keys. What we say to both must not use an IV twice, except to the bit.
    """
    for first in (0, 1):
        talk = Talk(fragment_size=300)
        request = talk.one()
        bare = talk.gcks.answer_init(request, ())
        whole = talk.gcks.answer_init(request)
        sent = talk.take((bare, whole)[first]) + talk.take((whole, bare)[first])
        assert len(sent) == 3
        ivs = {}
        for data in sent:
            is_fragment = ike.parse_header(data).next_payload == ike.SKF
            at = 36 if is_fragment else 32
            assert ivs.setdefault(data[at : at + 8], data) == data
        genuine = [data for data in sent if data[16] == ike.SKF]
        talk.take(talk.gcks.answer_auth(genuine, talk.granted()))
        assert talk.gm.state == registration.REGISTERED


# NAT


def _nat(source, destination, spi_r):
    spi_i = bytes([1] * 8)
    return (
        notify(ike.NAT_DETECTION_SOURCE_IP, ike.nat_detection(spi_i, spi_r, *source)),
        notify(ike.NAT_DETECTION_DESTINATION_IP, ike.nat_detection(spi_i, spi_r, *destination)),
        FRAGMENTS,
    )


_US, _IT, _OTHER = (HERE, 50000), (THERE, 848), (bytes((203, 0, 113, 9)), 7)


def _floating(source, destination, path="here", **changes):
    talk = Talk(path, **changes)
    request = talk.one()
    assert talk.places == [nat.HOME]
    more = _nat(source, destination, talk.gcks.spi_r)
    auth = talk.take(talk.gcks.answer_init(request, more))
    return talk, auth


def test_no_nat_no_float():
    talk, auth = _floating(_IT, _US)
    assert talk.places == [nat.HOME]
    talk.take(talk.gcks.answer_auth(auth, talk.granted()))
    assert [at for at, _ in talk.later(60000)] == [60000]  # no keep-alives


def test_whoever_is_behind_a_nat_we_float():
    for source, destination in ((_IT, _OTHER), (_OTHER, _US), (_OTHER, _OTHER)):
        talk, auth = _floating(source, destination)
        assert talk.places == [nat.FLOATED]
        assert talk.later(500) == [(500, auth)] and talk.places == [nat.FLOATED]
        talk.take(talk.gcks.answer_auth(auth, talk.granted()))
        talk.gm.pull(talk.now_ms)
        (pull,) = talk.sent()
        assert talk.places == [nat.FLOATED]
        assert talk.later(500) == [(500, [pull])] and talk.places == [nat.FLOATED]


def test_keep_alives_where_we_are_behind_a_nat_and_nothing_else_is_sent():
    talk, auth = _floating(_IT, _OTHER)
    talk.take(talk.gcks.answer_auth(auth, talk.granted()))
    assert talk.later(59000) == [(20000, [b"\xff"]), (40000, [b"\xff"])]
    assert talk.places == [nat.FLOATED]
    ((_, (request,)),) = talk.later(1000)  # liveness instead
    talk.take(talk.gcks.sa.answer(request, []))
    assert talk.later(20000) == [(20000, [b"\xff"])]
    talk, auth = _floating(_OTHER, _US)  # the server is, we are not
    talk.take(talk.gcks.answer_auth(auth, talk.granted()))
    assert talk.later(59000) == []


def test_behind_the_marker_we_stay_and_keep_alive():
    path = nat.Path(HERE, 50000, THERE, 848, True)
    talk, auth = _floating(_IT, _OTHER, path)
    assert talk.places == [nat.HOME]
    talk.take(talk.gcks.answer_auth(auth, talk.granted()))
    assert talk.later(20000) == [(20000, [b"\xff"])] and talk.places == [nat.HOME]


def test_an_address_that_nobody_can_tell_reads_as_a_nat():
    talk, _ = _floating(_IT, _US, nat.Path(None, 50000, THERE, 848, False))
    assert talk.places == [nat.FLOATED]


def test_one_of_several_addresses_of_the_server_is_enough():
    talk = Talk()
    request = talk.one()
    spi_i, spi_r = bytes([1] * 8), talk.gcks.spi_r
    other = notify(ike.NAT_DETECTION_SOURCE_IP, ike.nat_detection(spi_i, spi_r, *_OTHER))
    talk.take(talk.gcks.answer_init(request, (other,) + _nat(_IT, _US, spi_r)))
    assert talk.places == [nat.HOME]


def test_half_of_nat_detection_is_none():
    for at in (0, 1):
        talk = Talk()
        request = talk.one()
        half = _nat(_OTHER, _OTHER, talk.gcks.spi_r)[at]
        talk.take(talk.gcks.answer_init(request, (half,)))
        assert talk.places == [nat.HOME]


def test_a_forger_who_answers_first_moves_nobody_but_himself():
    talk = Talk()
    request = talk.one()
    forger = Gcks(bytes(16), b"f" * 32, bytes([9] * 32), b"forger!!")
    lies = _nat(_OTHER, _OTHER, b"forger!!")
    talk.take(forger.answer_init(request, lies))
    assert talk.places == [nat.FLOATED]
    truth = _nat(_IT, _US, talk.gcks.spi_r)
    auth = talk.take(talk.gcks.answer_init(request, truth))
    assert talk.places == [nat.HOME]
    talk.later(500)
    assert talk.places == [nat.FLOATED, nat.HOME]
    talk.take(talk.gcks.answer_auth(auth, talk.granted()))
    assert talk.gm.state == registration.REGISTERED
    talk.gm.pull(talk.now_ms)
    talk.sent()
    assert talk.places == [nat.HOME]


def test_an_altered_copy_of_the_genuine_answer_moves_nobody_either():
    """The same keys, other NAT hashes: GSA_AUTH is the same, and AUTH proves which is which."""
    for first in (0, 1):
        talk = Talk()
        request = talk.one()
        lie = talk.gcks.answer_init(request, _nat(_OTHER, _OTHER, talk.gcks.spi_r))
        truth = talk.gcks.answer_init(request, _nat(_IT, _US, talk.gcks.spi_r))
        auth = talk.take((lie, truth)[first])
        assert talk.take((truth, lie)[first]) == auth
        talk.take(talk.gcks.answer_auth(auth, talk.granted()))
        assert talk.gm.state == registration.REGISTERED
        talk.gm.pull(talk.now_ms)
        talk.sent()
        assert talk.places == [nat.HOME]


# One SA by itself


def test_an_ike_sa_answers_requests_in_order():
    talk = Talk().registered()
    sa = talk.gcks.sa
    second = sa.seal(ike.INFORMATIONAL, 0, 1, [])
    assert talk.hear(second) == ("ike_message_id", [])
    first = sa.seal(ike.INFORMATIONAL, 0, 0, [])
    (answer,) = talk.take(first)
    assert talk.take(first) == [answer] and len(talk.take(second)) == 1
    assert talk.hear(first) == ("ike_message_id", [])


def test_a_responder_has_its_own_keys_and_flag():
    keys = Talk().registered().gcks.keys.all
    a = IkeSA(b"i" * 8, b"r" * 8, keys, ike.KW_5649_256, True, 0)
    b = IkeSA(b"i" * 8, b"r" * 8, keys, ike.KW_5649_256, False, 0)
    a.ask(ike.INFORMATIONAL, [])
    (data,) = a.request
    header = ike.parse_header(data)
    assert header.flags == ike.FLAG_I and header.message_id == 0
    b.answers = Answers(b)
    assert b.answers.open(header, data) is not None and b.answers.is_awaited
    b.answers.reply([])
    (answer,) = b.answers.last
    header = ike.parse_header(answer)
    assert header.flags == ike.FLAG_R
    assert a.open_response(header, answer) == [] and a.request is None
    assert a.sk_d == b.sk_d == keys[ike.SK_D]
    b.wipe()
    assert b.sk_d == bytearray(32) and b.opening is None
