"""A key server that is about to end sends its members to others (RFC 5685)."""

import pytest

from foreign_gm import INFORMATIONAL, ForeignGM, notification, notifies
from gcks_site import KEY, LINE1, SITE, Site
from ike_peer import Peer

REDIRECT, SUPPORTED, FROM = 16407, 16406, 16408
HOSTS = ("192.0.2.7", "gcks-c.example")
TOLD = (b"\x01\x04\xc0\x00\x02\x07", b"\x03\x0egcks-c.example")


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1)
    for name in ("press-7", "valve-3"):
        site.add(name)
    return site


def drain(site, hosts=HOSTS):
    site.server.redirects.hosts = hosts
    site.unasked.clear()
    site.send(site.server.drain(site.now))


def begun(gm, *said):
    return gm.sa_init(extra=[notification(type, data) for type, data in said])


def test_who_knows_redirect_is_sent_elsewhere(site):
    drain(site)
    seen = set()
    for _ in range(40):
        gm = ForeignGM(b"press-7", KEY)
        request = begun(gm, (SUPPORTED, b""))
        answer = site.talk(request)
        [(_, body)] = gm.clear(answer)
        assert body[:4] == b"\0\0\x40\x17" and body.endswith(gm.nonce_i)
        assert answer[8:16] == bytes(8) and len(answer) <= len(request)
        seen.add(body[4 : -len(gm.nonce_i)])
    assert seen == set(TOLD)
    assert site.server.counters["redirected"] == 40
    assert site.server.status(0)["ike_sas"] == 0  # nothing is remembered for it


def test_who_was_sent_here_may_be_sent_on(site):
    drain(site)
    gm = ForeignGM(b"press-7", KEY)
    answer = site.talk(begun(gm, (FROM, b"\x01\x04\xc0\x00\x02\x01")))
    assert notifies(gm.clear(answer)) == [REDIRECT]


def test_who_does_not_know_it_is_served(site):
    drain(site)
    site.gm("press-7")


@pytest.mark.parametrize("hosts", [(), ("a" * 250,)])
def test_where_there_is_nobody_else_nothing_changes(site, hosts):
    """An answer in clear is never longer than what it answers: then it is none, either."""
    drain(site, hosts)
    gm = ForeignGM(b"press-7", KEY)
    site.connect(gm, extra=[notification(SUPPORTED)])
    assert site.server.counters["redirected"] == 0


def test_not_while_it_does_not_drain(site):
    site.server.redirects.hosts = HOSTS
    peer = Peer(site)
    assert REDIRECT not in peer.connect(extra=[notification(SUPPORTED)])


def test_open_ike_sas_hear_of_it_once(site):
    knows, knows_not = Peer(site), Peer(site, "valve-3")
    knows.connect(extra=[notification(SUPPORTED)])
    for peer in (knows, knows_not):
        peer.join()
    drain(site)
    assert knows_not.requests() == []
    exchange, payloads = knows.served()
    assert exchange == INFORMATIONAL and notifies(payloads) == [REDIRECT]
    assert payloads[0][1][4:] in TOLD  # no nonce there
    site.send(site.server.drain(site.now))
    site.wait(5_000)
    assert knows.requests() == []


def test_a_new_ike_sa_hears_of_it_too(site):
    """One that was half-open, or got new keys, when it began."""
    peer = Peer(site)
    peer.connect(extra=[notification(SUPPORTED)])
    drain(site)
    peer.join()
    exchange, payloads = peer.served()
    assert exchange == INFORMATIONAL and notifies(payloads) == [REDIRECT]


def test_the_heir_of_an_ike_sa_knows_it_still(site):
    peer = Peer(site)
    peer.connect(extra=[notification(SUPPORTED)])
    peer.join()
    peer.rekey_ike()
    site.unasked.clear()
    drain(site)
    _, payloads = peer.served()
    assert notifies(payloads) == [REDIRECT]


def test_a_malformed_one_is_dropped(site):
    drain(site)
    gm = ForeignGM(b"press-7", KEY)
    short = gm.sa_init(nonce=b"short", extra=[notification(SUPPORTED)])
    assert site.talk(short) is None


def test_without_its_store_nobody_is_let_in(site):
    """Who knows REDIRECT is sent on, everybody else asks the next server of its list."""
    site.server.redirects.hosts = HOSTS
    site.server.redirects.is_away = True
    assert site.talk(ForeignGM(b"press-7", KEY).sa_init()) is None
    gm = ForeignGM(b"press-7", KEY)
    assert notifies(gm.clear(site.talk(begun(gm, (SUPPORTED, b""))))) == [REDIRECT]
    site.server.redirects.hosts = ()
    assert site.talk(begun(gm, (SUPPORTED, b""))) is None
    counted = site.server.counters
    assert (counted["no_store"], counted["redirected"]) == (2, 1)


def test_when_all_have_heard_it_is_done(site):
    peer = Peer(site)
    peer.connect(extra=[notification(SUPPORTED)])
    peer.join()
    drain(site)
    assert not site.server.is_drained
    peer.served()
    assert site.server.is_drained
