"""Sockets on MicroPython: the unix port on Linux and macOS, and boards with lwIP.

What is handed out is a `Socket` around the system's own, which on lwIP may have to be made anew:
there an empty datagram marks it as closed by a peer, and all that it says from then on is b"".
"""

import errno
import os
import select
import socket
import sys

from micropython import const

from covey.drops import ConfigError, sentence
from covey.port.mpy_address import octets_of, place_of, resolve

_ANY = "0.0.0.0"
_IPPROTO_IP = const(0)
_TRIES = const(32)
_NO_GROUP = const(14)  # as sentences.py has it
_NOTHING = const(-1)
_TROUBLE = const(-2)

IS_LWIP = sys.platform not in ("linux", "darwin")
if IS_LWIP:
    # The ESP32's lwIP joins, but has no other multicast option.
    IP_ADD_MEMBERSHIP = getattr(socket, "IP_ADD_MEMBERSHIP", 3)
    # 6 is an ERR_VAL of igmp_joingroup(), handed on as it is: no interface has this address
    _NOWHERE = 19, 125, 6
else:
    from covey.port import mpy_desktop

    IP_ADD_MEMBERSHIP = mpy_desktop.IP_ADD_MEMBERSHIP
    _NOWHERE = mpy_desktop.NO_ADDRESS

_longer = []  # what has come for recv_parts()
_source = None  # of what has come for recv_from()


class Socket:
    """open: a function that makes what is behind; args: what it takes besides this object: host,
    port, and of a group its interface and so on. ConfigError where it can't be had.
    """

    sender = None  # what sends for it, if something else does
    error = errno.EBADF  # why there is none

    def __init__(self, open, *args):
        self.now = None  # the system's socket; None: closed, or it can't be had just now
        self.helper = None  # the one that is in the group for it, or sends for it
        self.is_closed = False
        self.open = open
        self.args = args
        try:
            self._begin()
        except OSError as e:
            self.let_go()
            from covey.port.mpy_whynot import why_not

            raise ConfigError(why_not(e, errno, _NOWHERE, *args))

    def _begin(self):
        self.open(self, *self.args)
        system = self.now
        system.setblocking(False)
        if not IS_LWIP:
            mpy_desktop.make_room(system)
        self.poll = select.poll()  # tells whether a datagram is there
        self.poll.register(system, select.POLLIN)

    def let_go(self):
        for system in (self.now, self.helper):
            if system:
                try:
                    system.close()
                except OSError:
                    pass  # it has gone by itself
        self.now = self.helper = None

    def renew(self):
        """Whether there is a socket. If not, whoever asks next tries again."""
        self.let_go()
        try:
            self._begin()
            return True
        except OSError as e:
            self.error = e.errno
        except (ConfigError, MemoryError):
            self.error = errno.ENOMEM
        self.let_go()
        return False


def udp_socket(host, port):
    return Socket(_open_udp, host, port)


def _open_udp(sock, host, port):
    address = resolve(host, port)
    system = sock.now = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if port == 0:
        sock.args = host, _bind_somewhere(system, host)  # the same if it is made anew
    else:
        if not IS_LWIP:
            mpy_desktop.share(system, host, port)
        system.bind(address)


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
    return Socket(_open_group, group, port, interface, ttl, loop)


def _open_group(sock, group, port, interface, ttl, loop):
    membership = membership_of(group, interface)
    system = sock.now = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    system.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if IS_LWIP:
        system.bind(resolve(_ANY, port))  # lwIP sends from the address that it is bound to
    else:
        mpy_desktop.bind_group(sock, group, port, interface and membership[4:], ttl, loop)
    system.setsockopt(_IPPROTO_IP, IP_ADD_MEMBERSHIP, membership)


def membership_of(group, interface):
    """What IP_ADD_MEMBERSHIP takes: the group's four octets, the interface's."""
    membership = octets_of(group) + octets_of(interface or _ANY)
    if not 224 <= membership[0] < 240:
        raise ConfigError(sentence(_NO_GROUP, group))
    return membership


def recv(sock, buf, most=0, longer=None, named=False):
    global _source
    try:
        if not _is_waiting(sock):
            return _NOTHING
        # readinto(buf) would join two queued ones
        n = room = max(len(buf), most) + 1
        try:
            datagram = _taken(sock, room, named)
        except MemoryError:  # no piece of the heap is as long, and none may be for hours
            room >>= 1
            datagram = _taken(sock, room, named)
        if named:
            datagram, _source = datagram
        if len(datagram) < room:  # else it is longer, and lost
            n = len(datagram)
        elif room < n:
            return _TROUBLE
        if len(buf) < n <= most:
            longer.append(datagram)
    except (OSError, MemoryError) as e:
        return _no_datagram(sock, e)
    if n <= len(buf):
        buf[:n] = datagram
    if n == 0 and IS_LWIP:
        sock.renew()
    return n


def _taken(sock, room, named):
    return sock.now.recvfrom(room) if named else sock.now.recv(room)


def recv_from(sock, buf, most=0, longer=None):
    global _source
    n = recv(sock, buf, most, longer, True)
    if n == _NOTHING:
        return _NOTHING, None  # a constant: it takes no memory
    source, _source = _source, None
    return n, place_of(source) if n >= 0 else None


def recv_parts(sock, head, buf):
    lead = len(head)
    n = recv(sock, head, lead + len(buf), _longer)
    if _longer:
        datagram = memoryview(_longer.pop())
        head[:] = datagram[:lead]
        buf[: n - lead] = datagram[lead:]
    return n


def _is_waiting(sock):
    """Asked first, since recv() takes the memory for a datagram even if none is there."""
    if sock.now is None and (sock.is_closed or not sock.renew()):
        raise OSError(errno.EBADF, "")
    for _ in sock.poll.ipoll(0):
        return True
    return False


def _no_datagram(sock, e):
    """What recv() says instead of a length. After MemoryError the datagram still waits."""
    if sock.is_closed:
        raise e
    if isinstance(e, MemoryError):
        return _TROUBLE
    if e.errno == errno.EAGAIN:
        return _NOTHING
    if e.errno in (errno.EBADF, errno.ENOTCONN, errno.EIO):  # the last one is poll's
        sock.let_go()  # gone underneath: the next to ask makes it anew
    return _TROUBLE


def send(sock, view, address):
    system = sock.sender or sock.now
    if system is None:
        return sock.error
    try:
        system.sendto(view, address)
    except OSError as e:
        return e.errno


def source_address(sock):
    return sock.args[:2]


def pollable(sock):
    return sock.now


def close(sock):
    sock.is_closed = True
    sock.let_go()
