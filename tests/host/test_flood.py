"""A flood of IKE_SA_INIT from addresses of nobody, and members that register all the same."""

import os
import random
import struct

import pytest

from covey import ike
from covey.config import Config
from covey.drops import FormatError
from covey.registration import REGISTERED, Registration
from covey_host.gcks import halfopen, ikerekey, table
from covey_host.gcks.cookies import COOKIE_LEN, LIFE_MS, Cookies, bare_nonce, shown
from covey_host.gcks.parts import Parts
from covey_host.gcks.sockets import Address
from foreign_gm import INFORMATIONAL, NONCE, ForeignGM, ike_proposal, notification, notifies
from gcks_site import KEY, LINE1, SITE, Site
from ike_peer import COOKIE, NAT_DESTINATION, NAT_SOURCE, Peer

CRITICAL = (200, b"x" * 40, True)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db")
    made.add("press-7")
    yield made
    made.store.close()


def forged(rng):
    """An address that a forger writes into its packet."""
    host = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
    return Address(0, host, rng.randrange(1, 65536), b"\x7f\0\0\1", 4500)


def fill(site, count=64):
    """Half-open IKE SAs up to the threshold, each from a host of its own."""
    for i in range(count):
        assert site.talk(ForeignGM().sa_init(), f"filler {i}")
    assert site.server.status(0)["unproven"] == count


def cookie_of(gm, answer):
    [(_, body)] = gm.clear(answer)
    assert notifies([(41, body)]) == [COOKIE] and answer[8:16] == bytes(8)
    return body[4:]


def test_a_flood_costs_no_memory_and_no_arithmetic_and_helps_to_flood_nobody(site, monkeypatch):
    fill(site)
    before = site.server.status(0)
    agreements = []
    agree = ikerekey.agree
    monkeypatch.setattr(
        "covey_host.gcks.sainit.agree", lambda *args: agreements.append(1) or agree(*args)
    )
    rng = random.Random(7)
    asked = answered = 0
    one = ForeignGM()
    shapes = [
        one.sa_init(),
        one.sa_init([ike_proposal(1, (256, 128), (3, 1)), ike_proposal(2)]),
        one.sa_init(nonce=bytes(16)),
        one.sa_init(nonce=bytes(15)),
        one.sa_init(extra=[CRITICAL]),
        one.sa_init(extra=[(200, b"", True)]),
        one.sa_init(first=[notification(COOKIE, bytes(17))]),
        one.sa_init(extra=[notification(t, bytes(20)) for t in (NAT_SOURCE, NAT_DESTINATION)]),
        one.sa_init(method=19, value=bytes(64)),
        _bare_nonce(one),
        b"\0" * 17 + b"\x30" + b"\0" * 10,  # a higher major version, as short as can be
    ]
    for number in range(5_000):
        data = bytearray(rng.choice(shapes))
        data[:8] = os.urandom(8)
        outs = site.server.receive(bytes(data), forged(rng), site.now)
        asked += len(data)
        answered += sum(len(out.data) for out in outs)
        assert sum(len(out.data) for out in outs) <= len(data), number
        site.now += 1
    assert answered / asked <= 1
    assert site.server.status(0) == {**before, "counters": dict(site.server.counters)}
    assert agreements == []
    for counter in ("cookie_asked", "cookie_wrong"):
        assert site.server.counters[counter] > 100
    # in the middle of it members register: one of ours, and a foreign one
    ours = _ours(site)
    assert ours.state == REGISTERED and ours.kd.bags
    site.now += 1
    assert Peer(site, "press-7", wants=1).join().tek
    assert len(agreements) == 2


def _bare_nonce(gm):
    """Nothing but a nonce: shorter than the question for a cookie."""
    data = gm.sa_init()
    body = struct.pack(">BBH", 0, 0, 20) + bytes(16)
    return data[:16] + bytes([NONCE]) + data[17:24] + struct.pack(">I", 28 + len(body)) + body


def _ours(site, address="ours"):
    """lib/covey's own member, from its first message on."""
    fields = {"version": 1, "group": "line1", "idi": "press-7", "servers": [{"host": "h"}]}
    member = Registration(Config(fields, psk=KEY), site.now)
    for _ in range(10_000):
        member.step(site.now)
        sent = member.take_outgoing()
        while sent:
            for out in site.server.receive(bytes(sent[0]), address, site.now):
                if out.address == address:
                    member.receive(out.data, site.now)
            sent = member.take_outgoing()
        if member.take_outcome():
            break
    return member


def test_below_the_threshold_nobody_is_asked(site):
    fill(site, 63)
    assert COOKIE not in Peer(site, "press-7").connect()
    assert site.server.counters["cookie_asked"] == 0


