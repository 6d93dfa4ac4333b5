"""What becomes of each frame, of class 0 or 1. Sans I/O: octets and the time go in, a flow comes
out, or a reason is counted.

protect() and open() say by name why a frame stays where it is. Nothing is guessed: a frame that
fits no flow goes nowhere.
"""

from collections import Counter
from ipaddress import IPv4Address

from covey import cip

from . import encap
from .learned import Learned
from .plan import LEARN, PROTECT, Flow, Plan
from .streams import Streams

# Reasons, beside those of cip.NAMES and of Streams.
PRODUCER = "producer"  # sent by another device than the flow's
CONNECTION = "connection"  # of no connection that may cross
SOURCE = "source"  # not proven to be sent by whom the flow names
TOO_LONG = "too_long"  # for a packet of the group
IN_CLEAR = "in_clear"  # the group is one whose packets everybody can read
NOT_SENT = "not_sent"  # the group, or the system, takes none just now
LEARN_FULL = "learn_full"  # no room for another connection


class Bridge:
    """passed and drops: frames of each flow, and of each reason."""

    def __init__(self, plan: Plan):
        self.passed: Counter[str] = Counter({flow.name: 0 for flow in plan.flows})
        self.drops: Counter[str] = Counter()
        # (event, flow, connection); whoever reads it empties it
        self.news: list[tuple[str, str, bytes]] = []
        self._streams = Streams(self.drops)
        self._learning = [flow for flow in plan.flows if flow.connections == LEARN]
        self._learned = {flow.name: Learned() for flow in self._learning}
        self._leaving: dict[tuple[bytes, int], list[tuple[str, Flow]]] = {}
        self._entering: dict[object, list[Flow]] = {}
        for flow in plan.flows:
            if flow.direction == PROTECT:
                place = flow.address.packed, flow.port
                self._leaving.setdefault(place, []).append((str(flow.producer), flow))
            else:
                self._entering.setdefault(flow.member, []).append(flow)

    def protect(
        self, place: tuple[bytes, int], producer: str, buf: bytes, n: int, now_s: float
    ) -> Flow | None:
        """A plain frame, n octets in buf, that came from the plant to this address and port."""
        reason = cip.parse(buf, 0, n, 0)
        if reason < 0:
            return self.refuse(cip.NAMES[reason])
        why = PRODUCER
        for name, flow in self._leaving[place]:
            if name != producer:
                continue
            why = CONNECTION
            if self._carries(flow, bytes(buf[6:10]), now_s):
                return flow
        return self.refuse(why)

    def open(self, member: object, frame: bytes, source: bytes | None) -> Flow | None:
        """What a group delivered; source: who is proven to have sent it."""
        reason = cip.parse(frame, 0, len(frame), 0)
        if reason < 0:
            return self.refuse(cip.NAMES[reason])
        for flow in self._entering.get(member, ()):
            if self._carries(flow, bytes(frame[6:10]), 0):
                if flow.source is not None and flow.source != source:
                    return self.refuse(SOURCE)
                return flow
        return self.refuse(CONNECTION)

    def refuse(self, reason: str, count: int = 1) -> None:
        self.drops[reason] += count

    def watch(self, packet: bytes, now_s: float) -> None:
        """An IPv4 packet from the plant, of a TCP connection to a target's explicit messages."""
        for target, message in self._streams.packet(packet):
            try:
                told = encap.parse(message)
            except encap.Malformed as error:
                self.refuse(f"watch_{error}")
                continue
            if isinstance(told, encap.Closed):
                self._closed(target, told.owner)
            elif told is not None:
                self._opened(target, told, now_s)

    def expire(self, now_s: float) -> None:
        for name, learned in self._learned.items():
            for connection in learned.expire(now_s):
                self.news.append(("forgotten", name, connection))

    def connections(self, name: str) -> int | None:
        """How many are open, where they are learned."""
        return len(self._learned[name]) if name in self._learned else None

    def _carries(self, flow: Flow, connection: bytes, now_s: float) -> bool:
        if isinstance(flow.connections, frozenset):
            return connection in flow.connections
        if flow.connections != LEARN:
            return True
        learned = self._learned[flow.name]
        if connection not in learned:
            return False
        learned.heard(connection, now_s)
        return True

    def _opened(self, target: IPv4Address, told: encap.Opened, now_s: float) -> None:
        for _, flow in self._leaving.get((told.address.packed, told.port), ()):
            if flow.producer != target or flow.name not in self._learned:
                continue
            self._closed(target, told.owner, beside=flow)
            learned = self._learned[flow.name]
            is_new = told.connection not in learned
            if not learned.opened(told, now_s):
                self.refuse(LEARN_FULL)
            elif is_new:
                self.news.append(("opened", flow.name, told.connection))

    def _closed(self, target: IPv4Address, owner: bytes, beside: Flow | None = None) -> None:
        """What this owner had at a target, but for what it has by the flow `beside`."""
        for flow in self._learning:
            if flow.producer == target and flow is not beside:
                connection = self._learned[flow.name].closed(owner)
                if connection is not None:
                    self.news.append(("closed", flow.name, connection))
