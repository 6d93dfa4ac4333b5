"""What a replica of the key server says of itself, and what it knows of the others.

Each says so once a second or so (see Store.present()): that it lives is seen by that alone, and
judged by the clock of whoever looks. Nothing that must be right rests on it: it is for people, for
members that are sent elsewhere, and for a replica that wants to know whether it is alone.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from ..store import Replica
from ..store.location import is_host

LIVES_MS = 3_500  # since it was last heard of


@dataclass(frozen=True)
class Said:
    """Of itself. at: where members find it, as their covey.json has it; "": nobody knows."""

    at: str = ""
    listen: tuple[str, ...] = ()
    host: str = ""  # the machine's name, and
    process: int = 0
    revision: int = 0  # of the store, up to which it knew all, and
    lag_ms: int | None = None  # since it did; None: it never has
    leads: bool = False  # whether it has the term, as far as it knows
    takes: bool = False  # whether it takes members: it has followed, and is not about to end

    def emit(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def parse(facts: bytes) -> Said:
    """What another one said; what can't be read was not said: it may be newer than this one."""
    try:
        told = json.loads(facts)
        at, host = str(told["at"]), str(told["host"])
        at = at if is_host(at) else ""
        process, revision = int(told["process"]), int(told["revision"])
        listen = tuple(str(each) for each in told["listen"])
        lag_ms = None if told["lag_ms"] is None else int(told["lag_ms"])
        does = bool(told["leads"]), bool(told["takes"])
        return Said(at, listen, host, process, revision, lag_ms, *does)
    except (ValueError, TypeError, KeyError):
        return Said()


class Company:
    def __init__(self, name: str):
        self.name = name
        self._heard: dict[str, tuple[int, int, Said]] = {}  # name → version, when, what

    def hear(self, replicas: Iterable[Replica], now_ms: int) -> None:
        """All that the store has of them."""
        heard = {}
        for name, facts, version in replicas:
            known = self._heard.get(name)
            if known is None or known[0] != version:
                heard[name] = version, now_ms, parse(facts)
            else:
                heard[name] = known
        self._heard = heard

    def others(self, now_ms: int) -> list[Said]:
        """Those that live and take members."""
        return [
            said
            for name, (_, heard_ms, said) in self._heard.items()
            if name != self.name and self._lives(heard_ms, now_ms) and said.takes
        ]

    def hosts(self, now_ms: int, here: str) -> tuple[str, ...]:
        """Where members can go instead of here, another port of which tells them nothing."""
        found = [said.at for said in self.others(now_ms)]
        return tuple(dict.fromkeys(host for host in found if host not in ("", here)))

    def at(self, name: str, now_ms: int) -> str:
        """Where members find that one; "" where nobody knows."""
        known = self._heard.get(name)
        return known[2].at if known and self._lives(known[1], now_ms) and known[2].takes else ""

    def shown(self, now_ms: int) -> list[dict]:
        """For `covey status`: those that live, by name, as they said."""
        return [
            {
                "replica": name,
                "at": said.at or None,
                "listen": list(said.listen),
                "host": said.host or None,
                "process": said.process or None,
                "leads": said.leads,
                "takes": said.takes,
                "revision": said.revision,
                "lag_ms": said.lag_ms,
                "heard_ms": now_ms - heard_ms,
            }
            for name, (_, heard_ms, said) in sorted(self._heard.items())
            if self._lives(heard_ms, now_ms)
        ]

    def _lives(self, heard_ms: int, now_ms: int) -> bool:
        return now_ms - heard_ms < LIVES_MS
