"""The port's sockets on the ESP32's lwIP, which is played by lwip.py."""

import select

import lwip
from covey import carrier, port
from covey.drops import (
    DROP_EMPTY,
    DROP_IP_HEADER,
    DROP_LENGTH,
    DROP_SOCKET,
    ConfigError,
)
from datapath import a_receiver, good
from lwip import OWN, air, board
from test_ipv4 import header

GROUP = "239.192.1.32"
PLACE = (GROUP, 4500)


class Settings:
    interface = OWN
    ttl = 1


def group():
    lwip.clear()
    return board.group_socket(GROUP, 4500, OWN, 1)


def ends_clean(sock):
    board.close(sock)
    board.close(sock)
    assert air.open == [] and air.unknown_options == []


def sentence(call, *args):
    try:
        call(*args)
    except ConfigError as error:
        return str(error)
    raise AssertionError("no ConfigError")


# ---- the fake itself


def test_the_fake_joins_what_is_queued():
    """And so does the unix port's readinto(): why nothing here reads by it."""
    sock = group()
    for datagram in (b"abc", b"defgh", b"ijk"):
        air.deliver(datagram, PLACE)
    buf = bytearray(10)
    assert sock.now.readinto(buf) == 10 and buf == b"abcdefghij"
    assert sock.now.readinto(buf) is None, "the rest of the last one is lost"
    ends_clean(sock)


def test_the_fake_is_closed_by_an_empty_datagram():
    for read, nothing in ((lambda s: s.recv(9), b""), (lambda s: s.readinto(bytearray(9)), 0)):
        sock = group()
        air.deliver(b"", PLACE)
        air.deliver(b"abc", PLACE)
        system = sock.now
        assert [read(system) for _ in range(50)] == [nothing] * 50
        ends_clean(sock)


# ---- datagrams


def test_queued_datagrams_stay_apart():
    sock = group()
    for n in (3, 8, 1, 9, 4):
        air.deliver(b"12345678."[:n], PLACE)
    buf = bytearray(8)
    assert [board.recv(sock, buf) for _ in range(6)] == [3, 8, 1, 9, 4, -1]
    assert buf == b"12345678"
    ends_clean(sock)


def test_who_sent_it():
    sock = group()
    air.deliver(b"abc", PLACE, ("192.168.1.20", 848))
    buf = bytearray(8)
    assert board.recv_from(sock, buf) == (3, ("192.168.1.20", 848)) and buf[:3] == b"abc"
    assert board.recv_from(sock, buf) == (-1, None)
    ends_clean(sock)


def test_to_look_takes_no_memory():
    """recv() takes its buffer first: 1.5 KB of garbage each time that nothing is there."""
    sock = group()
    buf, head = bytearray(8), bytearray(20)
    assert board.recv(sock, buf) == board.recv_parts(sock, head, buf) == -1
    assert board.recv_from(sock, buf) == (-1, None)
    assert air.taken == 0
    air.deliver(b"abc", PLACE)
    assert board.recv(sock, buf) == 3 and board.recv(sock, buf) == -1
    assert air.taken == 1
    ends_clean(sock)


# ---- made anew


def receivers():
    """Each way to read: (function, its arguments besides the socket, how it says a length)."""
    buf = bytearray(64)
    yield board.recv, (buf,), lambda answer: answer
    yield board.recv_from, (buf,), lambda answer: answer[0]
    yield board.recv_parts, (bytearray(20), buf), lambda answer: answer


def test_an_empty_datagram_is_no_end():
    for read, args, length in receivers():
        sock = group()
        for _ in range(3):
            before = sock.now
            made = air.made
            air.joined.clear()
            air.deliver(b"", PLACE)  # not heard: nobody has joined
            assert length(read(sock, *args)) == -1
            air.joined.add((bytes([239, 192, 1, 32]), OWN))
            air.deliver(b"", PLACE)
            air.joined.clear()
            assert length(read(sock, *args)) == 0
            assert length(read(sock, *args)) == -1, "it is counted once"
            assert air.made == made + 1 and air.open == [sock.now] and sock.now is not before
            assert board.pollable(sock) is sock.now
            assert air.joined == {(bytes([239, 192, 1, 32]), OWN)}, "joined again"
            assert sock.now.place == ("0.0.0.0", 4500) and sock.now.options == [4, 3]
            assert not sock.now.blocks and board.source_address(sock) == PLACE
            air.deliver(b"abc", PLACE)
            assert length(read(sock, *args)) == 3
        assert board.send(sock, b"x", board.resolve("192.168.1.9", 1)) is None
        ends_clean(sock)


