"""The two foreign ends against each other: that they agree, and that each is able to find fault.

What is shown here with one rule switched off is what the suites beside this one ask of our ends.
"""

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from foreign_citizen import Citizen
from foreign_gcks import DELETE_IKE, ForeignGCKS
from foreign_gm import (
    FQDN,
    GSA_REGISTRATION,
    IDR,
    INFORMATIONAL,
    identity,
    notification,
    sag,
)
from foreign_group import ForeignGroup, Tek, delete
from foreign_ikesa import GSA_INBAND_REKEY
from foreign_nat import LIKE_500, LIKE_848, MARKED, PORTS, Nat, own_host
from foreign_road import Road

PLAIN, OTHER = LIKE_500, LIKE_848

SITE = b"gcks.foreign"


class Stage:
    """A foreign key server, and foreign members of it."""

    def __init__(self):
        self.host = own_host()
        self.group = ForeignGroup("239.192.1.1", MARKED)
        more = {OTHER: False, MARKED: True}
        self.server = ForeignGCKS(self.group, host=self.host, port=PLAIN, more_ports=more)
        self.server.nat = self.server.fragments = True
        self._open = [self.server]

    def nat(self):
        self._open.insert(0, Nat(self.host, PORTS))
        return self._open[0]

    def gm(self, at=PLAIN, host=None, **how):
        road = Road(host or self.host, PORTS, at)
        gm = Citizen(road, SITE, b"press-7", b"k" * 32, wants=1, kwa=3, **how)
        gm.bits, gm.promised = 256, False
        gm.check_policy = lambda: None  # it is about groups of ours
        self._open.insert(0, gm)
        return gm

    def join(self, gm, room=None, order=list):
        idi, auth = gm.auth_payloads()
        auth = [idi, (IDR, identity(FQDN, SITE)), auth]
        return gm.join(auth, sag=sag(), room=room, order=order)

    def joined(self, **how):
        return self.join(self.gm(**how).connect())

    def pull(self, gm):
        return gm.pull(sag=sag())

    def close(self):
        for one in self._open:
            one.close()


@pytest.fixture
def stage():
    made = Stage()
    yield made
    made.close()


@pytest.mark.parametrize("at", (PLAIN, OTHER, MARKED))
def test_behind_a_nat(stage, at):
    nat = stage.nat()
    gm = stage.gm(at=at, host=nat.host).connect()
    server = stage.server
    assert gm.nat_found == {"ours": True, "theirs": True}
    assert server.session.nat == {"source": False, "destination": False}
    stage.join(gm.float())
    assert server.session.came[-1][0] == MARKED
    gm.wire.keep_alive()
    server.wait("keepalive")
    nat.rebind()
    stage.pull(gm)
    assert [port for port, _ in server.session.came] == [MARKED, MARKED]
    assert len({address for _, address in server.session.came}) == 2


def test_without_a_nat(stage):
    gm = stage.joined()
    assert gm.nat_found == {"ours": False, "theirs": False}
    assert stage.server.session.nat == {"source": True, "destination": True}


@pytest.mark.parametrize("cookie", (b"c", bytes(range(64))))
def test_cookie(stage, cookie):
    stage.server.cookie = cookie
    gm = stage.joined()
    assert gm.cookies == 1 and stage.server.count("init") == 2


def test_requests_both_ways(stage):
    gm, server = stage.joined(), stage.server
    assert gm.talk(INFORMATIONAL, []) == []
    asked = server.tell(server.session, INFORMATIONAL, [notification(40999)])
    assert gm.serve().payloads == [notification(40999)]
    assert gm.next(lambda sa, m: True, 0.1) is None  # that was its repeat
    server.until(lambda: len(server.session.answers.get(asked, ())) == 2)
    server.tell(server.session, INFORMATIONAL, [DELETE_IKE])
    assert gm.serve().payloads == [DELETE_IKE] and gm.sa.ended


@pytest.mark.parametrize("room", (100, 1000))
def test_fragments(stage, room):
    stage.server.room = room
    gm = stage.gm()
    gm.room = room // 4
    stage.join(gm.connect(), order=lambda parts: [parts[-1], *parts[::-1]])
    stage.pull(gm)


def test_the_ike_sa_is_rekeyed_by_either(stage):
    gm, server = stage.joined(), stage.server
    first = gm.gsk_w
    gm.rekey_ike()
    stage.pull(gm)
    second = gm.gsk_w
    server.until(lambda: server.count("deleted") == 1)
    old = gm.sa
    rekeyed_by_server(stage, gm)
    assert gm.sa is not old and not gm.sa.initiator
    stage.pull(gm)
    gm.rekey_ike()
    stage.pull(gm)
    assert len({first, second, gm.gsk_w}) == 3


def rekeyed_by_server(stage, gm):
    server, session = stage.server, stage.server.session
    began = server.begin_rekey(session)
    gm.serve()
    old = server.rekeyed(session, *began)
    server.tell(session, INFORMATIONAL, [DELETE_IKE], sa=old)
    assert gm.serve().payloads == [DELETE_IKE]
    server.drop(old)


