"""The chains of keys by which senders are proven in a group with TESLA: what covey/timing.py calls
so, derived from the secret of a sender's seat, so that nothing of them has to be kept.

Of a chain of 2^k intervals, and as many behind them, each 2^(k/2)-th key is in memory: to make
these takes 2^(k+1) hashes, 20 ms for k = 14, and any other key 2^(k/2) more.
"""

from hashlib import sha256

from covey import timing
from covey.prf import prf

from .clock import Clock
from .epoch import Epoch
from .seats import Seat, seat_of

_STILL = 32  # intervals behind a segment in which its last packets are still proven
Row = tuple[int, int, bytes, int, bytes]  # of timing.emit_chains()
Stones = tuple[int, bytes, list[bytes]]  # of timing.emit_stones()


class Chain:
    """Of one sender, for one segment. bits: k."""

    def __init__(self, secret: bytes, terms: bytes, segment: int, bits: int):
        self.first = segment << bits  # interval
        what = terms + segment.to_bytes(4)
        self.salt = bytes(prf(secret, b"Covey TESLA salt", what))[: timing.SALT_LEN]
        seed = bytes(prf(secret, b"Covey TESLA chain", what))[: timing.KEY_LEN]
        self._last = self.first + (2 << bits) - 1
        self._step = 1 << (bits + 1) // 2
        kept, number, key = [seed], self._last, seed
        while number - self._step >= self.first - 1:
            key = self._down(number, key, number - self._step)
            number -= self._step
            kept.append(key)
        self._kept = b"".join(kept)  # at _last, _last - _step, ...

    def key(self, number: int) -> bytes:
        """K of an interval, from the one before the first on."""
        at = (self._last - number) // self._step
        key = self._kept[at * timing.KEY_LEN : (at + 1) * timing.KEY_LEN]
        return self._down(self._last - at * self._step, key, number)

    def _down(self, number: int, key: bytes, to: int) -> bytes:
        salt = self.salt
        for i in range(number, to, -1):
            key = sha256(salt + i.to_bytes(4) + key).digest()[:16]
        return key


class Chains:
    """Of one group. What is asked for is for an epoch that has a clock."""

    def __init__(self, clock: Clock):
        self.clock = clock
        self._made: dict[tuple[bytes, bytes, int], Chain] = {}

    def rows(self, epoch: Epoch, *, is_all: bool) -> list[Row]:
        """By what a receiver knows each sender's keys: one that is out. Of the present segment;
        is_all: and of the one before or after it, while that matters."""
        now = self._now(epoch)
        segments = [now >> epoch.shape.tesla_chain]
        if is_all:
            segments = _about(now, epoch.shape.tesla_chain)
        rows = []
        for seat in _senders(epoch):
            for segment in segments:
                chain = self._chain(epoch, seat, segment)
                end = (segment + 1 << epoch.shape.tesla_chain) - 1
                which = min(max(chain.first - 1, now - epoch.shape.tesla_lag - 2), end)
                rows.append((seat.index, chain.first, chain.salt, which, chain.key(which)))
        return rows

    def stones(self, epoch: Epoch, member: str) -> list[Stones]:
        """What a sender goes on from: for the present segment and, when its end is near, the next
        one. None for whoever has no seat as a sender."""
        bits, now = epoch.shape.tesla_chain, self._now(epoch)
        seat = seat_of(epoch.seats, member)
        if seat is None or seat.index is None:
            return []
        found = []
        for segment in _about(now, bits):
            if segment < now >> bits:
                continue
            chain = self._chain(epoch, seat, segment)
            at = max(chain.first, now) - 1
            keys = [chain.key(at + (1 << power)) for power in range(bits + 1)]
            found.append((at, chain.salt, keys))
        return found

    def forget(self) -> None:
        """The group has no clock any more."""
        self._made.clear()

    def prepare(self, epoch: Epoch) -> int:
        """Make one chain that will be asked for, if there is one → ms until the next may be."""
        bits, now = epoch.shape.tesla_chain, self._now(epoch)
        segment, half = now >> bits, 1 << bits >> 1
        self._forget(epoch, segment)
        is_late = now & (1 << bits) - 1 >= half
        wanted = (segment, segment + 1) if is_late else (segment,)
        for one in wanted:
            for seat in _senders(epoch):
                if _name(epoch, seat, one) not in self._made:
                    self._chain(epoch, seat, one)
                    return 0
        then = (segment + 1 << bits) + (half if is_late else -half)
        return then * epoch.shape.tesla_interval_ms - self.clock.now_ms()

    def _now(self, epoch: Epoch) -> int:
        """The interval."""
        return self.clock.now_ms() // epoch.shape.tesla_interval_ms

    def _chain(self, epoch: Epoch, seat: Seat, segment: int) -> Chain:
        name = _name(epoch, seat, segment)
        if name not in self._made:
            self._made[name] = Chain(*name, epoch.shape.tesla_chain)
        return self._made[name]

    def _forget(self, epoch: Epoch, segment: int) -> None:
        seated = {seat.secret for seat in epoch.seats}
        for secret, terms, of in list(self._made):
            if secret not in seated or terms != _terms(epoch) or of < segment - 1:
                del self._made[secret, terms, of]


def _about(now: int, bits: int) -> list[int]:
    """Segments that matter now: the present one, and the one before or after it for a while."""
    segment, into = now >> bits, now & (1 << bits) - 1
    if into < _STILL:
        return [segment - 1, segment]
    return [segment, segment + 1] if into >= 3 << bits >> 2 else [segment]


def _senders(epoch: Epoch) -> list[Seat]:
    return [seat for seat in epoch.seats if seat.index is not None]


def _terms(epoch: Epoch) -> bytes:
    shape = epoch.shape
    return epoch.clock + shape.tesla_interval_ms.to_bytes(4) + shape.tesla_chain.to_bytes(1)


def _name(epoch: Epoch, seat: Seat, segment: int) -> tuple[bytes, bytes, int]:
    return seat.secret, _terms(epoch), segment
