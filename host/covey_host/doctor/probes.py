"""The packets of `covey doctor`, and the count of those that came.

    0       4   5   6   7   8               16
    | CvPr  | k | n | of| 0 | run           |      k: MULTICAST, UNICAST or RAW; n: from 0

A probe says nothing but that it is one. `run` is random and tells the series of one command from
others. Nobody answers a probe, so that nothing can be made to send to a third party; receivers
tell what they counted to whoever sits in front of them, or on the serial line. The address is of
the local scope (RFC 2365), which no router passes on, and TTL is 1.

As IP protocol 50 the four octets in front are an SPI. A member counts it as unknown_spi.
"""

import os
import struct
from collections import Counter
from typing import NamedTuple

GROUP = "239.255.67.118"
PORT = 14510
COUNT = 20  # of each kind
INTERVAL_S = 0.05
MULTICAST, UNICAST, RAW = 1, 2, 3
RUN_LEN = 8

MAGIC = b"CvPr"
_FORM = struct.Struct(f">4sBBBx{RUN_LEN}s")


class Probe(NamedTuple):
    kind: int
    number: int
    of: int
    run: bytes


def new_run() -> bytes:
    return os.urandom(RUN_LEN)


def emit(kind: int, number: int, of: int, run: bytes) -> bytes:
    return _FORM.pack(MAGIC, kind, number, of, run)


def parse(data: bytes) -> Probe | None:
    """None where it is anything else."""
    if len(data) != _FORM.size:
        return None
    magic, *fields = _FORM.unpack(data)
    probe = Probe(*fields)
    is_one = magic == MAGIC and probe.kind in (MULTICAST, UNICAST, RAW) and probe.number < probe.of
    return probe if is_one else None


class Tally:
    """What came of each series: a probe that came twice counts once."""

    def __init__(self):
        self._seen: dict[tuple[str, bytes], set[tuple[int, int]]] = {}
        self._of: dict[tuple[str, bytes], int] = {}

    def note(self, data: bytes, source: str) -> bool:
        """Whether it was a probe. source: the sender's address."""
        probe = parse(data)
        if probe is None:
            return False
        series = source, probe.run
        self._seen.setdefault(series, set()).add((probe.kind, probe.number))
        self._of[series] = max(self._of.get(series, 0), probe.of)
        return True

    def series(self) -> list[tuple[str, int, dict[int, int]]]:
        """(source, how many of each kind were sent, kind → how many came), in order of coming."""
        found = []
        for series, seen in self._seen.items():
            counts = Counter(kind for kind, _ in seen)
            found.append((series[0], self._of[series], dict(counts)))
        return found
