"""The I/O data of the demo's senders, and what a receiver makes of it. On both interpreters.

Every octet of the data follows from the connection and the sequence number, so that a receiver
can tell what should be there. Imported by the player as a file beside it, by others as a module.
"""

from covey import cip

DATA_LEN = 32
PERIOD_MS = 20
_LATE = 64  # how far behind the newest number one may come and still be late, not lost


class Source:
    """One connection's sending side."""

    def __init__(self, connection):
        """connection: 4 octets."""
        self.frame = bytearray(cip.DATA + DATA_LEN)
        self.sequence = 0  # of the last frame made
        self._producer = cip.Producer(connection)

    def make(self):
        """The next frame, in .frame until the next call."""
        producer = self._producer
        producer.emit(self.frame, 0, DATA_LEN)
        self.sequence = producer.sequence_high << 16 | producer.sequence_low
        fill(self.frame, producer.connection_id, self.sequence)
        return self.frame


class Flow:
    """One connection as one receiver sees it: what came, twice, late, not at all, or wrong."""

    def __init__(self, connection):
        self.connection = connection
        self.first = 0  # sequence numbers; 0: nothing came
        self.last = 0
        self.count = 0  # different numbers that came
        self.duplicates = 0
        self.late = 0  # came behind a higher number; counted in `count`
        self.wrong = 0  # content that does not follow from the number
        self._lost = 0  # passed over so long ago that we no longer wait
        self._awaited = []  # passed over lately

    def take(self, payload):
        """One frame that cip.parse() has found to be one of this connection."""
        number = cip.sequence_high(payload, 0) << 16 | cip.sequence_low(payload, 0)
        expected = bytearray(payload[: cip.DATA]) + bytes(DATA_LEN)
        fill(expected, self.connection, number)
        if payload != expected or cip.count(payload, 0) != number & 0xFFFF:
            self.wrong += 1
        else:
            self.note(number)

    def note(self, number):
        """A frame of this number came, and its content is right."""
        if not self.count:
            self.first = self.last = number
            self.count = 1
        elif number > self.last:
            self._pass_over(number)
            self.last = number
            self.count += 1
        elif number in self._awaited:
            self._awaited.remove(number)
            self.late += 1
            self.count += 1
        else:
            self.duplicates += 1

    def facts(self):
        """gaps: numbers between first and last that never came."""
        return {
            "first": self.first,
            "last": self.last,
            "count": self.count,
            "duplicates": self.duplicates,
            "late": self.late,
            "wrong": self.wrong,
            "gaps": self._lost + len(self._awaited),
        }

    def _pass_over(self, number):
        skipped = range(self.last + 1, number)
        near = max(self.last + 1, number - _LATE)
        self._lost += near - skipped.start if len(skipped) else 0
        while self._awaited and self._awaited[0] < number - _LATE:
            self._awaited.pop(0)
            self._lost += 1
        self._awaited.extend(range(near, number))


class Flows:
    """All connections that one receiver hears."""

    _MOST = 16

    def __init__(self):
        self.strange = 0  # delivered, and no frame of a connection
        self._flows = {}

    def take(self, payload):
        if cip.parse(payload, 0, len(payload)) != DATA_LEN:
            self.strange += 1
            return
        connection = bytes(payload[6:10])
        if connection not in self._flows:
            if len(self._flows) == self._MOST:
                self.strange += 1
                return
            self._flows[connection] = Flow(connection)
        self._flows[connection].take(payload)

    def facts(self):
        """Connection in hexadecimal → its facts."""
        return {hexadecimal(c): self._flows[c].facts() for c in self._flows}


def fill(frame, connection, number):
    """Put the data of that connection and number behind the frame's head."""
    low = number & 255
    high = number >> 8 & 255
    for i in range(0, DATA_LEN, 2):
        salt = connection[i >> 1 & 3] + i + (number >> 16)
        frame[cip.DATA + i] = low + salt & 255
        frame[cip.DATA + i + 1] = high + salt & 255


def hexadecimal(octets):
    return "".join([f"{octet:02x}" for octet in octets])
