"""On MicroPython: what receiver-specific MACs cost, for 1 to 16 receivers, beside plain ESP."""

import gc

from counting import cost, report
from packets import PAYLOAD_MOST, SPI, data_sa

from covey import sources
from covey.cmac import CMACContext
from covey.mac import ReceiverMACs
from covey.member import Member

LOW_BITS = 6
INDEX = 1
NAMES = {INDEX: b"press-7"}
ROSTER = ((INDEX, 0, NAMES[INDEX]),)
TAG_LEN = 8
LEN = 64


def key(slot):
    return bytes([slot]) * 16


def member(slots, sends):
    """slots: 0 for plain ESP. The receiver has the last one."""
    made = Member(payload_max=PAYLOAD_MOST, sender=sends)
    sa = data_sa()
    if slots:
        sources.enlist(sa, ROSTER)
        heard = {} if sends else {INDEX: CMACContext(key(slots - 1))}
        told = [CMACContext(key(n)) for n in range(slots)] if sends else None
        own = None if sends else slots - 1
        sa.auth = ReceiverMACs(TAG_LEN, slots, own, heard, told, NAMES, LOW_BITS, 7)
    if sends:
        sa.become_sender(INDEX << LOW_BITS | 3, 16)
    made.keys.install(sa, 0)
    if sends:
        made.keys.activate(SPI, 0, 0)
    return made


octets, lengths = {}, {}
for slots in (0, 1, 4, 8, 16):
    sender, receiver = member(slots, True), member(slots, False)

    def carry(sender=sender, receiver=receiver, slots=slots):
        n = lengths[slots] = sender.send(LEN, 0)
        for i in range(n):
            receiver.rx[i] = sender.tx[i]

    carry()
    assert receiver.receive(lengths[slots], 0) == LEN
    gc.collect()
    before = gc.mem_alloc()
    sender.send(LEN, 0)
    octets[f"send {slots}"] = gc.mem_alloc() - before
    carry()
    gc.collect()
    before = gc.mem_alloc()
    receiver.receive(lengths[slots], 0)
    octets[f"receive {slots}"] = gc.mem_alloc() - before
    cost(f"send {slots}", lambda sender=sender: sender.send(LEN, 0))
    took = lambda receiver=receiver, slots=slots: receiver.receive(lengths[slots], 0)  # noqa: E731
    cost(f"receive {slots}", took, carry)

context = CMACContext(key(0))
buf, epoch = bytearray(128), bytearray(4)
context.sign(buf, LEN, epoch, 100, TAG_LEN)
cost("tag", lambda: context.verify(buf, LEN, epoch, 100, TAG_LEN))
plain = member(0, True)
plain.send(LEN, 0)
text_len = LEN + 8 + 4
cost("open", lambda: plain.keys.sending.context.open(plain.tx, 0, 8, text_len),
     lambda: plain.send(LEN, 0))  # fmt: skip
report(octets=octets, lengths={str(slots): lengths[slots] for slots in lengths})
