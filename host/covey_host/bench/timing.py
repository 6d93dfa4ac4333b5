"""Wall time of calls on CPython: the least of many rounds, in which all take turns.

Whatever else the machine does then hits all of them alike, and the least is hit the least.
"""

import gc
import time


def shortest(calls: dict, rounds: int, repeats: int) -> dict[str, float]:
    """name → ns that one call takes, of {name: function}."""
    least = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    was_on = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in calls.items():
                began = time.perf_counter_ns()
                for _ in range(repeats):
                    call()
                took = time.perf_counter_ns() - began
                least[name] = min(least[name], took / repeats)
            gc.collect()
    finally:
        if was_on:
            gc.enable()
    return least
