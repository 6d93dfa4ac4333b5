"""Cyclic I/O by covey.cip: frames that leave each interval, and what comes, judged.

A Reader's connection is a standing one: once it has timed out it is opened anew, as an originator
would by Forward_Open. What the application did for the old one must have ended then.

Where both ends say so (has_clock), data begin, behind a run/idle header, with the time that it is:

    0         4         8
    +---------+---------+----------   little-endian. run: drawn by lot as the producer starts; ms:
    | run     | ms      | data ...    its ticks, modulo 2^30, as the frame leaves. Of both 30 bits
    +---------+---------+----------   count.

By it a Reader knows a frame that was held back on its way, also where it comes in order, and to a
connection that was opened anew (onboard/lag.py). It makes no frame new: it is of no data.
"""

import asyncio
import gc
from struct import pack_into

from covey import cip, port
from covey.port import const
from onboard.lag import Lag

_THRESHOLD = 16384  # octets between two collections, for who hears a hundred packets a second
_CLOCK_LEN = const(8)

# Why a packet is none for us, beside what covey.cip says
UNPROVEN = const(-13)  # nothing says who sent it
ANOTHER = const(-14)  # of another member than the producer
HELD_BACK = const(-15)  # later than the quickest by more than a timeout, or of another run
_MOST = const(15)

NAMES = dict(cip.NAMES)
NAMES.update({UNPROVEN: "unproven", ANOTHER: "another_source", HELD_BACK: "held_back"})


def steady():
    """The member is in: from here on its heap is tidied less often than while code is loaded."""
    if hasattr(gc, "threshold"):
        gc.threshold(_THRESHOLD)


class Pace:
    """Even intervals. What is overdue is left out, not sent in a burst."""

    def __init__(self, interval_ms):
        self._interval_ms = interval_ms
        self._due_ms = port.ticks_ms()

    async def next(self):
        now_ms = port.ticks_ms()
        self._due_ms = port.ticks_add(self._due_ms, self._interval_ms)
        if port.ticks_diff(self._due_ms, now_ms) < 0:
            self._due_ms = now_ms
        await asyncio.sleep(port.ticks_diff(self._due_ms, now_ms) / 1000)


class Writer:
    """One connection's frames, of data_len octets behind what header and clock take.

    frame: what to send; its data go to frame[off:].
    """

    def __init__(self, connection_id, data_len, has_header=False, has_clock=False):
        self._producer = cip.Producer(connection_id)
        self._clock = cip.DATA + (cip.HEADER_LEN if has_header else 0)
        self.off = self._clock + (_CLOCK_LEN if has_clock else 0)
        self.frame = bytearray(self.off + data_len)
        self._has_header = has_header
        self._has_clock = has_clock
        self._last = None  # the data of before, behind whether it ran
        self._run = _u30(port.random_bytes(4), 0)

    def make(self, is_running=True):
        """What the data are now becomes the next frame: with a count of its own, if it is new."""
        if self._has_header:
            cip.emit_header(self.frame, cip.DATA, is_running)
        if self._has_clock:
            pack_into("<II", self.frame, self._clock, self._run, port.ticks_ms())
        data = bytes([is_running]) + bytes(memoryview(self.frame)[self.off :])
        self._producer.emit(self.frame, 0, len(self.frame) - cip.DATA, data != self._last)
        self._last = data
        return self.frame


class Reader:
    """One connection's frames as they come.

    producer: its identity as a member, in octets; None: the first that was proven to have sent a
    frame, from then on. needs_proof: frames that nothing proves are never used; else only until
    one was proven, since then the group says who sent what. Both, and what is known of the
    producer's clock, outlive a connection. off: where data begin.
    """

    def __init__(
        self,
        connection_id,
        interval_ms,
        multiplier,
        has_header=False,
        has_clock=False,
        producer=None,
        needs_proof=False,
    ):
        self._connection = connection_id, interval_ms * 1000, multiplier
        self._has_header = has_header
        self._lag = Lag() if has_clock else None
        self._producer = producer
        self._needs_proof = needs_proof
        self.open()

    def open(self):
        """A new connection: nothing has come yet."""
        self._consumer = cip.Consumer(
            *self._connection, port.ticks_ms(), has_header=self._has_header
        )
        self._clock = self._consumer.data_off
        self.off = self._clock + (_CLOCK_LEN if self._lag else 0)
        self.taken = 0  # fresh or unchanged
        self.missed = 0  # sequence numbers between them that never came
        self.last = 0  # the lower half of the newest sequence number
        self.lag_ms = 0  # of the last frame, against the quickest; 0 where no clock is told
        self._refused = [0] * (_MOST + 1)  # by why, without its sign

    @property
    def is_running(self):
        return self._consumer.is_running

    def take(self, packet, data_len):
        """cip.FRESH, cip.UNCHANGED, or why it is not to be used: negative, and counted. What is
        refused keeps no connection alive.
        """
        answer = self._judge(packet, data_len)
        if answer < 0:
            self._refused[-answer] += 1
            return answer
        if packet.confirmed:
            self._producer = packet.source
            self._needs_proof = True
        number = cip.sequence_low(packet.payload, 0)
        if self.taken:
            self.missed += (number - self.last - 1) & 0xFFFF
        self.taken += 1
        self.last = number
        return answer

    def _judge(self, packet, data_len):
        if self._needs_proof and not packet.confirmed:
            return UNPROVEN
        payload, now_ms = packet.payload, port.ticks_ms()
        answer = cip.parse(payload, 0, len(payload))
        if answer < 0:
            return answer
        if answer != data_len + self.off - cip.DATA:
            return cip.DATA_LENGTH
        if not cip.is_connection(payload, 0, self._connection[0]):
            return cip.FOREIGN
        if packet.confirmed and self._producer is not None and packet.source != self._producer:
            return ANOTHER
        if self._lag and self._is_held_back(payload, now_ms, packet.confirmed):
            return HELD_BACK
        return self._consumer.take(payload, 0, len(payload), now_ms)

    def _is_held_back(self, payload, now_ms, is_proven):
        run = _u30(payload, self._clock)
        if self.taken and run != self._lag.run:
            return True  # a connection's frames are of one run
        self.lag_ms = self._lag.of(run, _u30(payload, self._clock + 4), now_ms, is_proven)
        return self.lag_ms > self._consumer.timeout_ms

    def has_timed_out(self):
        """To be asked now and then, whatever comes."""
        now_ms = port.ticks_ms()
        if self._lag:
            self._lag.go_on(now_ms)
        return self._consumer.has_timed_out(now_ms)

    def facts(self):
        """One line; empty where nothing came."""
        if not self.taken and not any(self._refused):
            return ""
        text = "taken %d, missed %d, last %d" % (self.taken, self.missed, self.last)
        for why in range(1, _MOST + 1):
            if self._refused[why]:
                text += ", %s %d" % (NAMES[-why], self._refused[why])
        return text


def _u30(buf, off):
    """The lower 30 bits of four octets: what a 32-bit board has as a small integer."""
    high = (buf[off + 3] & 0x3F) << 24
    return high | buf[off + 2] << 16 | buf[off + 1] << 8 | buf[off]