def test_the_threshold_is_policy(tmp_path):
    site = Site(tmp_path / "state.db", "cookies_from = 0\n" + SITE + LINE1)
    site.add("press-7")
    peer = Peer(site, "press-7").join()
    assert peer.tek and site.server.counters["cookie_asked"] == 1
    assert b"\x40\x06" in peer.gm.init_request  # AUTH covers the request with its cookie


def test_a_proven_peer_makes_room_for_the_next(site):
    gms = []
    for i in range(64):
        gms.append(ForeignGM(psk=KEY))
        site.connect(gms[-1], f"a{i}")
    gm = ForeignGM(psk=KEY)
    cookie_of(gm, site.talk(gm.sa_init(), "b"))
    site.ask(gms[0], "a0")
    cookie_of(gm, site.talk(gm.sa_init(), "b"))  # not now so, now so: it may have one under way
    site.wait(10_000)
    gm.take_sa_init(site.talk(gm.sa_init(), "b"))


@pytest.mark.parametrize("wrong", ["host", "spi", "nonce", "cut", "long", "bit", "version", "old"])
def test_a_wrong_cookie_is_none(site, wrong):
    fill(site)
    gm, where = ForeignGM(psk=KEY), Address(0, "192.0.2.1", 4500, b"", 0)
    cookie = cookie_of(gm, site.talk(gm.sa_init(), where))
    assert len(cookie) == COOKIE_LEN
    if wrong == "host":
        where = where._replace(host="192.0.2.2")
    elif wrong == "spi":
        gm.spi_i = os.urandom(8)
    elif wrong == "nonce":
        gm.nonce_i = os.urandom(32)
    elif wrong == "cut":
        cookie = cookie[:-1]
    elif wrong == "long":
        cookie += b"\0"
    elif wrong == "bit":
        cookie = cookie[:-1] + bytes([cookie[-1] ^ 1])
    elif wrong == "version":
        cookie = bytes([cookie[0] ^ 1]) + cookie[1:]
    elif wrong == "old":
        for _ in range(2):
            site.wait(LIFE_MS)
            fill(site)
    states = site.server.status(0)["ike_sas"]
    request = gm.sa_init(first=[notification(COOKIE, cookie)])
    assert site.server.has_cookie(request, where, site.now) is False
    answer = site.talk(request, where)
    again = cookie_of(gm, answer)  # it is told a right one
    assert again != cookie and site.server.counters["cookie_wrong"] == 1
    assert site.server.status(0)["ike_sas"] == states
    request = gm.sa_init(first=[notification(COOKIE, again)])
    assert site.server.has_cookie(request, where, site.now)
    gm.take_sa_init(site.talk(request, where))


def test_a_cookie_of_the_last_minute_counts_and_any_port_will_do(site):
    fill(site)
    gm, where = ForeignGM(psk=KEY), Address(0, "192.0.2.1", 4500, b"", 0)
    cookie = cookie_of(gm, site.talk(gm.sa_init(), where))
    site.wait(LIFE_MS)
    fill(site)
    where = where._replace(port=1029)  # a NAT's whim
    gm.take_sa_init(site.talk(gm.sa_init(first=[notification(COOKIE, cookie)]), where))
    gm.take_group(site.ask(gm, where))


def test_a_cookie_that_was_not_asked_for_is_ignored(site):
    gm = ForeignGM(psk=KEY)
    gm.take_sa_init(site.talk(gm.sa_init(first=[notification(COOKIE, b"of another server")])))
    gm.take_group(site.ask(gm))


def test_repeats_help_to_flood_nobody(site):
    """A request below the threshold was answered at more length; its repeats are not, and who
    hears us gets through all the same."""
    gm = ForeignGM(psk=KEY)
    short = gm.sa_init(nonce=bytes(16))
    first = site.talk(short)
    assert len(first) > len(short) and site.talk(short) == first
    for i in range(63):
        site.talk(ForeignGM().sa_init(), f"f{i}")
    facts = site.server.status(0)
    asked = site.talk(short)
    assert len(asked) <= len(short) and site.server.status(0)["ike_sas"] == facts["ike_sas"]
    with_cookie = gm.sa_init(first=[notification(COOKIE, cookie_of(gm, asked))], nonce=bytes(16))
    assert site.talk(with_cookie)[:16] not in (first[:16], asked[:16])
    site.wait(table.UNPROVEN_MS + 1)
    fill(site)
    cookie = cookie_of(gm, site.talk(gm.sa_init(nonce=gm.nonce_i)))
    proven = gm.sa_init(first=[notification(COOKIE, cookie)])
    answer = site.talk(proven)
    assert site.talk(proven) == answer  # its address has shown that it hears us