@pytest.mark.parametrize("server_low", (True, False))
def test_both_rekey_it_at_once(stage, server_low):
    """RFC 7296 section 2.8.1: two new IKE SAs; that of the lowest of four nonces goes."""
    gm, server = stage.joined(), stage.server
    session, old = server.session, server.session.sa
    low, high = bytes(16), b"\xff" * 256
    server.nonce, server.answer_nonce = (low, high) if server_low else (high, low)
    began = []
    server.before_child = lambda session: began.append(server.begin_rekey(session))
    gm.rekey_ike(delete_old=False)
    gms = gm.sa
    gm.serve()
    servers = gm.sa
    server.rekeyed(session, *began[0])
    assert (servers.lowest < gms.lowest) == server_low
    goes, stays = (servers, gms) if server_low else (gms, servers)
    gm.sa = stays
    by_gm, by_server = (old, goes) if server_low else (goes, old)
    assert gm.talk(INFORMATIONAL, [DELETE_IKE], sa=gm.sas[by_gm.spi_i, by_gm.spi_r]) == []
    (sa,) = [sa for _, sa in server.sessions.values() if sa.spi_i == by_server.spi_i]
    server.tell(session, INFORMATIONAL, [DELETE_IKE], sa=sa)
    assert gm.serve().payloads == [DELETE_IKE]
    stage.pull(gm)


def inband(group, kwk, *more):
    return [group.gsa(kek=False, wide=False), group.kd(kwk, kek=False), *more]


def test_inband(stage):
    gm, server, group = stage.gm(), stage.server, stage.group
    group.lifetime_s = 0
    gm.inband = True
    server.on_auth = lambda session, wants: [
        *session.proof(),
        group.gsa(kek=False, wants=wants),
        group.kd(session.kwk, kek=False, wants=wants),
        *group.transport,
    ]
    stage.join(gm.connect())
    for room in (None, 60):
        server.session.sa.room = room
        (old,) = group.teks
        group.teks = [Tek(group.address)]
        payloads = inband(group, server.session.kwk, delete(3, old.spi))
        server.tell(server.session, GSA_INBAND_REKEY, payloads)
        gm.serve()
        assert gm.tek == (group.teks[0].spi, group.teks[0].keymat)
        assert gm.deleted == [delete(3, old.spi)[1]]


# One rule switched off: the other end notices

RULES = ("flags", "keys", "message_id", "next payload of a fragment")


@pytest.mark.parametrize("rule", RULES)
def test_the_server_finds_fault(stage, rule):
    gm, server = stage.joined(), stage.server
    gm.sa.broken, gm.sa.room = rule, 30
    gm.silence(GSA_REGISTRATION, gm.group_payloads(sag=sag()), timeout_s=0.1)
    assert server.faults or server.count("forged") or server.count("unknown")
    server.faults.clear()


@pytest.mark.parametrize("rule", ("flags", "keys", "next payload of a fragment"))
def test_the_member_finds_fault(stage, rule):
    gm = stage.joined()
    stage.server.session.sa.broken, stage.server.session.sa.room = rule, 30
    with pytest.raises((AssertionError, InvalidTag)):
        stage.pull(gm)


@pytest.mark.parametrize("rule, fault", [("SKEYSEED", InvalidTag), ("old GSK_w", InvalidUnwrap)])
def test_the_member_finds_fault_with_a_rekey(stage, rule, fault):
    """Of SKEYSEED with the first message, of GSK_w with the first key."""
    gm = stage.joined()
    stage.server.session.sa.broken = rule
    gm.rekey_ike(delete_old=False)
    if rule == "SKEYSEED":  # the server cannot open it either, so it speaks first
        stage.server.tell(stage.server.session, INFORMATIONAL, [])
        with pytest.raises(fault):
            gm.serve()
    else:
        with pytest.raises(fault):
            stage.pull(gm)


@pytest.mark.parametrize("where", ("source", "destination"))
def test_each_finds_a_nat_where_the_other_says_so(stage, where):
    gm = stage.gm()
    gm.lies = stage.server.lies = (where,)
    gm.connect()
    found = {"theirs": where == "source", "ours": where == "destination"}
    assert gm.nat_found == found
    assert not stage.server.session.nat[where]


def test_the_server_finds_fault_with_a_cookie(stage):
    stage.server.cookie = b"right"
    gm = stage.gm()
    gm.wire.send(gm.sa_init(first=[notification(16390, b"wrong")]))
    assert gm.wire.receive(0.1) is None
    assert "a cookie that was not asked for" in stage.server.faults.pop()


def test_a_fragment_that_nobody_agreed_upon(stage):
    stage.server.fragments = False
    gm = stage.gm(fragments=False)
    stage.join(gm.connect())
    stage.server.session.sa.room = 60
    with pytest.raises(AssertionError, match="agreed"):
        stage.pull(gm)
