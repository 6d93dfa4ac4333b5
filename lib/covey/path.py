"""The data path: what a packet goes through, and the flat state that its kernels work on.

    admit(place, n, now_ms)     the datagram of n octets in rx may be opened: the slot of its SA
    (the SA's context opens it)
    trim(place, text_len)       it is what a sender would make: the length of its payload
    (source authentication has its place here: it may shorten the payload, and confirms it, by
    heard(words), the Sender-ID of the packet in work)
    accept(place, payload_len)  remembers it: from now on its number is used, and it is delivered

    frame(place, n, now_ms)     the n octets of payload in tx, all but the ICV: the text's length
    (the context of the SA that was chosen seals it)

Each says a negative DROP_* instead where it refuses: admit() in the order LENGTH (an IKE message
too: whoever asks sorts that out), UNKNOWN_SPI, OWN, SENDER_TABLE_FULL, STALE_SENDER, REPLAY;
trim() DUMMY, PADDING, NEXT_HEADER, INNER_LENGTH, SELECTOR; frame() OVERSIZE, NO_SA, EXHAUSTED.
STEP_IS_DUE: the key store has something to do first; then the same again. Only accept() writes
what outlives the packet, after the tag, so that forged packets leave no trace.

The kernels are the port's: how much is said in one call decides what a packet costs on a board.
All they look at lies in words made at start; `words`, `link` and `place` are the port's too.

A path's words, a link taking two:
     0 ticks at which the key store has something to do
     1 link to rx, its length            4 link to tx, the longest payload
     7 slots that are looked at          8 which of these words are the chosen slot's; 0: none is
    10 links of the packet in work: its SA, its window; newest row there, its row (and 9: which bit
       of it), its sender; 23 width of its Sender-ID, of its incarnation
    17 the last packet delivered: width of its Sender-ID, the Sender-ID, the payload's length
    20 packets delivered                21 whether our numbers run short
    22 packets sealed
    25 for each slot the SPI, and a link to the words of its SA
An SA's (sa.py): SPI, Sender-ID where it stands in the IV, ports as sent, next number, the ports
    that the selectors allow (source lo, hi, destination lo, hi), our Sender-ID and whether we
    have one (2: and nobody else), link to the table of senders.
A table's (replay.py): width of a Sender-ID, of its incarnation, slots; for each slot the index,
    the incarnation, the newest row, the ring of rows in four words.
"""

from covey.port import (
    STEP_IS_DUE,
    accept,
    admit,
    const,
    frame,
    heard,
    link,
    place,
    trim,
    unlink,
    word_of,
    words,
)

__all__ = ("DataPath", "STEP_IS_DUE", "accept", "admit", "frame", "heard", "trim")

_DUE = const(0)  # of the key store
_RX = const(1)
_RX_LEN = const(3)
_TX = const(4)
_PAYLOAD_MAX = const(6)
_USED = const(7)
_OUT = const(8)
_NAMED = const(17)
_FROM = const(18)
_PAYLOAD_LEN = const(19)
_OPENED = const(20)
_WANTS = const(21)
_SENT = const(22)
_RECORDS = const(25)
_RECORD = const(3)
_SPI = const(0)


class DataPath:
    """The state of one member's data path, with room for so many SAs.

    rx, tx: bytearrays, which must stay what and as long as they are. Links keep nothing alive:
    whoever has a DataPath holds these, and the words of SAs (sa.py) that are entered or chosen.
    """

    is_shut = False  # see shut()
    sending = None  # the SA to send under: the key store's note

    def __init__(self, slots, rx, tx, payload_max):
        self._slots = slots
        self.words = w = words(_RECORDS + _RECORD * slots)
        self.place = place(w)
        link(w, _RX, rx)
        w[_RX_LEN] = len(rx)
        link(w, _TX, tx)
        w[_PAYLOAD_MAX] = payload_max
        self.shut(False)

    # ---- the key store's

    def enter(self, slot, spi, sa_words):
        """Packets of this SPI are known from now on, and sent under it if it is chosen."""
        at = _RECORDS + _RECORD * slot
        number = word_of(spi)  # it may take heap: before anything is changed
        link(self.words, at + 1, sa_words)
        self.words[at] = sa_words[_SPI] = number

    def leave(self, slot):
        """They are not any more."""
        at = _RECORDS + _RECORD * slot
        self.words[at] = 0  # no packet's SPI
        unlink(self.words, at + 1)
        if self.words[_OUT] == at:
            self.words[_OUT] = 0

    def shut(self, is_shut):
        """While it is, no packet that comes finds its SA; sending goes on."""
        self.is_shut = is_shut
        self.words[_USED] = 0 if is_shut else self._slots

    def choose(self, slot):
        """The slot whose SA is sent under; below 0: none is. Takes no heap."""
        self.words[_OUT] = _RECORDS + _RECORD * slot if slot >= 0 else 0

    # ---- the member's

    @property
    def sender(self):
        """Sender-ID of the last packet delivered; None: its SA names none."""
        return self.words[_FROM] if self.words[_NAMED] else None

    @property
    def payload_len(self):
        """Of the last packet delivered."""
        return self.words[_PAYLOAD_LEN]

    @property
    def opened(self):
        """Packets delivered; this count and `sent` wrap at 2^30."""
        return self.words[_OPENED]

    @property
    def sent(self):
        """Packets sealed."""
        return self.words[_SENT]

    @property
    def wants_rekey(self):
        """Our numbers under the present SA run short. A note for the control half, which clears
        it.
        """
        return bool(self.words[_WANTS])

    @wants_rekey.setter
    def wants_rekey(self, wants):
        self.words[_WANTS] = int(wants)
