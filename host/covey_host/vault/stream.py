"""A file sealed under the site key, written and read from its beginning to its end.

    "covey backup 1\\n" | key ID (8) | seconds since 1970 (8) | salt (32) | pieces

Each piece is 1 MiB by AES-256-GCM-SIV, its tag of 16 octets behind it, the last one shorter, or
empty. Its nonce is its number (11) and whether it is the last (1); so none can be left out, moved
or cut off. The key is HMAC-SHA-256 of all up to the pieces, under what the site key derives.
"""

import hmac
import os
import struct
from hashlib import sha256
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from ..errors import MISUSE, Problem
from .sitekey import ID_LEN, SiteKey

_MAGIC = b"covey backup 1\n"
_TIME = struct.Struct(">Q")
_SALT_LEN = 32
_HEAD_LEN = len(_MAGIC) + ID_LEN + _TIME.size + _SALT_LEN
_PIECE = 1 << 20
_TAG_LEN = 16


class Sealing:
    """Writes; what tarfile asks of a file. finish() writes the last piece."""

    def __init__(self, file: BinaryIO, key: SiteKey, now: int):
        head = _MAGIC + key.id + _TIME.pack(now) + os.urandom(_SALT_LEN)
        self._cipher = _cipher(key, head)
        self._file = file
        self._waiting = bytearray()
        self._number = 0
        file.write(head)

    def write(self, data: bytes) -> int:
        self._waiting += data
        while len(self._waiting) > _PIECE:
            self._piece(_PIECE, is_last=False)
        return len(data)

    def finish(self) -> None:
        while len(self._waiting) >= _PIECE:
            self._piece(_PIECE, is_last=False)
        self._piece(len(self._waiting), is_last=True)

    def _piece(self, size: int, *, is_last: bool) -> None:
        nonce = _nonce(self._number, is_last=is_last)
        self._file.write(self._cipher.encrypt(nonce, bytes(self._waiting[:size]), None))
        self._waiting[:size] = b""
        self._number += 1


class Opening:
    """Reads. Problem from read() where a piece was altered or is missing."""

    def __init__(self, file: BinaryIO, key: SiteKey, name: str, place: str):
        """name: of the file; place: where the key comes from, in words."""
        head = file.read(_HEAD_LEN)
        if len(head) < _HEAD_LEN or not head.startswith(_MAGIC):
            raise Problem(f"{name} is no backup of Covey.", MISUSE)
        id = head[len(_MAGIC) : len(_MAGIC) + ID_LEN]
        if id != key.id:
            raise Problem(
                f"{name} is sealed under the site key with the ID {id.hex()}, and {place} gives"
                f" {key.id.hex()}: bring that one.",
                MISUSE,
            )
        (self.time,) = _TIME.unpack_from(head, len(_MAGIC) + ID_LEN)
        self._cipher = _cipher(key, head)
        self._file = file
        self._name = name
        self._opened = bytearray()
        self._number = 0
        self._is_over = False

    def read(self, size: int) -> bytes:
        while len(self._opened) < size and not self._is_over:
            self._opened += self._piece()
        found = bytes(self._opened[:size])
        self._opened[:size] = b""
        return found

    def finish(self) -> None:
        """Problem unless all was read that was sealed."""
        while not self._is_over:
            self._piece()

    def _piece(self) -> bytes:
        sealed = self._file.read(_PIECE + _TAG_LEN)
        self._is_over = len(sealed) < _PIECE + _TAG_LEN
        try:
            opened = self._cipher.decrypt(
                _nonce(self._number, is_last=self._is_over), sealed, None
            )
        except (InvalidTag, ValueError):
            raise Problem(f"{self._name} is damaged or cut short: use another backup.") from None
        self._number += 1
        return opened


def _cipher(key: SiteKey, head: bytes) -> AESGCMSIV:
    return AESGCMSIV(hmac.digest(key.derive("backup"), head, sha256))


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
