"""A sender's side of TESLA: the keys of the present intervals, made ahead; and what it owes.

Keys lie in a ring, from some that are to be disclosed to some that are of the next intervals,
since a round of the traversal (pebbles.py) takes a board a few ms. What is disclosed is always the
key of `lag` intervals before the one that it surely is by the key server's clock. Who sends no
more still owes the keys of what it sent last: packets that hold nothing else bring them.
"""

from struct import pack_into

from covey.chainhash import mac_key
from covey.cmac import CMACContext
from covey.octets import wipe
from covey.pebbles import Pebbles
from covey.port import const, later_kernels, ticks_diff, words
from covey.timing import KEY_LEN

_HEAD = const(4)
_HOW_TOLD = const(20)  # octet of .tells: bit 0, whether a packet was sent since told()
_DISCLOSES = const(2)  # and this bit: nothing but a key goes now
_RING = const(32)  # keys, a power of two: 16 of lag, and those ahead
_AHEAD = const(8)  # intervals for which keys are made ahead
_INLINE = const(4)  # rounds where a packet waits for them
_SLICE = const(8)  # rounds in a step
_FAR = const(256)  # rounds; who is further behind asks for other stones
# When what is owed is sent: so many intervals after it may be, and again, since some are lost.
_OWED = (0, 1, 2, 4, 8)

_copy = later_kernels()[0]


class OwnChain:
    """timing: timing.Timing; identity: our own, in octets."""

    def __init__(self, timing, identity):
        self.identity = identity
        self._lag = timing.lag
        self._bits = timing.bits
        self._pebbles = []  # of this segment and the next, in this order
        self._salts = {}  # first interval of a segment → salt
        self._ring = bytearray(KEY_LEN * _RING)  # the key of interval i at i modulo _RING
        self._from = 0  # from this interval on, to
        self._at = -1  # this one
        self.context = None  # CMACContext of
        # This interval plus one, which begin() has begun; and until when, in ticks
        self.facts = words(2)
        self.tools = None  # .tells, and what makes its MACs, see covey.cmac
        # What packets tell: the interval, and the key that may be told in it; and how they do
        self.tells = bytearray(_HEAD + KEY_LEN + 1)
        self.head = memoryview(self.tells)[:_HEAD]
        self.key = memoryview(self.tells)[_HEAD : _HEAD + KEY_LEN]
        self.sent_at = -1  # interval of the last packet, while its key is owed
        self.times_told = 0  # how often it was disclosed since

    @property
    def interval(self):
        """What begin() has begun; -1: none."""
        return self.facts[0] - 1

    @interval.setter
    def interval(self, interval):
        self.facts[0] = interval + 1

    @property
    def until(self):
        """Until when it is the present one, in ticks."""
        return self.facts[1]

    @until.setter
    def until(self, until):
        self.facts[1] = until

    def lacks(self, interval):
        """Whether stones are to be asked for: we have none for this interval or are far behind, or
        its segment is in its last quarter, and there are none for the next.
        """
        if not (self._covers(interval) and self._covers(interval + (1 << self._bits >> 2))):
            return True
        return bool(self._pebbles) and interval - self._pebbles[0].at > _FAR

    def is_of(self, salts):
        """Whether what it has comes from these chains; salts: first interval → salt of each."""
        for first in salts:
            if self._salts.get(first, salts[first]) != salts[first]:
                return False
        return True

    def take(self, at, salt, keys):
        """Stones, see timing.parse_stones(); ours from now on. Those of keys that we have are
        of no use: the ring would go back, and lose what is owed.
        """
        first = at + 1 >> self._bits << self._bits
        is_late = at < self._at
        for had in self._pebbles:
            is_late |= had.at >= at > had.last - (1 << self._bits)
        if is_late:
            for key in keys:
                wipe(key)
            return
        for had in list(self._pebbles):
            if 0 <= had.last - first < 1 << self._bits:
                had.wipe()
                self._pebbles.remove(had)
        made = Pebbles(at, salt, keys, first + (1 << self._bits) - 1)
        self._pebbles.append(made)
        self._pebbles.sort(key=_earliest_first)
        self._salts[first] = salt

    def step(self, interval):
        """Some rounds ahead of this interval. Whether there is more to do at once."""
        for _ in range(_SLICE):
            if self._at >= interval + _AHEAD or not self._round(interval):
                return False
        return self._at < interval + _AHEAD

    def begin(self, interval):
        """Before the first packet of this interval: whether its MAC can be made. Takes heap;
        MemoryError, OSError: see CMACContext.
        """
        if interval == self.interval:
            return True
        for _ in range(_INLINE):
            if self._at >= interval or not self._round(interval):
                break
        if not self._from <= interval <= self._at:
            return False
        salt = self._salts[interval >> self._bits << self._bits]
        at = KEY_LEN * (interval & _RING - 1)
        key = mac_key(salt, self.identity, memoryview(self._ring)[at : at + KEY_LEN])
        self.interval = -1
        if self.context is None:
            context = self.context = CMACContext(key)
            self.tools = self.tells, context.mac, context.parts
        else:
            self.context.renew(key)
        self.tells[_HOW_TOLD] &= _DISCLOSES
        pack_into(">I", self.head, 0, interval)
        told = interval - self._lag
        if self._from <= told <= self._at:
            _copy(self.key, 0, self._ring, KEY_LEN * (told & _RING - 1), KEY_LEN)
        else:
            wipe(self.key)  # zeros: none
        self.interval = interval
        return True

    def sent(self):
        """The first packet of an interval, or since told(): its key is owed."""
        self.sent_at = self.interval
        self.times_told = 0

    def owed_at(self):
        """From which interval on a key is to be told though nothing is sent; -1: none is owed."""
        if self.sent_at < 0:
            return -1
        return self.sent_at + self._lag + _OWED[self.times_told]

    def told(self):
        """What was owed has been sent, once more."""
        self.tells[_HOW_TOLD] = 0
        self.times_told += 1
        if self.times_told == len(_OWED):
            self.sent_at = -1

    def wipe(self):
        for pebbles in self._pebbles:
            pebbles.wipe()
        self._pebbles = []
        wipe(self._ring)
        self._at = self.interval = self.sent_at = -1
        if self.context is not None:
            self.context.wipe()
            self.context = None

    def rest(self, now_ms, interval):
        """What begin() has begun is over, if this is another interval: before ticks wrap."""
        if self.interval != interval and ticks_diff(now_ms, self.until) >= 0:
            self.interval = -1

    def _covers(self, interval):
        if self._from <= interval <= self._at:
            return True
        for pebbles in self._pebbles:
            if 0 <= pebbles.last - interval < 1 << self._bits:
                return True
        return False

    def _round(self, interval):
        """One more key. False: there is none, or it is far from this interval."""
        while self._pebbles:
            if not self._pebbles[0].is_over and interval - self._pebbles[0].last <= _FAR:
                break
            self._pebbles.pop(0).wipe()
        if not self._pebbles or interval - self._pebbles[0].at > _FAR:
            return False
        pebbles = self._pebbles[0]
        at = pebbles.at + 1
        pebbles.next(self._ring, KEY_LEN * (at & _RING - 1))
        if at != self._at + 1:  # what lies between is not known
            self._from = at
        self._at = at
        self._from = max(self._from, at - _RING + 1)
        if at & (1 << self._bits) - 1 == 0:
            for first in list(self._salts):
                if first < at - (1 << self._bits):
                    del self._salts[first]
        return True


def _earliest_first(pebbles):
    return pebbles.at
