"""GSA_REKEY messages on their way: each is sent, and sent again unchanged (RFC 9838 2.4.1.3).

What is under way is also in the store (the outbox of epoch.py): a message leaves it only when its
last repeat was handed out and some time has passed, so that it surely was sent.
"""

from dataclasses import dataclass

from . import Out
from .epoch import Outbox, Parcel
from .policy import GroupPolicy


@dataclass
class _Sending:
    parcel: Parcel
    left: int  # how often it is still to be sent
    next_ms: int
    until_ms: int  # in the outbox until then
    is_unsent: bool = True


class Repeats:
    def __init__(self):
        self._sendings: list[_Sending] = []

    @property
    def outbox(self) -> Outbox:
        return tuple(sending.parcel for sending in self._sendings)

    @property
    def unsent(self) -> int:
        """How many of these, the last, have not been sent at all."""
        return sum(sending.is_unsent for sending in self._sendings)

    @property
    def begin_ms(self) -> int:
        """When what is new can be sent at the earliest: nothing overtakes."""
        return max((s.next_ms for s in self._sendings if s.is_unsent), default=0)

    def schedule(
        self, outbox: Outbox, policy: GroupPolicy, now_ms: int, come_back_ms: int
    ) -> None:
        """This is what is to be sent: what is under way goes on, what is new begins now.

        come_back_ms: when all members that an exclusion sent away have had time to come back.
        """
        under_way = {s.parcel.messages: s for s in self._sendings}
        self._sendings = []
        start_ms = now_ms
        for parcel in outbox:
            sending = under_way.get(parcel.messages)
            if sending is None:
                start_ms += parcel.gap_ms
                until_ms = come_back_ms if parcel.excludes else start_ms
                sending = _Sending(parcel, 1 + policy.repeats, start_ms, until_ms)
            elif sending.is_unsent:  # none overtakes it
                start_ms = max(start_ms, sending.next_ms)
            self._sendings.append(sending)

    def due(self, policy: GroupPolicy, now_ms: int) -> list[Out]:
        outs = []
        for sending in self._sendings:
            if sending.left and now_ms >= sending.next_ms:
                sending.left -= 1
                sending.is_unsent = False
                sending.next_ms = now_ms + policy.repeat_spacing_ms
                sending.until_ms = max(sending.until_ms, sending.next_ms)
                parcel = sending.parcel
                where = parcel.destination, parcel.marker
                outs += [Out(m, None, policy.name, *where) for m in parcel.messages]
        return outs

    def unfinished(self, now_ms: int) -> Outbox | None:
        """What is left for the store to hold; None: what it holds is good enough. It is written
        when half are over, so that a thousand messages are ten writes."""
        kept = tuple(s.parcel for s in self._sendings if s.left or now_ms < s.until_ms)
        return kept if len(self._sendings) - len(kept) >= max(1, self._enough) else None

    def next_ms(self) -> int | None:
        """When something is to be sent or can leave the store."""
        if not self._sendings:
            return None
        times = [s.next_ms for s in self._sendings if s.left]
        ends = sorted(s.until_ms for s in self._sendings if not s.left)
        if 0 < self._enough <= len(ends):
            times.append(ends[self._enough - 1])
        return min(times, default=None)

    @property
    def _enough(self) -> int:
        return (len(self._sendings) + 1) // 2
