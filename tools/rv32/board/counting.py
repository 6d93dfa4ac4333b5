"""Instructions of calls, by the core's own counter; each row is a line of the console.

steps, Turns and report are as the bench's scripts need them, see counting.py there.
"""

import gc
from array import array

from instret import count, mark

_LABELS = 2  # of one job: itself, and its tidying

_at = array("I", (0, 0))


def cost(label, call, *args, prepare=None, wanted=None):
    """Print what call(*args) takes the second time: what is made once is no cost of a packet.

    prepare() goes before each call. wanted: what the call has to return, if it isn't None.
    """
    for _ in range(2):
        if prepare is not None:
            prepare()
        gc.collect()
        gc.disable()
        got = count(_at, call, *args)
        gc.enable()
        if wanted is not None and got != wanted:
            raise ValueError(f"{label} gives {got!r}")
    print("COST", _at[0], label)
    return got


def tell(label, value):
    print("COST", value, label)


def steps(label, job):
    turns = Turns(label)
    turns.begin()
    while True:
        try:
            next(job)
            turns.here()
        except StopIteration as end:
            turns.here()
            turns.tell()
            return end.value


class Turns:
    """Sums of what goes on between turns, and the most of it, by label; in arrays, so that what
    measures makes no garbage.
    """

    def __init__(self, label, most=None):
        self.label = self._label = label
        self._labels = [None] * _LABELS
        self._sums = array("I", [0] * _LABELS)
        self._mosts = array("I", [0] * _LABELS)

    def begin(self):
        mark(_at)

    def here(self):
        mark(_at)
        at = 0
        while self._labels[at] != self.label:
            if self._labels[at] is None:
                self._labels[at] = self.label
            else:
                at += 1
        self._sums[at] += _at[0]
        if _at[0] > self._mosts[at]:
            self._mosts[at] = _at[0]
        self.label = self._label
        mark(_at)

    def tell(self):
        for at, label in enumerate(self._labels):
            if label is not None:
                tell(label, self._sums[at])
                tell(f"longest step of {label}", self._mosts[at])


def report(**facts):
    for name in facts:
        tell(name, facts[name])
    print("END")
