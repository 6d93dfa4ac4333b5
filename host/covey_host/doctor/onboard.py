"""A board on a serial port is looked at: firmware, memory, Wi-Fi, multicast both ways, servers."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..board.need import MEASURED
from ..board.repl import Repl
from ..errors import Problem
from . import judge, probes
from .finding import Finding
from .ways import Listener, Sender, question

LOOK = Path(__file__).with_name("scripts") / "look.py"
_WIFI_MS = 20_000  # an access point may take long to let a board in
_HEAD_START_S = 0.3  # the board listens before the first probe leaves
_TAIL_MS = 1500  # and goes on for so long behind the last one: a DTIM interval, and more


def examine(port: str, interface: str | None, group: str) -> Iterator[Finding]:
    """Findings as they come. interface: this machine's address for probes; None: that by which
    the board is reached. Problem where the board does not answer."""
    with Repl(port) as repl:
        repl.run(LOOK.read_text())
        facts = repl.ask("facts()")
        yield judge.firmware(facts)
        yield judge.memory(facts, _least_heap())
        wifi = repl.ask(f"wifi({_WIFI_MS})", _WIFI_MS / 1000 + 10)
        yield from judge.radio({"wifi": wifi})
        rate = None
        if wifi and wifi["connected"]:
            look = _Look(repl, wifi, interface or address_towards(wifi["address"]), group)
            yield from look.findings()
            rate = look.rate
        yield from judge.clock(facts["year"], rate)


class _Look:
    """A connected board, and this machine on the same network."""

    def __init__(self, repl: Repl, wifi: dict, interface: str, group: str):
        self._repl, self._interface, self._group = repl, interface, group
        self._address, self._pm = wifi["address"], wifi["pm"]
        self.rate: float | None = None  # of the board's clock, in ours

    def findings(self) -> Iterator[Finding]:
        words = f"{self._group!r}, {probes.PORT}, {self._address!r}"
        ears = self._repl.ask(f"listen_to({words})")
        yield judge.joined(ears["error"])
        if ears["error"] is None:
            yield from self._to_the_board(ears["raw"])
            yield from self._from_the_board()
        yield from judge.key_servers(self._ask_servers())

    def _to_the_board(self, has_raw: bool) -> Iterator[Finding]:
        """In the mode that the firmware begins with, and as firmware/main.py sets it."""
        drowsy, awake = self._probe(has_raw), None
        if self._pm != "PM_NONE" and self._repl.ask("wake()"):
            awake = self._probe(has_raw)
        where = f"from {self._interface} to the board"
        yield from judge.reach(awake or drowsy, where)
        yield judge.power_save(self._pm, drowsy, awake)

    def _probe(self, has_raw: bool) -> judge.Way:
        sender = Sender(self._interface, self._group)
        run = probes.new_run()

        def send():
            time.sleep(_HEAD_START_S)
            with suppress(Problem):  # then none comes, and that is said
                sender.send_all(run, self._address)

        ms = int((probes.COUNT * probes.INTERVAL_S + _HEAD_START_S) * 1000) + _TAIL_MS
        thread = threading.Thread(target=send, daemon=True)
        began = time.monotonic()
        thread.start()
        try:
            heard = self._repl.ask(f"hear({run.hex()!r}, {ms})", ms / 1000 + 10)
        finally:
            thread.join()
            sender.close()
        self.rate = heard["ms"] / 1000 / (time.monotonic() - began)
        came = dict(heard["came"])
        raw = came.get(probes.RAW, 0) if has_raw and sender.has_raw else None
        counts = came.get(probes.MULTICAST, 0), came.get(probes.UNICAST, 0)
        return judge.Way(probes.COUNT, *counts, raw)

    def _from_the_board(self) -> Iterator[Finding]:
        listener = Listener(self._interface, self._group)
        run = probes.new_run()
        kinds = [(probes.MULTICAST, self._group)]
        if self._interface != "127.0.0.1" or self._address != "127.0.0.1":
            kinds.append((probes.UNICAST, self._interface))
        seconds = probes.COUNT * probes.INTERVAL_S * len(kinds) + _TAIL_MS / 1000
        thread = threading.Thread(target=listener.listen, args=(seconds,), daemon=True)
        thread.start()
        try:
            for kind, to in kinds:
                sent = [probes.emit(kind, n, probes.COUNT, run) for n in range(probes.COUNT)]
                words = f"{to!r}, {probes.PORT}, {[one.hex() for one in sent]!r}"
                self._repl.ask(f"say({words})", seconds + 10)
        finally:
            thread.join()
            listener.close()
        came = {kind: n for _, _, counts in listener.tally.series() for kind, n in counts.items()}
        unicast = came.get(probes.UNICAST, 0) if len(kinds) == 2 else None
        way = judge.Way(probes.COUNT, came.get(probes.MULTICAST, 0), unicast)
        where = f"from the board to {self._interface}"
        yield from (f for f in judge.reach(way, where) if f.subject != "carrier")

    def _ask_servers(self) -> list[dict]:
        found = []
        for host, number, marker in self._repl.ask("servers()"):
            asked, head = question(marker)
            words = f"{host!r}, {number}, {asked.hex()!r}, {head.hex()!r}"
            answered = self._repl.ask(f"is_answered({words})", 20)
            found.append({"host": host, "port": number, "answered": answered})
        return found


def _least_heap() -> int | None:
    """Of the smallest member that was measured."""
    if not MEASURED.exists():
        return None
    return min((row["heap"] for row in json.loads(MEASURED.read_text())), default=None)


def address_towards(host: str) -> str:
    """Which of this machine's addresses packets to a host leave by."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((host, probes.PORT))
            return sock.getsockname()[0]
        except OSError:
            raise Problem(
                f"There is no route from here to the board ({host}): is this machine in the same"
                " network? Name its network card with --interface."
            ) from None
