"""Calls that may take nothing from the heap, shown in two ways; on CPython they are only made.

locked     an allocation is a MemoryError. What does without, if it must, is hidden: a bytecode
           function of more than eleven slots then has its frame on the stack
counted    all that is ever taken counts, also what is given back at once
"""

import sys

BOARD = sys.implementation.name == "micropython"

if BOARD:
    from micropython import heap_lock, heap_unlock, mem_total
else:

    def heap_lock():
        pass

    def heap_unlock():
        pass

    def mem_total():
        return 0


def _called(call, a, b, c, d):
    """call(a), or of as many as there are."""
    if b is None:
        return call(a)
    if c is None:
        return call(a, b)
    return call(a, b, c) if d is None else call(a, b, c, d)


taken = [0]  # octets, by all calls of counted()


def counted(call, a, b=None, c=None, d=None):
    before = mem_total()
    result = _called(call, a, b, c, d)
    taken[0] += mem_total() - before
    return result


def locked(call, a, b=None, c=None, d=None):
    heap_lock()
    try:
        return _called(call, a, b, c, d)
    finally:
        heap_unlock()
