"""What aio has to do about packets of which it isn't proven at once who sent them.

Loaded where a group's proofs come later, or the application hears of packets that are refused.
"""

from covey.drops import (
    DROP_CROWDED,
    DROP_EARLY,
    DROP_NO_CHAIN,
    DROP_NO_CLOCK,
    DROP_SOURCE,
    DROP_UNPROVEN,
    DROP_UNSAFE,
    NOTHING,
    WAITS,
    name_of,
)
from covey.octets import u32
from covey.port import ticks_ms

# Of a packet of the group: it is not, or was not, proven who sent it.
_NOT_PROVEN = (
    DROP_SOURCE,
    DROP_CROWDED,
    DROP_UNPROVEN,
    DROP_UNSAFE,
    DROP_EARLY,
    DROP_NO_CLOCK,
    DROP_NO_CHAIN,
)


class Unproven:
    """it: the aio.Joined, whose part this is."""

    def __init__(self, it):
        self._it = it

    def after(self, answer):
        """What waits for a proof, as far as that can be judged now. answer: what Member.receive
        has just said; NOTHING: it wasn't asked.
        """
        it, member = self._it, self._it.member
        if answer == WAITS and it._takes_unconfirmed and it._is_listening:
            it._deliver(*member.kept(), None)
        elif answer in _NOT_PROVEN:
            self._tell(answer)
        while True:
            found = member.next_proven(ticks_ms())
            if found == NOTHING:
                break
            if found >= 0:
                it._deliver_received()
            else:
                self._tell(found)
        room = member.waiting
        if answer != NOTHING and room is not None and room.is_working:
            it._kick.set()  # else it is the working task that asks

    def _tell(self, reason):
        it, member = self._it, self._it.member
        if it.on_refused is not None:
            sa = member.keys.find(member.rx, 0)  # None: it has gone meanwhile
            sender = None if sa is None else u32(member.rx, 8) >> 32 - sa.senders.bits
            it.on_refused(sender, member.number, name_of(reason))
