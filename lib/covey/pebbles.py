"""The keys of one's own chain, one after the other, though a chain is made from its end.

Jakobsson's traversal (ISIT 2002): of a chain of 2^k keys, k pebbles lie where keys are known, at
2, 4, 8 ... from its beginning, and as the present moves on each used one jumps ahead and comes
back two steps at a time, so that it is in place when it is needed. At most k hashes for a key,
half as many on average. What a board is given are the pebbles: it could never make the chain.
"""

from covey.chainhash import Step
from covey.octets import wipe
from covey.port import micropython


class Pebbles:
    """at: the interval before the first; keys: those of at + 1, at + 2, at + 4, ... at + 2^k,
    bytearrays, which are ours from now on; last: the last interval that is wanted.
    """

    def __init__(self, at, salt, keys, last):
        self.salt = salt
        self.at = at  # whose key was given last
        self.last = last
        self._step = Step()
        # A pebble: where it is, where it goes, its level; and its key
        self._places = []
        self._keys = []
        for level in range(1, len(keys)):
            self._places.append([at + (1 << level), at + (1 << level), level])
            self._keys.append(keys[level])
        wipe(keys[0])  # a step back from the next
        self._end = at + (1 << (len(keys) - 1))

    @property
    def is_over(self):
        return self.at >= self.last

    @micropython.native
    def next(self, out, off):
        """Put the key of the next interval there; a round's work. Not once it is over."""
        self.at += 1
        for n in range(len(self._places)):
            place = self._places[n]
            if place[0] != place[1]:
                self._come_back(place, self._keys[n])
        place, key = self._places[0], self._keys[0]
        self._step.stand(self.salt, place[0], key, 0)
        if self.at < place[0]:
            self._step.back()
            self._step.put(out, off)
        else:
            self._step.put(out, off)
            self._jump(place, key)

    def wipe(self):
        for key in self._keys:
            wipe(key)
        wipe(self._step.octets)

    @micropython.native
    def _come_back(self, place, key):
        step = self._step
        step.stand(self.salt, place[0], key, 0)
        step.back()
        step.back()
        step.put(key, 0)
        place[0] -= 2

    def _jump(self, place, key):
        """The pebble that was used goes to where the next one of its level is needed: it starts
        from the pebble that lies at its start, whose key it copies.
        """
        level = place[2]
        start = place[0] + (3 << level)
        goes_to = place[1] + (2 << level)
        del self._places[0]
        del self._keys[0]
        if goes_to > self._end:
            wipe(key)
            return
        place[0], place[1] = start, goes_to
        for n in range(len(self._places)):
            if self._places[n][0] == start:
                self._step.stand(self.salt, start, self._keys[n], 0)
                self._step.put(key, 0)
                break
        at = 0
        while at < len(self._places) and self._places[at][1] < goes_to:
            at += 1
        self._places.insert(at, place)
        self._keys.insert(at, key)
