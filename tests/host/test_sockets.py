"""The key server's sockets: markers, answers from the right address, ports, bad datagrams."""

import errno
import socket
import sys

import pytest

from covey import drops, port
from covey_host.errors import MISUSE, Problem
from covey_host.gcks import sockets

_MESSAGE = b"\x07" * 28


def free_port(host="127.0.0.1"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


@pytest.fixture
def endpoint():
    made = sockets.Endpoint(3, "0.0.0.0", free_port(), True)
    yield made
    made.close()


@pytest.fixture
def client():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def arrived(endpoint, n):
    endpoint.sock.setblocking(True)
    endpoint.sock.settimeout(5)
    found = []
    while len(found) < n:
        found += endpoint.receive(1)
    endpoint.sock.setblocking(False)
    return found


def test_the_marker_is_stripped_and_put_back(endpoint, client):
    client.sendto(bytes(4) + _MESSAGE, ("127.0.0.1", endpoint.port))
    ((data, address),) = arrived(endpoint, 1)
    assert data == _MESSAGE
    assert (address.endpoint, address.host, address.port) == (3, *client.getsockname())
    assert endpoint.send(b"answer", address) == 0
    assert client.recv(100) == bytes(4) + b"answer"
    assert str(address) == f"127.0.0.1:{client.getsockname()[1]}"
    assert {address: 1}[sockets.Address(*address)] == 1


def test_a_port_without_marker(client):
    endpoint = sockets.Endpoint(0, "127.0.0.1", free_port(), False)
    for data in (_MESSAGE, bytes(4) + _MESSAGE, b"\xff"):
        client.sendto(data, ("127.0.0.1", endpoint.port))
        ((got, address),) = arrived(endpoint, 1)
        assert got == data
    endpoint.send(b"answer", address)
    assert client.recv(100) == b"answer"
    endpoint.close()


@pytest.mark.parametrize("ours", ["127.0.0.1", "127.0.0.9"])
def test_an_answer_leaves_from_the_address_that_was_asked(endpoint, client, ours):
    client.connect((ours, endpoint.port))  # hears nobody else
    client.send(bytes(4) + _MESSAGE)
    ((_, address),) = arrived(endpoint, 1)
    assert socket.inet_ntoa(address.local) == ours
    endpoint.send(b"answer", address)
    assert client.recv(100) == bytes(4) + b"answer"


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", drops.DROP_EMPTY),
        (b"\xff", drops.DROP_KEEPALIVE),
        (b"\0", drops.DROP_LENGTH),
        (b"\0\0\0", drops.DROP_LENGTH),
        (bytes(16385), drops.DROP_LENGTH),
        (bytes(60000), drops.DROP_LENGTH),
    ],
)
def test_what_is_no_message_is_a_reason_and_the_next_one_is_heard(endpoint, client, data, reason):
    client.sendto(data, ("127.0.0.1", endpoint.port))
    client.sendto(bytes(4) + _MESSAGE, ("127.0.0.1", endpoint.port))
    first, (second, _) = arrived(endpoint, 2)
    assert first == reason and second == _MESSAGE


@pytest.mark.parametrize("data", [b"\0\0\0\1" + _MESSAGE, b"\xff" * 500])
def test_what_has_no_marker_is_esp(endpoint, client, data):
    client.sendto(data, ("127.0.0.1", endpoint.port))
    client.sendto(bytes(4) + _MESSAGE, ("127.0.0.1", endpoint.port))
    first, (second, address) = arrived(endpoint, 2)
    assert first == sockets.Esp(data, address) and second == _MESSAGE and address.marker
    assert endpoint.send_esp(data, address) == 0
    assert client.recv(1000) == data  # as it is


def test_the_longest_message_passes_whole(endpoint, client):
    message = bytes(range(256)) * 63
    client.sendto(bytes(4) + message, ("127.0.0.1", endpoint.port))
    ((data, _),) = arrived(endpoint, 1)
    assert data == message


def test_a_peer_that_is_gone_disturbs_nothing(endpoint, client):
    gone = free_port()
    address = sockets.Address(3, "127.0.0.1", gone, socket.inet_aton("127.0.0.1"))
    for _ in range(3):
        endpoint.send(b"nobody hears this", address)
    client.sendto(bytes(4) + _MESSAGE, ("127.0.0.1", endpoint.port))
    assert arrived(endpoint, 1)[0][0] == _MESSAGE
    assert list(endpoint.receive(4)) == []


def test_what_cannot_be_sent_is_an_errno(endpoint):
    local = socket.inet_aton("127.0.0.1")
    assert endpoint.send(bytes(70000), sockets.Address(3, "127.0.0.1", 9, local)) > 0
    assert endpoint.send_multicast(b"x", True, "239.192.7.7", 9, "203.0.113.1", 1) > 0


def test_multicast_reaches_members_here_and_not_the_server_itself(endpoint):
    group = port.group_socket("239.192.7.7", endpoint.port, "127.0.0.1", 1)
    buf = bytearray(100)
    for marker, expected in ((True, bytes(4) + b"rekey"), (False, b"rekey")):
        sent = endpoint.send_multicast(
            b"rekey", marker, "239.192.7.7", endpoint.port, "127.0.0.1", 1
        )
        assert sent == 0
        n = port.recv(group, buf)
        assert bytes(buf[:n]) == expected
    assert list(endpoint.receive(4)) == []
    port.close(group)


def test_a_second_server_on_the_port_is_refused_whatever_members_do(endpoint):
    group = port.group_socket("239.192.7.7", endpoint.port, "127.0.0.1", 1)
    for host in ("0.0.0.0", "127.0.0.1"):
        with pytest.raises(Problem, match=f"{endpoint.port}.*in use") as caught:
            sockets.Endpoint(0, host, endpoint.port, True)
        assert caught.value.status == 1
    port.close(group)


def test_a_restarted_server_finds_members_on_its_port():
    number = free_port()
    group = port.group_socket("239.192.7.7", number, "127.0.0.1", 1)
    endpoint = sockets.Endpoint(0, "0.0.0.0", number, True)
    with pytest.raises(Problem, match="in use"):
        sockets.Endpoint(0, "0.0.0.0", number, True)
    endpoint.close()
    port.close(group)


def test_addresses_and_ports_that_are_not_ours():
    with pytest.raises(Problem, match="no address of this machine"):
        sockets.Endpoint(0, "203.0.113.1", free_port(), True)
    with pytest.raises(Problem, match="no UDP port"):
        sockets.Endpoint(0, "127.0.0.1", 65536, True)
    with pytest.raises(Problem, match="no address of this"):
        sockets.Endpoint(0, "no.such.host.invalid", free_port(), True)


def test_interfaces_by_name_and_address():
    assert sockets.interface_address("192.0.2.1") == "192.0.2.1"
    assert sockets.interface_address("lo" if sys.platform == "linux" else "lo0") == "127.0.0.1"
    for text in ("", "nosuch0", "x" * 40, "a\0b", "1.2.3", "é"):
        with pytest.raises(Problem, match="no interface") as caught:
            sockets.interface_address(text)
        assert caught.value.status == MISUSE


def test_a_missing_multicast_route_is_named():
    sockets.check_route("239.192.7.7", "127.0.0.1")
    with pytest.raises(Problem, match="no address of this machine"):
        sockets.check_route("239.192.7.7", "203.0.113.1")


def test_without_any_route_at_all(monkeypatch):
    def unreachable(*_):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(Problem, match="no multicast route to 239.192.7.7.*--interface"):
        sockets.check_route("239.192.7.7", None)
