"""The site key: 256 random bits, never chosen, kept apart from what is sealed under it.

It is where it is found first:

    $COVEY_SITE_KEY                         the text itself
    $CREDENTIALS_DIRECTORY/covey-site-key   a credential of systemd
    site.key                                in the site, 0600; or a link to where else it lies

The text is one or more words. The first is the key, 64 hexadecimal digits. Words behind it say
under what values may still be until all have been sealed anew: earlier keys, or `plain`.
"""

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from .. import site as sites
from ..errors import MISUSE, Problem

KEY_LEN = 32
ID_LEN = 8
VARIABLE = "COVEY_SITE_KEY"
_CREDENTIAL = "covey-site-key"
_PLAIN = b"plain"
_DIGITS = b"0123456789abcdef"


@dataclass(frozen=True, repr=False)
class SiteKey:
    """One key. Owned by whoever opened it: wipe() when what is needed of it has been derived."""

    _octets: bytearray = field(repr=False)

    @property
    def id(self) -> bytes:
        """What tells it from others, and not what it is: 8 octets."""
        return self.derive("id")[:ID_LEN]

    def derive(self, purpose: str) -> bytes:
        """32 octets that serve this purpose only: one block of HKDF-Expand (RFC 5869)."""
        return hmac.digest(self._octets, b"covey " + purpose.encode() + b"\x01", sha256)

    def text(self) -> bytearray:
        """As it stands in a file, with the end of its line. The caller wipes it."""
        digits = bytearray(2 * KEY_LEN + 1)
        for i in range(KEY_LEN):
            digits[2 * i] = _DIGITS[self._octets[i] >> 4]
            digits[2 * i + 1] = _DIGITS[self._octets[i] & 15]
        digits[-1] = 0x0A
        return digits

    def wipe(self) -> None:
        self._octets[:] = bytes(KEY_LEN)


@dataclass(frozen=True, repr=False)
class SiteKeys:
    newest: SiteKey
    older: tuple[SiteKey, ...]
    takes_plain: bool
    place: str  # in words
    file: Path | None  # which can be written; None: others give it

    def wipe(self) -> None:
        for key in (self.newest, *self.older):
            key.wipe()

    @property
    def in_change(self) -> bool:
        return bool(self.older) or self.takes_plain


def generate() -> SiteKey:
    return SiteKey(bytearray(os.urandom(KEY_LEN)))


def find(file: Path) -> SiteKeys | None:
    """The keys that the environment, or else this file, gives; None where none does. Problem where
    it can't be read, is open to others or is no key."""
    given = os.environ.get(VARIABLE)
    if given:
        return _parse(bytearray(given.encode()), VARIABLE, None)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and (path := Path(folder) / _CREDENTIAL).exists():
        return _parse(_read(path), str(path), None)
    if not os.path.lexists(file):
        return None
    return read(file)


def read(file: Path) -> SiteKeys:
    data = _read(file)
    mode = os.stat(file).st_mode
    if mode & 0o077:
        data[:] = bytes(len(data))
        raise Problem(f"{file} is a key and others may open it: run `chmod 600 {file}` first.")
    return _parse(data, str(file), file.resolve())


def write(
    file: Path,
    key: SiteKey,
    older: tuple[SiteKey, ...] = (),
    *,
    plain: bool = False,
    put: Callable[[Path, bytes], None] = sites.replace_private,
) -> None:
    """put: sites.write_private makes a new file, and raises FileExistsError where there is one."""
    lines = [each.text() for each in (key, *older)]
    text = bytearray().join(lines) + (_PLAIN + b"\n" if plain else b"")
    try:
        put(file, text)
    finally:
        for each in (text, *lines):
            each[:] = bytes(len(each))


def _read(path: Path) -> bytearray:
    data = bytearray(4096)
    try:
        with open(path, "rb", buffering=0) as file:
            size = file.readinto(data)
    except OSError as error:
        where = f", a link to {os.readlink(path)}," if path.is_symlink() else ""
        why = os.strerror(error.errno or 0)
        raise Problem(f"The site key {path}{where} can't be read: {why}.") from error
    del data[size:]
    return data


def _parse(text: bytearray, place: str, file: Path | None) -> SiteKeys:
    words = text.split()
    text[:] = bytes(len(text))
    plain = _PLAIN in words[1:]
    keys = tuple(_key(word) for word in words if word != _PLAIN)
    for word in words:
        word[:] = bytes(len(word))
    if not keys or None in keys:
        raise Problem(f"{place} holds no site key: it must be 64 hexadecimal digits.", MISUSE)
    return SiteKeys(keys[0], keys[1:], plain, place, file)


def _key(word: bytearray) -> SiteKey | None:
    if len(word) != 2 * KEY_LEN:
        return None
    octets = bytearray(KEY_LEN)
    for i in range(2 * KEY_LEN):
        digit = _DIGITS.find(word[i] | 0x20 if word[i] > 0x40 else word[i])
        if digit < 0:
            return None
        octets[i >> 1] = octets[i >> 1] << 4 | digit
    return SiteKey(octets)
