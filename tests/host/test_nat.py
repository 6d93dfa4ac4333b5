"""Ports and NATs (RFC 7296 section 2.23): hashes, and members whose address changes."""

import socket
import tomllib

import pytest

from covey_host.gcks import policy
from covey_host.gcks.sockets import Address
from foreign_gm import (
    CREATE_CHILD_SA,
    GSA_REGISTRATION,
    INFORMATIONAL,
    KE,
    NONCE,
    NOTIFY,
    SA,
    notification,
)
from foreign_gm_udp import GM, Wire
from gcks_site import LINE1, SITE, Site
from ike_peer import DELETE_IKE, NAT_DESTINATION, NAT_SOURCE, Asked, Peer, nat_hash
from site_bench import Bench, free_port

INBAND = SITE + LINE1 + 'rekey = "inband"\n'
LOCAL = socket.inet_aton("198.51.100.7")


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db", INBAND)
    made.add("a")
    yield made
    made.store.close()


def at(port, host="192.0.2.1", local_port=4500, endpoint=0):
    return Address(endpoint, host, port, LOCAL, local_port)


# NAT detection


ASKED = [notification(NAT_SOURCE, b"s" * 20), notification(NAT_DESTINATION, b"d" * 20)]


@pytest.mark.parametrize("local_port", [848, 500, 4500, 5500])
def test_both_hashes_are_answered_on_every_port(site, local_port):
    a = Peer(site, "a", address=at(1029, local_port=local_port))
    found = a.connect(asked=ASKED)
    spis = a.gm.spi_i, a.gm.spi_r
    assert found[NAT_SOURCE] == nat_hash(*spis, "198.51.100.7", local_port)
    assert found[NAT_DESTINATION] == nat_hash(*spis, "192.0.2.1", 1029)
    a.join()


def test_only_who_asks_is_answered(site):
    assert not {NAT_SOURCE, NAT_DESTINATION} & set(Peer(site, "a", address=at(1)).connect())
    # one is enough to ask; several sources may be there (section 2.23)
    several = [notification(NAT_SOURCE, bytes([n]) * 20) for n in range(3)]
    found = Peer(site, "a", address=at(1)).connect(asked=several)
    assert {NAT_SOURCE, NAT_DESTINATION} <= set(found)


def test_where_the_system_does_not_say_our_address_nothing_is_answered(site):
    nowhere = Address(0, "192.0.2.1", 1029, b"", 4500)
    assert Peer(site, "a", address=nowhere).connect(asked=ASKED) == {}


@pytest.mark.parametrize(
    "listen, answered",
    [
        ('["0.0.0.0:848"]', False),  # who went on at port 4500 would find nobody
        ('["0.0.0.0:848", "0.0.0.0:500"]', False),
        ('["0.0.0.0:848", "0.0.0.0:4500"]', True),
        ('["0.0.0.0:848", {address = "0.0.0.0:5500", marker = true}]', False),
        ('["198.51.100.7:848", "198.51.100.8:4500"]', False),  # another address of ours
        ('["198.51.100.7:848", "198.51.100.7:4500"]', True),
        ('[{address = "0.0.0.0:848", marker = true}]', True),  # it need not go on elsewhere
    ],
)
def test_a_nat_is_told_of_only_where_there_is_a_way_through_it(tmp_path, listen, answered):
    site = Site(tmp_path / "state.db", f"listen = {listen}\n" + INBAND)
    site.add("a")
    found = Peer(site, "a", address=at(1029, local_port=848)).connect(asked=ASKED)
    assert ({NAT_SOURCE, NAT_DESTINATION} <= set(found)) is answered
    site.store.close()


def test_a_reload_opens_no_other_ports(site):
    """So nobody is sent to one that is not open, and the ports of before are still told of."""
    other = policy.parse('listen = ["0.0.0.0:848"]\n' + INBAND)
    site.send(site.server.reload(other, site.now))
    assert len(Peer(site, "a", address=at(1)).connect(asked=ASKED)) == 2
    assert site.server.keys(site.now)["ports"] == {848: False, 500: False, 4500: True}


