"""Instructions of calls, by the core's own counter; each row is a line of the console."""

import gc
from array import array

from instret import count

_at = array("I", (0,))


def cost(label, call, *args, prepare=None, wanted=None):
    """Print what call(*args) takes the second time: what is made once is no cost of a packet.

    prepare() goes before each call. wanted: what the call has to return, if it isn't None.
    """
    for _ in range(2):
        if prepare is not None:
            prepare()
        gc.collect()
        gc.disable()
        got = count(_at, call, *args)
        gc.enable()
        if wanted is not None and got != wanted:
            raise ValueError(f"{label} gives {got!r}")
    print("COST", _at[0], label)
    return got


def tell(label, value):
    print("COST", value, label)
