"""On MicroPython: what the scripts beside this one measure with. First argument: count or time.

count: os.getenv() is a mark, see callgrind.py; each cost lies between two of them.
time: each call is repeated, and the mean of the fastest round is the cost.
"""

import gc
import json
import os
import sys
import time
from array import array

_COUNTS = sys.argv[1] == "count"
_TURNS = 4096  # that are noted at most
_ROUNDS, _REPEATS = 10, 200  # of a call, when timed

_IS_BOARD = hasattr(gc, "mem_free")  # else CPython
_labels = []  # of every mark, None where nothing is counted; timed: of every value
_values = []


def _nothing():
    return None


if _IS_BOARD:
    _clock = time.ticks_us

    def _since(began):
        return time.ticks_diff(time.ticks_us(), began) * 1000

else:
    _clock = time.perf_counter_ns

    def _since(began):
        return time.perf_counter_ns() - began


def cost(label, call, prepare=_nothing):
    """Note what call() takes; prepare() goes before each call and counts for nothing.

    The first call is not counted: what is made once, such as a cache, is no cost of a packet.
    """
    prepare()
    call()
    gc.collect()
    gc.disable()
    if _COUNTS:
        mark = os.getenv
        prepare()
        mark("")
        call()
        mark("")
        _labels.extend((None, label))
    else:
        least = 1 << 60
        for _ in range(_ROUNDS):
            total = 0  # of many: this clock counts microseconds
            for _ in range(_REPEATS):
                prepare()
                began = _clock()
                call()
                total += _since(began)
                if _IS_BOARD and gc.mem_free() < gc.mem_alloc():
                    gc.collect()
            least = min(least, total)
        _labels.append(label)
        _values.append(least / _REPEATS)
    gc.enable()


def steps(label, job):
    """Note what each step of a job takes, a cost each; returns its result."""
    gc.disable()
    result = []

    def one():
        try:
            next(job)
        except StopIteration as end:
            result.append(end.value)

    while not result:
        if _IS_BOARD and gc.mem_free() < gc.mem_alloc():  # about as a board would
            gc.collect()
        began = os.getenv("") if _COUNTS else _clock()
        one()
        if _COUNTS:
            os.getenv("")
            _labels.append(None)
        else:
            _values.append(_since(began))
        _labels.append(label)
    gc.enable()
    return result[0]


class Turns:
    """Gaps between turns of a task: what goes on from one here() to the next is a cost each.

    What is noted lies in arrays until tell(): a list that grows would need long pieces of heap.
    """

    def __init__(self, label, most=_TURNS):
        self.label = self._label = label  # of the gap that is going on
        self._names = []
        self._noted = bytearray(most)  # of each gap, which of the names
        self._times = None if _COUNTS else array("I", bytes(4 * most))  # us
        self._began = None
        self.count = 0

    def begin(self):
        """The gap begins now."""
        if _COUNTS:
            os.getenv("")
        else:
            self._began = _clock()

    def here(self):
        """The gap is over, and the next begins."""
        if _COUNTS:
            os.getenv("")
        else:
            self._times[self.count] = int(_since(self._began)) // 1000
        if self.label not in self._names:
            self._names.append(self.label)
        self._noted[self.count] = self._names.index(self.label)
        self.label = self._label
        self.count += 1
        self.begin()

    def tell(self):
        """Once, at the end: note them all."""
        for i in range(self.count):
            if _COUNTS:
                _labels.append(None)
            else:
                _values.append(self._times[i] * 1000)
            _labels.append(self._names[self._noted[i]])
        if _COUNTS:
            _labels.append(None)


def report(**facts):
    """To be called last: what was measured, on the last line of stdout."""
    json.dump({"labels": _labels, "values": _values, "facts": facts}, sys.stdout)
    print()


cost("", _nothing)
