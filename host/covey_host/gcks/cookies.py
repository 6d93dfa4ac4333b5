"""COOKIE (RFC 7296 section 2.6): an address proves that it hears us, and costs us no memory.

    cookie = version (1) | HMAC-SHA-256(secret, length of Ni | Ni | SPIi | host), 16 octets of it

The port is left out: a NAT may choose another one. A secret is used for a minute and taken for one
more.
"""

import hmac

from covey import ike

from .epoch import Random

LIFE_MS = 60_000  # how long a secret makes cookies
_SECRET_LEN = 32
_HASH_LEN = 16
COOKIE_LEN = 1 + _HASH_LEN

_HEADER_LEN, _GENERIC_LEN, _NOTIFY_LEN = 28, 4, 8
_TYPE = ike.COOKIE.to_bytes(2)
_USUAL = 16  # payloads of an IKE_SA_INIT at most


class Cookies:
    def __init__(self, random: Random):
        self._random = random
        self._version = 0
        self._until_ms = None
        self._secret = b""
        self._former = b""  # empty: none

    def make(self, spi_i: bytes, nonce: bytes, host: str, now_ms: int) -> bytes:
        self._turn(now_ms)
        return bytes([self._version]) + _hash(self._secret, spi_i, nonce, host)

    def is_ours(self, cookie: bytes, spi_i: bytes, nonce: bytes, host: str, now_ms: int) -> bool:
        """Whether this host heard this cookie of us, for this request, a short while ago."""
        self._turn(now_ms)
        if len(cookie) != COOKIE_LEN:
            return False
        age = (self._version - cookie[0]) % 256
        secret = (self._secret, self._former)[age] if age < 2 else b""
        return bool(secret) and hmac.compare_digest(cookie[1:], _hash(secret, spi_i, nonce, host))

    def _turn(self, now_ms: int) -> None:
        """A new secret when it is time; both are new after a long pause."""
        if self._until_ms is not None and now_ms < self._until_ms:
            return
        is_late = self._until_ms is None or now_ms >= self._until_ms + LIFE_MS
        self._former = b"" if is_late else self._secret
        self._secret = self._random(_SECRET_LEN)
        self._version = (self._version + (2 if is_late else 1)) % 256
        self._until_ms = now_ms + LIFE_MS


class Shared(Cookies):
    """Cookies of several processes: the secret of each minute follows from the one that all of
    them know, and so do version and minute from the clock of the machine."""

    def __init__(self, secret: bytes):
        super().__init__(lambda _: b"")
        self._shared = secret

    def _turn(self, now_ms: int) -> None:
        minute = now_ms // LIFE_MS
        if self._until_ms == minute:
            return
        self._until_ms = minute
        self._version = minute % 256
        self._secret, self._former = (
            hmac.digest(self._shared, m.to_bytes(8), "sha256") for m in (minute, minute - 1)
        )


def bare_nonce(kind: int, data: bytes, off: int = _HEADER_LEN) -> bytes | None:
    """Ni of an IKE_SA_INIT of the usual form that shows no cookie, as quickly as a flood wants it;
    None: it has to be read closely. kind: of its first payload; off: where that begins."""
    end, nonce = len(data), None
    for _ in range(_USUAL):
        if off + _GENERIC_LEN > end:
            return None
        length = data[off + 2] << 8 | data[off + 3]
        if kind == ike.NONCE:
            if nonce is not None:
                return None
            nonce = data[off + _GENERIC_LEN : off + length]
        elif kind == ike.NOTIFY and (length < 8 or data[off + 6 : off + 8] == _TYPE):
            return None
        kind, off = data[off], off + length
        if length < _GENERIC_LEN or off > end:
            return None
        if not kind:
            return nonce if off == end and nonce and 16 <= len(nonce) <= 256 else None
    return None


def shown(data: bytes) -> tuple[bytes, bytes] | None:
    """Cookie and Ni of an IKE_SA_INIT whose first payload is a Notify; an empty Ni where it is not
    of the usual form but for that. None: it shows no cookie there, or an odd one."""
    head = data[_HEADER_LEN : _HEADER_LEN + _NOTIFY_LEN]
    if len(head) < _NOTIFY_LEN or head[5] or head[6:] != _TYPE:
        return None
    end = _HEADER_LEN + (head[2] << 8 | head[3])
    return data[_HEADER_LEN + _NOTIFY_LEN : end], bare_nonce(head[0], data, end) or b""


def _hash(secret: bytes, spi_i: bytes, nonce: bytes, host: str) -> bytes:
    data = len(nonce).to_bytes(2) + nonce + spi_i + host.encode()
    return hmac.digest(secret, data, "sha256")[:_HASH_LEN]
