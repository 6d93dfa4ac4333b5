"""Packets of the group whose sender is not proven yet: kept for the proof, or until time is over.

    keep()  a packet that ESP has opened: free -> WAITING, for a proof that comes later
            whoever judges proofs (.engine) makes it PROVABLE, or REFUSED for a reason
    next()  gives back the packets that can be judged, one by one, and those that never will be

Fixed memory. Whoever has the group's key can send in anybody's name, and so fill it: a sender is
left its share while others want room, and what is kept of more than fits is drawn by lot among all
that came (reservoir sampling: a slot's weight is how many it was drawn from), so that being early
or many wins nothing for sure. Of one number several candidates may wait: the first to be confirmed
moves the window, and the others are replays.
"""

from covey.drops import (
    DROP_CROWDED,
    DROP_REPLAY,
    DROP_UNPROVEN,
    NOTHING,
    WAITS,
)
from covey.path import STEP_IS_DUE, accept, admit
from covey.port import const, later_kernels, micropython, random_bytes, ticks_diff, words

FREE = 0
WAITING = 1
PROVABLE = 2
REFUSED = 3  # as the kernels have it: next() tells, and the slot is free
EXPIRED = 4  # its time is over: next() tells

PROOF_LEN = 32  # octets in which the engine keeps what it likes: a slot's last

_PAYLOAD = const(24)
_BEHIND = const(18)  # pad length, next header, ICV: the least of a datagram behind its payload
_HEAD = const(12)  # of which the first
_KEY = const(10)  # are SPI, number, Sender-ID
# Of what take() says
_NONE = const(-1)  # nothing; below, that it is time to look whose time is over
_SLOT = const(0x1FF)
_IS_PROVABLE = const(0x200)
_LEN_AT = const(10)  # from this bit on
_LATER_MS = const(0x10000000)
_TWINS = const(3)  # candidates for one number
_CHANCES = const(48)  # octets of randomness at a time
_MOST_WEIGHT = const(0x100000)

_, _is_same, _, _room, _ = later_kernels()
_keep, _take, _let_go = _room

# Facts, in words that the kernels share
_COUNT = const(0)  # that wait or are provable
_TOLD = const(1)  # that next() has something to say of
_SOONEST = const(2)  # of the ends, while there is one that counts
_MOST = const(3)
_SLOTS = const(4)
_TURN = const(5)
_LATEST_LEN = const(6)
_BY_SLOT = const(8)  # three words of each:
_END = const(0)  # ticks
_WEIGHT = const(1)
_LEN = const(2)  # octets of payload and trailer

# How a packet is to be kept, in words; the others are TESLA's
HOW = 6
_INDEX = const(2)
_TRAILER = const(3)
_MOST_MS = const(4)
_WANTS = const(5)


