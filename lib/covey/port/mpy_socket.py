"""Sockets on MicroPython: the unix port on Linux and macOS, and boards with lwIP.

The socket module lacks most names, so options stand here by number. Unix hands out raw sockaddrs
(port in octets 2 to 3, IPv4 address in 4 to 7), lwIP (host, port).
"""

import errno
import os
import socket
import sys

try:
    import network
except ImportError:  # a desktop
    network = None

from micropython import const

from covey.drops import ConfigError

_ANY = "0.0.0.0"
_RCVBUF_LEN = const(1048576)  # octets asked of the system for datagrams not yet read
_IPPROTO_IP = const(0)
_SOCK_RAW = const(3)
_ESP = const(50)
_TRIES = const(32)

# Per system; None: not there. The ESP32's lwIP joins, but has no other multicast option.
(
    _SO_RCVBUF,
    _SO_REUSEPORT,
    _IP_MULTICAST_IF,
    _IP_MULTICAST_TTL,
    _IP_MULTICAST_LOOP,
    _IP_ADD_MEMBERSHIP,
    _EADDRNOTAVAIL,
) = {
    "linux": (8, None, 32, 33, 34, 35, 99),
    "darwin": (0x1002, 0x0200, 9, 10, 11, 12, 49),
}.get(sys.platform, (None, None, None, None, None, 3, 125))

# macOS sends from the address that is bound, and a group's can't be one: another socket sends.
_SENDS_APART = sys.platform == "darwin"

_bound = {}  # socket: (host, port); there is no getsockname
_senders = {}  # group socket: the one that sends for it
_joiners = {}  # raw socket: the one that is in the group for it


def resolve(host, port):
    try:
        return socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)[0][-1]
    except OSError:
        raise ConfigError("%s is no known IPv4 host: check its name" % host)


def udp_socket(host, port):
    address = resolve(host, port)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if port == 0:
            port = _bind_somewhere(sock, host)
        else:
            if host == _ANY:
                # Group sockets on this port must not hinder us, a second server must.
                _probe(port)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as e:
        sock.close()
        raise ConfigError(_why_not_bound(e, host, port))
    return _made_ready(sock, host, port)


def _probe(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(resolve("127.0.0.1", port))
    finally:
        sock.close()


def _bind_somewhere(sock, host):
    """Bind to a port of the dynamic range (RFC 6335): what the system takes can't be asked."""
    tries = 0
    while True:
        chance = os.urandom(2)
        port = 0xC000 | chance[0] << 8 | chance[1]
        try:
            sock.bind(resolve(host, port))
            return port
        except OSError as e:
            tries += 1
            if e.errno != errno.EADDRINUSE or tries == _TRIES:
                raise


def group_socket(group, port, interface, ttl, loop=True):
    membership = _membership(group, interface)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if _SO_REUSEPORT is not None:
            sock.setsockopt(socket.SOL_SOCKET, _SO_REUSEPORT, 1)
        if _IP_MULTICAST_IF is None:
            sock.bind(resolve(_ANY, port))  # lwIP sends from the address that it is bound to
        else:
            sock.bind(resolve(group, port))
        sock.setsockopt(_IPPROTO_IP, _IP_ADD_MEMBERSHIP, membership)
        if _IP_MULTICAST_IF is not None:
            _set_sending(_sender_of(sock), interface and membership[4:], ttl, loop)
    except OSError as e:
        close(sock)
        raise ConfigError(_why_not_joined(e, group, port, interface))
    return _made_ready(sock, group, port)


def esp_socket(group, interface, ttl, loop=True):
    membership = _membership(group, interface)
    if sys.platform == "darwin":
        raise ConfigError(
            "the ip carrier is not supported on this system, whose raw sockets change the IP"
            " header: give the group the udp carrier"
        )
    try:
        sock = socket.socket(socket.AF_INET, _SOCK_RAW, _ESP)
    except OSError as e:
        raise ConfigError(_why_not_raw(e))
    joiner = sock
    try:
        if _IP_MULTICAST_IF is None:
            # lwIP lets UDP sockets join only; a raw one hears then what the interface takes.
            joiner = _joiners[sock] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        else:
            sock.bind(resolve(group, 0))
            _set_sending(sock, interface and membership[4:], ttl, loop)
        joiner.setsockopt(_IPPROTO_IP, _IP_ADD_MEMBERSHIP, membership)
    except OSError as e:
        close(sock)
        raise ConfigError(_why_not_joined(e, group, 0, interface))
    return _made_ready(sock, group, 0)


def _membership(group, interface):
    """What IP_ADD_MEMBERSHIP takes: the group's four octets, the interface's."""
    membership = _ipv4(group) + _ipv4(interface or _ANY)
    if not 224 <= membership[0] < 240:
        raise ConfigError("%s is no multicast group: choose one in 224.0.0.0/4" % group)
    return membership


def _sender_of(sock):
    if not _SENDS_APART:
        return sock
    sender = _senders[sock] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setblocking(False)
    return sender


def _set_sending(sock, interface, ttl, loop):
    if interface:
        sock.setsockopt(_IPPROTO_IP, _IP_MULTICAST_IF, interface)
    sock.setsockopt(_IPPROTO_IP, _IP_MULTICAST_TTL, ttl)
    sock.setsockopt(_IPPROTO_IP, _IP_MULTICAST_LOOP, int(loop))


def _ipv4(text):
    """The four octets of a dotted address."""
    try:
        octets = bytes([int(part) for part in text.split(".")])
    except ValueError:
        octets = b""
    if len(octets) != 4:
        raise ConfigError("%s is no IPv4 address: write it as 192.168.1.7" % text)
    return octets


def _made_ready(sock, host, port):
    sock.setblocking(False)
    if _SO_RCVBUF is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUF, _RCVBUF_LEN)
        except OSError:
            pass  # the system's own size will do
    _bound[sock] = (host, port)
    return sock


