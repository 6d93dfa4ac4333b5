"""`socket` of an emulated board: UDP among the sockets of this interpreter, and nobody else.

Addresses are (host, port), as lwIP's. What is sent to 127.0.0.1 comes to whoever is bound to the
port, what is sent to a group to whoever has joined it, which belongs to the socket here.
"""

import errno
import io

AF_INET, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 2, 1, 2, 3
SOL_SOCKET, SO_REUSEADDR, SO_BROADCAST, IP_ADD_MEMBERSHIP = 0xFFF, 4, 0x20, 3
IPPROTO_IP = 0

_OWN, _ANY, _EVERYBODY = "127.0.0.1", "0.0.0.0", "255.255.255.255"
_EBADF, _EAGAIN, _EACCES, _ENODEV = 9, 11, 13, 19
_ENETUNREACH, _EMSGSIZE, _EADDRNOTAVAIL = 114, 122, 125  # newlib's, as an ESP32 has them
_EADDRINUSE = errno.EADDRINUSE
_LONGEST = 65507
_QUEUE = 64
_POLL, _IN, _OUT, _NVAL = 3, 1, 4, 0x20
_FIRST_FREE = 49152

_open = []


def _next_port():
    taken = [one.place[1] for one in _open if one.place]
    port = _FIRST_FREE
    while port in taken:
        port += 1
    return port


def _dotted(octets):
    return ".".join([str(octet) for octet in bytes(octets)])


def _is_group(host):
    return 224 <= int(host.split(".")[0]) < 240


def getaddrinfo(host, port, family=0, kind=0):
    parts = host.split(".")
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        raise OSError(-2)
    return [(AF_INET, kind, 0, host, (host, int(port)))]


class socket(io.IOBase):
    def __init__(self, family=AF_INET, kind=SOCK_DGRAM, protocol=0):
        self.place = None
        self.groups = []
        self.queue = []
        self.is_open = True
        self.shares = False
        _open.append(self)

    def _must_be_open(self):
        if not self.is_open:
            raise OSError(_EBADF)

    def setblocking(self, flag):
        self._must_be_open()

    def setsockopt(self, level, option, value):
        self._must_be_open()
        if option == SO_REUSEADDR and level == SOL_SOCKET:
            self.shares = bool(value)
        elif option == IP_ADD_MEMBERSHIP and level == IPPROTO_IP:
            if _dotted(value[4:8]) not in (_OWN, _ANY):
                raise OSError(_ENODEV)
            self.groups.append(_dotted(value[:4]))

    def bind(self, address):
        self._must_be_open()
        host, port = address
        if host not in (_OWN, _ANY) and not _is_group(host):
            raise OSError(_EADDRNOTAVAIL)
        port = port or _next_port()
        for other in _open:
            if other.place == (host, port) and not (self.shares and other.shares):
                raise OSError(_EADDRINUSE)
        self.place = host, port

    def sendto(self, data, address):
        self._must_be_open()
        host, port = address
        if self.place is None:
            self.place = _ANY, _next_port()
        if host != _OWN and not _is_group(host):
            raise OSError(_EACCES if host == _EVERYBODY else _ENETUNREACH)
        if len(data) > _LONGEST:
            raise OSError(_EMSGSIZE)
        source = _OWN, self.place[1]
        for other in _open:
            if other.place and other.place[1] == port and other.takes(host):
                if len(other.queue) < _QUEUE:
                    other.queue.append((bytes(data), source))
        return len(data)

    def takes(self, host):
        if _is_group(host):
            return host in self.groups
        return self.place[0] in (_OWN, _ANY)

    def recvfrom(self, n, flags=0):
        self._must_be_open()
        if not self.queue:
            raise OSError(_EAGAIN)
        data, source = self.queue.pop(0)
        return data[:n], source

    def recv(self, n, flags=0):
        return self.recvfrom(n)[0]

    def readinto(self, buf):
        self._must_be_open()
        if not self.queue:
            return None
        data = self.queue.pop(0)[0][: len(buf)]
        buf[: len(data)] = data
        return len(data)

    def ioctl(self, request, argument):
        if request != _POLL:
            return 0
        if not self.is_open:
            return _NVAL
        return argument & (_IN * bool(self.queue) | _OUT)

    def close(self):
        if self.is_open:
            self.is_open = False
            _open.remove(self)
