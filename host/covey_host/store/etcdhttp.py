"""One connection to one etcd node, kept open: a POST of JSON and its answer, HTTP/1.1.

No more of HTTP than etcd's gateway says: a status line, headers, and a body by length or in
chunks. What says anything else is no etcd.
"""

import json
import socket
import ssl
import time
from typing import Any

_CONTINUE_LEN = 64 << 10
_MOST_HEAD = 64 << 10
_MOST_BODY = 1 << 30  # a site of ten million members is not read in one answer


class NoEtcd(Exception):
    """The answer is not one of etcd's."""


class Connection:
    def __init__(
        self, node: tuple[str, int], address: str, tls: ssl.SSLContext | None, end: float
    ):
        """address: of the node's host. OSError where it can't be made until then (a
        time.monotonic())."""
        self._socket = socket.create_connection((address, node[1]), _left(end))
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                self._socket = tls.wrap_socket(self._socket, server_hostname=node[0].strip("[]"))
        except BaseException:
            self._socket.close()
            raise
        self._head = f"HTTP/1.1\r\nHost: {node[0]}:{node[1]}\r\nContent-Length: ".encode()
        self._got = bytearray()

    def post(self, path: str, body: bytes, end: float) -> tuple[int, dict[str, Any]]:
        """Status and fields. OSError or NoEtcd: close it, for an answer may still come."""
        head = b"POST /v3/%s %s%d\r\n\r\n" % (path.encode(), self._head, len(body))
        self._socket.settimeout(_left(end))
        self._socket.sendall(head + body)
        at = self._until(b"\r\n\r\n", _MOST_HEAD, end)
        status, *lines = self._take(at).decode("latin-1").split("\r\n")
        self._take(4)
        headers = dict(line.lower().split(":", 1) for line in lines if ":" in line)
        text = self._body(headers, end)
        try:
            fields = json.loads(text)
            if isinstance(fields, dict):
                return int(status.split()[1]), fields
        except (ValueError, IndexError):
            pass
        raise NoEtcd(f"no etcd: {status[:40]}")

    def close(self) -> None:
        self._socket.close()

    def _body(self, headers: dict[str, str], end: float) -> bytes:
        try:
            if headers.get("transfer-encoding", "").strip() != "chunked":
                return self._exactly(int(headers.get("content-length", "0")), end)
            chunks = []
            while n := int(self._line(end), 16):
                chunks.append(self._exactly(n, end))
                self._line(end)
            self._line(end)
            return b"".join(chunks)
        except ValueError:
            raise NoEtcd("no etcd: no length") from None

    def _line(self, end: float) -> bytes:
        line = self._take(self._until(b"\r\n", _MOST_HEAD, end))
        self._take(2)
        return line

    def _until(self, mark: bytes, most: int, end: float) -> int:
        """Where it is."""
        while (at := self._got.find(mark)) < 0:
            if len(self._got) > most:
                raise NoEtcd("no etcd: no end")
            self._more(end)
        return at

    def _exactly(self, n: int, end: float) -> bytes:
        if not 0 <= n <= _MOST_BODY:
            raise NoEtcd("no etcd: no length")
        while len(self._got) < n:
            self._more(end)
        return self._take(n)

    def _more(self, end: float) -> None:
        self._socket.settimeout(_left(end))
        some = self._socket.recv(_CONTINUE_LEN)
        if not some:
            raise ConnectionResetError("it ended the connection")
        self._got += some

    def _take(self, n: int) -> bytes:
        some = bytes(self._got[:n])
        del self._got[:n]
        return some


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
