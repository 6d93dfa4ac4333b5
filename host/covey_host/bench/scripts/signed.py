"""What signed packets cost, alone and 64 under one signature. First argument: count or time.

A job is a cost for each of its steps: data go on between them.
"""

import gc

from counting import cost, report, steps
from packets import PAYLOAD_MOST, SPI, data_sa

from covey import sources
from covey.drops import NOTHING, WAITS
from covey.job import finish
from covey.member import Member
from covey.p256_sign import derived, point_job
from covey.signatures import Signatures
from covey.vouched import Signers

LOW_BITS = 6
INDEX = 1
NAMES = {INDEX: b"press-7"}
ROSTER = ((INDEX, 0, NAMES[INDEX]),)
LEN = 64
BATCH = 64
KEY = derived(bytes(32), b"bench")
POINT = finish(point_job(KEY))
PAYLOADS = [bytes([n]) * LEN for n in range(BATCH)]


def member(sends):
    made = Member(payload_max=PAYLOAD_MOST, sender=sends, waiting_slots=16)
    sa = data_sa()
    sources.enlist(sa, ROSTER)
    signers = Signers(ROSTER, {NAMES[INDEX]: POINT})
    own = (INDEX, KEY) if sends else (None, None)
    sa.auth = Signatures(6, signers, NAMES, *own, LOW_BITS, 7)
    if sends:
        sa.become_sender(INDEX << LOW_BITS | 3, 16)
    made.keys.install(sa, 0)
    if sends:
        made.keys.activate(SPI, 0, 0)
    return made


sender, receiver = member(True), member(False)
sa = sender.keys.sending
lengths = {}


def carry(payload, label):
    """One that is signed, into the receiver's buffer."""
    sender.out[:LEN] = payload
    n = lengths[label] = sender.send(LEN, 0)
    receiver.rx[:n] = sender.tx[:n]


def waiting():
    """Job: until what waits is proven."""
    while receiver.next_proven(0) == NOTHING:
        yield


steps("sign 1", sa.auth.sign_job(sa, PAYLOADS[:1]))
carry(PAYLOADS[0], "1")
assert receiver.receive(lengths["1"], 0) == WAITS
for label in ("first", "later"):  # the first time, the sender's table is made, too
    gc.collect()
    steps(label, waiting())
    assert receiver.payload == PAYLOADS[0] and receiver.confirmed
    finish(sa.auth.sign_job(sa, PAYLOADS[:1]))
    carry(PAYLOADS[0], "1")
    assert receiver.receive(lengths["1"], 0) == WAITS
finish(waiting())

steps("sign 64", sa.auth.sign_job(sa, PAYLOADS))
carry(PAYLOADS[0], "64")
assert receiver.receive(lengths["64"], 0) == WAITS
finish(waiting())
carry(PAYLOADS[1], "64")
datagram = bytes(receiver.rx[: lengths["64"]])
windows = receiver.keys.live()[0].senders.words
before = list(windows)


def again():
    """The second packet of these, as if it had not come yet."""
    receiver.rx[: len(datagram)] = datagram
    for i in range(len(before)):
        windows[i] = before[i]


again()
assert receiver.receive(len(datagram), 0) == LEN
cost("receive", lambda: receiver.receive(len(datagram), 0), again)
report(lengths=lengths)
