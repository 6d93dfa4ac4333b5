"""Cyclic I/O by covey.cip: frames that leave each interval, and what comes, judged.

A Reader's connection is a standing one: once it has timed out it is opened anew, as an originator
would by Forward_Open. What the application did for the old one must have ended then.
"""

import asyncio
import gc

from covey import cip, port

_THRESHOLD = 16384  # octets between two collections, for who hears a hundred packets a second


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
    """One connection's frames, of data_len octets behind what the header takes.

    frame: what to send; its data go to frame[off:].
    """

    def __init__(self, connection_id, data_len, has_header=False):
        self._producer = cip.Producer(connection_id)
        self._data_len = data_len + (cip.HEADER_LEN if has_header else 0)
        self._has_header = has_header
        self.off = cip.DATA + self._data_len - data_len
        self.frame = bytearray(cip.DATA + self._data_len)
        self._last = None

    def make(self, is_running=True):
        """What the data are now becomes the next frame: with a count of its own, if it is new."""
        if self._has_header:
            cip.emit_header(self.frame, cip.DATA, is_running)
        data = bytes(memoryview(self.frame)[cip.DATA :])
        self._producer.emit(self.frame, 0, self._data_len, data != self._last)
        self._last = data
        return self.frame


class Reader:
    """One connection's frames as they come. off: where their data begin."""

    def __init__(self, connection_id, interval_ms, multiplier, has_header=False):
        self._connection = connection_id, interval_ms * 1000, multiplier
        self._has_header = has_header
        self.open()

    def open(self):
        """A new connection: nothing has come yet."""
        self._consumer = cip.Consumer(
            *self._connection, port.ticks_ms(), has_header=self._has_header
        )
        self.off = self._consumer.data_off
        self.taken = 0  # fresh or unchanged
        self.missed = 0  # sequence numbers between them that never came
        self.refused = 0  # late, foreign, malformed
        self.last = 0  # the lower half of the newest sequence number

    @property
    def is_running(self):
        return self._consumer.is_running

    def take(self, payload, data_len):
        """cip.FRESH, cip.UNCHANGED, or why it is not to be used: negative. What is of another
        length keeps no connection alive."""
        answer = cip.parse(payload, 0, len(payload))
        if answer == data_len + self.off - cip.DATA:
            answer = self._consumer.take(payload, 0, len(payload), port.ticks_ms())
        elif answer >= 0:
            answer = cip.DATA_LENGTH
        if answer < 0:
            self.refused += answer != cip.TIMED_OUT
            return answer
        number = cip.sequence_low(payload, 0)
        if self.taken:
            self.missed += (number - self.last - 1) & 0xFFFF
        self.taken += 1
        self.last = number
        return answer

    def has_timed_out(self):
        return self._consumer.has_timed_out(port.ticks_ms())

    def facts(self):
        return "taken %d, missed %d, refused %d, last %d" % (
            self.taken,
            self.missed,
            self.refused,
            self.last,
        )
