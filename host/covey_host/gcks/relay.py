"""What is relayed for members with unicast delivery, to whom, and what is refused: sans-IO.

    of a member, by its IKE SA's way  -->  the group's address, and all other members by unicast
    of the group, by multicast        -->  all members by unicast; those that only send: no

The same octets each time. Nothing leaves before a member's data path (covey.Member) has taken the
packet: its ICV verifies under a TEK of the group, and its number is new. So nobody outside the
group makes this server send anything; and each packet is relayed once, whichever way and however
often it comes: what was sent to the group and is heard back is a replay, and so is what a second
relay makes of it. A member's packets are relayed only from where its IKE SA is, only if it may
send, and only under its own Sender-ID. Each group has so many datagrams a second, and no more.

Drops are counted as relay_NAME: stranger, receiver, sender_id, rate, or a name of covey.drops.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from covey.drops import name_of
from covey.member import Member
from covey.sa import SN_SEQUENTIAL, SN_UNSPECIFIED, DataSA

from .epoch import Epoch
from .group import Group
from .ikesa import NEVER, IkeSA

_SLOTS = 8  # TEKs at once: the current one, and those of changes within DTD
_MOST_SENDERS = 1024  # told apart under each
_MOST_LEN = 1536  # of a datagram
_BURST_S = 0.1  # of a group's rate that may go at once
_LEAST_BURST = 64
_ANY = (bytes(4), b"\xff" * 4, 0, 0xFFFF, 17)


@dataclass(frozen=True)
class Carried:
    """A datagram to be sent on. group: its name, where it goes to the group's address too."""

    data: bytes
    group: str | None
    addresses: tuple[Any, ...]


def place_of(address: Any) -> Hashable:
    """What of an address tells one member from another: not which of ours it wrote to."""
    return address[:3] if isinstance(address, tuple) else address


class Relay:
    """sas(): the open IKE SAs over which members are told of keys. is_stale is to be set whenever
    something may have changed in them or in groups."""

    def __init__(
        self, groups: dict[str, Group], sas: Callable[[], Iterable[IkeSA]], counters: Counter
    ):
        self.is_stale = True
        self._groups = groups
        self._sas = sas
        self._counters = counters
        self._lines: dict[str, _Line] = {}
        self._places: dict[Hashable, list[tuple[str, _Line]]] = {}  # → members, by group

    @property
    def is_idle(self) -> bool:
        """Whether nobody has unicast delivery just now."""
        self._follow()
        return not self._places

    def listening(self) -> dict[str, tuple[str, int]]:
        """Groups that also use multicast: name → address and port to be heard."""
        self._follow()
        lines = [line for line in self._lines.values() if line.has_multicast and line.is_used]
        return {line.name: line.group.epoch.destination for line in lines}

    def knows(self, address: Any) -> bool:
        """Whether this is a member's place; else what it sends is counted, and forgotten."""
        self._follow()
        known = place_of(address) in self._places
        self._counters["relay_stranger"] += not known
        return known

    def from_member(self, data: bytes, address: Any, now_ms: int) -> Carried | None:
        """A datagram that came from there, which is no IKE message."""
        self._follow()
        place = place_of(address)
        known = self._places.get(place)
        if known is None:
            return self._drop("stranger")
        known = [(member, line) for member, line in known if line.holds(data, now_ms)]
        if not known:
            return self._drop("unknown_spi")
        own = (pair for pair in known if pair[1].is_own(data, pair[0]))
        member, line = next(own, known[0])  # a member may claim another's address
        return self._take(line, data, now_ms, member, place)

    def expects(self, name: str, data: bytes, now_ms: int) -> bool:
        """Whether a datagram to the group's address may be one of its own: by SPI, at the cost of
        a look. Else it is counted, and forgotten."""
        self._follow()
        line = self._lines.get(name)
        if line is None or not line.addresses:
            return False
        known = line.holds(data, now_ms)
        if not known:
            self._drop("unknown_spi")
        return known

    def from_group(self, name: str, data: bytes, now_ms: int) -> Carried | None:
        """A datagram that came to the group's address."""
        self._follow()
        line = self._lines.get(name)
        if line is None or not line.addresses:
            return None
        if not line.holds(data, now_ms):
            return self._drop("unknown_spi")
        return self._take(line, data, now_ms)

    def _take(self, line, data, now_ms, member=None, place=None) -> Carried | None:
        to_group = member is not None and line.has_multicast
        addresses = line.addresses
        if place is not None:
            addresses = tuple(a for a in addresses if place_of(a) != place)
        count = len(addresses) + to_group
        if not line.has_tokens(count, now_ms):
            return self._drop("rate")
        reason = line.take(data, now_ms, member)
        if reason is not None:
            return self._drop(reason)
        line.spend(count)  # by what is sent only: else a forger could use it all up
        self._counters["relayed"] += 1
        return Carried(data, line.name if to_group else None, addresses)

    def _drop(self, reason: str) -> None:
        self._counters[f"relay_{reason}"] += 1

    def _follow(self) -> None:
        """Who is where, after anything may have changed."""
        if not self.is_stale:
            return
        self.is_stale = False
        places: dict[Hashable, list[tuple[str, _Line]]] = {}
        found: dict[str, dict[Hashable, Any]] = {}
        self._lines = {n: line for n, line in self._lines.items() if line.lasts(self._groups)}
        served = {name: group for name, group in self._groups.items() if group.relayed()}
        for sa in self._sas() if served else ():
            for name, told in sa.told.items():
                group = served.get(name)
                if group is None or told.era != group.epoch.era:
                    continue
                if not group.serves(sa.identity) or not getattr(sa.address, "marker", True):
                    continue
                line = self._lines.get(name)
                if line is None:
                    line = self._lines[name] = _Line(group)
                place = place_of(sa.address)
                if group.may_receive(sa.identity):
                    found.setdefault(name, {})[place] = sa.address  # once, whoever claims it
                places.setdefault(place, []).append((sa.identity, line))
        self._places = places
        used = {line.name for some in places.values() for _, line in some}
        for name, line in self._lines.items():
            line.is_used = name in used
            line.addresses = tuple(found.get(name, {}).values())


