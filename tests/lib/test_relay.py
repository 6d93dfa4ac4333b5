"""Unicast delivery at a member: ESP and IKE on one socket."""

from covey import port
from covey.drops import (
    DROP_CAPACITY,
    DROP_EMPTY,
    DROP_IKE_HEADER,
    DROP_KEEPALIVE,
    DROP_SOCKET,
    DROP_TAG,
    DROP_UNKNOWN_SPI,
    IKE_MESSAGE,
    ConfigError,
)
from covey.relay import Relay
from datapath import a_receiver, good, heap_octets

_SERVER = ("192.0.2.9", 4500)


class _Wire:
    """In place of the port's recv_from and send."""

    def __init__(self):
        self.queue = []
        self.sent = []
        self.real = port.recv_from, port.send
        port.recv_from, port.send = self.recv_from, self.send

    def done(self):
        port.recv_from, port.send = self.real

    def recv_from(self, sock, buf, most=0, longer=None):
        if not self.queue:
            return -1, None
        datagram = self.queue.pop(0)
        n = len(datagram)
        if n <= len(buf):
            buf[:n] = datagram
        elif n <= most:
            longer.append(datagram)
        return min(n, max(len(buf), most) + 1), _SERVER

    def send(self, sock, view, address):
        self.sent.append((sock, bytes(view), address))


def _with(story):
    wire = _Wire()
    try:
        story(wire, Relay("sock"), a_receiver())
    finally:
        wire.done()


def test_data_and_messages_come_to_one_socket():
    def story(wire, relay, m):
        wire.queue += [good(), bytes(4) + b"ike", b"\xff", b"", good(seq=2)[:-1] + b"?", b"x" * 40]
        assert relay.receive(m) == 10 and m.payload == b"speed=1500" and m.sender == 65
        assert relay.receive(m) == IKE_MESSAGE
        assert relay.message == b"ike" and relay.source == ("192.0.2.9", 4500, True)
        for reason in (DROP_KEEPALIVE, DROP_EMPTY, DROP_TAG, DROP_UNKNOWN_SPI):
            assert relay.receive(m) == reason and m.drops.of(reason) == 1
        assert relay.receive(m) is None and wire.queue == []

    _with(story)


def test_what_is_longer_than_rx():
    def story(wire, relay, m):
        assert len(m.rx) == 512
        long, longest = bytes(4) + b"i" * 1000, bytes(4) + b"i" * 4096
        wire.queue += [long, b"\0\0\0\1" + bytes(600), longest, good(), longest, long]
        assert relay.receive(m) == IKE_MESSAGE and relay.message == long[4:]
        assert relay.receive(m) == DROP_IKE_HEADER  # longer than any ESP that we take
        assert relay.receive(m) == DROP_IKE_HEADER  # and longer than what is read at first
        assert relay.receive(m) == 10
        assert relay.receive(m) == IKE_MESSAGE and relay.message == longest[4:]  # said again
        assert relay.receive(m) == IKE_MESSAGE and relay.message == long[4:]
        for _ in range(6):
            wire.queue.append(bytes(4) + b"ike")
            assert relay.receive(m) == IKE_MESSAGE
        wire.queue.append(longest)
        assert relay.receive(m) == DROP_IKE_HEADER  # no such buffer any more

    _with(story)


def test_troubles_of_the_socket():
    def story(wire, relay, m):
        port.recv_from = lambda *args: (-2, None)
        assert relay.receive(m) == DROP_SOCKET and m.drops.of(DROP_SOCKET) == 1

        def short(*args):
            m.rx[:8] = bytes(8)
            return 8, None  # whose address no memory is left for

        class NoRoom:
            def __getitem__(self, i):
                raise MemoryError

        port.recv_from = lambda sock, buf, most, longer: (short()[0], NoRoom())
        assert relay.receive(m) == DROP_CAPACITY

    _with(story)


def test_packets_go_to_the_key_server():
    class Addresses:
        def of(self, server):
            if server == "lost":
                raise ConfigError("no such name")
            return server

    def story(wire, relay, m):
        relay.aim(Addresses(), "there")
        assert relay.send(memoryview(b"abc")[1:]) is None
        relay.aim(Addresses(), "lost")
        relay.send(b"x")
        assert wire.sent == [("sock", b"bc", "there"), ("sock", b"x", "there")]

    _with(story)


_ESP = [good(), good()[:-1] + b"?"]
_FOUND = len(_ESP[0]), _SERVER
_next = [0]


def _recv_from(sock, buf, most, longer):
    """No closure: calling one with so many arguments takes heap itself."""
    _fill(buf, _ESP[_next[0]])
    _next[0] = 1 - _next[0]
    return _FOUND


def _fill(buf, datagram):
    for i in range(len(datagram)):
        buf[i] = datagram[i]


def test_no_heap_behind_the_socket():
    m = a_receiver(bits=None, form=None)  # no window: each may come again
    relay = Relay("sock")
    real, port.recv_from = port.recv_from, _recv_from
    try:

        def step():
            assert relay.receive(m) == 10
            assert relay.receive(m) == DROP_TAG

        assert heap_octets(step) == 0
    finally:
        port.recv_from = real


def test_what_was_lost_for_want_of_memory_is_not_read_later():
    def story(wire, relay, m):
        real = port.recv_from

        def no_address(sock, buf, most, longer):
            longer.append(bytes(4) + b"l" * 1000)
            raise MemoryError

        port.recv_from = no_address
        try:
            relay.receive(m)
        except MemoryError:
            pass
        port.recv_from = real
        wire.queue.append(good())
        assert relay.receive(m) == 10 and m.payload == b"speed=1500"
        assert relay.receive(m) is None and relay.message is None

    _with(story)
