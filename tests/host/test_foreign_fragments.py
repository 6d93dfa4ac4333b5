"""IKE fragmentation between ends of ours and foreign ones: RFC 7383, RFC 9838 section 2.4.1.2."""

import random

import pytest

from foreign_city import City
from foreign_gm import (
    GSA_AUTH,
    GSA_REGISTRATION,
    IDG,
    INFORMATIONAL,
    KEY_ID,
    REGISTRATION_FAILED,
    identity,
    notification,
)
from foreign_nat import MARKED
from processes import wait_until

INTERPRETERS = pytest.mark.parametrize("interpreter", ("cpython", "micropython"))
SIZE = 300  # of IP datagrams
MOST = SIZE - 28  # octets of IKE in them, where there is no marker
IV = b"\xee\xee" + bytes(6)


def flipped(data, at=-1):
    data = bytearray(data)
    data[at] ^= 1
    return bytes(data)


def shuffled(parts):
    parts = [*parts, *parts]
    random.Random(7).shuffle(parts)
    return parts


ORDERS = {
    "in order": list,
    "backwards": lambda parts: parts[::-1],
    "each twice": lambda parts: [part for part in parts for _ in range(2)],
    "shuffled": shuffled,
    "forged ones first": lambda parts: [*map(flipped, parts), *parts],
    "forged number": lambda parts: [*(flipped(part, 33) for part in parts), *parts],
    "forged total": lambda parts: [*(flipped(part, 35) for part in parts), *parts],
    "forged next payload": lambda parts: [flipped(parts[0], 28), *parts],
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = City(tmp_path_factory.mktemp("city"), settings=f"fragment_size = {SIZE}")
    yield made
    made.close()


@pytest.fixture
def city(running):
    yield running
    running.clear()


# Our key server


@pytest.mark.parametrize("order", ORDERS)
def test_fragments_in_every_order(city, order):
    """Of ours, and whatever it sends fits; asked again by fragment 1, it says the same."""
    gm = city.gm()
    gm.room, gm.most = 40, MOST
    gm.connect().join(order=ORDERS[order])
    gm.pull()


def test_where_there_is_a_marker(city):
    gm = city.gm(at=MARKED)
    gm.room, gm.most = 100, MOST - 4
    gm.connect().join()


def test_whole_messages_to_whom_wants_no_fragments(city):
    gm = city.gm(fragments=False)
    gm.connect().join()
    gm.sa.room = 40
    gm.silence(INFORMATIONAL, [notification(40999, bytes(60))])
    gm.sa.room, gm.sa.own_id = None, gm.sa.own_id - 1
    gm.pull()


def test_a_lost_fragment(city):
    """All are sent again; finer ones take the place of what has come (section 2.6)."""
    gm = city.gm().connect()
    payloads = gm.auth_payloads() + gm.group_payloads()
    message_id = gm.sa.own_id
    gm.sa.own_id += 1
    for room, count in ((60, -1), (60, 1), (45, -1), (30, None)):
        for data in gm.sa.emit(GSA_AUTH, payloads, message_id, room=room)[:count]:
            gm.wire.send(data)
        assert count is None or gm.next(lambda sa, m: True, 0.1) is None
    answer = gm.next(lambda sa, m: m.is_response)
    gm._keep(gm.check_identity(answer.payloads, gm.site))
    gm.pull()


def test_a_repeat_is_answered_by_its_first_fragment(city):
    """Section 2.6.1"""
    gm = city.gm().connect()
    gm.sa.room = 40
    gm.join()
    message_id, parts = gm.sa.request(INFORMATIONAL, [notification(40999, bytes(90))])
    for data in parts:
        gm.wire.send(data)
    assert gm.next(lambda sa, m: m.message_id == message_id).payloads == []
    for data in parts[1:]:
        gm.wire.send(data)
    assert gm.next(lambda sa, m: True, 0.2) is None
    gm.wire.send(parts[0])
    assert gm.next(lambda sa, m: m.message_id == message_id).payloads == []


def test_too_much(city):
    """It is dropped, and the IKE SA goes on with what is in one piece."""
    gm = city.gm().connect().join()
    message_id, _ = gm.sa.request(INFORMATIONAL, [])
    long = [notification(40999, bytes(1000)) for _ in range(6)]
    for room in (900, 20):  # too many octets, too many fragments
        for data in gm.sa.emit(INFORMATIONAL, long, message_id, room=room):
            gm.wire.send(data)
    assert gm.next(lambda sa, m: True, 0.3) is None
    gm.wire.send(gm.sa.emit(INFORMATIONAL, [], message_id)[0])
    assert gm.next(lambda sa, m: m.message_id == message_id).payloads == []
    gm.pull()


UNKNOWN = "unknown"  # of a rekey that came before this member: its repeats


def known(gm):
    return [said for said in gm.heard if said != UNKNOWN]


def rekeyed(city, gm, *said_first):
    """said_first: what another message brought before the one with the new TEK."""
    gm.heard.clear()
    gm.messages.clear()
    city.covey("rekey", "line1")
    new = [*said_first, "rekeyed"]
    gm.hear(lambda: sorted(known(gm)) == sorted(new + ["repeat"] * 2 * len(new)))
    assert [said for said in known(gm) if said != "repeat"] == new
    heard = zip(gm.messages, gm.heard, strict=True)
    assert len({m for m, said in heard if said != UNKNOWN}) == len(new)
    return gm


def test_a_rekey_to_all(city):
    """In fragments if every member knows them, else whole; repeats are the same to the bit."""
    gm = city.gm("kiln")
    gm.promised = False
    gm.connect().join().listen()
    rekeyed(city, gm)
    assert gm.parts_came > 1 and gm.longest <= MOST - 4
    other = city.gm("saw", fragments=False).connect().join()
    gm.parts_came = 0
    rekeyed(city, gm)
    assert gm.parts_came == 0
    left = [(IDG, identity(KEY_ID, other.group)), notification(REGISTRATION_FAILED)]
    assert other.talk(GSA_REGISTRATION, left) == []
    rekeyed(city, gm, "passed on")  # who has left is put out
    assert gm.parts_came > 1


# A member of ours


def opens(bench, member, text):
    wait_until(lambda: bench.air.send(bench.group.teks[0], text, iv=IV) and member.opened(text))


def in_fragments(foreign, room=60, **how):
    bench = foreign(**how)
    server = bench.server
    server.fragments, server.room, server.most = True, room, MOST
    return bench


LONG = "a-press-with-a-name-" * 3  # so that GSA_AUTH is long


@INTERPRETERS
@pytest.mark.parametrize("order", ("in order", "shuffled", "forged ones first"))
def test_a_member_in_fragments(foreign, interpreter, order):
    """Every order: test_requests_in_fragments."""
    bench = in_fragments(foreign)
    bench.server.order = lambda sa, message, datagrams: ORDERS[order](datagrams)
    patient = {"first_ms": 20_000, "total_s": 60}  # whoever repeats has not had enough
    member = bench.talker(interpreter, LONG, fragment_size=SIZE, retransmit=patient)
    assert bench.server.session.split[0] > 1 and bench.server.count("repeat") == 0
    opens(bench, member, b"here")


@INTERPRETERS
@pytest.mark.parametrize("later", (60, 31))
def test_a_lost_fragment_of_the_answer(foreign, interpreter, later):
    bench = in_fragments(foreign)

    def order(sa, message, datagrams):
        """It comes with the repeat, which may be split finer."""
        bench.server.order = lambda sa, message, datagrams: datagrams
        sa.room = later
        payloads = bench.server.said
        finer = sa.emit(message.exchange, payloads, message.message_id, True)
        sa.last = message.datagrams, finer
        return datagrams[:-1]

    bench.server.order = order
    member = bench.talker(interpreter, fragment_size=SIZE)
    assert bench.server.count("repeat") >= 1
    opens(bench, member, b"here")


@INTERPRETERS
def test_nothing_in_fragments_without_agreement(foreign, interpreter):
    """What the member sends is whole, though it is longer than it would like."""
    bench = foreign()
    member = bench.talker(interpreter, LONG, fragment_size=SIZE)
    assert bench.server.session.split == [1]
    opens(bench, member, b"here")


@INTERPRETERS
def test_requests_in_fragments(foreign, interpreter):
    bench = in_fragments(foreign)
    member, server = bench.talker(interpreter, fragment_size=SIZE), bench.server
    long = [notification(40999, bytes(150))]
    for order in ORDERS.values():
        server.tell(server.session, INFORMATIONAL, long, order=order)
        answered = server.session.sa.own_id - 1
        server.until(lambda n=answered: n in server.session.sa.answered)
    # section 2.6.1: fragments of one that was answered ask for the answer by the first of them
    session = server.session
    server.tell(session, INFORMATIONAL, long)
    server.until(lambda: len(session.sa.answers.get(session.sa.own_id - 1, ())) == 2)
    for part in session.sa.asked[1:]:
        server.send(part, session.back)
    assert server.ask(session, INFORMATIONAL, []) == []  # all that came before it is through
    assert len(session.sa.answers[session.sa.own_id - 2]) == 2
    opens(bench, member, b"here")


@INTERPRETERS
def test_rekeys_in_fragments(foreign, interpreter):
    """RESERVED of the first fragment is that of the message that was signed."""
    bench = in_fragments(foreign)
    member = bench.talker(interpreter, fragment_size=SIZE, limits={"sas": 64})
    group = bench.group
    for n, (order, reserved, room) in enumerate(
        [(order, 0x2A * (n % 2), 60 + n) for n, order in enumerate(ORDERS.values())]
    ):
        over = group.kek
        group.renew()
        payloads = [group.gsa(), group.kd(over.kwk)]
        parts = over.message(payloads, group.signer, room=room, reserved=reserved)
        assert len(parts) > 3
        for part in order(parts):
            bench.multicast(part)
        member.heard("rekeyed", n + 1)
        opens(bench, member, b"rekey %d" % n)
    # a lost one comes with the repeat
    over = group.kek
    group.renew()
    parts = over.message([group.gsa(), group.kd(over.kwk)], group.signer, room=80)
    for part in parts[:1] + parts[2:] + parts:
        bench.multicast(part)
    opens(bench, member, b"after all")
    assert bench.server.count("pull") == 0