class _Line:
    """One group in one era: where its members are, and the data path that judges its packets. It
    is kept when the last of them has gone: what was relayed once is not relayed again."""

    def __init__(self, group: Group):
        self.group = group
        self.name = group.policy.name
        self.is_used = False  # somebody has unicast delivery
        self.addresses: tuple[Any, ...] = ()  # of those who receive
        slots = min(_MOST_SENDERS, 1 << group.epoch.shape.index_bits)
        self._era = group.epoch.era
        self._path = Member(
            payload_max=0, datagram_max=_MOST_LEN, sa_slots=_SLOTS, sender_slots=slots
        )
        self._slots = slots
        self._is_short = slots < 1 << group.epoch.shape.index_bits
        self._epoch: Epoch | None = None
        self._until_ms = NEVER  # when the first of what is held goes
        self._held: dict[bytes, None] = {}  # SPIs
        self._tokens = 0.0
        self._filled_ms: int | None = None

    @property
    def has_multicast(self) -> bool:
        return not self.group.policy.relays_all

    def lasts(self, groups: dict[str, Group]) -> bool:
        return groups.get(self.name) is self.group and self.group.epoch.era == self._era

    def is_own(self, data: bytes, member: str) -> bool:
        """Whether the packet says that it is this member's."""
        return self.group.has_sender_id(member, self._sender_id(data))

    def holds(self, data: bytes, now_ms: int) -> bool:
        """Whether the SPI is that of a TEK that may be in use."""
        if self.group.epoch is not self._epoch or now_ms >= self._until_ms:
            self._renew(now_ms)
        return data[:4] in self._held

    def has_tokens(self, count: int, now_ms: int) -> bool:
        """Whether the group may have so many datagrams sent now."""
        rate = self.group.policy.relay_rate
        most = max(_LEAST_BURST, rate * _BURST_S, count)
        if self._filled_ms is None:
            self._tokens = most
        else:
            self._tokens = min(most, self._tokens + (now_ms - self._filled_ms) * rate / 1000)
        self._filled_ms = now_ms
        return self._tokens >= count

    def spend(self, count: int) -> None:
        """So many go."""
        self._tokens -= count

    def take(self, data: bytes, now_ms: int, member: str | None) -> str | None:
        """None: it is what a member would take, and new; else why not."""
        path = self._path
        if len(data) > _MOST_LEN:
            return "length"
        if member is not None:
            if not self.group.may_send(member):
                return "receiver"
            if not self.is_own(data, member):
                return "sender_id"  # before its window is looked at, or moved
        elif self._is_short and not self.group.has_index(self._sender_id(data)):
            return "sender_id"  # windows are for those that exist
        path.rx[: len(data)] = data
        answer = path.receive(len(data), now_ms)
        return name_of(answer) if answer < 0 else None

    def _sender_id(self, data: bytes) -> int:
        """From the top of the IV."""
        return int.from_bytes(data[8:12]) >> 32 - self.group.epoch.shape.sender_id_bits

    def _renew(self, now_ms: int) -> None:
        epochs = self.group.data_epochs(now_ms)[:_SLOTS]
        wanted = {epoch.tek_spi: epoch for epoch, _ in epochs}
        self._until_ms = min(end_ms for _, end_ms in epochs)
        for spi in [spi for spi in self._held if spi not in wanted]:
            self._path.keys.retire(spi, now_ms, 0)
            del self._held[spi]
        for spi in [spi for spi in wanted if spi not in self._held]:
            self._path.keys.install(_data_sa(wanted[spi], self._slots), now_ms)
            self._held[spi] = None
        self._epoch = self.group.epoch


def _data_sa(epoch: Epoch, slots: int) -> DataSA:
    shape = epoch.shape
    numbers = SN_SEQUENTIAL if shape.single_sender else SN_UNSPECIFIED
    return DataSA(
        epoch.tek_spi,
        bytearray(epoch.tek_keymat),
        (*_ANY[:2], shape.port, shape.port, 17),
        _ANY,
        numbers,
        shape.sender_id_bits,
        (shape.index_bits, shape.sender_id_bits),
        None,
        epoch.number,
        slots,
        shape.integrity_only,
    )
