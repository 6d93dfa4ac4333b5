"""CPU time of removals at a key server, and of their parts."""

import time
from contextlib import ExitStack
from unittest import mock

from covey import keywrap

from ..gcks import keytree, moves, rekeyer, succession
from ..store import sqlite
from .results import Table


class Clock:
    """Parts do not lie in each other."""

    _PARTS = {
        "new keys of the tree": [
            (keytree.Draft, "rounds"),
            (keytree.Draft, "whole"),
            (moves, "cut"),
            (keytree.KeyTree, "pages"),
        ],
        "wrapping": [(keywrap, "wrap")],
        "signatures": [(rekeyer.Rekeyer, "_signed")],
        "encryption": [(rekeyer.ikefrag, "seal")],
        "state as text": [(succession, "encode_state")],
        "SQLite": [(sqlite.SQLiteStore, "compare_and_swap"), (sqlite.SQLiteStore, "read")],
    }

    def __init__(self):
        self._all = self._wall = 0
        self._parts = dict.fromkeys(self._PARTS, 0)

    def running(self):
        return _Running(self)

    def add(self, part: str | None, ns: int, wall: int = 0) -> None:
        if part is None:
            self._all += ns
            self._wall += wall
        else:
            self._parts[part] += ns

    def enter(self, table: Table, what: str, count: int) -> None:
        whole = f"{what}CPU of the server"
        table.add(whole, self._all / count / 1e6, "ms")
        for part, ns in self._parts.items():
            table.add(f"{what}CPU of it, {part}", ns / count / 1e6, "ms", whole)
        table.add(f"{what}time until it is stored", self._wall / count / 1e6, "ms")


class _Running(ExitStack):
    """While this is entered, a clock runs."""

    def __init__(self, clock: Clock):
        super().__init__()
        self._clock = clock
        self._is_inside = False

    def __enter__(self):
        super().__enter__()
        for part, places in Clock._PARTS.items():
            for owner, name in places:
                timed = self._timed(part, getattr(owner, name))
                self.enter_context(mock.patch.object(owner, name, timed))
        self._wall, self._cpu = time.perf_counter_ns(), time.process_time_ns()
        return self

    def __exit__(self, *of):
        cpu = time.process_time_ns() - self._cpu
        self._clock.add(None, cpu, time.perf_counter_ns() - self._wall)
        return super().__exit__(*of)

    def _timed(self, part: str, call):
        def timed(*of, **how):
            if self._is_inside:
                return call(*of, **how)
            self._is_inside = True
            began = time.process_time_ns()
            try:
                return call(*of, **how)
            finally:
                self._clock.add(part, time.process_time_ns() - began)
                self._is_inside = False

        return timed
