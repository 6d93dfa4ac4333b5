"""The key server's clock, by which senders are proven in groups with TESLA (covey/timing.py).

It shows milliseconds since it began, also those for which the machine sleeps. It goes on from one
start of the key server to the next, as long as the machine runs: what members know of it stays
true. When the machine has started anew, nobody can tell how long that took: then another clock
begins, which has another name, and other chains of keys follow from that.

A virtual machine that was paused, or goes on from a snapshot, has the same boot, and a clock that
stood still: whoever asks would believe keys that are out. What betrays it is the time of day,
which has gone ahead by more than the clock: then another one begins, too. Else the time of day
has no part in this: nobody moves the clock by setting that, and a false alarm costs a rekey.
The same is asked of the clock by which the key server lives (now_ms()): see Standstill.

    clock    {"name": ..., "boot": ..., "offset_ms": ..., "apart_ms": ...}
"""

import time
from pathlib import Path

from covey.timing import END, LEAST_INTERVAL_MS

from .epoch import Random
from .ledger import Ledger, decode, encode

FIRST_MS = 1 << 32  # what it shows as it begins: a segment is there before the first
_END_MS = END * LEAST_INTERVAL_MS  # when the shortest intervals can't be told any more
_SPENT_MS = _END_MS - 30 * 86_400_000  # 417 days after it began: time to have another
_MOST_AHEAD_MS = 100  # that the time of day may gain; who steps it steps it further
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now_ms() -> int:
    """Of a machine, in all its processes: the time for which it sleeps is in it, where the system
    has such a clock."""
    boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(boot) // 1_000_000


class Boot:
    """Of the machine: which one this is, and how long ago it was."""

    def id(self) -> str | None:
        """None: nobody knows, so that each start of the key server counts as one."""
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:
            return None

    def now_ms(self) -> int:
        return now_ms()

    def day_ms(self) -> int:
        """The time of day."""
        return time.time_ns() // 1_000_000


class Standstill:
    """Whether the machine's clock stood still for a while, in which others went on."""

    def __init__(self, boot: Boot):
        self._boot = boot
        self._apart_ms = self._now_apart_ms()  # the time of day less the clock, where least

    def is_new(self) -> bool:
        """Whether it did since this was asked last; so, too, once the time of day was set on."""
        apart_ms = self._now_apart_ms()
        if self._boot.day_ms() - self._boot.now_ms() > self._apart_ms + _MOST_AHEAD_MS:
            self._apart_ms = self._now_apart_ms()
            return True
        self._apart_ms = min(self._apart_ms, apart_ms)
        return False

    def _now_apart_ms(self) -> int:
        """At the most: we may be stopped between the two."""
        boot_ms = self._boot.now_ms()
        return self._boot.day_ms() - boot_ms


class Clock:
    """name: 4 octets, none before begin()."""

    def __init__(self, ledger: Ledger, random: Random, boot: Boot):
        self.name = b""
        self._ledger = ledger
        self._random = random
        self._boot = boot
        self._offset_ms = 0
        self._apart_ms = 0  # the time of day less the machine's, where that was least

    def begin(self) -> None:
        """Be there: go on, or begin. Durable on return; Problem from the store."""
        if self.name and not self.is_over:
            return
        found = self._ledger.read("clock")
        kept = {} if found is None else decode(found)
        boot = self._boot.id()
        if not self.name and boot is not None and kept.get("boot") == boot:
            self.name, self._offset_ms = bytes.fromhex(kept["name"]), kept["offset_ms"]
            self._apart_ms = kept.get("apart_ms", self._now_apart_ms())
            if not self.is_over and self.now_ms() >= FIRST_MS:
                return
        name = self._random(4)
        while name.hex() == kept.get("name"):
            name = self._random(4)
        offset_ms = FIRST_MS - self._boot.now_ms()
        apart_ms = self._now_apart_ms()
        facts = {"name": name, "boot": boot, "offset_ms": offset_ms, "apart_ms": apart_ms}
        self._ledger.write({"clock": encode(facts)})
        self.name, self._offset_ms, self._apart_ms = name, offset_ms, apart_ms

    def now_ms(self) -> int:
        return self._boot.now_ms() + self._offset_ms

    @property
    def is_over(self) -> bool:
        """Whether another one is to begin."""
        return self.now_ms() >= _SPENT_MS or self._has_stood_still()

    def _has_stood_still(self) -> bool:
        before_ms = self._now_apart_ms()
        if self._boot.day_ms() - self._boot.now_ms() > self._apart_ms + _MOST_AHEAD_MS:
            return True
        self._apart_ms = min(self._apart_ms, before_ms)  # somebody has set it back
        return False

    def _now_apart_ms(self) -> int:
        """At the most: we may be stopped between the two."""
        boot_ms = self._boot.now_ms()
        return self._boot.day_ms() - boot_ms
