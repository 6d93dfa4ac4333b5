"""gateway.toml, checked: which flows cross the gateway, and how.

    plant = "eth1"                    network card towards the legacy devices
    protected = "eth0"                network card towards everybody else

    [flow.speed]
    direction = "protect"             from the plant into a group, or "open": from it to the plant
    member = "members/gate-1"         the gateway's membership: a directory, or a covey.json
    address = "239.192.1.32"          of the plain multicast
    port = 2222                       ... its UDP port
    producer = "192.168.1.20"         the device that sends it, as its datagrams name it
    connections = "learn"             which connection IDs: [0x12345678, ...], "any", or "learn"
    source = "gate-2"                 open only: who must be proven to have sent it into the group
    ttl = 1                           open only: of the plain datagrams
    dscp = 47                         of what leaves; 47 is CIP's for scheduled I/O
    in_clear = true                   protect only: it may leave where all can read it, which is in
                                      a group with integrity_only; else it stays

    [unicast.line-plc]                UDP that the kernel may route into the plant (O→T); no other
    from = "192.168.2.9"              address or subnet, without any flow's producer
    to = "192.168.1.20"               address or subnet

A relative path leads from where gateway.toml lies. An address and port have one producer, and no
two flows have a connection in common: neither there, nor out of one group. A connection is its ID
at one address and port: at another it is another one.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from itertools import combinations
from pathlib import Path
from typing import Any

from .. import toml
from ..errors import MISUSE, Problem

PROTECT, OPEN = "protect", "open"
ANY, LEARN = "any", "learn"
CIP_DSCP = 47  # of scheduled I/O, as devices have it by their QoS object's default

_MOST_FLOWS = 512
_MOST_PAIRS = 256
_MOST_IDS = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MULTICAST = IPv4Network("224.0.0.0/4")
_NO_GROUP = IPv4Network("224.0.0.0/24")  # RFC 5771 section 4: never routed, and IGMP's own


@dataclass(frozen=True)
class Flow:
    """One producer's multicast address, and which of its connections cross."""

    name: str
    direction: str
    member: Path  # of a covey.json
    address: IPv4Address
    port: int
    producer: IPv4Address
    connections: str | frozenset[bytes]  # ANY, LEARN, or IDs as on the wire
    source: bytes | None = None  # identity
    ttl: int = 1
    dscp: int = CIP_DSCP
    in_clear: bool = False

    def shares(self, other: "Flow") -> bool:
        """Whether some connection ID may belong to both."""
        if isinstance(self.connections, str) or isinstance(other.connections, str):
            return True
        return bool(self.connections & other.connections)


@dataclass(frozen=True)
class Pair:
    """UDP that may be routed into the plant: from whom, as its datagrams say, and to whom."""

    source: IPv4Network
    to: IPv4Network


@dataclass(frozen=True)
class Plan:
    plant: str
    protected: str
    flows: tuple[Flow, ...] = field(default=())
    pairs: tuple[Pair, ...] = field(default=())

    @property
    def members(self) -> list[Path]:
        return list(dict.fromkeys(flow.member for flow in self.flows))


