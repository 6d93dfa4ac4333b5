"""On MicroPython: what the scripts beside this one measure with. First argument: count or time.

count: os.getenv() is a mark, see callgrind.py; each cost lies between two of them.
time: each call is repeated, and the mean of the fastest round is the cost.
"""

import gc
import json
import os
import sys
import time

_COUNTS = sys.argv[1] == "count"
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
        if gc.mem_free() < gc.mem_alloc():  # about as a board would
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
    """Gaps between turns of a task: what goes on from one here() to the next is a cost each."""

    def __init__(self, label):
        self.label = self._label = label  # of the gap that is going on
        self._began = None
        self.count = 0

    def begin(self):
        """The gap begins now."""
        if _COUNTS:
            os.getenv("")
            _labels.append(None)
        else:
            self._began = _clock()

    def here(self):
        """The gap is over, and the next begins."""
        if _COUNTS:
            os.getenv("")
        else:
            _values.append(_since(self._began))
        _labels.append(self.label)
        self.label = self._label
        self.count += 1
        self.begin()


def report(**facts):
    """To be called last: what was measured, on the last line of stdout."""
    print(json.dumps({"labels": _labels, "values": _values, "facts": facts}))


cost("", _nothing)
