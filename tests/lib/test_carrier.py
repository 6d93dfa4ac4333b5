"""Carriers between a socket and a Member: what each hands on, counts and leaves alone."""

from covey import carrier, port
from covey.drops import (
    DROP_EMPTY,
    DROP_IP_DESTINATION,
    DROP_IP_HEADER,
    DROP_KEEPALIVE,
    DROP_LENGTH,
    DROP_TAG,
    DROP_UNKNOWN_SPI,
    IKE_MESSAGE,
)
from datapath import a_receiver, good, heap_octets, member_state
from test_ipv4 import header

_GROUP = "239.192.1.32"


class Settings:
    interface = "127.0.0.1"
    ttl = 1


class Wire:
    """In place of the port's sockets: what is to arrive, what was sent."""

    def __init__(self):
        self.queue = []
        self.sent = []
        self.made = []

    def open(self, place, is_framed):
        names = "group_socket esp_socket recv recv_parts send close".split()
        real = [getattr(port, name) for name in names]
        self._restore = lambda: [setattr(port, n, f) for n, f in zip(names, real)]
        for name in names:
            setattr(port, name, getattr(self, name))
        return carrier.open_for(place, is_framed, Settings)

    def done(self):
        self._restore()

    def group_socket(self, group, number, interface, ttl):
        self.made.append((group, number, interface, ttl))
        return "udp"

    def esp_socket(self, group, interface, ttl):
        self.made.append((group, interface, ttl))
        return "raw"

    def recv(self, sock, buf, most=0, longer=None):
        assert sock == "udp"
        if self.queue and len(buf) < len(self.queue[0]) <= most:
            longer.append(self.queue.pop(0))
            return len(longer[0])
        return self.recv_parts("raw", bytearray(0), buf)

    def recv_parts(self, sock, head, buf):
        assert sock == "raw"
        if not self.queue:
            return -1
        datagram = self.queue.pop(0)
        most = len(head) + len(buf)
        if len(datagram) > most:
            return most + 1
        n = min(len(head), len(datagram))
        head[:n] = datagram[:n]
        rest = datagram[n:]
        buf[: len(rest)] = rest
        return len(datagram)

    def send(self, sock, view, address):
        self.sent.append((sock, bytes(view), address))
        return 7

    def close(self, sock):
        self.made.pop()


def _with(place, is_framed, story):
    wire = Wire()
    opened = wire.open(place, is_framed)
    try:
        story(wire, opened, a_receiver())
        assert opened.receive(a_receiver()) is None, "all was read"
        port.close(opened.sock)
        assert wire.made == []
    finally:
        wire.done()


def _refuses(wire, opened, m, datagram, reason):
    counts, state = m.drops.of(reason), member_state(m)
    wire.queue.append(datagram)
    assert opened.receive(m) == reason, datagram
    assert m.drops.of(reason) == counts + 1 and member_state(m) == state


def test_the_ip_carrier():
    def story(wire, opened, m):
        assert wire.made == [(_GROUP, "127.0.0.1", 1)] and opened.sock == "raw"
        esp = good()
        wire.queue.append(header(len(esp)) + esp)
        assert opened.receive(m) == 10 and m.payload == b"speed=1500" and m.sender == 65
        esp = good(seq=2)
        wire.queue.append(header(len(esp), b"\x94\x04\x00\x00" * 10) + esp)
        assert opened.receive(m) == 10 and m.payload == b"speed=1500"
        assert opened.receive(m) is None and opened.message is None
        esp = good(seq=3)
        for bad, reason in (
            (header(len(esp), protocol=17) + esp, DROP_IP_HEADER),
            (header(len(esp)) + esp + header(len(esp)) + esp, DROP_IP_HEADER),
            (header(len(esp), destination=bytes([239, 192, 1, 31])) + esp, DROP_IP_DESTINATION),
            (esp, DROP_IP_HEADER),
            (header(600) + bytes(600), DROP_LENGTH),
            (header(0), DROP_LENGTH),
            (header(1) + b"\xff", DROP_LENGTH),  # no keep-alive here
            (header(35) + esp[:35], DROP_LENGTH),
            (header(38) + esp[:38], DROP_LENGTH),
            (header(len(esp)) + bytes(4) + esp[4:], DROP_UNKNOWN_SPI),  # nor a marker
            (header(36) + bytes(36), DROP_UNKNOWN_SPI),
        ):
            _refuses(wire, opened, m, bad, reason)
        wire.queue.append(header(len(esp)) + esp)
        assert opened.receive(m) == 10, "none of these has used up its number"
        assert opened.send(memoryview(b"abc")[1:]) == 7
        assert wire.sent == [("raw", b"bc", port.resolve(_GROUP, 0))]

    _with((_GROUP, None), False, story)


