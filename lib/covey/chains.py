"""The chains of a group's senders, as a receiver knows them: keys that were disclosed, and proven.

Of each chain the latest proven key is known. A key of a later interval is proven by stepping back
from it to that one; on the same way the keys of all intervals between are found, so a disclosure
that was lost is healed by any later one. Anybody in the group can send what is no key: so the work
is bounded. Up to _AT_ONCE steps are taken at once. What lies further away waits, one of a chain,
drawn by lot among all that came, and is looked at in slices, one after the other; and whoever
brought us here may ask the key server for a nearer key (.is_behind).

A key that is proven makes packets provable that wait for it (waiting.py), whose engine this is.
"""

from covey.chainhash import Step
from covey.port import const, micropython, random_bytes, words
from covey.timing import KEY_LEN

_AT_ONCE = const(32)  # steps in one call
_KEPT = const(3)  # chains of a sender: of the segment before, of this one, and the next
_KEY = const(12)  # of a Step's octets, which end with the key


class Chain:
    """A sender's, of the segment that begins with interval `first`. .key: that of interval .at,
    the latest that is known.
    """

    def __init__(self, first, last, salt, at, key):
        self.first = first  # interval, and
        self.last = last  # the last one; -1: it is of no use any more
        self.salt = salt
        self.at = at
        self.key = bytearray(key)
        self.claim_at = 0  # an interval, whose key is said to be
        self.claim = None  # this one, if there is any
        self.claims = 0  # among so many it was drawn
        self.facts = words(3)  # first, last and at, as the kernel has them; last: 0
        self.facts[0], self.facts[1], self.facts[2] = first, last, at

    def claims_to(self, at, buf, off):
        """A key that is too far away to be looked at now."""
        self.claims += 1
        if self.claims > 1 and random_bytes(1)[0] * self.claims >= 256:
            return
        self.claim_at = at
        self.claim = bytes(memoryview(buf)[off : off + KEY_LEN])