def test_repeats_of_a_members_request_help_to_flood_nobody_else(site):
    """Who has seen it on its way sends it again, as if it were from somebody else."""
    gm = site.connect(ForeignGM(psk=KEY), "a")
    request = gm.gsa_auth()
    answer = site.talk(request, "a")
    assert len(answer) > len(request)
    assert site.talk(request, "victim") == answer  # section 2.1: while there is no flood
    fill(site)
    assert site.talk(request, "victim") is None and site.talk(request, "a") == answer
    short = gm.seal(INFORMATIONAL, [])
    assert len(site.talk(short, "a")) <= len(short) and site.talk(short, "victim")


def test_one_host_gets_a_share_of_the_table_only(tmp_path, monkeypatch):
    site = Site(tmp_path / "state.db", "cookies_from = 1024\n" + SITE + LINE1)
    site.add("press-7")
    monkeypatch.setattr(halfopen, "MOST_PER_HOST", 20)
    addresses = [Address(0, "192.0.2.66", port, b"", 0) for port in range(1, 30)]
    answers = [site.talk(ForeignGM().sa_init(), address) for address in addresses]
    assert [answer is None for answer in answers] == [False] * 20 + [True] * 9
    assert site.server.counters["half_open_full"] == 9
    assert Peer(site, "press-7").join().tek  # from elsewhere
    site.wait(table.UNPROVEN_MS + 1)
    assert site.talk(ForeignGM().sa_init(), addresses[0])
    assert site.server._responder._table.half_open == 1


def host(number, port=4500):
    return Address(0, f"192.0.{number >> 8}.{number & 255}", port, b"", 0)


@pytest.fixture
def crowded(tmp_path, monkeypatch):
    """A table of 40 half-open IKE SAs, 16 of a host, all of them taken by four real hosts."""
    monkeypatch.setattr(table, "MOST_UNPROVEN", 40)
    monkeypatch.setattr(halfopen, "MOST_PER_HOST", 16)
    site = Site(tmp_path / "state.db", "cookies_from = 1024\n" + SITE + LINE1)
    site.add("press-7")
    for port in range(10):
        for number in range(4):
            site.now += 1
            assert site.talk(ForeignGM().sa_init(), host(number, port))
    yield site
    site.store.close()


def shares(site):
    of = site.server._responder._table.half_open_of
    return [of(f"192.0.0.{number}") for number in range(4)]


def test_few_hosts_keep_nobody_out_of_a_full_table(crowded):
    """The oldest of whose share is the largest makes room, however fast they fill it again."""
    gm = ForeignGM(psk=KEY)
    gm.take_sa_init(crowded.talk(gm.sa_init(), host(9)))
    assert crowded.server.status(0)["unproven"] == 40 and sum(shares(crowded)) == 39
    for port in range(10, 60):
        for number in range(4):
            crowded.talk(ForeignGM().sa_init(), host(number, port))
    gm.take_group(crowded.ask(gm, host(9)))
    assert crowded.server.counters["half_open_displaced"] == 1
    assert crowded.server.counters["half_open_full"] == 200


def test_as_many_hosts_as_places_wait_for_the_oldest_to_yield(crowded):
    for number in range(10, 46):  # each takes a place of those who have many
        crowded.now += 1
        assert crowded.talk(ForeignGM().sa_init(), host(number))
    assert shares(crowded) == [1, 1, 1, 1]
    late = host(99)
    assert crowded.talk(ForeignGM().sa_init(), late) is None
    crowded.wait(table.YIELDS_MS)
    gm = ForeignGM(psk=KEY)
    gm.take_sa_init(crowded.talk(gm.sa_init(), late))
    gm.take_group(crowded.ask(gm, late))


def test_behind_one_address_the_oldest_yields_in_time(tmp_path, monkeypatch):
    """Members behind one NAT, and somebody there who fills its share."""
    monkeypatch.setattr(halfopen, "MOST_PER_HOST", 5)
    site = Site(tmp_path / "state.db", "cookies_from = 1024\n" + SITE + LINE1)
    site.add("press-7")
    first = ForeignGM(psk=KEY)
    first.take_sa_init(site.talk(first.sa_init(), host(1, 1)))
    site.now += 1000
    for port in range(2, 9):
        site.talk(ForeignGM().sa_init(), host(1, port))
    assert site.server.counters["half_open_full"] == 3
    first.take_group(site.ask(first, host(1, 1)))  # nobody has taken its place
    assert site.talk(ForeignGM().sa_init(), host(1, 20))
    site.wait(table.YIELDS_MS)
    gm = ForeignGM(psk=KEY)
    gm.take_sa_init(site.talk(gm.sa_init(), host(1, 30)))
    gm.take_group(site.ask(gm, host(1, 30)))
    site.store.close()


