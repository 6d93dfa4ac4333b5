"""On MicroPython: octets of heap that packets take, by counting. Arguments: mode, packets."""

import gc
import sys

from counting import report
from packets import Wire

_TIMES = int(sys.argv[2])

wire = Wire()


def taken(call, prepare):
    """Octets that `call` has taken in all these packets, whatever preparing them took."""
    octets = 0
    for _ in range(_TIMES):
        prepare()
        gc.collect()
        before = gc.mem_alloc()
        call()
        octets += gc.mem_alloc() - before
    return octets


def send():
    wire.sender.send(64, 0)


def receive():
    wire.receive()


def nothing():
    pass


gc.disable()
wire.carry(64)
receive()  # what only the first packet takes, such as a cache
facts = {
    "nothing": taken(nothing, nothing),
    "delivered": taken(receive, lambda: wire.carry(64)),
    "forged": taken(receive, lambda: wire.forge(64)),
    "stray": taken(receive, lambda: wire.stray(64)),
    "cut": taken(receive, lambda: wire.cut(64)),
    "sent": taken(send, nothing),
}
wire.carry(64)
receive()
facts["replayed"] = taken(receive, wire.again)
opened, sent = wire.receiver.opened, wire.sender.sent
report(taken=facts, opened=opened, refused=sum(wire.receiver.drops.as_dict().values()), sent=sent)
