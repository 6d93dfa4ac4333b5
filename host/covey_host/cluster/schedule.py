"""What is done to a cluster, and by its people, by chance: the same for the same seed.

A schedule is made before anything runs. Which machine or member is meant it says by a number; the
run takes that modulo those that there are.
"""

import random
from typing import NamedTuple

# Of a fault: what it is → how long it lasts in seconds, least and most
KILL_SERVER = "kill a server"
KILL_HOLDER = "kill the holder of the term"
STOP_SERVER = "stop a server"
STOP_HOLDER = "stop the holder of the term"
KILL_NODE = "kill an etcd node"
KILL_LEADER = "kill etcd's leader"
STOP_NODE = "stop an etcd node"
CUT_SERVER = "cut a server off from etcd"
CUT_HOLDER = "cut the holder off from etcd"
CUT_WAY = "cut a server off from one etcd node"
CUT_NODE = "cut an etcd node off"
SLOW = "slow etcd"
CLOCK = "set a server's wall clock"
FULL = "fill etcd's disk"
FAULTS = {
    KILL_SERVER: (0.2, 5),
    KILL_HOLDER: (0.2, 5),
    STOP_SERVER: (0.5, 8),
    STOP_HOLDER: (1, 8),
    KILL_NODE: (0.2, 5),
    KILL_LEADER: (0.2, 5),
    STOP_NODE: (0.5, 6),
    CUT_SERVER: (0.5, 8),
    CUT_HOLDER: (1, 8),
    CUT_WAY: (0.5, 8),
    CUT_NODE: (0.5, 8),
    SLOW: (2, 8),
    CLOCK: (0, 0),
    FULL: (2, 5),
}
# What people do; how often, beside each other
JOIN, LEAVE, CRASH, REMOVE, REKEY = "join", "leave", "crash", "remove", "rekey"
ACTS = {JOIN: 4, LEAVE: 2, CRASH: 2, REMOVE: 3, REKEY: 4}
_FAULT_EVERY_S = (1.5, 6)
_ACT_EVERY_S = (0.5, 3)
_FIRST_S = 2  # before that nothing happens
_MOST_CLOCK_S = 400 * 86400
_MOST_DELAY_MS = 300


class Event(NamedTuple):
    at_s: float  # since the run's traffic began
    what: str  # of FAULTS or ACTS
    which: int  # of the machines, or members, that it may be done to
    for_s: float = 0.0  # of a fault
    amount: int = 0  # of SLOW: delay in ms; of CLOCK: seconds; else whether a cut is a hold

    @property
    def is_fault(self) -> bool:
        return self.what in FAULTS


def draw(seed: int, seconds: float, faults: list[str] | None = None) -> list[Event]:
    """By time. Each kind of fault comes about equally often; faults: only these."""
    chance = random.Random(f"covey cluster {seed}")
    events = [*_acts(chance, seconds), *_faults(chance, seconds, faults or list(FAULTS))]
    return sorted(events)


def _faults(chance: random.Random, seconds: float, kinds: list[str]) -> list[Event]:
    events: list[Event] = []
    at_s, waiting = float(_FIRST_S), []
    while at_s < seconds:
        if not waiting:
            waiting = list(kinds)
            chance.shuffle(waiting)
        what = waiting.pop()
        for_s = round(chance.uniform(*FAULTS[what]), 2)
        events.append(Event(round(at_s, 2), what, _number(chance), for_s, _amount(chance, what)))
        at_s += chance.uniform(*_FAULT_EVERY_S)
    return events


def _acts(chance: random.Random, seconds: float) -> list[Event]:
    events: list[Event] = []
    at_s = float(_FIRST_S)
    while at_s < seconds:
        (what,) = chance.choices(list(ACTS), list(ACTS.values()))
        events.append(Event(round(at_s, 2), what, _number(chance)))
        at_s += chance.uniform(*_ACT_EVERY_S)
    return events


def _number(chance: random.Random) -> int:
    return chance.randrange(10**6)


def _amount(chance: random.Random, what: str) -> int:
    if what == SLOW:
        return chance.randrange(20, _MOST_DELAY_MS)
    if what == CLOCK:
        return chance.randrange(-_MOST_CLOCK_S, _MOST_CLOCK_S)
    return chance.randrange(2)
