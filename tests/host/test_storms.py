"""Storms at the key server: repeats, replays, reflections, shapes, fragments that never end.

What is bounded is counted: calls of Python functions for a datagram, writes, what is kept.
"""

import os
import random
import struct
import sys

import pytest

from covey import ike, ikefrag
from covey.gcm import GCMContext
from covey_host.bench import flooder
from covey_host.gcks import ikerekey, table
from covey_host.gcks.sockets import Address
from foreign_gm import GSA_AUTH, INFORMATIONAL, ForeignGM
from gcks_site import KEY, Site
from ike_peer import Peer

MOST_CALLS = 1500  # a registration takes more
STORM = 2_000


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db")
    for name in ("press-7", "lamp-1"):
        made.add(name)
    yield made
    made.store.close()


def address(number):
    return Address(0, f"192.0.{number >> 8 & 255}.{number & 255}", 4500, b"\x7f\0\0\1", 4500)


def kept(site):
    """What is in memory of peers."""
    sas = site.server._responder._table
    return len(sas.sas), len(sas._origins), len(sas.unproven), sas.half_open, len(sas.timers._heap)


def calls_of(work, *args):
    """How many calls of Python functions it takes → (them, its result)."""
    count = 0

    def seen(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        result = work(*args)
    finally:
        sys.setprofile(None)
    return count, result


def hear(site, data, where):
    calls, outs = calls_of(site.server.receive, bytes(data), where, site.now)
    assert calls < MOST_CALLS, (calls, bytes(data[:64]).hex())
    return sum(len(out.data) for out in outs)


def counted(monkeypatch, place, name):
    found = []
    real = getattr(place, name)
    monkeypatch.setattr(place, name, lambda *args: found.append(1) or real(*args))
    return found


def test_a_storm_of_repeats_costs_no_arithmetic_no_write_and_no_memory(site, monkeypatch):
    """Of each request of a member, from its own address and from others."""
    gm = ForeignGM(psk=KEY)
    requests = [gm.sa_init()]
    gm.take_sa_init(site.talk(requests[0], address(1)))
    requests.append(gm.gsa_auth())
    assert site.talk(requests[1], address(1))
    half = ForeignGM(psk=KEY)
    requests.append(half.sa_init())
    site.talk(requests[2], address(2))
    agreements = counted(monkeypatch, ikerekey, "agree")
    monkeypatch.setattr("covey_host.gcks.sainit.agree", ikerekey.agree)
    before, written = kept(site), site.revision()
    for number in range(STORM):
        where = address(1 if number % 3 < 2 else 2)
        hear(site, requests[number % 3], where)
    assert (kept(site), site.revision(), agreements) == (before, written, [])
    for number in range(STORM):
        hear(site, requests[1], address(100 + number))
    assert (kept(site), site.revision(), agreements) == (before, written, [])
    assert site.server.counters["request_repeat"] > STORM
    assert Peer(site, "lamp-1").join().tek


def test_replays_of_a_life_that_is_over_do_nothing(site):
    """All that a member ever said, after its IKE SA is gone."""
    gm = ForeignGM(psk=KEY)
    said = [gm.sa_init()]
    gm.take_sa_init(site.talk(said[0], address(1)))
    said.append(gm.gsa_auth())
    gm.take_group(gm.check_identity(gm.open(site.talk(said[1], address(1)), GSA_AUTH)))
    said.append(gm.seal(INFORMATIONAL, []))
    site.talk(said[2], address(1))
    said.append(gm.seal(INFORMATIONAL, [(42, b"\1\0\0\0")]))
    site.talk(said[3], address(1))
    site.wait(table.UNPROVEN_MS + 1)
    written = site.revision()
    for _ in range(200):
        for data in said[1:]:
            assert hear(site, data, address(1)) == 0
    assert site.revision() == written and kept(site)[0] == 0
    new = site.talk(said[0], address(1))  # the first one begins another IKE SA,
    assert kept(site)[:4] == (1, 1, 1, 1) and new[8:16] != gm.spi_r
    assert hear(site, said[1], address(1)) == 0  # which what followed does not fit


def test_what_it_says_itself_is_not_heard(site):
    """Reflected, from the address that it went to, and from its own."""
    gm = ForeignGM(psk=KEY)
    answers = [site.talk(gm.sa_init(), address(1))]
    gm.take_sa_init(answers[0])
    answers.append(site.talk(gm.gsa_auth(), address(1)))
    site.server.rekey("line1", site.now)
    site.wait(1000)
    answers += [out.data for out in site.air]
    before, written = kept(site), site.revision()
    for _ in range(100):
        for data in answers:
            for flags in (data[19], data[19] ^ ike.FLAG_R, data[19] ^ ike.FLAG_I):
                turned = data[:19] + bytes([flags]) + data[20:]
                for where in (address(1), Address(0, "127.0.0.1", 4500, b"\x7f\0\0\1", 4500)):
                    assert hear(site, turned, where) == 0
    assert (kept(site), site.revision()) == (before, written)
    assert gm.open(site.talk(gm.seal(INFORMATIONAL, []), address(1)), INFORMATIONAL) == []


def test_oversized_nested_and_cut_messages_cost_little(site):
    random.seed(8)
    gm = ForeignGM(psk=KEY)
    gm.take_sa_init(site.talk(gm.sa_init(), address(1)))
    before, written = kept(site), site.revision()
    for data in [*flooder.made("shapes", [], 1200), *deep(gm)]:
        hear(site, data, address(2))
    assert (
        kept(site)[0] <= before[0] + 250 and site.revision() == written
    )  # a cut one may be whole
    site.wait(table.UNPROVEN_MS + 1)
    assert kept(site)[:4] == (0, 0, 0, 0)
    assert Peer(site, "press-7").join().tek


def deep(gm):
    """As many payloads, proposals, transforms and notifications as a message holds."""
    one = gm.sa_init()
    for kind, body in (
        (33, struct.pack(">BBHBBBB", 0, 0, 3992, 1, 1, 0, 255) + b"\3\0\0\x08\1\0\0\x14" * 498),
        (33, struct.pack(">BBHBBBB", 2, 0, 8, 1, 1, 0, 0) * 498),
        (41, struct.pack(">BBH", 0, 0, 16390) + bytes(4000)),
        (200, b""),
        (53, bytes(4) * 900),
        (46, bytes(4000)),
    ):
        for count in (1, 64, 65, 900):
            part = struct.pack(">BBH", kind, 0, 4 + len(body)) + body
            text = (part * count)[:4000]
            head = one[:16] + bytes([kind]) + one[17:24] + struct.pack(">I", 28 + len(text))
            yield head + text


def test_fragments_that_never_end_fill_no_more_than_a_message_each(site):
    """A slow-loris: half-open peers that send all but the last fragment, again and again."""
    peers = []
    for number in range(40):
        gm = ForeignGM(psk=KEY)
        more = [(41, struct.pack(">BBH", 0, 0, 16430))]
        gm.take_sa_init(site.talk(gm.sa_init(extra=more), address(number)))
        peers.append(gm)
    written = site.revision()
    for turn in range(12):
        for number, gm in enumerate(peers):
            for data in unending(gm, turn):
                hear(site, data, address(number))
    sas = site.server._responder._table.sas.values()
    assert max(sa._requests._octets for sa in sas) <= ike.MOST_LEN
    assert site.revision() == written and kept(site)[3] == 40
    assert Peer(site, "press-7").join().tek
    site.wait(table.UNPROVEN_MS + 1)
    assert kept(site)[3] == 0


def unending(gm, turn):
    """Genuine fragments of a request, without the last; the more turns, the more of them."""
    body = os.urandom(300 * (turn + 2))
    ivs = iter(range(1 << 40 | turn << 20, 1 << 50))
    made = ikefrag.seal(
        GCMContext(gm.sk_ei),
        gm.spi_i,
        gm.spi_r,
        GSA_AUTH,
        ike.FLAG_I,
        1,
        [(43, body)],
        lambda: next(ivs).to_bytes(8),
        256,
    )
    return made[:-1]
