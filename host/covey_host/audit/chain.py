"""Lines of an audit log: each holds the hash of the one before, and a MAC under the site's key.

    {"n":7,"time":"...","event":"removed",...,"prev":SHA-256,"mac":HMAC-SHA-256}

prev is over the former line without its end; the MAC over this one up to `,"mac"`. Anybody can
check that lines hang together; that the site's key server wrote them, only who has its key. What
is cut off at the end shows by a *mark*, the number and hash of a line, that is kept elsewhere.
"""

import hashlib
import hmac
import json
import re
from typing import Any, NamedTuple

KEY_LEN = 32
MOST_OCTETS = 1 << 20  # of a line
_LINE = re.compile(
    rb'(\{"n":([0-9]{1,15}),"time":.*,"prev":"([0-9a-f]{64})"),"mac":"([0-9a-f]{64})"\}', re.DOTALL
)
_emit = json.JSONEncoder(separators=(",", ":"), default=str).encode
_CUT = re.compile(rb'\{"n":[0-9]+,"time":"[^"]*","event":"cut"')
_LOST = re.compile(rb'\{"n":[0-9]+,"time":"[^"]*","event":"lost","by":"server","count":([0-9]+)')


class Mark(NamedTuple):
    """A line: its number, and its SHA-256 in hexadecimal. Number 0 is before the first one."""

    n: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.n}:{self.sha256}"


BEGIN = Mark(0, "0" * 64)


def parse_mark(text: str) -> Mark:
    """ValueError where it is none."""
    if not re.fullmatch(r"[0-9]{1,15}:[0-9a-f]{64}", text):
        raise ValueError("is no mark: write NUMBER:SHA256, as `covey audit verify` prints it.")
    n, _, sha256 = text.partition(":")
    return Mark(int(n), sha256)


def seal(key: bytes, last: Mark, n: int, entry: dict[str, Any]) -> tuple[bytes, Mark]:
    """The line that follows `last`, with its end, and its own mark. entry: "time" stands first.
    ValueError where it would be too long to be read again."""
    fields = {"n": n, **entry, "prev": last.sha256}
    body = _emit(fields).encode()[:-1]
    line = b'%s,"mac":"%s"}' % (body, hmac.digest(key, body, "sha256").hex().encode())
    if len(line) >= MOST_OCTETS:
        raise ValueError(f"has {len(line)} octets")
    return line + b"\n", mark_of(line, n)


def mark_of(line: bytes, n: int) -> Mark:
    return Mark(n, hashlib.sha256(line).hexdigest())


def read_mark(line: bytes) -> Mark | None:
    """That of a line without its end; None where it is no line of a log."""
    found = _LINE.fullmatch(line)
    return mark_of(line, int(found[2])) if found else None


class Verifier:
    """Takes the lines in their order. key: None where the site's is not at hand. since: an entry
    that was looked at before; nothing before it is looked at again. until: one that must be here.
    kept_from: number of the entry with which the log begins at the latest, unless there is since.
    """

    def __init__(
        self,
        key: bytes | None,
        since: Mark = BEGIN,
        until: Mark = BEGIN,
        kept_from: int = 1,
    ):
        self._key = key
        self._kept_from = kept_from
        self._since = since
        self._until = until
        self.first: int | None = None
        self.last = BEGIN
        self.count = 0
        self.lost = 0  # entries of which the log says itself that it had no room for them

    def take(self, line: bytes) -> str | None:
        """The next line, without its end: what is wrong with it, in a sentence."""
        found = _LINE.fullmatch(line)
        mark = mark_of(line, int(found[2])) if found else None
        if self._since.n and self.first is None and mark != self._since:
            return None
        if not found:
            return f"What follows entry {self.last.n} is no entry."
        former, self.last = self.last, mark
        self.count += 1
        if lost := _LOST.match(line):
            self.lost += int(lost[1])
        if self.first is not None:
            return self._judge(found, former)
        self.first = mark.n
        if self._since.n:
            return None
        if mark.n > self._kept_from:
            return f"{_missing(self._kept_from, mark.n)[:-1]}, and in no archive."
        return self._judge(found, Mark(mark.n - 1, found[3].decode()) if mark.n > 1 else BEGIN)

    def _judge(self, found: re.Match, former: Mark) -> str | None:
        n = self.last.n
        if n != former.n + 1:
            return _missing(former.n + 1, n)
        if found[3].decode() != former.sha256:
            return f"Entry {n} does not follow the one before it: one of the two was altered."
        if self._key is not None:
            mac = hmac.digest(self._key, found[1], "sha256")
            if not hmac.compare_digest(mac.hex().encode(), found[4]):
                return f"Entry {n} was altered, or was not written by this site's key server."
        if _CUT.match(found[1]):
            return f"Entry {n} says that the log before it was cut, or altered, or put back."
        if n == self._until.n and self.last != self._until:
            return f"Entry {n} is not the one that the store knows."
        return None

    def end(self) -> str | None:
        """After the last line."""
        if self._since.n and self.first is None:
            return f"Entry {self._since.n}, of this mark, is not in the log."
        if self._until.n > self.last.n:
            return _missing(self.last.n + 1, self._until.n + 1)
        return None


def _missing(first: int, behind: int) -> str:
    if behind <= first:
        return f"Entry {behind} stands where {first} should be."
    some = f"Entry {first} is" if behind - first == 1 else f"Entries {first} to {behind - 1} are"
    return f"{some} missing."
