"""A membership at a foreign key server over time: the IKE SA's end, exclusion, loss, lifetimes."""

import time

import pytest

from foreign_gm import (
    AUTHORIZATION_FAILED,
    CREATE_CHILD_SA,
    INFORMATIONAL,
    NONCE,
    NOTIFY,
    SA,
    key_length,
    notification,
    notifies,
    proposal,
    sa_body,
    transform,
)
from foreign_group import delete
from processes import wait_until

UNSUPPORTED_CRITICAL, NO_ADDITIONAL_SAS = 1, 35
INTERPRETERS = pytest.mark.parametrize("interpreter", ("cpython", "micropython"))


def opens(bench, member, tek, text, port=None):
    bench.air.send(tek, text, port=port, iv=b"\xee\xee" + bytes(6))
    member.packet(text)


def comes_to_open(bench, member, tek, text):
    """As soon as the member has the key."""
    wait_until(
        lambda: bench.air.send(tek, text, iv=b"\xee\xee" + bytes(6)) and member.opened(text)
    )


def follows(bench, member, text):
    group, over = bench.group, bench.group.kek
    group.renew()
    bench.rekey([group.gsa(), group.kd(over.kwk)], over)
    comes_to_open(bench, member, group.teks[0], text)


@INTERPRETERS
def test_requests_of_the_key_server(foreign, interpreter):
    bench = foreign()
    member = bench.talker(interpreter)
    server = bench.server

    def ask(exchange, payloads):
        return server.ask(server.session, exchange, payloads)

    assert ask(INFORMATIONAL, []) == []  # liveness
    assert ask(INFORMATIONAL, [notification(40999, b"?"), (200, b"?")]) == []
    (critical,) = ask(INFORMATIONAL, [(200, b"", 0x80)])
    assert critical == notification(UNSUPPORTED_CRITICAL, b"\xc8")
    esp = sa_body([proposal(1, 3, [transform(1, 20, key_length(128)), transform(5, 0)])])
    child = ask(CREATE_CHILD_SA, [(SA, esp), (NONCE, bytes(32))])
    assert notifies(child) == [NO_ADDITIONAL_SAS] and child[0][0] == NOTIFY
    assert ask(INFORMATIONAL, []) == []
    assert bench.delete_ike_sa() == []
    opens(bench, member, bench.group.teks[0], b"still here")  # section 2.3.3: it has a Rekey SA
    follows(bench, member, b"and following")
    assert member.leave()[0] == 0 and server.count("auth") == 1


@INTERPRETERS
def test_the_ike_sa_ends_right_behind_the_answer(foreign, interpreter):
    bench = foreign()
    server = bench.server
    server.after_auth = lambda session: server.tell(session, INFORMATIONAL, [delete(1)])
    member = bench.talker(interpreter)
    (answer, *_) = wait_until(lambda: server.session.answers.get(0))
    assert server.session.open(answer) == []
    opens(bench, member, bench.group.teks[0], b"still here")
    follows(bench, member, b"and following")
    assert server.count("auth") == 1


@INTERPRETERS
def test_without_a_rekey_sa_the_ike_sa_is_the_membership(foreign, interpreter):
    """Section 2.3.3: IKE SA closed, no GIKE_UPDATE policy: excluded, and to register again."""
    bench = foreign()
    server, group = bench.server, bench.group

    def no_rekey_sa(session, wants):
        granted = [
            group.gsa(kek=False, wants=wants),
            group.kd(session.kwk, kek=False, wants=wants),
        ]
        return [*session.proof(), *granted, *group.transport]

    server.on_auth = no_rekey_sa
    member = bench.talker(interpreter)
    opens(bench, member, group.teks[0], b"here")
    bench.delete_ike_sa()
    member.heard("excluded")
    server.wait("auth", 2)
    member.heard("registered", 2)
    # over before the keys are at work: asked again after a pause
    server.after_auth = lambda session: server.tell(session, INFORMATIONAL, [delete(1)])
    bench.delete_ike_sa()
    assert "no Rekey SA" in member.heard("refused")["detail"]


EXCLUSIONS = (
    [delete(0)],
    [delete(3, bytes(4)), delete(6, bytes(16))],
    [delete(2, bytes(4)), delete(3, bytes(4)), delete(6, bytes(16))],
    [delete(6, bytes(16)), delete(3, bytes(4))],
    [delete(6, bytes(16))],
)


@INTERPRETERS
def test_excluded_and_back(foreign, interpreter):
    """Section 2.4.3: over the IKE SA if there is one, else over a new one."""
    bench = foreign()
    server, group = bench.server, bench.group
    member = bench.talker(interpreter)
    first = group.teks[0]
    for n, deletes in enumerate(EXCLUSIONS):
        if n % 2:
            bench.delete_ike_sa()
        over = group.kek
        group.renew()
        bench.rekey(deletes, over, times=3)
        member.heard("excluded", n + 1)
        member.heard("registered", n + 2)
        assert (server.count("auth"), server.count("pull")) == (1 + (n + 1) // 2, 1 + n // 2)
        comes_to_open(bench, member, group.teks[0], b"back %d" % n)
    follows(bench, member, b"and following")
    time.sleep(group.dtd_s + 0.1)
    bench.air.send(first, b"too late", iv=b"\xee\xee" + bytes(6))
    follows(bench, member, b"after that")
    assert not member.opened(b"too late")
    assert member.leave()[0] == 0


@INTERPRETERS
def test_refused_at_a_pull(foreign, interpreter):
    """Section 2.3.2: HDR, SK{N}. The member is silent from then on, and opens until DTD."""
    bench = foreign()
    bench.group.dtd_s = 60
    member = bench.talker(interpreter)
    bench.server.on_pull = lambda session, wants: [notification(AUTHORIZATION_FAILED)]
    bench.exclude()
    assert "authorization_failed" in member.heard("refused")["detail"]
    opens(bench, member, bench.group.teks[0], b"for a while")
    member.say("nobody hears this")
    bench.air.send(bench.group.teks[0], b"behind it", iv=b"\xee\xee" + bytes(6))
    assert bench.air.hear(bench.group.teks)[3] == b"for a while"
    assert bench.air.hear(bench.group.teks)[3] == b"behind it"
    assert bench.server.count("refused") == 0


def test_a_restarted_server_knows_no_ike_sa(foreign):
    """An exclusion over the stored Rekey SA; the IKE SA that the member asks over is gone."""
    bench = foreign()
    members = [bench.talker("cpython"), bench.talker("micropython", name="robot-2")]
    bench.server.wait("auth", 2)
    bench.server.forget()
    bench.exclude()
    bench.group.renew()
    bench.server.wait("auth", 4)
    for member in members:
        member.heard("registered", 2)
        comes_to_open(bench, member, bench.group.teks[0], b"back")
    assert bench.server.count("unknown") >= 2
