"""IKE messages that have arrived and were not looked at yet: whoever is further along goes first.

The system's own queue is short, and drops at random whatever is too much. So sockets are emptied
at once, into here. IKE_SA_INIT requests wait apart from all others, but for those that show a
cookie of ours: when a whole plant comes at the same time, or a flood, those who have begun are
through before others begin. Of each draw a quarter is for the side that would not get a turn.
Of those that begin whoever asked last is first: a member of several key servers goes to another
one after half a second, and what it asked here is worth nothing then. In the order of their coming
all that is looked at would be too old, once so many wait (bench/powerup.py).
Those that begin with another notification are few, of who knew us before a restart, say, or very
many and made up, since thinning.py lets them pass: some of them wait until nobody else does. A
message that waits already is not taken again: members repeat what has not been answered yet.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from covey import ike

MOST = 16_384  # messages of each kind, and
MOST_OCTETS = 8 << 20  # how long all of a kind may be together
MOST_DOUBTFUL = 256  # messages
_FIRST, _EXCHANGE = 16, 18  # where a message says its first payload, and its exchange

_SA_INIT = bytes([ike.IKE_SA_INIT])

Message = tuple[bytes, Any]  # octets without marker, address


class Queue:
    """First in, first out."""

    def __init__(self, most: int):
        self._most = most
        self._messages: deque[Message] = deque()
        self._octets = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> bool:
        octets = self._octets + len(message[0])
        if len(self._messages) >= self._most or octets > MOST_OCTETS:
            return False
        self._messages.append(message)
        self._octets = octets
        return True

    def draw(self, most: int) -> list[Message]:
        found = [self._messages.popleft() for _ in range(min(most, len(self._messages)))]
        self._octets -= sum(len(data) for data, _ in found)
        return found


class Stack:
    """Last in, first out; what is repeated comes in again."""

    def __init__(self, most: int):
        self._most = most
        self._messages: dict[Message, None] = {}
        self._octets = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> list[Message]:
        """→ the oldest ones, which give way."""
        self._messages[message] = None
        self._octets += len(message[0])
        gone = []
        while len(self._messages) > self._most or self._octets > MOST_OCTETS:
            oldest = next(iter(self._messages))
            del self._messages[oldest]
            self._octets -= len(oldest[0])
            gone.append(oldest)
        return gone

    def renew(self, message: Message) -> None:
        """It waits already."""
        del self._messages[message]
        self._messages[message] = None

    def draw(self, most: int) -> list[Message]:
        found = [self._messages.popitem()[0] for _ in range(min(most, len(self._messages)))]
        self._octets -= sum(len(data) for data, _ in found)
        return found


class Inbox:
    def __init__(self, has_cookie: Callable[[bytes, Any], bool]):
        """Of an IKE_SA_INIT request and its address: whether it begins with a cookie of ours."""
        self._has_cookie = has_cookie
        self._begins = Stack(MOST)
        self._goes_on = Queue(MOST)
        self._doubtful = Queue(MOST_DOUBTFUL)
        self._waiting: set[Message] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def begins(self) -> int:
        """First requests that wait."""
        return len(self._begins)

    def put(self, data: bytes, address: Any) -> bool:
        """False: there is no room, or another one has given way to it."""
        message = data, address
        queue = self._queue_of(data, address)
        if message in self._waiting:
            if queue is self._begins:
                queue.renew(message)
            return True
        if queue is not self._begins:
            if not queue.put(message):
                return False
            self._waiting.add(message)
            return True
        gone = queue.put(message)
        self._waiting.add(message)
        self._waiting.difference_update(gone)
        return not gone

    def draw(self, most: int) -> list[Message]:
        """The next ones, so many at most."""
        share = min(max(1, most // 4), len(self._begins))
        found = self._goes_on.draw(most - share)
        found += self._begins.draw(most - len(found))
        found += self._doubtful.draw(most - len(found))
        self._waiting.difference_update(found)
        return found

    def _queue_of(self, data: bytes, address: Any) -> Queue | Stack:
        if data[_EXCHANGE : _EXCHANGE + 1] != _SA_INIT:
            return self._goes_on
        if data[_FIRST] != ike.NOTIFY:  # a cookie comes first (RFC 7296 section 2.6)
            return self._begins
        return self._goes_on if self._has_cookie(data, address) else self._doubtful
