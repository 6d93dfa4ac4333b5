"""On MicroPython: X25519, ECDSA P-256 verification and key unwrap, as a member does them: tidied,
in the heap of one that is at rest: each step on its own. Nothing but the jobs themselves collects.

Arguments: mode, then in hexadecimal a P-256 point, a digest, r | s; a KEK, a wrapped key.
"""

import gc
import sys
from binascii import unhexlify

from covey import port  # first: on a 32-bit interpreter nested imports use up the C stack

# isort: split
from counting import Turns, cost, report, steps
from packets import data_sa

try:
    from esp32 import grown  # times: of tools/rv32's heap that grows
except ImportError:
    grown = None

import covey.job
from covey import keywrap, membership, p256, x25519  # noqa: F401  membership: a member's code
from covey.member import Member

_SLOTS = 4
_MOST = 2048  # steps, those that tidy included
_ROOM = 49152  # octets that are left to a board with 128 KB of heap, about
_HOLE = 48  # octets, of which a third of them is

point, digest, signature, kek, wrapped = (unhexlify(text) for text in sys.argv[2:7])
r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))


def fill_up():
    """Take all of a desktop's heap but _ROOM: a piece, and holes among what stays. The code,
    which lies in flash on most boards, leaves none.
    """
    gc.collect()
    room = bytearray(_ROOM * 2 // 3)
    holes = [None] * (_ROOM // 3 // _HOLE)
    between = [None] * len(holes)
    for i in range(len(holes)):
        holes[i], between[i] = bytearray(_HOLE - 16), bytearray(_HOLE)
    if grown is not None:  # it would grow until there is nothing left
        return between
    kept = [None] * 4096
    at = 0
    for size in 8192, 512, 64, 16:
        try:
            while at < len(kept):
                kept[at] = bytearray(max(size - 16, 0))
                at += 1
        except MemoryError:
            pass
    del holes, room
    return kept, between


def live(turns, job):
    """Note each step; what tidies the heap is "tidying LABEL". Returns the job's result."""
    tidies = "tidying " + turns.label

    def tidy(filling):
        tidying = port.tidy(filling)
        while True:
            turns.label = tidies
            try:
                next(tidying)
            except StopIteration as end:
                return end.value
            yield

    def mem_free():
        turns.label = tidies
        return port.mem_free()

    covey.job.tidy, covey.job.mem_free = tidy, mem_free
    gc.collect()
    turns.begin()
    while True:
        try:
            next(job)
            turns.here()
        except StopIteration as end:
            turns.here()
            return end.value


member = Member(payload_max=512, datagram_max=1536, sa_slots=_SLOTS, sender=True, reserves=True)
for i in range(_SLOTS):
    member.keys.install(data_sa(bytes([1, 2, 3, i])), 0)
verifier = p256.Verifier(point)
cost("point", lambda: p256.Verifier(point))
is_unwrapped = steps("unwrap", keywrap.unwrap_job(kek, wrapped))
jobs = [Turns(label, _MOST) for label in ("prepare", "verify", "x25519")]
ballast = fill_up() if sys.platform in ("linux", "qemu") else None
before = grown and grown()
live(jobs[0], covey.job.tidied(verifier.prepare()))
is_verified = live(jobs[1], covey.job.tidied(verifier.verify(digest, r, s)))
is_multiplied = live(jobs[2], x25519.multiply(bytes(range(32)), x25519.BASE))
if not (is_unwrapped and is_verified and is_multiplied):
    raise ValueError("a job has gone wrong")
if grown and grown() != before:
    raise ValueError("the heap has grown meanwhile")
ballast = None
covey.job.tidy, covey.job.mem_free = port.tidy, port.mem_free
for turns in jobs:
    turns.tell()
cost("collect", gc.collect)
report(heap=gc.mem_alloc() + gc.mem_free())