def test_hashes_of_a_strange_length_are_no_reason_to_fail(site):
    odd = [notification(NAT_SOURCE, b""), notification(NAT_DESTINATION, b"x" * 300)]
    assert len(Peer(site, "a", address=at(1)).connect(asked=odd)) == 2


# Members that move


def addresses(site):
    return {sa.address for sa in site.server._responder._sas.values()}


def moved(a, address):
    a.address = address
    return a


def test_a_member_is_followed_by_its_requests(site):
    a = Peer(site, "a", address=at(1)).join()
    moved(a, at(2)).pull()
    assert addresses(site) == {at(2)}
    site.send(site.server.rekey("line1", site.now))
    a.served()
    # to another port of ours, with another local address
    moved(a, at(3, "192.0.2.99", 500, 1)).pull()
    site.now += 100
    site.send(site.server.rekey("line1", site.now))
    assert a.served()


def test_the_float_to_4500_between_the_first_two_exchanges(site):
    a = Peer(site, "a", address=at(500, local_port=500))
    a.connect(asked=ASKED)
    moved(a, at(4500, local_port=4500, endpoint=1)).join()
    assert addresses(site) == {at(4500, endpoint=1)}


def test_a_member_is_followed_by_its_answers(site):
    a = Peer(site, "a", address=at(1)).join()
    site.send(site.server.rekey("line1", site.now))
    [(exchange, message_id, payloads)] = a.requests()
    moved(a, at(2)).answer(exchange, message_id)
    assert addresses(site) == {at(2)}
    site.send(site.server.rekey("line1", site.now))
    assert payloads and a.requests()


def test_a_request_is_repeated_to_where_the_member_is(site):
    a = Peer(site, "a", address=at(1)).join()
    site.send(site.server.rekey("line1", site.now))
    a.collect()
    [lost] = a.inbox
    moved(a, at(2)).pull()
    a.inbox.clear()
    site.wait(1_000)
    a.collect()
    assert a.inbox == [lost]


def test_repeats_and_forgeries_move_nobody(site):
    a = Peer(site, "a", address=at(1)).join()
    request = a.sealed(GSA_REGISTRATION, a.gm.group_payloads())
    a.take(a.post(request, GSA_REGISTRATION))
    thief = at(6, "203.0.113.6")
    outs = site.server.receive(request[0], thief, site.now)  # a repeat is answered, no more
    assert [out.address for out in outs] == [thief]
    forged = bytearray(a.sealed(INFORMATIONAL, [])[0])
    forged[-1] ^= 1
    assert site.server.receive(bytes(forged), thief, site.now) == []
    site.send(site.server.rekey("line1", site.now))
    [(exchange, message_id, _)] = a.requests()
    answer = a.sa.seal(exchange, [], message_id, 0x20)[0]
    bad = answer[:-1] + bytes([answer[-1] ^ 1])
    assert site.server.receive(bad, thief, site.now) == []
    assert addresses(site) == {at(1)}
    a._send([answer])
    assert site.server.receive(answer, thief, site.now) == []  # it was taken already
    early = a.sa.seal(exchange, [], message_id + 1, 0x20)[0]
    assert site.server.receive(early, thief, site.now) == []
    assert addresses(site) == {at(1)}


def test_a_repeated_first_message_moves_nobody(site):
    a = Peer(site, "a", address=at(1))
    a.connect()
    thief = at(6, "203.0.113.6")
    site.server.receive(a.gm.init_request, thief, site.now)  # another IKE SA, half-open
    a.join()
    assert a.sa.spi_r in site.server._responder._sas
    assert site.server._responder._sas[a.sa.spi_r].address == at(1)


