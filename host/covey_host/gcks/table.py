"""The IKE SAs of a key server: found by our SPI, by their first message, by their member."""

from collections import deque
from functools import partial
from typing import Any

from . import ikesa
from .epoch import Random
from .ikesa import NEVER, IkeSA
from .natd import host_of
from .spis import Spis
from .timers import Timers

ZERO_SPI = bytes(8)
MOST_UNPROVEN = 4096  # IKE SAs whose peer has proven nothing, or that ended; no more are made
UNPROVEN_MS = 30_000  # how long each of them is kept
YIELDS_MS = 8_000  # after which a half-open one makes room: its peer has other things in mind
_MOST_NEW = 4096
MOST_LINGERING = 8  # IKE SAs of one member that were replaced or are being closed


class Table:
    def __init__(self, random: Random, spis: Spis | None = None):
        """spis: where our SPIs say whose they are; None: they are random as a whole."""
        self._make_spi = partial(random, len(ZERO_SPI)) if spis is None else spis.make
        self.sas: dict[bytes, IkeSA] = {}  # by our SPI
        self.proven: dict[str, IkeSA] = {}  # by member: the one that is open
        self.unproven: set[bytes] = set()  # SPIs of those that are half-open or ended
        self.half_open = 0
        self._half_open_by: dict[Any, dict[bytes, IkeSA]] = {}  # by host, the oldest first
        self.timers = Timers()
        self.is_changed = False  # who is told of keys, of which, or where
        self._new: deque[bytes] = deque(maxlen=_MOST_NEW)  # SPIs not asked for by take_new() yet
        self._ended: dict[bytes, IkeSA] = {}  # the oldest first
        self._lingering: dict[str, list[IkeSA]] = {}  # by member, the oldest first
        self._waiting: dict[str, IkeSA] = {}  # by member, which waits for keys: the newest
        self._origins: dict[tuple, IkeSA] = {}  # by address and hash of the IKE_SA_INIT request

    def new_spi(self) -> bytes:
        while True:
            spi = self._make_spi()
            if spi != ZERO_SPI and spi not in self.sas:
                return spi

    def begun_by(self, origin: tuple[Any, bytes]) -> IkeSA | None:
        """The IKE SA that this very IKE_SA_INIT request has made."""
        return self._origins.get(origin)

    def add_half_open(self, sa: IkeSA, now_ms: int) -> None:
        self.sas[sa.own_spi] = self._origins[sa.origin] = sa
        sa.begun_ms = now_ms
        self._new.append(sa.own_spi)
        self.unproven.add(sa.own_spi)
        self.half_open += 1
        self._half_open_by.setdefault(host_of(sa.origin[0]), {})[sa.own_spi] = sa
        self.expire(sa, now_ms + UNPROVEN_MS)

    def add_successor(self, sa: IkeSA) -> None:
        """Of an IKE SA that had proven its peer."""
        self.sas[sa.own_spi] = sa
        self._new.append(sa.own_spi)

    def hear(self, sa: IkeSA, address: Any, now_ms: int) -> None:
        """Something new and authentic came from there (RFC 7296 sections 2.11, 2.23)."""
        self.is_changed |= sa.address != address
        sa.address, sa.heard_ms = address, now_ms

    def take_changed(self) -> bool:
        """Whether is_changed was set since the last call."""
        changed, self.is_changed = self.is_changed, False
        return changed

    def take_new(self) -> list[IkeSA]:
        """Those made since the last call, as far as they are still there."""
        found = [self.sas[spi] for spi in self._new if spi in self.sas]
        self._new.clear()
        return found

    def wait(self, sa: IkeSA) -> None:
        """Its peer has proven itself and is answered later: it takes no room from strangers."""
        if sa.state != ikesa.HALF_OPEN:
            return
        self._pass(sa)
        self.unproven.discard(sa.own_spi)
        sa.state = ikesa.WAITING
        former = self._waiting.get(sa.identity)
        if former is not None:
            self.forget(former)
        self._waiting[sa.identity] = sa

    def waiting(self) -> list[IkeSA]:
        """Whose peers wait for keys, or for the store."""
        return list(self._waiting.values())

    def open(self, sa: IkeSA) -> None:
        """It is the member's from now on; it may have been half-open until now."""
        self._pass(sa)
        self.unproven.discard(sa.own_spi)
        self.is_changed = True
        self.proven[sa.identity] = sa
        sa.state, sa.deadline_ms = ikesa.OPEN, NEVER

    def replace(self, sa: IkeSA, now_ms: int) -> None:
        """Its successor has been opened: it only waits for the peer's Delete."""
        sa.state = ikesa.REPLACED
        self._disown(sa)
        self.expire(sa, now_ms + UNPROVEN_MS)
        self._linger(sa)

    def close(self, sa: IkeSA) -> None:
        """It is to be deleted by us."""
        sa.state, sa.deadline_ms = ikesa.CLOSING, NEVER
        self._disown(sa)
        self._linger(sa)

    def end(self, sa: IkeSA, now_ms: int) -> None:
        """By the peer or by an error: only the last answer is kept, for a while."""
        self._pass(sa)
        self._disown(sa)
        self.unproven.add(sa.own_spi)
        self._ended[sa.own_spi] = sa
        sa.end()
        self.expire(sa, now_ms + UNPROVEN_MS)
        if len(self.unproven) > MOST_UNPROVEN:  # a member may have deleted more than it began
            self.forget(self._oldest_ended())

    def forget(self, sa: IkeSA) -> None:
        self._pass(sa)
        self._disown(sa)
        self.unproven.discard(sa.own_spi)
        self._ended.pop(sa.own_spi, None)
        self._origins.pop(sa.origin, None)
        del self.sas[sa.own_spi]
        self.timers.take(sa)
        sa.wipe()

    def half_open_of(self, host: Any) -> int:
        """How many half-open IKE SAs one host has."""
        return len(self._half_open_by.get(host, ()))

    def make_room(self, host: Any, now_ms: int) -> bool:
        """For one more half-open IKE SA of this host: at the cost of the oldest one that has
        ended, else of the oldest half-open one of the host that has most of them, if those are
        twice as many as this one would have, or it is old enough to yield."""
        if len(self.unproven) < MOST_UNPROVEN:
            return True
        if self._ended:
            self.forget(self._oldest_ended())
            return True
        by = self._half_open_by
        fullest = max(by, key=lambda one: len(by[one]), default=None)
        if fullest is None:
            return False
        has_many = len(by[fullest]) >= 2 * (self.half_open_of(host) + 1)
        return self.displace(fullest, now_ms, 0 if has_many else YIELDS_MS)

    def displace(self, host: Any, now_ms: int, least_ms: int = YIELDS_MS) -> bool:
        """Give up the oldest half-open IKE SA of this host, if it is so old."""
        for sa in self._half_open_by.get(host, {}).values():
            if now_ms - sa.begun_ms < least_ms:
                return False
            self.forget(sa)
            return True
        return False

    # Time

    def expire(self, sa: IkeSA, deadline_ms: int) -> None:
        sa.deadline_ms = deadline_ms
        self.timers.put(sa, deadline_ms)

    # Inside

    def _oldest_ended(self) -> IkeSA:
        return next(iter(self._ended.values()))

    def _pass(self, sa: IkeSA) -> None:
        """It is half-open no longer, for better or worse; nor does it wait."""
        if self._waiting.get(sa.identity) is sa:
            del self._waiting[sa.identity]
        if sa.state != ikesa.HALF_OPEN:
            return
        host = host_of(sa.origin[0])
        self.half_open -= 1
        of_host = self._half_open_by[host]
        del of_host[sa.own_spi]
        if not of_host:
            del self._half_open_by[host]

    def _linger(self, sa: IkeSA) -> None:
        """A member may make IKE SAs as fast as it likes, and fill no memory with them."""
        lingering = self._lingering.setdefault(sa.identity, [])
        if sa not in lingering:
            lingering.append(sa)
        if len(lingering) > MOST_LINGERING:
            self.forget(lingering[0])

    def _disown(self, sa: IkeSA) -> None:
        """It serves its member no longer, and lingers no longer: its caller says what it does."""
        if self.proven.get(sa.identity) is sa:
            del self.proven[sa.identity]
            self.is_changed = True
        lingering = self._lingering.get(sa.identity, [])
        if sa in lingering:
            lingering.remove(sa)
            if not lingering:
                del self._lingering[sa.identity]
