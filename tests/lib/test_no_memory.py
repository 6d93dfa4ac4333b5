"""Memory that runs out once, in the middle of what a key server said: nothing stays half done."""

from covey import exchange, ike, membership, registration
from gcks_peer import Gcks
from life import INBAND, SPIS, Life
from talk import PSK, Talk


def _full(*_, **__):
    raise MemoryError


class _Full:
    """While inside, one function of a module or an object finds no memory."""

    def __init__(self, place, name):
        self.place, self.name = place, name

    def __enter__(self):
        self.saved = getattr(self.place, self.name)
        setattr(self.place, self.name, _full)

    def __exit__(self, *_):
        setattr(self.place, self.name, self.saved)


def _asked(**fields):
    """A life whose GSA_AUTH is out → (life, the server's answer)."""
    life = Life(registered=False, retransmit={"first_ms": 500}, **fields)
    life.gcks = Gcks(PSK)
    (init,) = life.run()
    auth = life.hear(life.gcks.answer_init(init))
    life.sa = life.gcks.sa
    return life, auth, life.gcks.answer_auth(auth, life.keys(0)(life.sa))


def test_the_answer_to_gsa_auth_comes_again():
    for place, name in (
        (exchange.ike, "parse_chain"),  # when it is open
        (registration, "error_of"),
        (registration, "Unicast"),  # when the server is proven
    ):
        life, auth, answer = _asked()
        with _Full(place, name):
            assert life.hear(answer) == []
        assert life.drops == {"capacity": 1}
        assert life.run(600) == auth  # sent again
        life.hear(answer)
        assert life.it.state == membership.MEMBER and life.outbound == SPIS[0]


def test_a_registration_that_can_not_go_on_begins_anew():
    life, _, answer = _asked()
    with _Full(life.it._ike, "_end_handshake"):
        life.it.unicast(answer, life.now_ms)
    assert life.run() == [] and life.it.state == membership.REGISTERING
    assert life.it._ike.state == registration.FAILED and life.run(9900) == []
    init = life.run(10200)[0]
    assert ike.parse_header(init).exchange == ike.IKE_SA_INIT


def test_a_policy_that_can_not_be_read_is_asked_for_again():
    life, _, answer = _asked()
    with _Full(registration.gsa, "parse_gsa"):
        assert life.hear(answer) == []
    assert life.it.state == membership.REGISTERING and life.drops == {"capacity": 1}
    assert life.run(9900) == []
    pull = life.run(10200)[0]
    assert life.sa.open(pull)[0].exchange == ike.GSA_REGISTRATION
    life.hear(life.sa.answer(pull, life.keys(0)(life.sa)))
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[0]


def test_what_was_to_come_of_an_answer_is_asked_for_again():
    life, _, answer = _asked()
    with _Full(life.it._keys, "take"):
        assert life.hear(answer) == []
    pull = life.run(10100)[0]
    life.hear(life.sa.answer(pull, life.keys(0)(life.sa)))
    assert life.it.state == membership.MEMBER and life.drops == {"capacity": 1}


def test_an_inband_rekey_that_is_lost_is_asked_for():
    life = Life()
    life.it.listening_changed = False
    with _Full(life.it._keys, "take_inband"):
        assert len(life.hear(life.sa.request(INBAND, life.more(1)))) == 1
    assert life.it.listening_changed
    (pull,) = life.run(10100)
    life.hear(life.sa.answer(pull, life.keys(1, sender_id=0x42)(life.sa)))
    assert life.outbound == SPIS[1] and life.drops == {"capacity": 1}


def test_a_step_goes_on_later():
    life = Life()
    with _Full(life.it, "_timers"):
        assert life.it.step(life.now_ms) == 1000
    assert life.it.state == membership.MEMBER and life.outbound == SPIS[0]
    (pull,) = life.run(10100)
    assert life.sa.open(pull)[0].exchange == ike.GSA_REGISTRATION


def _outcome(receive, *args):
    """Memory is short in the middle of it."""
    try:
        receive(*args)
    except MemoryError:
        return
    raise AssertionError("memory was enough")


def test_answers_and_requests_over_an_ike_sa_come_again():
    talk = Talk().registered()
    sa = talk.gcks.sa
    assert talk.gm.pull(talk.now_ms)
    (pull,) = talk.sent()
    answer = sa.answer(pull, talk.granted())
    with _Full(exchange.ike, "parse_chain"):
        _outcome(talk.gm.receive, answer, talk.now_ms)
    assert talk.next(600) == (500, [pull])
    talk.take(answer)
    assert talk.gm.take_outcome() == registration.REGISTERED
    for exchange_type, payloads in ((ike.INFORMATIONAL, []), (INBAND, [])):
        request = sa.request(exchange_type, payloads)
        with _Full(exchange.ike, "seal_message"):
            _outcome(talk.gm.receive, request, talk.now_ms)
        (answer,) = talk.take(request)
        assert sa.open(answer)[1] == []
        assert talk.take(request) == [answer]
    assert talk.gm.take_inband() is not None and talk.gm.take_inband() is None


def test_a_pull_leaves_later():
    talk = Talk().registered()
    with _Full(exchange.ike, "seal_message"):
        assert talk.gm.pull(talk.now_ms)
    assert talk.drops == {"capacity": 1}
    (pull,) = talk.sent()
    talk.take(talk.gcks.sa.answer(pull, talk.granted()))
    assert talk.gm.take_outcome() == registration.REGISTERED


def test_our_rekey_leaves_later():
    talk = Talk(ike_lifetime_s=1000, liveness_s=0).registered()
    with _Full(exchange.ike, "seal_message"):
        _outcome(talk.next, 1000000)
    (request,) = talk.sent()
    header, payloads = talk.gcks.sa.open(request)
    assert header.exchange == ike.CREATE_CHILD_SA
    answer, new = talk.gcks.answer_rekey(talk.gcks.sa, payloads)
    (delete,) = talk.take(talk.gcks.sa.answer(request, answer))
    assert talk.gcks.sa.open(delete)[0].exchange == ike.INFORMATIONAL
