"""New members one after another: how long registering takes, whatever is done to the cluster."""

import json
import secrets
import sys
import time
from typing import NamedTuple

from ..demo.cast import Child, Lost
from ..gcks.ledger import Ledger, encode
from ..site import Site
from ..vault.opening import open_store
from .machines import HOST
from .plant import GROUP, Plant

_AT_ONCE = 50  # rows in one write
_TOLD_S = 0.1  # after which it has been heard that one began


class Probe(NamedTuple):
    """A member that came. On the system's steady clock; port: of the server that let it in."""

    member: str
    began_s: float
    ended_s: float
    port: int

    @property
    def took_s(self) -> float:
        return self.ended_s - self.began_s


class Probes:
    """admit(), while no server runs; then start(), and go() and stop() as often as wanted."""

    def __init__(self, plant: Plant, count: int, period_ms: int, name: str = "probe"):
        """count: of members that take turns, one each period."""
        self.found: list[Probe] = []
        self.refused: list[dict] = []
        self._coming: dict[str, float] = {}  # who is not in yet: when it began
        self._plant = plant
        self.names = [f"{name}-{number:04d}" for number in range(count)]
        self._period_ms = period_ms
        self._psk = secrets.token_bytes(32)
        self._child = Child(f"{name}s", plant.folder, self._hear)

    def admit(self) -> None:
        admit(self._plant.machines[0].site, self.names, self._psk)

    async def start(self) -> None:
        await self._child.start([sys.executable, "-m", "covey_host.cluster.prober"])
        order = {
            "group": GROUP,
            "psk": self._psk.hex(),
            "names": self.names,
            "servers": [[HOST, machine.port] for machine in self._plant.machines],
            "period_ms": self._period_ms,
        }
        self._child.tell(json.dumps(order))
        await self._child.hear(lambda event: event["event"] == "ready")

    async def all_in(self) -> None:
        """Each has registered once; then the process ends."""
        await self.start()
        self.go()
        await self._plant.until(
            lambda: {p.member for p in self.found} >= set(self.names), "all are in"
        )
        await self.end()

    def go(self) -> None:
        self._child.tell("go")

    def stop(self) -> None:
        self._child.tell("stop")

    async def end(self) -> int:
        return await self._child.end()

    async def began_in(self, from_s: float, until_s: float) -> list[Probe]:
        """All that began then, once they are in."""
        await self._plant.until(lambda: time.monotonic() > until_s + _TOLD_S, "time goes by")

        def are_in() -> bool:
            if self._child.status is not None:
                raise Lost("The process of new members has ended: see probes.log.")
            return not any(from_s <= began_s < until_s for began_s in self._coming.values())

        await self._plant.until(are_in, "all that began are in")
        return [probe for probe in self.found if from_s <= probe.began_s < until_s]

    def _hear(self, event: dict) -> None:
        what, member = event["event"], event.get("member")
        if what == "begins":
            self._coming[member] = event["began_s"]
        elif what in ("in", "refused"):
            self._coming.pop(member, None)
        if what == "in":
            self.found.append(Probe(member, event["began_s"], event["ended_s"], event["port"]))
        elif what == "refused":
            self.refused.append(event)


def admit(site: Site, names: list[str], psk: bytes) -> None:
    """Enter members with this pre-shared key, while no server runs."""
    store = open_store(site)
    try:
        store.lock("covey cluster")
        ledger = Ledger(store)
        row = encode({"psk": psk, "groups": {GROUP: False}, "removed": False})
        for at in range(0, len(names), _AT_ONCE):
            some = names[at : at + _AT_ONCE]
            ledger.write({f"authority/member/{name}": row for name in some})
    finally:
        store.close()
