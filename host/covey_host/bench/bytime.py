"""What it costs that packets are proven by time, and how long that takes."""

import random

from covey import sources
from covey.chainhash import Step
from covey.drops import NOTHING, WAITS
from covey.member import Member
from covey.port import ticks_add
from covey.sa import SN_UNSPECIFIED, DataSA
from covey.tesla import TimedMACs
from covey.timekeeper import Timekeeper
from covey.timing import Timing

from . import board
from .results import Table

TITLE = "Packets proven by time (TESLA)"
_LEN = 64
_WAYS = ("send", "receive", "prove")
_KINDS = ((100, 2), (20, 2), (100, 1))  # interval in ms, lag
_BITS = 12
_FIRST = 1 << _BITS
_SALT = bytes(8)
_NAMES = {1: b"press-7"}
_PACKETS = 2_000
_GROUP = bytes([239, 192, 1, 32])


def run(table: Table, quick: bool) -> None:
    costs = board.run("timed", table)
    facts = costs.facts
    table.add(f"Plain ESP, {_LEN} octets: sent and received", costs["plain"], costs.unit)
    plain = table.rows[-1]["name"]
    whole = sum(costs[way] for way in _WAYS)
    table.add("the same, proven by time: sent, received, proven", whole, costs.unit, plain)
    first = sum(costs[f"{way} first"] for way in _WAYS)
    table.add("the same, the first packet of an interval", first, costs.unit, plain)
    table.add("a key of one's own chain, ahead", costs["round"] / costs.steps("round"), costs.unit)
    table.add(f"datagram, {_LEN} octets, proven by time", facts["length"], "octets")
    for label, octets in facts["octets"].items():
        what = label + " of an interval" if label.endswith("first") else label
        table.add(f"heap, TESLA: {what}", octets, "octets")
    for interval_ms, lag in _KINDS:
        for loss in (0.0, 0.2):
            _delays(table, interval_ms, lag, loss, _PACKETS // 10 if quick else _PACKETS)


def _delays(table: Table, interval_ms: int, lag: int, loss: float, count: int) -> None:
    """Of packets that arrive, sent at random moments, a hundred ms apart on average."""
    drawn = random.Random(interval_ms * lag)
    pair = _Pair(interval_ms, lag)
    came, delays = 0, []
    for n in range(count):
        pair.wait(drawn.randrange(200), loss, drawn, delays)
        if pair.send(n, loss, drawn, delays):
            came += 1
    pair.wait((lag + 12) * interval_ms, loss, drawn, delays)
    delays.sort()
    what = f"{interval_ms} ms x {lag}" + (f", {loss:.0%} lost" if loss else "")
    table.add(f"confirmed of those that came, {what}", 100 * len(delays) / came, "%")
    for percent in (50, 99):
        at = delays[min(len(delays) - 1, len(delays) * percent // 100)]
        table.add(f"delay to confirmation, {what}, p{percent}", at, "ms")


class _Pair:
    """A sender and a receiver on virtual time, whose clocks are known to a few ms."""

    def __init__(self, interval_ms: int, lag: int):
        self.interval_ms = interval_ms
        self.now = 0
        self.timing = Timing(8, lag, _BITS, interval_ms, b"abcd", 500)
        self.sent_at: dict[int, int] = {}
        self._segment = 0
        self.sender, self.sender_keeper = self._member(_NAMES[1])
        self.receiver, self.receiver_keeper = self._member(None)
        self._renew()

    def _member(self, own: bytes | None) -> tuple[Member, Timekeeper]:
        keeper = Timekeeper(self.timing, own)
        member = Member(payload_max=200, sender=own is not None)
        anyone = (bytes(4), b"\xff" * 4, 0, 65535, 0)
        group = (_GROUP, _GROUP, 2222, 2222, 17)
        shape = SN_UNSPECIFIED, 16, (10, 16), None, 1
        sa = DataSA(b"\x9f\x3a\x12\xc4", bytes(range(20)), group, anyone, *shape)
        sources.enlist(sa, [(1, 0, _NAMES[1])])
        sa.auth = TimedMACs(keeper, _NAMES, 6, 1)
        member.keys.install(sa, 0)
        if own is not None:
            sa.become_sender(1 << 6, 16)
            member.keys.activate(sa.spi, 0, 0)
        return member, keeper

    def _renew(self) -> None:
        """What the key server tells both: the time, and of the next chain."""
        interval = _FIRST + self.now // self.interval_ms
        for keeper in (self.sender_keeper, self.receiver_keeper):
            keeper.clock.learn(interval * self.interval_ms + self.now % self.interval_ms,
                               self._ticks(-2), self._ticks(2))  # fmt: skip
        if interval + _FIRST // 2 >= self._segment:
            first = self._segment = self._segment or _FIRST
            stones, commitment = _chain(first)
            self.sender_keeper.own.take(first - 1, _SALT, stones)
            rows = [(1, first, _SALT, first - 1, commitment)]
            self.receiver_keeper.chains.tell(rows, _NAMES)
            self._segment += _FIRST

    def _ticks(self, ms: int = 0) -> int:
        return ticks_add(self.now & 0x3FFFFFFF, ms)

    def wait(self, ms: int, loss: float, drawn: random.Random, delays: list[int]) -> None:
        for _ in range(ms):
            self.now += 1
            if self.now % 10_000 == 0:
                self._renew()
            self.sender_keeper._run(self._ticks())
            n = self.sender_keeper.disclose(self.sender, self._ticks())
            if n and drawn.random() >= loss:
                self._hear(n, delays)

    def send(self, number: int, loss: float, drawn: random.Random, delays: list[int]) -> bool:
        self.sender.out[:_LEN] = number.to_bytes(4) + bytes(_LEN - 4)
        n = self.sender.send(_LEN, self._ticks())
        self.sent_at[number] = self.now
        return drawn.random() >= loss and self._hear(n, delays) == WAITS

    def _hear(self, n: int, delays: list[int]) -> int:
        receiver = self.receiver
        receiver.rx[:n] = self.sender.tx[:n]
        answer = receiver.receive(n, self._ticks())
        while (proven := receiver.next_proven(self._ticks())) != NOTHING:
            if proven >= 0:
                delays.append(self.now - self.sent_at[int.from_bytes(receiver.payload[:4])])
        return answer


def _chain(first: int) -> tuple[list[bytearray], bytes]:
    """The stones of a chain that begins there, and the key before it."""
    step = Step()
    step.stand(_SALT, first + (2 << _BITS) - 1, first.to_bytes(16), 0)
    places = [first - 1 + (1 << power) for power in range(_BITS + 1)]
    found = {}
    while step.at >= first:
        if step.at in places:
            found[step.at] = bytearray(step.octets[12:])
        step.back()
    return [found[at] for at in places], bytes(step.octets[12:])