class Chains:
    """timing: timing.Timing. All calls but tell() are bounded in work and memory."""

    def __init__(self, timing):
        self.is_working = False  # whether step() has more to do
        self.is_behind = False  # a key that was far away was none: a nearer one would help
        self._bits = timing.bits
        self.names = {}  # index → identity, of all senders that there are
        self._of = {}  # index → its Chains, the latest segment first
        self._trial = Step()
        self._handing = Step()
        self._walk = None  # Step that is on its way back, and
        self._walked = None  # the Chain, and
        self._from = 0  # the interval that it set out from, and
        self._claim = None  # the key there, and
        self._index = 0  # of the sender

    @micropython.native
    def of(self, index, interval):
        """The Chain of a sender's interval; None: unknown."""
        chains = self._of.get(index)
        if chains is not None:
            first = interval >> self._bits << self._bits
            for chain in chains:
                if chain.first == first:
                    return chain
        return None

    def tell(self, rows, names, room=None):
        """What the key server says: rows of parse_chains(). names: index → identity, of all
        senders that there are: others are forgotten. May allocate.
        """
        for index in list(self._of):
            if names.get(index) != self.names.get(index):
                self._forget(index)
        self.names = names
        for index, first, salt, at, key in rows:
            if index in names:
                self._tell(index, first, salt, at, key, room)

    def lacks(self, interval, far):
        """Whether a chain is missing that is needed now, or soon: in the last quarter of a segment
        those of the next; or the latest key of one is further away than that.
        """
        soon = interval + (1 << self._bits >> 2)
        for index in self.names:
            chain = self.of(index, interval)
            if chain is None or interval - chain.at > far or self.of(index, soon) is None:
                return True
        return False

    def forget_before(self, interval):
        """Of segments that ended before this one no packet comes any more."""
        for index in self._of:
            chains = self._of[index]
            while chains and chains[-1].first + (1 << self._bits) <= interval:
                self._stop(chains.pop())

    @micropython.native
    def disclose(self, index, at, buf, off, room):
        """A packet says that this is the key of a sender's interval, which is over for long
        enough: whoever asks has seen to that. room: WaitingRoom, or None.
        """
        chain = self.of(index, at)
        if chain is None or at <= chain.at:
            return
        if at - chain.at > _AT_ONCE:
            if not (self._walked is chain and self._from == at) and _is_any(buf, off):
                chain.claims_to(at, buf, off)
                self.is_working = True
            return
        step = self._trial
        step.stand(chain.salt, at, buf, off)
        while step.at > chain.at:
            step.back()
        if _is_there(step, chain):
            self._learn(index, chain, at, buf, off, room)

    def step(self, room, now_ms):
        """A slice of a walk."""
        if not self.is_working:
            return
        if self._walk is None and not self._set_out():
            self.is_working = False
            return
        step, chain = self._walk, self._walked
        steps = _AT_ONCE
        while steps and step.at > chain.at:
            step.back()
            steps -= 1
        if step.at > chain.at:
            return
        self._walk = self._walked = None
        if _is_there(step, chain):
            self._learn(self._index, chain, self._from, self._claim, 0, room)
        else:
            self.is_behind = True

    def _set_out(self):
        """With the next claim, by turns. False: there is none."""
        turns = sorted(self._of)
        turns = [i for i in turns if i > self._index] + [i for i in turns if i <= self._index]
        for index in turns:
            for chain in self._of[index]:
                claim, chain.claim, chain.claims = chain.claim, None, 0
                if claim is not None and chain.claim_at > chain.at:
                    self._index, self._from, self._claim = index, chain.claim_at, claim
                    self._walked, self._walk = chain, Step()
                    self._walk.stand(chain.salt, self._from, claim, 0)
                    return True
        return False

    @micropython.native
    def _learn(self, index, chain, at, buf, off, room):
        """This key is proven, or the key server says it: what waits for it and for those before is
        provable.
        """
        step = self._handing
        step.stand(chain.salt, at, buf, off)
        known = chain.at
        chain.at = chain.facts[2] = at
        step.put(chain.key, 0)
        if room is None or not room.count:
            return
        least = self._least_wanted(index, known, at, room)
        while least <= at:
            for slot in range(len(room.states)):
                if room.senders[slot] == index and room.wants[slot] == step.at:
                    step.put(room.packets[slot], room.proof_at)
                    room.provable(slot)
            if step.at == least:
                return
            step.back()

    @micropython.native
    def _least_wanted(self, index, known, at, room):
        """The earliest interval that a packet of this sender waits for, behind `known`."""
        least = at + 1
        for slot in range(len(room.states)):
            if room.senders[slot] == index and known < room.wants[slot] < least:
                if room.waits(slot):
                    least = room.wants[slot]
        return least

    def _tell(self, index, first, salt, at, key, room):
        chain = self.of(index, first)
        if chain is not None and chain.salt != salt:  # another one has this index now, or its
            self._forget(index)  # sender another seat: and so other chains of all segments
            chain = None
        if chain is None:
            chains = self._of.get(index, [])
            chains.append(Chain(first, first + (1 << self._bits) - 1, salt, at, key))
            chains.sort(key=_newest_first)
            for old in chains[_KEPT:]:
                self._stop(old)
            self._of[index] = chains[:_KEPT]
        elif at > chain.at:
            if self._walked is chain:
                self._walk = self._walked = None
            self._learn(index, chain, at, key, 0, room)

    def _forget(self, index):
        for chain in self._of.pop(index):
            self._stop(chain)

    def _stop(self, chain):
        chain.last = -1
        chain.facts[1] = 0
        if self._walked is chain:
            self._walk = self._walked = None


def _is_there(step, chain):
    """Whether it has come back to the key that is known. No secret: in any time."""
    key, octets = chain.key, step.octets
    for i in range(KEY_LEN):
        if key[i] != octets[_KEY + i]:
            return False
    return step.at == chain.at


def _is_any(buf, off):
    """Zeros stand for no key."""
    for i in range(off, off + KEY_LEN):
        if buf[i]:
            return True
    return False


def _newest_first(chain):
    return -chain.first