def _why_not_bound(e, host, port):
    if e.errno == errno.EADDRINUSE:
        return "UDP port %d is in use: stop the other program or choose another port" % port
    if e.errno == _EADDRNOTAVAIL:
        return "%s is no address of this machine: give one that is, or 0.0.0.0" % host
    if e.errno in (errno.EACCES, errno.EPERM):
        return "UDP port %d may not be opened by this user: choose one from 1024 on" % port
    return "UDP port %d on %s can't be opened: error %d" % (port, host, e.errno)


def _why_not_raw(e):
    if e.errno in (errno.EPERM, errno.EACCES):
        return (
            "the ip carrier needs a raw socket, which this user may not open: run as root or with"
            " CAP_NET_RAW, or give the group the udp carrier"
        )
    return "the ip carrier needs a raw socket, which can't be opened: error %d" % e.errno


def _why_not_joined(e, group, port, interface):
    if e.errno in (errno.ENODEV, _EADDRNOTAVAIL):
        if interface:
            return (
                "%s is no address of an interface of this machine that does multicast" % interface
            )
        return "there is no multicast route to %s: name an interface by its address" % group
    return _why_not_bound(e, group, port)


def recv(sock, buf):
    """Allocates the datagram: reading into buf would join two queued ones."""
    try:
        datagram = sock.recv(len(buf) + 1)
    except OSError as e:
        return _nothing(e)
    return _copy(datagram, buf)


def recv_from(sock, buf):
    try:
        datagram, address = sock.recvfrom(len(buf) + 1)
    except OSError as e:
        return _nothing(e), None
    if not isinstance(address, tuple):
        host = "%d.%d.%d.%d" % (address[4], address[5], address[6], address[7])
        address = (host, address[2] << 8 | address[3])
    return _copy(datagram, buf), address


def recv_parts(sock, head, buf):
    lead = len(head)
    most = lead + len(buf)
    try:
        datagram = sock.recv(most + 1)
    except OSError as e:
        return _nothing(e)
    n = len(datagram)
    if n <= lead:
        head[:n] = datagram
    elif n <= most:
        datagram = memoryview(datagram)
        head[:] = datagram[:lead]
        buf[: n - lead] = datagram[lead:]
    return n


def _nothing(e):
    """Nothing was there, or an error of the network that is now read away."""
    if e.errno == errno.EBADF:
        raise e
    return -1


def _copy(datagram, buf):
    n = len(datagram)
    if n <= len(buf):
        buf[:n] = datagram
    return n


def send(sock, view, address):
    try:
        if _SENDS_APART:
            sock = _senders.get(sock, sock)
        sock.sendto(view, address)
    except OSError as e:
        return e.errno


def source_address(sock):
    return _bound[sock]


def ipv4_of(address):
    if isinstance(address, tuple):
        return _ipv4(address[0])
    return bytes(address[4:8])


def own_ipv4(address):
    """Sockets can't be asked; on a board the first interface that is up has the way."""
    if ipv4_of(address)[0] == 127:
        return b"\x7f\0\0\1"
    for interface in _interfaces():
        try:
            own = _ipv4(interface.ifconfig()[0])
        except (OSError, ValueError, ConfigError):
            continue
        if any(own):
            return own
    return None


def _interfaces():
    """Those of this board that are connected: the wire before the air."""
    found = []
    for make in (_lan, _station):
        try:
            interface = make()
            if interface.isconnected():
                found.append(interface)
        except Exception:  # not there or not set up: each board says so by another error
            pass
    return found


def _lan():
    return network.LAN()


def _station():
    return network.WLAN(getattr(network, "STA_IF", 0))


def close(sock):
    _bound.pop(sock, None)
    for helper in (_senders.pop(sock, None), _joiners.pop(sock, None)):
        if helper:
            helper.close()
    sock.close()
