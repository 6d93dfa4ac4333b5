"""The key store: a fixed table of Data-Security SAs, and when each comes and goes.

install ---> receiving ---> retire (DTD) ---> gone: key wiped, SPI remembered
             activate (ATD) ---> also sending, until a newer epoch does
A lifetime that ends is a retire at once. A full store refuses; nothing alive is evicted.
"""

from covey.deadline import Timer
from covey.drops import DROP_CAPACITY
from covey.octets import wipe
from covey.port import const, find_spi, ticks_add, ticks_diff

_REMEMBERED = const(8)  # retired SPIs, and announced ones, that we still know by name
_DAY_MS = const(86400000)

_DUE = const(0)  # as path.py has it


class KeyStore:
    """`slots` SAs at most. drops counts what a full store refused. path: a DataPath of so many
    slots, where packets find them.

    Of an sa.DataSA that is here, this file sets: end, a Timer, when it goes: at the end of its
    lifetime, or of its DTD if that is sooner; is_retiring, when it has been deleted, and is good
    for receiving until then; atd, a Timer, when it will be sent under; may_send, when it may be.
    """

    def __init__(self, slots, drops, path):
        self.sas = [None] * slots  # by slot, as admit() names it
        self._path = path
        self._words = path.words
        self._drops = drops
        # SPIs side by side, the oldest first
        self.retired = bytearray(4 * _REMEMBERED)  # of SAs that have gone
        self.announced = bytearray(4 * _REMEMBERED)  # promised for coming epochs (GSA_NEXT_SPI)
        self.lapsed = False  # an SA's life has ended by our clock, and its windows with it
        self.sending = None  # the SA that is sent under where no destination is named
        self._latest = None  # that was sent under
        self.is_held = False  # no end and no ATD is noticed, and one step does for all changes

    # ---- nothing of this allocates

    def find(self, buf, off):
        """The SA whose SPI stands at off, or None."""
        slot = len(self.sas)
        while slot:
            slot -= 1
            sa = self.sas[slot]
            if sa is not None and not find_spi(sa.spi, 1, buf, off):
                return sa
        return None

    def outbound(self, destination, port=None):
        """The SA to send under to one of several destinations, 4 octets, and to this port if one
        is named: that of the highest epoch whose ATD is over, the first of several; or None.
        """
        newest = None
        for slot in range(len(self.sas)):
            sa = self.sas[slot]
            if sa is None or not sa.may_send or port is not None and sa.port != port:
                continue
            if destination is None or sa.destination == destination:
                if newest is None or sa.epoch > newest.epoch:
                    newest = sa
        return newest

    def send_under(self, sa):
        """The SA that the next packet is sent under → the one before."""
        before = self.sending
        self.sending = self._path.sending = sa
        is_here = sa is not None and sa in self.sas
        self._path.choose(self.sas.index(sa) if is_here else -1)
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
        if not self.is_held:
            slot = 0
            while slot < len(self.sas):
                next_ms = min(next_ms, self._step_sa(self.sas[slot], now_ms))
                slot += 1
            sa = self._keep_flow(self.outbound(None))
            self.send_under(sa)
            self._latest = sa or self._latest
        self._words[_DUE] = ticks_add(now_ms, next_ms)
        return next_ms

    def _step_sa(self, sa, now_ms):
        if sa is None:
            return _DAY_MS
        if sa.end.is_due(now_ms):
            if not sa.is_retiring:
                self.lapsed = True
            self._remove(sa)
            return _DAY_MS
        if sa.atd.is_due(now_ms):
            sa.atd.stop()
            sa.may_send = True
        return min(sa.end.left_ms(now_ms), sa.atd.left_ms(now_ms))

    def silence(self):
        """Stop sending at once under every SA that is here; receiving goes on."""
        for sa in self.sas:
            _stop(sa)
        self.send_under(None)

    # ---- for the control half: may allocate

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
        sa.end, sa.atd, sa.may_send = Timer(), Timer(), False
        slot = self.sas.index(None)
        self._path.enter(slot, sa.spi, sa.words)
        self.sas[slot] = sa
        self.renew(sa, now_ms, sa.lifetime_s)
        return True

    def renew(self, sa, now_ms, lifetime_s):
        """This SA is current and lives so long from now on; None: until retired."""
        sa.is_retiring = False
        sa.end.stop()
        if lifetime_s is not None:
            sa.end.start(now_ms, lifetime_s)
        self.step(now_ms)

    def activate(self, spi, now_ms, atd_s):
        """Send under the SA of this SPI when atd_s is over; it has become_sender behind it. The
        earlier end wins: a registration tells of what is left in whole seconds, rounded up."""
        sa = self.find(spi, 0)
        if sa is None:
            return False
        assert sa.sender_id >= 0
        if not sa.may_send:
            sa.atd.hasten(now_ms, atd_s)
        self.step(now_ms)
        return True

    def retire(self, spi, now_ms, dtd_s):
        """Receive under this SPI for dtd_s longer, then wipe its SA. The earlier end wins."""
        sa = self.find(spi, 0)
        if sa is None:
            return False
        sa.end.hasten(now_ms, dtd_s)
        sa.is_retiring = True
        for one in self.sas:
            # Taken back, not replaced (or its successor has just gone too): senders stop now.
            if one is not None and one.is_retiring and not self._has_successor(one):
                _stop(one)
        self.step(now_ms)
        return True

    def announce(self, spis):
        """Remember SPIs promised for coming epochs, in place of those promised before."""
        wipe(self.announced)
        for spi in spis:
            remember(self.announced, spi)

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
        for sa in self.live():
            self._remove(sa)
        self.send_under(None)

    # ---- the table

    def _has_successor(self, sa):
        """Whether another SA of the same destination stays, and is or will be sent under."""
        for other in self.sas:
            if other is not None and not other.is_retiring:
                if other.may_send or other.atd.is_running:
                    if other.destination == sa.destination:
                        return True
        return False

    def _keep_flow(self, newest):
        """Where SAs differ in their port only: the one of the port that we sent to so far.

        If there is none left, what was sent there moves to the port of a later epoch; to another
        port of the same epoch it doesn't: that one was for something else all along.
        """
        latest = self._latest
        if newest is None or latest is None or newest.destination != latest.destination:
            return newest
        same = self.outbound(newest.destination, latest.port)
        return newest if same is None and newest.epoch > latest.epoch else same

    def _remove(self, sa):
        remember(self.retired, sa.spi)
        slot = self.sas.index(sa)
        self._path.leave(slot)
        self.sas[slot] = None
        sa.wipe()


def is_among(spis, buf, off):
    """Whether the SPI at off is one of those that are remembered there."""
    return find_spi(spis, _REMEMBERED, buf, off) >= 0


def remember(spis, spi):
    """One more; the oldest makes room. Takes no heap."""
    for i in range(4 * _REMEMBERED - 4):
        spis[i] = spis[i + 4]
    for i in range(4):
        spis[i - 4] = spi[i]


def _stop(sa):
    """Nothing more is sent under this SA, which may be None."""
    if sa is not None:
        sa.may_send = False
        sa.atd.stop()