def test_a_unicast_socket_keeps_its_port():
    lwip.clear()
    sock = board.udp_socket("0.0.0.0", 0)
    place = board.source_address(sock)
    assert place[1] >= 0xC000
    buf = bytearray(8)
    for _ in range(3):
        air.deliver(b"", (OWN, place[1]))
        assert board.recv_from(sock, buf)[0] == 0
        assert board.source_address(sock) == place and sock.now.place == place
        air.deliver(b"abc", (OWN, place[1]))
        assert board.recv_from(sock, buf)[0] == 3
    ends_clean(sock)


def test_what_can_not_be_made_anew_is_tried_again():
    sock = group()
    buf = bytearray(8)
    air.deliver(b"", PLACE)
    air.most_open = 0
    assert board.recv(sock, buf) == 0
    for _ in range(3):
        assert board.recv(sock, buf) == -2
        assert board.recv_from(sock, buf) == (-2, None)
    assert board.send(sock, b"x", board.resolve(GROUP, 4500)) == lwip.ENFILE
    assert board.source_address(sock) == PLACE and air.open == []
    air.most_open = 1
    assert board.recv(sock, buf) == -1
    air.deliver(b"abc", PLACE)
    assert board.recv(sock, buf) == 3
    ends_clean(sock)


# ---- errors


def test_without_memory_a_datagram_waits():
    for read, args, length in receivers():
        sock = group()
        air.memory = 30
        air.deliver(b"abc", PLACE)
        assert [length(read(sock, *args)) for _ in range(3)] == [-2, -2, -2]
        air.memory = 1 << 20
        assert [length(read(sock, *args)) for _ in range(2)] == [3, -1]
        assert air.made == 1
        ends_clean(sock)


def test_where_no_piece_of_the_heap_is_as_long_half_of_it_is_read():
    sock = group()
    buf = bytearray(200)
    all_of_it = air.memory
    try:
        air.memory = 150
        for length, said in ((99, 99), (100, -2), (7, 7)):
            air.deliver(bytes(range(length)), PLACE)
            assert board.recv(sock, buf) == said, "what is longer is lost, and not as too long"
        assert buf[:7] == bytes(range(7))
        air.memory = 50
        air.deliver(b"abc", PLACE)
        assert board.recv(sock, buf) == -2
        air.memory = all_of_it
        assert board.recv(sock, buf) == 3, "it waited"
    finally:
        air.memory = all_of_it
    ends_clean(sock)


def test_errors_of_the_network():
    codes = (lwip.ECONNREFUSED, lwip.EHOSTUNREACH, lwip.ENOMEM, lwip.EINVAL, lwip.ETIMEDOUT)
    for code in codes + (lwip.EBADF, lwip.ENOTCONN):
        for read, args, length in receivers():
            sock = group()
            sock.now.error, sock.now.errors_left = code, 1
            assert length(read(sock, *args)) == -2, code
            assert length(read(sock, *args)) == -1, code
            assert air.made == (1 if code in codes else 2), "a socket that is gone is made anew"
            air.deliver(b"abc", PLACE)
            assert length(read(sock, *args)) == 3
            ends_clean(sock)


def test_a_socket_that_is_gone_underneath():
    """poll() fails, and even close(): what was read from is made anew."""
    for read, args, length in receivers():
        sock = group()
        sock.now.is_gone = True
        assert [length(read(sock, *args)) for _ in range(2)] == [-2, -1]
        air.deliver(b"abc", PLACE)
        assert length(read(sock, *args)) == 3 and air.open == [sock.now]
        sock.now.is_gone = True
        ends_clean(sock)


def test_memory_that_ends_while_a_socket_is_made():
    """The half of it is let go, else it would keep the port."""
    lwip.clear()
    sock = board.udp_socket("0.0.0.0", 0)
    place = OWN, board.source_address(sock)[1]
    air.deliver(b"", place)
    air.memory_ends = True
    buf = bytearray(8)
    assert [board.recv(sock, buf) for _ in range(3)] == [0, -2, -2] and air.open == []
    assert board.send(sock, b"x", board.resolve(*place)) == lwip.ENOMEM
    air.memory_ends = False
    assert board.recv(sock, buf) == -1
    air.deliver(b"abc", place)
    assert board.recv(sock, buf) == 3
    ends_clean(sock)