def test_a_new_ike_sa_knows_where_its_member_is(site):
    a = Peer(site, "a", address=at(1)).join()
    asked, old = Asked(), a.sa
    moved(a, at(2))
    a.sa = a.concluded(asked, a.ask(CREATE_CHILD_SA, asked.payloads()), old)
    assert a.ask(INFORMATIONAL, [DELETE_IKE], old) == []
    site.send(site.server.rekey("line1", site.now))
    assert a.served()


# The real sockets


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


class AskingGM(GM):
    """Asks for NAT detection, and keeps what it is told."""

    def take_sa_init(self, data):
        payloads = self.clear(data)
        self.told = {int.from_bytes(b[2:4]): b[4:] for k, b in payloads if k == NOTIFY}
        plain = [(k, b) for k, b in payloads if k in (SA, KE, NONCE)]
        self.clear = lambda _: plain
        super().take_sa_init(data)
        del self.clear


def walk(bench, ports, host="127.0.0.1"):
    """A member begins on one port, goes on at the next, is told new keys there; all around.

    ports: [(number, whether it has the marker)].
    """
    bench.edit(f"carrier_port = {bench.carrier_port}", 'rekey = "inband"')
    bench.member("press-7", "--sender")
    psk = bytes.fromhex((bench.root / "members" / "press-7" / "psk").read_text())
    identity = tomllib.loads((bench.root / "covey.toml").read_text())["identity"].encode()
    server = bench.serve()
    listen = {entry.rpartition(":")[2] for entry in server.heard[-1]["listen"]}
    if listen != {str(port) for port, _ in ports}:
        pytest.skip(f"only {listen} can be opened here")
    for first in range(len(ports)):
        wire, floated = (wire_to(host, *ports[(first + n) % len(ports)]) for n in (0, 1))
        gm = AskingGM(wire, identity, b"press-7", psk, wants=1)
        gm.connect(extra=ASKED)
        own = wire._sock.getsockname()
        spis = gm.spi_i, gm.spi_r
        if ports[first][1] or 4500 in [port for port, _ in ports]:  # else there is no way on
            assert gm.told[NAT_SOURCE] == nat_hash(*spis, host, ports[first][0])
            assert gm.told[NAT_DESTINATION] == nat_hash(*spis, "127.0.0.1", own[1])
        gm.wire = floated
        found = gm.ask_for_group()
        assert [kind for kind, _ in found] == [51, 52, NOTIFY]
        floated._sock.sendto(b"\xff", floated._to)  # keep-alives are dropped quietly
        bench.covey("rekey", "line1")
        request = floated.receive()
        message_id = int.from_bytes(request[20:24])
        assert [k for k, _ in gm.open(request, 42, message_id, 0)] == [51, 52, 42]
        floated.send(gm.seal(42, [], message_id=message_id, flags=0x28))
        assert gm.talk(GSA_REGISTRATION, gm.group_payloads())
        assert wire.receive(0) is None
        for one in (wire, floated):
            one.close()
    status = bench.status()
    assert status["groups"]["line1"]["holders"] == ["press-7"]
    assert status["server"]["drops"] == {"keepalive": 1}  # of the one port with a marker


def wire_to(host, port, marker):
    wire = Wire(port, marker)
    wire._to = host, port
    return wire


def test_every_entry_of_listen_behaves_the_same(bench):
    plain, marked, other = bench.port, free_port(), free_port()
    entries = [
        f'"127.0.0.1:{plain}"',
        f'{{ address = "127.0.0.1:{marked}", marker = true }}',
        f'"0.0.0.0:{other}"',
    ]
    bench.edit(f'"127.0.0.1:{plain}"', ", ".join(entries))
    walk(bench, [(plain, False), (marked, True), (other, False)])


def test_the_registered_ports_behave_the_same(bench):
    """4500 brings 848 and 500 along, where they may be opened (as root, mostly)."""
    bench.edit(f'"127.0.0.1:{bench.port}"', '"127.78.0.1:4500"')
    walk(bench, [(848, False), (4500, True), (500, False)], "127.78.0.1")
