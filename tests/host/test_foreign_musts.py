"""Single demands of RFC 9838 that no other suite of foreign ends shows: docs/rfc9838.md."""

import pytest

from foreign_city import City
from foreign_esp import Air
from foreign_gm import (
    AUTHORIZATION_FAILED,
    GSA_REGISTRATION,
    IDG,
    INVALID_GROUP_ID,
    KEY_ID,
    NO_PROPOSAL_CHOSEN,
    REGISTRATION_FAILED,
    identity,
    notification,
)
from foreign_group import Kek, Tek, tv

INTERPRETERS = pytest.mark.parametrize("interpreter", ("cpython", "micropython"))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = City(tmp_path_factory.mktemp("city"))
    yield made
    made.close()


@pytest.fixture
def city(running):
    yield running
    running.clear()


@INTERPRETERS
def test_a_member_sends_nothing_over_a_rekey_sa(foreign, interpreter):
    """Section 2.3.3: inbound only. All that the rekeys' address hears are our own messages."""
    bench = foreign()
    group = bench.group
    ear = Air(group.dotted, group.rekey_port)
    try:
        member = bench.talker(interpreter)
        sent = []
        for n in range(3):
            over = group.kek
            group.renew()
            sent.append(bench.rekey([group.gsa(), group.kd(over.kwk)], over))
            member.heard("rekeyed", n + 1)
            member.say(f"data {n}")
        assert member.leave()[0] == 0
        assert [ear.receive(10) for _ in sent] == sent and ear.receive(0.2) is None
    finally:
        ear.close()


@pytest.mark.parametrize("type", (INVALID_GROUP_ID, AUTHORIZATION_FAILED, REGISTRATION_FAILED))
def test_data_of_errors_are_ignored(foreign, type):
    """Section 4.7: there are none, and what is there all the same means nothing."""
    said = []
    for data in (b"", b"\0\0\0\x2a junk"):
        bench = foreign()
        bench.server.on_auth = lambda session, wants, data=data: [
            *session.proof(),
            notification(type, data),
        ]
        bench.server.on_pull = lambda session, wants, data=data: [notification(type, data)]
        member = bench.join("--count", "1", "--timeout", "1")
        assert member.end()[0] == 1
        detail = member.heard("failed")["detail"]
        said.append(detail.replace(str(bench.server.port), "PORT"))
    assert said[0] == said[1]


@INTERPRETERS
@pytest.mark.parametrize("where", (Tek, Kek))
def test_implicit_ivs_are_refused(foreign, monkeypatch, interpreter, where):
    """Section 2.7: in the policy of a data SA, or of a Rekey SA."""
    bench = foreign()
    good = where.policy

    def policy(self, *args, **how):
        octets = good(self, *args, **how)
        plain, implicit = (b"\1\0" + bytes([0, id]) + tv(14, 128) for id in (20, 30))
        assert plain in octets
        return octets.replace(plain, implicit)

    monkeypatch.setattr(where, "policy", policy)
    member = bench.script(timeout_s=1) if interpreter == "micropython" else bench.join()
    assert bench.server.wait("refused") == b"press-7"
    assert "policy" in member.heard("refused" if interpreter == "cpython" else "failed")["detail"]


@pytest.mark.parametrize("type", (NO_PROPOSAL_CHOSEN, REGISTRATION_FAILED))
def test_data_with_a_leave_are_ignored(city, type):
    gm = city.gm().connect().join()
    left = [(IDG, identity(KEY_ID, gm.group)), notification(type, b"\0\1 junk")]
    assert gm.talk(GSA_REGISTRATION, left) == []
    assert "press-7" not in city.members()


def test_gcauth_names_the_algorithm(city):
    """Section 4.4.2.1.1: ecdsa-with-SHA256, as a DER AlgorithmIdentifier; AUTH_KEY fits it, and
    each GSA_REKEY's AUTH repeats it (that is held by foreign_gm.RekeySA)."""
    gm = city.gm().connect().join()
    (found,) = [
        attributes
        for kind, id, attributes in gm.policy.sas[6]["transforms"]
        if (kind, id) == (14, 2)
    ]
    assert found == [(18, bytes.fromhex("300a06082a8648ce3d040302"))]
    assert bytes.fromhex("06072a8648ce3d0201") in gm.keys.auth_key
