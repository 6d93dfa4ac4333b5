"""A fake of the ESP32's `socket` module, and the port's own files loaded on top of it.

It does what ports/esp32/modsocket.c does (read in MicroPython 1.28), over an Air in memory:

- readinto() goes on until the buffer is full: queued datagrams come back joined, the last one cut;
- an empty datagram marks the socket as closed by its peer: from then on all reading gives b"", and
  what is queued stays there, so that poll() says that it can be read;
- recv(n) takes n + 1 octets of memory before it looks whether a datagram is there, and cuts a
  longer one;
- six datagrams wait at most; membership belongs to the interface, not to the socket;
- options that it has not are a line on the console; addresses are (host, port); the errors are
  newlib's, or lwIP's own where they are handed on.
"""

import io
import sys

from covey import port

OWN = "192.168.1.7"
EIO, EBADF, EAGAIN, ENOMEM, EINVAL, ENFILE = 5, 9, 11, 12, 22, 23
EADDRINUSE, ETIMEDOUT, EHOSTUNREACH, ECONNREFUSED, ENOTCONN = 112, 116, 118, 111, 128
_QUEUE = 6
_DGRAM, _RAW = 2, 3
_REUSEADDR, _BROADCAST, _ADD_MEMBERSHIP = 4, 0x20, 3
_POLL, _IN, _NVAL = 3, 1, 0x20


class Air:
    """What all sockets of a test share."""

    def __init__(self):
        self.open = []
        self.made = 0
        self.most_open = 16
        self.joined = set()  # (group, interface), as octets
        self.unknown_options = []
        self.memory = 1 << 20  # the longest piece that can be had
        self.memory_ends = False  # while a socket is made
        self.taken = 0  # pieces that recv() has taken
        self.is_down = False

    def deliver(self, data, to, source=("192.168.1.9", 4500)):
        """One UDP datagram to (host, port)."""
        for sock in self.open:
            if sock.type == _DGRAM and sock.place and sock.place[1] == to[1]:
                if sock.place[0] == to[0] or sock.place[0] == "0.0.0.0" and self.takes(to[0]):
                    sock.queue.append((data, source))
                    del sock.queue[_QUEUE:]

    def deliver_raw(self, packet):
        for sock in self.open:
            if sock.type == _RAW and sock.protocol == packet[9]:
                sock.queue.append((packet, ("192.168.1.9", 0)))
                del sock.queue[_QUEUE:]

    def takes(self, host):
        if host == OWN:
            return True
        group = bytes([int(part) for part in host.split(".")])
        return any(group == joined for joined, _ in self.joined)


air = Air()


def _error(code):
    return OSError(code, "")  # CPython takes a number for an errno only beside a text


def clear():
    """A new air for the next test."""
    air.__init__()


class Socket(io.IOBase):
    def __init__(self, family=2, kind=1, protocol=0):
        self.is_open = False
        if len(air.open) >= air.most_open:
            raise _error(ENFILE)
        self.type = kind
        self.protocol = protocol
        self.queue = []
        self.place = None
        self.options = []
        self.blocks = True
        self.error = None  # what reading says
        self.errors_left = 0
        self.is_peer_closed = False
        self.is_gone = False  # underneath: lwIP knows its number no more
        self.is_open = True
        air.open.append(self)
        air.made += 1

    def bind(self, address):
        host, number = address
        for other in air.open:
            if other.place and other.place[1] == number and other.type == self.type:
                if not (_REUSEADDR in self.options and _REUSEADDR in other.options):
                    raise _error(EADDRINUSE)
        self.place = host, number

    def setsockopt(self, level, option, value):
        if option in (_REUSEADDR, _BROADCAST):
            int(value)
        elif option == _ADD_MEMBERSHIP:
            if len(value) != 8:
                raise ValueError
            interface = ".".join(str(octet) for octet in bytes(value)[4:])
            if interface not in ("0.0.0.0", OWN):
                raise _error(6)
            air.joined.add((bytes(value)[:4], interface))
        else:
            air.unknown_options.append(option)
        self.options.append(option)

    def setblocking(self, flag):
        self.blocks = flag
        if air.memory_ends:
            raise MemoryError

    def _read(self, n):
        if not self.is_open or self.is_gone:
            raise _error(EBADF)
        if self.is_peer_closed:
            return b"", ("0.0.0.0", 0)
        if self.errors_left:
            self.errors_left -= 1
            raise _error(self.error)
        if not self.queue:
            assert not self.blocks, "it would wait for ever"
            raise _error(EAGAIN)
        data, source = self.queue.pop(0)
        if not data:
            self.is_peer_closed = True
        return data[:n], source

    def recv(self, n, flags=0):
        return self.recvfrom(n, flags)[0]

    def recvfrom(self, n, flags=0):
        if n + 1 > air.memory:
            raise MemoryError
        air.taken += 1
        return self._read(n)

    def readinto(self, buf):
        done = 0
        while done < len(buf):
            try:
                data, _ = self._read(len(buf) - done)
            except OSError as e:
                if e.errno != EAGAIN:
                    raise
                return done or None
            if not data:
                break
            buf[done : done + len(data)] = data
            done += len(data)
        return done

    def sendto(self, data, address):
        host, number = address
        if air.is_down:
            raise _error(EHOSTUNREACH)
        if not len(data):
            raise _error(ETIMEDOUT)
        air.deliver(bytes(data), (host, number), (OWN, self.place[1] if self.place else 0))
        return len(data)

    def ioctl(self, request, argument):
        if request != _POLL:
            return -EINVAL
        if not self.is_open:
            return _NVAL
        if self.is_gone:
            return -EIO
        return argument & _IN if self.queue or self.errors_left else 0

    def close(self):
        if self.is_open:
            self.is_open = False
            air.open.remove(self)
            if self.is_gone:
                raise _error(EBADF)


