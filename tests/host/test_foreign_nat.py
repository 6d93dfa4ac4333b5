"""NATs between ends of ours and foreign ones: found, gone through, and changed (RFC 7296 2.23).

The port that was used first makes no difference (RFC 9838 section 2.1).
"""

import pytest

from foreign_city import City
from foreign_gm import INFORMATIONAL
from foreign_nat import LIKE_500, LIKE_848, MARKED, own_host

EVERY_PORT = pytest.mark.parametrize("at", (LIKE_848, LIKE_500, MARKED))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = City(tmp_path_factory.mktemp("city"))
    yield made
    made.close()


@pytest.fixture
def city(running):
    yield running
    running.clear()


# Our key server


@EVERY_PORT
def test_no_nat(city, at):
    gm = city.gm(at=at).connect()
    assert gm.nat_found == {"ours": False, "theirs": False}
    gm.join().pull()


def test_nobody_is_told_who_did_not_ask(city):
    city.gm(nat=False, fragments=False).connect().join()


@EVERY_PORT
def test_behind_a_nat(city, at):
    """Float with GSA_AUTH; from then on whatever address and port the NAT chooses."""
    nat = city.nat()
    gm = city.gm(at=at, host=nat.host).connect()
    assert gm.nat_found == {"ours": True, "theirs": True}
    gm.float().join()
    gm.wire.keep_alive()
    nat.rebind()
    gm.pull()
    assert gm.talk(INFORMATIONAL, []) == []


@pytest.mark.parametrize("at", (LIKE_848, LIKE_500))
def test_a_member_may_also_stay(city, at):
    """Our server answers at the port where it was asked, NAT or not."""
    nat = city.nat()
    gm = city.gm(at=at, host=nat.host).connect().join()
    nat.rebind()
    gm.pull()


def test_a_nat_that_only_one_side_sees(city):
    for lies in (("source",), ("destination",)):
        gm = city.gm()
        gm.lies = lies
        gm.connect()
        assert gm.nat_found == {"ours": False, "theirs": False}
        gm.float().join()


def test_the_server_asks_where_the_member_last_was(city):
    """A new authentic message moves it. A repeat is answered where it came from and moves
    nothing; no more does a forgery."""
    gm = city.gm("drill").connect().join()
    gm.wire.elsewhere()
    gm.wire.float(MARKED)
    message_id, (last,) = gm.sa.request(INFORMATIONAL, [])
    gm.wire.send(last)
    assert gm.next(lambda sa, m: m.message_id == message_id).payloads == []
    there = gm.wire.elsewhere()
    gm.wire.send(last)
    assert gm.next(lambda sa, m: m.message_id == message_id).payloads == []
    (forged,) = gm.sa.emit(INFORMATIONAL, [], gm.sa.own_id)
    gm.wire.send(forged[:-1] + bytes([forged[-1] ^ 1]))
    assert gm.wire.receive(0.2) is None
    city.covey("member", "remove", "drill")
    assert gm.wire.receive(0.3) is None
    gm.wire.back(there)
    assert gm.serve(exchange=INFORMATIONAL) is not None


# A member of ours


@pytest.fixture
def stage(foreign):
    """foreign_bench.Bench at a host of its own, a foreign key server at every port."""
    return lambda at, **how: foreign(host=own_host(), at=at, **how)


@EVERY_PORT
@pytest.mark.parametrize("interpreter", ("cpython", "micropython"))
def test_no_nat_for_a_member(stage, interpreter, at):
    bench = stage(at)
    bench.server.nat = True
    bench.talker(interpreter)
    session = bench.server.session
    assert session.nat == {"source": True, "destination": True}
    assert [port for port, _ in session.came] == [at]


@EVERY_PORT
@pytest.mark.parametrize("interpreter", ("cpython", "micropython"))
def test_a_member_behind_a_nat(stage, interpreter, at):
    """It floats, and comes back over the same road when the NAT has changed it."""
    bench = stage(at)
    bench.server.nat = True
    nat = bench.through_a_nat()
    member = bench.talker(interpreter)
    session = bench.server.session
    assert session.nat == {"source": False, "destination": False}
    assert [port for port, _ in session.came] == [MARKED]
    nat.rebind()
    bench.exclude()
    bench.server.wait("pull")
    member.heard("registered", 2)
    assert [port for port, _ in session.came] == [MARKED, MARKED]
    assert len({address for _, address in session.came}) == 2


@pytest.mark.parametrize("lie", ("source", "destination"))
@pytest.mark.parametrize("interpreter", ("cpython", "micropython"))
def test_whoever_is_behind_the_nat(stage, interpreter, lie):
    """The member floats."""
    bench = stage(LIKE_848)
    bench.server.nat, bench.server.lies = True, (lie,)
    bench.talker(interpreter)
    assert [port for port, _ in bench.server.session.came] == [MARKED]


@pytest.mark.parametrize("interpreter", ("cpython", "micropython"))
def test_a_server_without_nat_detection(stage, interpreter):
    bench = stage(LIKE_500)
    bench.talker(interpreter)
    assert [port for port, _ in bench.server.session.came] == [LIKE_500]