def test_what_is_counted_as_half_open_is(site):
    """Through every way out of that state."""
    sas = site.server._responder._table
    good, bad, silent = (ForeignGM(psk=key) for key in (KEY, b"x" * 32, KEY))
    for name, gm in (("a", good), ("b", bad), ("c", silent)):
        site.connect(gm, name)
    assert (sas.half_open, [sas.half_open_of(host) for host in "abc"]) == (3, [1, 1, 1])
    site.ask(good, "a")
    site.talk(bad.gsa_auth(), "b")
    assert (sas.half_open, [sas.half_open_of(host) for host in "abc"]) == (1, [0, 0, 1])
    site.wait(table.UNPROVEN_MS + 1)
    assert (sas.half_open, sas._half_open_by) == (0, {})


def _closely(data):
    """Its first cookie, and Ni; None: nobody can read it."""
    try:
        parts = Parts(ike.parse_message(bytes(data))[1])
        nonce = ike.check_nonce(parts.needed(NONCE))
    except FormatError:
        return None
    return next(n.data for n in parts.notifies if n.type == COOKIE), nonce


def test_the_quick_reading_of_a_request_says_what_the_close_one_says():
    """Where it says anything: of requests as they are, altered, cut, with a cookie anywhere."""
    rng = random.Random(11)
    one = ForeignGM()
    nat = [notification(t, bytes(20)) for t in (NAT_SOURCE, NAT_DESTINATION)]
    cookie = notification(COOKIE, bytes(17))
    shapes = [
        one.sa_init(),
        one.sa_init(extra=nat),
        one.sa_init(extra=[CRITICAL, *nat]),
        one.sa_init(first=[cookie]),
        one.sa_init(extra=[*nat, cookie]),
        one.sa_init(extra=[(NONCE, bytes(32))]),
        one.sa_init(extra=nat * 20),
        one.sa_init(nonce=bytes(15)),
        _bare_nonce(one),
    ]
    quick = cookies = 0
    for number in range(20_000):
        data = bytearray(rng.choice(shapes))
        if number >= len(shapes) * 50:
            for _ in range(rng.randrange(1, 4)):
                at = rng.choice([16, *range(28, len(data))])
                data[at] = rng.choice([0, 1, 4, 8, 40, 41, 44, rng.randrange(256)])
        behind = shown(bytes(data)) if data[16] == 41 else None
        if behind and behind[1]:
            assert _closely(data) in ((behind[0], behind[1]), None)
            cookies += 1
        found = bare_nonce(data[16], bytes(data))
        if found is None:
            continue
        quick += 1
        try:
            parts = Parts(ike.parse_message(bytes(data))[1])
        except FormatError:  # a notification that is none, which nobody reads
            continue
        assert found == ike.check_nonce(parts.needed(NONCE))
        assert COOKIE not in [n.type for n in parts.notifies]
    assert quick > 5_000 and cookies > 1_000
    assert shown(one.sa_init(first=nat[:1])) is None
    assert bare_nonce(0, one.sa_init()[:28]) is None


def test_secrets_of_cookies():
    made = []

    def chance(n):
        made.append(bytes([len(made) % 256]) * n)
        return made[-1]

    cookies = Cookies(chance)
    of = b"spi of i", b"n" * 16, "192.0.2.1"
    first = cookies.make(*of, 0)
    assert cookies.make(*of, LIFE_MS - 1) == first and len(made) == 1
    assert cookies.make(*of, LIFE_MS) != first and len(made) == 2
    assert cookies.is_ours(first, *of, 2 * LIFE_MS - 1)
    assert not cookies.is_ours(first, *of, 2 * LIFE_MS)
    second = cookies.make(*of, 3 * LIFE_MS - 1)
    assert not cookies.is_ours(second, *of, 9 * LIFE_MS)  # nobody asked for a long time
    for n in range(300):  # the version goes around
        cookie = cookies.make(*of, (10 + n) * LIFE_MS)
        assert cookies.is_ours(cookie, *of, (10 + n) * LIFE_MS)
    assert not cookies.is_ours(bytes(17), *of, 400 * LIFE_MS)
    assert not Cookies(chance).is_ours(bytes(17), *of, 0)  # no former secret: nothing fits it
    shifted = b"spi of i", b"n" * 17, "192.0.2.1"
    assert cookies.make(*of, 500 * LIFE_MS) != cookies.make(*shifted, 500 * LIFE_MS)


def test_the_answer_is_what_rfc_7296_draws(site):
    fill(site)
    gm = ForeignGM(psk=KEY)
    answer = site.talk(gm.sa_init())
    head = struct.pack(">BBBBII", 41, 0x20, ike.IKE_SA_INIT, 0x20, 0, len(answer))
    assert answer[:28] == gm.spi_i + bytes(8) + head
    assert answer[28:36] == struct.pack(">BBHBBH", 0, 0, 8 + COOKIE_LEN, 0, 0, COOKIE)