def test_the_udp_carrier():
    def story(wire, opened, m):
        assert wire.made == [(_GROUP, 4500, "127.0.0.1", 1)] and opened.sock == "udp"
        wire.queue += [good(), bytes(4) + b"ike"]
        assert opened.receive(m) == 10 and m.payload == b"speed=1500"
        assert opened.receive(m) == IKE_MESSAGE and opened.message == b"ike"
        _refuses(wire, opened, m, b"", DROP_EMPTY)
        _refuses(wire, opened, m, b"\xff", DROP_KEEPALIVE)
        _refuses(wire, opened, m, b"x" * 513, DROP_LENGTH)
        assert opened.send(b"x") == 7
        assert wire.sent == [("udp", b"x", port.resolve(_GROUP, 4500))]

    _with((_GROUP, 4500), True, story)


def test_a_rekey_longer_than_rx():
    def story(wire, opened, m):
        assert len(m.rx) == 512
        wire.queue.append(bytes(4) + b"i" * 1532)
        assert opened.receive(m) == IKE_MESSAGE and opened.message == b"i" * 1532
        _refuses(wire, opened, m, b"\0\0\0\1" + bytes(600), DROP_LENGTH)
        _refuses(wire, opened, m, bytes(1537), DROP_LENGTH)
        wire.queue.append(good())
        assert opened.receive(m) == 10

    _with((_GROUP, 4500), True, story)


def test_a_port_of_rekeys_alone():
    def story(wire, opened, m):
        for message in (b"ike", good(), bytes(4) + b"marked"):
            wire.queue.append(message)
            assert opened.receive(m) == IKE_MESSAGE and opened.message == message
        wire.queue.append(bytes(1536))
        assert opened.receive(m) == IKE_MESSAGE and opened.message == bytes(1536)
        _refuses(wire, opened, m, bytes(1537), DROP_LENGTH)
        assert m.opened == 0

    _with((_GROUP, 848), False, story)


def test_no_heap_behind_the_socket():
    """Delivered, refused by its header, refused by its tag: the port alone allocates."""
    esp = good()
    whole = [header(len(esp), b"\x01" * 8) + esp, header(len(esp), protocol=51) + esp]
    whole.append(header(len(esp)) + esp[:-1] + b"?")
    m = a_receiver(bits=None, form=None)  # no window: each may come again
    at = [0]

    def recv_parts(sock, head, buf):
        datagram = whole[at[0]]
        at[0] = (at[0] + 1) % 3
        n = len(datagram)
        for i in range(20):
            head[i] = datagram[i]
        for i in range(20, n):
            buf[i - 20] = datagram[i]
        return n

    wire = Wire()
    opened = wire.open((_GROUP, None), False)
    port.recv_parts = recv_parts
    try:

        def step():
            assert opened.receive(m) == 10
            assert opened.receive(m) == DROP_IP_HEADER
            assert opened.receive(m) == DROP_TAG

        assert heap_octets(step) == 0
    finally:
        wire.done()
