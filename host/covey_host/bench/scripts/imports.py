"""On MicroPython: what each module keeps on the heap once it is imported. Stdin: their names.

As JSON: MicroPython keeps arguments as it keeps names, those of modules that are not loaded too.

The names come in an order in which each comes behind most of what it imports, for the C stack
holds only few imports within each other; the hook tells apart those that do.
"""

import asyncio  # noqa: F401  it comes with the firmware
import builtins
import gc
import json
import sys

names = json.load(sys.stdin)
taken = dict.fromkeys(names, 0)
within = [0]  # what imports inside the current ones have kept
original = builtins.__import__
current = []  # the modules that are being loaded, the innermost last


def absolute(name, level):
    """MicroPython would take a relative name for one of this script's."""
    here = current[-1]
    up = level - hasattr(sys.modules[here], "__path__")  # to a package the first dot is itself
    parts = here.split(".")
    found = ".".join(parts[: len(parts) - up] + ([name] if name else []))
    if found in sys.modules or found in taken:
        return found
    return "covey.port." + name  # a function of the port was called while this one loads


def hook(name, globals=None, locals=None, names=None, level=0):
    if level:
        name = absolute(name, level)
    gc.collect()
    before = gc.mem_alloc()
    within.append(0)
    current.append(name)
    try:
        module = original(name, None, None, names, 0)
    finally:
        current.pop()
    gc.collect()
    kept = gc.mem_alloc() - before
    own = kept - within.pop()
    within[-1] += kept
    if name in taken and not taken[name]:  # else it was there before
        taken[name] = own
    return module


builtins.__import__ = hook
for name in names:
    __import__(name)
print(json.dumps(taken))
