"""What counting.py of the bench offers, with the core's own counter."""

import gc
from array import array

from instret import mark

_at = array("I", (0, 0))
_empty = 0


def _nothing():
    return None


def _count(call, prepare):
    prepare()
    call()
    gc.collect()
    gc.disable()
    prepare()
    mark(_at, 0)
    call()
    mark(_at, 1)
    gc.enable()
    return (_at[1] - _at[0]) & 0xFFFFFFFF


def cost(label, call, prepare=_nothing):
    print("COST", label, _count(call, prepare) - _empty)


def report(**facts):
    print("FACTS", facts)


_empty = _count(_nothing, _nothing)
