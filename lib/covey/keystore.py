"""The key store: a fixed table of Data-Security SAs, and when each comes and goes.

install ---> receiving ---> retire (DTD) ---> gone: key wiped, SPI remembered
             activate (ATD) ---> also sending, until a newer epoch does
A lifetime that ends is a retire at once. A full store refuses; nothing alive is evicted.
"""

from covey.deadline import Deadlines
from covey.drops import DROP_CAPACITY
from covey.octets import wipe
from covey.path import DataPath
from covey.port import const, find_spi, ticks_add, ticks_diff

_REMEMBERED = const(8)  # retired SPIs, and announced ones, that we still know by name
_DAY_MS = const(86400000)

_DUE = const(0)  # as path.py has it

# A slot's state: any of
_EXPIRES = const(1)  # has a lifetime
_RETIRING = const(2)  # has been deleted; still good for receiving until its DTD is over
_WAITING = const(4)  # will be sent under when its ATD is over
_SENDING = const(8)  # may be sent under

# Its deadlines
_EXPIRE = const(0)
_RETIRE = const(1)
_ACTIVATE = const(2)


class KeyStore:
    """`slots` SAs at most. drops counts what a full store refused. path: a DataPath of so many
    slots, where packets find them.
    """

    def __init__(self, slots, drops, path=None):
        self.sas = [None] * slots  # by slot, as admit() names it
        self.sending = None  # the SA that is sent under where no destination is named
        self.lapsed = False  # an SA's life has ended by our clock, and its windows with it
        self._path = path or DataPath(slots)
        self._words = self._path.words
        self._drops = drops
        self._spis = bytearray(4 * slots)  # side by side for find(); a free slot keeps its last
        self._states = bytearray(slots)
        self._ends = Deadlines(3 * slots)  # of a slot's lifetime, of its DTD, of its ATD
        self._destination = None  # of the latest that was sent under, and
        self._port = 0  # its port, and
        self._epoch = 0  # its epoch
        self._used = 0  # slots from this one on are free
        self._is_held = False  # see hold()
        self.retired = _SPIRing()  # of SAs that have gone
        self.announced = _SPIRing()  # promised for coming epochs (GSA_NEXT_SPI)

    # ---- nothing of this allocates

    def find(self, buf, off):
        """The SA whose SPI stands at off, or None."""
        slot = find_spi(self._spis, self._used, buf, off)
        return self.sas[slot] if slot >= 0 else None

    def outbound(self, destination=None):
        """The SA to send under, or None: the newest epoch whose ATD is over.

        destination: 4 octets, where a group has several.
        """
        if destination is None:
            return self.sending
        return self._elect(destination)

    def may_send_under(self, sa):
        """Whether this SA, which is here, may be sent under, though another one may be elected."""
        return bool(self._states[self.sas.index(sa)] & _SENDING)

    def send_under(self, sa):
        """The SA that the next packet is sent under → the one before."""
        before = self.sending
        self.sending = self._path.sending = sa
        self._path.choose(None if sa is None else sa.words)
        return before

    def keep_up(self, now_ms):
        """Carry out what is due, if anything is → the ms until the next time."""
        left_ms = ticks_diff(self._words[_DUE], now_ms)
        return left_ms if left_ms > 0 else self.step(now_ms)

    def step(self, now_ms):
        """Carry out what is due. Returns the ms until the next time, a day at most.

        To be called when it is due, and once in six days at least. No frame of these may have
        more than eleven slots: it would be taken from the heap.
        """
        next_ms = _DAY_MS
        if self._is_held:
            self._words[_DUE] = ticks_add(now_ms, next_ms)
            return next_ms
        slot = 0
        while slot < self._used:
            if self._states[slot]:  # else it is free, or nothing ends and nothing begins
                next_ms = min(next_ms, self._step_slot(slot, now_ms))
            slot += 1
        self._step_sending()
        self._words[_DUE] = ticks_add(now_ms, next_ms)
        return next_ms

    def _step_slot(self, slot, now_ms):
        state = self._states[slot]
        next_ms = _DAY_MS
        if state & _EXPIRES:
            next_ms = self._ends.left_ms(3 * slot + _EXPIRE, now_ms)
        if state & _RETIRING:
            next_ms = min(next_ms, self._ends.left_ms(3 * slot + _RETIRE, now_ms))
        if not next_ms:
            if not state & _RETIRING:
                self.lapsed = True
            self._remove(slot)
            return _DAY_MS
        if state & _WAITING:
            if self._ends.is_due(3 * slot + _ACTIVATE, now_ms):
                self._states[slot] = state ^ (_WAITING | _SENDING)
            else:
                next_ms = min(next_ms, self._ends.left_ms(3 * slot + _ACTIVATE, now_ms))
        return next_ms

    def _step_sending(self):
        sa = self._keep_flow(self._elect(None))
        self.send_under(sa)
        if sa is not None:
            self._destination = sa.destination
            self._port = sa.port
            self._epoch = sa.epoch

    # ---- for the control half: may allocate

    def hold(self):
        """Until go_on(): no end and no ATD is noticed, and one step does for all changes."""
        self._is_held = True

    def go_on(self, now_ms):
        self._is_held = False
        self.step(now_ms)

    def room_for(self, count):
        """Whether `count` more SAs can be installed."""
        return self.sas.count(None) >= count

    def install(self, sa, now_ms):
        """Receive under sa from now on. False where the store is full or knows the SPI already."""
        if self.find(sa.spi, 0) is not None:
            return False
        if not self.room_for(1):
            self._drops.count(DROP_CAPACITY)
            return False
        slot = self.sas.index(None)
        self.sas[slot] = sa
        self._used = max(self._used, slot + 1)
        self._spis[4 * slot : 4 * slot + 4] = sa.spi
        self._path.enter(slot, sa.spi, sa.words)
        return self.renew(sa.spi, now_ms, sa.lifetime_s)

    def renew(self, spi, now_ms, lifetime_s):
        """The SA of this SPI is current and lives so long from now on; None: until retired."""
        slot = self._slot_of(spi)
        if slot < 0:
            return False
        self._states[slot] &= ~(_RETIRING | _EXPIRES)
        if lifetime_s is not None:
            self._ends.start(3 * slot + _EXPIRE, now_ms, lifetime_s)
            self._states[slot] |= _EXPIRES
        self.step(now_ms)
        return True

    def activate(self, spi, now_ms, atd_s):
        """Send under the SA of this SPI when atd_s is over; it has become_sender behind it. The
        earlier end wins: a registration tells of what is left in whole seconds, rounded up."""
        slot = self._slot_of(spi)
        if slot < 0:
            return False
        assert self.sas[slot].sender_id >= 0
        state, end = self._states[slot], 3 * slot + _ACTIVATE
        is_soon = bool(state & _WAITING) and self._ends.left_ms(end, now_ms) <= atd_s * 1000
        if not (state & _SENDING or is_soon):
            self._ends.start(end, now_ms, atd_s)
            self._states[slot] = state | _WAITING
        self.step(now_ms)
        return True

    def retire(self, spi, now_ms, dtd_s):
        """Receive under this SPI for dtd_s longer, then wipe its SA. The earlier end wins."""
        slot = self._slot_of(spi)
        if slot < 0:
            return False
        end = 3 * slot + _RETIRE
        if not self._states[slot] & _RETIRING or self._ends.left_ms(end, now_ms) > dtd_s * 1000:
            self._ends.start(end, now_ms, dtd_s)
        self._states[slot] |= _RETIRING
        for one in range(self._used):
            # Taken back, not replaced (or its successor has just gone too): senders stop now.
            if self._states[one] & _RETIRING and not self._has_successor(one):
                self._states[one] &= ~(_WAITING | _SENDING)
        self.step(now_ms)
        return True

    def silence(self):
        """Stop sending at once under every SA that is here; receiving goes on."""
        for slot in range(self._used):
            self._states[slot] &= ~(_WAITING | _SENDING)
        self.send_under(None)

    def announce(self, spis):
        """Remember SPIs promised for coming epochs, in place of those promised before."""
        self.announced.clear()
        for spi in spis:
            self.announced.add(spi)

    def live(self):
        """The SAs that are here, as a list."""
        return [sa for sa in self.sas if sa is not None]

    def newest(self):
        """The SA of the highest epoch, whether it is sent under or not; None of none."""
        newest = None
        for sa in self.live():
            if newest is None or sa.epoch > newest.epoch:
                newest = sa
        return newest

    def wipe(self):
        """Forget every key: the member has left."""
        for slot in range(len(self.sas)):
            if self.sas[slot] is not None:
                self._remove(slot)
        self.send_under(None)

    # ---- the table

    def _slot_of(self, spi):
        sa = self.find(spi, 0)
        return -1 if sa is None else self.sas.index(sa)

    def _has_successor(self, slot):
        """Whether another SA of the same destination stays, and is or will be sent under."""
        for other in range(self._used):
            state = self._states[other]
            if state & (_WAITING | _SENDING) and not state & _RETIRING:
                if self.sas[other].destination == self.sas[slot].destination:
                    return True
        return False

    def _keep_flow(self, newest):
        """Where SAs differ in their port only: the one of the port that we sent to so far.

        If there is none left, what was sent there moves to the port of a later epoch; to another
        port of the same epoch it doesn't: that one was for something else all along.
        """
        if newest is None or newest.port == self._port or newest.destination != self._destination:
            return newest
        same = self._elect(newest.destination, self._port)
        return newest if same is None and newest.epoch > self._epoch else same

    def _elect(self, destination, port=None):
        """The SA of the highest epoch that may be sent under, the first of several."""
        newest = None
        for slot in range(self._used):
            if self._states[slot] & _SENDING:
                sa = self.sas[slot]
                if port is not None and sa.port != port:
                    continue
                if destination is None or sa.destination == destination:
                    if newest is None or sa.epoch > newest.epoch:
                        newest = sa
        return newest

    def _remove(self, slot):
        sa = self.sas[slot]
        self.retired.add(sa.spi)
        self._path.leave(slot)
        self.sas[slot] = None
        self._states[slot] = 0
        while self._used and self.sas[self._used - 1] is None:
            self._used -= 1
        sa.wipe()


class _SPIRing:
    """The last few SPIs of a kind; the oldest makes room."""

    def __init__(self):
        self._spis = bytearray(4 * _REMEMBERED)
        self._next = 0

    def add(self, spi):
        for i in range(4):
            self._spis[4 * self._next + i] = spi[i]
        self._next = (self._next + 1) % _REMEMBERED

    def has(self, buf, off):
        """Whether the SPI at off is one of them."""
        return find_spi(self._spis, _REMEMBERED, buf, off) >= 0

    def clear(self):
        wipe(self._spis)
