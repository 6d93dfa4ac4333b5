"""How long a packet may have to wait while a rekey is opened, verified, unwrapped and installed.

A real member follows a rekey of a real key server; the longest stretch in which no other task of
it had a turn is what counts. Keys and signature are new each time, so counts differ a little.
"""

import sys
import threading
import time

from . import board
from .plant import Plant
from .results import Missing, Table

TITLE = "longest wait of a packet while a rekey is worked on"

ALL = "a rekey followed, all of it"
LONGEST = "longest gap for packets meanwhile"
TIDYING = "tidying of the heap meanwhile, all of it"

_HEAP = "512k"  # the member's code lies in it, as on a board that imports .mpy files
_PATIENCE_S = 120


def run(table: Table, quick: bool) -> None:
    gap = _follow(lambda *words: board.run("gap", table, *words, heap=_HEAP, counted=not quick))
    desk = _follow(lambda *words: board.run_here("gap", *words))
    table.add(ALL, gap["gap"], gap.unit)
    table.add(LONGEST, gap.longest("gap"), gap.unit, ALL)
    table.add(TIDYING, gap["tidy"], gap.unit, ALL)
    per_kb = gap["collect"] / (gap.facts["heap"] / 1024)
    table.add("a collection of the heap, for each KB of it", per_kb, gap.unit)
    table.add(f"CPython: {ALL}", desk["gap"], desk.unit)
    table.add(f"CPython: {LONGEST}", desk.longest("gap"), desk.unit, f"CPython: {ALL}")


def _follow(measure) -> board.Costs:
    """What `measure` says of the one member of a group; the rekey comes when it is ready.

    The group is its own: when another member leaves, there is a rekey too.
    """
    with Plant() as plant:
        return _rekeyed(plant, measure)


def _rekeyed(plant: Plant, measure) -> board.Costs:
    path = plant.member("valve")
    ready = plant.folder / "valve.ready"
    failures = []

    def rekey():
        end = time.monotonic() + _PATIENCE_S
        while not ready.exists() and time.monotonic() < end:
            time.sleep(0.05)
        try:
            plant.rekey()
        except Missing as error:
            failures.append(error)

    thread = threading.Thread(target=rekey, daemon=True)
    thread.start()
    costs = measure(str(path), str(ready))
    thread.join()
    if failures:
        raise failures[0]
    assert costs.steps("gap") + costs.steps("tidy") == costs.facts["turns"] > 1, sys.argv
    return costs