class Module:
    """`socket`"""

    AF_INET, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 2, 1, _DGRAM, _RAW
    SOL_SOCKET, SO_REUSEADDR, SO_BROADCAST, IP_ADD_MEMBERSHIP = 0xFFF, 4, 0x20, _ADD_MEMBERSHIP
    socket = Socket

    @staticmethod
    def getaddrinfo(host, number, family=0, kind=0):
        if not all(part.isdigit() for part in host.split(".")):
            raise _error(-2)
        return [(family, kind, 0, host, (host, number))]


class Errno:
    """`errno`"""

    EPERM, EIO, EBADF, EAGAIN, EACCES, ENODEV = 1, EIO, EBADF, EAGAIN, 13, 19
    ENOMEM = ENOMEM
    EADDRINUSE, ENOTCONN = EADDRINUSE, ENOTCONN


class System:
    """`sys`, as far as a file of sockets needs it."""

    platform = "esp32"


class MicroPython:
    """`micropython`, where there is none."""

    @staticmethod
    def const(value):
        return value


class Select:
    """`select` of MicroPython, where there is none."""

    POLLIN = _IN

    class poll:
        def register(self, sock, events):
            self._sock, self._events = sock, events

        def ipoll(self, timeout):
            found = self._sock.ioctl(_POLL, self._events)
            if found < 0:
                raise _error(-found)
            return iter([(self._sock, found)] if found else [])


_NAMES = ("covey.port.mpy_address", "covey.port.mpy_socket", "covey.port.mpy_esp")
_CONTRACT = (
    "resolve udp_socket group_socket esp_socket pollable recv recv_from recv_parts send "
    "source_address ipv4_of own_ipv4 close"
).split()


def _load():
    """The port's files, imported as on a board: (mpy_address, mpy_socket, mpy_esp)."""
    fakes = {"socket": Module, "errno": Errno, "sys": System}
    if sys.implementation.name != "micropython":
        fakes["micropython"], fakes["select"] = MicroPython, Select
    kept = {name: sys.modules.get(name) for name in list(fakes) + list(_NAMES)}
    for name in _NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(fakes)
    try:
        for name in _NAMES:
            __import__(name)
        return [sys.modules[name] for name in _NAMES]
    finally:
        for name in kept:
            if kept[name] is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = kept[name]
                if name in _NAMES:
                    setattr(port, name.rpartition(".")[2], kept[name])


address, board, esp = _load()


def functions():
    """The contract's functions of sockets, by name."""
    files = board, address, esp
    return {name: [getattr(f, name) for f in files if hasattr(f, name)][0] for name in _CONTRACT}


class OnAir:
    """`with OnAir():` all of Covey uses these sockets."""

    def __enter__(self):
        clear()
        found = functions()
        self._real = {name: getattr(port, name) for name in found}
        for name in found:
            setattr(port, name, found[name])
        return air

    def __exit__(self, *_):
        for name in self._real:
            setattr(port, name, self._real[name])
