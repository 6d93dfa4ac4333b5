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
from covey.port import const, copiers, micropython, random_bytes, ticks_diff

FREE = 0
WAITING = 1
PROVABLE = 2
REFUSED = 3  # next() tells, and the slot is free

PROOF_LEN = 32  # octets in which the engine keeps what it likes: a slot's last

_PAYLOAD = const(24)
_BEHIND = const(18)  # pad length, next header, ICV: the least of a datagram behind its payload
_HEAD = const(10)  # SPI, number, Sender-ID
_TWINS = const(3)  # candidates for one number
_CHANCES = const(48)  # octets of randomness at a time
_MOST_WEIGHT = const(0x100000)

_copy, _is_same = copiers()


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
        size = datagram_max - _BEHIND + PROOF_LEN
        self.proof_at = size - PROOF_LEN
        # By slot: the packet as it lay in rx, from SPI to the end of the trailer; octets of
        # payload and trailer; auth of its SA; index of its sender; what it waits for
        self.packets = [bytearray(size) for _ in range(slots + 1)]
        self.lengths = [0] * (slots + 1)
        self.auths = [None] * (slots + 1)
        self.senders = [0] * (slots + 1)
        self.wants = [0] * (slots + 1)
        self._ends = [0] * (slots + 1)  # ticks
        self._weights = [0] * (slots + 1)
        self._reasons = [0] * (slots + 1)
        self.payload_len = 0  # of the packet that was to be kept last
        self.count = 0  # that wait or are provable
        self._told = 0  # that next() has something to say of
        self._soonest = 0  # of ._ends, while .count
        self._turn = 0
        self._chances = b""
        self._chance = 0

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
        self.payload_len = payload_len
        n = payload_len + trailer
        length = _PAYLOAD + n
        free = -1
        twins = own = 0
        states, packets, senders = self.states, self.packets, self.senders
        number = rx[7]
        for slot in range(len(states)):
            state = states[slot]
            if state == FREE:
                free = slot
            elif state != REFUSED and senders[slot] == sender:
                own += 1
                packet = packets[slot]
                if packet[7] == number and _is_same(packet, rx, _HEAD):
                    if self.lengths[slot] == n and _is_same(packet, rx, length):
                        return DROP_REPLAY
                    twins += 1
        weight = 1
        if twins >= _TWINS or self.count >= self.most:
            weight = self._make_room(rx, free, sender, own, twins)
            if weight == 0:
                return DROP_CROWDED
        _copy(packets[free], 0, rx, 0, length)
        self.lengths[free] = n
        self.auths[free] = auth
        senders[free] = sender
        self.wants[free] = wants
        self._weights[free] = weight
        end = self._ends[free] = now_ms + most_ms & 0x3FFFFFFF
        if self.count == 0 or ticks_diff(end, self._soonest) < 0:
            self._soonest = end
        self.count += 1
        states[free] = WAITING
        return WAITS

    def waits(self, slot):
        """Whether a packet waits there for its proof."""
        return self.states[slot] == WAITING

    def provable(self, slot):
        """Its proof can be judged: next() will."""
        if self.states[slot] == WAITING:
            self.states[slot] = PROVABLE
            self._told += 1

    def refuse(self, slot, reason):
        """It will never be proven: next() tells the reason, a DROP_*."""
        state = self.states[slot]
        if state == WAITING or state == PROVABLE:
            self._told += state == WAITING
            self.count -= 1
            self.states[slot] = REFUSED
            self._reasons[slot] = reason

    @micropython.native
    def next(self, member, now_ms):
        """The payload's length of a packet that is proven now and lies in the member's rx; or the
        DROP_* of one that will never be, which is counted; NOTHING for the moment.
        """
        engine = self.engine
        if engine is not None:
            engine.step(self, now_ms)
        if self._told == 0:
            if self.count == 0 or ticks_diff(now_ms, self._soonest) < 0:
                return NOTHING
        states = self.states
        soonest = 0x1FFFFFFF
        slot = self._turn
        for _ in range(len(states)):
            slot += 1
            if slot >= len(states):
                slot = 0
            state = states[slot]
            if state == FREE:
                continue
            if state == WAITING:
                left = ticks_diff(self._ends[slot], now_ms)
                if left > 0:
                    soonest = min(soonest, left)
                    continue
            self._turn = slot
            result = self._judge(member, slot, state, now_ms)
            self._free(slot)
            return result
        self._soonest = now_ms + soonest & 0x3FFFFFFF
        return NOTHING

    def clear(self):
        """Of use afterwards: empty. Payloads and proofs are wiped."""
        for slot in range(len(self.states)):
            self._free(slot)
            packet = self.packets[slot]
            for i in range(len(packet)):
                packet[i] = 0
        self.engine = None

    @micropython.native
    def _judge(self, member, slot, state, now_ms):
        rx, packet, n = member.rx, self.packets[slot], self.lengths[slot]
        _copy(rx, 0, packet, 0, _PAYLOAD + n)
        if state == REFUSED:
            return member.drops.count(self._reasons[slot])
        datagram = _PAYLOAD + n + _BEHIND + 3 & -4
        at = admit(member.place, datagram, now_ms)
        if at == STEP_IS_DUE:
            member.keys.step(now_ms)
            at = admit(member.place, datagram, now_ms)
        if at < 0:
            return member.refuse(at, datagram)
        if state == WAITING:
            return member.drops.count(DROP_UNPROVEN)
        auth = member.keys.sas[at].auth  # not .auths: the SA may have been told again
        n = auth.prove(member, n, packet, self.proof_at)
        if n < 0:
            return member.drops.count(n)
        accept(member.place, n)
        return n

    def _free(self, slot):
        state = self.states[slot]
        if state == FREE:
            return
        if state != REFUSED:
            self.count -= 1
        if state != WAITING:
            self._told -= 1
        self.states[slot] = FREE
        self.auths[slot] = None

    # ---- more came than fits

    def _make_room(self, rx, free, sender, own, twins):
        """The weight of the packet that comes in place of another one; 0: it is not let in."""
        if free < 0:
            return 0  # nobody has asked next() for what gave way before
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
            return 0
        self.refuse(self._nth(None, sender, self._random(most)), DROP_CROWDED)
        return 1

    def _draw(self, rx, sender, count):
        """Whether a new one takes the place of one of these, by lot: its weight, or 0."""
        came = 1
        for nth in range(count):
            came += self._weights[self._nth(rx, sender, nth)]
        slot = self._nth(rx, sender, self._random(count))
        weight = min(self._weights[slot] + 1, _MOST_WEIGHT)
        if self._random(came) >= count:
            self._weights[slot] = weight
            return 0
        self.refuse(slot, DROP_CROWDED)
        return weight

    def _nth(self, rx, sender, nth):
        """The slot of a sender's packet, by its place among those that wait; rx: among those of
        the number of the packet there.
        """
        for slot in range(len(self.states)):
            state = self.states[slot]
            if state == FREE or state == REFUSED or self.senders[slot] != sender:
                continue
            if rx is None or _is_same(self.packets[slot], rx, _HEAD):
                if nth == 0:
                    return slot
                nth -= 1
        return -1

    def _wanting(self):
        """{index of a sender: its slots}"""
        found = {}
        for slot in range(len(self.states)):
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
