"""`socket` on a desktop, with the radio in between: no packet passes while Wi-Fi is away.

Loaded before anything that names `socket`. is_up: set by `network`.
"""

import sys

import desk

_EHOSTUNREACH = 113


def _always():
    return True


is_up = _always

if desk.IS_CPYTHON:
    import socket

    class Socket(socket.socket):
        """What comes meanwhile is lost, and what is to go."""

        def sendto(self, data, *args):
            if not is_up():
                raise OSError(_EHOSTUNREACH, "no route to host")
            return super().sendto(data, *args)

        def recvmsg_into(self, *args):
            got = super().recvmsg_into(*args)
            while not is_up():
                got = super().recvmsg_into(*args)  # until nothing is left: BlockingIOError
            return got

    socket.socket = Socket

else:
    import io
    import select
    import socket as _real

    _POLL, _IN, _NVAL = 3, 1, 0x20
    _EINVAL = 22

    class Socket(io.IOBase):
        """Around the system's own: what comes meanwhile is lost, and what is to go."""

        def __init__(self, *args):
            self._sock = _real.socket(*args)
            self._poll = select.poll()
            self._poll.register(self._sock, _IN)
            for name in ("bind", "setsockopt", "setblocking"):
                setattr(self, name, getattr(self._sock, name))

        def sendto(self, data, address):
            if not is_up():
                raise OSError(_EHOSTUNREACH)
            return self._sock.sendto(data, address)

        def recv(self, n):
            return self._sock.recv(n)

        def recvfrom(self, n):
            return self._sock.recvfrom(n)

        def ioctl(self, request, argument):
            if request != _POLL:
                return -_EINVAL
            if self._sock is None:
                return _NVAL
            if not is_up():
                self._lose()
                return 0
            return argument & _IN if self._poll.poll(0) else 0

        def _lose(self):
            while self._poll.poll(0):
                try:
                    self._sock.recv(2048)
                except OSError:
                    return

        def close(self):
            if self._sock:
                self._sock.close()
                self._sock = None

    class _Module:
        pass

    for _name in dir(_real):
        if not _name.startswith("__"):
            setattr(_Module, _name, getattr(_real, _name))
    _Module.socket = Socket
    sys.modules["socket"] = _Module
