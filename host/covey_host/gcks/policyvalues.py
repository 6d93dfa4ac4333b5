"""The single values that covey.toml holds: each reader takes what tomllib found, and checks it.

A reader raises ValueError with the end of a sentence that begins with the key's name.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from covey.sources import MOST_LEVELS
from covey.timing import LEAST_INTERVAL_MS, MOST_INTERVAL_MS, MOST_LAG

_WIDTHS = (8, 12, 16)  # bits of a Sender-ID that every implementation knows (RFC 6054 section 3)
_U16 = 0xFFFF
_LEAST_LAG = 2
_BATCHES = tuple(1 << levels for levels in range(MOST_LEVELS + 1))
_ANY = "0.0.0.0"
_NAT_PORT = 4500  # IKE messages follow the marker there, else they are ESP (RFC 3948 section 2.2)
_FQDN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?")
_SERVER = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252})(?::([0-9]{1,5}))?")
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
YEAR_S = 366 * 86400


@dataclass(frozen=True)
class Listen:
    """One socket of the key server."""

    host: str
    port: int
    marker: bool  # whether four zero octets lead each message


def whole(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}.")
        return value

    return read


def one_of(*choices: Any) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is bool or value not in choices:
            raise ValueError("must be " + " or ".join(repr(c) for c in choices) + ".")
        return value

    return read


def parse_duration_ms(value: Any) -> int:
    """ "500ms", "5s", "30m", "1h", "7d", or a number of seconds → milliseconds. ValueError."""
    if type(value) is int and 0 <= value <= YEAR_S:
        return value * 1000
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError('must be a duration such as "500ms", "5s", "30m", "1h" or "7d".')
    return int(match[1]) * _UNITS_MS[match[2]]


def seconds(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        ms = parse_duration_ms(value)
        if ms % 1000:
            raise ValueError("must be whole seconds.")
        if not least * 1000 <= ms <= most * 1000:
            raise ValueError(f"must be from {least} to {most} seconds.")
        return ms // 1000

    return read


def interval_s(value: Any) -> int:
    ms = parse_duration_ms(value)
    if ms % 1000 or ms and not 10_000 <= ms <= 3_600_000:
        raise ValueError("must be whole seconds from 10 to 3600, or 0 for never.")
    return ms // 1000


def fragment_size(value: Any) -> int:
    if type(value) is not int or value and not 300 <= value <= 1500:
        raise ValueError("must be a whole number from 300 to 1500, or 0 for never.")
    return value


def interval_ms(value: Any) -> int:
    ms = parse_duration_ms(value)
    if not LEAST_INTERVAL_MS <= ms <= MOST_INTERVAL_MS:
        raise ValueError(f"must be from {LEAST_INTERVAL_MS} ms to {MOST_INTERVAL_MS // 1000} s.")
    return ms


def lag(value: Any) -> int:
    if type(value) is not int or not _LEAST_LAG <= value <= MOST_LAG:
        raise ValueError(
            f"must be a whole number from {_LEAST_LAG} to {MOST_LAG}: a key that is out in its own"
            " interval proves nothing, and if it is out in the next one, what was sent at its"
            " interval's end arrives too late."
        )
    return value


def batch(value: Any) -> int:
    if type(value) is not int or value not in _BATCHES:
        raise ValueError(f"must be one of {', '.join(map(str, _BATCHES))}.")
    return value


def spacing_ms(value: Any) -> int:
    ms = parse_duration_ms(value)
    if not 10 <= ms <= 60_000:
        raise ValueError("must be from 10 ms to 60 s.")
    return ms


def window_ms(value: Any) -> int:
    ms = parse_duration_ms(value)
    if not 0 <= ms <= 10_000:
        raise ValueError("must be from 0 to 10 s.")
    return ms


def silence_s(value: Any) -> int:
    ms = parse_duration_ms(value)
    if ms and not 10_000 <= ms <= 30 * 86_400_000 or ms % 1000:
        raise ValueError("must be whole seconds from 10 s to 30 days, or 0 for never.")
    return ms // 1000


def multicast(value: Any) -> str:
    try:
        address = ipaddress.IPv4Address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError('must be an IPv4 address, such as "239.192.1.32".') from None
    if not address.is_multicast:
        raise ValueError(f"must be a multicast address (224.0.0.0/4), and {value} is none.")
    return str(address)


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false.")
    return value


def form(value: Any) -> tuple[int, int]:
    if not (isinstance(value, list) and len(value) == 2 and all(type(v) is int for v in value)):
        raise ValueError("must be two numbers of bits, such as [10, 6].")
    index, incarnation = value
    if index < 1 or incarnation < 3 or index + incarnation not in _WIDTHS:
        raise ValueError(
            "must give the index 1 bit or more, the incarnation 3 or more, 8, 12 or 16 in all."
        )
    return index, incarnation


def identity(value: Any) -> str:
    if not isinstance(value, str) or not _FQDN.fullmatch(value):
        raise ValueError("must be a domain name, such as gcks.example.")
    return value


def listen(value: Any) -> tuple[Listen, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list such as ["0.0.0.0:4500"].')
    found = [_endpoint(entry) for entry in value]
    for i, one in enumerate(found):
        for other in found[:i]:
            if one.port == other.port and (
                one.host == other.host or _ANY in (one.host, other.host)
            ):
                raise ValueError(
                    f"holds {other.host}:{other.port} and {one.host}:{one.port}, which overlap:"
                    " remove one."
                )
    return tuple(found)


def servers(value: Any) -> tuple[tuple[str, int | None], ...]:
    """Hosts of key servers, each with its port where it says one."""
    if not isinstance(value, list):
        raise ValueError('must be a list such as ["192.0.2.10", "192.0.2.11:4500"].')
    found = []
    for entry in value:
        match = _SERVER.fullmatch(entry) if isinstance(entry, str) else None
        port = int(match[2]) if match and match[2] else None
        if not match or (port is not None and not 1 <= port <= _U16):
            raise ValueError(f"holds {entry!r}: write HOST or HOST:PORT.")
        if (match[1], port) in found:
            raise ValueError(f"holds {entry} twice.")
        found.append((match[1], port))
    return tuple(found)


def _endpoint(entry: Any) -> Listen:
    marker = None
    if isinstance(entry, dict) and set(entry) == {"address", "marker"}:
        entry, marker = entry["address"], entry["marker"]
    host, _, port = entry.rpartition(":") if isinstance(entry, str) else ("", "", "")
    try:
        if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= _U16:
            raise ValueError
        host = str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError(
            f"holds {entry!r}: write an IPv4 address and a port, ADDRESS:PORT."
        ) from None
    if marker is None:
        marker = int(port) == _NAT_PORT
    if type(marker) is not bool:
        raise ValueError("holds a marker that is neither true nor false.")
    if int(port) == _NAT_PORT and not marker:
        raise ValueError("holds port 4500 without a marker: it must be there (RFC 7296, 2.23).")
    return Listen(host, int(port), marker)


def port(value: Any) -> int:
    return whole(1, _U16)(value)
