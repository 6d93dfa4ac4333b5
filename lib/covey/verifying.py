"""Signatures of packets that wait (waiting.py), verified one at a time, in slices.

    looked at --> chosen --> verified --> all that say the same can be proven, or
                                      --> are refused

Whoever has the group's key can send badly signed packets in anybody's name, each of which costs a
verification. So senders take turns, and which packet of one's is verified is drawn by lot: a flood
in one's name delays no other, and in its own name it wins nothing for sure.
"""

from covey.drops import DROP_SOURCE, DROP_UNPROVEN
from covey.job import tidied
from covey.port import random_bytes
from covey.waiting import PROOF_LEN, WAITING

_SHORT = (MemoryError, OSError)


class Verifying:
    """A WaitingRoom's engine. A slot wants 0 until it is looked at, then 1, and its proof is the
    statement that is said to be signed.
    """

    def __init__(self):
        self._job = None  # the verification in work, of
        self._auth = None  # a packet under this SA, which said
        self._claim = None  # this
        self._last = -1  # index of the sender whose turn was last
        self._has_looked = False  # whether the last slice was one of looking at what came
        self._has_news = False  # whether something may have come that was not looked at
        self.is_working = False

    def came(self):
        """A packet waits from now on."""
        self._has_news = self.is_working = True

    def step(self, room, now_ms):
        """A slice: of looking at a packet that came, or of verifying one, by turns."""
        try:
            if self._has_news and not self._has_looked:
                self._has_looked = True
                self._has_news = self._look(room)
                return
            self._has_looked = False
            if self._job is None:
                self.is_working = self._begin(room) or self._has_news
            else:
                next(self._job)
        except StopIteration as end:
            self._end(room, end.value)
        except _SHORT:
            self._job = None  # the next turn is a new try

    def _look(self, room):
        """Note what one packet says. False: there is none that is new."""
        for slot in range(len(room.states)):
            if room.states[slot] == WAITING and room.wants[slot] == 0:
                auth = room.auths[slot]
                claim = _claim_of(room, slot)
                at = room.proof_at
                room.packets[slot][at : at + PROOF_LEN] = claim.statement
                room.wants[slot] = 1
                if auth.knows(claim):
                    room.provable(slot)
                return True
        return False

    def _begin(self, room):
        """Whether there is one to verify."""
        slot = self._chosen(room)
        if slot < 0:
            return False
        self._auth, self._claim = room.auths[slot], _claim_of(room, slot)
        self._last = room.senders[slot]
        self._job = tidied(self._auth.verify_job(self._claim))
        return True

    def _chosen(self, room):
        """The slot of a packet of the sender whose turn it is, by lot; -1: none waits."""
        mine, count, least = 0x10000, 0, 0x10000
        for slot in range(len(room.states)):
            if room.states[slot] == WAITING and room.wants[slot]:
                index = room.senders[slot]
                least = min(least, index)
                if index > self._last:
                    mine = min(mine, index)
        if mine == 0x10000:
            mine = least  # round again
        found = [slot for slot in range(len(room.states)) if _is_of(room, slot, mine)]
        count = len(found)
        if not count:
            return -1
        chance = random_bytes(2)
        return found[(chance[0] << 8 | chance[1]) % count]

    def _end(self, room, is_true):
        """Tell all that said what was verified."""
        auth, claim = self._auth, self._claim
        self._job = self._auth = self._claim = None
        for slot in range(len(room.states)):
            if room.auths[slot] is not auth or not _is_of(room, slot, claim.index):
                continue
            if room.packets[slot][room.proof_at :] != claim.statement:
                continue
            if is_true:
                room.provable(slot)
            else:
                other = _claim_of(room, slot)
                if other.r == claim.r and other.s == claim.s:
                    room.refuse(slot, DROP_SOURCE)


def let_go(room):
    """What waits there for proofs of another kind will never be proven."""
    for slot in range(len(room.states)):
        room.refuse(slot, DROP_UNPROVEN)


def _claim_of(room, slot):
    """What a waiting packet says."""
    return room.auths[slot].claim(room.packets[slot], room.length_of(slot), room.senders[slot])


def _is_of(room, slot, index):
    return room.states[slot] == WAITING and room.wants[slot] and room.senders[slot] == index
