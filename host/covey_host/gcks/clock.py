"""The key server's clock, by which senders are proven in groups with TESLA (covey/timing.py).

It shows milliseconds since it began, also those for which the machine sleeps. It goes on from one
start of the key server to the next, as long as the machine runs: what members know of it stays
true. When the machine has started anew, nobody can tell how long that took: then another clock
begins, which has another name, and other chains of keys follow from that. The time of day has no
part in this: nobody moves the clock by setting that.

    clock    {"name": ..., "boot": ..., "offset_ms": ...}
"""

import time
from pathlib import Path

from covey.timing import END, LEAST_INTERVAL_MS

from .epoch import Random
from .ledger import Ledger, decode, encode

FIRST_MS = 1 << 32  # what it shows as it begins: a segment is there before the first
_END_MS = END * LEAST_INTERVAL_MS  # when the shortest intervals can't be told any more
_SPENT_MS = _END_MS - 30 * 86_400_000  # 417 days after it began: time to have another
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Boot:
    """Of the machine: which one this is, and how long ago it was."""

    def id(self) -> str | None:
        """None: nobody knows, so that each start of the key server counts as one."""
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:
            return None

    def now_ms(self) -> int:
        boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return time.clock_gettime_ns(boot) // 1_000_000


class Clock:
    """name: 4 octets, none before begin()."""

    def __init__(self, ledger: Ledger, random: Random, boot: Boot):
        self.name = b""
        self._ledger = ledger
        self._random = random
        self._boot = boot
        self._offset_ms = 0

    def begin(self) -> None:
        """Be there: go on, or begin. Durable on return; Problem from the store."""
        if self.name and not self.is_spent:
            return
        found = self._ledger.read("clock")
        kept = {} if found is None else decode(found)
        boot = self._boot.id()
        if not self.name and boot is not None and kept.get("boot") == boot:
            self.name, self._offset_ms = bytes.fromhex(kept["name"]), kept["offset_ms"]
            if not self.is_spent and self.now_ms() >= FIRST_MS:
                return
        name = self._random(4)
        while name.hex() == kept.get("name"):
            name = self._random(4)
        offset_ms = FIRST_MS - self._boot.now_ms()
        facts = {"name": name, "boot": boot, "offset_ms": offset_ms}
        self._ledger.write({"clock": encode(facts)})
        self.name, self._offset_ms = name, offset_ms

    def now_ms(self) -> int:
        return self._boot.now_ms() + self._offset_ms

    @property
    def is_spent(self) -> bool:
        return self.now_ms() >= _SPENT_MS
