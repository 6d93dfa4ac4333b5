"""The relay's queue and sockets: bounded, behind key service, counted; groups joined and left."""

import asyncio
import socket
from collections import Counter
from types import SimpleNamespace

import pytest

from covey import port
from covey_host.gcks.relay import Carried
from covey_host.gcks.relaying import Relaying
from processes import PATIENCE_S
from site_bench import GROUP, free_port

PLACE = SimpleNamespace(endpoint=0)


class Rules:
    """In place of the relay's: what is asked, what is answered."""

    def __init__(self):
        self.asked = []
        self.groups = {}
        self.is_idle = False
        self.carried = lambda data: Carried(data, None, (PLACE,))

    def knows(self, address):
        return address is not None

    def listening(self):
        return self.groups

    def expects(self, name, data, now_ms):
        return name in self.groups and data[:4] == b"spi."

    def from_member(self, data, address, now_ms):
        self.asked.append(data)
        return self.carried(data)

    def from_group(self, name, data, now_ms):
        self.asked.append((name, data))
        return None


class Sink:
    def __init__(self, error=0):
        self.error, self.sent = error, []

    def send_esp(self, data, address):
        self.sent.append(data)
        return self.error


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def made():
    rules, sink, counters, said = Rules(), Sink(), Counter(), []
    way = SimpleNamespace(interface="127.0.0.1")
    parts = rules, [sink], counters, lambda number: (way.interface, 1), said.append, lambda: 0
    return SimpleNamespace(
        rules=rules, sink=sink, counters=counters, said=said, way=way, of=lambda: Relaying(*parts)
    )


def test_a_full_queue_drops_and_others_have_their_turn(made):
    """As fast as datagrams are read, all at once; what waits for the loop comes in between."""
    seen = []

    async def story():
        relaying = made.of()

        def look():
            seen.append(len(made.rules.asked))
            if seen[-1] < 1024:
                asyncio.get_running_loop().call_soon(look)

        for n in range(1100):
            assert relaying.take(b"%d" % n, PLACE)
        asyncio.get_running_loop().call_soon(look)
        while len(made.rules.asked) < 1024:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert relaying.take(b"later", PLACE)
        await until(lambda: made.counters["relay_sent"] == 1025)

    asyncio.run(story())
    assert made.counters == {"relay_queue_full": 76, "relay_sent": 1025}
    assert made.rules.asked[:1024] == [b"%d" % n for n in range(1024)]
    assert made.rules.asked[1024:] == [b"later"]
    steps = [b - a for a, b in zip(seen, seen[1:], strict=False)]
    assert set(steps) <= {0, 16} and len(seen) >= 64


def test_nobody_with_unicast_delivery(made):
    made.rules.is_idle = True
    assert made.of().take(b"x", PLACE) is False  # the caller counts it as it always did


def test_strangers_take_no_place_in_the_queue(made):
    assert made.of().take(b"x", None) is True
    assert made.rules.asked == []


def test_what_the_system_does_not_send_is_counted(made):
    async def story():
        relaying = made.of()
        made.sink.error = 11
        relaying.take(b"x", PLACE)
        await until(lambda: made.counters["relay_unsent"] == 1)
        made.rules.carried = lambda data: Carried(data, "line1", (PLACE, PLACE))
        relaying.take(b"y", PLACE)  # whose group is not joined
        await until(lambda: made.counters["relay_unsent"] == 4)

    asyncio.run(story())
    assert made.counters == {"relay_sent": 0, "relay_unsent": 4}
    assert made.sink.sent == [b"x", b"y", b"y"]


def test_groups_are_joined_and_left(made):
    number = free_port()
    esp = b"spi." + bytes(40)

    def shout(*datagrams):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            loopback = socket.inet_aton("127.0.0.1")
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
            for datagram in datagrams:
                sock.sendto(datagram, (GROUP, number))

    async def story():
        relaying = made.of()
        made.rules.groups = {"line1": (GROUP, number)}
        made.way.interface = "192.0.2.77"
        relaying.follow()
        assert len(made.said) == 1 and "line1 is not relayed" in made.said[0]
        made.way.interface = "127.0.0.1"
        relaying.follow()  # not at once again
        assert not relaying._heard
        relaying._failed.clear()  # later
        relaying.follow()
        relaying.follow()  # a rekey, a keep-alive ... another SPI
        shout(bytes(4) + bytes(60), b"\xff", b"", b"short", bytes([1]) * 60, esp)
        await until(lambda: made.rules.asked)
        assert made.rules.asked == [("line1", esp)]
        made.rules.carried = lambda data: Carried(data, "line1", ())
        listener = port.group_socket(GROUP, number, "127.0.0.1", 1)
        relaying.take(esp, PLACE)
        await until(lambda: len(made.rules.asked) == 3)
        buf = bytearray(100)
        assert port.recv(listener, buf) == len(esp) and buf[: len(esp)] == esp
        made.rules.groups = {}
        relaying.follow()
        shout(esp)
        await asyncio.sleep(0.05)
        assert made.rules.asked[1:] == [esp, ("line1", esp)]  # the one heard back, and no more
        made.rules.groups = {"line1": (GROUP, number)}
        relaying.follow()
        relaying.close()
        assert not relaying._heard
        port.close(listener)

    asyncio.run(story())