class WaitingRoom:
    """Of one member, whose datagrams have so many octets at most. slots: packets that wait.

    One slot more is for a packet that had to give way, until next() has told of it.
    engine: its step(room, now_ms) does a bounded slice of work, .is_working tells whether there
    is more; None: there is none.
    """

    def __init__(self, slots, datagram_max):
        self.engine = None
        self.most = slots
        self.states = bytearray(slots + 1)
        self._slots = slots + 1
        size = (datagram_max - _BEHIND + 3 & -4) + PROOF_LEN  # proofs begin with a word
        self.proof_at = size - PROOF_LEN
        # By slot: the packet as it lay in rx, from SPI to the end of the trailer; auth of its SA;
        # index of its sender; what it waits for
        self.packets = [bytearray(size) for _ in range(slots + 1)]
        self.auths = [None] * (slots + 1)
        self.senders = [0] * (slots + 1)
        self.wants = [0] * (slots + 1)
        self._reasons = [0] * (slots + 1)
        facts = self._facts = words(_BY_SLOT + 3 * (slots + 1))
        facts[_MOST], facts[_SLOTS] = slots, slots + 1
        for slot in range(slots + 1):
            self._weigh_as(slot, 1)
        heads = bytearray(_HEAD * (slots + 1))
        kept = self.packets, self.senders, self.wants, self.auths
        self.parts = (facts, self.states, heads) + kept  # as the kernels have them
        self._tools = self.parts, self.packets, self.proof_at
        self._how = words(HOW)  # the next one is to be kept
        self._chances = b""
        self._chance = 0

    @property
    def count(self):
        """Packets that wait or are provable."""
        return self._facts[_COUNT]

    @count.setter
    def count(self, count):
        self._facts[_COUNT] = count

    @property
    def payload_len(self):
        """Of the packet that was to be kept last."""
        return self._facts[_LATEST_LEN]

    @property
    def is_working(self):
        """Whether next() is to be called again at once."""
        return self.engine is not None and self.engine.is_working

    @micropython.native
    def keep(self, rx, payload_len, trailer, auth, sender, wants, now_ms, most_ms):
        """The packet in rx waits from now on, most_ms at the most: WAITS; DROP_REPLAY: it does
        already; DROP_CROWDED: it was not chosen. trailer: octets behind the payload. sender: the
        index of who is said to have sent it. wants: what it waits for, a small int.
        """
        n = payload_len + trailer
        how = self._how
        how[_INDEX], how[_TRAILER] = sender, trailer
        how[_MOST_MS], how[_WANTS] = most_ms, wants
        if _keep(self.parts, how, 0, 0, rx, n, auth, now_ms, -1) >= 0:
            return WAITS
        slot = self._free()
        weight = self._weigh(rx, n, slot, sender)
        if weight < 0:
            return weight
        _keep(self.parts, how, 0, 0, rx, n, auth, now_ms, slot)
        self._weigh_as(slot, weight)
        return WAITS

    def length_of(self, slot):
        """Octets of payload and trailer of the packet there."""
        return self._facts[_BY_SLOT + 3 * slot + _LEN]

    def waits(self, slot):
        """Whether a packet waits there for its proof."""
        return self.states[slot] == WAITING

    def provable(self, slot):
        """Its proof can be judged: next() will."""
        if self.states[slot] == WAITING:
            self.states[slot] = PROVABLE
            self._facts[_TOLD] += 1

    def refuse(self, slot, reason):
        """It will never be proven: next() tells the reason, a DROP_*."""
        state = self.states[slot]
        if state == WAITING or state == PROVABLE:
            self._facts[_TOLD] += state == WAITING
            self._facts[_COUNT] -= 1
            self.states[slot] = REFUSED
            self._reasons[slot] = reason

    @micropython.native
    def next(self, member, now_ms):
        """The payload's length of a packet that is proven now and lies in the member's rx; or the
        DROP_* of one that will never be, which is counted; NOTHING for the moment.
        """
        engine = self.engine
        if engine is not None and engine.is_working:
            engine.step(self, now_ms)
        parts, packets, proof_at = self._tools
        rx = member.rx
        found = _take(parts, rx, now_ms)
        if found < 0:
            if found == _NONE:
                return NOTHING
            self._expire(now_ms)
            found = _take(parts, rx, now_ms)
            if found < 0:
                return NOTHING
        slot = found & _SLOT
        n = found >> _LEN_AT
        if found & _IS_PROVABLE:
            place = member.place
            datagram = n + (_PAYLOAD + _BEHIND + 3) & -4
            at = admit(place, datagram, now_ms)
            if at >= 0:
                auth = member._sas[at].auth  # not .auths: the SA may have been told again
                n = auth.prove(member, n, packets[slot], proof_at)
                if n < 0:
                    member.drops.count(n)
                else:
                    accept(place, n)
            elif at == STEP_IS_DUE:
                member.keys.step(now_ms)
                return self.next(member, now_ms)
            else:
                n = member.refuse(at, datagram)
        else:
            n = self._refused(member, slot, now_ms)
        _let_go(parts, slot)
        return n

    def clear(self):
        """Of use afterwards: empty. Payloads and proofs are wiped."""
        for slot in range(self._slots):
            self.states[slot] = FREE
            self.auths[slot] = None
            self._weigh_as(slot, 1)
            packet = self.packets[slot]
            for i in range(len(packet)):
                packet[i] = 0
        self._facts[_COUNT] = self._facts[_TOLD] = 0
        self.engine = None

    def _refused(self, member, slot, now_ms):
        """Of a packet whose time is over, or that was refused before: the DROP_*, counted."""
        if self.states[slot] == REFUSED:
            return member.drops.count(self._reasons[slot])
        member.keys.keep_up(now_ms)
        datagram = _PAYLOAD + self.length_of(slot) + _BEHIND + 3 & -4
        at = admit(member.place, datagram, now_ms)
        return member.drops.count(DROP_UNPROVEN) if at >= 0 else member.refuse(at, datagram)

    def _expire(self, now_ms):
        """What has waited for long enough, and when to look again."""
        soonest = _LATER_MS
        for slot in range(self._slots):
            if self.states[slot] == WAITING:
                left = ticks_diff(self._facts[_BY_SLOT + 3 * slot + _END], now_ms)
                if left > 0:
                    soonest = min(soonest, left)
                else:
                    self.states[slot] = EXPIRED
                    self._facts[_TOLD] += 1
        self._facts[_SOONEST] = now_ms + soonest & 0x3FFFFFFF

    # ---- more came than fits

    def _free(self):
        """A slot that is free; -1: none is."""
        for slot in range(self._slots):
            if self.states[slot] == FREE:
                return slot
        return -1

    def _weight(self, slot):
        return self._facts[_BY_SLOT + 3 * slot + _WEIGHT]

    def _weigh_as(self, slot, weight):
        self._facts[_BY_SLOT + 3 * slot + _WEIGHT] = weight

    def _weigh(self, rx, n, free, sender):
        """Of a packet that meets candidates for its number, or no room: its weight once something
        has given way, or a DROP_*.
        """
        twins = own = 0
        for slot in range(self._slots):
            if self._is_of(slot, sender):
                own += 1
                packet = self.packets[slot]
                if _is_same(packet, rx, _KEY):
                    if self.length_of(slot) == n and _is_same(packet, rx, _PAYLOAD + n):
                        return DROP_REPLAY
                    twins += 1
        if twins < _TWINS and self.count < self.most and free >= 0:
            return 1
        if free < 0:
            return DROP_CROWDED  # nobody has asked next() for what gave way before
        if twins >= _TWINS:
            return self._draw(rx, sender, twins)
        senders = self._wanting()
        share = max(1, self.most // (len(senders) + (sender not in senders)))
        if own >= share:
            return self._draw(None, sender, own)
        most = 0
        for other in senders:
            if senders[other] > max(most, share):
                most, sender = senders[other], other
        if most == 0:
            return DROP_CROWDED
        self.refuse(self._those_of(None, sender)[self._random(most)], DROP_CROWDED)
        return 1

    def _draw(self, rx, sender, count):
        """A new one takes the place of one of these, by lot: its weight, or DROP_CROWDED."""
        came = 1
        slots = self._those_of(rx, sender)
        for slot in slots:
            came += self._weight(slot)
        slot = slots[self._random(count)]
        weight = min(self._weight(slot) + 1, _MOST_WEIGHT)
        if self._random(came) >= count:
            self._weigh_as(slot, weight)
            return DROP_CROWDED
        self.refuse(slot, DROP_CROWDED)
        return weight

    def _those_of(self, rx, sender):
        """The slots of a sender's packets that wait; rx: of those with the number of the packet
        there.
        """
        found = [slot for slot in range(self._slots) if self._is_of(slot, sender)]
        if rx is None:
            return found
        return [slot for slot in found if _is_same(self.packets[slot], rx, _KEY)]

    def _is_of(self, slot, sender):
        """Whether a packet of this sender is there, which can give way."""
        state = self.states[slot]
        return (state == WAITING or state == PROVABLE) and self.senders[slot] == sender

    def _wanting(self):
        """{index of a sender: its slots}"""
        found = {}
        for slot in range(self._slots):
            state = self.states[slot]
            if state == WAITING or state == PROVABLE:
                sender = self.senders[slot]
                found[sender] = found.get(sender, 0) + 1
        return found

    def _random(self, below):
        """A random number; 24 bits are enough for what is asked."""
        at = self._chance
        if at + 3 > len(self._chances):
            self._chances = random_bytes(_CHANCES)
            at = 0
        self._chance = at + 3
        drawn = self._chances
        return (drawn[at] << 16 | drawn[at + 1] << 8 | drawn[at + 2]) % below


def room_of(member):
    """The member's WaitingRoom, made when it is first asked for: MemoryError."""
    room = member.waiting
    if room is None:
        room = member.waiting = WaitingRoom(member.waiting_slots, len(member.rx))
    return room
