"""Long arithmetic in a heap that is nearly full: nothing is collected inside its steps."""

import gc
import sys

import covey.job
from covey import p256, p256_sign, port, x25519
from covey.job import finish, tidied
from datapath import BOARD

# Elsewhere integers take more octets, or there is no such heap.
_IS_AS_ON_A_BOARD = BOARD and not sys.maxsize >> 31
_ROOMS = 28672, 36864, 65536  # octets that a member may have left
_HOLE = 48  # octets each, a third of the room
_KEY = bytes(range(1, 33))
_DIGEST = bytes(range(32))


def _random(n):
    return bytes([i * 7 + 1 & 255 for i in range(n)])


def _full_heap(octets):
    """What is to be held so that so many are free: a piece, and holes among what stays."""
    gc.collect()
    room = bytearray(octets * 2 // 3)
    holes = [None] * (octets // 3 // _HOLE)
    between = [None] * len(holes)
    for i in range(len(holes)):
        holes[i], between[i] = bytearray(_HOLE - 16), bytearray(64)
    kept = [None] * 4096
    at = 0
    for size in (8192, 512, 64):
        try:
            while at < len(kept):
                kept[at] = bytearray(size - 16)
                at += 1
        except MemoryError:
            pass
    del holes, room
    gc.collect()
    return kept, between


class Watch:
    """Runs jobs; counts steps in which the heap was collected, though they don't tidy."""

    def __init__(self):
        self.collections = self.steps = 0
        self._tidies = False

    def tidy(self, filling):
        """In place of port.tidy."""
        tidying = port.tidy(filling)
        while True:
            self._tidies = True
            try:
                next(tidying)
            except StopIteration as end:
                return end.value
            yield

    def run(self, job):
        while True:
            self._tidies = False
            before = gc.mem_alloc()
            try:
                next(job)
            except StopIteration as end:
                return end.value
            if not self._tidies:
                self.steps += 1
                self.collections += gc.mem_alloc() < before - 1024


def _watched(make):
    """The result of the job that make() returns, in full heaps; nothing is collected inside its
    steps.
    """
    if not _IS_AS_ON_A_BOARD:
        return finish(make())
    return [_in_a_full_heap(make, octets) for octets in _ROOMS][-1]


def _in_a_full_heap(make, octets):
    watch = Watch()
    kept = [_full_heap(octets)]
    covey.job.tidy = watch.tidy
    try:
        result = watch.run(make())
    finally:
        covey.job.tidy = port.tidy
        kept.clear()
    assert watch.steps > 400, watch.steps
    assert watch.collections == 0, (octets, watch.collections)
    return result


def test_x25519():
    assert _watched(lambda: x25519.multiply(_KEY, x25519.BASE)) == finish(
        x25519.multiply(_KEY, x25519.BASE)
    )


def test_p256():
    point = finish(p256_sign.point_job(_KEY, _random))
    r, s = _watched(lambda: tidied(p256_sign.sign_job(_KEY, _DIGEST, _random)))
    _watched(lambda: tidied(p256.Verifier(point).prepare()))
    verifier = p256.Verifier(point)
    finish(verifier.prepare())
    assert _watched(lambda: tidied(verifier.verify(_DIGEST, r, s)))
    assert not _watched(lambda: tidied(verifier.verify(_DIGEST, s, r)))
