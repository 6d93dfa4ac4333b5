"""COOKIE between ends of ours and foreign ones: RFC 7296 section 2.6."""

import struct

import pytest

from foreign_citizen import COOKIE
from foreign_city import City
from foreign_gm import (
    IKE_SA_INIT,
    INVALID_KE,
    header,
    notification,
    notifies,
    proposal,
    transform,
)

INTERPRETERS = pytest.mark.parametrize("interpreter", ("cpython", "micropython"))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = City(tmp_path_factory.mktemp("city"), settings="cookies_from = 0")
    yield made
    made.close()


@pytest.fixture
def city(running):
    yield running
    running.clear()


# Our key server, which asks everybody


def asked(gm, **offer):
    """An IKE_SA_INIT → the cookie that is asked for, alone."""
    request = gm.sa_init(**offer)
    answer = gm.wire.ask(request)
    assert len(answer) <= len(request)
    (payload,) = gm.clear(answer)
    assert answer[8:16] == bytes(8) and notifies([payload]) == [COOKIE]
    assert payload == notification(COOKIE, payload[1][4:]) and 5 <= len(payload[1]) <= 68
    return payload[1][4:]


def with_cookie(cookie, *more):
    return {"first": [notification(COOKIE, cookie)], "extra": more}


def test_a_cookie_lets_in(city):
    gm = city.gm().connect()
    assert gm.cookies == 1
    gm.join().pull()


def test_no_state_is_left(city):
    before = city.status()["ike_sas"]
    for _ in range(40):
        asked(city.gm())
    assert city.status()["ike_sas"] == before


WRONG = {
    "wrong": lambda cookie: bytes(len(cookie)),
    "one bit": lambda cookie: cookie[:-1] + bytes([cookie[-1] ^ 1]),
    "empty": lambda cookie: b"",
    "too short": lambda cookie: cookie[:-1],
    "too long": lambda cookie: cookie + b"\0",
    "over 64": lambda cookie: cookie + bytes(100),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_cookie_is_none(city, name):
    gm = city.gm()
    cookie = asked(gm)
    wrong = WRONG[name](cookie)
    asked(gm, **with_cookie(wrong))
    gm.take_sa_init(gm.wire.ask(gm.sa_init(**with_cookie(cookie, *gm._notices()))))
    gm.join()


def test_a_cookie_is_for_one_nonce_spi_and_host(city):
    gm = city.gm()
    cookie = asked(gm)
    gm.nonce_i = bytes(32)
    asked(gm, **with_cookie(cookie))
    gm = city.gm()
    cookie = asked(gm)
    gm.spi_i = bytes([gm.spi_i[0] ^ 1]) + gm.spi_i[1:]
    asked(gm, **with_cookie(cookie))
    gm = city.gm()
    cookie = asked(gm)
    gm.wire.elsewhere("127.0.0.2")
    asked(gm, **with_cookie(cookie))
    gm.wire.elsewhere("127.0.0.1")  # another port, as a NAT may give it
    gm.take_sa_init(gm.wire.ask(gm.sa_init(**with_cookie(cookie, *gm._notices()))))


def test_behind_it_all_is_as_ever(city):
    """Section 2.6.1: another key exchange is asked for, and the cookie still counts."""
    gm = city.gm()
    cookie = asked(gm)
    both = proposal(1, 1, [*BASE, transform(4, 19), transform(4, 31)])
    wrong = {"proposals": [both], "method": 19, "value": bytes(64), **with_cookie(cookie)}
    assert gm.clear(gm.wire.ask(gm.sa_init(**wrong))) == [notification(INVALID_KE, b"\0\x1f")]
    gm.take_sa_init(gm.wire.ask(gm.sa_init(**with_cookie(cookie, *gm._notices()))))
    gm.join()


BASE = [transform(1, 20, struct.pack(">HH", 0x800E, 128)), transform(2, 5), transform(13, 1)]


def test_an_answer_to_nobody_known_is_never_longer(city):
    """Whatever it is that came, without a cookie."""
    gm = city.gm()
    spis = b"12345678", bytes(8)
    requests = [
        header(*spis, 0, IKE_SA_INIT, 8, 0, 28),
        header(*spis, 0, IKE_SA_INIT, 8, 0, 28, 0x30),
        header(*spis, 200, IKE_SA_INIT, 8, 0, 32) + b"\0\x80\0\x04",
        header(*spis, 41, IKE_SA_INIT, 8, 0, 36) + b"\0\0\0\x08\0\0\x40\x06",
        header(*spis, 33, IKE_SA_INIT, 8, 0, 32) + b"\0\0\0\x04",
        header(*spis, 46, 39, 8, 1, 32) + b"\0\0\0\x04",
    ]
    for request in requests:
        gm.wire.send(request)
        while (answer := gm.wire.receive(0.1)) is not None:
            assert len(answer) <= len(request), request.hex()
    gm.connect().join()


# A member of ours


@INTERPRETERS
def test_a_member_brings_the_cookie(foreign, interpreter):
    """First, and as it came; the rest of the request is the same (section 2.6)."""
    bench = foreign()
    bench.server.cookie = bytes(range(64))
    requests = []
    on_init = bench.server._init
    bench.server._init = lambda first, data, back: (
        requests.append(data) or on_init(first, data, back)
    )
    bench.talker(interpreter)
    plain, brought = requests[0], requests[-1]
    assert brought[16] == 41 and plain[16] == brought[28]
    notify = notification(COOKIE, bytes(range(64)))[1]
    assert brought[28:] == bytes([plain[16], 0, 0, 4 + len(notify)]) + notify + plain[28:]


@INTERPRETERS
def test_stale_cookies(foreign, interpreter):
    """Each one is brought once; then another is asked for."""
    bench = foreign()
    server, wanted = bench.server, [b"one", b"two", b"three"]
    server.cookie = b"one"
    choose = server._init

    def init(first, data, back):
        if first == 41 and data[36 : 36 + 3] == server.cookie[:3] and wanted:
            wanted.pop(0)
            if wanted:
                server.cookie = wanted[0]
                return server.send(server.clear(data, [notification(COOKIE, server.cookie)]), back)
        return choose(first, data, back)

    server._init = init
    bench.talker(interpreter)
    assert not wanted


@INTERPRETERS
@pytest.mark.parametrize("cookie", (b"", bytes(65), bytes(200)), ids=("none", "65", "200"))
def test_cookies_that_are_none(foreign, interpreter, cookie):
    """Of 1 to 64 octets; anything else is not answered, and ends nothing."""
    bench = foreign()
    server, first = bench.server, []

    def on_init(request):
        server.on_init = None
        first.append(request)
        return server.clear(request, [notification(COOKIE, cookie)])

    server.on_init = on_init
    bench.talker(interpreter)
    kinds = [detail for said, detail in server.heard if said == "init"]
    assert all(found[0] == 33 for found in kinds)


@INTERPRETERS
def test_a_cookie_behind_the_answer(foreign, interpreter):
    """Nobody asked for it any more: a forger's."""
    bench = foreign()
    server = bench.server
    server.on_auth = lambda session, wants: (
        server.send(server.clear(session.request, [notification(COOKIE, b"late")]), session.back)
        or session.proof() + bench.group.registration(session.kwk, wants)
    )
    bench.talker(interpreter)
    assert server.count("init") == 1
