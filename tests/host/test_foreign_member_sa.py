"""A member of ours and its IKE SA, at a foreign key server: liveness, Delete, rekeying by either.

RFC 7296 sections 1.3.2, 2.4, 2.8, 2.18, 2.25. That an IKE SA is new is proven by a pull: the keys
in it are wrapped under its GSK_w (RFC 9838 section 3.1).
"""

import struct
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from foreign_bench import Bench
from foreign_gcks import DELETE_IKE
from foreign_gm import (
    CREATE_CHILD_SA,
    INFORMATIONAL,
    INVALID_KE,
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
from foreign_ikesa import Rekey
from processes import wait_until

INTERPRETERS = ("cpython", "micropython")
BOTH = pytest.mark.parametrize("interpreter", INTERPRETERS)
INVALID_SYNTAX, NO_ADDITIONAL_SAS, TEMPORARY_FAILURE, CHILD_SA_NOT_FOUND = 7, 35, 43, 44
REKEY_SA = 16393
IV = b"\xee\xee" + bytes(6)


def pulls(bench, member):
    """Excluded, it comes back over its IKE SA, and unwraps new keys by that one's GSK_w."""
    server, over = bench.server, bench.group.kek
    n, auths = server.count("pull"), server.count("auth")
    bench.group.renew()
    bench.exclude(over, times=3)
    server.wait("pull", n + 1)
    comes_to_open(bench, member, b"pull %d" % n)
    assert server.count("auth") == auths


def comes_to_open(bench, member, text):
    wait_until(lambda: bench.air.send(bench.group.teks[0], text, iv=IV) and member.opened(text))


# The server begins


@BOTH
def test_rekeyed_by_the_server(foreign, interpreter):
    bench = foreign()
    member, server = bench.talker(interpreter), bench.server
    session = server.session
    wraps = {session.kwk}
    for server.bits, server.kwa in ((256, 3), (128, 1), (128, 3)):
        old = server.rekey(session)
        assert session.sa.initiator
        pulls(bench, member)
        wraps.add(session.kwk)
        server.tell(session, INFORMATIONAL, [], sa=old)
    assert len(wraps) == 4
    assert server.ask(session, INFORMATIONAL, []) == []
    assert not old.answers.get(old.own_id - 1)


@BOTH
def test_the_old_one_is_good_until_its_delete(foreign, interpreter):
    bench = foreign()
    member, server = bench.talker(interpreter), bench.server
    session = server.session
    old = server.rekeyed(session, *server.begin_rekey(session))
    assert server.ask(session, INFORMATIONAL, [], sa=old) == []
    pulls(bench, member)
    assert server.ask(session, INFORMATIONAL, [DELETE_IKE], sa=old) == []
    server.drop(old)
    pulls(bench, member)


ESP = sa_body([proposal(1, 3, [transform(1, 20, key_length(128)), transform(5, 0)])])
SELECTOR = b"\1\0\0\0" + struct.pack(">BBHHH", 7, 0, 16, 0, 65535) + bytes(4) + b"\xff" * 4
CHILD = [(SA, ESP), (NONCE, bytes(32)), (44, SELECTOR), (45, SELECTOR)]


@BOTH
def test_what_is_no_rekey_of_an_ike_sa(foreign, interpreter):
    bench = foreign()
    member, server = bench.talker(interpreter), bench.server
    session = server.session

    def ask(payloads, times=2):
        return server.ask(session, CREATE_CHILD_SA, payloads, times)

    def rekey(choices=((256, 3),), **how):
        return ask(Rekey(session.sa, choices, **how).payloads())

    assert rekey([(192, 2)]) == [notification(NO_PROPOSAL_CHOSEN)]
    assert rekey([(256, 0)]) == [notification(NO_PROPOSAL_CHOSEN)]  # no KWA
    assert rekey(method=19, value=bytes(64)) == [notification(INVALID_KE, b"\0\x1f")]
    assert ask(CHILD) == [notification(NO_ADDITIONAL_SAS)]
    old = struct.pack(">BBH", 3, 4, REKEY_SA) + b"spi-"
    not_found = struct.pack(">BBH", 3, 4, CHILD_SA_NOT_FOUND) + b"spi-"
    assert ask([(NOTIFY, old), *CHILD]) == [(NOTIFY, not_found)]
    server.rekey(session)
    pulls(bench, member)
    # malformed: it ends the IKE SA (section 2.21.3), and nothing but that
    payloads = Rekey(session.sa).payloads()[:1]
    assert ask(payloads, times=1) == [notification(INVALID_SYNTAX)]
    server.drop(session.sa)
    comes_to_open(bench, member, b"still here")


# The member begins


class Simply:
    """The server says yes."""

    fields = {"ike_lifetime_s": 20}  # asked for after 16 to 18 s, and not again in these stories

    def __init__(self, bench):
        self.bench, self.server = bench, bench.server

    def story(self, member):
        server, session = self.server, self.server.session
        old = session.first
        server.wait("child")
        assert server.wait("deleted") is old and session.sa is not old
        assert not session.sa.initiator and session.kwk != old.kwk
        pulls(self.bench, member)
        server.rekey(session)  # and now the other way round
        pulls(self.bench, member)


LOW, HIGH = bytes(16), b"\xff" * 256


class Collision(Simply):
    """Section 2.8.1: both ask; of the two new IKE SAs that of the lowest nonce is too much."""

    def __init__(self, bench, nonce, answer_nonce):
        super().__init__(bench)
        self.server.nonce, self.server.answer_nonce = nonce, answer_nonce
        self.nonces = nonce, answer_nonce
        self.server.before_child = self.begin

    def begin(self, session):
        self.server.before_child = lambda session: None
        self.began = self.server.begin_rekey(session)

    def story(self, member):
        server, session = self.server, self.server.session
        old = session.first
        server.wait("child")
        server.until(lambda: session.made, "answer of ours")
        their_sa = session.made[0][1]
        server.rekeyed(session, *self.began)
        our_sa = session.made[1][1]
        ours_goes = our_sa.lowest < their_sa.lowest
        nonce, answer_nonce = self.nonces
        assert nonce == answer_nonce or ours_goes == (nonce == LOW)
        session.sa = their_sa if ours_goes else our_sa
        goes, theirs_to_delete = (our_sa, old) if ours_goes else (old, their_sa)
        assert server.ask(session, INFORMATIONAL, [DELETE_IKE], sa=goes) == []
        server.drop(goes)
        assert server.wait("deleted") is theirs_to_delete
        pulls(self.bench, member)


class Refusal(Simply):
    """The IKE SA stands, and is not asked about at once again."""

    def __init__(self, bench, type):
        super().__init__(bench)
        self.server.on_child = lambda session, payloads: [notification(type)]

    def story(self, member):
        server = self.server
        server.wait("child")
        assert server.ask(server.session, INFORMATIONAL, []) == []
        pulls(self.bench, member)
        assert server.session.sa is server.session.first


class Deletion(Simply):
    """The member answers, forgets its own, and stays in the group by its Rekey SA."""

    def __init__(self, bench):
        super().__init__(bench)
        self.told = []
        self.server.before_child = lambda session: self.told.append(
            self.server.tell(session, INFORMATIONAL, [DELETE_IKE])
        )

    def story(self, member):
        server, bench = self.server, self.bench
        server.wait("child")
        old = server.session.first
        server.until(lambda: self.told and self.told[0] in old.answered, "answer")
        over = bench.group.kek
        bench.group.renew()
        bench.rekey([bench.group.gsa(), bench.group.kd(over.kwk)], over)
        comes_to_open(bench, member, b"still here")


class Liveness(Simply):
    """Silence is asked about; an answer is enough. No answer: another IKE SA. Data go on."""

    fields = {"liveness_s": 1}

    def story(self, member):
        server = self.server
        assert server.wait("informational", 2) == []
        assert server.count("auth") == 1
        server.forget()
        server.wait("auth", 2)
        server.wait("informational", server.count("informational") + 1)  # over the new one
        assert server.ask(server.session, INFORMATIONAL, []) == []
        comes_to_open(self.bench, member, b"data go on")


STORIES = {
    "liveness": (Liveness,),
    "answered": (Simply,),
    "both, the server's is too much": (Collision, LOW, HIGH),
    "both, the member's is too much": (Collision, HIGH, LOW),
    "both, by the member's nonces": (Collision, HIGH, HIGH),
    "TEMPORARY_FAILURE": (Refusal, TEMPORARY_FAILURE),
    "NO_PROPOSAL_CHOSEN": (Refusal, NO_PROPOSAL_CHOSEN),
    "NO_ADDITIONAL_SAS": (Refusal, NO_ADDITIONAL_SAS),
    "deleted meanwhile": (Deletion,),
}
BY_WHOM = [(name, how) for name in STORIES for how in INTERPRETERS]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Each story in a thread of its own: time passes for all together, and none waits for others
    while its IKE SA gets old."""
    benches, found = [], {}
    with ThreadPoolExecutor(len(BY_WHOM)) as threads:
        try:
            for name, how in BY_WHOM:
                bench = Bench(tmp_path_factory.mktemp("crowd"))
                benches.append(bench)
                kind, *arguments = STORIES[name]
                found[name, how] = threads.submit(told, kind(bench, *arguments), bench, how)
            yield found
        finally:
            wait(found.values())
            for bench in benches:
                bench.close()


def told(story, bench, how):
    member = bench.start(how, **story.fields)
    member.heard("status")
    story.story(member)


@pytest.mark.parametrize("name, how", BY_WHOM)
def test_by_the_member(crowd, name, how):
    crowd[name, how].result()
