"""The history of a run, from which it is judged: what the store was told, what went over the wire,
what commands promised, what members said of themselves. Nothing here has run anything.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..gcks.epoch import Epoch, Outbox, decode_state
from ..store.etcdclient import Found
from ..store.etcdrows import row_of
from ..store.sealed import Seal
from ..vault.opening import store_key
from .plant import Plant
from .watch import Watch, Write
from .wire import Datagram, Ear


class Row(NamedTuple):
    """A write of an entry, opened."""

    revision: int  # of the whole store; the same of all that was written as one
    key: str
    value: bytes | None  # None: it was deleted


class State(NamedTuple):
    revision: int
    epoch: Epoch
    outbox: Outbox


class Removal(NamedTuple):
    """revision: of the store, read after the command had said that it is done."""

    member: str
    at_s: float
    revision: int


class Holding(NamedTuple):
    """What a member has said: the keys that it has, as SPI of the TEK."""

    at_s: float
    member: str  # with the number of its process: a Sender-ID is that one's
    spi: str | None
    sender_id: int | None


class History:
    def __init__(self, group: str):
        self.group = group
        self.rows: list[Row] = []
        self.wire: list[Datagram] = []
        self.removals: list[Removal] = []
        self.holdings: list[Holding] = []
        self.notes: list[dict] = []  # what was done to it, and what processes said

    def states(self) -> list[State]:
        """Of the group, in the order in which they were written."""
        key = f"group/{self.group}/state"
        return [
            State(row.revision, *decode_state(row.value))
            for row in self.rows
            if row.key == key and row.value is not None
        ]

    def under(self, prefix: str) -> list[Row]:
        """Rows whose keys begin so, without it."""
        skip = len(prefix)
        return [
            row._replace(key=row.key[skip:]) for row in self.rows if row.key.startswith(prefix)
        ]

    def hold(self, at_s: float, member: str, spi: str | None, sender_id: int | None) -> None:
        """As a member says again and again: kept where it is new."""
        said = Holding(at_s, member, spi, sender_id)
        if spi is not None and not any(known[1:] == said[1:] for known in self.holdings):
            self.holdings.append(said)


class Recorder:
    """Fills a History from a Plant, from open() to close(). Problem where it can't listen."""

    def __init__(self, plant: Plant, history: History, path: Path):
        """path: of a file with the notes, a JSON object a line."""
        self.history = history
        self._plant = plant
        self._began = time.monotonic()
        self._file = open(path, "w")
        ports = {plant.carrier, *(machine.port for machine in plant.machines)}
        self.ear = Ear(ports, history.wire.append)
        self.watch = Watch(plant.nodes, plant.place.prefix, self._take)
        key, id = store_key(plant.machines[0].site)
        self._seal = Seal(bytes(key), id)

    def open(self) -> None:
        self.ear.open()
        self.watch.start()
        self._plant.on_member = self._hear_member
        for machine in self._plant.machines:
            machine.on_event = self._hearer(machine.name)

    async def close(self) -> None:
        """All that was written until now is in the history, unless the watch says why not."""
        newest = await self.revision()
        await self._plant.until(
            lambda: self.watch.revision >= newest or bool(self.watch.trouble),
            "the store's history is heard to its end",
        )
        self.watch.stop()
        self.ear.close()
        self._file.close()

    def note(self, what: str, **facts) -> None:
        at_s = round(time.monotonic() - self._began, 3)
        self.history.notes.append({"at_s": at_s, "what": what, **facts})
        if not self._file.closed:
            self._file.write(json.dumps(self.history.notes[-1]) + "\n")
            self._file.flush()

    async def removed(self, member: str) -> None:
        """A command has said so."""
        revision = await self.revision()
        self.history.removals.append(Removal(member, time.monotonic(), revision))
        self.note("removed", member=member, revision=revision)

    async def revision(self) -> int:
        """Of the newest write of the site, as most nodes know it."""
        return await self._plant.revision()

    def _take(self, write: Write) -> None:
        """In the watch's thread."""
        if not write.key.startswith("e/"):
            return
        value, key = None, write.key[2:]
        if write.value is not None:
            sealed = row_of(Found(write.value, mod=write.revision)).value
            if sealed is None:
                return  # in parts: none of what is judged is so long
            value = self._seal.open(key, sealed) or sealed
        self.history.rows.append(Row(write.revision, key, value))

    def _hear_member(self, name: str, process: int, event: dict) -> None:
        if event["event"] != "status":
            self.note(event["event"], member=name, detail=event.get("detail"))
            return
        now = time.monotonic()
        self.history.hold(now, f"{name}-{process}", event.get("spi"), event.get("sender_id"))

    def _hearer(self, name: str) -> Callable[[dict], None]:
        return lambda event: self.note("logged", server=name, entry=event)
