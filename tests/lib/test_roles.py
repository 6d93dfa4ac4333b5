"""Files that are loaded when their role begins, and no memory for them just then: later."""

import builtins
import sys

from covey import ike, membership, registration
from gcks_peer import Gcks, notify
from life import SPIS, Life
from talk import PSK, Talk

_ROLES = (
    "covey.answering",
    "covey.requests",
    "covey.renewal",
    "covey.ikerekey",
    "covey.ikefrag",
    "covey.errornames",
    "covey.silence",
    "covey.report",
    "covey.reporter",
    "covey.sentences",
    "covey.portions",
    "covey.proving",
    "covey.unproven",
)


class _NoRoom:
    """While inside, these files can't be loaded; it counts how often somebody wanted to."""

    def __init__(self, *names):
        self.names = names
        self.tries = 0

    def __enter__(self):
        for name in _ROLES:
            sys.modules.pop(name, None)
        self.real = builtins.__import__
        builtins.__import__ = self
        return self

    def __call__(self, name, *rest):
        if name in self.names:
            self.tries += 1
            raise MemoryError
        return self.real(name, *rest)

    def __exit__(self, *_):
        builtins.__import__ = self.real


def _finds_no_room(receive, *args):
    try:
        receive(*args)
    except MemoryError:
        return
    raise AssertionError("it was loaded")


def test_a_member_that_nobody_asks_has_loaded_none_of_them():
    with _NoRoom(*_ROLES) as hook:
        life = Life(retransmit={"first_ms": 500})
        assert life.it.state == membership.MEMBER
        life.run(1000)
        assert hook.tries == 0 and not [name for name in _ROLES if name in sys.modules]


def test_a_request_of_the_server_is_answered_when_it_comes_again():
    for missing in ("covey.answering", "covey.requests"):
        life = Life()
        request = life.sa.request(ike.INFORMATIONAL, [])
        with _NoRoom(missing):
            assert life.hear(request) == [] and life.drops == {"capacity": 1}
        (answer,) = life.hear(request)
        assert life.sa.open(answer)[1] == []
        assert life.hear(request) == [answer] and life.it.state == membership.MEMBER


def test_a_rekey_by_the_server_waits_for_its_repetition():
    talk = Talk(liveness_s=0).registered()
    old = talk.gcks.sa
    request = old.request(ike.CREATE_CHILD_SA, talk.gcks.begin_rekey(old, b"a"))
    for missing in ("covey.renewal", "covey.ikerekey"):
        with _NoRoom(missing) as hook:
            _finds_no_room(talk.gm.receive, request, talk.now_ms)
            assert hook.tries == 1 and talk.sent() == []
    (answer,) = talk.take(request)
    new = talk.gcks.finish_rekey(old, old.open(answer)[1])
    assert new.kwk != old.kwk and talk.take(request) == [answer]


def test_our_rekey_begins_later():
    talk = Talk(ike_lifetime_s=1000, liveness_s=0).registered()
    with _NoRoom("covey.renewal") as hook:
        while not hook.tries:
            assert talk.later(1000) == []
        began = talk.now_ms
        assert talk.later(9000) == [] and hook.tries == 1
    assert talk.drops == {"capacity": 1}
    after_ms, (request,) = talk.next(30000)
    assert talk.gcks.sa.open(request)[0].exchange == ike.CREATE_CHILD_SA
    assert 10000 <= talk.now_ms - began <= 12000 and after_ms


def test_a_fragment_comes_again():
    talk = Talk()
    auth = talk.take(talk.gcks.answer_init(talk.one()))
    parts = talk.gcks.answer_auth(auth, talk.granted(), 256)
    with _NoRoom("covey.ikefrag"):
        _finds_no_room(talk.gm.receive, parts[0], talk.now_ms)
    assert talk.later(500) == [(500, auth)]
    for part in parts:
        assert talk.gm.state == registration.AUTH
        talk.take(part)
    assert talk.gm.state == registration.REGISTERED


def test_what_is_too_long_leaves_later():
    talk = Talk(fragment_size=300)
    answer = talk.gcks.answer_init(talk.one())
    talk.gm.receive(answer, talk.now_ms)
    with _NoRoom("covey.ikefrag") as hook:
        while not hook.tries:
            try:
                talk.gm.step(talk.now_ms)
            except MemoryError:
                assert talk.gm.take_outgoing() is None
    auth = talk.sent()
    assert len(auth) == 2
    talk.take(talk.gcks.answer_auth(auth, talk.granted()))
    assert talk.gm.state == registration.REGISTERED


def test_a_refusal_that_can_not_be_named_is_asked_for_again():
    life = Life(registered=False)
    life.gcks = Gcks(PSK)
    (init,) = life.run()
    auth = life.hear(life.gcks.answer_init(init))
    life.sa = life.gcks.sa
    with _NoRoom("covey.errornames"):
        life.hear(life.gcks.answer_auth(auth, [notify(ike.AUTHORIZATION_FAILED)]))
    assert life.it.state == membership.REGISTERING and life.drops == {"capacity": 1}
    pulls = life.run(20000)
    pulls = life.hear(life.sa.answer(pulls[0], [notify(ike.AUTHORIZATION_FAILED)]))
    life.hear(life.sa.answer(pulls[0], [notify(ike.AUTHORIZATION_FAILED)]))  # nor to receive
    assert life.it.state == membership.REFUSED
    assert life.it.reason == "The key server refused: authorization_failed."
    assert SPIS[0] != life.outbound


def test_who_has_no_memory_for_a_sentence_goes_on_without():
    life = Life(registered=False)
    life.gcks = Gcks(PSK)
    (init,) = life.run()
    auth = life.hear(life.gcks.answer_init(init))
    life.sa = life.gcks.sa
    with _NoRoom("covey.sentences") as hook:
        pulls = life.hear(life.gcks.answer_auth(auth, [notify(ike.AUTHORIZATION_FAILED)]))
        life.hear(life.sa.answer(pulls[0], [notify(ike.AUTHORIZATION_FAILED)]))  # nor to receive
    assert hook.tries == 2 and life.it.state == membership.REFUSED and life.it.reason == ""
    assert life.it.events[-1] == ("refused", "")


def test_who_has_no_memory_for_reports_makes_none_until_it_is_asked_again():
    life = Life(registered=False, liveness_s=0)
    with _NoRoom("covey.reporter") as hook:
        life.register(life.keys(0, report_s=10))
        assert life.run(30000) == [] and hook.tries == 1
        assert life.it.state == membership.MEMBER and life.drops == {"capacity": 1}
    assert life.run(30000) == []
    life.hear(life.sa.answer(life.pull(), life.keys(1, report_s=10)(life.sa)))
    (report,) = life.run(16000)
    assert life.sa.open(report)[0].exchange == ike.INFORMATIONAL