def load(path: Path) -> Plan:
    """Problem, one sentence with the line, where the file can't be what the gateway works by."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Problem(f"{path} can't be read: {error.strerror}.", MISUSE) from None
    except UnicodeDecodeError:
        raise Problem(f"{path} is no text in UTF-8.", MISUSE) from None
    return _Reader(text, path).plan()


class _Reader:
    def __init__(self, text: str, path: Path):
        self._text, self._path = text, path
        self._found = toml.parse(text, str(path))

    def plan(self) -> Plan:
        cards = [self._value(self._found, (key,), _card) for key in ("plant", "protected")]
        self._refuse_unknown(self._found, (), {"plant", "protected", "flow", "unicast"})
        if cards[0] == cards[1]:
            self._refuse(("protected",), "must not be the plant's card: nothing would be between.")
        flows = tuple(self._flow(*each) for each in self._tables("flow", _MOST_FLOWS))
        if not flows:
            raise Problem(f"{self._path} has no flow: add a table [flow.NAME].", MISUSE)
        for one, other in combinations(flows, 2):
            self._hold_apart(one, other)
        found = self._tables("unicast", _MOST_PAIRS)
        return Plan(*cards, flows, tuple(self._pair(*each, flows) for each in found))

    def _tables(self, kind: str, most: int) -> list[tuple[str, dict]]:
        """[(name, table)] of all [kind.NAME]."""
        found = self._found.get(kind, {})
        if not isinstance(found, dict):
            self._refuse((kind,), f"must be tables: [{kind}.NAME].")
        if len(found) > most:
            raise Problem(f"{self._path} has more than {most} tables [{kind}.NAME].", MISUSE)
        for name, table in found.items():
            if not isinstance(table, dict):
                self._refuse((kind, name), f"must be a table: [{kind}.NAME].")
            if not _NAME.fullmatch(name):
                self._refuse(
                    (kind, name), "has letters, digits, '.', '_', '-' as a name, at most 63."
                )
        return list(found.items())

    def _pair(self, name: str, table: dict, flows: tuple[Flow, ...]) -> Pair:
        at = ("unicast", name)
        self._refuse_unknown(table, at, {"from", "to"})
        source, to = (self._value(table, (*at, key), _subnet) for key in ("from", "to"))
        for flow in flows:
            if flow.producer in source:
                self._refuse(
                    (*at, "from"),
                    f"has {flow.producer}, who produces flow {flow.name}: anybody could send in"
                    " its name, to a consumer itself.",
                )
        return Pair(source, to)

    def _flow(self, name: str, table: dict) -> Flow:
        at = ("flow", name)
        direction = self._value(table, (*at, "direction"), _direction)
        opens = direction == OPEN
        mine = {"source": _identity, "ttl": _whole(1, 255)} if opens else {"in_clear": _flag}
        self._refuse_unknown(table, at, {*_NEEDED, "direction", "connections", "dscp", *mine})
        facts = {key: self._value(table, (*at, key), _NEEDED[key]) for key in _NEEDED}
        facts["member"] = _config_of(self._path.parent / facts["member"])
        ids = table.get("connections", ANY if opens else LEARN)
        facts["connections"] = self._value({"connections": ids}, (*at, "connections"), _ids)
        if opens and ids == LEARN:
            self._refuse(
                (*at, "connections"),
                'can\'t be "learn" where a flow is opened: what is said on the protected side'
                ' is not proven. Say "any": whoever sends into the group is.',
            )
        for key, read in {"dscp": _whole(0, 63), **mine}.items():
            if key in table:
                facts[key] = self._value(table, (*at, key), read)
        return Flow(name, direction, **facts)

    def _hold_apart(self, one: Flow, other: Flow) -> None:
        """A frame has one way, or none."""
        at = ("flow", other.name)
        if (one.address, one.port) == (other.address, other.port):
            if one.producer != other.producer:
                self._refuse(
                    at,
                    f"and flow {one.name} have one address and port, {one.address}:{one.port}, for"
                    " two producers: give one of these devices another multicast address.",
                )
            if one.shares(other):
                self._refuse(
                    at, f"and flow {one.name} have a connection of {other.producer} in common."
                )
        if one.member != other.member:
            return
        if one.direction == other.direction == OPEN and one.shares(other):
            self._refuse(at, f"and flow {one.name} take the same connection out of one group.")
        if one.direction == other.direction == PROTECT and one.dscp != other.dscp:
            self._refuse(at, f"and flow {one.name} are in one group, and so have one dscp.")
        if one.direction == other.direction == PROTECT and one.in_clear != other.in_clear:
            self._refuse(at, f"and flow {one.name} are in one group: in_clear is said of both.")

    def _value(self, table: dict, at: tuple[str, ...], read: Callable[[Any], Any]) -> Any:
        if at[-1] not in table:
            self._refuse(at, "is missing.")
        try:
            return read(table[at[-1]])
        except (ValueError, AddressValueError) as error:
            self._refuse(at, str(error))

    def _refuse_unknown(self, table: dict, at: tuple[str, ...], known: set[str]) -> None:
        for key in table:
            if key not in known:
                self._refuse((*at, key), "is no key here.")

    def _refuse(self, at: tuple[str, ...], sentence: str):
        line = toml.line_of(self._text, at) or toml.line_of(self._text, at[:-1])
        where = f"{self._path}:{line}" if line else str(self._path)
        raise Problem(f"{where}: {'.'.join(at)} {sentence}", MISUSE)


def _config_of(path: Path) -> Path:
    return (path if path.suffix == ".json" else path / "covey.json").resolve()


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("must be a text.")
    return value


def _card(value: Any) -> str:
    name = _text(value)
    if len(name.encode()) > 15 or "/" in name or name in (".", ".."):
        raise ValueError("must be the name of a network card, such as eth0.")
    return name


def _direction(value: Any) -> str:
    if value not in (PROTECT, OPEN):
        raise ValueError(f'must be "{PROTECT}" or "{OPEN}".')
    return value


def _address(value: Any) -> IPv4Address:
    try:
        return IPv4Address(_text(value))
    except AddressValueError:
        raise ValueError("must be an IPv4 address.") from None


def _group(value: Any) -> IPv4Address:
    address = _address(value)
    if not address.is_multicast or address in _NO_GROUP:
        raise ValueError("must be a multicast address from 224.0.1.0 on, such as 239.192.1.32.")
    return address


def _device(value: Any) -> IPv4Address:
    address = _address(value)
    if (
        address.is_multicast
        or address.is_unspecified
        or address.is_loopback
        or address.is_reserved
    ):
        raise ValueError("must be the address of one device.")
    return address


def _subnet(value: Any) -> IPv4Network:
    try:
        network = IPv4Network(_text(value))
    except ValueError:
        raise ValueError("must be an IPv4 address, or a subnet such as 192.168.1.0/24.") from None
    if network.overlaps(_MULTICAST):
        raise ValueError("must not have multicast addresses: those are the flows'.")
    return network


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false.")
    return value


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}.")
        return value

    return read


def _ids(value: Any) -> str | frozenset[bytes]:
    if value in (ANY, LEARN):
        return value
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_IDS:
        raise ValueError(f'must be "{ANY}", "{LEARN}", or up to {_MOST_IDS} connection IDs.')
    read = _whole(1, 0xFFFFFFFF)
    return frozenset(read(each).to_bytes(4, "little") for each in value)


def _identity(value: Any) -> bytes:
    return _text(value).encode()


_NEEDED = {
    "member": _text,
    "address": _group,
    "port": _whole(1, 65535),
    "producer": _device,
}
