"""Memory that runs out once, in the middle of what a key server said: nothing stays half done."""

from covey import exchange, ike, membership, registration, unicast, x25519
from gcks_peer import Gcks
from life import INBAND, SPIS, Life
from talk import PSK, Talk

try:
    import micropython
except ImportError:
    micropython = None


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
        (exchange.ike, "parse_chain_job"),  # when it is open
        (registration.ike, "error_of"),
        (registration.Registration, "begin"),  # when the server is proven
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
    with _Full(registration.gsa, "parse_gsa_job"):
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
    with _Full(exchange.ike, "parse_chain_job"):
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


def test_a_request_without_patience_is_none():
    talk = Talk().registered()
    with _Full(unicast, "Patience"):
        assert talk.gm.pull(talk.now_ms)
    assert talk.drops == {"capacity": 1}
    (pull,) = talk.sent()
    talk.take(talk.gcks.sa.answer(pull, talk.granted()))
    assert talk.gm.take_outcome() == registration.REGISTERED


def test_a_request_that_finds_no_place_to_leave_is_sent_again():
    talk = Talk().registered()
    with _Full(talk.gm, "put"):
        assert talk.gm.pull(talk.now_ms)
    assert talk.drops == {"capacity": 1} and talk.sent() == []
    ((_, (pull,)),) = talk.later(500)
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


# The whole of it, on boards: a registration and a rekey, while there is no heap in any one call.

_STRIDE = 17  # of some 1,100 calls, these


class _Locked:
    """A member whose calls from `first` on, `count` of them, find no heap; what carries its
    datagrams copes as covey.aio does. Its server answers what it hears.
    """

    def __init__(self, first, count):
        self.life = life = Life(registered=False, retransmit={"first_ms": 500, "total_s": 5})
        self.first, self.end = first, first + count
        self.calls = 0
        self.number = 0  # of the keys that the server gives
        self.step, self.unicast = life.it.step, life.it.unicast
        life.it.step, life.it.unicast = self._step, self._unicast

    def _step(self, now_ms):
        return self._call(self.step, now_ms)

    def _unicast(self, data, now_ms):
        self._call(self.unicast, data, now_ms)

    def _call(self, call, *args):
        self.calls += 1
        if not self.first <= self.calls < self.end:
            return call(*args)
        one = args[0]
        two = args[-1]
        is_step = call is self.step
        micropython.heap_lock()
        try:
            return call(one) if is_step else call(one, two)
        except MemoryError:
            self.life.it.listening_changed = True
            return 50
        finally:
            micropython.heap_unlock()

    def go_on(self, ms):
        for _ in range(0, ms, 100):
            sent = self.life.run(100)
            while sent:
                sent = self._answers(sent)

    def _answers(self, sent):
        life, out = self.life, []
        for data in sent:
            header = ike.parse_header(data)
            keys = life.keys(self.number)
            if header.flags & ike.FLAG_R:
                continue
            if header.exchange == ike.IKE_SA_INIT:
                life.gcks = Gcks(PSK)
                out += life.hear(life.gcks.answer_init(data))
                life.sa = life.gcks.sa
            elif header.exchange == ike.GSA_AUTH:
                out += life.hear(life.gcks.answer_auth([data], keys(life.sa)))
            else:
                is_pull = header.exchange == ike.GSA_REGISTRATION
                out += life.hear(life.sa.answer(data, keys(life.sa) if is_pull else []))
        return out

    def until(self, is_so):
        for _ in range(60):
            if is_so():
                return
            self.go_on(1000)
        raise AssertionError((self.first, self.life.drops, self.life.it.reason))


def _known(multiply):
    """x25519.multiply, but each product is worked out once."""
    products = {}

    def job(scalar, u):
        key = bytes(scalar), bytes(u)
        yield
        if key not in products:
            products[key] = bytes((yield from multiply(scalar, u)))
        yield
        return bytearray(products[key])

    return job


def _one_life(first, count):
    """→ calls that it took"""
    it = _Locked(first, count)
    life = it.life
    it.go_on(100)
    it.until(lambda: life.it.state == membership.MEMBER)
    it.number = 1
    request = life.sa.request(INBAND, life.more(1))
    for _ in range(4):
        if life.hear(request):
            break
        it.go_on(600)
    it.until(lambda: life.outbound == SPIS[1])
    it.go_on(1000)
    assert life.it.state == membership.MEMBER, first
    life.it.wipe()
    return it.calls


def test_no_heap_in_any_one_call():
    if micropython is None:
        return
    real = x25519.multiply
    x25519.multiply = _known(real)
    try:
        calls = _one_life(-1, 0)
        assert calls > 500
        for count in (1, 3):
            for first in range(1, calls, _STRIDE):
                _one_life(first, count)
    finally:
        x25519.multiply = real