def test_what_is_closed_stays_closed():
    for read, args, _ in receivers():
        sock = group()
        board.close(sock)
        try:
            read(sock, *args)
        except OSError as error:
            assert error.errno == lwip.EBADF
        else:
            raise AssertionError("it reads")
        assert air.open == [] and board.send(sock, b"x", PLACE) == lwip.EBADF


def test_sending_without_a_network_is_an_errno():
    sock = group()
    air.is_down = True
    assert board.send(sock, memoryview(b"abc")[1:], board.resolve(*PLACE)) == lwip.EHOSTUNREACH
    ends_clean(sock)


def test_what_a_person_can_mend():
    lwip.clear()
    said = sentence(board.group_socket, GROUP, 4500, "10.0.0.9", 1)
    assert "10.0.0.9 is no address of an interface" in said and air.open == []
    said = sentence(lwip.esp.esp_socket, GROUP, "10.0.0.9", 1)
    assert "10.0.0.9 is no address of an interface" in said and air.open == []
    assert "no known IPv4 host" in sentence(board.udp_socket, "no.such.host", 1)
    first = board.udp_socket(OWN, 848)
    assert "port 848 is in use" in sentence(board.udp_socket, OWN, 848)
    air.most_open = 1
    for call, *args in (
        (board.udp_socket, OWN, 849),
        (board.group_socket, GROUP, 4500, OWN, 1),
        (lwip.esp.esp_socket, GROUP, OWN, 1),
    ):
        assert "error %d" % lwip.ENFILE in sentence(call, *args)
    ends_clean(first)


# ---- carriers


def test_the_ip_carrier():
    """IP packets are never empty; a raw socket is joined by a UDP one."""
    with lwip.OnAir():
        opened = carrier.open_for((GROUP, None), False, Settings)
        m = a_receiver()
        assert [(sock.type, sock.protocol) for sock in air.open] == [(3, 50), (2, 0)]
        assert air.joined == {(bytes([239, 192, 1, 32]), OWN)}
        packets = [header(len(good(seq=n))) + good(seq=n) for n in (1, 2)]
        for packet in packets + [header(600) + bytes(600), header(8, protocol=50)]:
            air.deliver_raw(packet)
        assert [opened.receive(m) for _ in range(2)] == [10, 10], "they came apart"
        assert opened.receive(m) == DROP_LENGTH and opened.receive(m) == DROP_IP_HEADER
        assert opened.receive(m) is None
        opened.sock.now.error, opened.sock.now.errors_left = lwip.ENOTCONN, 1
        assert opened.receive(m) == DROP_SOCKET and m.drops.of(DROP_SOCKET) == 1
        assert opened.receive(m) is None and len(air.open) == 2 and air.made == 4
        air.deliver_raw(header(len(good(seq=3))) + good(seq=3))
        assert opened.receive(m) == 10
        port.close(opened.sock)
        assert air.open == []


def test_the_udp_carrier():
    with lwip.OnAir():
        opened = carrier.open_for(PLACE, True, Settings)
        m = a_receiver()
        for n in (1, 2):
            air.deliver(good(seq=2 * n), PLACE)
            air.deliver(b"", PLACE)
            answers = [opened.receive(m) for _ in range(3)]
            assert answers == [10, DROP_EMPTY, None]
        air.memory = 100
        air.deliver(good(seq=9), PLACE)
        assert [opened.receive(m) for _ in range(2)] == [DROP_SOCKET] * 2
        air.memory = 1 << 20
        assert opened.receive(m) == 10
        assert m.drops.as_dict() == {"empty": 2, "socket": 2}
        port.close(opened.sock)
        assert air.open == []


def test_the_fake_can_be_polled_as_the_real_one():
    """So that the port's looking first is the real thing on MicroPython."""
    sock = group()
    assert sock.poll is not None and hasattr(select, "poll")
    assert not board._is_waiting(sock)
    air.deliver(b"abc", PLACE)
    assert board._is_waiting(sock) and board._is_waiting(sock)
    ends_clean(sock)
